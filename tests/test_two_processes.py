"""Two CPU processes (gloo) against one: the same attempts, the same gradients, one set of files, one end. Where the launcher has
a part in it they are torchrun's, else two programs with the variables that torchrun sets, which start in a third of the time."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes
from safetensors.torch import load_file

import fd_mini
from extras import ranks
from tests.programs import ROOT, Program



SMALL = "--eval-every 0 --lora-rank 4 --max-new-tokens 32".split()


def torchrun(*flags):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, "train.py", *SMALL, *map(str, flags)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(processes, *flags):
    """-> (exit codes, all that was printed) when they have ended"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    programs = []
    for rank in map(str, range(processes)):
        own = {"RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
        programs.append(Program("train.py", *SMALL, *map(str, flags), env=os.environ | (meeting | own if own else {})))
    texts = [text for program in programs for text in program.communicate(timeout=120)]
    return [program.returncode for program in programs], "".join(texts)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_processes_make_the_same_attempts_and_the_same_gradients_as_one(tmp_path):
    flags = ("--prompts-per-step", 5, "--group-size", 2, "--steps", 2)  # shares of two and three groups
    for n in (1, 2):
        codes, text = run(n, "--out", tmp_path / str(n), *flags)
        assert codes == [0] * n, text
    one, two = tmp_path / "1", tmp_path / "2"
    mine, theirs = ([r["text"] for r in rows_of(out / "rollouts.jsonl") if r["step"] == 1] for out in (one, two))
    assert theirs == mine[:4] and len(set(theirs)) > 1  # the first process writes its own attempts
    logs = [[{k: v for k, v in row.items() if not k.startswith("s_") and k != "seconds"} for row in rows_of(out / "log.jsonl")] for out in (one, two)]
    for a, b in zip(*logs, strict=True):  # "tokens" is the global count; loss, length ... are means over all attempts
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6) and a["grad_norm"] > 0.01
    states = [torch.load(out / "ckpt" / "state.pt", weights_only=True)["optimizers"][0]["state"] for out in (one, two)]
    for i, state in states[0].items():  # Adam's first average is linear in the gradients, the adapters are not
        torch.testing.assert_close(state["exp_avg"], states[1][i]["exp_avg"], rtol=1e-3, atol=1e-6)
    for who in ("student", "teacher"):
        a, b = (torch.cat([t.flatten() for t in load_file(out / "ckpt" / who / "adapter_model.safetensors").values()]) for out in (one, two))
        assert (a - b).norm() < 1e-3 * a.norm()
    assert sorted(p.name for p in one.rglob("*")) == sorted(p.name for p in two.rglob("*"))  # one set of files


ADVANTAGES = [1.0, -0.5, 0.25, 2.0, -1.0]


def gradient(rows, sampled):
    """GRPO's metrics and gradient for some of five fixed rows."""
    policy = fd_mini.Policy("tiny", rank=4)
    prompts, completions = [[5 + i, 6, 7] for i in rows], [[20 + i, 30, 40][:1 + i % 3] for i in rows]
    metrics = fd_mini.grpo_backward(policy, prompts, completions, sampled, [ADVANTAGES[i] for i in rows])
    metrics = ranks.combine(policy.student, metrics)
    return metrics, [torch.zeros_like(p) if p.grad is None else p.grad for p in policy.student]


def one_of_two(rank, folder, shares):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks.RANK, ranks.WORLD = rank, 2  # as torchrun tells them
    torch.save(gradient(*shares[rank]), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_a_policy_gradient_is_divided_by_the_tokens_of_both_processes_even_if_one_has_none(tmp_path):
    sampled = [[True] * (1 + i % 3) for i in range(3)] + [[False], [False] * 2]
    shares = [(range(3), sampled[:3]), (range(3, 5), sampled[3:])]
    start_processes(one_of_two, (tmp_path, shares), nprocs=2, start_method="forkserver")
    metrics, grads = gradient(range(5), sampled)
    for rank in (0, 1):
        theirs, others = torch.load(tmp_path / f"{rank}.pt")
        assert theirs == pytest.approx(metrics, rel=1e-4, abs=1e-6) and theirs["tokens"] == 6
        for a, b in zip(grads, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert max(g.abs().max() for g in grads) > 1e-3


def test_a_failure_in_one_process_ends_both(tmp_path):
    """Two rows and a source of feedback that fails on one: whichever process gets it stops, in its first step; the other is waiting."""
    rows = [{"name": name, "statement": f"theorem {name} (p : Prop) (h : p) : p", "proof": "by\n  exact h"} for name in "ab"]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = tmp_path / "source.py"
    source.write_text("def told(rollout):\n    if rollout.theorem.name == 'b':\n        raise ValueError('nothing about b')\n    return 'ok'\n")
    process = torchrun("--feedback", f"{source}:told", "--data", data, "--prompts-per-step", 2, "--steps", 50, "--out", tmp_path / "run",
                       "--lean", "wheel")
    text, _ = process.communicate(timeout=100)
    assert process.returncode != 0 and "nothing about b" in text, text
    assert not (tmp_path / "run" / "ckpt").exists()


def test_statements_that_lean_cannot_read_are_left_out_for_both(tmp_path):
    """Imitation needs Lean for the validation only, which the first process does: the other must still pick from the same rows."""
    rows = [json.loads(line) for line in (ROOT / "toy" / "train.jsonl").read_text().splitlines()[:6]]
    rows[1]["statement"] = "theorem t : Unheard of"
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    flags = ("--algo", "sft", "--steps", 3, "--prompts-per-step", 4, "--data", tmp_path / "data.jsonl", "--valid", tmp_path / "valid.jsonl",
             "--eval-every", 9, "--max-new-tokens", 80)
    losses = []
    for n in (1, 2):
        _, text = run(n, "--out", tmp_path / str(n), *flags)
        assert "1 statement" in text or rows[1]["name"] in text, text
        losses.append([row["loss"] for row in rows_of(tmp_path / str(n) / "log.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_more_processes_than_prompts_are_refused(tmp_path):
    codes, text = run(2, "--prompts-per-step", 1, "--out", tmp_path / "run")
    assert 0 not in codes and text.count("lower --nproc_per_node") == 2 and not (tmp_path / "run").exists()


def test_ctrl_c_ends_both_after_the_same_step_and_saves_it(tmp_path):
    out = tmp_path / "run"
    process = torchrun("--prompts-per-step", 4, "--steps", 500, "--save-every", 400, "--out", out)
    deadline = time.time() + 90
    while time.time() < deadline and not ((out / "log.jsonl").exists() and (out / "log.jsonl").read_text().count("\n")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # to the launcher, which passes it on
    text, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "Go on with: torchrun --standalone --nproc_per_node=2 train.py --eval-every 0" in text, text
    assert torch.load(out / "ckpt" / "state.pt", weights_only=True)["step"] == rows_of(out / "log.jsonl")[-1]["step"] < 400, text
