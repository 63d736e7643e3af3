"""What only a card can show. Skipped without one; with one: python -m pytest -m cuda

Not yet run on any card: docs/not_yet_run.md.
"""

import pytest
import torch
from tests.test_fd_mini import shake, write_model

import fd_mini
from bench.common import TINY, random_prover
import train
from extras import cuda, dry_run, provers

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15], [200, 3], [8, 8, 8, 8]]


@pytest.fixture
def prover(tmp_path):
    random_prover(tmp_path / "prover", TINY)
    return str(tmp_path / "prover")


def samples(policy):
    return fd_mini.sample(policy, PROMPTS, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quantize", ["nf4", "none"])
def test_two_steps_move_every_adapter_and_all_of_it_is_on_the_current_card(prover, quantize):
    policy = provers.load(prover, 8, quantize)
    here = torch.device("cuda", torch.cuda.current_device())
    assert policy.device == here and {p.device for p in policy.model.parameters()} == {here}
    written = [ids for ids, _ in samples(policy)]
    flags = [[True] * len(ids) for ids in written]
    told = [[1, 2, 3, *prompt] for prompt in PROMPTS]
    before = [p.detach().clone() for p in policy.student]
    optimizer = torch.optim.AdamW(policy.student, lr=1e-3, weight_decay=0.0)
    shake(policy, "teacher", seed=1, size=0.1)
    for _ in range(2):  # B starts at zero, so A moves from the second step on
        optimizer.zero_grad()
        fd_mini.fd_backward(policy, PROMPTS, told, written, flags)
        optimizer.step()
    for old, new in zip(before, policy.student):
        assert new.isfinite().all() and not torch.equal(old, new)


def test_graphs_sample_what_the_same_steps_sample_without_them(prover, monkeypatch):
    policy = provers.load(prover, 8, "none")
    shake(policy, "student", seed=1, size=0.1)
    made = []
    record = cuda.Graphs.record
    monkeypatch.setattr(cuda.Graphs, "record", lambda *args: (made.append(1), record(*args)))
    with_graphs = samples(policy)
    assert made and cuda.Graphs.capture, "a capture failed"
    monkeypatch.setattr(cuda.Graphs, "capture", False)
    assert samples(policy) == with_graphs


def test_a_capture_that_fails_gives_the_stream_back(tmp_path, monkeypatch):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    policy = provers.load(write_model(tmp_path, rope_parameters=rope), 4, "none")
    monkeypatch.setattr(cuda.Graphs, "capture", False)
    plain = samples(policy)
    monkeypatch.setattr(cuda.Graphs, "capture", True)
    stream = torch.cuda.current_stream()
    with pytest.warns(UserWarning, match="no CUDA graphs"):
        assert samples(policy) == plain
    assert torch.cuda.current_stream() == stream
    torch.cuda.empty_cache()


@pytest.mark.parametrize("quantize", ["nf4", "none"])
def test_fake_tensors_count_what_torchs_allocator_counts(prover, quantize):
    prompts, written = [[1] * 60] * 16, [[2] * 60] * 16
    job = (prompts, prompts, written, [[True] * 60] * 16)
    with dry_run.FakeTensorMode(), dry_run.Count() as count:
        fake = dry_run.FakePolicy(dry_run.find_config(prover), 8, quantize == "nf4", count)
        dry_run.leave_gradients(fake)
        before = count.bytes
        fd_mini.fd_backward(fake, *job)
    policy = provers.load(prover, 8, quantize)
    fd_mini.fd_backward(policy, *job)  # cuBLAS takes its workspace
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    fd_mini.fd_backward(policy, *job)
    measured = torch.cuda.max_memory_allocated() - held
    assert max(count.peaks.values()) - before == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("algo", ["fd", "grpo"])
def test_a_run_prints_its_plan_and_after_its_second_step_the_measured_peak_below_it(tmp_path, capsys, algo):
    train.train(train.Config(algo=algo, steps=3, prompts_per_step=4, max_new_tokens=32, eval_every=0, out=str(tmp_path / "run")))
    said = capsys.readouterr().out
    assert said.count("memory plan:") == said.count("measured peak: ") == 1
    assert said.index("memory plan:") < said.index("measured peak: ")
    held, planned = (float(said.split(word)[1].split()[0].strip(",")) for word in ("GiB in tensors, ", "held by torch; planned "))
    assert 0 < held < planned
