"""What figures.py runs: the experiments of plan.toml, and the runs that they ask for."""

import json
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

PLAN = tomllib.loads(Path(__file__).with_name("plan.toml").read_text(encoding="utf-8"))
FLAGS = PLAN.pop("flags")  # what {name} in an arm stands for
QUICK = PLAN.pop("quick")
SECONDS = PLAN.pop("seconds")


def read_text(path):
    """Empty where there is no file."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@dataclass
class Experiment:
    """A question, and the arms that answer it."""

    question: str
    arms: dict[str, str]  # name -> flags of train.py
    # Attempts at each theorem at the end; 0: the run's last evaluation counts.
    samples: int
    split: str  # the theorems of these attempts
    found: str  # what came out, in words


def expand(text, flags):
    while "{" in text:
        text = text.format_map(flags)
    return text


def experiments(quick):
    """The experiments by name, in their order in plan.toml."""
    flags = FLAGS | QUICK if quick else FLAGS
    found = {}

    for name, entry in PLAN.items():
        arms = entry["arms"]
        if "also" in entry:
            arms = PLAN[entry["also"]]["arms"] | arms
        kept = entry.get("quick", arms) if quick else arms
        needs = entry.get("needs", {})
        kept = [arm for arm in kept if Path(needs.get(arm, ".")).is_dir()]

        samples = entry.get("samples", 2)
        split = entry.get("split", "test")
        if quick:
            samples = entry.get("quick_samples", 0)
            split = "test" if samples else "valid"

        found[name] = Experiment(
            question=entry["question"],
            arms={arm: expand(arms[arm], flags) for arm in kept},
            samples=samples,
            split=split,
            found=" ".join(entry["found"].split()),
        )
    return found


@dataclass(frozen=True)
class Run:
    """One folder: what is run, with which flags, and what must be finished before."""

    folder: Path
    # Flags of train.py, or a script and its flags; empty: the base as it is.
    train: tuple
    evaluate: tuple  # flags of eval.py; empty: no evaluation of its own
    after: "Run | None" = None  # the run that it starts from

    @property
    def flags(self):
        """All that decides the result: the text in `done`."""
        text = shlex.join((*self.train, "|", *self.evaluate))
        if self.after:
            text += f" after {self.after.flags}"
        return text

    @property
    def state(self):
        """done; broken off (with these flags, and a checkpoint to go on from); new."""
        done = read_text(self.folder / "done")
        if done:
            return "done" if json.loads(done)["flags"] == self.flags else "new"

        same = read_text(Path(f"{self.folder}.flags")) == self.flags
        begun = same and any(self.folder.glob("ckpt*/state.pt"))
        return "broken off" if begun else "new"


def make_runs(names, cfg):
    """-> {(experiment, arm, seed): Run}. Arms with the same flags and seed get the same Run, in the
    folder of the first, whether that one's experiment is among `names` or not."""
    runs = {}
    shared = {}

    for name, experiment in experiments(cfg.quick).items():
        seeds = [0] if cfg.quick else [0, 1, 2]
        if name == "lr":
            seeds = [100]

        for arm, text in experiment.arms.items():
            for seed in seeds:
                words = shlex.split(text)
                after = None
                if words and words[-1].startswith("@"):
                    after = runs[name, words[-1][1:], seed]
                    words[-1] = str(after.folder)

                train = (*words, "--seed", str(seed)) if words else ()
                evaluate = evaluation(experiment, seed, cfg.data)
                folder = Path(cfg.out) / name / f"{arm}_s{seed}"
                run = Run(folder, train, evaluate, after)
                runs[name, arm, seed] = shared.setdefault(train or seed, run)

    return {key: run for key, run in runs.items() if key[0] in names}


def evaluation(experiment, seed, data):
    """Flags of eval.py for the end of a run; none where the run's last evaluation counts."""
    if not experiment.samples:
        return ()

    text = f"--split {experiment.split} --samples {experiment.samples} --seed {seed}"
    flags = tuple(text.split())
    return flags if data == "toy" else (*flags, "--data", data)


def cost(run):
    """Seconds that this run takes with one thread, roughly."""
    words = run.train + run.evaluate
    given = dict(zip(words, words[1:]))
    seconds = 0.0

    if run.evaluate:
        samples = int(given["--samples"])
        seconds += SECONDS["start"] + samples * SECONDS["attempts"]
    if run.train:
        text = shlex.join(run.train)
        more = [cost for flag, cost in SECONDS["more"].items() if flag in text]
        steps = int(given.get("--steps", 60))
        every = int(given.get("--eval-every", 10)) or steps
        seconds += SECONDS["start"] + steps * (SECONDS["step"] + sum(more))
        seconds += (1 + steps // every) * SECONDS["validation"]
    return seconds


def estimate(runs, jobs):
    """Minutes that the unfinished of `runs` will take, roughly."""
    return sum(cost(run) for run in runs if run.state != "done") / jobs / 60
