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

FILES = {
    "results.csv": "experiment arm seed step samples seconds metric value".split(),
    "runs.csv": "experiment arm seed commit seconds tries proved".split(),
}
# Of log.jsonl, as train_... in results.csv.
CURVES = "pass entropy kl kl_ref length teacher_mass flat_groups called".split()
# Of a run's end.
END = r"(?!train_|valid_)(?:[a-z_]+_)?(?:pass@\d+|entropy|length|cut|tactics|p_reference|kl_base)"
# Student's t, 95 %, by the number of values.
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def load(folder):
    """[results.csv, runs.csv] of a folder as data frames, empty where there is no file."""
    kinds = dict.fromkeys(("arm", "commit", "proved"), str)
    frames = []
    for name, columns in FILES.items():
        frame = pd.DataFrame(columns=columns)
        if Path(folder, name).is_file():
            frame = pd.read_csv(Path(folder, name), dtype=kinds, keep_default_na=False)
        frames.append(frame)
    return frames


def collect(folder, experiment, runs, split):
    """Puts the finished of {(arm, seed): Run} into the files of `folder`, each in place of what
    they have of it. split: the theorems of the runs' ends."""
    numbers, marks = ([frame] for frame in load(folder))
    for (arm, seed), run in runs.items():
        if run.state == "done":
            key = {"experiment": experiment, "arm": arm, "seed": seed}
            end = end_of(run)
            mark = json.loads((run.folder / "done").read_text())
            mark |= {"tries": end["samples"], "proved": " ".join(map(str, end["proved"]))}
            for frames in (numbers, marks):
                frames[0] = frames[0][(frames[0][list(key)] != list(key.values())).any(axis=1)]
            numbers.append(numbers_of(run, end, split).assign(**key))
            marks.append(pd.DataFrame([key | mark]))

    Path(folder).mkdir(parents=True, exist_ok=True)
    for (name, columns), frames in zip(FILES.items(), (numbers, marks)):
        text = pd.concat(frames)[columns].to_csv(index=False, float_format="%.6g")
        replace_text(Path(folder, name), text)


# --- of one run
def clock(run):
    """Steps, attempts and seconds after 0, 1, 2, ... steps of the run, with those of the run that
    it starts from. Attempts: of sft, proofs read."""
    if run is None or not run.train:
        return pd.DataFrame({"step": [0], "samples": [0], "seconds": [0.0]})
    before = clock(run.after).tail(1)
    config = json.loads((run.folder / "config.json").read_text())
    attempts = config["prompts_per_step"] * config["group_size"]
    log = read_lines(run.folder / "log.jsonl")
    steps = [{"step": 1, "samples": attempts, "seconds": row["seconds"]} for row in log]
    return pd.concat([before, pd.DataFrame(steps)]).cumsum().reset_index(drop=True)


def end_of(run):
    """The results of a run's tests, {metric: value}, or of its last validation."""
    if not run.tests:
        return read_lines(run.folder / "valid.jsonl")[-1]
    end = {}
    for name, _ in run.tests:
        (result,) = json.loads((run.folder / name / "eval.json").read_text()).values()
        end |= {f"{name}_{metric}" if name else metric: value for metric, value in result.items()}
    return end


def numbers_of(run, end, split):
    """The lines of results.csv of a run, without its key: curves of about 30 points, each the mean
    of the steps up to it, validations, and the end on `split`."""
    log = pd.DataFrame(read_lines(run.folder / "log.jsonl"))
    valid = pd.DataFrame(read_lines(run.folder / "valid.jsonl"))
    places, last = clock(run), len(log)
    end = {metric: value for metric, value in end.items() if re.fullmatch(END, metric)}
    tables = [pd.DataFrame(end, [last]).add_prefix("" if split == "test" else "final_valid_")]
    if last:
        parts = log.groupby(log.index // max(1, last // 30))
        means = parts[log.columns.intersection(CURVES)].mean()
        tables.append(means.set_index(parts.step.last()).add_prefix("train_"))
    if len(valid):
        valid = valid.set_index("step")[["pass@1", "entropy", "length", "tactics"]]
        tables.append(valid.add_prefix("valid_"))
        half = valid.index[valid["pass@1"] >= valid["pass@1"].iloc[-1] / 2][0]
        if valid["pass@1"].iloc[-1] >= 0.1:
            tables.append(pd.DataFrame({"attempts_to_half": places.samples[half]}, [last]))
    long = pd.concat(tables).melt(var_name="metric", ignore_index=False).dropna()
    return long.join(places)


# --- intervals
def over_seeds(values):
    """(low, high) of the mean of one value a seed, 95 %: Student's t."""
    half = 0.0
    if len(values) > 1:
        half = T.get(len(values), 2.0) * np.std(values, ddof=1) / len(values) ** 0.5
    return np.mean(values) - half, np.mean(values) + half


def over_both(scores):
    """(low, high) of the mean of scores [seeds, theorems], 95 %: both are drawn again, 2,000 times
    (the pigeonhole bootstrap, Owen 2007, section 3)."""
    scores = np.asarray(scores)
    random = np.random.default_rng(0)
    seeds, theorems = (random.integers(n, size=(2000, n)) for n in scores.shape)
    means = [scores[s][:, t].mean() for s, t in zip(seeds, theorems)]
    return np.quantile(means, [0.025, 0.975])


def scores(runs, arm, k=1):
    """pass@k of each theorem, {seed: array}; empty where that is not known."""
    found = {}
    for run in runs[(runs.arm == arm) & (runs.tries >= k)].itertuples():
        counts = run.proved.split()
        found[run.seed] = np.array([pass_at_k(run.tries, int(count), k) for count in counts])
    return found


# --- the table
def table(rows, runs, against):
    """Markdown: a line an arm, of what all arms end with, and how much higher its pass@1 is than
    that of the arm `against`, compared by seed and theorem."""
    ends = rows[rows.metric.str.fullmatch(END)]
    ends = ends.pivot_table("value", ["arm", "seed"], "metric", "last", sort=False).dropna(axis=1)
    passes = sorted((m for m in ends if "pass@" in m), key=lambda m: int(m.split("@")[1]))
    others = [m for m in ends if m.endswith(("entropy", "length", "kl_base")) or m == "told_pass@1"]

    lines = []
    for arm, values in ends.groupby("arm", sort=False):
        line = {"arm": arm}
        for metric in dict.fromkeys([passes[0], passes[-1], *others]):
            head = metric.removeprefix("final_valid_")
            known = scores(runs, arm, int(head[5:])) if head.startswith("pass@") else {}
            line[head] = cell(values[metric], list(known.values()))
        line[f"pass@1 over {against}"] = difference(runs, arm, against)
        last = rows[rows.arm == arm].groupby("seed")[["samples", "seconds"]].max().mean()
        line |= {"seeds": len(values), "attempts": int(last.samples), "seconds": int(last.seconds)}
        lines.append(line)

    frame = pd.DataFrame(lines).astype(str)
    frame = frame.loc[:, (frame != "").any()]  # without columns that say nothing
    cells = [frame.columns, ["---"] * frame.shape[1], *frame.values]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def cell(values, known):
    low, high = over_both(known) if known else over_seeds(values)
    return f"{values.mean():.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else "")


def difference(runs, arm, against):
    """In pass@1, of the seeds that both have; empty where nothing can be compared."""
    mine, theirs = scores(runs, arm), scores(runs, against)
    both = [seed for seed in mine if seed in theirs and len(mine[seed]) == len(theirs[seed])]
    if arm == against or not both:
        return ""
    gaps = [mine[seed] - theirs[seed] for seed in both]
    low, high = over_both(gaps)
    return f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}]"
