"""Does it matter which attempts a base has seen feedback about? Two bases, both the tiny prover
warmed up for 300 steps more.

    python -m experiments.narrow_base own out/own  # on feedback about its own attempts only
    python -m experiments.narrow_base all out/all  # on the usual mixture: own, right, wrong, mixed

FD on the two are the arms `base_own` and `base_all` of `figures.py --only beyond`, which has them
once these folders are there. A base made from nothing with each mixture would be the cleaner
question and takes 20 minutes of an idle machine (`make tiny`).
"""

import sys
from pathlib import Path
from typing import Literal

import tyro

import fd_mini
from toy import warm_up
from toy.theorems import unseen

STEPS = 300


def main(kinds: Literal["own", "all"], out: Path, /):
    """Which attempts, and the folder to make: own out/own"""
    if out.exists():
        sys.exit(f"{out} is there already: give another folder")
    if kinds == "own":
        warm_up.KINDS = {"own": 1}
    data = warm_up.warm_up(unseen(12000))  # the warm-up's own
    policy = fd_mini.Policy("tiny", rank=0)
    batches = warm_up.draws(data, STEPS)
    folder = out / "run" / "ckpt" / "student"  # where the experiment looks for it
    warm_up.imitate(policy, batches, lr=1e-3, warmup=20, micro_tokens=1600, out=folder)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
