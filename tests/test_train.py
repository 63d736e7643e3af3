"""train.py as a user meets it: the shipped prover, real Lean, real files, real signals."""
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import eval as evaluation
import fd_mini
import train
from data import load_theorems
from feedback import make_feedback
from lean_env import LeanEnv
from tests.programs import ROOT, run
from train import Config

SMALL = dict(prompts_per_step=8, max_new_tokens=32, eval_every=0, save_every=2, lora_rank=4)


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def without_clocks(rows):
    return [{k: v for k, v in row.items() if not k.startswith("s_") and k != "seconds"} for row in rows]


@pytest.mark.parametrize("algo", ["fd", "grpo"])
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(tmp_path, algo):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = SMALL | (dict(algo="grpo", group_size=2) if algo == "grpo" else dict(ema_every=3))  # step 2 falls between two EMA updates
    train.train(Config(out=str(whole), steps=4, **settings))
    train.train(Config(out=str(broken), steps=2, **settings))
    train.train(Config(out=str(broken), steps=4, resume=True, **settings))
    for who in ("student", "teacher"):
        a, b = (load_file(out / "ckpt" / who / "adapter_model.safetensors") for out in (whole, broken))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    states = [torch.load(out / "ckpt" / "state.pt", weights_only=True) for out in (whole, broken)]
    assert str(states[0]) == str(states[1])
    assert without_clocks(rows_of(whole / "log.jsonl")) == without_clocks(rows_of(broken / "log.jsonl"))
    assert [(r["step"], r["text"]) for r in rows_of(whole / "rollouts.jsonl")] == [(r["step"], r["text"]) for r in rows_of(broken / "rollouts.jsonl")]


def test_steps_that_were_run_but_not_saved_are_run_again_and_logged_once(tmp_path):
    settings = SMALL | dict(out=str(tmp_path / "run"))
    train.train(Config(steps=2, **settings))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')  # the machine died in the middle of a line
    train.train(Config(steps=3, resume=True, **settings))
    assert [r["step"] for r in rows_of(tmp_path / "run" / "log.jsonl")] == [1, 2, 3]


def test_a_run_writes_what_the_readme_says_it_writes(tmp_path):
    out = train.train(Config(out=str(tmp_path / "run"), steps=2, **SMALL | dict(eval_every=1, save_every=50)))
    for name in ("config.json", "log.jsonl", "rollouts.jsonl", "valid.jsonl", "ckpt/student/adapter_model.safetensors", "ckpt/teacher/adapter_config.json", "ckpt/state.pt"):
        assert (out / name).is_file(), name
    log = rows_of(out / "log.jsonl")
    assert len(log) == 2
    for metric in ("loss", "kl", "teacher_mass", "student_mass", "overlap", "entropy", "grad_norm", "length", "cut", "feedback", "pass",
                   "s_sample", "s_lean", "s_feedback", "s_train"):
        assert isinstance(log[0][metric], float), metric
    rollout = rows_of(out / "rollouts.jsonl")[0]
    assert rollout["status"] in ("proved", "rejected") and rollout["feedback"].startswith("1. ")
    assert [r["step"] for r in rows_of(out / "valid.jsonl")] == [0, 1, 2]


def test_the_teacher_follows_the_student_at_the_papers_pace(tmp_path):
    """Closed form: with an update every 2 steps and alpha = 0.9, mu_4 = 0.81 mu_0 + 0.09 theta_2 + 0.1 theta_4."""
    thetas = {}
    for steps in (2, 4):
        out = train.train(Config(out=str(tmp_path / str(steps)), steps=steps, **SMALL | dict(ema_every=2)))
        thetas[steps] = load_file(out / "ckpt" / "student" / "adapter_model.safetensors")
    first = train.train(Config(out=str(tmp_path / "frozen"), steps=1, **SMALL | dict(ema_alpha=1.0)))
    start = load_file(first / "ckpt" / "teacher" / "adapter_model.safetensors")  # alpha = 1: the teacher is still the start
    teacher = load_file(tmp_path / "4" / "ckpt" / "teacher" / "adapter_model.safetensors")
    for name in teacher:
        torch.testing.assert_close(teacher[name], 0.81 * start[name] + 0.09 * thetas[2][name] + 0.1 * thetas[4][name], rtol=1e-5, atol=1e-7)
        if "lora_B" in name:
            assert not torch.equal(thetas[2][name], start[name])


def test_constant_feedback_and_a_frozen_teacher_drive_kl_towards_zero_and_the_student_moves(tmp_path):
    advice = "const:1. Write `intro`, not `assume`; write `constructor`, not `split`."
    out = train.train(Config(out=str(tmp_path / "run"), feedback=advice, ema_alpha=1.0, steps=10, **SMALL | dict(prompts_per_step=16, lr=2e-3, warmup=2, lora_rank=32)))
    log, rollouts = rows_of(out / "log.jsonl"), rows_of(out / "rollouts.jsonl")
    assert sum(r["kl"] for r in log[-3:]) / 3 < 0.5 * log[0]["kl"]
    words = lambda steps: " ".join(r["text"] for r in rollouts if r["step"] in steps)  # noqa: E731
    assert words({1, 2}).count("assume") > words({1, 2}).count("intro")  # what it wrote before it was taught, without the advice
    assert words({9, 10}).count("intro") > words({9, 10}).count("assume")  # and after, still without it


def test_grpo_over_fd_starts_from_the_students_adapters_with_a_fresh_optimiser(tmp_path):
    fd = train.train(Config(out=str(tmp_path / "fd"), steps=2, **SMALL))
    grpo = train.train(Config(algo="grpo", init=str(fd), out=str(tmp_path / "grpo"), steps=1, group_size=2, **SMALL | dict(lr=1e-12)))
    a, b = (load_file(run / "ckpt" / "student" / "adapter_model.safetensors") for run in (fd, grpo))
    assert all(torch.allclose(a[k], b[k], atol=1e-9) for k in a)
    state = torch.load(grpo / "ckpt" / "state.pt", weights_only=True)
    assert {int(s["step"]) for s in state["optimizers"][0]["state"].values()} == {1}


def test_a_lean_that_fails_is_never_taken_for_wrong_proofs(tmp_path):
    cfg = train.resolve(Config(**SMALL))
    policy, env, source = fd_mini.Policy("tiny", rank=4), LeanEnv(), make_feedback("tutor")
    theorems = load_theorems("toy", "valid")[:8]
    env.timeout = 0.01  # a real Lean, killed before it can answer
    with pytest.raises(RuntimeError, match="Lean failed .timeout. on every attempt of step 1"):
        train.fd_step(cfg, train.Run(policy, env, source, theorems, []), theorems, 1)
    assert all(p.grad is None for p in policy.student)
    result = evaluation.evaluate(policy, env, theorems, 1, 32)
    assert result["left_out"] == 8 and "pass@1" not in result


@pytest.mark.parametrize("flags, complaint", [
    (["--model", "no-such-prover"], "unknown model"),
    (["--model", "./no/such/folder"], "there is no such folder"),
    (["--data", "no/such.jsonl"], "there is no file"),
    (["--steps", "-3"], "--steps must be above 0"),
    (["--max-new-tokens", "600"], "--max-new-tokens"),
    (["--lr", "7"], "absurd"),
    (["--lr", "nan"], "--lr must be above 0"),
    (["--ema-alpha", "1.5"], "--ema-alpha must lie between"),
    (["--algo", "grpo", "--group-size", "1"], "--group-size must be at least 2"),
    (["--feedback", "oracle"], "'oracle' is none of tutor"),
    (["--feedback", "openai:some-model@http://127.0.0.1:9"], "127.0.0.1:9"),
    (["--lean-project", "no/such/project"], "no/such/project"),
    (["--lean", "no/such/lean"], "no/such/lean"),
    (["--init", "no/such/run"], "no checkpoint there"),
    (["--resume"], "holds no run"),
])
def test_bad_input_gets_one_clear_line_and_writes_nothing(tmp_path, flags, complaint):
    with pytest.raises(SystemExit) as stop:  # its text is what Python prints, with exit status 1
        train.main(["--out", str(tmp_path / "run"), "--steps", "1", *flags])
    assert complaint in stop.value.code and "\n" not in stop.value.code
    assert not (tmp_path / "run").exists()


def test_the_script_prints_that_line_last_and_fails(tmp_path):
    result = run("train.py", "--out", tmp_path / "run", "--data", "no/such.jsonl")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("train.py: --data no/such.jsonl: there is no file")


def test_a_folder_that_holds_another_run_is_left_alone(tmp_path):
    out = train.train(Config(out=str(tmp_path / "run"), steps=1, **SMALL))
    before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
    with pytest.raises(ValueError, match="already holds files"):
        train.train(Config(out=str(out), steps=1, **SMALL))
    with pytest.raises(ValueError, match="has --seed 0, not 1"):
        train.train(Config(out=str(out), steps=2, resume=True, seed=1, **SMALL))
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == before


def test_a_run_whose_data_has_changed_is_not_resumed_and_one_without_a_digest_is(tmp_path):
    lines = (ROOT / "toy" / "train.jsonl").read_text().splitlines(True)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(lines[:8]))
    settings = SMALL | dict(data=str(data), out=str(tmp_path / "run"), micro_tokens=512)
    train.train(Config(steps=1, **settings))
    data.write_text("".join(lines[1:9]))  # as many rows, of which one is another
    with pytest.raises(ValueError, match="theorems of --data .*data.jsonl are not those that .*run began with"):
        train.train(Config(steps=2, resume=True, **settings))
    data.write_text("".join(lines[:8]))
    train.train(Config(steps=2, resume=True, **settings))
    config = tmp_path / "run" / "config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "theorems"}))
    train.train(Config(steps=3, resume=True, **settings))  # written by an older version
    assert [r["step"] for r in rows_of(tmp_path / "run" / "log.jsonl")] == [1, 2, 3]


def test_a_project_without_lake_says_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "lakefile.toml").write_text('name = "p"\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="needs `lake`.*elan"):
        train.main(["--out", str(tmp_path / "run"), "--lean-project", str(tmp_path / "project")])
    assert not (tmp_path / "run").exists()


def test_the_demo_path_ends_in_a_table_and_a_picture(tmp_path, capsys):
    out = train.train(Config(out=str(tmp_path / "run"), steps=2, **SMALL | dict(eval_every=2)))
    few = tmp_path / "few.jsonl"
    few.write_text("".join((ROOT / "toy" / "valid.jsonl").read_text().splitlines(True)[:8]))
    results = evaluation.main(evaluation.Config(runs=(str(out),), model="tiny", samples=2, data=str(few)))
    assert list(results) == ["tiny", str(out)] and {"pass@1", "pass@2", "entropy", "length", "tactics"} <= results["tiny"].keys()
    assert "pass@2" in capsys.readouterr().out
    assert json.loads((out / "eval.json").read_text()).keys() == results.keys()
    assert (out / "eval.png").read_bytes().startswith(b"\x89PNG")
