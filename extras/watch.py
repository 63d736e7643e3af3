"""Curves of runs that go on, or have ended, in the terminal.

    python eval.py --watch out/fd out/grpo

A line a run under each metric, all on the same steps and the same scale:

    pass   up to 0.65
      out/fd    ▁▁▁▁▁▁▂▂▃▃▄▄▅▅▆▆▆▇▇█ 0.65
      out/grpo  ▁▁▁▁▁▁▁▁▁▂▂▂▃▃       0.28
"""

import math
import shutil
import sys
import time
from pathlib import Path

from extras.runs import SHOWN, read_config, read_lines

METRICS = ["valid pass@1", *(metric.split(":")[0] for metric in SHOWN)]
BLOCKS = "▁▂▃▄▅▆▇█"


def main(cfg):
    """Draw the runs of eval.py's flags until all have had their last step, or a Ctrl-C; once,
    where the output is no terminal."""
    while True:
        text, going_on = picture(cfg.runs, shutil.get_terminal_size().columns)
        if not going_on or not sys.stdout.isatty():
            print(text)
            return {}
        print(f"\033[H\033[J{text}", flush=True)  # from the corner on, over what was there
        time.sleep(2)


def picture(folders, width):
    """(the curves as text of this width, has a run steps before it?). ValueError where a folder
    is no run."""
    lines = []
    logs = {}
    going_on = False
    for name in folders:
        folder = Path(name)
        steps = read_config(folder).get("steps", 0)
        rows = read_lines(folder / "log.jsonl")
        done = rows[-1]["step"] if rows else 0
        lines.append(f"{name}: step {done} of {steps}")
        going_on |= done < steps

        for row in read_lines(folder / "valid.jsonl"):
            rows.append({"step": row["step"], METRICS[0]: row.get("pass@1", math.nan)})
        logs[name] = rows

    for metric in METRICS:
        lines += curves(metric, logs, width)
    return "\n".join(lines), going_on


def curves(metric, logs, width):
    """A metric's lines, [] where no run has it. logs: {folder: its rows}."""
    found = {}
    for name, rows in logs.items():
        rows = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
        if rows:
            found[name] = [(row["step"], row[metric]) for row in rows]
    if not found:
        return []

    last, _ = max(map(max, found.values()))
    high = max(value for points in found.values() for _, value in points)
    margin = max(map(len, logs))
    cells = min(max(width - margin - 12, 8), last + 1)
    lines = [f"{metric}   up to {high:.3g}"]
    for name, points in found.items():
        drawn = curve(points, last, cells, high)
        lines.append(f"  {name:{margin}}  {drawn:{cells}} {points[-1][1]:.3g}")
    return lines


def curve(points, last, cells, high):
    """(step, value) pairs, by step, as blocks: `cells` of them for the steps 0 to `last`.

    A block is the last value that falls into it or, where none does, the one before. Example:
    curve([(0, 0), (2, 4), (3, 8)], 3, 4, 8) is "▁▁▅█".
    """
    drawn = ""
    for step, value in points:
        block = BLOCKS[min(int(8 * max(value, 0) / (high or 1)), 7)]
        cell = step * cells // (last + 1)
        drawn = drawn[:cell].ljust(cell, (drawn or block)[-1]) + block
    return drawn
