"""What runs have left behind, as numbers: results.csv, runs.csv, and tables with intervals.

results.csv has a line for each number of each run: samples and seconds are attempts and seconds of
training up to `step`. runs.csv has a line a run: its commit, how long it took, and how many of
`tries` attempts at each held-out theorem were proved, in the order of the theorems.

    python -m experiments.results main fd grpo --k 8  # how far two arms are apart
"""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from tyro.conf import Positional

from eval import pass_at_k
from extras.runs import read_lines, replace_text

FILES = {
    "results.csv": "experiment arm seed step samples seconds metric value".split(),
    "runs.csv": "experiment arm seed commit seconds tries proved".split(),
}
# Of log.jsonl, as train_... in results.csv.
CURVES = "pass entropy kl length teacher_mass grad_norm called".split()
# Of valid.jsonl, as valid_...
VALID = ["pass@1", "entropy"]
# Of a run's end.
END = r"(?!train_|valid_)(?:[a-z_]+_)?(?:pass@\d+|entropy|length|p_reference|kl_base|right_but_for_names)"
# What the table shows of it, beside pass@1 and pass@k.
OTHERS = ("entropy", "length", "measure_kl_base", "told_pass@1")
# fd_1e-4_two: a method and its dials.
DIALS = r"(.+?)_(\d.*)"
# Student's t, 95 %, by the number of values.
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def load(folder):
    """[results.csv, runs.csv] of a folder as data frames, empty where there is no file."""
    texts = dict.fromkeys(("arm", "commit", "proved"), str)
    frames = []
    for name, columns in FILES.items():
        path = Path(folder, name)
        frame = pd.DataFrame(columns=columns)
        if path.is_file():
            frame = pd.read_csv(path, dtype=texts, keep_default_na=False)
        frames.append(frame)
    return frames


def collect(folder, experiment, runs, split):
    """Puts the finished of {(arm, seed): Run} into the files of `folder`, each in place of what
    they have of it. split: the theorems of the runs' ends."""
    done = {key: run for key, run in runs.items() if run.state == "done"}
    tables = [[without(frame, experiment, done)] for frame in load(folder)]
    for (arm, seed), run in done.items():
        key = {"experiment": experiment, "arm": arm, "seed": seed}
        end = end_of(run)
        tables[0].append(numbers_of(run, end, split).assign(**key))
        done_file = run.folder / "done"
        mark = json.loads(done_file.read_text())
        proved = " ".join(map(str, end["proved"]))
        mark |= {"tries": end["samples"], "proved": proved}
        tables[1].append(pd.DataFrame([key | mark]))

    Path(folder).mkdir(parents=True, exist_ok=True)
    for (name, columns), frames in zip(FILES.items(), tables):
        table = pd.concat(frames)[columns]
        text = table.to_csv(index=False, float_format="%.6g")
        replace_text(Path(folder, name), text)


def without(frame, experiment, runs):
    """The lines that are not of these (arm, seed)."""
    its = pd.MultiIndex.from_frame(frame[["arm", "seed"]])
    of_others = frame.experiment != experiment
    return frame[of_others | ~its.isin(list(runs))]


# --- of one run
def clock(run):
    """Steps, attempts and seconds after 0, 1, 2, ... steps of the run, with those of the run that
    it starts from. Attempts: of sft, proofs read."""
    if run is None or not run.train:
        start = {"step": [0], "samples": [0], "seconds": [0.0]}
        return pd.DataFrame(start)
    before = clock(run.after).tail(1)
    config = json.loads((run.folder / "config.json").read_text())
    attempts = config["prompts_per_step"] * config["group_size"]
    log = pd.DataFrame(read_lines(run.folder / "log.jsonl"))
    steps = log[["seconds"]].assign(step=1, samples=attempts)
    return pd.concat([before, steps]).cumsum().reset_index(drop=True)


def end_of(run):
    """The results of a run's tests, {metric: value}, or of its last validation."""
    if not run.tests:
        return read_lines(run.folder / "valid.jsonl")[-1]
    end = {}
    for name, _ in run.tests:
        path = run.folder / name / "eval.json"
        (result,) = json.loads(path.read_text()).values()
        for metric, value in result.items():
            end[f"{name}_{metric}" if name else metric] = value
    return end


def attempts_to(wanted, run):
    """Attempts until pass@1 on validation was so high, in this run or before, where it starts."""
    if run is None:
        return None
    before = attempts_to(wanted, run.after)
    if before is not None:
        return before
    rows = read_lines(run.folder / "valid.jsonl")
    steps = [row["step"] for row in rows if row["pass@1"] >= wanted]
    return clock(run).samples[steps[0]] if steps else None


def numbers_of(run, end, split):
    """The lines of results.csv of a run, without its key: curves of about 15 points, each the mean
    of the steps up to it, validations, and the end on `split`."""
    log = pd.DataFrame(read_lines(run.folder / "log.jsonl"))
    valid = pd.DataFrame(read_lines(run.folder / "valid.jsonl"))
    places = clock(run)
    last = len(log)
    shown = {name: value for name, value in end.items() if re.fullmatch(END, name)}
    prefix = "" if split == "test" else "final_valid_"
    tables = [pd.DataFrame(shown, [last]).add_prefix(prefix)]
    if last:
        width = max(1, last // 15)
        parts = log.groupby(log.index // width)
        means = parts[log.columns.intersection(CURVES)].mean()
        means = means.set_index(parts.step.last())
        if "called" in means and not means.called.any():
            means = means.drop(columns="called")  # without tools nothing calls
        tables.append(means.add_prefix("train_"))
    if len(valid):
        valid = valid.set_index("step")[VALID]
        tables.append(valid.add_prefix("valid_"))
        ends_at = valid["pass@1"].iloc[-1]
        if ends_at >= 0.1:
            needed = {"attempts_to_half": attempts_to(ends_at / 2, run)}
            tables.append(pd.DataFrame(needed, [last]))
    long = pd.concat(tables)
    long = long.melt(var_name="metric", ignore_index=False)
    return long.dropna().join(places)


# --- intervals
def over_seeds(values):
    """(low, high) of the mean of one value a seed, 95 %: Student's t."""
    mean = np.mean(values)
    half = 0.0
    if len(values) > 1:
        error = np.std(values, ddof=1) / len(values) ** 0.5
        half = T.get(len(values), 2.0) * error
    return mean - half, mean + half


def over_both(scores):
    """(low, high) of the mean of scores [seeds, theorems], 95 %: both are drawn again, 2,000 times
    (the pigeonhole bootstrap, Owen 2007, section 3)."""
    scores = np.asarray(scores)
    seeds, theorems = draws(*scores.shape)
    means = scores[seeds[:, :, None], theorems[:, None, :]].mean((1, 2))
    return np.quantile(means, [0.025, 0.975])


@cache
def draws(seeds, theorems):
    """Which seeds [2000, seeds] and theorems [2000, theorems] are drawn."""
    random = np.random.default_rng(0)
    pairs = [
        (random.integers(seeds, size=seeds), random.integers(theorems, size=theorems))
        for _ in range(2000)
    ]
    return [np.array(side) for side in zip(*pairs)]


def scores(runs, arm, k=1):
    """pass@k of each theorem, {seed: array}; empty where that is not known."""
    found = {}
    its = runs[(runs.arm == arm) & (runs.tries >= k)]
    for run in its.itertuples():
        counts = map(int, run.proved.split())
        chances = [pass_at_k(run.tries, count, k) for count in counts]
        found[run.seed] = np.array(chances)
    return found


# --- the table
def table(rows, runs, against):
    """Markdown: a line an arm, of what all arms end with, and how much higher its pass@1 is than
    that of the arm `against`, compared by seed and theorem."""
    ends = rows[rows.metric.str.fullmatch(END)]
    ends = ends.pivot_table("value", ["arm", "seed"], "metric", "last", sort=False)
    ends = ends.dropna(axis=1)
    passes = [name for name in ends if re.fullmatch(r"(final_valid_)?pass@\d+", name)]
    passes.sort(key=lambda name: int(name.split("@")[1]))
    others = [name for name in ends if name.removeprefix("final_valid_") in OTHERS]

    lines = []
    for arm, values in ends.groupby("arm", sort=False):
        line = {"arm": arm}
        for name in dict.fromkeys([passes[0], passes[-1], *others]):
            head = name.removeprefix("final_valid_")
            known = None
            if "pass@" in head:  # of told_pass@1 it is not known which theorems were proved
                known = scores(runs, arm, int(head[5:])) if head.startswith("pass@") else {}
            line[head] = cell(values[name], known)
        line[f"pass@1 − {against}'s"] = difference(runs, arm, against)
        line["seeds"] = len(values)
        its = rows[rows.arm == arm]
        last = its.groupby("seed").max(numeric_only=True).mean()
        line["attempts"] = int(last.samples)
        line["seconds"] = int(last.seconds)
        lines.append(line)
    return markdown(lines)


def grid(rows, runs, methods, against):
    """Markdown: pass@1, a line for each choice of dials (1e-4_two of fd_1e-4_two) and a column for
    each of the methods; the last of them is compared with `against`."""
    ends = rows[rows.metric == "pass@1"]
    chances = rows[rows.metric == "base_p_reference"].groupby("arm").value.mean()
    lines = []
    for base, chance in chances.sort_values().items():
        dials = base.removeprefix("base_")
        line = {"cell": dials.replace("_", ", "), "p": f"{chance:.0e}"}
        for method in methods:
            arm = f"{method}_{dials}"
            values = ends.value[ends.arm == arm]
            line[method] = ""
            if len(values):
                line[method] = cell(values, scores(runs, arm))
        gap = difference(runs, arm, f"{against}_{dials}")
        lines.append(line | {f"{method} − {against}": gap})
    return markdown(lines)


def markdown(lines):
    frame = pd.DataFrame(lines).fillna("").astype(str)
    frame = frame.loc[:, (frame != "").any()]  # without columns that say nothing
    cells = [frame.columns, ["---"] * frame.shape[1], *frame.values]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def cell(values, known=None):
    """Mean and interval. known: {seed: scores}; with a † where there is one seed, with a * where
    the scores are missing."""
    low, high = over_both(list(known.values())) if known else over_seeds(values)
    text = f"{values.mean():.3f}"
    if low < high:
        text += f" [{low:.3f}, {high:.3f}]" + ("*" if known == {} else "")
    return text + ("†" if known and len(values) == 1 else "")


def difference(runs, arm, against, k=1):
    """In pass@k, of the seeds that both have (with a † where that is one); empty where nothing can
    be compared."""
    mine, theirs = scores(runs, arm, k), scores(runs, against, k)
    gaps = []
    for seed in mine.keys() & theirs.keys():
        if len(mine[seed]) == len(theirs[seed]):
            gaps.append(mine[seed] - theirs[seed])
    if arm == against or not gaps:
        return ""
    low, high = over_both(gaps)
    return f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}]" + ("†" if len(gaps) == 1 else "")


def main(experiment: Positional[str], arm: Positional[str], against: Positional[str], k: int = 1):
    """pass@k of the first arm less that of the second, from the numbers in experiments/."""
    runs = load("experiments")[1]
    found = difference(runs[runs.experiment == experiment], arm, against, k)
    print(found or f"{experiment} has no attempts of both at the same theorems")


if __name__ == "__main__":
    tyro.cli(main)
