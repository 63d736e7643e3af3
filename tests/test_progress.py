"""What a run writes as it goes: both models' thoughts, kept adapters, numbers for a tracker."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import eval as evaluation
import train
from extras import runs, track
from extras.progress import Progress
from extras.prompts import prompt_for
from lean_env import Rollout, Theorem, Verdict
from tests.programs import run
from train import Config

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(
    prompts_per_step=4,
    max_new_tokens=16,
    eval_every=0,
    save_every=2,
    lora_rank=2,
    lr=1e-2,
    warmup=0,
    ema_every=1,  # so that both models move at every step
)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def adapters(folder):
    return {who: load_file(folder / who / "adapter_model.safetensors") for who in runs.BOTH}


def equal(a, b):
    pairs = [(a[who][name], b[who][name]) for who in runs.BOTH for name in a[who]]
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Five steps without a stop, both models kept at steps 2 and 4."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train.train(Config(out=str(out), steps=5, keep_every=2, **SMALL))


def test_what_is_kept_at_a_step_are_the_models_before_its_update(whole, tmp_path):
    assert sorted(runs.kept(whole)) == [2, 4]
    for step, folder in runs.kept(whole).items():
        before = train.train(Config(out=str(tmp_path / f"{step}"), steps=step - 1, **SMALL))
        assert equal(adapters(folder), adapters(before / "ckpt"))
    assert not equal(adapters(whole / "kept" / "2"), adapters(whole / "kept" / "4"))


def test_a_resumed_run_keeps_and_records_the_same(whole, tmp_path):
    out = tmp_path / "run"
    train.train(Config(out=str(out), steps=3, keep_every=2, **SMALL))
    stale = out / "kept" / "4"  # of a step that was run and not saved before the stop
    (stale / "student").mkdir(parents=True)
    (out / "kept" / "new").mkdir()  # half of a set
    assert sorted(runs.kept(out)) == [2, 4]
    train.train(Config(out=str(out), steps=3, keep_every=2, resume=True, **SMALL))
    assert sorted(runs.kept(out)) == [2]
    train.train(Config(out=str(out), steps=5, keep_every=2, resume=True, **SMALL))
    assert sorted(runs.kept(out)) == [2, 4]
    for step, folder in runs.kept(out).items():
        assert equal(adapters(folder), adapters(whole / "kept" / str(step)))
    mine, theirs = (rows_of(folder / "rollouts.jsonl") for folder in (out, whole))
    assert [row["logps"] for row in mine] == [row["logps"] for row in theirs]


def test_what_is_kept_is_never_taken_for_a_checkpoint(whole, tmp_path):
    out = tmp_path / "run"
    runs.keep(out, runs.load_run(str(whole), "student", "none")[0], 7)
    (out / "config.json").write_text((whole / "config.json").read_text())
    assert sorted(runs.kept(out)) == [7] and runs.find_checkpoints(out) == []
    for ways in (dict(runs=(str(out),)), dict(show=str(out))):
        with pytest.raises(ValueError, match="holds no run with a checkpoint"):
            evaluation.main(evaluation.Config(**ways))


def test_a_run_that_starts_over_leaves_nothing_kept_of_the_one_before(whole, tmp_path):
    out = tmp_path / "run"
    runs.keep(out, runs.load_run(str(whole), "student", "none")[0], 1)
    (out / "config.json").write_text((whole / "config.json").read_text())
    train.train(Config(out=str(out), steps=1, **SMALL))
    assert not runs.kept(out)


def test_a_damaged_set_is_one_line_for_the_heat_map(whole, tmp_path):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "kept" / "2" / "teacher" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="kept/2/teacher/.*damaged") as error:
        evaluation.main(evaluation.Config(show=str(out)))
    assert "\n" not in str(error.value)


def test_what_a_tool_printed_has_no_thoughts_and_the_rest_is_where_it_was(whole, tmp_path):
    cfg = train.resolve(Config(out=str(tmp_path / "run"), **SMALL))
    policy, _ = runs.load_run(str(whole), "student", "none")
    theorem = Theorem("t", "theorem t (p : Prop) (h : p) : p")
    ids = policy.tokenizer.encode("  exact h\n  exact k", add_special_tokens=False)
    sampled = [t % 3 != 1 for t in range(len(ids))]
    told = Rollout(theorem, prompt_for(policy, theorem), ids, sampled, Verdict("rejected"))
    told.feedback = "1. Write `h`, not `k`."
    untold = Rollout(theorem, prompt_for(policy, theorem), ids, sampled, Verdict("timeout"))
    shorter = Rollout(theorem, told.prompt_ids, ids[2:], sampled[2:], Verdict("rejected"), feedback=told.feedback)
    (tmp_path / "run").mkdir()
    Progress(cfg, tmp_path / "run", policy, None, 0).log(1, {"loss": 1.0}, [told, untold, shorter])

    rows = rows_of(tmp_path / "run" / "rollouts.jsonl")
    assert "logps" not in rows.pop(1)  # nothing is learnt from it
    prompts = {"student": told.prompt_ids, "teacher": prompt_for(policy, theorem, told.feedback)}
    for row, rollout in zip(rows, (told, shorter)):
        ids = rollout.completion_ids
        for role, prompt in prompts.items():
            with torch.no_grad(), policy.act_as(role):
                logits = policy.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            right = logits.log_softmax(-1)[range(len(ids)), ids]
            for t, (logp, own) in enumerate(zip(row["logps"][role], rollout.sampled, strict=True)):
                assert logp == (pytest.approx(right[t].item(), abs=1e-3) if own else None)
    assert rows[0]["logps"]["student"] != rows[0]["logps"]["teacher"]


# ---- --track

SERVICE = """
import json
from pathlib import Path

class Run:
    def log(self, data, step=None):
        with Path({file!r}).open("a") as file:
            file.write(json.dumps([step, data]) + "\\n")

def init(project, name, config):
    if config["seed"] == 13:
        raise Exception("no API key configured")
    Run().log([project, name, config["steps"]], -1)
    return Run()
"""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A package of trackio's interface that writes into a file, which it gives."""
    (tmp_path / "trackio.py").write_text(SERVICE.format(file=str(tmp_path / "sent")))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "sent"
    sys.modules.pop("trackio", None)


def test_a_tracker_gets_every_number_that_the_logs_get(service, tmp_path):
    settings = SMALL | dict(eval_every=1, prompts_per_step=2, max_new_tokens=8)
    out = train.train(Config(out=str(tmp_path / "run"), steps=2, track="trackio", **settings))
    (start, about), *sent = rows_of(service)
    assert (start, about) == (-1, ["feedback-distillation", "run", 2])
    assert [(step, next(iter(data)).split("/")[0]) for step, data in sent] == [
        (0, "valid"), (1, "log"), (1, "valid"), (2, "log"), (2, "valid"),
    ]
    for name in ("log", "valid"):
        mine = [(step, data) for step, data in sent if f"{name}/entropy" in data]
        for (step, data), row in zip(mine, rows_of(out / f"{name}.jsonl"), strict=True):
            numbers = {f"{name}/{k}": v for k, v in row.items() if isinstance(v, (int, float))}
            assert {f"{name}/step": step, **data} == numbers


def test_a_service_that_refuses_ends_the_run_in_one_line_before_its_first_step(service, tmp_path):
    with pytest.raises(ValueError, match="--track trackio: no API key configured"):
        train.train(Config(out=str(tmp_path / "run"), steps=1, seed=13, track="trackio", **SMALL))
    assert not (tmp_path / "run" / "log.jsonl").exists()
    train.train(Config(out=str(tmp_path / "run"), steps=1, **SMALL))  # and leaves nothing in its way


def test_a_missing_package_is_one_line_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "nowhere" / "wandb").mkdir(parents=True)  # what wandb leaves is no package
    monkeypatch.syspath_prepend(tmp_path / "nowhere")
    monkeypatch.setattr(train, "prepare", lambda cfg: pytest.fail("something was loaded"))
    if (track.find_spec("wandb").origin, track.find_spec("trackio")) != (None, None):
        pytest.skip("wandb or trackio is installed here")
    for kind in ("wandb", "trackio"):
        with pytest.raises(ValueError, match=f"^--track {kind} needs .*: pip install {kind}$"):
            train.train(Config(out=str(tmp_path / "run"), track=kind))
    assert not (tmp_path / "run").exists()


def test_without_the_flag_no_tracker_is_ever_imported():
    command = "import sys, train; print(sorted({'tensorboard', 'wandb', 'trackio'} & set(sys.modules)))"
    assert run("-c", command).stdout == "[]\n"


def test_tensorboard_reads_what_was_sent(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train.train(Config(out=str(tmp_path / "run"), steps=2, track="tensorboard", **SMALL))
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("log/loss")]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in rows_of(out / "log.jsonl")]
