"""Proofs per second: many proofs in one Lean process against one process for each proof, same proofs, same run.

    python bench/lean.py [--proofs 256] [--single 64] [--files 32] [--workers 2]

The proofs are the test set's references (toy/test.jsonl). `--single`: how many of them are also checked in a
process each; the rate is what counts. Prints one line each, then the ratio; exits 1 when a reference is not proved.
Then whole files (tool mode), which always have a process each: `check_files` against a loop of `check_file`.
"""
import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lean_env import LeanEnv, Theorem  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proofs", type=int, default=256, help="how many toy proofs")
    parser.add_argument("--single", type=int, default=64, help="how many of them in a process of their own")
    parser.add_argument("--files", type=int, default=32, help="how many of them as whole files")
    parser.add_argument("--workers", type=int, default=2, help="Lean processes at a time, in both cases")
    args = parser.parse_args()
    with open(ROOT / "toy" / "test.jsonl", encoding="utf-8") as rows:
        jobs = [(Theorem(row["name"], row["statement"]), row["proof"]) for row in map(json.loads, rows)][:args.proofs]
    env = LeanEnv(workers=args.workers)
    print(env.describe(), f"| {len(jobs)} proofs, {args.workers} workers")

    def measure(name, unit, check, some):
        """Prints and returns the rate of `check` on `some`."""
        began = time.perf_counter()
        proved = sum(verdict.status == "proved" for verdict in check(some))
        seconds = time.perf_counter() - began
        print(f"{name:>17}: {len(some) / seconds:7.1f} {unit}/s   ({proved} of {len(some)} proved in {seconds:.2f} s)")
        if proved < len(some):
            sys.exit(1)
        return len(some) / seconds

    def one_each(some):
        env.batch = 1
        return env.check(some)

    ratio = measure("batched", "proofs", env.check, jobs)
    ratio /= measure("one process each", "proofs", one_each, jobs[:args.single])
    print(f"{'ratio':>17}: {ratio:7.1f}")
    files = [(theorem, f"{theorem.statement} := {proof}\n") for theorem, proof in jobs[:args.files]]
    ratio = measure("check_files", "files", env.check_files, files)
    ratio /= measure("one by one", "files", lambda some: [env.check_file(*job) for job in some], files)
    print(f"{'ratio':>17}: {ratio:7.1f}")


if __name__ == "__main__":
    main()
