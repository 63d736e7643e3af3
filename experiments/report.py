"""From finished runs to results.csv, pictures and experiments/README.md."""

import json
import re
import shlex
from pathlib import Path
from statistics import fmean

from experiments.pictures import Row, picture, points
from experiments.plan import FLAGS, experiments, make_runs, read_text
from extras.runs import read_lines, replace_text
from lean.answers import tactics_of

# Of log.jsonl, as train_... in results.csv.
CURVES = "pass entropy kl kl_ref length teacher_mass flat_groups called".split()
SPAN = 10  # steps in which tactics and lemmas are counted
END = r"pass@\d+|entropy|length|cut"  # what the tables show

HEAD = """\
# What was run, and what came out

Written by `experiments/figures.py`: {seeds}. `make figures` runs what is not finished. \
Test set unless a column says otherwise; `train_` curves in results.csv are means of the steps up \
to theirs; seconds are of training, one thread each, two runs side by side; attempts of `sft` are \
proofs read.
"""


# --- reading
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


def variety(rollouts, first, last):
    """How many tactics and lemmas the proofs of some steps have, {metric: count}. Two theorems a
    step, one attempt at each: all that GRPO's log holds."""
    tactics = set()
    lemmas = set()

    for step in range(first, last + 1):
        attempts = {}  # the first at each theorem
        for row in rollouts:
            if row["step"] == step:
                attempts.setdefault(row["name"], row)

        for row in list(attempts.values())[:2]:
            if row["status"] == "proved":
                tactics |= tactics_of(row["text"])
                lemmas |= set(re.findall(r"\b[A-Z]\w*\.\w+", row["text"]))
    return {"train_tactics": len(tactics), "train_lemmas": len(lemmas)}


def numbers(run, attempts, split):
    """Yields (step, metric, value): curves of about 30 points, each the mean of the steps up to it,
    and the end results on `split`. attempts 0: the run's last evaluation is the end result.
    """
    log = read_lines(run.folder / "log.jsonl")
    width = max(1, len(log) // 30)
    for start in range(0, len(log), width):
        part = log[start : start + width]
        for name in CURVES:
            if name in part[0]:
                value = fmean(row[name] for row in part)
                yield part[-1]["step"], f"train_{name}", value

    rollouts = read_lines(run.folder / "rollouts.jsonl")
    if rollouts:
        for first in range(1, len(log) + 1, SPAN):
            last = min(first + SPAN - 1, len(log))
            for name, value in variety(rollouts, first, last).items():
                yield last, name, value

    valid = read_lines(run.folder / "valid.jsonl")
    for row in valid:
        for name in ("pass@1", "entropy", "length", "tactics"):
            yield row["step"], f"valid_{name}", row[name]

    end = valid[-1] if valid else {}
    if attempts:
        results = json.loads((run.folder / "eval.json").read_text())
        end = next(iter(results.values()))
    for name, value in end.items():
        if re.fullmatch(f"{END}|tactics", name):
            yield len(log), name if split == "test" else f"final_valid_{name}", value


def read(key, run, attempts, split):
    """The lines of results.csv of a run. key: (experiment, arm, seed)."""
    places = clocks(run)
    rows = []
    for number, metric, value in numbers(run, attempts, split):
        step, samples, seconds = places[number]
        value = float(f"{value:.6g}")
        rows.append(Row(*key, step, samples, round(seconds, 2), metric, value))
    return rows


# --- experiments/README.md
def results_table(rows):
    """Means over the seeds at the end, with the lowest and the highest."""
    arms = dict.fromkeys(row.arm for row in rows)
    columns = []  # arms shared with `main` have more: only what all arms have
    for metric in dict.fromkeys(row.metric for row in rows):
        if re.fullmatch(f"(final_valid_)?({END})", metric):
            if all(points(rows, arm, metric) for arm in arms):
                columns.append(metric)

    table = [["arm", *columns, "steps", "attempts", "seconds"]]
    for arm in arms:
        cells = [arm]
        for metric in columns:
            end = points(rows, arm, metric)[-1]
            spread = f" [{end.low:.3f}, {end.high:.3f}]" if end.low < end.high else ""
            cells.append(f"{end.mean:.3f}{spread}")

        last = max((row for row in rows if row.arm == arm), key=lambda row: row.step)
        table.append([*cells, str(last.step), str(last.samples), f"{last.seconds:.0f}"])

    lines = [f"| {' | '.join(cells)} |\n" for cells in table]
    lines.insert(1, "|---" * len(table[0]) + "|\n")
    return "".join(lines)


def best_rates(rows):
    """The line below the sweep's table."""
    ends = {row.arm: row.value for row in rows if row.metric == "final_valid_pass@1"}
    said = []
    for algo in ("fd", "grpo", "sft"):
        mine = [arm for arm in ends if arm.startswith(f"{algo}_")]
        best = max(mine, key=ends.get, default="none").removeprefix(f"{algo}_")
        said.append(f"{algo} {best} (the others use {FLAGS['rate']})")
    return f"\nBest: {', '.join(said)}.\n"


def section(name, experiment, rows, runs, quick):
    """What was asked, how it was run, the end results over the seeds and what was found.
    rows: of its finished runs; runs: {(experiment, arm, seed): Run}, all of them."""
    text = f"## {name}\n\n{experiment.question}.\n\n![{name}](figures/{name}.png)\n\n"
    text += results_table(rows)
    if name == "lr":
        text += best_rates(rows)

    finished = []
    missing = []
    for (_, arm, seed), run in runs.items():
        if run.state == "done":
            finished.append(run)
        else:
            missing.append(f"{arm} (seed {seed})")
    if missing:
        text += f"\nNot run yet: {', '.join(missing)}.\n"

    flag = " --quick" if quick else ""
    text += f"\n`python -m experiments.figures{flag} --only {name}`"
    trained = [shlex.join(run.train) for run in finished if run.train]
    if trained:
        text += f", whose runs are like `python train.py {trained[0]}`"

    marks = [json.loads(read_text(run.folder / "done")) for run in set(finished)]
    commits = ", ".join(sorted({mark["commit"] for mark in marks}))
    minutes = sum(mark["seconds"] for mark in marks) / 60
    text += f" · commit {commits} · {minutes:.0f} minutes of one-thread runs,"
    text += " those shared with other experiments included.\n"

    if not quick:
        text += f"\nOn the committed numbers: **{experiment.found}**\n"
    return text


def report(cfg, names):
    """results.csv, pictures and README.md of what is finished of `names`; what they hold of other
    experiments stays. -> the folder"""
    out = Path(cfg.results)
    out.mkdir(parents=True, exist_ok=True)
    seeds = "three seeds, mean [lowest, highest]; bands are the same"
    if cfg.quick:
        seeds = "one seed and few steps (QUICK): a look, no evidence"
    text = HEAD.format(seeds=seeds)
    lines = [",".join(Row._fields)]

    old_lines = read_text(out / "results.csv").splitlines()
    old_text = read_text(out / "README.md")
    found = re.findall(r"^(## (\w+)\n.*?\n)(?=\n## |\Z)", old_text, re.M | re.S)
    sections = {name: its_text for its_text, name in found}

    for name, experiment in experiments(cfg.quick).items():
        runs = make_runs([name], cfg) if name in names else {}
        rows = []
        for key, run in runs.items():
            if run.state == "done":
                rows += read(key, run, experiment.samples, experiment.split)

        if rows:
            picture(rows, out / "figures" / f"{name}.png")
            sections[name] = section(name, experiment, rows, runs, cfg.quick)
            lines += [",".join(map(str, row)) for row in rows]
        else:
            lines += [line for line in old_lines if line.startswith(f"{name},")]
        if name in sections:
            text += f"\n{sections[name]}"

    replace_text(out / "results.csv", "\n".join(lines) + "\n")
    replace_text(out / "README.md", text)
    return out
