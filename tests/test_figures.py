"""experiments/figures.py as `make figures` starts it: one experiment with tiny runs, real training,
real Lean."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import figures, plan, report
from experiments.plan import Experiment

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    "--steps 2 --prompts-per-step 4 --eval-every 2 --save-every 1 --lora-rank 4 "
    "--max-new-tokens 24"
)


@pytest.fixture
def table(monkeypatch):
    """Two experiments in place of the real ones; their shared arm is one run."""
    table = {
        "ema": Experiment("What?", {"base": "", "0.9": SMALL}, 2, "test", ""),
        "styles": Experiment("Who?", {"style_4": SMALL}, 2, "test", ""),
    }
    for module in (plan, figures, report):
        monkeypatch.setattr(module, "experiments", lambda quick: table)
    return table


@pytest.fixture
def config(tmp_path):
    few = (ROOT / "toy" / "test.jsonl").read_text().splitlines(True)[:4]
    (tmp_path / "few.jsonl").write_text("".join(few))
    return figures.Config(
        quick=True,
        out=str(tmp_path / "runs"),
        results=str(tmp_path / "results"),
        data=str(tmp_path / "few.jsonl"),
    )


def test_a_figure_is_made_once_and_a_broken_off_run_goes_on(
    table, config, tmp_path, monkeypatch, capsys
):
    run = plan.make_runs(["ema"], config)["ema", "0.9", 0]
    run.folder.parent.mkdir(parents=True)
    # As the runner leaves it when the machine dies after step 1.
    run.folder.with_name("0.9_s0.flags").write_text(run.flags)
    flags = shlex.join(run.train).replace("--steps 2", "--steps 1")
    flags = flags.replace("--eval-every 2", "--eval-every 0")
    subprocess.run(
        [sys.executable, "train.py", *shlex.split(flags), "--out", str(run.folder)],
        cwd=ROOT,
        check=True,
        timeout=60,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    first = (run.folder / "log.jsonl").read_text()
    assert run.state == "broken off"

    assert figures.main(config) == [], capsys.readouterr().out
    said = capsys.readouterr().out
    assert (
        "2 runs, 0 of them finished" in said
        and "0.9_s0: resumed" in said
        and "base_s0: run" in said
    )
    log = (run.folder / "log.jsonl").read_text()
    assert log.startswith(first) and log.count("\n") == 2, "step 1 was not run again"

    with (tmp_path / "results" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "experiment",
        "arm",
        "seed",
        "step",
        "samples",
        "seconds",
        "metric",
        "value",
    ]
    assert {(r["experiment"], r["arm"]) for r in rows} == {
        ("ema", "0.9"),
        ("ema", "base"),
        ("styles", "style_4"),
    }
    at = {(r["arm"], r["metric"], int(r["step"])): r for r in rows if r["experiment"] == "ema"}
    end = at["0.9", "pass@1", 2]
    assert (
        0 <= float(end["value"]) <= 1
        and (end["seed"], end["samples"]) == ("0", "8")
        and float(end["seconds"]) > 0
    )
    assert {m for a, m, _ in at if a == "0.9"} >= {
        "pass@2",
        "entropy",
        "train_pass",
        "train_entropy",
        "train_kl",
        "train_length",
        "train_teacher_mass",
    }
    assert ("base", "pass@1", 0) in at and ("0.9", "valid_pass@1", 2) in at
    for name in ("ema", "styles"):
        assert (
            (tmp_path / "results" / "figures" / f"{name}.png")
            .read_bytes()
            .startswith(b"\x89PNG")
        )
    text = (tmp_path / "results" / "README.md").read_text()
    assert (
        "## ema" in text
        and "| 0.9 |" in text
        and "a look, no evidence" in text
        and "--only ema" in text
    )

    monkeypatch.setattr(figures.subprocess, "Popen", None)  # whoever starts a process now fails
    monkeypatch.setattr(figures, "commit", lambda: "unused")
    assert (
        figures.execute_all(list(plan.make_runs(["ema", "styles"], config).values()), 2) == []
    )
    assert "finished before" in capsys.readouterr().out


def finish(run, lr):
    """What a run of two steps leaves behind."""
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text(
        json.dumps({"prompts_per_step": 4, "group_size": 1})
    )
    (run.folder / "log.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "pass": lr, "seconds": 3.0}) + "\n" for step in (1, 2)
        )
    )
    (run.folder / "eval.json").write_text(
        json.dumps({"run": {"pass@1": lr, "entropy": 0.1, "length": 9.0, "cut": 0.0}})
    )
    (run.folder / "done").write_text(
        json.dumps({"flags": run.flags, "commit": "abc", "seconds": 6.0})
    )


def test_what_is_not_asked_for_stays_as_it_is_committed(table, config, tmp_path, monkeypatch):
    """A fresh clone has results.csv, README.md and pictures, but no runs: --only must not throw the
    others' away."""
    monkeypatch.setattr(figures, "execute_all", lambda runs, jobs: [])
    table["ema"].arms = {"0.9": SMALL, "1": SMALL + " --ema-alpha 1"}
    table["styles"].arms = {"style_4": SMALL, "style_1": SMALL + " --feedback-style 1"}
    for run in dict.fromkeys(plan.make_runs(["ema", "styles"], config).values()):
        finish(run, 0.25)
    figures.main(config)
    results = tmp_path / "results"
    before = {name: (results / name).read_text() for name in ("README.md", "results.csv")}
    config.out, config.only = str(tmp_path / "another clone"), ("styles",)
    for run in plan.make_runs(["styles"], config).values():
        finish(run, 0.75)  # style_4 is also an arm of ema, which nobody asked for
    figures.main(config)
    old, new = (
        t.split("\n## ") for t in (before["README.md"], (results / "README.md").read_text())
    )
    assert (
        [part.split()[0] for part in new] == ["#", "ema", "styles"]
        and new[:2] == [old[0], old[1]]
        and "0.750" in new[2]
    )
    lines = [
        t.splitlines() for t in (before["results.csv"], (results / "results.csv").read_text())
    ]
    assert len(lines[0]) == len(lines[1]) and [l for l in lines[0] if l.startswith("ema,")] == [
        l for l in lines[1] if l.startswith("ema,")
    ]
    assert all(
        l.endswith(("0.75", ",0.1", ",9.0", ",0.0"))
        for l in lines[1]
        if l.startswith("styles,")
    )


def test_grpo_over_fd_goes_on_from_the_steps_attempts_and_seconds_of_its_fd_run(table, config):
    table["ema"].arms["grpo_over_it"] = f"{SMALL} --algo grpo --init @0.9"
    runs = plan.make_runs(["ema"], config)
    for arm, group in (("0.9", 1), ("grpo_over_it", 5)):
        run = runs["ema", arm, 0]
        run.folder.mkdir(parents=True)
        (run.folder / "config.json").write_text(
            json.dumps({"prompts_per_step": 4, "group_size": group})
        )
        (run.folder / "log.jsonl").write_text(
            "".join(
                json.dumps({"step": step, "pass": 0.5, "seconds": 3.0}) + "\n"
                for step in (1, 2)
            )
        )
    assert str(runs["ema", "0.9", 0].folder) in run.train, "@0.9 is that run's folder"
    rows = [
        row
        for row in report.read(("ema", "grpo_over_it", 0), run, 0, "test")
        if row.metric == "train_pass"
    ]
    assert [(row.step, row.samples, row.seconds, row.value) for row in rows] == [
        (3, 8 + 20, 9.0, 0.5),
        (4, 8 + 40, 12.0, 0.5),
    ]


def test_a_run_whose_flags_changed_is_new_and_so_is_what_starts_from_it(table, config):
    table["ema"].arms["grpo_over_it"] = f"{SMALL} --algo grpo --init @0.9"
    runs = plan.make_runs(["ema", "styles"], config)
    assert runs["styles", "style_4", 0] is runs["ema", "0.9", 0], "same flags, one run"
    for run in runs.values():
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "done").write_text(json.dumps({"flags": run.flags}))
    assert {run.state for run in runs.values()} == {"done"}
    table["ema"].arms["0.9"] += " --lr 1e-4"
    changed = plan.make_runs(["ema", "styles"], config)
    assert {arm: run.state for (_, arm, _), run in changed.items()} == {
        "base": "done",
        "0.9": "new",
        "grpo_over_it": "new",
        "style_4": "new",
    }  # it no longer shares


def test_a_run_that_fails_is_named_and_the_others_are_finished(
    table, config, monkeypatch, capsys
):
    table["styles"].arms["style_1"] = SMALL + " --lr -1"
    monkeypatch.setattr(
        figures,
        "call",
        lambda words, log: (
            (_ for _ in ()).throw(RuntimeError("no"))
            if "-1" in words
            else log.with_suffix("").mkdir(exist_ok=True)
        ),
    )
    failures = figures.execute_all(
        list(dict.fromkeys(plan.make_runs(["ema", "styles"], config).values())), 2
    )
    assert (
        len(failures) == 1
        and "style_1_s0" in failures[0]
        and capsys.readouterr().out.count("FAILED") == 1
    )


def test_the_real_plan_has_every_arm_of_the_design_and_fits_its_time():
    for quick, minutes in ((True, 20), (False, 300)):
        config = figures.Config(quick=quick, out="nowhere")
        table = plan.experiments(quick)
        assert {"base", "sft", "fd", "grpo", "grpo_over_fd"} <= table["main"].arms.keys()
        runs = list(dict.fromkeys(plan.make_runs(list(table), config).values()))
        assert len({run.folder for run in runs}) == len(runs)
        assert plan.estimate(runs, 2) < minutes
