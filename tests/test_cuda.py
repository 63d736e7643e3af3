"""extras/cuda.py without a GPU: buffers, buckets and fixed shapes, run without the capture.

They must sample what plain decoding samples.
"""

import pytest
import torch
from tests.test_fd_mini import FAMILIES, shake, write_model
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

import fd_mini as fm
from extras import cuda

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15], [200, 3], [8, 8, 8, 8]]


def both(policy, monkeypatch, prompts=PROMPTS, **options):
    """-> (samples by plain decoding, samples through Graphs, the Graphs made: one per batch)"""
    real, made, samples = cuda.Graphs, [], []

    def without_capture(body, length):
        made.append(real(body, length))
        made[-1].capture = False
        return made[-1]

    for policy.graphs in (None, without_capture):
        generator = torch.Generator().manual_seed(0)
        samples.append(fm.sample(policy, prompts, 24, generator=generator, **options))
    return *samples, made


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_shapes_sample_what_plain_decoding_samples(tmp_path, monkeypatch, family):
    policy = fm.Policy(write_model(tmp_path, family), rank=4)
    shake(policy, "student", size=0.1)
    # Rows stop at different times, so that buckets change and rows move.
    policy.stop_ids = set(range(0, 256, 16))
    plain, static, made = both(policy, monkeypatch)
    assert static == plain and len({len(ids) for ids, _ in plain}) > 2
    buckets = {min(1 << (n - 1).bit_length(), len(PROMPTS)) for n in alive(plain)}
    assert [set(g.buckets) for g in made] == [buckets] and len(buckets) > 1


def alive(samples):
    """How many rows are fed at each step after the prompts."""
    longest = max(len(ids) for ids, _ in samples)
    return [sum(len(ids) > t for ids, _ in samples) for t in range(1, longest)]


def test_rows_that_nobody_reads_do_not_change_the_others(tmp_path, monkeypatch):
    """Huge keys and values in every row that has ended: whoever attends to one of them shows it."""
    policy = fm.Policy(write_model(tmp_path), rank=4)
    policy.stop_ids = set(range(0, 256, 16))
    poisoned = []

    class Poisoned(cuda.Buffers):
        def reorder_cache(self, index):
            super().reorder_cache(index)
            for buffer in self.buffers:
                poisoned.append(len(buffer) - len(index))
                buffer[len(index) :, :, : self.get_seq_length()] = 1e4

    monkeypatch.setattr(cuda, "Buffers", Poisoned)
    plain, static, _ = both(policy, monkeypatch)
    assert static == plain and max(poisoned) > 0


def test_a_cache_is_as_long_as_its_batch_needs_and_each_batch_has_its_own(
    tmp_path, monkeypatch
):
    policy = fm.Policy(write_model(tmp_path), rank=4)
    policy.stop_ids = set()
    plain, static, made = both(policy, monkeypatch, batch_size=2)
    assert static == plain and [g.length for g in made] == [5 + 24, 3 + 24, 1 + 24]
    assert all(layer.buffers[0].shape[2] == g.length for g in made for layer in g.cache.layers)


def test_a_family_whose_states_have_no_fixed_address_decodes_without_graphs(
    tmp_path, monkeypatch
):
    write_model(tmp_path)  # for its tokenizer
    config = Qwen3_5TextConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        max_position_embeddings=64,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.25,
    )
    torch.manual_seed(1)
    Qwen3_5ForCausalLM(config).save_pretrained(tmp_path)
    policy = fm.Policy(str(tmp_path), rank=4)
    policy.stop_ids = set(range(0, 256, 16))
    plain, static, made = both(policy, monkeypatch)
    assert static == plain and not any(g.buckets for g in made)
