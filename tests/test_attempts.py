"""extras/attempts.py: an evaluation that is stopped, however, goes on and ends as if nothing had happened."""
import json
import math
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import eval as evaluation
from extras import attempts
from eval import Config
from extras.subjects import Subject
from lean_env import Rollout, Theorem, Verdict
from tests.programs import ROOT, Program, run



@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "few.jsonl"
    path.write_text("".join((ROOT / "toy" / "test.jsonl").read_text().splitlines(True)[:6]))
    return str(path)


def without_clock(results):
    return {label: {k: v for k, v in row.items() if k != "seconds"} for label, row in results.items()}


def same(a, b):
    return json.dumps(without_clock(a), sort_keys=True) == json.dumps(without_clock(b), sort_keys=True)


KINDS = [{}, {"feedback": "tutor"}, {"model": "tiny-tools", "tools": True, "max_new_tokens": 80}]


@pytest.fixture(scope="module", params=KINDS, ids=["plain", "told", "with tools"])
def whole(request, few, tmp_path_factory):
    """An evaluation that nothing happened to, with its settings."""
    settings = dict(model="tiny", data=few, samples=3, max_new_tokens=24) | request.param
    out = tmp_path_factory.mktemp("whole")
    results = evaluation.main(Config(out=str(out), **settings))
    assert not (out / "attempts.jsonl").exists()
    return settings, results


def test_what_was_judged_before_a_stop_is_not_made_again_and_the_end_is_the_same(tmp_path, whole, monkeypatch):
    settings, results = whole
    per_sample = 2 if "feedback" in settings else 1
    real = evaluation.roll_out
    calls = []

    def counted(*args):
        calls.append(1)
        if len(calls) in stops:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(evaluation, "roll_out", counted)
    stops = {1, 3, 3 * per_sample + 2}  # the first call, one in between, the last
    cfg = dict(out=str(tmp_path), **settings)
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            evaluation.main(Config(**cfg))
    assert same(evaluation.main(Config(**cfg)), results)
    assert len(calls) == 3 * per_sample + len(stops)  # none twice, but for the three that were stopped
    assert not (tmp_path / "attempts.jsonl").exists()


def test_another_seed_or_flag_or_lean_takes_nothing_and_more_samples_take_all(tmp_path, few):
    made = []

    def roll_out(policy, env, theorems, limit, generator, *others):
        made.append(generator.initial_seed())
        return [Rollout(t, [1], [2, 3], [True, False], Verdict("proved", [{"data": "ℕ \ud835"}], ["propext"], 0.25), "F", True, "x\ny", True) for t in theorems]

    theorems = [Theorem("a", "theorem a : True"), Theorem("b", "theorem b : True", "open Nat", "by simp")]
    subject = Subject("served", None, None, 8, [])

    def evaluate(lean="Lean 4", samples=2, theorems=theorems, **changes):
        cfg = Config(model="m", endpoint="http://x", out=str(tmp_path), **changes)
        kept = attempts.Kept(cfg, lean)
        attempt, source = kept.of(subject, roll_out, cfg.who)
        assert bool(source) == bool(cfg.feedback)
        made.clear()
        result = evaluation.evaluate(None, None, theorems, samples, 8, cfg.seed, source, cfg.who, attempt)
        kept.file.close()  # as when the process ends
        return kept, result, len(made)

    _, first, count = evaluate()
    assert count == 2
    kept, again, count = evaluate()
    assert count == 0 and json.dumps(again) == json.dumps(first) and math.isnan(again["entropy"])
    assert evaluate(samples=3)[2] == 1
    for changes in (dict(seed=1), dict(style="chat"), dict(lean="Lean 5"), dict(theorems=theorems[:1]), dict(who="teacher"), dict(feedback="lean")):
        assert evaluate(**changes)[2] > 0, changes
    lines = len((tmp_path / "attempts.jsonl").read_text().split())
    assert lines
    (rollout,) = [attempts.rollout_of(theorems[1], json.loads(json.dumps(attempts.row_of(r)))) for r in roll_out(None, None, theorems[1:], 8, SimpleNamespace(initial_seed=int))]
    assert rollout == roll_out(None, None, theorems[1:], 8, SimpleNamespace(initial_seed=int))[0]
    # the end of one evaluation leaves the others'
    cfg = Config(model="m", endpoint="http://x", out=str(tmp_path))
    kept = attempts.Kept(cfg, "Lean 4")
    attempt, _ = kept.of(subject, roll_out, cfg.who)
    evaluation.evaluate(None, None, theorems, 3, 8, 0, None, cfg.who, attempt)
    kept.finish()
    assert evaluate(seed=1)[2] == 0 and evaluate()[2] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_real_signal_keeps_the_attempts(tmp_path, few, number):
    flags = ["--model", "tiny", "--data", few, "--max-new-tokens", "24"]
    process = Program("eval.py", *flags, "--samples", "400", "--out", tmp_path)
    store = tmp_path / "attempts.jsonl"
    deadline = time.monotonic() + 60
    while not store.exists() or store.read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ValueError, match="another evaluation is at work"):
        attempts.Kept(Config(out=str(tmp_path)), "Lean")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "Traceback" not in err
    if number == signal.SIGINT:
        assert f"interrupted: what was judged is kept in {store}, the same command goes on" in err
    with store.open("a") as file:
        file.write('{"call": "torn", "val')  # as kill -9 inside a write
    rows = [json.loads(line) for line in store.read_text().splitlines()[:-1] if line]
    settings = dict(model="tiny", data=few, max_new_tokens=24, samples=len(rows) + 1)
    resumed = evaluation.main(Config(out=str(tmp_path), **settings))
    if number == signal.SIGINT:
        assert same(resumed, evaluation.main(Config(out=str(tmp_path / "whole"), **settings)))


@pytest.mark.parametrize("where", ["total_entropy", "confidence", "subjects", "report"])
def test_a_ctrl_c_between_two_calls_says_what_is_kept_as_well(tmp_path, few, where):
    """A real SIGINT, that comes when the line of an evaluation named here is reached."""
    script = f"""
import signal, sys
import eval
def interrupt(*_):
    signal.raise_signal(signal.SIGINT)  # in this thread
eval.{where} = interrupt
sys.argv = ["eval.py", "--model", "tiny", "--data", {few!r}, "--samples", "2", "--max-new-tokens", "8", "--out", {str(tmp_path)!r}]
eval.run_command("eval.py", eval.main, eval.Config, "")
"""
    done = run("-c", script)
    store = tmp_path / "attempts.jsonl"
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"interrupted: what was judged is kept in {store}, the same command goes on" in done.stderr
    assert len(store.read_text().splitlines()) == (0 if where == "subjects" else 2)


# --- where an evaluation is written


def test_an_out_that_cannot_be_written_is_noticed_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for out in ("file", "file/below/it", "dangling"):
        with pytest.raises(ValueError, match="nothing can be written into"):
            evaluation.main(Config(model="no-such-model", data="no/such.jsonl", lean="no-lean", out=str(tmp_path / out)))
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(ValueError, match="nothing can be written into"):
            evaluation.main(Config(model="tiny", data="no/such.jsonl", out=str(tmp_path / "new")))


def written(out, cfg, label):
    (out / "eval.json").write_text(json.dumps({label + attempts.suffix(cfg): {"data": cfg.data, "split": cfg.split}}))


def test_an_evaluation_of_another_kind_is_not_written_over(tmp_path):
    usual = Config(runs=(str(tmp_path),))
    others = [Config(runs=(str(tmp_path),), **changes) for changes in (
        dict(split="valid"), dict(data="minif2f"), dict(who="teacher"), dict(feedback="tutor"), dict(feedback="tutor", who="teacher"))]
    for was in (usual, *others):
        written(tmp_path, was, "out/fd")
        for now in (usual, *others):
            now.out = ""
            attempts.place(now)
            assert (Path(now.out) == tmp_path) == (now is was)
            now.out = str(tmp_path)
            if now is was:
                attempts.place(now)
                assert now.out == str(tmp_path)
            else:
                with pytest.raises(ValueError, match="another kind of evaluation"):
                    attempts.place(now)
    others[3].out = ""
    attempts.place(others[3])
    assert others[3].out == str(tmp_path / "test-toy-tutor")
    (tmp_path / "eval.json").write_text('{"out/fd": {"pass@1": 0.5}}')  # of an older version
    usual.out = ""
    attempts.place(usual)
    assert usual.out == str(tmp_path)
