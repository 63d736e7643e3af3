"""experiments/: grids of runs with real training and real Lean, the numbers they leave, the page."""

import ast
import json
import re
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

import fd_mini
import feedback
from experiments import bases, figures, pictures, plan, results, sweep
from experiments.sweep import Run
from extras import speaker
from lean_env import Theorem
from tests import programs
from toy import warm_up
from toy.tutor import tutor

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    "--steps 2 --prompts-per-step 4 --eval-every 2 --save-every 1 --lora-rank 4 "
    "--max-new-tokens 24"
)


def small(folder, more="", tests=(), after=None):
    words = shlex.split(f"train.py {SMALL} {more} --seed 0")
    return Run(folder, tuple(words), tests, after)


@pytest.fixture
def few(tmp_path):
    """Four theorems to test on."""
    lines = (ROOT / "toy" / "test.jsonl").read_text().splitlines(True)[:4]
    path = tmp_path / "few.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def forked(monkeypatch):
    """What a sweep starts is forked: it need not import torch again."""

    def popen(argv, start_new_session, **options):
        return programs.Program(*argv[1:], **options)

    monkeypatch.setattr(sweep, "subprocess", SimpleNamespace(Popen=popen, run=subprocess.run))


def test_a_run_that_was_broken_off_goes_on_and_a_finished_one_is_not_run_again(
    few, tmp_path, monkeypatch, capsys, forked
):
    test = ("eval.py", "--data", str(few), "--split", "test", "--samples", "2", "--seed", "0")
    told = ("told", (*test, "--feedback", "tutor"))
    run = small(tmp_path / "fd_s0", tests=(("", test), told))
    base = Run(tmp_path / "base_s0", (), (("", (*test, "--model", "tiny")),))
    # As the runner leaves it when the machine dies after step 1.
    run.folder.with_name("fd_s0.key").write_text(run.key)
    flags = shlex.join(run.train).replace("--steps 2", "--steps 1")
    flags = flags.replace("--eval-every 2", "--eval-every 0")
    assert programs.run(*shlex.split(flags), "--out", run.folder).returncode == 0
    first = (run.folder / "log.jsonl").read_text()
    assert run.state == "broken off"

    assert sweep.execute_all([run, base], 2) == [], capsys.readouterr().out
    said = capsys.readouterr().out
    assert "2 runs, 0 of them finished" in said
    assert re.search(r"fd_s0: resumed, \d+ s; about \d+ minutes left\n.*base_s0: run, \d+ s\n", said)
    log = (run.folder / "log.jsonl").read_text()
    assert log.startswith(first) and log.count("\n") == 2, "step 1 was not run again"

    results.collect(tmp_path / "out", "main", {("base", 0): base, ("fd", 0): run}, "test")
    rows, marks = results.load(tmp_path / "out")
    assert list(rows) == "experiment arm seed step samples seconds metric value".split()
    at = rows[rows.arm == "fd"].set_index(["metric", "step"])
    assert at.samples["pass@1", 2] == 8 and at.samples["train_pass", 1] == 4
    wanted = {"pass@2", "entropy", "told_pass@1", "train_kl", "train_length", "valid_pass@1"}
    assert wanted <= set(rows[rows.arm == "fd"].metric)
    assert "train_called" not in set(rows.metric), "no tools, no calls"
    by_hand = json.loads((run.folder / "eval.json").read_text())[str(run.folder)]
    assert at.value["pass@1", 2] == pytest.approx(by_hand["pass@1"], abs=1e-5)
    assert [len(mark.proved.split()) for mark in marks.itertuples()] == [4, 4]
    assert np.mean(results.scores(marks, "fd")[0]) == pytest.approx(by_hand["pass@1"])

    table = results.table(rows, marks, "base")
    assert "| fd |" in table and "pass@1 − base's" in table and "told_pass@1" not in table
    panels = ["valid_pass@1 samples", "train_entropy step", "pass@2 pass@1"]
    pictures.draw(rows, panels, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(sweep, "call", None)  # whoever starts a script now fails
    assert sweep.execute_all([run, base], 1) == []
    assert capsys.readouterr().out.count("finished before") == 2


def finish(run, passed, group=1, proved=(1, 0)):
    """What a run of two steps leaves behind."""
    run.folder.mkdir(parents=True)
    config = {"prompts_per_step": 4, "group_size": group}
    (run.folder / "config.json").write_text(json.dumps(config))
    steps = [{"step": step, "pass": passed, "seconds": 3.0} for step in (1, 2)]
    (run.folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    end = {"pass@1": passed, "entropy": 0.1, "length": 9.0, "samples": 1, "proved": proved}
    (run.folder / "eval.json").write_text(json.dumps({"run": end}))
    done = {"key": run.key, "commit": "abc", "seconds": 6.0}
    (run.folder / "done").write_text(json.dumps(done))


TEST = (("", ("eval.py", "--samples", "1")),)


def test_grpo_over_fd_goes_on_from_the_steps_attempts_and_seconds_of_its_fd_run(tmp_path):
    stem = small(tmp_path / "fd_s0", tests=TEST)
    run = small(tmp_path / "over_s0", f"--algo grpo --init {stem.folder}", TEST, stem)
    finish(stem, 0.5)
    finish(run, 0.75, group=5)
    results.collect(tmp_path, "main", {("over", 0): run}, "test")
    rows, _ = results.load(tmp_path)
    rows = rows[rows.metric == "train_pass"]
    assert rows[["step", "samples", "seconds", "value"]].values.tolist() == [
        [3, 8 + 20, 9.0, 0.75],
        [4, 8 + 40, 12.0, 0.75],
    ]


def test_half_of_the_way_may_lie_in_the_run_that_another_starts_from(tmp_path):
    stem = small(tmp_path / "fd_s0", tests=TEST)
    run = small(tmp_path / "over_s0", f"--algo grpo --init {stem.folder}", TEST, stem)
    finish(stem, 0.5)
    finish(run, 0.75, group=5)
    for folder, values in {stem.folder: [0.0, 0.3, 0.5], run.folder: [0.5, 0.6, 0.8]}.items():
        rows = [{"step": step, "pass@1": value} for step, value in enumerate(values)]
        (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    halves = [results.attempts_to(wanted, run) for wanted in (0.3, 0.4, 0.55, 0.9)]
    assert halves == [4, 8, 8 + 20, None]
    assert results.attempts_to(0.3, stem) == 4


def test_what_is_not_asked_for_stays_as_it_is_committed(tmp_path):
    runs = {name: small(tmp_path / f"{name}_s0", tests=TEST) for name in ("ema", "styles")}
    for run in runs.values():
        finish(run, 0.25)
    for name, run in runs.items():
        results.collect(tmp_path / "out", name, {("0.9", 0): run}, "test")
    before, _ = results.load(tmp_path / "out")
    again = small(tmp_path / "again" / "styles_s0", tests=TEST)
    finish(again, 0.75)
    results.collect(tmp_path / "out", "styles", {("0.9", 0): again}, "test")
    after, marks = results.load(tmp_path / "out")
    assert before[before.experiment == "ema"].equals(after[after.experiment == "ema"])
    changed = after[(after.experiment == "styles") & (after.metric == "pass@1")]
    assert changed.value.tolist() == [0.75] and len(after) == len(before) and len(marks) == 2
    assert set(after.arm) == {"0.9"}, "a name, not a number"


def test_a_run_counts_for_its_flags_its_data_and_its_code_alone(few, tmp_path, monkeypatch):
    run = small(tmp_path / "fd_s0", f"--data {few}", TEST)
    over = small(tmp_path / "over_s0", f"--init {run.folder}", TEST, run)
    finish(run, 0.5)
    finish(over, 0.5)
    assert run.state == over.state == "done"
    assert small(run.folder, f"--data {few} --lr 1e-4", TEST).state == "new"
    assert small(run.folder, f"--data {few}").state == "new", "without its test"
    few.write_text(few.read_text() + few.read_text().splitlines()[0])
    assert run.state == over.state == "new", "and so is what starts from it"

    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"weights")
    trained = Run(tmp_path / "trained", ("train.py", "--model", str(base)))
    tested = Run(tmp_path / "tested", (), (("", ("eval.py", "--model", str(base))),))
    finish(trained, 0.5)
    finish(tested, 0.5)
    assert trained.state == tested.state == "done"
    (base / "model.safetensors").write_bytes(b"other weights")
    assert trained.state == tested.state == "new"

    adapters = tmp_path / "somebodys" / "ckpt" / "student" / "adapter_model.safetensors"
    adapters.parent.mkdir(parents=True)
    adapters.write_bytes(b"adapters")
    begun = Run(tmp_path / "begun", ("train.py", "--init", str(tmp_path / "somebodys")))
    finish(begun, 0.5)
    assert begun.state == "done"
    adapters.write_bytes(b"of a later step")
    assert begun.state == "new"


def test_a_run_that_comes_twice_is_run_once_and_does_not_wait_for_itself(tmp_path, capsys):
    stem = small(tmp_path / "fd_s0", tests=TEST)
    over = small(tmp_path / "over_s0", f"--init {stem.folder}", TEST, stem)
    finish(stem, 0.5)
    finish(over, 0.5)
    assert sweep.execute_all([stem, over, stem], 1) == []
    assert capsys.readouterr().out.count("finished before") == 2


def test_a_comment_is_no_other_code_and_a_constant_is(tmp_path):
    def digest_of(text):
        subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
        (tmp_path / "train.py").write_text(text)
        sweep.code_digest.cache_clear()
        return sweep.code_digest(str(tmp_path))

    plain = digest_of("rate = 1.0\n")
    assert digest_of("# why\nrate   = 1.0  # so\n") == plain
    assert digest_of("rate = 2.0\n") != plain
    sweep.code_digest.cache_clear()


def test_threads_parse_scripts_one_at_a_time(tmp_path, monkeypatch):
    """In Python 3.11 two at once may end in a SystemError."""
    path = tmp_path / "script.py"
    path.write_text("a = 1\n")
    at_work, most = [], []

    def slowly(data):
        at_work.append(data)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return ast.parse(data)

    monkeypatch.setattr(sweep, "ast", SimpleNamespace(parse=slowly, dump=ast.dump))
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(sweep.digest, [path] * 8))) == 1
    assert most == [1] * 8


def test_curves_of_two_seeds_have_no_band_and_those_above_are_thinner():
    assert pictures.band(pd.Series([0.0, 1.0])) == (0.5, 0.5)
    half = 4.30 / 3**0.5  # Student's t, and a standard deviation of 1
    assert pictures.band(pd.Series([1.0, 2.0, 3.0])) == pytest.approx((2 - half, 2 + half))
    low, high = pictures.in_logarithms(pictures.band, pd.Series([1.0, 10.0, 100.0]))
    assert (low, high) == pytest.approx((10 ** (1 - half), 10 ** (1 + half))), "above 0, where Student's t is not"
    axis = Figure().subplots()
    palette = {"first": "#009E73", "second": "#0072B2", "third": "#D55E00"}
    for colour in palette.values():
        axis.plot([0, 1], [0, 1], color=colour)
    pictures.thin_out(axis.lines, palette)
    widths = [line.get_linewidth() for line in axis.lines]
    assert widths[0] > widths[1] > widths[2] > 0
    (point,) = axis.plot([0], [0], color=palette["third"])
    pictures.thin_out(axis.lines, palette)
    assert point.get_markersize() > axis.lines[0].get_markersize(), "alone, and drawn last: it shows"


def test_a_panel_without_numbers_is_left_out_and_without_any_there_is_no_picture(tmp_path):
    values = [("a", 0, step, 4 * step, 1.0 * step, "train_pass", 0.1 * step) for step in (1, 2, 3)]
    rows = pd.DataFrame(values, columns="arm seed step samples seconds metric value".split())
    pictures.draw(rows, ["valid_pass@1 step", "train_pass step"], tmp_path / "one.png")
    assert imread(tmp_path / "one.png").shape[1] == pytest.approx(110 * (5.5 + 2), abs=1)
    pictures.draw(rows, ["valid_pass@1 step"], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_what_is_outside_the_top_k_is_what_its_mass_leaves_and_points_say_their_steps():
    rows = [("fd", 0, step, "train_teacher_mass", 1 - step / 1000) for step in (1, 2)]
    for arm, at, entropy in (("fd_20", 0.4, 0.2), ("fd_40", 0.5, 0.1), ("fd_80", 0.6, 0.1), ("x_9", 0.1, 0.1), ("y_1", 0.51, 0.1), ("y_2", 0.9, 0.9), ("base", 0.0, 0.3)):
        rows += [(arm, 0, 40, "pass@1", at), (arm, 0, 40, "entropy", entropy)]
    rows = pd.DataFrame(rows, columns=["arm", "seed", "step", "metric", "value"])
    panels = pictures.with_numbers(rows, ["train_outside step log", "entropy pass@1"])
    assert [panel[:3] for panel in panels] == [("train_outside", "step", "log"), ("entropy", "pass@1", "linear")]
    assert panels[0][3].value.tolist() == pytest.approx([0.001, 0.002])
    axis = Figure().subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    pictures.write_steps(axis, panels[1][3], "pass@1")
    written = [("20", (0.4, 0.2)), ("40", (0.5, 0.1)), ("80", (0.6, 0.1)), ("2", (0.9, 0.9))]
    assert [(text.get_text(), tuple(text.xy)) for text in axis.texts] == written, "y_1 lies on fd_40"


def test_a_sweep_without_attempts_and_validations_is_refused_before_it_runs(tmp_path):
    for flags in (["--eval-every", "0"], ["--eval-every=0"]):
        with pytest.raises(ValueError, match="leave one of them out"):
            sweep.combinations(sweep.Config(vary=("seed=0",), samples=0, out=tmp_path), flags)
        assert sweep.combinations(sweep.Config(vary=("seed=0",), samples=1, out=tmp_path), flags)
    assert sweep.combinations(sweep.Config(vary=("seed=0",), samples=0, out=tmp_path), ["--eval-every", "5"])


def test_a_failure_is_named_by_the_last_line_or_by_what_is_wrong_with_a_flag():
    assert sweep.last_words("step 1\ntrain.py: --lr must be above 0\n") == "train.py: --lr must be above 0"
    assert sweep.last_words("") == ""
    said = sweep.last_words("warning\n" + programs.run("train.py", "--tail", "nonsense").stderr)
    assert said.startswith("invalid choice 'nonsense' for argument '--tail'. Expected one of ('drop'") and "full" not in said
    box = "╭─ Invalid choice ─╮\n│ invalid choice 'x'. Expected one of │\n│ ('a', 'b'). │\n│ ─── │\n│ For full helptext, run y --help │\n╰──╯\n"
    assert sweep.last_words(box) == "invalid choice 'x'. Expected one of ('a', 'b')."


def test_a_seed_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--vary seed=a: a seed is a number"):
        sweep.combinations(sweep.Config(vary=("seed=0,a",), out=tmp_path), [])


def test_ctrl_c_stops_a_sweep_after_the_step_of_its_run_which_can_go_on(tmp_path):
    grid = ("-m", "experiments.sweep", "--vary", "seed=0", "--samples", "0", "--out", tmp_path / "out", "--")
    program = programs.Program(*grid, *shlex.split(SMALL.replace("--steps 2", "--steps 500")))
    log = tmp_path / "out" / "as it is_s0" / "log.jsonl"
    deadline = time.monotonic() + 100
    while not (log.exists() and log.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate()
    assert program.returncode == 1 and said.endswith("stopped; the same command goes on from here\n"), said
    saved = torch.load(log.parent / "ckpt" / "state.pt", weights_only=True)["step"]
    assert saved == log.read_text().count("\n") < 500 and not (log.parent / "done").exists()


def test_a_run_that_fails_is_named_and_the_others_are_finished(tmp_path, capsys, forked):
    bad = small(tmp_path / "bad_s0", "--lr -1")
    good = small(tmp_path / "good_s0", "--steps 1 --eval-every 0")
    foreign = small(tmp_path / "foreign_s0")
    foreign.folder.mkdir()
    (foreign.folder / "mine.txt").write_text("kept")
    failures = sweep.execute_all([bad, foreign, good], 1)
    assert len(failures) == 2 and "bad_s0" in failures[0] and "--lr" in failures[0]
    assert "was not made here" in failures[1]
    assert (foreign.folder / "mine.txt").read_text() == "kept"
    assert good.state == "done" and capsys.readouterr().out.count("FAILED") == 2


def test_a_grid_has_every_combination_and_says_which_vary_it_cannot_read(tmp_path):
    cfg = sweep.Config(vary=("tail=drop,bucket", "top_k=1,5", "seed=0,1"), out=tmp_path)
    runs = sweep.combinations(cfg, ["--steps", "2"])
    assert list(runs)[:3] == [
        ("tail=drop_top-k=1", 0),
        ("tail=drop_top-k=1", 1),
        ("tail=drop_top-k=5", 0),
    ]
    assert len(runs) == 8
    flags = "train.py --steps 2 --tail bucket --top-k 5 --seed 1"
    assert runs["tail=bucket_top-k=5", 1].train == tuple(flags.split())
    for wrong in ("tail", "=1", "tail="):
        with pytest.raises(ValueError, match="write FLAG=VALUE"):
            sweep.combinations(sweep.Config(vary=(wrong,), out=tmp_path), [])
    with pytest.raises(ValueError, match="git knows no such"):
        sweep.combinations(sweep.Config(vary=("code=no-such-branch",), out=tmp_path), [])


def test_a_grid_can_vary_switches_and_values_that_have_commas(tmp_path):
    cfg = sweep.Config(vary=("tools=True,False", 'feedback=tutor,"const:Write a, not b."'), out=tmp_path)
    commands = [run.train for run in sweep.combinations(cfg, []).values()]
    assert commands == [
        ("train.py", "--tools", "--feedback", "tutor", "--seed", "0"),
        ("train.py", "--tools", "--feedback", "const:Write a, not b.", "--seed", "0"),
        ("train.py", "--no-tools", "--feedback", "tutor", "--seed", "0"),
        ("train.py", "--no-tools", "--feedback", "const:Write a, not b.", "--seed", "0"),
    ]


def test_a_checkout_of_another_revision_reads_the_files_that_are_named_here(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "checkout", lambda revision, out: "." if revision == "." else "elsewhere")
    monkeypatch.chdir(tmp_path)
    for folder in ("toy", "runs/first"):
        Path(folder).mkdir(parents=True)
    Path("mine.jsonl").write_text("")
    cfg = sweep.Config(vary=("code=other,.", "seed=0"), data="mine.jsonl", out=tmp_path / "out")
    flags = ["--data", "mine.jsonl", "--init=runs/first", "--valid", "toy", "--steps", "1"]
    theirs, ours = sweep.combinations(cfg, flags).values()
    mine = str(tmp_path / "mine.jsonl")
    assert theirs.train == ("train.py", "--data", mine, f"--init={tmp_path}/runs/first", *flags[3:], "--seed", "0")
    assert theirs.tests[0][1][:3] == ("eval.py", "--data", mine)
    assert ours.train == ("train.py", *flags, "--seed", "0") and ours.tests[0][1][2] == "mine.jsonl"


def test_another_revision_is_run_from_a_checkout_of_its_own(tmp_path):
    cfg = sweep.Config(vary=("code=HEAD,.",), out=tmp_path)
    runs = sweep.combinations(cfg, [])
    theirs, ours = runs["code=HEAD", 0], runs["code=.", 0]
    try:
        assert ours.code == "." and (Path(theirs.code) / "train.py").is_file()
        assert sweep.git("status", "--porcelain", at=theirs.code) == ""
        head = sweep.git("show", "HEAD:fd_mini.py")
        assert (Path(theirs.code) / "fd_mini.py").read_text().strip() == head
    finally:
        sweep.git("worktree", "remove", "--force", theirs.code)


def test_intervals_by_hand():
    low, high = results.over_seeds([1.0, 2.0, 3.0])  # sd 1, t 4.30
    assert (low, high) == pytest.approx((2 - 4.30 / 3**0.5, 2 + 4.30 / 3**0.5))
    assert results.over_seeds([0.5]) == (0.5, 0.5)
    # Seeds that differ by 1 at every theorem: a quarter of the draws has only the one, a quarter
    # only the other.
    assert results.over_both([[0, 0, 0], [1, 1, 1]]).tolist() == [0, 1]
    # One seed: theorems alone, of which 64 are proved and 64 are not: sd of the mean 0.5 / 128**.5.
    low, high = results.over_both([[0, 1] * 64])
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5 / 128**0.5, rel=0.1)


def test_differences_are_taken_by_seed_and_theorem():
    """Two arms that differ by the same at every theorem: no theorem's difficulty is in it."""
    rows = []
    for seed, counts in enumerate(("0 1 2 3", "1 2 0 3")):
        more = " ".join(str(int(count) + 1) for count in counts.split())
        rows += [("main", "a", seed, "c", 1, 4, counts), ("main", "b", seed, "c", 1, 4, more)]
    rows.append(("main", "other", 0, "c", 1, 4, "1 1"))  # other theorems
    marks = pd.DataFrame(rows, columns=results.FILES["runs.csv"])
    assert results.difference(marks, "b", "a") == "+0.250 [+0.250, +0.250]"
    assert results.difference(marks, "a", "a") == "" == results.difference(marks, "other", "a")
    # pass@2 of 1, 2, 3, 4 proved of 4, less that of 0, 1, 2, 3: 1/2, 1/3, 1/6 and 0 more.
    assert results.difference(marks[marks.seed == 0], "b", "a", 2).startswith("+0.250 [")
    assert results.difference(marks[marks.seed == 0], "b", "a", 2).endswith("]†"), "one seed"


def test_a_table_over_dials_has_a_line_for_each_and_a_column_for_each_method():
    ends = [("base_1e-4_two", 0.0), ("fd_1e-4_two", 0.75), ("grpo_1e-4_two", 0.25), ("fd_2e-2_one", 0.5), ("base_2e-2_one", 0.1)]
    rows = [(arm, "pass@1", value) for arm, value in ends]
    rows += [("base_1e-4_two", "base_p_reference", 4e-6), ("base_2e-2_one", "base_p_reference", 1e-2)]
    rows = pd.DataFrame(rows, columns=["arm", "metric", "value"]).assign(seed=0)
    runs = [("fd_1e-4_two", 0, 2, "1 2"), ("grpo_1e-4_two", 0, 2, "0 1")]
    runs = pd.DataFrame(runs, columns=["arm", "seed", "tries", "proved"])
    head, _, first, second = results.grid(rows, runs, ["base", "grpo", "fd"], "grpo").splitlines()
    assert head == "| cell | p | base | grpo | fd | fd − grpo |"
    assert first.startswith("| 1e-4, two | 4e-06 | 0.000 | 0.250 [0.") and "]† | 0.750 [" in first and first.endswith("| +0.500 [+0.500, +0.500]† |")
    assert second == "| 2e-2, one | 1e-02 | 0.100 |  | 0.500 |  |"


def test_panels_over_a_rate_and_over_a_base_have_the_right_points():
    rows = [
        ("fd_1e-3_two", "pass@1", 0.7),
        ("fd_2e-2_two", "pass@1", 0.8),
        ("base_1e-3_two", "base_p_reference", 1e-6),
        ("base_2e-2_two", "base_p_reference", 1e-4),
    ]
    rows = pd.DataFrame(rows, columns=["arm", "metric", "value"]).assign(seed=0)
    more = [("fd_2e-2_two", "entropy", 0.1, 1), ("fd_1e-3_one", "pass@1", 0.9, 0)]
    rows = pd.concat([rows, pd.DataFrame(more, columns=["arm", "metric", "value", "seed"])])
    data = pictures.over_base(rows, "pass@1", "base_two")
    columns = ["arm", "base_two", "value"]
    assert data[columns].values.tolist() == [["fd", 1e-6, 0.7]], "the other's second seed has none"
    beside = pd.DataFrame([("grpo_1e-3_two", "pass@1", 0.6, 0)], columns=rows.columns)
    data = pictures.over_base(pd.concat([rows[rows.arm != "fd_2e-2_two"], beside]), "pass@1", "base_two")
    assert data.base_two.tolist() == pytest.approx([1e-6 / 1.05**0.5, 1e-6 * 1.05**0.5])
    axis = Figure().subplots()
    pictures.mark_single(axis, pd.concat([data, data[:1].assign(seed=1)]), "base_two")
    assert axis.collections[0].get_offsets().tolist() == [pytest.approx([1e-6 * 1.05**0.5, 0.6])], "fd has two seeds"
    ends = [("a_20", "pass@1", 0.4, 0), ("a_20", "entropy", 0.1, 0), ("a", "pass@1", 0.6, 0), ("a", "entropy", 0.2, 0)]
    data = pictures.over_end(pd.DataFrame(ends, columns=rows.columns), "entropy", "pass@1>0.5")
    assert data[["arm", "pass@1>0.5", "value"]].values.tolist() == [["a", 0.6, 0.2]]
    rows = pd.DataFrame([("grpo_1e-2", "pass@1", 0.5, 0)], columns=["arm", "metric", "value", "seed"])
    data = pictures.over_rate(rows, "pass@1", "rate")
    assert data[["arm", "rate", "value"]].values.tolist() == [["grpo", 0.01, 0.5]]


def test_a_curve_stands_at_the_mean_of_the_seconds_and_leaves_out_what_repeats_another():
    rows = []
    for arm, seed, seconds in (("fd", 0, 2.0), ("fd", 1, 4.0), ("fd_20", 0, 9.0), ("drop_25", 0, 5.0)):
        rows.append((arm, seed, 10, seconds, "train_pass", 0.5))
    columns = ["arm", "seed", "step", "seconds", "metric", "value"]
    data = pictures.curve(pd.DataFrame(rows, columns=columns), "train_pass", "seconds")
    assert data[["arm", "seconds"]].values.tolist() == [["fd", 3.0], ["fd", 3.0], ["drop_25", 5.0]]


def test_an_arm_looks_the_same_in_every_picture():
    few, many = pictures.look(["grpo", "x", "tutor"]), pictures.look(["y", "fd", "grpo", *"abcdef"])
    for kind in ("palette", "markers"):
        assert few[kind]["grpo"] == many[kind]["grpo"] and few[kind]["tutor"] == many[kind]["fd"]
    assert len(set(many["palette"].values())) == 9, "no two have one colour"
    arms = dict.fromkeys(arm for arm, _ in plan.experiments(False, "nowhere")["long"]["runs"])
    assert len(set(pictures.look(arms)["palette"].values())) == len(arms) == 11
    known = plan.experiments(False, "nowhere")
    seen = {}  # (colour, mark) -> the arms that have it
    for name, experiment in known.items():
        its = pictures.look(dict.fromkeys(arm for arm, _ in experiment["runs"]))
        for arm, colour in its["palette"].items():
            its_name = pictures.SAME.get(arm, arm)
            seen.setdefault((colour, its["markers"][arm]), set()).add(its_name)
    fixed = [arms for arms in seen.values() if arms & set(pictures.PLACES)]
    assert all(len(arms) == 1 for arms in fixed), "a stranger looks like a known arm"
    assert len(fixed) == len(set.union(*fixed)) >= 12, "a known arm has two looks"


def test_the_plan_has_every_arm_of_the_design_and_a_quick_run_fits_its_time():
    for quick in (True, False):
        known = plan.experiments(quick, "nowhere")
        runs = [run for experiment in known.values() for run in experiment["runs"].values()]
        assert {"base", "sft", "fd", "grpo", "grpo_over_fd"} <= {arm for arm, _ in known["main"]["runs"]}
        assert len({run.folder for run in runs}) == len(set(runs))
        for experiment in known.values():
            arms = {arm for arm, _ in experiment["runs"]}
            against = experiment.get("against", next(iter(arms), ""))
            methods = experiment.get("columns", [])
            assert quick or against in (methods or arms | {""})
        if quick:
            assert sum(run.cost for run in set(runs)) / 2 < 20 * 60
    assert ("grpo_over_sft_1e-3_one", 0) in known["sparse"]["runs"]
    assert ("grpo_over_sft_2e-2_one", 0) not in known["sparse"]["runs"], "left_out"
    assert known["sources"]["runs"]["tutor", 0] is known["main"]["runs"]["fd_40", 0], "one run"
    over = known["sparse"]["runs"]["grpo_over_fd_1e-4_two", 2]
    assert over.after is known["sparse"]["runs"]["stem_1e-4_two", 2]
    assert over.train[over.train.index("--init") + 1] == str(over.after.folder)


def test_the_page_is_what_the_committed_numbers_say(tmp_path, monkeypatch):
    for name in results.FILES:
        (tmp_path / name).write_bytes((ROOT / "experiments" / name).read_bytes())
    monkeypatch.setattr(pictures, "draw", lambda *_: None)
    figures.write(tmp_path, plan.experiments(False, "nowhere"), [])
    committed = (ROOT / "experiments" / "README.md").read_text()
    assert (tmp_path / "README.md").read_text() == committed
    for name in plan.PLAN:
        picture = ROOT / "experiments" / "figures" / f"{name}.png"
        assert picture.is_file() == (f"\n## {name}\n" in committed)


def test_numbers_of_experiments_that_a_quick_run_does_not_have_stay_out_of_its_page(tmp_path, monkeypatch):
    for name in results.FILES:
        (tmp_path / name).write_bytes((ROOT / "experiments" / name).read_bytes())
    monkeypatch.setattr(pictures, "draw", lambda *_: None)
    figures.write(tmp_path, plan.experiments(True, "nowhere"), [])
    page = (tmp_path / "README.md").read_text()
    assert "## main" in page and "- [main]" in page and "## lr" not in page and "- [lr]" not in page


def test_what_needs_more_than_a_plain_set_up_is_run_by_name_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(figures, "execute_all", lambda runs, jobs: asked.append({run.folder.parts[-2] for run in runs}) or [])
    monkeypatch.setattr(figures, "make_bases", lambda runs, jobs: None)
    monkeypatch.setattr(figures, "write", lambda *_: None)
    monkeypatch.setattr(figures.signal, "signal", lambda *_: None)
    figures.main(figures.Config())
    figures.main(figures.Config(only=("const_real",)))
    assert asked[0] >= {"main", "long"} and "const_real" not in asked[0] and asked[1] == {"const_real"}


def test_further_seeds_of_some_arms_are_run_when_they_are_asked_for(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(figures, "execute_all", lambda runs, jobs: asked.append(set(runs)) or [])
    monkeypatch.setattr(figures, "make_bases", lambda runs, jobs: None)
    monkeypatch.setattr(figures, "write", lambda *_: None)
    monkeypatch.setattr(figures.signal, "signal", lambda *_: None)
    figures.main(figures.Config(only=("tail",)))
    assert "left out are 8 runs" in capsys.readouterr().out  # K = 5 and 100, two tails, two seeds
    figures.main(figures.Config(only=("tail",), all_seeds=True))
    assert "left out" not in capsys.readouterr().out
    more = asked[1] - asked[0]
    assert {run.folder.name for run in more} == {f"{tail}_{k}_s{seed}" for tail in ("drop", "bucket") for k in (5, 100) for seed in (1, 2)}
    assert asked[0] < asked[1]

    # All that is run unasked fits into eight hours, with half an hour for the bases.
    known = plan.experiments(False, "nowhere")
    runs = {run for entry in known.values() if "needs" not in entry for run in plan.usual_runs(entry, False)}
    runs |= {run.after for run in runs if run.after}
    assert sum(run.cost for run in runs) / 2 < 7.5 * 3600


def test_what_is_left_is_said_by_how_long_it_has_taken_so_far(tmp_path, monkeypatch, capsys):
    runs = [small(tmp_path / name) for name in "abc"]  # of equal cost
    clock = iter([0, 120, 360])
    monkeypatch.setattr(sweep, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(sweep, "execute", lambda run: "run")
    assert sweep.execute_all(runs, 2) == []
    said = re.findall(r"\[\d/3\] \S+: (.*)", capsys.readouterr().out)
    assert said == ["run; about 4 minutes left", "run; about 3 minutes left", "run"]


def test_bases_that_runs_name_are_made_first_but_for_what_is_there_and_the_slowest_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out/bases/share_1e-3").mkdir(parents=True)  # there, and nobody knows what code has made it
    code = ["one code"]
    monkeypatch.setattr(figures, "code_digest", lambda folder: code[0])
    cell = ("train.py", "--model", "out/bases/share_1e-4", "--data", "out/bases/two.jsonl")
    runs = [sweep.Run(Path("a"), cell), sweep.Run(Path("b"), (), (("", ("eval.py", "--model", "out/bases/share_1e-3", "--data", "out/bases/one.jsonl")),))]
    asked = []

    def makes(words, log):
        asked.append((words[1], log.name))
        assert not log.with_suffix("").exists()
        log.with_suffix("").touch()
    monkeypatch.setattr(figures, "call", makes)
    figures.make_bases(runs, 1)
    assert asked == [(name, f"{name}.txt") for name in ("share_1e-4", "share_1e-3", "one.jsonl", "two.jsonl")]
    minutes = sum(bases.seconds_for(Path(name)) for name, _ in asked) / 60
    assert f"first, in about {minutes:.0f} minutes, out/bases gets share_1e-4, share_1e-3, one.jsonl, two.jsonl" in capsys.readouterr().out
    figures.make_bases(runs, 1)
    assert len(asked) == 4 and not capsys.readouterr().out, "all of it is there"
    (tmp_path / "out/bases/one.jsonl").unlink()
    figures.make_bases(runs, 1)
    assert [name for name, _ in asked[4:]] == ["one.jsonl"]
    code[0] = "other code"
    figures.make_bases(runs, 1)
    assert len(asked) == 9, "made with other code: all of it again"

    def fails(words, log):
        raise RuntimeError(f"{words[1]} failed")
    monkeypatch.setattr(figures, "call", fails)
    code[0] = "a third"
    with pytest.raises(RuntimeError, match="share_1e-4 failed"):
        figures.make_bases(runs, 2)
    assert not figures.is_made(Path("out/bases/share_1e-4"), "a third digest"), "what failed is not there"


def test_an_estimate_counts_steps_evaluations_and_attempts_at_the_end():
    train = ("train.py", "--algo", "grpo", "--steps", "20", "--eval-every", "5")
    run = sweep.Run(Path("x"), train, (("", ("eval.py", "--samples", "2")),), pace=3)
    assert run.cost == pytest.approx(15 + 3 * 20 * 2.5 + (5 * 128 + 2 * 256) / 70)
    assert sweep.Run(Path("x"), (), (("", ("eval.py",)),)).cost == pytest.approx(15 + 4 * 256 / 70)


def test_theorems_of_another_hand_say_the_same_and_those_left_out_are(tmp_path, monkeypatch):
    proof = "by\n  constructor\n  · intro g\n    exact h.left\n  · exact k\n  · contradiction\n  · exact ⟨h, k⟩"
    assert bases.other_hand(proof) == (
        "by\n  constructor\n  · intro g\n    obtain u := h.left\n    exact u\n"
        "  · apply k\n  · exfalso\n    contradiction\n  · exact ⟨h, k⟩"
    )
    toy = {"name": "a", "statement": "theorem t (p : Prop) : p → p", "proof": "by\n  intro h\n  exact h"}
    two = toy | {"name": "b", "statement": "theorem t (b : Nat) : 0 ≤ b ∧ b = b",
                 "proof": "by\n  constructor\n  · exact Nat.zero_le b\n  · rfl"}
    theorems = [Theorem(**toy), Theorem(**two)]
    monkeypatch.setattr(bases, "load_theorems", lambda name, split: theorems)
    monkeypatch.setattr(bases, "OUT", tmp_path)
    for name, names in {"one": "a", "two": "b", "bare": "ab", "numbers": "b", "other_hand": "a"}.items():
        bases.make_theorems(name)
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").open()]
        assert [row["name"] for row in rows] == [*names] * 3
        assert [row["split"] for row in rows[:: len(names)]] == ["train", "valid", "test"]
        assert all((row["proof"] is None) == (name == "bare") for row in rows)
    theorems[0] = Theorem(**toy | {"proof": "by\n  intro h\n  exact g"})
    with pytest.raises(ValueError, match="Lean does not accept"):
        bases.make_theorems("one")


def test_a_base_learns_advice_from_the_very_words_that_self_feedback_will_use(monkeypatch):
    policy = fd_mini.Policy("tiny", rank=0)
    theorem = Theorem("a", "theorem t (p : Prop) : p → p", proof="by\n  intro h\n  exact h")
    other = Theorem("b", "theorem t (b : Nat) : b = b", proof="by\n  rfl")
    examples = bases.requests_for_advice(policy, [theorem, other])
    assert policy.max_positions == policy.model.config.max_position_embeddings == 768
    asked = []
    monkeypatch.setattr(fd_mini, "sample", lambda _, prompts, *more: asked.extend(prompts) or [([1], True)])
    for rollout, style in examples:
        prompt, completion, learnt = bases.encode(policy, policy.tokenizer, rollout, style)
        speaker.speaker(policy)([feedback.instruction(rollout, style)])
        assert asked.pop() == prompt and rollout.verdict.status in ("proved", "rejected"), "by Lean"
        assert completion[-1] == policy.tokenizer.eos_token_id and learnt == [True] * len(completion)
        assert policy.tokenizer.decode(completion[:-1]) == tutor(rollout, style)
    proof = bases.encode(policy, policy.tokenizer, theorem, [])
    assert len(examples) == 2 and proof == warm_up.encode(policy.tokenizer, theorem, [])
