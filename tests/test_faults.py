"""A small storm of each kind (tests/storms.py); `python -m bench.faults` has the large ones. And what they have found."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eval as evaluation
import train
from data import complaints, screen
from experiments import sweep
from extras import flags, runs
from lean import dojo, proofs
from lean_env import LeanEnv, Theorem
from tests import storms
from toy import warm_up

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(prompts_per_step=2, max_new_tokens=24, eval_every=0, lora_rank=4)


def test_of_some_bad_invocations_each_ends_in_a_line_and_a_code_above_zero(tmp_path):
    found = storms.storm_of_invocations(tmp_path, 6, seed=7)
    assert found.pop("refused") == 6 and not any(found.values()), found


def test_runs_that_were_interrupted_end_as_if_they_had_not_been(tmp_path):
    found = storms.storm_of_interruptions(tmp_path, 2, seed=5, steps=4)
    assert sum(found["interruptions"].values()) == 2 and found["runs"] and not found["lost"], found


def test_no_sample_trains_on_what_a_failing_endpoint_says(tmp_path):
    found = storms.storm_of_faults(tmp_path, 40, seed=3)
    assert sum(found["faults"].values()) >= 40 and found["told"] and not found["foreign"] and not found["lost"], found


# --- flags


@pytest.mark.parametrize("changes, complaint", [
    (dict(lora_rank=100_000), "--lora-rank 100000 is absurd"), (dict(group_size=0), "--group-size must be above 0, not 0"),
    (dict(feedback="const"), "needs its text"), (dict(feedback="const: "), "needs its text"), (dict(valid="x.jsonl", eval_every=0), "--valid: nothing is validated"),
    (dict(algo="sft", feedback="lean"), "--feedback: for --algo fd only, leave it out with sft"), (dict(algo="grpo", feedback_style=2), "--feedback-style: for --algo fd only"),
    (dict(algo="grpo", tail="bucket"), "--tail: for"), (dict(kl_coef=0.1), "--kl-coef: for --algo grpo only, leave it out with fd"),
    (dict(tutor_card="cpu"), "--tutor-card: for --feedback ollama:MODEL only"), (dict(algo="sft", group_size=2), "sft makes no attempts"),
    (dict(seed=2**64), "--seed must be at most"), (dict(seed=-(2**40)), "--seed must be at most"), (dict(model="./x"), "there is no such folder"), (dict(model="a/b/c"), "there is no such folder"),
])
def test_what_used_to_be_taken_in_silence_is_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        train.resolve(train.Config(out=str(tmp_path / "run"), **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [dict(seed=2**32), dict(seed=-5), dict(feedback="const:x"), dict(algo="grpo", kl_coef=0.1), dict(lora_rank=0), dict(algo="grpo", group_size=2), dict(eval_every=0),
                                     dict(model="owner/name"), dict(algo="sft", feedback="lean", resume=True)])
def test_what_makes_sense_is_taken(tmp_path, changes):
    train.resolve(train.Config(out=str(tmp_path / "run"), **changes))


def test_the_size_of_a_group_follows_the_loss_unless_it_is_given(tmp_path):
    for algo, size in {"fd": 1, "grpo": 5, "sft": 1}.items():
        assert train.resolve(train.Config(out=str(tmp_path / "run"), algo=algo)).group_size == size
        assert train.resolve(train.Config(out=str(tmp_path / "run"), algo=algo, model="some/model")).group_size == size
    assert train.resolve(train.Config(out=str(tmp_path / "run"), algo="grpo", group_size=3)).group_size == 3


@pytest.mark.parametrize("changes, complaint", [
    (dict(model="tiny", text=True), "--text: for --show RUN only"), (dict(model="tiny", style="chat"), "--style: how a served model"), (dict(model="tiny", who="teacher"), "--who: .* has no teacher"),
    (dict(model="m", endpoint="http://h", tools=True), "--tools: not used with --endpoint"), (dict(show="x", samples=3), "--samples: not used with --show"), (dict(show="x", model="tiny"), "--model: not used"),
    (dict(model="tiny", seed=2**70), "--seed must be"), (dict(model="tiny", feedback="const"), "needs its text"),
])
def test_flags_of_an_evaluation_that_would_change_nothing_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluation.main(evaluation.Config(data="no/such.jsonl", out=str(tmp_path / "out"), **changes) if "show" not in changes else evaluation.Config(**changes))


def test_a_tilde_that_no_shell_has_read_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = train.resolve(train.Config(out="~/run", data="~/d.jsonl", init="~", valid="~nobody-here/x"))
    assert (cfg.out, cfg.data, cfg.init, cfg.valid) == (f"{tmp_path}/run", f"{tmp_path}/d.jsonl", str(tmp_path), "~nobody-here/x")
    cfg = evaluation.Config(runs=("~/run", "b~"))
    flags.refuse_everywhere(cfg)
    assert cfg.runs == (f"{tmp_path}/run", "b~")


def test_a_run_that_is_given_as_a_model_names_the_right_flag(tmp_path):
    (tmp_path / "ckpt").mkdir()
    for config in (train.Config(model=str(tmp_path), out=str(tmp_path / "x")), evaluation.Config(model=str(tmp_path))):
        with pytest.raises(ValueError, match=f"--init {tmp_path} starts from its adapters, eval.py {tmp_path} judges it"):
            (train.resolve if isinstance(config, train.Config) else evaluation.main)(config)


def test_few_theorems_no_validation_and_a_part_of_it_are_said(tmp_path, capsys):
    data = tmp_path / "few.jsonl"
    data.write_text("".join((ROOT / "toy" / "valid.jsonl").read_text().splitlines(True)[:3]))
    cfg = train.resolve(train.Config(out=str(tmp_path / "run"), data=str(data), lora_rank=4))
    run = train.prepare(cfg)
    said = capsys.readouterr().out
    assert run.valid == [] and f"no validation: {data} brings no theorems for it" in said
    assert "3 theorems for 64 --prompts-per-step: a step takes some of them more than once" in said
    assert len(flags.validation(train.Config())) == 128 and "the first 128 of 256 theorems" in capsys.readouterr().out
    assert len(flags.validation(train.Config(valid=str(data)))) == 3 and flags.validation(train.Config(eval_every=0)) == [] and not capsys.readouterr().out


# --- rows, variables, addresses


def test_a_row_that_lean_cannot_even_be_asked_about_is_named_and_the_others_stay(capsys):
    env = LeanEnv(lean="wheel", timeout=20)
    good, other = Theorem("good", "theorem good : True"), Theorem("other", "theorem other (p : Prop) (h : p) : p")
    bad = [Theorem("untyped", "theorem untyped"), Theorem("open", "theorem open_ (p : Prop : p"), Theorem("closed", "theorem closed : (1 = 1"), Theorem("mathlib", "theorem m : True", "import Mathlib")]
    said = complaints(env, [bad[0], good, *bad[1:], other])
    assert [why is None for why in said] == [False, True, False, False, False, True]
    assert "has no `: TYPE`" in said[0] and "no library to import" in said[4]
    assert screen(env, [good, *bad, other]) == ([good, other], [])
    out = capsys.readouterr().out
    assert "4 of 6 statements cannot be proved here and are left out" in out and all(f"{theorem.name}: " in out for theorem in bad)
    with pytest.raises(ValueError, match="none of the statements can be proved here, the first says `untyped: "):
        screen(env, bad)


@pytest.mark.parametrize("variables", [dict(RANK="1"), dict(WORLD_SIZE="2"), dict(WORLD_SIZE="two"), dict(RANK="-1"), dict(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="h"), dict(RANK="2", WORLD_SIZE="2")])
def test_half_of_torchruns_variables_are_one_line(tmp_path, variables):
    argv = ["train", *(f"{name}={value}" for name, value in variables.items())]
    assert storms.ended(storms.forked(lambda: storms.as_script(argv, tmp_path), tmp_path / "said"), 60) == 1
    said = (tmp_path / "said.2").read_text()
    assert said.count("\n") == 1 and next(iter(variables)) in said and "unset" in said, said


def test_a_repositorys_address_with_a_token_in_it_is_refused_and_not_printed():
    for where in ("https://user:hunter2@host/repo@abc", "https://hunter2@host/repo@abc", "ssh://user:hunter2@host/repo"):
        with pytest.raises(SystemExit) as stop:
            dojo.attach(None, where)
        assert "hunter2" not in str(stop.value.code) and "without a user or a token" in stop.value.code


def test_streams_that_were_closed_from_the_start_are_no_error(tmp_path):
    words = f"{sys.executable} train.py --steps 1 --prompts-per-step 2 --eval-every 0 --max-new-tokens 8 --out {tmp_path / 'run'}"
    assert subprocess.run(["sh", "-c", f"{words} >&- 2>&-"], cwd=ROOT, timeout=60).returncode == 0
    assert len(runs.read_lines(tmp_path / "run" / "log.jsonl")) == 1


# --- tools that write


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults") / "run"
    train.train(train.Config(out=str(out), steps=2, save_every=1, **SMALL))
    return out


def test_only_a_whole_prover_is_shipped(tmp_path, run):
    target = tmp_path / "tiny"
    shutil.copytree(ROOT / "toy" / "tiny", target)
    before = storms.digest_of(target)
    for folder in (run, run / "ckpt" / "student", run / "ckpt", tmp_path / "nowhere"):
        with pytest.raises(SystemExit, match="holds no whole prover"):
            warm_up.install(folder, target)
    assert storms.digest_of(target) == before and [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_a_finished_folder_takes_the_place_of_another_as_a_whole(tmp_path):
    new, target = tmp_path / "new", tmp_path / "target"
    for folder, text in ((new, "new"), (target, "old")):
        folder.mkdir()
        (folder / "a").write_text(text)
    runs.replace_folder(new, target)
    assert (target / "a").read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["target"]


def test_what_a_user_put_among_the_proofs_stays_there(tmp_path):
    row = {"step": 1, "name": "a", "header": None, "statement": "theorem a : True", "status": "proved", "text": "  trivial", "chat": False, "file": ""}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row | {"text": text}) + "\n" for text in ("  trivial", "  exact trivial")))
    assert proofs.write(tmp_path) == 2
    mine = {"notes.md": "mine", "Proofs/Mine.lean": "-- mine", "Proofs/P0002/notes": "mine", "lakefile.toml": "x"}
    for name, text in mine.items():
        (tmp_path / "proofs" / name).write_text(text)
    (tmp_path / "rollouts.jsonl").write_text(json.dumps(row) + "\n")
    assert proofs.write(tmp_path) == 1
    there = {path.relative_to(tmp_path / "proofs").as_posix() for path in (tmp_path / "proofs").rglob("*") if path.is_file()}
    assert there == {*mine, "P0001.json", "Proofs/P0001/Challenge.lean", "Proofs/P0001/Solution.lean"}


def test_the_heat_map_takes_the_checkpoint_before_a_damaged_one_for_both_models(tmp_path, run, capsys):
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    (broken / "ckpt" / "teacher" / "adapter_model.safetensors").write_bytes(b"")
    look = evaluation.main(evaluation.Config(show=str(broken)))
    assert look["done"] == 1 and "Step 1, saved before it, is taken" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="nothing can be written into"):
        evaluation.main(evaluation.Config(show=str(run), out=str(tmp_path / "file" / "below")))


def test_an_experiment_removes_no_folder_that_it_has_not_made(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(RuntimeError, match="was not made here"):
        sweep.execute(sweep.Run(tmp_path / "mine", (), ()))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
