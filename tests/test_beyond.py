"""experiments/beyond.py and the page about one's own ablation."""

import importlib.util
import math
import os
import re
import subprocess
from argparse import Namespace

import torch

import fd_mini
from experiments import beyond
from lean_env import Rollout, Theorem, Verdict
from tests.programs import ROOT, run



def rollouts(*statuses):
    return [
        Rollout(Theorem(str(i), "theorem t : True"), [], [], [], Verdict(s))
        for i, s in enumerate(statuses)
    ]


def some_logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 7, generator=generator)
    logps, ids = teacher.log_softmax(-1).topk(3)
    return student, ids, logps


def test_the_lines_of_the_ablation_page_can_be_applied_and_do_what_it_says(tmp_path):
    """Cross-entropy with the squared and normalised probabilities, by brute force."""
    page = (ROOT / "experiments" / "ABLATION.md").read_text()
    (tmp_path / "sharper.diff").write_text(re.search(r"```diff\n(.*?)```", page, re.S)[1])
    (tmp_path / "fd_mini.py").write_text((ROOT / "fd_mini.py").read_text())
    subprocess.run(
        ["git", "apply", "sharper.diff"],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
    )
    spec = importlib.util.spec_from_file_location("changed", tmp_path / "fd_mini.py")
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    student, ids, logps = some_logits()
    wanted = []
    for row in range(5):
        logq = student[row].double().log_softmax(-1)[ids[row]].tolist()
        squares = [math.exp(2 * x) for x in logps[row].tolist()]
        wanted.append(-sum(square / sum(squares) * x for square, x in zip(squares, logq)))
    assert torch.allclose(
        changed.topk_cross_entropy(student, ids, logps, "sharper"),
        torch.tensor(wanted),
        atol=1e-5,
    )


def test_the_reverse_tail_is_the_mirror_image_of_kl_over_k_plus_1_buckets():
    student, ids, logps = some_logits()
    wanted = []
    for row in range(5):
        q = student[row].double().softmax(-1)[ids[row]].tolist()
        p = logps[row].double().exp().tolist()
        pairs = zip([*q, 1 - sum(q)], [*p, 1 - sum(p)])
        wanted.append(sum(a * math.log(a / b) for a, b in pairs))
    assert torch.allclose(
        fd_mini.topk_cross_entropy(student, ids, logps, "reverse"),
        torch.tensor(wanted),
        atol=1e-5,
    )


def test_changes_say_who_is_not_taught():
    some = rollouts("proved", "rejected", "timeout")
    assert beyond.failures(some, ["a", "b", "c"]) == [None, "b", "c"]
    assert beyond.wrong_feedback(some, ["a", "b", "c"]) == ["b", "c", "a"]


def test_later_tokens_of_a_wrong_attempt_count_less_on_average():
    some = rollouts("proved", "rejected")
    for r in some:
        r.sampled = [True] * 4
    kept = torch.zeros(4)
    for number in range(400):
        some[1].sampled = [True] * 4
        assert beyond.position(some, ["a", "b"], None, None, Namespace(seed=3), number) == ["a", "b"]
        kept += torch.tensor(some[1].sampled)
    assert some[0].sampled == [True] * 4
    assert torch.allclose(kept / 400, torch.tensor([1, 0.75, 0.5, 0.25]), atol=0.08)


def test_forks_have_no_loss_and_other_tokens_the_papers():
    logq = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.05, 0.05]]).clamp(min=1e-9).log()  # 0.69, 0.39
    logp = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]).log()
    by_hand = -(0.2 * math.log(0.9) + 0.8 * math.log(0.05))
    assert torch.allclose(beyond.forks(logp, logq), torch.tensor([0.0, by_hand]))


def test_expert_iteration_learns_from_what_lean_accepts_and_from_nothing_else(monkeypatch):
    some = rollouts("rejected", "proved", "timeout")
    for i, r in enumerate(some):
        r.prompt_ids, r.completion_ids, r.sampled = [i], [10 + i], [True]
    monkeypatch.setattr(beyond.train, "sample_and_judge", lambda *_: ({"pass": 0.5}, some))
    seen = []

    def imitate(policy, prompts, completions, sampled, micro_tokens):
        seen.append((prompts, completions, sampled))
        return {"loss": 1.0}

    monkeypatch.setattr(beyond, "sft_backward", imitate)
    cfg, run = Namespace(micro_tokens=8), Namespace(policy=None)
    assert beyond.expert_step(cfg, run, [], 1) == ({"pass": 0.5, "loss": 1.0}, some)
    assert seen == [(([1],), ([11],), ([True],))]
    some[1].verdict = Verdict("rejected")
    assert beyond.expert_step(cfg, run, [], 1)[0] == {"pass": 0.5} and len(seen) == 1


def test_a_change_reaches_train_py(tmp_path):
    """A step for real: `failures` leaves nobody out where nobody succeeds. An unknown change is
    refused in one line."""
    flags = "--steps 1 --prompts-per-step 4 --eval-every 0 --lora-rank 4".split()
    beyond = ("-m", "experiments.beyond")
    done = run(*beyond, "taught+failures+forks", *flags, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 1
    wrong = run(*beyond, "taugt", "--steps", "1")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("beyond.py: taugt is none of expert, failures")


def test_without_momentum_a_step_has_the_direction_of_its_own_gradient(monkeypatch):
    """After nine gradients of 1 one of -1 turns the parameter round; with Adam's usual average it goes on."""
    def last_move():
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
        for gradient in [1.0] * 9 + [-1.0]:
            before = weight.item()
            weight.grad = torch.tensor([gradient])
            optimizer.step()
        return weight.item() - before

    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.AdamW)  # put back afterwards
    monkeypatch.setattr(beyond.train, "prepare", beyond.train.prepare)
    monkeypatch.setattr(beyond.train, "main", lambda flags: None)
    assert last_move() < 0
    beyond.main(["no_momentum"], [])
    assert 0.09 < last_move() < 0.11
