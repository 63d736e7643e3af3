"""Why does a change help? Looks at a run's student and teacher on the validation theorems and
prints a line of a Markdown table.

    python -m experiments.why                            # the base
    python -m experiments.why out/figures/beyond/*_s0    # runs

Columns: the student's pass@1; the share of its attempts that are right once outdated names are
replaced by current ones (the logic, apart from the language); the teacher's pass@1 with the tutor's
feedback about the student's own attempts, and about right and wrong ones in current names
(base_by_kind.py); and where the two disagree: KL(teacher || student), nats per token, in attempts
that Lean accepts, and in the others before, on and after the first wrong line.
"""

from pathlib import Path

import torch
import tyro

import fd_mini
from data import load_theorems
from eval import roll_out, seeded
from experiments.base_by_kind import attempts_of, share_proved
from experiments.beyond import token_lines, wrong_line
from extras import runs
from extras.flags import at_least_one
from extras.stops import in_one_line
from feedback import build_prompt, make_feedback
from lean_env import LeanEnv
from toy.tutor import NAME, OUTDATED

HEAD = (
    "| run | student's pass@1 | right but for names | teacher, told about its own "
    "| about right ones | about wrong ones | KL in proofs | KL before | KL on | KL after |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def token_places(policy, rollout):
    """Where each token of an attempt stands: in proofs, or before, on or after the wrong line."""
    lines = token_lines(policy.tokenizer, rollout.completion_ids)
    if rollout.verdict.status == "proved":
        return ["in proofs"] * len(lines)

    wrong = wrong_line(rollout)
    places = []
    for line in lines:
        if line == wrong:
            places.append("on")
        else:
            places.append("before" if line < wrong else "after")
    return places


@torch.no_grad()
def add_disagreement(kl, policy, rollouts, texts):
    """Appends KL(teacher || student) of each token to kl[where the token stands]."""
    for r, text in zip(rollouts, texts):
        told = build_prompt(policy.tokenizer, r.theorem, text)
        tokens = ([r.completion_ids], [r.sampled])
        with policy.act_as("teacher"):
            hidden, _ = policy.hidden([told], *tokens)  # [N, D]
            ids, logps = fd_mini.teacher_topk(hidden, policy.head, 25)  # [N, 25]
        with policy.act_as("student"):
            hidden, _ = policy.hidden([r.prompt_ids], *tokens)  # [N, D]
            logits = hidden @ policy.head.T  # [N, V]

        values = fd_mini.topk_stats(logits, ids, logps)[:, 1].tolist()
        for place, value in zip(token_places(policy, r), values, strict=True):
            kl[place].append(value)


def look(policy, env, theorems, samples):
    """The cells of one line, behind the run's name."""
    tutor = make_feedback("tutor")
    attempts = []
    told = {"own": [], "right": [], "wrong": []}  # the teacher's attempts
    kl = {"in proofs": [], "before": [], "on": [], "after": []}

    for seed in range(samples):
        for kind, rollouts in told.items():
            about = attempts_of(kind, policy, env, theorems, 1000 + seed)
            texts = tutor.write(about)
            generator = seeded(2000 + seed)
            rollouts += roll_out(policy, env, theorems, 80, generator, texts, "teacher")
            if kind == "own":
                attempts += about
                add_disagreement(kl, policy, about, texts)

    verdicts = env.check([(r.theorem, current_names(r)) for r in attempts])
    logical = sum(verdict.status == "proved" for verdict in verdicts) / len(verdicts)
    shares = [share_proved(attempts), logical, *map(share_proved, told.values())]
    cells = [f"{share:.3f}" for share in shares]

    total = sum(map(sum, kl.values()))
    for here in kl.values():
        if here:
            cells.append(f"{sum(here) / len(here):.3f} ({sum(here) / total:.0%})")
        else:
            cells.append("-")
    return cells


def current_names(rollout):
    """An attempt's proof with outdated names replaced by current ones."""
    return NAME.sub(lambda m: OUTDATED.get(m[0], m[0]), rollout.proof)


def main(folders: tyro.conf.Positional[tuple[str, ...]] = (), samples: int = 2):
    """Where student and teacher of runs disagree.

    Args:
        folders: of runs; none: the base.
        samples: attempts at each theorem.
    """
    at_least_one(samples=samples)
    theorems = load_theorems("toy", "valid")
    env = LeanEnv()
    print(HEAD)

    for run in folders or [""]:
        if run:
            policy, _ = runs.load_run(run, "student", "auto")
            runs.restore(run, policy)
        else:
            policy = fd_mini.Policy("tiny")
        cells = [Path(run).name or "base", *look(policy, env, theorems, samples)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    with in_one_line("why.py"):
        tyro.cli(main, description=__doc__)
