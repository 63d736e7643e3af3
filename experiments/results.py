"""What runs have left behind, as numbers: results.csv, runs.csv, and tables with intervals.

results.csv has a line for each number of each run: samples and seconds are attempts and seconds of
training up to `step`. runs.csv has a line a run: its commit, how long it took, and how many of
`tries` attempts at each held-out theorem were proved, in the order of the theorems.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from eval import pass_at_k
from extras.runs import read_lines, replace_text

NUMBERS = "experiment arm seed step samples seconds metric value".split()
RUNS = "experiment arm seed commit seconds tries proved".split()
# Of log.jsonl, as train_... in results.csv.
CURVES = "pass entropy kl kl_ref length teacher_mass flat_groups called".split()
# Of a run's end.
END = r"(?!train_|valid_)(?:[a-z_]+_)?(?:pass@\d+|entropy|length|cut|tactics|p_reference|kl_base)"
# Student's t, 95 %, by the number of values.
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def load(path, columns):
    """A data frame, empty where there is no file."""
    if not Path(path).is_file():
        return pd.DataFrame(columns=columns)
    return pd.read_csv(path, dtype={"arm": str, "commit": str, "proved": str}, keep_default_na=False)


def collect(folder, experiment, runs, split):
    """Puts the finished of {(arm, seed): Run} into the files of `folder`, in place of what they
    have of this experiment. split: the theorems of the runs' ends."""
    tables = {"results.csv": (NUMBERS, []), "runs.csv": (RUNS, [])}
    for (arm, seed), run in runs.items():
        if run.state == "done":
            key = (experiment, arm, seed)
            tables["results.csv"][1].extend(numbers(key, run, split))
            mark = json.loads((run.folder / "done").read_text())
            end = end_of(run)
            proved = " ".join(map(str, end.get("proved", [])))
            row = (*key, mark["commit"], round(mark["seconds"]), end["samples"], proved)
            tables["runs.csv"][1].append(row)

    for name, (columns, rows) in tables.items():
        path = Path(folder, name)
        old = load(path, columns)
        new = pd.DataFrame(rows, columns=columns)
        both = pd.concat([old[old.experiment != experiment], new])
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, both.to_csv(index=False))


# --- of one run
def clocks(run):
    """[(step, attempts, seconds)] after 0, 1, 2, ... steps of the run, with those of the run that
    it starts from. Attempts: of sft, proofs read."""
    if run is None or not run.train:
        return [(0, 0, 0.0)]
    config = json.loads((run.folder / "config.json").read_text())
    attempts = config["prompts_per_step"] * config["group_size"]
    found = clocks(run.after)[-1:]
    for row in read_lines(run.folder / "log.jsonl"):
        step, samples, seconds = found[-1]
        found.append((step + 1, samples + attempts, seconds + row["seconds"]))
    return found


def end_of(run):
    """The results of a run's tests, {metric: value}, or of its last validation."""
    if not run.tests:
        return read_lines(run.folder / "valid.jsonl")[-1]
    end = {}
    for name, _ in run.tests:
        (result,) = json.loads((run.folder / name / "eval.json").read_text()).values()
        end |= {f"{name}_{metric}" if name else metric: value for metric, value in result.items()}
    return end


def numbers(key, run, split):
    """Yields the lines of results.csv of a run: curves of about 30 points, each the mean of the
    steps up to it, validations, and the end on `split`. key: (experiment, arm, seed)."""
    places = clocks(run)

    def line(number, metric, value):
        step, samples, seconds = places[number]
        return (*key, step, samples, round(seconds, 2), metric, float(f"{value:.6g}"))

    log = read_lines(run.folder / "log.jsonl")
    width = max(1, len(log) // 30)
    for start in range(0, len(log), width):
        part = log[start : start + width]
        for name in CURVES:
            if name in part[0]:
                mean = sum(row[name] for row in part) / len(part)
                yield line(part[-1]["step"], f"train_{name}", mean)

    valid = read_lines(run.folder / "valid.jsonl")
    for row in valid:
        for name in ("pass@1", "entropy", "length", "tactics"):
            yield line(row["step"], f"valid_{name}", row[name])
    if valid and valid[-1]["pass@1"] >= 0.1:
        half = [row["step"] for row in valid if row["pass@1"] >= valid[-1]["pass@1"] / 2]
        yield line(len(log), "attempts_to_half", places[half[0]][1])
    for name, value in end_of(run).items():
        if re.fullmatch(END, name):
            yield line(len(log), name if split == "test" else f"final_valid_{name}", value)


# --- intervals
def over_seeds(values):
    """(low, high) of the mean of one value a seed, 95 %: Student's t."""
    half = T.get(len(values), 2.0) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
    return np.mean(values) - half, np.mean(values) + half


def over_both(scores):
    """(low, high) of the mean of scores [seeds, theorems], 95 %: both are drawn again, 2,000 times
    (the pigeonhole bootstrap, Owen 2007, section 3)."""
    scores = np.asarray(scores)
    random = np.random.default_rng(0)
    seeds, theorems = (random.integers(n, size=(2000, n)) for n in scores.shape)
    means = [scores[s][:, t].mean() for s, t in zip(seeds, theorems)]
    return np.quantile(means, [0.025, 0.975])


def scores(runs, arm, k):
    """pass@k of each theorem, {seed: array}; empty where that is not known."""
    found = {}
    for run in runs[runs.arm == arm].itertuples():
        if run.proved and k <= int(run.tries):
            counts = map(int, run.proved.split())
            found[run.seed] = np.array([pass_at_k(int(run.tries), count, k) for count in counts])
    return found


# --- the table
def ends_of(rows):
    """The last value of each metric: a frame with a line for each (arm, seed)."""
    ends = rows[rows.metric.str.fullmatch(END)]
    return ends.pivot_table("value", ["arm", "seed"], "metric", "last", sort=False)


def table(rows, runs, against):
    """Markdown: a line an arm, of what all arms end with, and how much higher its pass@1 is than
    that of the arm `against`, compared by seed and theorem."""
    ends = ends_of(rows).dropna(axis=1)
    passes = sorted((m for m in ends if "pass@" in m), key=lambda m: int(m.split("@")[1]))
    shown = [passes[0], *passes[1:][-1:], *(m for m in ends if m.endswith(("entropy", "length")))]
    heads = [metric.removeprefix("final_valid_") for metric in shown]
    lines = [["arm", *heads, f"pass@1 over {against}", "seeds", "attempts", "seconds"]]
    lines.append(["---"] * len(lines[0]))

    for arm, values in ends.groupby("arm", sort=False):
        cells = [arm]
        for metric in shown:
            known = scores(runs, arm, int(metric.split("@")[1])) if "@" in metric else {}
            cells.append(cell(values[metric], list(known.values())))
        cells.append(difference(runs, arm, against))
        last = rows[rows.arm == arm].groupby("seed")[["samples", "seconds"]].max().mean()
        cells += [str(len(values)), f"{last.samples:.0f}", f"{last.seconds:.0f}"]
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(values, known):
    low, high = over_both(known) if known else over_seeds(values)
    return f"{values.mean():.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else "")


def difference(runs, arm, against):
    """In pass@1, of the seeds that both have."""
    mine, theirs = scores(runs, arm, 1), scores(runs, against, 1)
    both = [seed for seed in mine if seed in theirs and arm != against]
    gaps = [mine[seed] - theirs[seed] for seed in both]
    if not gaps or any(gap.shape != gaps[0].shape for gap in gaps):
        return ""
    low, high = over_both(gaps)
    return f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}]"
