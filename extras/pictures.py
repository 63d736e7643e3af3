"""The picture beside eval.json: pass@k of every row, and how validation went along the runs."""

import json
import math
from pathlib import Path

from matplotlib.figure import Figure

STYLES = ["o-", "s--", "^-.", "D:", "v-", "x--"] * 9  # told apart without colour as well


def evaluation(results: dict, runs, path: Path, ks):
    """Draws three panels into the file `path`.

    results: eval.py's, {label: metrics}, the runs' last. runs: their folders. ks: of pass@k.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)

    for style, (label, metrics) in zip(STYLES, results.items()):
        draw_pass_at_k(left, metrics, ks, style, label)
    left.set(xlabel="k", title="pass@k on the held-out theorems", ylim=(0, 1), xscale="log")
    left.set_xticks(ks, ks)
    left.minorticks_off()
    left.legend()

    panels = (
        (middle, "pass@1", "pass@1 on the validation theorems"),
        (right, "entropy", "entropy there (nats per token)"),
    )
    first = len(results) - len(runs)  # a run has the same colour in all panels
    for axis, metric, title in panels:
        for number, run in enumerate(runs, first):
            rows = validation(run)
            values = [row.get(metric, math.nan) for row in rows]
            steps = [row["step"] for row in rows]
            axis.plot(steps, values, STYLES[number], color=f"C{number}", label=run)
        axis.set(xlabel="optimiser step", title=title)
    middle.set_ylim(0, 1)
    right.set_ylim(0, 1.1 * right.get_ylim()[1])

    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def draw_pass_at_k(axis, metrics, ks, style, label):
    """One row's curve, with its confidence intervals."""
    known = [k for k in ks if f"pass@{k}" in metrics]
    means = [metrics[f"pass@{k}"] for k in known]

    below, above = [], []
    for k, mean in zip(known, means):
        low, high = metrics[f"pass@{k}_ci"]
        below.append(mean - low)
        above.append(high - mean)
    axis.errorbar(known, means, yerr=[below, above], fmt=style, capsize=3, label=label)


def validation(run) -> list[dict]:
    """The rows of a run's valid.jsonl; none when it never validated."""
    file = Path(run) / "valid.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]
