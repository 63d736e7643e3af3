"""Does it matter which attempts a base has seen feedback about? Two bases, both the tiny prover warmed up for 300 steps more.

    python experiments/narrow_base.py own out/own    # on feedback about its own outdated attempts only
    python experiments/narrow_base.py all out/all    # on the usual mixture: own, right, wrong and half outdated ones

FD on the two are the arms `base_own` and `base_all` of `figures.py --only beyond`, which has them once these folders are there.
A base made from nothing with each mixture would be the cleaner question and takes 20 minutes of an idle machine (`make tiny`).
"""
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

from toy import theorems, warm_up  # noqa: E402

FLAGS = "--algo sft --lora-rank 0 --steps 300 --prompts-per-step 64 --lr 1e-3 --warmup 20 --micro-tokens 1600 --max-new-tokens 80 --eval-every 0"

def main(kinds: str, out: Path):
    if kinds == "own":
        warm_up.KINDS = {"own": 1}
    rows = theorems.generate(sum(theorems.SPLITS.values()) - 20000)[-12000:]  # of the warm-up's own theorems
    out.mkdir(parents=True, exist_ok=True)
    data = [json.dumps(vars(t)) for t in warm_up.warm_up(rows, warm_up.VARIANTS["outdated"])]
    (out / "warm_up.jsonl").write_text("\n".join(data))
    subprocess.run([sys.executable, "train.py", *shlex.split(FLAGS), "--data", str(out / "warm_up.jsonl"), "--out", str(out / "run")], cwd=ROOT, check=True)

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("own", "all"):
        sys.exit("narrow_base.py: say which attempts, own or all, and a folder: python experiments/narrow_base.py own out/own")
    main(sys.argv[1], Path(sys.argv[2]).resolve())
