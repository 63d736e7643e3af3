"""What an evaluation leaves behind: the table on the terminal, eval.json, and eval.png."""

import json
import math
from pathlib import Path

import numpy as np

from extras.runs import read_lines, replace_text

# Told apart without colour as well.
STYLES = "o- s-- ^-. D: v- x--".split() * 9


def report(results, cfg, ks):
    """Print the table of eval.py's results, and write eval.json and eval.png."""
    print(table(results, ks))
    out = Path(cfg.out or (cfg.runs[0] if cfg.runs else "out/base"))
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / "eval.json", json.dumps(results, indent=1))
    evaluation(results, cfg.runs, out / "eval.png", ks)
    print(f"{out / 'eval.json'} and {out / 'eval.png'} written")


def table(results, ks):
    """Rows of results as aligned text, one line each, and what was left out of them."""
    ks = [k for k in ks if any(f"pass@{k}" in r for r in results.values())]
    width = max(map(len, results))
    head = "".join(f"  pass@{k:<2}" for k in ks)
    lines = [
        f"{'':{width}}{head}   pass@1 95 % CI   entropy  length   cut  tactics  left out"
    ]
    foot = []
    for name, r in results.items():
        cells = ""
        for k in ks:
            cells += f"  {r[f'pass@{k}']:7.3f}" if f"pass@{k}" in r else "        -"
        low, high = r.get("pass@1_ci", (math.nan, math.nan))
        lines.append(
            f"{name:{width}}{cells}   [{low:.3f}, {high:.3f}]   {r['entropy']:7.3f}"
            f"  {r['length']:6.1f}  {r['cut']:4.2f}  {r['tactics']:7d}  {r['left_out']:8d}"
        )
        if r["left_out"]:
            known = [k for k in ks if f"pass@{k}" in r]
            lower = ", ".join(f"pass@{k} {r[f'pass@{k}_low']:.3f}" for k in known)
            foot.append(
                f"{name}: {r['left_out']} of {r['problems'] * r['samples']} attempts are left "
                "out, because Lean failed (timeout, crash) or they got no feedback; "
                f"if they count as wrong: {lower or 'nothing is proved'}"
            )
    return "\n".join(lines + foot)


def evaluation(results, runs, path, ks):
    """Draws three panels into the file `path`.

    results: eval.py's, {label: metrics}, the runs' last. runs: their folders. ks: of pass@k.
    """
    from matplotlib.figure import Figure  # slow to load, and needed at the end only

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)

    for style, (label, metrics) in zip(STYLES, results.items()):
        draw_pass_at_k(left, metrics, ks, style, label)
    title = "pass@k on the held-out theorems"
    left.set(xlabel="k", title=title, ylim=(0, 1), xscale="log")
    drawn = [k for k in ks if any(f"pass@{k}" in r for r in results.values())]
    left.set_xticks(drawn, drawn)
    left.minorticks_off()
    left.legend()

    panels = (
        (middle, "pass@1", "pass@1 on the validation theorems"),
        (right, "entropy", "entropy there (nats per token)"),
    )
    first = len(results) - len(runs)  # a run has the same colour in all panels
    for axis, metric, title in panels:
        for number, run in enumerate(runs, first):
            rows = read_lines(Path(run) / "valid.jsonl")
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

    intervals = [metrics[f"pass@{k}_ci"] for k in known]
    errors = np.abs(np.transpose(intervals) - means)  # [2, ks]: below and above
    axis.errorbar(known, means, yerr=errors, fmt=style, capsize=3, label=label)
