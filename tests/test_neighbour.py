"""A language model on the policy's card: the order and the bodies of what an Ollama is asked, and what memory the plan finds meanwhile."""

import gc
import json
import socket
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import eval
import fd_mini
import train
from extras import cuda, memory, neighbour, provers, ranks, runs, stops
from extras.memory import GIB
from lean_env import Rollout, Theorem, Verdict
from tests.servers import Local, Quiet

ID = Theorem("a", "theorem a (p : Prop) : p → p", None, "by\n  intro h\n  exact h")
MODEL = 7 * GIB


class Ollama(Local):
    """It loads a model when it is asked something, keeps it, and unloads it when told; it says what it holds."""

    def __init__(self, slow=0):
        self.calls, self.held, self.slow = [], 0, slow
        lock = threading.Lock()

        class Handler(Quiet):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.calls.append((handler.path, body))
                    on_card = body.get("options", {}).get("num_gpu") != 0
                    if handler.path == "/api/chat":
                        self.held = MODEL if on_card else 0
                    elif body["keep_alive"] == 0:
                        self.going = self.slow  # so many more times it still says that it holds it
                        self.held = self.held if self.slow else 0
                handler.answer({"message": {"content": "1. Write `intro`."}, "done_reason": "stop", "eval_count": 5})

            def do_GET(handler):
                with lock:
                    self.calls.append((handler.path, None))
                    models = [{"name": "embedder:latest", "size_vram": GIB}]  # another's, which stays
                    models += [{"name": "m:latest", "size_vram": self.held}] if self.held else []
                    if self.slow and getattr(self, "going", 0):
                        self.going -= 1
                        self.held = MODEL if self.going else 0
                handler.answer({"models": models})

            def answer(handler, reply):
                handler.reply(json.dumps(reply).encode())

        super().__init__(Handler)
        self.spec = f"ollama:m@{self.url}"

    @property
    def paths(self):
        return [path.removeprefix("/api/") for path, _ in self.calls]


@pytest.fixture
def ollama(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Ollama()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: server.calls.append(("empty_cache", None)))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (22 * GIB - server.held, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    with server:
        yield server


def ask(source, count=2):
    rollouts = [Rollout(ID, [], [], [], Verdict("rejected"), None, True, "  exact k") for _ in range(count)]
    assert source.write(rollouts) == ["1. Write `intro`."] * count


def free():
    return memory.available(SimpleNamespace(device=None)) / GIB


def test_in_turns_it_is_gone_before_the_plan_and_after_each_steps_feedback(ollama, capsys):
    source = neighbour.advisor(ollama.spec)
    assert ollama.paths == ["chat", "ps", "generate", "ps"] and free() == 22
    assert ollama.calls[2][1] == {"model": "m", "keep_alive": 0}
    assert "m holds 7.0 GiB of the card; it is unloaded after each step's feedback" in capsys.readouterr().out
    for _ in range(2):
        ollama.calls.clear()
        ask(source)
        assert ollama.paths == ["empty_cache", "chat", "chat", "generate", "ps"] and free() == 22
        assert "keep_alive" not in ollama.calls[1][1] and "num_gpu" not in ollama.calls[1][1]["options"]


def test_it_is_unloaded_although_its_answers_failed(ollama):
    source = neighbour.advisor(ollama.spec)
    ollama.calls.clear()
    source.answer.args[0].read = lambda answer: 1 / 0
    with pytest.raises(ZeroDivisionError):
        ask(source, 1)  # of two the other may still be on its way, and load it again
    assert ollama.paths[-2:] == ["generate", "ps"]


def test_unloading_is_waited_for(ollama):
    ollama.slow = 3
    neighbour.advisor(ollama.spec)
    assert ollama.paths == ["chat", "ps", "generate", "ps", "ps", "ps", "ps"] and free() == 22


def test_shared_it_stays_with_one_context_length_and_the_plan_has_the_rest(ollama, capsys):
    source = neighbour.advisor(ollama.spec, mode="shared")
    assert free() == 15 and "it stays there, and the plan has what is left" in capsys.readouterr().out
    ask(source)
    bodies = [body for path, body in ollama.calls if path == "/api/chat"]
    assert len(bodies) == 3 and ollama.paths.count("generate") == 0 and "empty_cache" not in ollama.paths
    assert {(body["keep_alive"], body["options"]["num_ctx"]) for body in bodies} == {(-1, 16384)}
    thinking = neighbour.advisor(ollama.spec.replace("ollama:", "ollama-think:"), mode="shared")
    ollama.calls.clear()
    for text in ("short", "x" * 16_000):
        thinking.endpoint([text])
    sizes = [body["options"]["num_ctx"] for path, body in ollama.calls if path == "/api/chat"]
    assert sizes == [32768, 32768], "it answers with up to 8,192 tokens"


def test_shared_a_text_that_wants_a_longer_context_is_not_asked_and_named(ollama, capsys):
    endpoint = neighbour.advisor(ollama.spec, mode="shared").endpoint
    ollama.calls.clear()
    assert endpoint(["x" * 22_000, "x" * 30_000])[1] is None and ollama.paths == ["chat"]
    said = capsys.readouterr().out
    assert "1 of 2 requests to m failed: 30000 characters may not fit into the 16384 tokens that --tutor-card shared leaves it" in said
    in_turns = neighbour.advisor(ollama.spec).endpoint
    assert None not in in_turns(["x" * 22_000, "x" * 30_000])


def test_off_the_card_nothing_of_the_card_is_taken(ollama):
    ask(neighbour.advisor(ollama.spec, mode="cpu"))
    bodies = [body for path, body in ollama.calls if path == "/api/chat"]
    assert {body["options"]["num_gpu"] for body in bodies} == {0} and free() == 22 and "generate" not in ollama.paths


def test_without_a_card_or_on_another_machine_it_is_only_pinged(ollama, monkeypatch):
    monkeypatch.setattr(neighbour, "urlsplit", lambda url: SimpleNamespace(hostname="elsewhere"))
    ask(neighbour.advisor(ollama.spec))
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ask(neighbour.advisor(ollama.spec))
    assert ollama.paths == ["chat"] * 6 and "keep_alive" not in str(ollama.calls)


def test_by_any_name_of_this_machine_it_is_here(monkeypatch):
    """192.0.2.1 is an address that no machine has."""
    names = {"own": ["127.0.0.5"], "other": ["192.0.2.1"], "both": ["192.0.2.1", "127.0.0.5"]}
    known = {name: [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 0)) for address in names[name]] for name in names}
    with monkeypatch.context() as inner:
        inner.setattr(socket, "getaddrinfo", lambda host, *_, **__: known[host])
        assert [name for name in names if neighbour.is_here(name)] == ["own", "both"]
    assert [host for host in ("localhost", "127.0.0.1", "nobody.invalid", "a..b") if neighbour.is_here(host)] == ["localhost", "127.0.0.1"]


@pytest.mark.parametrize("mode, field", [("shared", {"keep_alive": -1}), ("cpu", {"options": {"num_gpu": 0}})])
def test_on_another_machine_it_does_what_is_asked_for(ollama, monkeypatch, mode, field):
    """Another machine may be a container on this one."""
    monkeypatch.setattr(neighbour, "is_here", lambda host: False)
    ask(neighbour.advisor(ollama.spec, mode=mode))
    for path, body in ollama.calls:
        if path == "/api/chat":
            told = {"keep_alive": body.get("keep_alive"), "options": {"num_gpu": body["options"].get("num_gpu")}}
            assert field.items() <= told.items()


def test_sources_without_a_server_are_as_they_were():
    assert neighbour.advisor("") is None
    assert neighbour.advisor("lean").endpoint is None
    with pytest.raises(ValueError, match="is none of"):
        neighbour.advisor("oracle")


@pytest.mark.parametrize("mode, rest", [("turns", 22), ("shared", 15)])
def test_a_run_asks_its_adviser_before_it_loads_the_policy(ollama, monkeypatch, tmp_path, mode, rest):
    found = {}

    def load(*_):
        found.update(free=free(), calls=ollama.paths)
        raise ValueError("far enough")

    monkeypatch.setattr(provers, "load", load)
    with pytest.raises(ValueError, match="far enough"):
        train.train(train.Config(feedback=ollama.spec, tutor_card=mode, out=str(tmp_path / "run"), eval_every=0))
    assert found["free"] == rest and found["calls"][0] == "chat"


def test_a_dead_adviser_ends_a_run_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(provers, "load", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("extras.endpoint.time.sleep", lambda seconds: None)
    with pytest.raises(SystemExit, match="no answer from m"):
        train.train(train.Config(feedback="ollama:m@http://127.0.0.1:9", out=str(tmp_path / "run"), eval_every=0))
    assert not (tmp_path / "run").exists()


# ---- the first contact with a card


def test_a_card_that_is_full_ends_with_one_line_and_a_folder_that_can_be_started_again(tmp_path, monkeypatch):
    flags = ["--out", str(tmp_path / "run"), "--steps", "1", "--prompts-per-step", "2", "--max-new-tokens", "8", "--lora-rank", "2", "--eval-every", "0"]
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.99 GiB.\nSee documentation")

    def step(*_):
        raise full

    with monkeypatch.context() as inner:
        inner.setitem(train.STEPS, "fd", step)
        for _ in range(2):  # the same command again
            with pytest.raises(SystemExit) as ended:
                train.main(flags)
            line = str(ended.value)
            assert line.startswith("train.py: CUDA out of memory. Tried to allocate 2.00 GiB: ") and "\n" not in line
            assert "--max-new-tokens" in line and "--micro-tokens" in line
    train.main([*flags, "--resume"])
    assert (tmp_path / "run" / "ckpt" / "state.pt").exists()

    def load(*_):
        raise full

    monkeypatch.setattr(provers, "Policy", load)
    with pytest.raises(SystemExit, match="CUDA out of memory.*--micro-tokens"):
        train.main(["--out", str(tmp_path / "another")])


@pytest.mark.parametrize("said, flag", [("CUDA error: out of memory\nCUDA kernel errors might be", True),
                                        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", True),
                                        ("CUDA error: an illegal memory access\nCUDA kernel errors might be", False)])
def test_cudas_own_errors_are_one_line_and_the_flag_is_named_where_it_helps(said, flag):
    with pytest.raises(SystemExit) as ended, stops.in_one_line("train.py"):
        raise RuntimeError(said)
    assert "\n" not in str(ended.value) and ("--max-new-tokens" in str(ended.value)) == flag


def test_a_policy_knows_which_of_several_cards_it_is_on(monkeypatch):
    """Threads read the weights; "cuda" without a number is another card there."""
    for part in ("load_base", "add_adapters", "make_roles"):
        monkeypatch.setattr(fd_mini.Policy, part, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert fd_mini.Policy().device == torch.device("cuda", 1)


def test_what_a_card_has_saved_is_read_without_one(tmp_path, monkeypatch):
    flags = ["--out", str(tmp_path / "run"), "--prompts-per-step", "2", "--max-new-tokens", "8", "--lora-rank", "2", "--eval-every", "0"]
    with monkeypatch.context() as inner:
        inner.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        train.main([*flags, "--steps", "1"])
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "run" / "ckpt" / "state.pt", weights_only=True)
    runs.load_run(str(tmp_path / "run"), "student", "none")
    train.main([*flags, "--steps", "2", "--resume"])


def test_an_evaluation_holds_one_policy_at_a_time(tmp_path, monkeypatch):
    flags = ["--steps", "1", "--prompts-per-step", "2", "--max-new-tokens", "8", "--lora-rank", "2", "--eval-every", "0"]
    train.main(["--out", str(tmp_path / "run"), *flags])
    alive, others, load = [], [], provers.load

    def watched(*args, **given):
        others.append(sum(ref() is not None for ref in alive))
        policy = load(*args, **given)
        weight = policy.model.base_model.layers[0].mlp.up_proj.base.weight
        assert type(weight).__name__ == "Params4bit"
        alive.extend([weakref.ref(policy), weakref.ref(weight)])
        return policy

    monkeypatch.setattr(provers, "load", watched)
    line = (Path(fd_mini.__file__).parent / "toy" / "test.jsonl").read_text().splitlines(True)[:2]
    (tmp_path / "few.jsonl").write_text("".join(line))
    names = (str(tmp_path / "run"), f"{tmp_path / 'run'}/")
    gc.collect()
    gc.disable()
    try:
        eval.main(eval.Config(names, model="tiny", data=str(tmp_path / "few.jsonl"), samples=1, max_new_tokens=8, quantize="nf4", out=str(tmp_path / "out")))
    finally:
        gc.enable()
    assert others == [0, 0, 0]


def test_on_the_cpu_beside_a_card_it_is_said_why(tmp_path, monkeypatch, capsys):
    (tmp_path / "card").touch()
    provers.load("tiny", 2)
    assert "on the CPU" not in capsys.readouterr().out
    monkeypatch.setattr(cuda, "CARDS", [str(tmp_path / "card")])
    provers.load("tiny", 2)
    assert "on the CPU" not in capsys.readouterr().out, "these tests hide it"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    provers.load("tiny", 2)
    assert "on the CPU: this torch is built for CPUs" in capsys.readouterr().out or torch.version.cuda


def test_gradients_take_no_memory_while_a_run_validates(tmp_path, monkeypatch):
    seen = []

    def validate(cfg, run, out, step):
        seen.append([p.grad for p in run.policy.student])

    monkeypatch.setattr(train, "validate", validate)
    train.train(train.Config(out=str(tmp_path / "run"), steps=2, prompts_per_step=2, max_new_tokens=8, lora_rank=2, eval_every=1))
    assert len(seen) == 3 and not any(grad is not None for grads in seen for grad in grads)


@pytest.mark.parametrize(
    "built_for, card, said",
    [
        (None, False, "there is none"),
        (None, True, "this torch is built for CPUs (there is a card"),
        ("12.8", True, "torch cannot use the card that is there (a driver too old for CUDA 12.8"),
        ("12.8", False, "there is none"),
    ],
)
def test_no_card_is_told_from_a_torch_or_a_driver_that_cannot_use_it(tmp_path, monkeypatch, built_for, card, said):
    (tmp_path / "card").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(cuda, "CARDS", [str(tmp_path / ("card" if card else "none"))])
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(ValueError) as refused:
        provers.load("deepseek-prover-1.5b")
    assert f"needs a CUDA device, and {said}" in str(refused.value)


def test_a_card_that_was_hidden_is_told_from_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda.why_none() == "there is none (CUDA_VISIBLE_DEVICES hides all)"


def test_each_process_takes_the_card_of_its_own_number(monkeypatch):
    taken = []
    monkeypatch.setattr(ranks, "WORLD", 2)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda *_, **__: None)
    ranks.join(2)
    assert taken == [1]


@pytest.mark.parametrize("name, given, found", [
    ("PYTORCH_ALLOC_CONF", {}, "expandable_segments:True"), ("PYTORCH_ALLOC_CONF", {"PYTORCH_ALLOC_CONF": "backend:native"}, "backend:native"),
    ("PYTORCH_ALLOC_CONF", {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, None),
    ("GOMP_SPINCOUNT", {}, "2000"), ("GOMP_SPINCOUNT", {"GOMP_SPINCOUNT": "9"}, "9"), ("GOMP_SPINCOUNT", {"OMP_WAIT_POLICY": "ACTIVE"}, None)])
def test_what_torch_reads_when_it_starts_is_set_before_unless_the_user_did(name, given, found):
    import os
    import subprocess
    import sys

    ours = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    code = f"import extras, os, sys; assert 'torch' not in sys.modules; print(os.environ.get('{name}'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | given, cwd=fd_mini.TINY.parent.parent)
    assert done.stdout.strip() == str(found), done.stderr
