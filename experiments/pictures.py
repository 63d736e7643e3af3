"""The pictures of figures.py, each from its experiment's lines of results.csv alone: colour-blind safe, and told apart without colour."""
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

class Row(NamedTuple):
    """A line of results.csv. samples and seconds: attempts and seconds of training up to `step`."""
    experiment: str
    arm: str
    seed: int
    step: int
    samples: int
    seconds: float
    metric: str
    value: float

PANELS = {  # what the plain pictures show: metric -> title
    "sources": {"valid_pass@1": "pass@1, validation", "train_pass": "pass@1, training", "train_entropy": "entropy (nats per token)"},
    "constant": {"train_length": "length (tokens)", "train_kl": "KL(teacher ‖ student), nats", "train_entropy": "entropy (nats per token)",
                 "valid_pass@1": "pass@1, validation"},
    "tail": {"valid_pass@1": "pass@1, validation", "train_entropy": "entropy (nats per token)", "train_teacher_mass": "teacher's mass on its top K"},
}
PANELS |= {"ema": PANELS["sources"], "styles": PANELS["sources"], "proofs": PANELS["sources"]}
PANELS["tools"] = PANELS["sources"] | {"train_called": "share of attempts that call a tool"}
PANELS["beyond"] = PANELS["sources"] | {"train_length": "length (tokens)"}
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F"]
LINES, MARKERS = ["-", "--", "-.", ":"], "osD^vPX*"

def points(rows: list[Row], arm: str, metric: str) -> list[tuple]:
    """(step, samples, seconds, mean, lowest, highest value) over the seeds, by step."""
    at = defaultdict(list)
    for row in rows:
        if (row.arm, row.metric) == (arm, metric):
            at[row.step].append(row)
    mean = lambda xs: sum(xs) / len(xs)  # noqa: E731
    return [(step, mean([r.samples for r in g]), mean([r.seconds for r in g]), mean([r.value for r in g]),
             min(r.value for r in g), max(r.value for r in g)) for step, g in sorted(at.items())]

def draw(axis, rows, arms: list[str], metric: str, x: int = 0):
    """Mean and band (lowest to highest seed) of `metric`; x: 0 over steps, 1 samples, 2 seconds. One point is a big marker."""
    for i, arm in enumerate(arms):
        if p := points(rows, arm, metric):
            style = dict(color=COLOURS[i % 8], linestyle=LINES[i % 4], marker=MARKERS[i % 8])
            xs, mean, low, high = [q[x] for q in p], *([q[j] for q in p] for j in (3, 4, 5))
            axis.plot(xs, mean, **style, label=arm, markevery=max(1, len(xs) // 8), markersize=7, linewidth=2)
            axis.fill_between(xs, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axis.grid(alpha=0.3)

def picture_lr(plt, rows, arms):
    figure, axes = plt.subplots(1, 2, figsize=(13, 5))
    for axis, metric, title in zip(axes, ("final_valid_pass@1", "final_valid_entropy"), ("pass@1, validation, at the end", "entropy (nats per token)")):
        for i, algo in enumerate(("fd", "grpo", "sft")):
            p = [(float(arm.split("_")[1]), points(rows, arm, metric)) for arm in arms if arm.startswith(algo + "_")]
            axis.plot([lr for lr, q in p if q], [q[-1][3] for _, q in p if q], color=COLOURS[i], linestyle=LINES[i], marker=MARKERS[i], label=algo)
        axis.set(xscale="log", xlabel="learning rate", title=title, ylim=(0, None))
        axis.grid(alpha=0.3)
    return figure, axes

def picture_main(plt, rows, arms):
    arms = [arm for arm in arms if not re.fullmatch(r"fd_\d+|base", arm)]  # fd_20 is the beginning of fd
    figure, axes = plt.subplots(3, 3, figsize=(17, 13), sharey="row", sharex="col")
    titles = {"valid_pass@1": "pass@1, validation (black edge: test)", "train_pass": "pass@1, training", "valid_entropy": "entropy, validation (black edge: test)"}
    for metric, row in zip(titles, axes):
        for x, axis in enumerate(row):
            draw(axis, rows, arms, metric, x)
            for i, arm in enumerate(arms if metric.startswith("valid") else ()):
                for p in points(rows, arm, metric.removeprefix("valid_")):
                    axis.plot(p[x], p[3], MARKERS[i % 8], color=COLOURS[i % 8], markersize=14, markeredgecolor="black")
            axis.set(ylim=(0, None))
        row[0].set_ylabel(titles[metric], fontsize=12)
    for axis, name in zip(axes[-1], ("optimiser step", "attempts sampled (sft: proofs read)", "seconds of training")):
        axis.set_xlabel(name)
    return figure, axes.flat

def picture_passk(plt, rows, arms):
    end = lambda arm: {row.metric: points(rows, arm, row.metric)[-1] for row in rows if row.arm == arm and row.metric.startswith("pass@")}  # noqa: E731
    ends = {arm: e for arm in arms if (e := end(arm))}
    figure, axes = plt.subplots(1, 4, figsize=(22, 5.5))
    rivals = [a for a in ends if re.fullmatch(r"fd(_\d+)?", a)]
    near = min(rivals, key=lambda a: abs(ends[a]["pass@1"][3] - ends["grpo"]["pass@1"][3])) if rivals and "grpo" in ends else None
    for i, arm in enumerate([near, "grpo"] if near else []):
        ks = sorted(ends[arm], key=lambda name: int(name[5:]))
        axes[0].plot([name[5:] for name in ks], [ends[arm][name][3] for name in ks], color=COLOURS[i], linestyle=LINES[i], marker=MARKERS[i],
                     label=f"{arm}, pass@1 {ends[arm]['pass@1'][3]:.3f}")
        axes[0].fill_between(range(len(ks)), [ends[arm][n][4] for n in ks], [ends[arm][n][5] for n in ks], color=COLOURS[i], alpha=0.15)
    top = max((name for e in ends.values() for name in e), key=lambda name: int(name[5:]), default="pass@1")
    learnt = {arm: e for arm, e in ends.items() if e["pass@1"][3] > max(e["pass@1"][3] for e in ends.values()) / 2}  # the others lie far off
    for i, (arm, e) in enumerate(learnt.items()):
        axes[1].plot(e["pass@1"][3], e[top][3], MARKERS[i % 8], color=COLOURS[i % 8], markersize=10, fillstyle=("full", "none")[i // 8])
        axes[1].annotate(arm, (e["pass@1"][3], e[top][3]), xytext=(8, 4), textcoords="offset points", fontsize=11)
    axes[0].set(xlabel="k", title="pass@k, test", ylim=(0, 1))
    axes[1].set(xlabel="pass@1, test", title=f"{top}, test, of every arm that learnt")
    axes[1].margins(x=0.45, y=0.1)
    for axis, metric, title in zip(axes[2:], ("train_lemmas", "valid_tactics"),
                                   ("distinct lemmas in the proofs of\n20 training attempts (10 steps)", "distinct tactics in the proofs of\n128 validation attempts")):
        draw(axis, rows, ["fd", "grpo", "grpo_over_fd"], metric)
        axis.set(xlabel="optimiser step", title=title, ylim=(0, None))
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes

def picture_plain(plt, rows, arms):
    panels = PANELS[rows[0].experiment]
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 5.5))
    for axis, (metric, title) in zip(axes, panels.items()):
        draw(axis, rows, arms, metric)
        axis.set(xlabel="optimiser step", title=title)
        if metric != "train_teacher_mass":  # that one lies between 0.97 and 1
            axis.set_ylim(0, None)
    return figure, axes

def picture(rows: list[Row], path: Path):
    """The picture of one experiment, from its lines of results.csv alone."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({"font.size": 14, "legend.fontsize": 11, "figure.constrained_layout.use": True})
    make = {"lr": picture_lr, "main": picture_main, "passk": picture_passk}.get(rows[0].experiment, picture_plain)
    figure, axes = make(plt, rows, list(dict.fromkeys(row.arm for row in rows)))
    for axis in list(axes)[: 3 if make is picture_passk else 1]:
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
