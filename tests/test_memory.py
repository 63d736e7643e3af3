"""The memory plan against arithmetic by hand, and against the bytes of real tensors."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config

import fd_mini
from extras import provers
from extras import memory
from extras.memory import GIB

DEEPSEEK = LlamaConfig(
    vocab_size=102400,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=30,
    num_attention_heads=32,
    num_key_value_heads=32,
    max_position_embeddings=4096,
    tie_word_embeddings=False,
)
QWEN = Qwen3Config(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)


def test_a_7b_prover_comes_out_as_by_hand():
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11008  # MHA: q, k, v, o are square
    ends = 2 * 102400 * 4096
    assert memory.weights(DEEPSEEK, "nf4") == 30 * layer / 2 + 30 * layer / 64 * 4 + 2 * ends
    assert memory.weights(DEEPSEEK, "nf4") / GIB == pytest.approx(4.74, abs=0.01)
    assert memory.weights(DEEPSEEK, "bf16") / GIB == pytest.approx(12.87, abs=0.01)
    assert memory.kv_cache(DEEPSEEK, 1, 1) == 480 * 1024
    numbers = 32 * 30 * (4 * 8192 + 3 * (4096 + 11008))  # about 75 million
    assert memory.adapters(DEEPSEEK, 32) == 20 * numbers and numbers == pytest.approx(
        75e6, rel=0.01
    )
    assert memory.checkpoints(DEEPSEEK, 4096) == 2 * 4096 * 30 * 4096  # 0.94 GiB
    assert memory.prefill(DEEPSEEK, 14 * 1024) == 14 * 1024 * 2 * (4 * 4096 + 4 * 11008)  # 1.61 GiB


def test_grouped_heads_and_a_tied_head_are_counted():
    assert memory.kv_cache(QWEN, 1, 1) == 112 * 1024
    assert memory.weights(QWEN, "bf16") / GIB == pytest.approx(3.20, abs=0.01)
    assert memory.adapters(QWEN, 32, copies=1) / 4 == pytest.approx(34.9e6, rel=0.01)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_weights_and_adapters_are_the_bytes_of_the_real_tensors(tmp_path, quantize):
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    fd_mini.Policy("tiny").tokenizer.save_pretrained(tmp_path)
    policy = fd_mini.Policy(str(tmp_path), rank=8, quantize=quantize)
    lora = sum(p.numel() * 4 for p in policy.student)
    assert memory.adapters(config, 8, copies=1) == lora
    total, norms = 0, (2 * 2 + 1) * 128 * 4  # the plan leaves the norms out
    for name, p in policy.model.named_parameters():
        if "lora_" not in name:
            total += p.numel() * p.element_size()
            state = getattr(p, "quant_state", None)
            total += state.absmax.numel() * state.absmax.element_size() if state else 0
    plan = memory.weights(config, "fp32" if quantize == "none" else "nf4")
    if quantize == "nf4":
        plan += 2 * 2 * 600 * 128  # on a CPU embeddings and head stay in fp32
    assert total - norms == plan


def test_all_weights_that_train_are_counted_in_every_copy():
    """Rank 0: the weights are what trains; beside them the base, the teacher, the gradient and two of Adam."""
    assert memory.adapters(QWEN, 0) == 5 * memory.weights(QWEN, "fp32")


def test_batch_sizes_are_chosen_to_fit_and_the_table_says_so(monkeypatch):
    free = 22 * GIB
    parts = memory.plan(DEEPSEEK, "nf4", 32, 2048, free)
    common = parts["weights"] + parts["adapters, optimiser, teacher"] + parts["fixed (estimate)"]
    one_row = memory.kv_cache(DEEPSEEK, 1, 2048) + memory.prefill(DEEPSEEK, 1024)
    sampling, training = memory.peaks(parts)
    assert sampling == common + parts["rows"] * one_row <= 0.95 * free < sampling + one_row
    layer, head = parts["one layer's backward"], parts["or a head chunk"]
    assert training == common + parts["gradient"] + parts["checkpoints"] + max(layer, head) <= 0.95 * free
    assert parts["micro_tokens"] % 512 == 0 and 10 <= parts["rows"] <= 14, "0.94 GiB of cache a row"
    shown = memory.table(parts, free)
    assert f"{parts['rows']} of the longest rows" in shown and "4.74 GiB" in shown
    assert f"{sampling / GIB:.2f}, {training / GIB:.2f} of 22.0 GiB free" in shown

    few = memory.plan(DEEPSEEK, "nf4", 32, 2048, free, micro_tokens=16)
    assert memory.peaks(few)[1] == common + parts["gradient"] + memory.checkpoints(DEEPSEEK, 16) + head, "not both at a time"

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7.5 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 8 * GIB)
    line = memory.measured(SimpleNamespace(planned_peak=10 * GIB))
    assert "7.50 GiB in tensors, 8.00 held by torch; planned 10.00" in line and "1.6 for CUDA itself" in line


@pytest.mark.parametrize(
    "form, rank, free, micro, said",
    [
        ("bf16", 32, 8, None, "the model does not fit: 8.0 GiB are free, .* take 15.6. Try --quantize nf4, a smaller"),
        ("nf4", 32, 7, None, "the model does not fit.* Try a smaller --model or --lora-rank$"),
        ("fp32", 0, 22, None, "the model does not fit.* Try a smaller --model or --lora-rank 32, which trains adapters"),
        ("bf16", 32, 16, None, "sampling 1 rows at a time does not fit.*a lower --max-new-tokens"),
        ("nf4", 32, 22, 10**6, "a micro-batch of 1000000 tokens does not fit.*a lower --micro-tokens"),
    ],
)
def test_one_line_says_what_to_lower(form, rank, free, micro, said):
    parts = memory.plan(DEEPSEEK, form, rank, 2048, free * GIB, micro)
    policy = SimpleNamespace(rank=rank, four_bit=form == "nf4")
    with pytest.raises(ValueError, match=said):
        memory.check(policy, parts, free * GIB, *memory.peaks(parts))


def test_the_same_memory_takes_more_of_shorter_rows_in_equal_batches():
    room = memory.plan(DEEPSEEK, "nf4", 32, 2048, 22 * GIB)["room"]
    batches, waiting = [], 32
    while waiting:
        batches.append(memory.rollout_batch(DEEPSEEK, room, 300, 1024, waiting))
        waiting -= batches[-1]
    assert batches == [16, 16]
    for prompt, new in ((300, 1024), (1024, 1024), (3840, 255), (10, 80)):
        most = memory.most_rows(DEEPSEEK, room, prompt, new)
        bytes_of = [r * (memory.kv_cache(DEEPSEEK, 1, prompt + new) + memory.prefill(DEEPSEEK, prompt)) for r in (most, most + 1)]
        assert bytes_of[0] <= room and (most == 256 or room < bytes_of[1])
    assert memory.most_rows(DEEPSEEK, 0, 10, 10) == 1, "one row is tried, whatever the plan says"


def patch_card(monkeypatch, free, reserved=0, allocated=0):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)


def test_a_policy_gets_the_batch_sizes_of_its_plan_and_the_plan_is_printed(monkeypatch, capsys):
    patch_card(monkeypatch, 2 * GIB, reserved=GIB, allocated=GIB // 2)  # what is loaded already is in the plan
    policy = fd_mini.Policy("tiny", rank=4)
    cfg = SimpleNamespace(max_new_tokens=80, micro_tokens=None, algo="grpo")
    memory.fit(cfg, policy)
    parts = memory.plan(policy.model.config, "fp32", 4, policy.max_positions, 3 * GIB, copies=6)  # a prompt may fill the positions
    assert cfg.micro_tokens == parts["micro_tokens"] and policy.planned_peak == max(memory.peaks(parts))
    assert policy.rollout_batch(100, 80, 30) == memory.rollout_batch(policy.model.config, parts["room"], 100, 80, 30, size=4)
    out = capsys.readouterr().out
    assert out.startswith("memory plan:\n") and "of 3.0 GiB free" in out
    patch_card(monkeypatch, GIB)
    with pytest.raises(ValueError, match="the model does not fit"):
        memory.fit(cfg, policy)


@pytest.mark.parametrize("caller", ["evaluation", "self", "tools"])
def test_whoever_samples_takes_batches_that_fit(caller, monkeypatch, tmp_path):
    """The room is that of four rows of 200 tokens: longer prompts get fewer slots."""
    policy = provers.load("tiny-tools" if caller == "tools" else "tiny", rank=2)
    policy.tools = caller == "tools"
    config = policy.model.config
    cost = memory.kv_cache(config, 1, 200, 4) + memory.prefill(config, 120, 4)
    memory.share(policy, 4 * cost)
    seen, decode = [], fd_mini.decode

    def watched(policy, prompts, completions, waiting, size, uniforms, *rest):
        longest = max(len(prompts[row]) for row in waiting)
        seen.append(size)
        bytes_of = memory.kv_cache(config, size, longest + uniforms.shape[1], 4) + memory.prefill(config, size * longest, 4)
        assert bytes_of <= 4 * cost or size == 1
        return decode(policy, prompts, completions, waiting, size, uniforms, *rest)

    monkeypatch.setattr(fd_mini, "decode", watched)
    for scale in (1, 4):  # short rows, then long ones
        ask(caller, policy, scale)
    assert 1 <= seen[-1] < seen[0], "more rows where they are short"


def ask(caller, policy, scale):
    from eval import roll_out
    from extras import speaker
    from lean_env import LeanEnv, Theorem

    if caller == "self":
        speaker.speaker(policy)(["Say " + "ok " * 5 * scale for _ in range(9)])
    else:
        theorems = [Theorem(f"t{i}", f"theorem t{i} (p : Prop) : " + "p → " * (8 * scale) + "p", "", None) for i in range(9)]
        roll_out(policy, LeanEnv(lean="wheel"), theorems, 40, torch.Generator().manual_seed(0))


def test_evaluation_on_a_card_knows_what_is_free(monkeypatch):
    """eval.py makes its policies by provers.load: these have a budget before any run's plan is made."""
    patch_card(monkeypatch, 10 * GIB, reserved=3 * GIB, allocated=2 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real = fd_mini.Policy

    def on_cpu(*args):
        with monkeypatch.context() as inner:
            inner.setattr(torch.cuda, "is_available", lambda: False)
            return real(*args)

    monkeypatch.setattr(provers, "Policy", on_cpu)
    policy = provers.load("tiny", rank=2)
    room = 0.95 * 11 * GIB - memory.FIXED
    assert policy.rollout_batch(60, 80, 10**6) == math.ceil(10**6 / math.ceil(10**6 / 256))
    assert policy.rollout_batch.args[1] == room


def test_the_measured_peak_stands_beside_the_planned_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 17 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 18.5 * GIB)
    said = memory.measured(SimpleNamespace(device=None, planned_peak=20 * GIB))
    assert said.startswith(f"  measured peak: 17.00 GiB in tensors, 18.50 held by torch; planned 20.00, of which {memory.FIXED / GIB:.1f} for CUDA itself") and "\n" not in said


def test_a_large_model_without_a_gpu_is_refused_before_anything_is_loaded(tmp_path):
    DEEPSEEK.save_pretrained(tmp_path)  # a config alone: loading weights would fail differently
    for name in (str(tmp_path), "deepseek-prover-1.5b"):
        with pytest.raises(
            ValueError, match=r"needs a CUDA device.*GiB in NF4.*On a CPU: python train.py$"
        ):
            provers.load(name)
