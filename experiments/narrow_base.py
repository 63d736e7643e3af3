"""Does it matter which attempts a base has seen feedback about? Two bases, both the tiny prover
warmed up for 300 steps more.

    python -m experiments.narrow_base own out/own  # on feedback about its own attempts only
    python -m experiments.narrow_base all out/all  # on the usual mixture: own, right, wrong, mixed

FD on the two are the arms `base_own` and `base_all` of `figures.py --only beyond`, which has them
once these folders are there. A base made from nothing with each mixture would be the cleaner question
and takes 20 minutes of an idle machine (`make tiny`).
"""

import subprocess
import sys
from pathlib import Path

from data import toy

FLAGS = (
    "--algo sft --lora-rank 0 --steps 300 --prompts-per-step 64 --lr 1e-3 --warmup 20 "
    "--micro-tokens 1600 --max-new-tokens 80 --eval-every 0"
)


def main(kinds: str, out: Path):
    if kinds == "own":
        toy.KINDS = {"own": 1}
    theorems = toy.generate(sum(toy.SPLITS.values()) - 20000)[-12000:]  # the warm-up's own
    rows = toy.warm_up(theorems, toy.VARIANTS["outdated"])

    out.mkdir(parents=True, exist_ok=True)
    data = out / "warm_up.jsonl"
    toy.write_jsonl(data, rows)
    flags = [*FLAGS.split(), "--data", str(data), "--out", str(out / "run")]
    subprocess.run([sys.executable, "train.py", *flags], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("own", "all"):
        sys.exit("narrow_base.py: say which attempts, own or all, and a folder: own out/own")
    main(sys.argv[1], Path(sys.argv[2]))
