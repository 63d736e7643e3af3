"""The memory plan against arithmetic by hand, and against the bytes of real tensors."""

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
    assert (
        2 * 4096 * 30 * 4096 < memory.activations(DEEPSEEK, 4096) < 2.2 * GIB
    )  # 0.94 GiB of checkpoints, and one layer


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


def test_batch_sizes_are_chosen_to_fit_and_the_line_says_what_to_lower(monkeypatch):
    parts = memory.plan(DEEPSEEK, "nf4", 32, 2048, 22 * GIB)
    common = (
        parts["weights"] + parts["adapters, optimiser, teacher"] + parts["fixed (estimate)"]
    )
    assert (
        common + parts["KV cache"]
        <= 0.95 * 22 * GIB
        < common + memory.kv_cache(DEEPSEEK, parts["rows"] + 1, 2048)
    )
    assert (
        common + parts["activations"] + parts["head chunk"] <= 0.95 * 22 * GIB
        and parts["micro_tokens"] % 512 == 0
    )
    assert 10 <= parts["rows"] <= 16, "14 to 15 GiB of cache at 0.94 GiB a row"
    shown = memory.table(parts, 22 * GIB)
    assert f"{parts['rows']} rows are sampled at once" in shown and "4.74 GiB" in shown
    sampling, training = memory.peaks(parts)
    assert (sampling, training) == (
        common + parts["KV cache"],
        common + parts["activations"] + parts["head chunk"],
    )
    assert f"{sampling / GIB:.2f}, {training / GIB:.2f} of 22.0 GiB free" in shown
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7.5 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 8 * GIB)
    line = memory.measured(SimpleNamespace(planned_peak=10 * GIB))
    assert (
        "7.50 GiB in tensors, 8.00 held by torch; planned 10.00" in line
        and "1.6 for CUDA itself" in line
    )
    with pytest.raises(ValueError, match="Lower --max-new-tokens"):
        memory.plan(DEEPSEEK, "bf16", 32, 4096, 16 * GIB)
    with pytest.raises(ValueError, match="Lower --micro-tokens"):
        memory.plan(DEEPSEEK, "nf4", 32, 2048, 22 * GIB, micro_tokens=10**6)


def test_a_policy_gets_the_batch_sizes_of_its_plan_and_the_plan_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * GIB, 24 * GIB))
    monkeypatch.setattr(
        torch.cuda, "memory_reserved", lambda device: GIB
    )  # what is loaded already is in the plan
    policy, cfg = fd_mini.Policy("tiny", rank=4), SimpleNamespace(
        max_new_tokens=80, micro_tokens=None, algo="grpo"
    )
    memory.fit(cfg, policy)
    parts = memory.plan(
        policy.model.config, "fp32", 4, policy.max_positions, 3 * GIB, copies=6
    )  # a prompt may fill the positions
    assert (policy.rollout_batch, cfg.micro_tokens) == (
        parts["rows"],
        parts["micro_tokens"],
    ) and policy.planned_peak == max(memory.peaks(parts))
    out = capsys.readouterr().out
    assert out.startswith("memory plan:\n") and "of 3.0 GiB free" in out


def test_a_large_model_without_a_gpu_is_refused_before_anything_is_loaded(tmp_path):
    DEEPSEEK.save_pretrained(tmp_path)  # a config alone: loading weights would fail differently
    for name in (str(tmp_path), "deepseek-prover-1.5b"):
        with pytest.raises(
            ValueError, match=r"needs a CUDA device.*GiB in NF4.*On a CPU: python train.py$"
        ):
            provers.load(name)
