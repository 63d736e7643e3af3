"""A picture of an experiment, from its lines of results.csv alone.

A panel is written "Y X", or "Y X log" for a logarithmic Y. X is

- a clock (step, samples, seconds): the curve of Y, a mean over seeds with its 95 % band where there
  are three, both of logarithms on a logarithmic axis. The panels below have bars.
- `rate`: the end of Y over the number that arms end in, fd_1e-3, a line for each beginning.
- `base_WORD`: the end of arms whose names end in WORD, over p_reference of the base that each
  starts from, base_REST of fd_REST. A white dot in a point says one seed.
- another number of the end: a point an arm, with the steps in its name where a curve has two.
  pass@1>0.5 leaves out what is not above 0.5.

Colours are colour-blind safe, and marks tell arms apart without them. Where curves lie on each
other, those above are thinner.
"""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatterSciNotation

from experiments.results import DIALS, over_seeds

TITLES = {
    "valid_pass@1": "pass@1, validation",
    "train_pass": "pass@1, training",
    "train_entropy": "entropy, training (nats a token)",
    "valid_entropy": "entropy, validation (nats a token)",
    "train_length": "length (tokens)",
    "train_kl": "KL(teacher ‖ student), nats",
    "train_outside": "teacher's probability outside its top K",
    "train_grad_norm": "norm of the gradient",
    "train_called": "share of attempts that call a tool",
    "step": "optimiser step",
    "samples": "attempts (sft: proofs read)",
    "seconds": "seconds of training",
    "rate": "learning rate",
    "final_valid_pass@1": "pass@1, validation, at the end",
    "final_valid_entropy": "entropy, validation, at the end",
    "base_one": "the base's probability of a reference proof: one word",
    "base_two": "the base's probability of a reference proof: two words",
    "told_pass@1": "pass@1 with feedback, of what is not trained",
    "attempts_to_half": "attempts to half of the last pass@1",
    "measure_kl_base": "KL from the base (nats a token)",
}
# These have their look in every picture, under other names, too. The rest takes what is left.
FIRST = """base sft fd grpo grpo_over_fd expert grpo_over_sft fd_truth fd_reverse fd_bare
    bucket""".split()
PLACES = {arm: place for place, arm in enumerate(FIRST)}
# Those by number have a colour that is free in their picture.
PLACES |= {"lr_3e-4": 11, "frozen": 12, "lean": 14, "k5_drop": 15, "k5_bucket": 16}
PLACES |= {"no_momentum": 17, "alpha_0.95": 18, "alpha_0.97": 19, "alpha_0.99": 20}
PLACES |= {"be_concise": 23, "grpo_over_fd_bare": 29, "grpo_long": 41, "stem_bare": 52}
PLACES |= {"self_4": 27, "self_1": 28, "self_2": 30, "self_3": 31, "sft_1e-2": 39}
SAME = {"truth": "fd_truth", "reverse": "fd_reverse", "1": "frozen", "bucket_25": "bucket"}
SAME |= {"drop_5": "k5_drop", "bucket_5": "k5_bucket", "self": "self_4", "sft_1e-3": "sft"}
SAME |= dict.fromkeys("tutor 0.9 style_4 drop_25 no_tools".split(), "fd")
COLOURS = """#7F7F7F #009E73 #0072B2 #D55E00 #CC79A7 #E69F00 #000000 #56B4E9 #8B4513 #5E3C99
    #9BBB1F""".split()
MARKS = "o s D ^ v P X * p < > h".split()


def look(arms):
    """What seaborn needs to draw each arm: {"palette": ..., "markers": ...}

    Place n has colour n of 11 and mark n of 12: no two of 132 places have both in common."""
    names = {arm: SAME.get(arm, arm) for arm in arms}
    places = {arm: PLACES[name] for arm, name in names.items() if name in PLACES}
    others = [arm for arm in names if arm not in places]
    free = range(max(PLACES.values()) + 1, 132)
    taken = {place % len(COLOURS) for place in places.values()}
    unseen = [place for place in free if place % len(COLOURS) not in taken]
    places |= dict(zip(others, itertools.cycle(unseen or free)))
    colours = {arm: COLOURS[places[arm] % len(COLOURS)] for arm in names}
    marks = {arm: MARKS[places[arm] % len(MARKS)] for arm in names}
    return {"palette": colours, "markers": marks}


def curve(rows, metric, clock):
    """Seeds have their own seconds: a point stands at the mean of them. An arm that is another with
    a number behind it (fd_20, grpo_over_fd_40) is left out: too many curves hide each other."""
    stems = rows.arm.str.replace(r"_\d+$", "", regex=True)
    variants = (stems != rows.arm) & stems.isin(rows.arm)
    data = lines_of(rows[~variants], metric).copy()
    data[clock] = data.groupby(["arm", "step"])[clock].transform("mean")
    return data


def over_rate(rows, metric, _):
    data = ends(rows, metric)
    data[["arm", "rate"]] = data.arm.str.rsplit("_", n=1, expand=True)
    data["rate"] = data.rate.astype(float)
    return data


def over_base(rows, metric, x):
    """Where some seeds of an arm have no such number, it has no point. Arms stand a little beside
    each other: at one place they would hide each other."""
    word = x.removeprefix("base_")
    data = ends(rows, metric)
    seeds = rows.groupby("arm").seed.nunique()
    complete = data.groupby("arm").seed.transform("size") == data.arm.map(seeds)
    wanted = data.arm.str.endswith(word) & ~data.arm.str.startswith("stem")
    data = data[complete & wanted].copy()
    split = data.arm.str.extract(DIALS)
    chances = ends(rows, "base_p_reference").groupby("arm").value.mean()
    data[x] = ("base_" + split[1]).map(chances)
    data["arm"] = split[0]
    places = data.arm.map({arm: place for place, arm in enumerate(data.arm.unique())})
    data[x] *= 1.05 ** (places - places.mean())
    return data


def over_end(rows, metric, x):
    """One number of the end over another, which is a mean over seeds; a line for arms that differ
    in their last word."""
    other, _, least = x.partition(">")
    both = ends(rows, metric)
    both = both.merge(ends(rows, other), on=["arm", "seed"])
    both = both.rename(columns={"value_x": "value", "value_y": x})
    both[x] = both.groupby("arm")[x].transform("mean")
    both["steps"] = both.arm.str.extract(r"_(\d+)$")
    both["arm"] = both.arm.str.replace(r"_\d+$", "", regex=True)
    return both[both[x] > float(least or -1)]


def lines_of(rows, metric):
    """Those of one number; train_outside is what is left of train_teacher_mass."""
    if metric == "train_outside":
        its = rows[rows.metric == "train_teacher_mass"]
        return its.assign(value=1 - its.value)
    return rows[rows.metric == metric]


def ends(rows, metric):
    its = lines_of(rows, metric)
    last = its.groupby(["arm", "seed"], sort=False).value.last()
    return last.reset_index()


def band(values):
    """(low, high) of a curve: of two seeds Student's t would hide all else."""
    if len(values) > 2:
        return over_seeds(values)
    return values.mean(), values.mean()


def in_logarithms(statistic, values):
    """For a logarithmic axis, on which a mean and its band would not fit together."""
    return np.exp(statistic(np.log(values)))


def estimates(x, scale):
    """What seaborn makes of the seeds' values: a mean, and a band or bars."""
    how = {"errorbar": band, "err_style": "bars"}
    if x in CLOCKS:
        how |= {"err_style": "band", "err_kws": {"alpha": 0.1}}
    if scale == "log":
        how["estimator"] = partial(in_logarithms, np.mean)
        how["errorbar"] = partial(in_logarithms, band)
    return how


def thin_out(lines, palette):
    """Makes the lines thinner, and their marks smaller, in the order in which they were drawn."""
    places = {colour: place / len(palette) for place, colour in enumerate(palette.values())}
    for line in lines:
        below = 1 - places[line.get_color()]
        is_point = len(line.get_xdata()) == 1
        line.set(linewidth=1 + 2.5 * below, markersize=10 if is_point else 5 + 4 * below)


def arrange(axis, metric, x, scale):
    """Titles, and where the axes end."""
    label = x.partition(">")[0]
    axis.set(xlabel=TITLES.get(label, label), ylabel="", title=TITLES.get(metric, metric))
    axis.margins(x=0.02 if x in CLOCKS else 0.09)
    if x == "rate" or x.startswith("base_"):
        axis.set_xscale("log")
    axis.set_yscale(scale)
    if scale == "log":  # numbers at its small ticks, too, where there are few large ones
        axis.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2, 0.5)))
    if "pass" in metric:  # a band may reach above 1, and below 0
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -0.01), min(high, 1.002))


CLOCKS = dict.fromkeys(("step", "samples", "seconds"), curve)
KINDS = CLOCKS | {"rate": over_rate, "base_one": over_base, "base_two": over_base}


def with_numbers(rows, panels):
    """[(metric, what it is drawn over, "log" or "linear", data)] of the panels that have any."""
    found = []
    for panel in panels:
        metric, x, scale = [*panel.split(), "linear"][:3]
        data = KINDS.get(x, over_end)(rows, metric, x)
        if scale == "log":
            data = data[data.value > 0]
        if len(data):
            found.append((metric, x, scale, data))
    return found


def write_steps(axis, data, x):
    """The number of steps beside each point of a curve that has several, where there is room."""
    several = data[data.groupby("arm").steps.transform("nunique") > 1]
    points = several.groupby(["arm", "steps"], sort=False)[[x, "value"]].mean()
    halo = withStroke(linewidth=2, foreground="white")
    taken = []  # where labels stand, in pixels
    for (_, steps), point in points.iterrows():
        across, up = axis.transData.transform(point)
        if all(abs(across - a) > 25 or abs(up - b) > 12 for a, b in taken):
            taken.append((across, up))
            place = {"xytext": (4, 4), "textcoords": "offset points", "zorder": 5}
            axis.annotate(steps, point, **place, fontsize=8, path_effects=[halo])


def mark_single(axis, data, x):
    """A white dot in a point that is of one seed."""
    single = data[data.groupby(["arm", x]).seed.transform("nunique") == 1]
    axis.scatter(single[x], single.value, s=6, color="white", zorder=5)


def draw(rows, panels, path):
    """rows: of one experiment, a frame with the columns of results.csv. A panel without numbers is
    left out; where all are, there is no picture."""
    shown = with_numbers(rows, panels)
    if not shown:
        return
    with rc_context({"font.size": 12, "axes.grid": True, "grid.alpha": 0.3}):
        across = 2 if len(shown) == 4 else min(len(shown), 3)
        down = -(-len(shown) // across)
        figure = Figure(figsize=(5.5 * across + 2, 4.5 * down), layout="constrained")
        handles = {}
        axes = figure.subplots(down, across, squeeze=False).flat
        for axis in axes[len(shown) :]:
            axis.remove()
        looks = look(dict.fromkeys(pd.concat(data for *_, data in shown).arm))
        for axis, (metric, x, scale, data) in zip(axes, shown):
            sns.lineplot(
                data,
                x=x,
                y="value",
                hue="arm",
                style="arm",
                dashes=False,
                ax=axis,
                **looks,
                **estimates(x, scale),
            )
            thin_out(axis.lines, looks["palette"])
            arrange(axis, metric, x, scale)
            if "steps" in data:
                write_steps(axis, data, x)
            if x.startswith("base_"):
                mark_single(axis, data, x)
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels())))
            axis.get_legend().remove()
        figure.legend(handles.values(), handles.keys(), loc="outside right upper")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
