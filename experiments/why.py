"""Why does a change help? Looks at a run's student and teacher on the validation theorems and prints a line of a Markdown table.

    python experiments/why.py                                  # the base
    python experiments/why.py out/figures/beyond/*_s0          # runs

Columns: the student's pass@1; the share of its attempts that are right once outdated names are replaced by current ones (the
logic, apart from the language); the teacher's pass@1 with the tutor's feedback about the student's own attempts, and about
right and wrong ones in current names (base_by_kind.py); and where the two disagree: KL(teacher || student), nats per token,
in attempts that Lean accepts, and in the others before, on and after the first wrong line.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import torch  # noqa: E402

import fd_mini  # noqa: E402
from base_by_kind import told_about  # noqa: E402
from beyond import token_lines, wrong_line  # noqa: E402
from eval import load_rows, load_run, roll_out, theorem_of  # noqa: E402
from feedback import NAME, OUTDATED, build_prompt, extract_proof, make_feedback  # noqa: E402
from lean_env import LeanEnv  # noqa: E402

PLACES = ("in proofs", "before", "on", "after")


@torch.no_grad()
def disagreement(policy, rollouts, texts) -> dict:
    """{place: (sum of KL(teacher || student) over its tokens, how many)}; 64 attempts at a time."""
    sums = {place: [0.0, 0] for place in PLACES}
    for start in range(0, len(rollouts), 64):
        part = rollouts[start : start + 64]
        completions = [r.completion_ids for r in part]
        with policy.act_as("teacher"):
            told = [
                build_prompt(policy.tokenizer, r.theorem, text)
                for r, text in zip(part, texts[start:])
            ]
            ids, logps = fd_mini.teacher_topk(policy.hidden(told, completions), policy.head, 25)
        with policy.act_as("student"):
            logits = (
                policy.hidden([r.prompt_ids for r in part], completions) @ policy.head.T
            )  # [N, V]
        kl = iter(fd_mini.topk_stats(logits, ids, logps)[:, 1].tolist())
        for r in part:
            wrong = wrong_line(r)
            for line in token_lines(policy.tokenizer, r.completion_ids):
                place = (
                    "in proofs"
                    if r.verdict.status == "proved"
                    else "before" if line < wrong else "on" if line == wrong else "after"
                )
                sums[place][0] += next(kl)
                sums[place][1] += 1
    return sums


def look(name: str, policy, env, rows, samples: int) -> list[str]:
    """The cells of one line."""
    theorems, own, right, logical, sums = (
        [theorem_of(row) for row in rows],
        [],
        0,
        0,
        {place: [0.0, 0] for place in PLACES},
    )
    for seed in range(samples):
        attempts = roll_out(policy, env, theorems, 80, 1000 + seed)
        texts = make_feedback("tutor").write(attempts)
        renamed = [
            NAME.sub(lambda m: OUTDATED.get(m[0], m[0]), extract_proof(r.text))
            for r in attempts
        ]
        right += sum(r.verdict.status == "proved" for r in attempts)
        logical += sum(v.status == "proved" for v in env.check(list(zip(theorems, renamed))))
        own += [
            r.verdict.status == "proved"
            for r in roll_out(policy, env, theorems, 80, 2000 + seed, texts, "teacher")
        ]
        for place, (kl, n) in disagreement(policy, attempts, texts).items():
            sums[place] = [sums[place][0] + kl, sums[place][1] + n]
    kinds = []
    for kind in ("right", "wrong"):
        told = [
            told_about(kind, policy, env, rows, theorems, 4, 1000 + seed, "teacher")[0]
            for seed in range(samples)
        ]
        proved = [
            r.verdict.status == "proved"
            for seed in range(samples)
            for r in roll_out(policy, env, theorems, 80, 2000 + seed, told[seed], "teacher")
        ]
        kinds.append(sum(proved) / len(proved))
    total = samples * len(rows)
    everything = sum(kl for kl, _ in sums.values())
    where = [f"{kl / n:.3f} ({kl / everything:.0%})" if n else "-" for kl, n in sums.values()]
    return [
        name,
        *(f"{x:.3f}" for x in (right / total, logical / total, sum(own) / total, *kinds)),
        *where,
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", help="folders of runs; none: the base")
    parser.add_argument("--samples", type=int, default=2)
    args = parser.parse_args()
    rows, env = load_rows("toy", "valid"), LeanEnv()
    print(
        "| run | student's pass@1 | right but for names | teacher, told about its own | about right ones | about wrong ones | "
        + " | ".join(f"KL {place}" for place in PLACES)
        + " |\n|---"
        + "|---" * 9
        + "|"
    )
    for run in args.runs or [None]:
        policy = fd_mini.Policy("tiny") if run is None else load_run(run, "student", "auto")[0]
        if run is not None:
            policy.load(Path(run) / "ckpt" / "teacher", "teacher")
        print(
            "| "
            + " | ".join(
                look(Path(run).name if run else "base", policy, env, rows, args.samples)
            )
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
