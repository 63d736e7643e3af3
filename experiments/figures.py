"""The comparisons of the paper at toy scale and beyond it, from nothing: runs, results, README.md.

    make figures QUICK=1  # one seed, few steps, out/figures_quick: at most 20 minutes on 2 cores
    make figures          # all of it but const_real and some arms' further seeds; says how long
    python -m experiments.figures --all-seeds      # these seeds, too
    python -m experiments.figures --only ema tail  # these alone

What was finished is not run again, and what is committed of other runs stays. An experiment is an
entry of plan.toml: arms, each a few flags over train.py. Try it: change a line there and run it
again. experiments/sweep.py runs the runs, and is the tool for grids of your own.
"""

import itertools
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import bases, pictures, results
from experiments.plan import experiments, usual_runs
from experiments.sweep import PANELS, call, code_digest, digest, execute_all, side_by_side
from extras.flags import at_least_one
from extras.runs import replace_text
from extras.stops import in_one_line

HEAD = """\
# What was run, and what came out

Written by `python -m experiments.figures` from plan.toml, results.csv and runs.csv. Numbers are \
of the test theorems unless a heading says otherwise: means [95 % interval]. An interval of pass@k \
covers seeds and theorems (both drawn again); with a †, one seed, theorems alone; with a *, where \
it is not known which theorems were proved, seeds alone (Student's t), as intervals of other \
numbers and bands do, which one seed has not; curves of two have no band. How far any two arms are \
apart: `python -m experiments.results main fd grpo --k 8`. Entropy and KL are nats a \
token, lengths are tokens. A point of a \
validation curve is one attempt at each of 128 theorems (standard error 0.04); entropy in training \
is over the tokens learnt from. Unless a section says otherwise a run has 40 steps on the whole \
toy, of FD with 64 theorems a step, the tutor, alpha 0.9, K = 25 and `drop`; plan.toml has the \
flags. Attempts of `sft` are proofs read. Seconds are of training, one thread, other runs beside \
it, on several days: compare them within a section alone.

- The **tutor** is rules, not a language model (toy/tutor.py). It has the reference proof, and says \
what to write instead of outdated words, or what comes next. `truth` shows that proof itself, `lean` \
what Lean says, `self` what the prover says.
- **Words**: the base knows the mathematics and writes Lean 3; the current names are what it lacks.
- `expert`: imitation of the prover's own proved attempts. `grpo_over_fd`: GRPO that starts from FD. \
`stem`: what such a run starts from.
- `drop`, `bucket`: what becomes of the probability outside the teacher's top K. **alpha**: how much \
of itself the teacher keeps, 1 frozen, 0 a copy of the student.

"""
# Of an experiment, and what stands before them below the table.
TEXTS = {
    "question": None,
    "setting": None,
    "found": "",
    "details": "In detail: ",
    "mind": "What would change our mind: ",
}


@dataclass
class Config:
    """The experiments of the paper at toy scale, and others."""

    quick: bool = False  # one seed, few steps
    only: tuple[str, ...] = ()  # these experiments; empty: all
    all_seeds: bool = False  # also those of the arms that plan.toml lists as one_seed
    jobs: int = 2  # runs side by side, one thread each
    out: str = ""  # folder of the runs; empty: out/figures, or out/figures_quick


def paragraphs(text):
    """Without line breaks but those between paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def section(name, experiment, rows, runs):
    """Question, setting, picture, one table, answer, what would change it."""
    texts = {key: paragraphs(experiment.get(key, "")) for key in TEXTS}
    text = f"\n## {name}\n\n**{texts['question']}** {texts['setting']}\n\n"
    text += f"![{name}](figures/{name}.png)\n\n"
    arms = list(dict.fromkeys(arm for arm, _ in experiment["runs"]))
    against = experiment.get("against", arms[0])
    if "columns" in experiment:
        text += results.grid(rows, runs, experiment["columns"], against)
    else:
        text += results.table(rows, runs, against)
    for arm, reason in experiment.get("without", {}).items():
        text += f"| {arm} | {reason} |\n"
    for key, opening in TEXTS.items():
        if opening is not None and texts[key]:
            text += f"\n{opening}{texts[key]}\n"

    known = set(zip(rows.arm, rows.seed))
    missing = [arm for arm, seed in experiment["runs"] if (arm, seed) not in known]
    if "columns" in experiment:
        text += "\nWhere a cell is empty, nothing was run.\n"
    if missing:
        counts = [f"{arm} ({missing.count(arm)})" for arm in dict.fromkeys(missing)]
        text += f"\nNot run yet, in brackets how many seeds: {', '.join(counts)}.\n"
    minutes = runs.seconds.sum() / 60
    seeds = " --all-seeds" if "one_seed" in experiment else ""
    needs = f", after {experiment['needs']}" if "needs" in experiment else ""
    text += f"\n`python -m experiments.figures --only {name}{seeds}`{needs} · {len(runs)} runs, "
    return text + f"{minutes:.0f} minutes · commit {', '.join(sorted(set(runs.commit)))}\n"


def write(out, known, names, remark=""):
    """results.csv and runs.csv with what is finished of `names`; pictures and README.md of all.
    out: the folder of these."""
    for name in names:
        split = "valid" if known[name].get("valid") else "test"
        results.collect(out, name, known[name]["runs"], split)

    rows, runs = results.load(out)
    known = {name: entry for name, entry in known.items() if entry["runs"]}
    done = set(rows.experiment)
    text = HEAD + "".join(
        f"- [{name}](#{name}): {' '.join(experiment.get('question', '').split())}\n"
        for name, experiment in known.items()
        if name in done
    )
    text += remark
    for name, experiment in known.items():
        its_rows, its_runs = rows[rows.experiment == name], runs[runs.experiment == name]
        if len(its_rows):
            # In the order of the plan; arms that it no longer has come last.
            places = {arm: place for place, (arm, _) in enumerate(experiment["runs"])}
            its_rows = its_rows.sort_values(
                "arm", key=lambda names: names.map(places), kind="stable"
            )
            panels = experiment.get("panels", PANELS)
            pictures.draw(its_rows, panels, out / "figures" / f"{name}.png")
            text += section(name, experiment, its_rows, its_runs)
    replace_text(out / "README.md", text)


def make_bases(runs, jobs):
    """What lies in out/bases is made by its name, `jobs` side by side, but for what was made with
    this code already. RuntimeError where it fails."""
    words = set()
    for run in runs:
        words |= {*run.train, *itertools.chain(*dict(run.tests).values())}
    paths = [Path(word) for word in words if word.startswith("out/bases/")]
    key = f"{code_digest('.')} {digest(Path(bases.__file__))}"
    missing = sorted(path for path in paths if not is_made(path, key))
    missing.sort(key=bases.seconds_for, reverse=True)
    if not missing:
        return
    minutes = sum(map(bases.seconds_for, missing)) / jobs / 60
    names = ", ".join(path.name for path in missing)
    print(f"first, in about {minutes:.0f} minutes, out/bases gets {names}", flush=True)
    bases.OUT.mkdir(parents=True, exist_ok=True)
    with side_by_side(jobs) as pool:
        makings = [pool.submit(make_base, path, key) for path in missing]
        for making in makings:
            making.result()


def is_made(path, key):
    beside = Path(f"{path}.key")
    return path.exists() and beside.is_file() and beside.read_text() == key


def make_base(path, key):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    call(["experiments/bases.py", path.name], Path(f"{path}.txt"))
    Path(f"{path}.key").write_text(key)


def main(cfg):
    """Run what is not finished, then write the page. -> the failures"""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cfg.out = cfg.out or ("out/figures_quick" if cfg.quick else "out/figures")
    at_least_one(jobs=cfg.jobs)

    known = experiments(cfg.quick, cfg.out)
    usual = [name for name, entry in known.items() if "needs" not in entry]
    names = list(cfg.only or usual)
    unknown = set(names) - known.keys()
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: there is {', '.join(known)}")

    asked = [run for name in names for run in usual_runs(known[name], cfg.all_seeds)]
    more = sum(len(known[name]["runs"]) for name in names) - len(asked)
    if more:
        print(f"left out are {more} runs, further seeds of some arms: --all-seeds")
    # What others start from is first, and is run even where --only leaves it out.
    stems = [run.after for run in asked if run.after]
    runs = stems + asked
    make_bases([run for run in runs if run.state != "done"], cfg.jobs)
    failures = execute_all(runs, cfg.jobs)
    out, remark = Path("experiments"), ""
    if cfg.quick:
        out = Path(cfg.out)
        remark = "\nQUICK: one seed, and but for `main` 20 steps, whatever a setting says: a look, \
no evidence. What came out of all of them: experiments/README.md.\n"
        for entry in known.values():
            entry["found"] = ""
    write(out, known, names, remark)
    print(f"{out}/README.md, results.csv, runs.csv and figures/ written", *failures, sep="\n")
    return failures


if __name__ == "__main__":
    with in_one_line("figures.py"):
        sys.exit(1 if main(tyro.cli(Config, description=__doc__)) else 0)
