"""What figures.py runs: the experiments of plan.toml, and the runs that they ask for."""

import json
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

PLAN = Path(__file__).with_name("plan.toml")

# Seconds with one thread, two runs side by side, on the machine this was written on: only for the
# estimate of how long it takes.
FD_STEP = 1.35
MORE = {  # than a step of FD
    "--algo grpo": 1.15,
    "--algo sft": -0.9,
    "--feedback self": 2.8,
    "beyond.py taught": 1.0,
    "--tools": 6.0,
}
START = 5.5
VALIDATION = 1.5
ATTEMPTS = 4.2  # at 256 theorems, one each


def read_text(path):
    """Empty where there is no file."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@dataclass
class Experiment:
    """A question, and the arms that answer it."""

    question: str
    arms: dict[str, str]  # name -> flags of train.py
    samples: (
        int  # attempts at each theorem at the end; 0: the run's last evaluation counts
    )
    split: str  # the theorems of these attempts
    found: str  # what came out, in words


def read_plan(quick):
    """plan.toml -> (what {name} in an arm stands for, the experiments as they stand there)."""
    table = tomllib.loads(read_text(PLAN))
    flags = table.pop("flags")
    quick_flags = table.pop("quick")

    if quick:
        flags |= quick_flags
    return flags, table


def expand(text, flags):
    while "{" in text:
        text = text.format_map(flags)
    return text


def experiments(quick):
    """The experiments by name, in their order in plan.toml."""
    flags, table = read_plan(quick)
    found = {}

    for name, entry in table.items():
        arms = entry["arms"]
        if "also" in entry:
            arms = table[entry["also"]]["arms"] | arms
        if quick and "quick" in entry:
            arms = {arm: arms[arm] for arm in entry["quick"]}

        for arm, folder in entry.get("needs", {}).items():
            if not Path(folder).is_dir():
                arms.pop(arm, None)

        samples = entry.get("samples", 2)
        split = entry.get("split", "test")
        if quick:
            samples = entry.get("quick_samples", 0)
            split = "test" if samples else "valid"

        found[name] = Experiment(
            question=entry["question"],
            arms={arm: expand(text, flags) for arm, text in arms.items()},
            samples=samples,
            split=split,
            found=" ".join(entry["found"].split()),
        )
    return found


@dataclass(frozen=True)
class Run:
    """One folder: what is run, with which flags, and what must be finished before."""

    folder: Path
    train: (
        tuple  # flags of train.py, or a script and its flags; empty: the base as it is
    )
    evaluate: tuple  # flags of eval.py; empty: no evaluation of its own
    after: "Run | None" = None  # the run that it starts from

    @property
    def flags(self):
        """All that decides the result: the text in `done`."""
        text = shlex.join((*self.train, "|", *self.evaluate))
        if self.after:
            text += f" after {self.after.flags}"
        return text

    def beside(self, ending):
        """The file of this run that lies beside its folder."""
        return self.folder.with_name(self.folder.name + ending)

    @property
    def state(self):
        """done; broken off (with these flags, and a checkpoint to go on from); new."""
        done = read_text(self.folder / "done")
        if done:
            return "done" if json.loads(done)["flags"] == self.flags else "new"

        same = read_text(self.beside(".flags")) == self.flags
        return (
            "broken off" if same and any(self.folder.glob("ckpt*/state.pt")) else "new"
        )


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
                run = Run(
                    Path(cfg.out) / name / f"{arm}_s{seed}", train, evaluate, after
                )
                same = (train or seed, after and after.flags)
                runs[name, arm, seed] = shared.setdefault(same, run)

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

    def number(flag, default):
        words = run.train + run.evaluate
        return int(words[words.index(flag) + 1]) if flag in words else default

    seconds = 0.0
    if run.evaluate:
        seconds += START + number("--samples", 0) * ATTEMPTS
    if run.train:
        text = " ".join(run.train)
        step = FD_STEP + sum(more for flag, more in MORE.items() if flag in text)
        steps = number("--steps", 60)
        validations = 1 + steps // (number("--eval-every", 10) or steps)
        seconds += START + steps * step + validations * VALIDATION
    return seconds


def estimate(runs, jobs):
    """Minutes that the unfinished of `runs` will take, roughly."""
    return sum(cost(run) for run in runs if run.state != "done") / jobs / 60
