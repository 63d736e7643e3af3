"""eval.py --watch: curves of runs in the terminal."""

import json
import os
import pty

import pytest

import eval as evaluation
from extras import watch
from tests.programs import Program, run



def write_run(folder, steps, log, valid=()):
    """A run's folder as train.py writes it, with these values of a metric "pass" by step."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"algo": "fd", "steps": steps}))
    for name, rows in {"log": log, "valid": valid}.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return str(folder)


def passes(*values):
    return [{"step": step, "pass": value} for step, value in enumerate(values, 1)]


def test_the_worked_example():
    assert watch.curve([(0, 0), (2, 4), (3, 8)], 3, 4, 8) == "▁▁▅█"


@pytest.mark.parametrize("last, cells", [(7, 8), (99, 10), (60, 61), (500, 7), (3, 2)])
def test_a_curve_shows_in_every_cell_the_last_value_up_to_its_end(last, cells):
    points = [(step, (step * 37) % 11) for step in range(0, last + 1, 3)] + [(last, 11)]
    drawn = watch.curve(points, last, cells, 11)
    assert len(drawn) == cells
    for cell, block in enumerate(drawn):
        # Step s is in cell s * cells // (last + 1).
        until = [value for step, value in points if step * cells // (last + 1) <= cell]
        assert block == watch.BLOCKS[min(int(8 * until[-1] / 11), 7)]


def test_runs_stand_below_each_other_on_the_same_steps_and_scale(tmp_path, capsys):
    one = write_run(tmp_path / "one", 4, passes(0.0, 0.25, 0.5, 1.0), [{"step": 0, "pass@1": 0.5}])
    two = write_run(tmp_path / "another", 3, passes(0.5, 0.5))
    text, going_on = watch.picture((one, two), 200)
    assert going_on
    assert text.split("\n") == [
        f"{one}: step 4 of 4",
        f"{two}: step 2 of 3",
        "valid pass@1   up to 0.5",
        f"  {one}      █ 0.5",
        "pass   up to 1",
        f"  {one}      ▁▁▃▅█ 1",
        f"  {two}  ▅▅▅   0.5",
    ]
    assert watch.picture((one,), 200)[1] is False
    # A terminal that is narrower has fewer cells, and no line is longer.
    long = write_run(tmp_path / "long", 300, passes(*(step / 300 for step in range(300))))
    lines = watch.picture((long,), len(long) + 60)[0].split("\n")
    assert max(map(len, lines)) <= len(long) + 60 and lines[-1].count("█") > 4


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    rows = [*passes(0.5, float("nan"), float("inf"), -1.0), {"step": 5, "loss": 1.0}]
    folder = write_run(tmp_path / "odd", 9, rows, [{"step": 0, "problems": 3}])
    with (tmp_path / "odd" / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "pa')  # while it is being written
    text, going_on = watch.picture((folder,), 100)
    assert going_on and "step 5 of 9" in text and "valid" not in text
    assert [line.split()[-1] for line in text.split("\n") if line.startswith("  ")] == ["-1", "1"]
    fresh = write_run(tmp_path / "fresh", 9, [])
    assert watch.picture((fresh,), 100) == (f"{fresh}: step 0 of 9", True)


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="is .*nowhere a run") as error:
        evaluation.main(evaluation.Config(watch=True, runs=(str(tmp_path / "nowhere"),)))
    assert "\n" not in str(error.value)
    for flags, line in (
        (dict(), "nothing to evaluate: give a run"),
        (dict(runs=("x",), samples=3), "--samples: not used with --watch"),
        (dict(show="x", watch=True), "--watch: not used with --show"),
    ):
        with pytest.raises(ValueError, match=line):
            evaluation.main(evaluation.Config(**{"watch": True} | flags))


def test_without_a_terminal_it_draws_once_and_with_one_until_the_run_has_ended(tmp_path):
    folder = write_run(tmp_path / "run", 3, passes(0.25))
    command = ["eval.py", "--watch", folder]
    env = os.environ | {"COLUMNS": "80"}
    once = run(*command, env=env)
    assert once.returncode == 0 and once.stdout.count("step 1 of 3") == 1 and "\033" not in once.stdout

    mine, theirs = pty.openpty()
    process = Program(*command, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"step 1 of 3" not in seen:
        seen += os.read(mine, 4096)
    write_run(tmp_path / "run", 3, passes(0.25, 0.5, 0.75))
    while process.poll() is None:
        try:
            seen += os.read(mine, 4096)
        except OSError:  # nobody has the terminal open any more
            break
    assert process.wait(60) == 0
    assert seen.startswith(b"\033[H\033[J") and b"step 3 of 3" in seen and b"0.75" in seen
    os.close(mine)
