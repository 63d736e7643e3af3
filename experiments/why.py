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

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import fd_mini
from data import load_theorems
from eval import roll_out, seeded
from experiments.base_by_kind import attempts_of, share_proved
from experiments.beyond import token_lines, wrong_line
from extras import runs
from feedback import build_prompt, make_feedback
from lean_env import LeanEnv, extract_proof
from toy.tutor import NAME, OUTDATED

PLACES = ("in proofs", "before", "on", "after")
HEAD = (
    "| run | student's pass@1 | right but for names | teacher, told about its own "
    "| about right ones | about wrong ones | KL in proofs | KL before | KL on | KL after |"
)


@dataclass
class Config:
    """Where student and teacher of runs disagree."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()  # folders of runs; none: the base
    samples: int = 2  # attempts at each theorem


def token_places(policy, rollout) -> list[str]:
    """Where each token of an attempt stands: one of PLACES."""
    wrong = wrong_line(rollout)
    places = []
    for line in token_lines(policy.tokenizer, rollout.completion_ids):
        if rollout.verdict.status == "proved":
            places.append("in proofs")
        elif line < wrong:
            places.append("before")
        elif line == wrong:
            places.append("on")
        else:
            places.append("after")
    return places


@torch.no_grad()
def disagreement(policy, rollouts, texts) -> list[tuple[str, float]]:
    """Of each token: where it stands, and KL(teacher || student)."""
    found = []

    for start in range(0, len(rollouts), 64):
        part = rollouts[start : start + 64]
        prompts = [rollout.prompt_ids for rollout in part]
        completions = [rollout.completion_ids for rollout in part]
        sampled = [rollout.sampled for rollout in part]
        told = []
        for rollout, text in zip(part, texts[start:]):
            told.append(build_prompt(policy.tokenizer, rollout.theorem, text))

        with policy.act_as("teacher"):
            hidden, _ = policy.hidden(told, completions, sampled)  # [N, D]
            ids, logps = fd_mini.teacher_topk(hidden, policy.head, 25)  # [N, 25]
        with policy.act_as("student"):
            hidden, _ = policy.hidden(prompts, completions, sampled)  # [N, D]
            logits = hidden @ policy.head.T  # [N, V]
        kl = fd_mini.topk_stats(logits, ids, logps)[:, 1].tolist()

        places = [place for rollout in part for place in token_places(policy, rollout)]
        found += zip(places, kl, strict=True)
    return found


def look(policy, env, theorems, samples: int) -> list[str]:
    """The cells of one line, behind the run's name."""
    tutor = make_feedback("tutor")
    attempts = []
    verdicts = []  # of the attempts in current names
    told = {"own": [], "right": [], "wrong": []}  # the teacher's attempts
    kl = []

    for seed in range(samples):
        mine = roll_out(policy, env, theorems, 80, seeded(1000 + seed))
        attempts += mine
        verdicts += env.check(
            [(rollout.theorem, current_names(rollout)) for rollout in mine]
        )
        kl += disagreement(policy, mine, tutor.write(mine))

        for kind, rollouts in told.items():
            about = mine
            if kind != "own":
                about = attempts_of(kind, policy, env, theorems, 1000 + seed, "teacher")
            texts = tutor.write(about)
            generator = seeded(2000 + seed)
            rollouts += roll_out(policy, env, theorems, 80, generator, texts, "teacher")

    logical = sum(verdict.status == "proved" for verdict in verdicts) / len(verdicts)
    shares = [share_proved(attempts), logical, *map(share_proved, told.values())]
    cells = [f"{share:.3f}" for share in shares]

    total = sum(value for _, value in kl)
    for place in PLACES:
        here = [value for where, value in kl if where == place]
        if here:
            cells.append(f"{sum(here) / len(here):.3f} ({sum(here) / total:.0%})")
        else:
            cells.append("-")
    return cells


def current_names(rollout) -> str:
    """An attempt's proof with outdated names replaced by current ones."""
    return NAME.sub(lambda m: OUTDATED.get(m[0], m[0]), extract_proof(rollout.text))


def main(cfg: Config):
    theorems = load_theorems("toy", "valid")
    env = LeanEnv()
    print(HEAD + "\n" + "|---" * 10 + "|")

    for run in cfg.runs or [""]:
        if run:
            policy, _ = runs.load_run(run, "student", "auto")
            runs.load_adapters(policy, Path(run) / "ckpt" / "teacher", "teacher")
        else:
            policy = fd_mini.Policy("tiny")
        cells = [Path(run).name or "base", *look(policy, env, theorems, cfg.samples)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
