"""What a run loses when it is stopped, broken or unheard: nothing that was done. Real signals, pipes, disks and files."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from extras import runs
from tests.programs import ROOT, Program
from train import Config

SMALL = dict(prompts_per_step=4, max_new_tokens=24, eval_every=0, save_every=100, lora_rank=4)
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def start(out, *flags, **options):
    """The script in a process of its own."""
    return Program("train.py", "--out", out, *FLAGS, *flags, **options)


def start_python(out, *flags, env=ENV):
    """The same, as a user starts it: it has to import torch first."""
    argv = [sys.executable, "-u", "train.py", "--out", str(out), *FLAGS, *flags]
    return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(out, step):
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if (out / "log.jsonl").exists() and len(rows_of(out / "log.jsonl")) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"{out} came to no step {step}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 8 steps that nothing happened to."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train.train(Config(out=str(out), steps=8, **SMALL | {"save_every": 4}))
    return out


def finish_and_compare(out, whole, capsys=None):
    """Resume a run to its 8 steps: it must end as the one that nothing happened to."""
    train.train(Config(out=str(out), steps=8, resume=True, **SMALL))
    for who in ("student", "teacher"):
        a, b = (load_file(folder / "ckpt" / who / "adapter_model.safetensors") for folder in (out, whole))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert [row["step"] for row in rows_of(out / "log.jsonl")] == list(range(1, 9))
    assert [row["loss"] for row in rows_of(out / "log.jsonl")] == [row["loss"] for row in rows_of(whole / "log.jsonl")]


@pytest.mark.parametrize("first, second", [
    (signal.SIGTERM, None), (signal.SIGHUP, None), (signal.SIGINT, signal.SIGINT)])
def test_a_signal_keeps_every_step_and_says_how_to_go_on(tmp_path, whole, first, second):
    process = start(tmp_path / "run", "--steps", "800")
    wait_for_step(tmp_path / "run", 2)
    process.send_signal(first)
    if second:
        process.send_signal(second)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "stopping after this step; once more stops at once" in err
    done = len(rows_of(tmp_path / "run" / "log.jsonl"))
    assert f"steps up to {done} are saved. Go on with: python train.py --out" in out and out.strip().endswith("--resume")
    assert torch.load(tmp_path / "run" / "ckpt" / "state.pt", weights_only=True)["step"] == done
    if done < 8:
        finish_and_compare(tmp_path / "run", whole)


def test_a_second_signal_ends_a_run_that_waits_for_a_silent_server(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, answers the ping and then nothing
        port = server.getsockname()[1]
        process = start(tmp_path / "run", "--feedback", f"openai:m@http://127.0.0.1:{port}/v1", "--steps", "8")
        body = json.dumps({"choices": [{"message": {"content": "1. ok"}, "finish_reason": "stop"}]}).encode()
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        connection.close()
        silent, _ = server.accept()  # the first step's request
        silent.recv(65536)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        silent.close()
    assert process.returncode == 130 and "Traceback" not in err


def test_before_the_first_step_a_signal_is_one_line(tmp_path):
    process = start_python(tmp_path / "run", "--steps", "8")
    time.sleep(1.0)  # while torch is imported or the model is loaded
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and err.count("\n") <= 3 and "Traceback" not in err, err


SWALLOWED = """
import signal
from extras import early
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    print("swallowed, as numpy does in the middle of an import")
"""


def test_a_ctrl_c_while_libraries_are_imported_cannot_be_swallowed_there():
    for code, wanted in ((SWALLOWED, (130, "", "interrupted\n")),
                         (SWALLOWED.replace("try", "early.over()\ntry"), (0, "swallowed, as numpy does in the middle of an import\n", ""))):
        done = subprocess.run([sys.executable, "-c", "import sys; sys.argv[0] = 'here/train.py'\n" + code], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == wanted


GARBAGE = """
import gc
from extras import early
print(gc.isenabled(), end=" ")
early.over()
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""


def test_a_script_looks_for_garbage_when_its_libraries_are_there_and_a_notebook_always():
    for name, wanted in (("here/train.py", "False True True\n"), ("eval.py", "False True True\n"), ("kernel.py", "True True False\n")):
        done = subprocess.run([sys.executable, "-c", f"import sys; sys.argv[0] = '{name}'\n" + GARBAGE], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == wanted, done.stderr


def test_after_kill_9_the_run_goes_on_from_its_last_checkpoint(tmp_path, whole):
    out = tmp_path / "run"
    process = start(out, "--steps", "800", "--save-every=3", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(out, 4)
    process.kill()
    process.wait()
    if len(rows_of(out / "log.jsonl")) < 8:
        finish_and_compare(out, whole)


def test_output_that_nobody_reads_is_no_error(tmp_path, whole):
    process = start_python(tmp_path / "run", "--steps", "8")
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    process.stderr.close()
    assert process.wait(timeout=100) == 0
    assert len(rows_of(tmp_path / "run" / "log.jsonl")) == 8
    finish_and_compare(tmp_path / "run", whole)


def test_a_terminal_that_cannot_print_a_character_is_no_error(tmp_path):
    process = start_python(tmp_path / "run", "--steps", "2", env=ENV | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0 and "\\u2228" in out + "\\u2228" and out.isascii(), err


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="mounting a small file system needs root")
def test_on_a_full_disk_the_steps_that_were_done_are_kept_and_the_disk_is_blamed(tmp_path, whole):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small file system")
    try:
        out = disk / "run"
        made = start(out, "--steps", "2")
        assert made.wait(timeout=60) == 0
        size = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(b"x" * (size - 4096))  # room for a log line or two
        process = start(out, "--steps", "800", "--save-every=1", "--resume")
        _, err = process.communicate(timeout=100)
        assert process.returncode == 1 and "Traceback" not in err and "No space left on device" in err, err
        (disk / "filler").unlink()
        assert runs.find_checkpoints(out)
        finish_and_compare(out, whole)
    finally:
        subprocess.run(["umount", "-l", disk])


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    first = start(tmp_path / "run", "--steps", "800")
    wait_for_step(tmp_path / "run", 1)
    before = (tmp_path / "run" / "config.json").read_text()
    second = start(tmp_path / "run", "--steps", "800", "--resume")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 1 and "another process is training in" in err and "Traceback" not in err
    assert (tmp_path / "run" / "config.json").read_text() == before
    first.kill()
    first.wait()
    third = start(tmp_path / "run", "--steps", "2", "--resume")  # the lock died with its process
    assert third.wait(timeout=60) == 0


def test_a_run_that_died_before_its_first_checkpoint_starts_over(tmp_path, whole):
    for resume in (False, True):
        out = tmp_path / f"run-{resume}"
        out.mkdir()
        (out / "config.json").write_text((whole / "config.json").read_text())
        (out / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"st')
        (out / "ckpt.new" / "student").mkdir(parents=True)
        train.train(Config(out=str(out), steps=8, resume=resume, **SMALL))
        finish_and_compare(out, whole)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')  # somebody's model, no run
    with pytest.raises(ValueError, match="already holds files"):
        train.train(Config(out=str(other), steps=1, **SMALL))
    assert [file.name for file in other.iterdir()] == ["config.json"]


def test_a_run_may_be_moved_or_written_with_a_slash_and_made_before_a_flag_was(tmp_path, whole):
    moved = tmp_path / "moved"
    shutil.copytree(whole, moved)
    config = json.loads((moved / "config.json").read_text())
    for name in ("tools", "base", "theorems", "kl_coef"):
        del config[name]
    (moved / "config.json").write_text(json.dumps(config))
    train.train(Config(out=f"{moved}/", steps=9, resume=True, **SMALL))
    assert len(rows_of(moved / "log.jsonl")) == 9
    policy, config = runs.load_run(f"{moved}/", "student", "none")
    assert config["tools"] is False and policy.rank == 4


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(bytes(range(256)) * 40),
    "a list": lambda file: file.write_text("[1, 2]"),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["state.pt", "student/adapter_model.safetensors"])
def test_of_a_damaged_checkpoint_the_one_before_is_taken_by_every_reader(tmp_path, whole, capsys, how, name):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    DAMAGES[how](out / "ckpt" / name)
    runs.load_run(str(out), "student", "none")
    assert (how, name) == ("gone", "state.pt") or "Step 4, saved before it, is taken" in capsys.readouterr().out
    if how == "cut":
        finish_and_compare(out, whole)
        shutil.rmtree(out)
        shutil.copytree(whole, out)
    # nothing is left when both are bad: one line, no traceback
    for folder in ("ckpt", "ckpt.old"):
        if (out / folder / name).exists():
            DAMAGES[how](out / folder / name)
    with pytest.raises(ValueError) as error:
        runs.load_run(str(out), "student", "none")
    assert "\n" not in str(error.value) and str(out) in str(error.value)


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_checkpoint_does_not_take_the_place_of_the_good_one_before_it(tmp_path, whole, how):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    DAMAGES[how](out / "ckpt" / "state.pt")
    train.train(Config(out=str(out), steps=5, resume=True, **SMALL))  # from step 4, in ckpt.old
    assert [torch.load(folder / "state.pt", weights_only=True)["step"] for folder in runs.find_checkpoints(out)] == [5, 4]
    DAMAGES[how](out / "ckpt" / "state.pt")
    finish_and_compare(out, whole)


def test_adapters_that_are_not_finite_are_not_loaded(tmp_path, whole):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "ckpt.old", ignore_errors=True)
    file = out / "ckpt" / "student" / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(ValueError, match="not finite"):
        runs.load_run(str(out), "student", "none")


@pytest.mark.parametrize("how", ["empty", "cut", "garbage", "a list"])
def test_a_damaged_config_is_named_in_one_line(tmp_path, whole, how):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    DAMAGES[how](out / "config.json")
    for read in (lambda: runs.load_run(str(out), "student", "none"),
                 lambda: train.train(Config(out=str(out), steps=9, resume=True, **SMALL))):
        with pytest.raises(ValueError, match="config.json cannot be read"):
            read()


def test_damaged_lines_of_a_log_are_left_out_and_the_others_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnot json\n[1]\n\n{"step": 2}\n{"step": 3}\n{"st')
    assert [row["step"] for row in runs.read_lines(path)] == [1, 2, 3]
    runs.keep_lines(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n' and not list(tmp_path.glob("*.new"))
    stamp = path.stat().st_mtime_ns
    runs.keep_lines(path, 2)  # nothing has to go: the file is not touched
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(b'{"step": 1, "text": "\xe2\x88\xa8"}\n\xff\xfe\n')
    assert [row["step"] for row in runs.read_lines(path)] == [1]


def test_another_base_of_the_same_shape_is_refused(tmp_path, whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import fd_mini

    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(fd_mini.TINY)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.5)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(fd_mini.TINY).save_pretrained(other)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"model": str(other)}))
    with pytest.raises(ValueError, match="another base"):
        runs.load_run(str(run), "student", "none")
    with pytest.raises(ValueError, match="another base"):
        train.train(Config(model=str(other), init=str(whole), out=str(tmp_path / "new"), steps=1, lean="wheel", **SMALL))
    assert not (tmp_path / "new").exists()


def test_a_default_folder_that_is_taken_becomes_the_next_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.free_folder("out/fd", False) == runs.free_folder("out/fd", True) == "out/fd"
    Path("out/fd").mkdir(parents=True)
    assert runs.free_folder("out/fd", False) == "out/fd-2" and runs.free_folder("out/fd", True) == "out/fd"
    Path("out/fd-2").mkdir()
    assert runs.free_folder("out/fd", False) == "out/fd-3" and runs.free_folder("out/fd", True) == "out/fd-2"
