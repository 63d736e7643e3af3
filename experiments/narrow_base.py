"""A base whose warm-up saw feedback about its own outdated attempts only, never about right ones or wrong ones in current names.

    python experiments/narrow_base.py out/narrow    # writes the warm-up data and an untrained prover, then trains it: 20 minutes

FD on it is the arm `narrow_base` of figures.py: does it matter that a base has seen feedback about every kind of attempt? All
else is as in `make tiny`.
"""
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import toy  # noqa: E402

WARM_UP = """--algo sft --lora-rank 0 --steps 1800 --prompts-per-step 64 --lr 2e-3 --warmup 100 --micro-tokens 1600 --max-new-tokens 80
             --eval-every 0 --save-every 300"""  # the Makefile's

def main(out: Path):
    rows = toy.generate(sum(toy.SPLITS.values()))[-toy.SPLITS["warm"]:]  # the last are the warm-up's own
    stale = toy.VARIANTS["outdated"]
    usual = toy.warm_up(rows, stale)
    out.mkdir(parents=True, exist_ok=True)
    toy.untrained(out / "untrained", [f"/- {r['feedback']} -/\n{r['statement']} := {r['proof']}" for r in usual])  # the same tokenizer
    toy.KINDS = {"own": 1}
    toy.write_jsonl(out / "warm_up.jsonl", toy.warm_up(rows, stale))
    subprocess.run([sys.executable, "train.py", *shlex.split(WARM_UP), "--model", str(out / "untrained"), "--data", str(out / "warm_up.jsonl"),
                    "--out", str(out / "run")], cwd=ROOT, check=True)

if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/narrow").resolve())
