"""Curves of runs that go on, or have ended, in the terminal.

    python eval.py --watch out/fd out/grpo

A line a run under each metric, all on the same steps and the same scale:

    pass   0 to 0.65
      out/fd    ▁▁▁▁▁▁▂▂▃▃▄▄▅▅▆▆▆▇▇█ 0.65
      out/grpo  ▁▁▁▁▁▁▁▁▁▂▂▂▃▃       0.28
"""

import math
import shutil
import sys
import time
from pathlib import Path

from extras.runs import SHOWN, read_config, read_lines

BLOCKS = "▁▂▃▄▅▆▇█"
SECONDS = 2  # between two looks


def main(cfg):
    """Draw the runs of eval.py's flags until all have had their last step, or a Ctrl-C; once,
    where the output is no terminal."""
    while True:
        text, ended = picture(cfg.runs, shutil.get_terminal_size().columns)
        live = sys.stdout.isatty() and not ended
        # From the corner on, over what was there.
        print(f"\033[H\033[J{text}" if live else text, flush=True)
        if not live:
            return {}
        time.sleep(SECONDS)


def picture(folders, width):
    """(the curves as text of this width, have all runs had their last step?).

    ValueError where a folder is no run.
    """
    lines = []
    logs = {}
    going_on = False
    for folder in folders:
        steps = read_config(Path(folder)).get("steps", 0)
        log = Path(folder) / "log.jsonl"
        rows = rows_of(log)
        done = max((row["step"] for row in rows), default=0)
        line = f"{folder}: step {done} of {steps}"
        if done < steps:
            going_on = True
            if rows:
                line += f", {time.time() - log.stat().st_mtime:.0f} s ago"
        lines.append(line)

        for row in rows_of(Path(folder) / "valid.jsonl"):
            rows.append({"step": row["step"], "valid pass@1": row.get("pass@1")})
        logs[folder] = rows

    for name in ("valid pass@1", *(metric.split(":")[0] for metric in SHOWN)):
        lines += curves(name, logs, width)
    return "\n".join(lines), not going_on


def rows_of(path):
    """The rows of a log that say which step they are of."""
    return [row for row in read_lines(path) if isinstance(row.get("step"), int)]


def curves(name, logs, width):
    """A metric's lines, [] where no run has it. logs: {folder: its rows}."""
    found = {}
    for folder, rows in logs.items():
        points = [(row["step"], row[name]) for row in rows if is_number(row.get(name))]
        if points:
            found[folder] = points
    if not found:
        return []

    everything = [point for points in found.values() for point in points]
    last = max(step for step, _ in everything)
    values = [value for _, value in everything]
    low, high = min(0, *values), max(values)
    margin = max(map(len, logs))
    cells = min(last + 1, max(width - margin - 12, 8))

    lines = [f"{name}   {low:.3g} to {high:.3g}"]
    for folder, points in found.items():
        drawn = curve(points, last, cells, low, high)
        lines.append(f"  {folder:{margin}}  {drawn:{cells}} {points[-1][1]:.3g}")
    return lines


def is_number(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


def curve(points, last, cells, low, high):
    """(step, value) pairs as blocks: `cells` of them for the steps 0 to `last`.

    A block is the mean of its steps, or where there is none what stands before it. Example:
    curve([(0, 0), (2, 4), (3, 8)], 3, 4, 0, 8) is "▁▁▅█".
    """
    columns = {}
    for step, value in points:
        columns.setdefault(step * cells // (last + 1), []).append(value)

    drawn = ""
    for column in range(max(columns) + 1):
        if column in columns:
            mean = sum(columns[column]) / len(columns[column])
            share = (mean - low) / ((high - low) or 1)
            block = BLOCKS[min(int(8 * share), 7)]
        elif not drawn:
            block = " "
        drawn += block
    return drawn
