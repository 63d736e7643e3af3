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
from dataclasses import dataclass

import tyro

from data import load_theorems
from eval import roll_out, seeded
from extras import provers, runs
from feedback import make_feedback
from lean_env import LeanEnv, Rollout
from toy.warm_up import attempt


@dataclass
class Config:
    """pass@1 with feedback, by the kind of attempt."""

    model: str = "tiny"
    run: str = ""  # a run's folder: measure its teacher instead of the base
    split: str = "valid"
    samples: int = 4
    style: int = 4  # of the tutor


def share_proved(rollouts: list[Rollout]) -> float:
    return sum(rollout.verdict.status == "proved" for rollout in rollouts) / len(
        rollouts
    )


def attempts_of(
    kind: str, policy, env, theorems, seed: int, role: str
) -> list[Rollout]:
    """One attempt of `kind` at each theorem, judged by Lean."""
    if kind == "own":
        return roll_out(policy, env, theorems, 80, seeded(seed), role=role)

    rng = random.Random(seed)
    texts = []
    for theorem, other in zip(theorems, theorems[1:] + theorems[:1]):
        texts.append(attempt(theorem, rng, other.proof, kind))

    rollouts = []
    verdicts = env.check(list(zip(theorems, texts)))
    for theorem, text, verdict in zip(theorems, texts, verdicts):
        body = text.partition("\n")[2]  # a rollout's text goes on after `by`
        rollouts.append(Rollout(theorem, [], [], [], verdict, finished=True, text=body))
    return rollouts


def main(cfg: Config):
    theorems = load_theorems("toy", cfg.split)
    env = LeanEnv()
    if cfg.run:
        role = "teacher"
        policy, _ = runs.load_run(cfg.run, role, "auto")
    else:
        role = "student"
        policy = provers.load(cfg.model)

    for kind in ("no feedback", "own", "right", "wrong", "mixed"):
        about = []
        told = []
        for seed in range(cfg.samples):
            texts = None
            if kind != "no feedback":
                attempts = attempts_of(kind, policy, env, theorems, 1000 + seed, role)
                texts = make_feedback("tutor", cfg.style).write(attempts)
                about += attempts
            told += roll_out(
                policy, env, theorems, 80, seeded(2000 + seed), texts, role
            )

        line = f"{kind:12}  pass@1 {share_proved(told):.3f}"
        if about:
            line += f"   (attempts right: {share_proved(about):.3f})"
        print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
