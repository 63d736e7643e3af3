"""Does a prover use feedback? pass@1 with the tutor's feedback in the prompt, by the kind of attempt the feedback is about.

    python experiments/base_by_kind.py                      # the shipped tiny prover
    python experiments/base_by_kind.py --run out/fd         # a run's teacher: what has it become?

Kinds: own (the prover's own attempt), and three made from the reference proofs: right, wrong and mixed, in current names,
half outdated in the last. A teacher that is wrong more often than right about one kind pulls the student away from that kind,
so all four should be well above one half before any distillation is worth its time (toy/README.md, section "The base").
"""
import argparse
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "data")]

import fd_mini  # noqa: E402
from toy import warm_up  # noqa: E402
from eval import load_rows, load_run, roll_out  # noqa: E402
from feedback import make_feedback  # noqa: E402
from lean_env import LeanEnv, Rollout  # noqa: E402


def told_about(kind, policy, env, rows, theorems, style, seed, who):
    """The tutor's texts about one attempt of `kind` at each theorem, judged by Lean; and how many of the attempts were right."""
    if kind == "own":
        attempts = roll_out(policy, env, theorems, 80, seed, who=who)
    else:
        rng = random.Random(seed)
        texts = [warm_up.attempt(row, rng, other.proof, kind) for row, other in zip(rows, rows[1:] + rows[:1])]
        verdicts = env.check(list(zip(theorems, texts)))
        attempts = [Rollout(t, [], [], [], v, None, True, text.partition("\n")[2]) for t, text, v in zip(theorems, texts, verdicts)]
    right = sum(a.verdict.status == "proved" for a in attempts) / len(attempts)
    return make_feedback("tutor", style).write(attempts), right


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--run", help="a run's folder: measure its teacher instead of the base")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--style", type=int, default=4)
    args = parser.parse_args()
    rows = load_rows("toy", args.split)
    theorems = rows
    who = "teacher" if args.run else "student"
    policy = load_run(args.run, who, "auto")[0] if args.run else fd_mini.Policy(args.model)
    env = LeanEnv()
    for kind in ("no feedback", "own", "right", "wrong", "mixed"):
        proved = total = attempts_right = 0
        for seed in range(args.samples):
            told, right = (None, 0.0) if kind == "no feedback" else told_about(kind, policy, env, rows, theorems, args.style, 1000 + seed, who)
            rollouts = roll_out(policy, env, theorems, 80, 2000 + seed, told, who)
            proved += sum(r.verdict.status == "proved" for r in rollouts)
            total, attempts_right = total + len(rollouts), attempts_right + right / args.samples
        print(f"{kind:12}  pass@1 {proved / total:.3f}" + (f"   (attempts right: {attempts_right:.3f})" if kind != "no feedback" else ""), flush=True)


if __name__ == "__main__":
    main()
