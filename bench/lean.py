"""Proofs per second: many in one Lean process against a process for each, same proofs, same run.

    python -m bench.lean [--proofs 256] [--single 64] [--files 32] [--workers 2]

The proofs are the toy's test set's references. `--single`: how many of them are also checked in a
process each; the rate is what counts. Prints one line each, then the ratio; exits 1 when a
reference is not proved. Then whole files (tool mode), which always have a process each:
`check_files` against a loop of `check_file`.
"""

import sys
import time
from dataclasses import dataclass

import tyro

from data import load_theorems
from lean_env import LeanEnv


def measure(name, unit, check, jobs):
    """Prints and returns the rate of `check` on `jobs`."""
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


@dataclass
class Config:
    """Proofs and files per second."""

    proofs: int = 256  # how many toy proofs
    single: int = 64  # how many of them in a process of their own
    files: int = 32  # how many of them as whole files
    workers: int = 2  # Lean processes at a time


def main(cfg: Config):
    theorems = load_theorems("toy", "test")[: cfg.proofs]
    jobs = [(theorem, theorem.proof) for theorem in theorems]
    files = [(theorem, f"{theorem.statement} := {theorem.proof}\n") for theorem in theorems]
    files = files[: cfg.files]
    env = LeanEnv(workers=cfg.workers)
    print(env.describe(), f"| {len(jobs)} proofs, {cfg.workers} workers")

    def file_by_file(files):
        return [env.check_file(theorem, text) for theorem, text in files]

    batched = measure("batched", "proofs", env.check, jobs)
    env.batch = 1
    single = measure("one process each", "proofs", env.check, jobs[: cfg.single])
    print(f"{'ratio':>17}: {batched / single:7.1f}")

    together = measure("check_files", "files", env.check_files, files)
    one_by_one = measure("one by one", "files", file_by_file, files)
    print(f"{'ratio':>17}: {together / one_by_one:7.1f}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
