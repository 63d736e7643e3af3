"""What figures.py runs: the experiments of plan.toml, and the runs that they ask for."""

import itertools
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from experiments.sweep import Run

PLAN = tomllib.loads(Path(__file__).with_name("plan.toml").read_text(encoding="utf-8"))
FLAGS = PLAN.pop("flags")  # what {name} in an arm stands for
QUICK = PLAN.pop("quick")


def experiments(quick, out):
    """{name: entry of plan.toml}, and in each `runs`: {(arm, seed): Run}, with folders below `out`.
    Arms with the same flags and seed share a run, with the tests and in the folder of the first."""
    flags = FLAGS | QUICK if quick else FLAGS
    found, shared = {}, {}
    for name, entry in PLAN.items():
        runs = {}
        for arm, text, tests in arms_of(entry, flags, quick):
            often = matches(arm, entry.get("three_seeds", ["*"]))
            seeds = entry.get("seeds", [0, 1, 2])
            for seed in seeds if often and not quick else seeds[:1]:
                folder = Path(out, name, f"{arm}_s{seed}")
                run = make_run(folder, text, tests, seed, runs, entry.get("pace", 1))
                runs[arm, seed] = shared.setdefault(run.train or run.tests, run)
        found[name] = entry | {"runs": runs}
    return found


def usual_runs(entry, all_seeds):
    """The runs of an entry: of the arms in `one_seed` the first alone, unless all are wanted."""
    arms = [] if all_seeds else entry.get("one_seed", [])
    first = entry.get("seeds", [0])[0]
    return [
        run
        for (arm, seed), run in entry["runs"].items()
        if seed == first or not matches(arm, arms)
    ]


def arms_of(entry, flags, quick):
    """Yields (arm, flags of train.py, {name: flags of eval.py}) for every choice of `vary`."""
    tests = entry.get("tests", {"": "{test}"})
    if quick:
        tests = {"": tests[""]}
    vary = entry.get("vary", {})
    seen = set()  # an arm whose name does not vary comes once
    for name, text in entry["arms"].items():
        for choice in itertools.product(*vary.values()):
            known = flags | dict(zip(vary, choice))
            arm = expand(name, known)
            if arm in seen or (quick and arm not in entry.get("quick", [arm])):
                continue
            seen.add(arm)
            if matches(arm, entry.get("left_out", [])):
                continue
            ends = {end: expand(words, known) for end, words in tests.items()}
            yield arm, expand(text, known), ends


def matches(arm, patterns):
    return any(fnmatch(arm, pattern) for pattern in patterns)


def expand(text, flags):
    while "{" in text:
        text = text.format_map(flags)
    return text


def make_run(folder, text, tests, seed, runs, pace):
    """An arm that ends in @ARM starts from that arm's run; one that begins with `base` is no
    training, and its tests get the rest."""
    words = with_script("train.py", text)
    seeded = ["--seed", str(seed)]
    subject, after = [], None
    if words[1] == "base":
        words, subject = [], words[2:]
    elif words[-1].startswith("@"):
        after = runs[words[-1][1:], seed]
        words[-1] = str(after.folder)
    if words:
        words += seeded

    ends = []
    for name, test in tests.items():
        if name != "base" or subject:
            ends.append((name, (*with_script("eval.py", test), *subject, *seeded)))
    return Run(folder, tuple(words), tuple(ends), after, pace=pace)


def with_script(usual, text):
    """The words of a command: what does not begin with a script is for the usual one."""
    words = shlex.split(text)
    return words if words[0].endswith(".py") else [usual, *words]
