"""Proofs per second: many in one Lean process against a process for each, same proofs, same run.

    python -m bench.lean [--proofs 256] [--single 64] [--files 32] [--workers 2]

The proofs are the toy's test set's references. `--single`: how many of them are also checked in a
process each; the rate is what counts. Prints one line each, then the ratio; exits 1 when a
reference is not proved. Then whole files (tool mode), which always have a process each:
several at a time against one at a time.
"""

import sys
import time

import tyro

from data import load_theorems
from extras.flags import at_least_one
from extras.stops import in_one_line
from lean_env import LeanEnv


def measure(name, unit, env, check, jobs):
    """Prints and returns the rate of `check`, which asks `env`, on `jobs`."""
    env.known.clear()  # they were asked before
    began = time.perf_counter()
    verdicts = check(jobs)
    seconds = time.perf_counter() - began

    proved = sum(verdict.status == "proved" for verdict in verdicts)
    rate = len(jobs) / seconds
    done = f"({proved} of {len(jobs)} proved in {seconds:.2f} s)"
    print(f"{name:>17}: {rate:7.1f} {unit}/s   {done}")
    if proved < len(jobs):
        sys.exit(1)
    return rate


def main(proofs: int = 256, single: int = 64, files: int = 32, workers: int = 2):
    """Proofs and files per second.

    Args:
        proofs: how many toy proofs.
        single: how many of them in a process of their own.
        files: how many of them as whole files.
        workers: Lean processes at a time.
    """
    at_least_one(proofs=proofs, single=single, files=files, workers=workers)
    theorems = load_theorems("toy", "test")[:proofs]
    jobs = [(theorem, theorem.proof) for theorem in theorems]
    texts = [(theorem, f"{theorem.statement} := {proof}\n") for theorem, proof in jobs]
    env = LeanEnv(workers=workers)
    print(env.describe(), f"| {len(jobs)} proofs, {workers} workers")

    batched = measure("batched", "proofs", env, env.check, jobs)
    env.batch = 1
    alone = measure("one process each", "proofs", env, env.check, jobs[:single])
    print(f"{'ratio':>17}: {batched / alone:7.1f}")

    together = measure("check_files", "files", env, env.check_files, texts[:files])
    env.workers = 1
    apart = measure("one by one", "files", env, env.check_files, texts[:files])
    print(f"{'ratio':>17}: {together / apart:7.1f}")


if __name__ == "__main__":
    with in_one_line("lean.py"):
        tyro.cli(main, description=__doc__)
