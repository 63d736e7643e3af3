"""The comparisons of the paper at toy scale, from nothing: runs, results.csv, pictures, README.md.

    make figures QUICK=1  # one seed, few steps, out/figures_quick: at most 20 minutes on 2 cores
    make figures          # three seeds: at most 5 hours
    python -m experiments.figures --only ema tail  # these alone; what is committed of others stays

An experiment is an entry of plan.toml: arms, each a few flags over train.py (or over beyond.py,
which changes train.py). A run lies in out/figures/EXPERIMENT/ARM_sSEED and its log in ARM_sSEED.txt
beside it. What is finished (`done` holds its exact flags) is not run again, what was broken off is
resumed, what has other flags by now is run afresh, and two arms with the same flags share one run.
Try it: change a line of plan.toml and run it again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.plan import estimate, experiments, make_runs
from experiments.report import report
from extras.flags import at_least_one
from extras.runs import read_lines

ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
SCRIPTS = "train.py eval.py fd_mini.py feedback.py lean_env.py lean toy data".split()
children: set[subprocess.Popen] = set()


@dataclass
class Config:
    """The experiments of the paper at toy scale."""

    quick: bool = False  # one seed, few steps
    only: tuple[str, ...] = ()  # these experiments; empty: all
    jobs: int = 2  # runs side by side, one thread each
    out: str = ""  # folder of the runs; empty: out/figures, or out/figures_quick
    # of results.csv, README.md, figures/; empty: experiments, --quick: as --out
    results: str = ""
    data: str = "toy"  # theorems of the end results: the toy's, or a jsonl file


def call(words, log):
    """Run a script with its flags in a process of its own, with one thread.
    Errors: RuntimeError with the last line of its log."""
    script, *flags = words
    module = script.removesuffix(".py").replace("/", ".")

    with log.open("a") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *flags],
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches it once, from us
            env=os.environ | ALONE,
        )
    children.add(child)
    code = child.wait()
    children.discard(child)

    if code:
        said = log.read_text().splitlines() or [""]
        raise RuntimeError(f"{script} ended with {code}, see {log}: {said[-1][:300]}")


def execute(run):
    """Train, evaluate, mark as done; or go on where it was broken off. -> what was done"""
    state = run.state
    if state == "done":
        return "finished before"
    if run.after and run.after.state != "done":
        raise RuntimeError(f"{run.after.folder}, from which it starts, is not finished")

    clock = time.perf_counter()
    folder = run.folder
    flags = Path(f"{folder}.flags")  # stands beside what was made here
    if state == "new":
        if folder.exists() and not flags.exists():
            raise RuntimeError(f"{folder} was not made here: move it away, or give another --out")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        flags.write_text(run.flags)

    before = sum(row["seconds"] for row in read_lines(folder / "log.jsonl"))
    log = Path(f"{folder}.txt")
    out = ["--out", str(folder)]
    if run.train:
        script = [] if run.train[0].endswith(".py") else ["train.py"]
        resume = ["--resume"] if state == "broken off" else []
        call([*script, *run.train, *out, *resume], log)
    if run.evaluate:
        prover = [str(folder)] if run.train else ["--model", "tiny"]
        call(["eval.py", *prover, *run.evaluate, *out], log)

    seconds = before + time.perf_counter() - clock
    done = {"flags": run.flags, "commit": commit(), "seconds": seconds}
    (folder / "done.new").write_text(json.dumps(done))
    (folder / "done.new").rename(folder / "done")
    return f"{'resumed' if state == 'broken off' else 'run'}, {seconds:.0f} s"


def execute_all(runs, jobs):
    """Every run, `jobs` side by side; a failure does not stop the others. -> the failures.
    Ctrl-C stops all of them after their step. In `runs` what others start from comes before them.
    """
    futures = {}
    failures = []

    def work(run):
        if run.after in futures:
            # It was taken from the queue before this one: no deadlock.
            futures[run.after].exception()
        return execute(run)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for run in runs:
                futures[run] = pool.submit(work, run)

            for number, run in enumerate(runs, 1):
                try:
                    said = futures[run].result()
                except (RuntimeError, OSError) as error:
                    said = f"FAILED: {error}"
                    failures.append(f"{run.folder}: {error}")
                name = f"{run.folder.parent.name}/{run.folder.name}"
                print(f"[{number}/{len(runs)}] {name}: {said}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(children):
                child.terminate()  # train.py ends its step and saves
            sys.exit("stopped; the same command goes on from here")
    return failures


def git(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    return done.stdout.strip()


def commit():
    """Short hash of the checkout, with + where the scripts differ from it."""
    name = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("--no-optional-locks", "status", "--porcelain", "--", *SCRIPTS)
    return name + "+" if changed else name


def main(cfg):
    """Run what is not finished, then write the report. -> the failures"""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cfg.out = cfg.out or ("out/figures_quick" if cfg.quick else "out/figures")
    cfg.results = cfg.results or (cfg.out if cfg.quick else "experiments")

    at_least_one(jobs=cfg.jobs)
    known = experiments(cfg.quick)
    names = list(cfg.only or known)
    unknown = set(names) - known.keys()
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: there is {', '.join(known)}")

    asked = list(make_runs(names, cfg).values())
    # What others start from is first, and is run even where --only leaves it out.
    stems = [run.after for run in asked if run.after]
    runs = list(dict.fromkeys(stems + asked))
    finished = sum(run.state == "done" for run in runs)
    rest = f"the rest takes about {estimate(runs, cfg.jobs):.0f} minutes"
    print(f"{len(runs)} runs, {finished} of them finished; {rest}", flush=True)

    failures = execute_all(runs, cfg.jobs)
    out = report(cfg, names)
    print(f"{out}/README.md, results.csv and figures/ written", *failures, sep="\n")
    return failures


if __name__ == "__main__":
    try:
        sys.exit(1 if main(tyro.cli(Config, description=__doc__)) else 0)
    except (ValueError, OSError) as error:
        sys.exit(f"figures.py: {error}")
