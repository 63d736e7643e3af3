"""A grid of train.py's flags, run and compared: your flags, your data, your change of the code.

    python -m experiments.sweep --vary tail=drop,bucket --vary seed=0,1,2 -- --steps 40
    python -m experiments.sweep --vary code=main,. --vary seed=0,1,2 -- --steps 40

The second compares the code of a branch, a tag or a commit with what is in this folder (`.`). What
stands behind `--` goes to every run. Each combination is an arm, and the first is what the others
are compared with. OUT gets table.md, curves.png, results.csv and runs.csv.

A run lies in OUT/ARM_sSEED, what it printed in ARM_sSEED.txt beside it. A finished run counts for
the flags, the code and the data that it was made with; anything else is run again. What was broken
off goes on.
"""

import ast
import csv
import hashlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import tyro

from extras.flags import at_least_one
from extras.runs import read_lines
from extras.stops import in_one_line

ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# What a result depends on, beside flags.
CODE = "train.py eval.py fd_mini.py feedback.py lean_env.py lean extras toy data"
COUNTED = (".py", ".json", ".jsonl", ".safetensors")
# The tiny prover's, with one thread and another run beside: for the estimate of how long it takes.
SECONDS = {"fd": 1.7, "grpo": 2.5, "sft": 0.5}
PARSING = threading.Lock()  # in Python 3.11 two threads at once break each other's parse
children: set[subprocess.Popen] = set()


@dataclass(frozen=True)
class Run:
    """One folder: what is run, with which flags, and what must be finished before."""

    folder: Path
    train: tuple  # a script and its flags; empty: the base as it is
    # (name, a script and its flags) at the end; empty: its last validation counts. The numbers of
    # a test with a name are NAME_pass@1, ...
    tests: tuple = ()
    after: "Run | None" = None  # the run that it starts from
    code: str = "."  # folder of the scripts
    pace: float = 1  # how many times the tiny prover's seconds a step takes

    @property
    def key(self):
        """All that decides the result: the text in `done`."""
        words = [*self.train]
        for name, test in self.tests:
            words += ["|", name, *test]
        files = [digest(path) for word in words for path in self.read(Path(word))]
        key = " ".join([shlex.join(words), code_digest(self.code), *files])
        return f"{key} after {self.after.key}" if self.after else key

    def read(self, path):
        """The files that a word of a command stands for: data, or the weights in a folder. What
        the run before this one leaves is not among them: its key says more."""
        if self.after and path == self.after.folder:
            return []
        if path.is_file():
            return [path]
        # Of a model, and of a run.
        return sorted([*path.glob("*.safetensors"), *path.glob("ckpt/*/*.safetensors")])

    @property
    def state(self):
        """done; broken off (the same run, and a checkpoint to go on from); new."""
        done = self.folder / "done"
        if done.is_file() and json.loads(done.read_text())["key"] == self.key:
            return "done"
        begun = Path(f"{self.folder}.key")
        same = begun.is_file() and begun.read_text() == self.key
        is_saved = any(self.folder.glob("ckpt*/state.pt"))
        return "broken off" if same and is_saved and not done.exists() else "new"

    @property
    def cost(self):
        """Seconds, roughly."""
        given = dict(zip(self.train, self.train[1:]))
        steps = int(given.get("--steps", 60)) if self.train else 0
        seconds = 15 + self.pace * steps * SECONDS[given.get("--algo", "fd")]
        every = int(given.get("--eval-every", 10))
        attempts = 128 * (1 + steps // every) if self.train and every else 0
        for _, test in self.tests:
            attempts += 256 * int(dict(zip(test, test[1:])).get("--samples", 4))
        return seconds + attempts / 70


def digest(path):
    """Of a file; comments and layout of a script do not count."""
    data = path.read_bytes()
    if path.suffix == ".py":
        with PARSING:
            data = ast.dump(ast.parse(data)).encode()
    return hashlib.sha256(data).hexdigest()[:12]


@cache
def code_digest(folder):
    """Of what a result depends on."""
    listed = git("ls-files", "-co", "--exclude-standard", *CODE.split(), at=folder)
    files = [Path(folder, name) for name in listed.split("\n") if name.endswith(COUNTED)]
    total = " ".join(map(digest, files))
    return hashlib.sha256(total.encode()).hexdigest()[:12]


def git(*words, at="."):
    done = subprocess.run(["git", "-C", at, *words], capture_output=True, text=True)
    return done.stdout.strip()


def commit(code="."):
    """Short hash of the checkout, with + where the scripts differ from it."""
    changed = git("--no-optional-locks", "status", "--porcelain", "--", *CODE.split(), at=code)
    return git("rev-parse", "--short", "HEAD", at=code) + ("+" if changed else "")


# --- running
def call(words, log, code="."):
    """Run a script with its flags in a process of its own, with one thread.
    RuntimeError, with the last line of its log, when it fails."""
    script, *flags = words
    module = script.removesuffix(".py").replace("/", ".")
    with log.open("a") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *flags],
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches it once, from us
            env=os.environ | ALONE,
            cwd=code,
        )
    children.add(child)
    ended = child.wait()
    children.discard(child)
    if ended:
        raise RuntimeError(f"{script} ended with {ended}, see {log}: {last_words(log.read_text())}")


def last_words(printed):
    """The last line; where tyro says what is wrong with a flag, what stands before its last."""
    lines = [line.strip("│╭╮╰╯─ ") for line in printed.splitlines()]
    lines = [line for line in lines if any(map(str.isalnum, line))] or [""]
    if lines[-1].startswith("For full helptext"):
        lines = [" ".join(lines[-3:-1])]
    return lines[-1][:300]


def execute(run):
    """Train, test, mark as done; or go on where it was broken off. -> what was done"""
    state, folder = run.state, run.folder.absolute()
    if state == "done":
        return "finished before"
    if run.after and run.after.state != "done":
        raise RuntimeError(f"{run.after.folder}, from which it starts, is not finished")

    clock = time.perf_counter()
    key = Path(f"{folder}.key")  # stands beside what was made here
    if state == "new":
        if folder.exists() and not key.exists():
            raise RuntimeError(f"{folder} was not made here: move it away, or give another --out")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.rmdir()
        key.write_text(run.key)

    before = sum(row["seconds"] for row in read_lines(folder / "log.jsonl"))
    log = Path(f"{folder}.txt")
    if run.train:
        resume = ["--resume"] if state == "broken off" else []
        call([*run.train, "--out", str(folder), *resume], log, run.code)
    for name, test in run.tests:
        prover = [str(folder)] if run.train else []
        call([*test, *prover, "--out", str(folder / name)], log, run.code)

    seconds = before + time.perf_counter() - clock
    done = {"key": run.key, "commit": commit(run.code), "seconds": seconds}
    (folder / "done.new").write_text(json.dumps(done))
    (folder / "done.new").rename(folder / "done")
    return f"{'resumed' if state == 'broken off' else 'run'}, {seconds:.0f} s"


@contextmanager
def side_by_side(jobs):
    """A pool of `jobs` threads for what `call` does. Ctrl-C stops all of it, a run after its step.
    """
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(children):
                child.terminate()  # train.py ends its step and saves
            sys.exit("stopped; the same command goes on from here")


def execute_all(runs, jobs):
    """Every run, `jobs` side by side; a failure does not stop the others. -> the failures.
    In `runs` what others start from comes before them."""
    runs = list(dict.fromkeys(runs))  # what comes twice would wait for itself
    rest = {run: run.cost for run in runs if run.state != "done"}
    minutes = sum(rest.values()) / jobs / 60
    print(
        f"{len(runs)} runs, {len(runs) - len(rest)} of them finished; the rest would take the "
        f"tiny prover about {minutes:.0f} minutes",
        flush=True,
    )
    futures, failures = {}, []
    began, past = time.perf_counter(), 0

    def work(run):
        if run.after in futures:
            # It was taken from the queue before this one: no deadlock.
            futures[run.after].exception()
        return execute(run)

    with side_by_side(jobs) as pool:
        for run in runs:
            futures[run] = pool.submit(work, run)
        for number, run in enumerate(runs, 1):
            try:
                said = futures[run].result()
            except (RuntimeError, OSError) as error:
                said = f"FAILED: {error}"
                failures.append(f"{run.folder}: {error}")
            past += rest.pop(run, 0)
            if past and rest:  # as this machine has been so far
                pace = (time.perf_counter() - began) / past
                said += f"; about {pace * sum(rest.values()) / 60:.0f} minutes left"
            print(f"[{number}/{len(runs)}] {run.folder}: {said}", flush=True)
    return failures


# --- the grid
@dataclass
class Config:
    """A grid of train.py's flags; what stands behind -- goes to every run."""

    # FLAG=VALUE,VALUE: a flag of train.py (seed, too), or code=REVISION,. for other code; a value
    # with a comma in double quotes; True, False: of a switch, --tools and --no-tools
    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    # attempts at each held-out theorem at the end of a run; 0: its last validation counts
    samples: int = 4
    # which theorems these are, as of eval.py
    data: str = "toy"
    split: str = "test"
    # runs side by side, one thread each
    jobs: int = 2
    # folder of the runs, table.md, curves.png, results.csv and runs.csv
    out: Path = Path("out/sweep")


def combinations(cfg, flags):
    """{(arm, seed): Run} of every combination. ValueError for a --vary that cannot be read."""
    names, choices = [], []
    for text in cfg.vary:
        name, _, values = text.partition("=")
        if not (name and values):
            raise ValueError(f"--vary {text}: write FLAG=VALUE,VALUE, such as tail=drop,bucket")
        names.append(name.removeprefix("--").replace("_", "-"))
        choices += csv.reader([values])

    runs = {}
    for values in itertools.product(*choices):
        given = dict(zip(names, values))
        seed = given.pop("seed", "0")
        if not seed.isdecimal():
            raise ValueError(f"--vary seed={seed}: a seed is a number from 0")
        arm = "_".join(f"{name}={value}" for name, value in given.items()) or "as it is"
        code = checkout(given.pop("code", "."), cfg.out)
        more = [word for name, value in given.items() for word in flag_words(name, value)]
        folder = cfg.out / f"{arm.replace('/', '-')}_s{seed}"
        find = str if code == "." else from_anywhere
        train = ("train.py", *map(find, [*flags, *more]), "--seed", seed)
        if not cfg.samples and "--eval-every 0" in " ".join(train).replace("=", " "):
            raise ValueError(
                "with --samples 0 a run's last validation counts, and with --eval-every 0 there "
                "is none: leave one of them out"
            )
        test = {"data": find(cfg.data), "split": cfg.split, "samples": cfg.samples, "seed": seed}
        words = [str(word) for name, value in test.items() for word in (f"--{name}", value)]
        tests = (("", ("eval.py", *words)),) if cfg.samples else ()
        runs[arm, int(seed)] = Run(folder, train, tests, code=code)
    return runs


def flag_words(name, value):
    switch = {"True": f"--{name}", "False": f"--no-{name}"}
    return [switch[value]] if value in switch else [f"--{name}", value]


def from_anywhere(word):
    """The same file or folder (one with a / in it: `toy` is a name) for a script that runs in
    another folder."""
    flag, equals, value = word.rpartition("=")
    path = Path(value)
    if path.is_file() or ("/" in value and path.exists()):
        return f"{flag}{equals}{path.absolute()}"
    return word


def checkout(revision, out):
    """A folder with the code of a revision; `.` is this one. ValueError where git knows none."""
    if revision == ".":
        return "."
    name = git("rev-parse", "--verify", "--short", f"{revision}^{{commit}}")
    if not name:
        raise ValueError(f"--vary code={revision}: git knows no such branch, tag or commit")
    folder = (out / "code" / name).absolute()
    if not folder.exists():
        git("worktree", "add", "--detach", str(folder), name)
    return str(folder)


def main():
    from experiments import pictures, results  # they are slow to load

    words = [*sys.argv[1:], "--"]
    end = words.index("--")
    cfg = tyro.cli(Config, description=__doc__, args=words[:end])
    at_least_one(jobs=cfg.jobs)
    runs = combinations(cfg, words[end + 1 : -1])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failures = execute_all(list(runs.values()), cfg.jobs)

    results.collect(cfg.out, "sweep", runs, cfg.split if cfg.samples else "valid")
    rows, marks = results.load(cfg.out)
    table = results.table(rows, marks, next(iter(runs))[0])
    print(table)
    (cfg.out / "table.md").write_text(table)
    pictures.draw(rows, PANELS, cfg.out / "curves.png")
    print(f"{cfg.out}: table.md, curves.png, results.csv, runs.csv", *failures, sep="\n")
    sys.exit(1 if failures else 0)


PANELS = ["valid_pass@1 step", "train_pass step", "train_entropy step", "train_length step"]

if __name__ == "__main__":
    with in_one_line("sweep.py"):
        main()
