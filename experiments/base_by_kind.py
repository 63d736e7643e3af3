"""Does a prover use feedback? pass@1 with the tutor's feedback in the prompt, by the kind of
attempt the feedback is about.

    python -m experiments.base_by_kind                # the shipped tiny prover
    python -m experiments.base_by_kind --run out/fd   # a run's teacher: what has it become?

Kinds: own (the prover's own attempt), and three made from the reference proofs: right, wrong and
mixed, in current names, half outdated in the last. A teacher that is wrong more often than right
about one kind pulls the student away from that kind, so all four should be well above one half
before any distillation is worth its time (toy/README.md, section "The base").
"""

import random
from typing import Literal

import tyro

from data import load_theorems
from eval import roll_out, seeded
from extras import provers, runs
from extras.flags import at_least_one
from extras.stops import in_one_line
from feedback import make_feedback
from lean_env import LeanEnv, Rollout
from toy.warm_up import attempt


def share_proved(rollouts):
    return sum(rollout.verdict.status == "proved" for rollout in rollouts) / len(
        rollouts
    )


def attempts_of(kind, policy, env, theorems, seed, role="student"):
    """One attempt of `kind` at each theorem, judged by Lean: rollouts."""
    if kind == "own":
        return roll_out(policy, env, theorems, 80, seeded(seed), role=role)

    rng = random.Random(seed)
    jobs = []
    for theorem, other in zip(theorems, theorems[1:] + theorems[:1]):
        jobs.append((theorem, attempt(theorem, rng, other.proof, kind)))

    rollouts = []
    for (theorem, text), verdict in zip(jobs, env.check(jobs)):
        body = text.partition("\n")[2]  # a rollout's text goes on after `by`
        rollouts.append(Rollout(theorem, [], [], [], verdict, finished=True, text=body))
    return rollouts


def main(
    model: str = "tiny",
    run: str = "",
    split: str = "valid",
    samples: int = 4,
    style: Literal[1, 2, 3, 4] = 4,
):
    """pass@1 with feedback, by the kind of attempt.

    Args:
        model: the base.
        run: a run's folder: measure its teacher instead of the base.
        split: of the toy's theorems.
        samples: attempts at each theorem.
        style: of the tutor.
    """
    at_least_one(samples=samples)
    theorems = load_theorems("toy", split)
    env = LeanEnv()
    tutor = make_feedback("tutor", style)
    if run:
        role = "teacher"
        policy, _ = runs.load_run(run, role, "auto")
    else:
        role = "student"
        policy = provers.load(model)

    for kind in ("no feedback", "own", "right", "wrong", "mixed"):
        about = []
        told = []
        for seed in range(samples):
            texts = None
            if kind != "no feedback":
                attempts = attempts_of(kind, policy, env, theorems, 1000 + seed, role)
                texts = tutor.write(attempts)
                about += attempts
            told += roll_out(
                policy, env, theorems, 80, seeded(2000 + seed), texts, role
            )

        line = f"{kind:12}  pass@1 {share_proved(told):.3f}"
        if about:
            line += f"   (attempts right: {share_proved(about):.3f})"
        print(line, flush=True)


if __name__ == "__main__":
    with in_one_line("base_by_kind.py"):
        tyro.cli(main, description=__doc__)
