"""The pictures of figures.py, each from its experiment's lines of results.csv alone: colour-blind
safe, and told apart without colour."""

import re
from collections import defaultdict
from statistics import fmean
from typing import NamedTuple

from matplotlib import cycler, rc_context
from matplotlib.figure import Figure

TITLES = {
    "valid_pass@1": "pass@1, validation",
    "train_pass": "pass@1, training",
    "train_entropy": "entropy (nats per token)",
    "train_length": "length (tokens)",
    "train_kl": "KL(teacher ‖ student), nats",
    "train_teacher_mass": "teacher's mass on its top K",
    "train_called": "share of attempts that call a tool",
}
# What the plain pictures show; those that are not named here, the first three.
USUAL = ["valid_pass@1", "train_pass", "train_entropy"]
PANELS = {
    "constant": ["train_length", "train_kl", "train_entropy", "valid_pass@1"],
    "tail": ["valid_pass@1", "train_entropy", "train_teacher_mass"],
    "tools": [*USUAL, "train_called"],
    "beyond": [*USUAL, "train_length"],
}
AXES = {
    "step": "optimiser step",
    "samples": "attempts sampled (sft: proofs read)",
    "seconds": "seconds of training",
}

COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #000000 #E69F00 #56B4E9 #7F7F7F".split()
LINES = ["-", "--", "-.", ":"] * 2
STYLES = list(cycler(color=COLOURS, linestyle=LINES, marker=list("osD^vPX*")))


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


class Point(NamedTuple):
    """A metric of one arm at one step, over the seeds."""

    step: int
    samples: float
    seconds: float
    mean: float
    low: float
    high: float


def points(rows, arm, metric):
    """The curve of an arm, by step."""
    by_step = defaultdict(list)
    for row in rows:
        if row.arm == arm and row.metric == metric:
            by_step[row.step].append(row)

    curve = []
    for step, seeds in sorted(by_step.items()):
        columns = Row(*zip(*seeds))
        values = columns.value
        clocks = (fmean(columns.samples), fmean(columns.seconds))
        curve.append(Point(step, *clocks, fmean(values), min(values), max(values)))
    return curve


def style(i):
    """Of the i-th arm."""
    return STYLES[i % len(STYLES)]


def draw(axis, rows, arms, metric, x="step", **look):
    """Mean and band (lowest to highest seed) of `metric`; x: step, samples or seconds."""
    for i, arm in enumerate(arms):
        curve = points(rows, arm, metric)
        if curve:
            xs = [getattr(point, x) for point in curve]
            every = max(1, len(xs) // 8)
            usual = {"label": arm, "markevery": every, "markersize": 7, "linewidth": 2}
            draw_band(axis, xs, curve, i, usual | look)


def draw_band(axis, xs, curve, i, look):
    """A curve in the style of the i-th arm."""
    columns = Point(*zip(*curve))
    axis.plot(xs, columns.mean, **style(i), **look)
    colour = style(i)["color"]
    axis.fill_between(
        xs, columns.low, columns.high, color=colour, alpha=0.15, linewidth=0
    )


# --- the pictures: they draw on a figure and return the axes that get a legend
def picture_lr(figure, rows, arms):
    """The end of every run of the sweep, over its learning rate."""
    figure.set_size_inches(13, 5)
    axes = figure.subplots(1, 2)
    titles = {
        "final_valid_pass@1": "pass@1, validation, at the end",
        "final_valid_entropy": "entropy (nats per token)",
    }

    for axis, (metric, title) in zip(axes, titles.items()):
        for i, algo in enumerate(("fd", "grpo", "sft")):
            rates = []
            ends = []
            for row in rows:  # there is one seed
                name, rate = row.arm.split("_")
                if name == algo and row.metric == metric:
                    rates.append(float(rate))
                    ends.append(row.value)
            axis.plot(rates, ends, label=algo, **style(i))
        axis.set(xscale="log", xlabel="learning rate", title=title, ylim=(0, None))
    return axes[:1]


def picture_main(figure, rows, arms):
    """pass@1 and entropy over steps, attempts and seconds; the test's results with a black edge."""
    figure.set_size_inches(17, 13)
    axes = figure.subplots(3, 3, sharey="row", sharex="col")
    # fd_10, fd_20 and fd_40 begin fd.
    arms = [arm for arm in arms if not re.fullmatch(r"fd_\d+|base", arm)]
    titles = {
        "valid_pass@1": "pass@1, validation (black edge: test)",
        "train_pass": "pass@1, training",
        "valid_entropy": "entropy, validation (black edge: test)",
    }

    for line, (metric, title) in zip(axes, titles.items()):
        line[0].set_ylabel(title, fontsize=12)
        for axis, x in zip(line, AXES):
            draw(axis, rows, arms, metric, x)
            if metric.startswith("valid_"):
                test = metric.removeprefix("valid_")
                edge = {"markersize": 14, "markeredgecolor": "black"}
                draw(axis, rows, arms, test, x, label="_", **edge)
            axis.set(ylim=(0, None))

    for axis, label in zip(axes[-1], AXES.values()):
        axis.set_xlabel(label)
    return axes[0, :1]


def picture_passk(figure, rows, arms):
    """pass@k of FD and GRPO where their pass@1 is nearest, pass@k of all arms, variety."""
    figure.set_size_inches(22, 5.5)
    axes = figure.subplots(1, 4)
    ends = defaultdict(dict)  # {arm: {k: Point}} on the test set
    for arm, metric in dict.fromkeys((row.arm, row.metric) for row in rows):
        if metric.startswith("pass@"):
            k = int(metric.removeprefix("pass@"))
            ends[arm][k] = points(rows, arm, metric)[-1]

    draw_nearest(axes[0], ends)
    draw_ends(axes[1], ends)
    titles = {
        "train_lemmas": "distinct lemmas in the proofs of\n20 training attempts (10 steps)",
        "valid_tactics": "distinct tactics in the proofs of\n128 validation attempts",
    }
    for axis, (metric, title) in zip(axes[2:], titles.items()):
        draw(axis, rows, ["fd", "grpo", "grpo_over_fd"], metric)
        axis.set(xlabel="optimiser step", title=title, ylim=(0, None))
    return axes[:3]


def draw_nearest(axis, ends):
    """pass@k of GRPO and of the FD checkpoint with the nearest pass@1."""
    axis.set(xlabel="k", title="pass@k, test", ylim=(0, 1))
    rivals = [arm for arm in ends if re.fullmatch(r"fd(_\d+)?", arm)]
    if not rivals or "grpo" not in ends:
        return

    wanted = ends["grpo"][1].mean
    nearest = min(rivals, key=lambda arm: abs(ends[arm][1].mean - wanted))
    for i, arm in enumerate([nearest, "grpo"]):
        label = f"{arm}, pass@1 {ends[arm][1].mean:.3f}"
        ks = list(map(str, ends[arm]))
        draw_band(axis, ks, ends[arm].values(), i, {"label": label})


def draw_ends(axis, ends):
    """The last pass@k over pass@1 of every arm that learnt; the others lie far off."""
    best = max(end[1].mean for end in ends.values())
    k = max(max(end) for end in ends.values())
    learnt = [arm for arm in ends if ends[arm][1].mean > best / 2]

    for i, arm in enumerate(learnt):
        at = (ends[arm][1].mean, ends[arm][k].mean)
        fill = "none" if i >= len(STYLES) else "full"
        axis.plot(*at, markersize=10, fillstyle=fill, **style(i))
        axis.annotate(arm, at, xytext=(8, 4), textcoords="offset points", fontsize=11)

    axis.set(xlabel="pass@1, test", title=f"pass@{k}, test, of every arm that learnt")
    axis.margins(x=0.45, y=0.1)


def picture_plain(figure, rows, arms):
    """A panel for each metric, over steps."""
    panels = PANELS.get(rows[0].experiment, USUAL)
    figure.set_size_inches(6 * len(panels), 5.5)
    axes = figure.subplots(1, len(panels))

    for axis, metric in zip(axes, panels):
        draw(axis, rows, arms, metric)
        axis.set(xlabel="optimiser step", title=TITLES[metric])
        if metric != "train_teacher_mass":  # that one lies between 0.97 and 1
            axis.set_ylim(0, None)
    return axes[:1]


def picture(rows, path):
    """The picture of one experiment, from its lines of results.csv alone."""
    own = {"lr": picture_lr, "main": picture_main, "passk": picture_passk}
    draw_on = own.get(rows[0].experiment, picture_plain)
    arms = list(dict.fromkeys(row.arm for row in rows))

    look = {
        "font.size": 14,
        "legend.fontsize": 11,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    with rc_context(look):
        figure = Figure(layout="constrained")
        for axis in draw_on(figure, rows, arms):
            if axis.get_legend_handles_labels()[0]:
                axis.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
