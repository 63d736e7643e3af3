"""extras/slots.py: what stands in a slot is what one row alone would see, whatever was there before and whatever runs beside it.

The reference has no cache, no padding and no slots: one row, the whole text read again for every token.
"""

import pytest
import torch
from tests.test_fd_mini import FAMILIES, shake, write_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen3_5ForCausalLM, Qwen3_5TextConfig

import fd_mini as fm
from bench import rollout
from extras import cuda, slots

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15], [200, 3], [8, 8, 8, 8], [7], [30, 31], [40] * 9]
NEW = 24
SHAPE = dict(vocab_size=260, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
             max_position_embeddings=64, eos_token_id=0, pad_token_id=0, initializer_range=0.25)


def qwen3_5(folder):
    """Three layers with a state a row, one with keys."""
    config = Qwen3_5TextConfig(**SHAPE, num_hidden_layers=4, linear_num_key_heads=2, linear_num_value_heads=2,
                               linear_key_head_dim=8, linear_value_head_dim=8)
    torch.manual_seed(1)
    Qwen3_5ForCausalLM(config).save_pretrained(folder)


def gemma3(folder):
    """Windows of five tokens in one layer, none in the other."""
    config = Gemma3TextConfig(**SHAPE, num_hidden_layers=2, sliding_window=5, layer_types=["sliding_attention", "full_attention"])
    torch.manual_seed(1)
    Gemma3ForCausalLM(config).save_pretrained(folder)


OTHERS = {"qwen3_5": qwen3_5, "gemma3": gemma3}


def policy_of(folder, family="llama"):
    write_model(folder, family if family in FAMILIES else "llama")  # for its tokenizer, too
    if family in OTHERS:
        OTHERS[family](folder)
    policy = fm.Policy(str(folder), rank=4)
    shake(policy, "student", size=0.1)
    policy.stop_ids = set(range(0, 256, 16))  # rows end at different times
    return policy


def sampled(policy, **options):
    return fm.sample(policy, PROMPTS, NEW, generator=torch.Generator().manual_seed(0), **options)


@torch.no_grad()
def alone(policy, stop=None):
    """sampled(), one row at a time and without a cache."""
    uniforms = torch.rand(len(PROMPTS), NEW, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = []
    for prompt, row in zip(PROMPTS, uniforms):
        ids = []
        for u in row:
            out = policy.model.base_model(input_ids=torch.tensor([prompt + ids]), use_cache=False)
            logits = torch.nn.functional.linear(out.last_hidden_state[:, -1], policy.head)
            ids.append(fm.pick_token(logits, u[None]).item())
            if ids[-1] in policy.stop_ids or (stop and stop(len(samples), ids)):
                break
        samples.append((ids, ids[-1] in policy.stop_ids))
    return samples


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_rows_in_slots_get_the_tokens_that_each_gets_alone_in_the_order_of_the_prompts(tmp_path, family, size):
    policy = policy_of(tmp_path, family)
    expected = alone(policy)
    assert sampled(policy, batch_size=size) == expected
    assert len({len(ids) for ids, _ in expected}) > 2 and len({str(ids) for ids, _ in expected}) == len(PROMPTS)


def test_a_row_goes_into_the_slot_of_one_that_ended_while_others_go_on(tmp_path, monkeypatch):
    policy = policy_of(tmp_path)
    seen = []

    class Watched(slots.Slots):
        def read(self, slots, prompts):
            seen.append(("read", list(slots)))
            return super().read(slots, prompts)

        def step(self, texts):
            seen.append(("step", len(texts)))
            return super().step(texts)

    policy.graphs = Watched
    samples = sampled(policy, batch_size=3)
    reads = [where for what, where in seen if what == "read"]
    assert reads[0] == [0, 1, 2] and sum(map(len, reads)) == len(PROMPTS) and len(reads) > 2
    tokens = sum(n for what, n in seen if what == "step") + len(PROMPTS)
    assert tokens == sum(len(ids) for ids, _ in samples), "no step is spent on a row that has ended"
    last_read = max(i for i, (what, _) in enumerate(seen) if what == "read")
    assert all(n == 3 for what, n in seen[:last_read] if what == "step"), "all slots are busy while prompts wait"


@pytest.mark.parametrize("family, prompts", [("llama", [[5, 6, 7]] * 4 + [[9, 8]] * 2 + [[11, 12, 13]]), ("qwen3_5", [[5, 6, 7]] * 7)])
def test_a_prompt_of_several_attempts_is_read_once_and_each_gets_the_tokens_that_it_gets_alone(tmp_path, family, prompts, monkeypatch):
    monkeypatch.setitem(globals(), "PROMPTS", prompts)
    policy, rows = policy_of(tmp_path, family), []
    expected = alone(policy)

    class Watched(slots.Slots):
        def read(self, slots, prompts):
            handle = self.body.register_forward_pre_hook(lambda *_: rows.append(_[2]["input_ids"]), with_kwargs=True)
            hidden = super().read(slots, prompts)
            handle.remove()
            return hidden

    policy.graphs = Watched
    assert sampled(policy, batch_size=7) == expected and len({str(ids) for ids, _ in expected}) == 7
    assert [len(ids) for ids in rows] == [len(set(map(tuple, prompts)))]


def test_what_a_slot_held_before_leaks_nothing_into_the_next_row(tmp_path, monkeypatch):
    """Before a prompt is read, its slot is filled with huge keys and values: whoever attends to one of them shows it."""
    policy = policy_of(tmp_path)
    expected, poisoned = alone(policy), []

    class Poisoned(slots.Slots):
        def read(self, slots, prompts):
            for layer in self.keys.values():
                for buffer in layer.buffers:
                    buffer[slots] = 1e4
                    poisoned.append(len(slots))
            return super().read(slots, prompts)

    policy.graphs = Poisoned
    assert sampled(policy, batch_size=3) == expected and poisoned
    # The test can fail: without the mask what is there is seen.
    monkeypatch.setattr(slots.Slots, "mask", lambda self, positions, width: None)
    assert sampled(policy, batch_size=3) != expected


def test_a_state_that_a_slot_held_before_leaks_nothing_into_the_next_row(tmp_path):
    policy = policy_of(tmp_path, "qwen3_5")
    expected, poisoned = alone(policy), []

    class Poisoned(slots.Slots):
        def read(self, slots_, prompts):
            if self.cache and len(slots_) == 1:
                for state in slots.states(self.cache):
                    state[slots_] = 1e4
                    poisoned.append(slots_)
            return super().read(slots_, prompts)

    policy.graphs = Poisoned
    assert sampled(policy, batch_size=3) == expected and poisoned


def test_rows_stop_where_stop_says_and_are_resumed_with_the_same_tokens(tmp_path):
    """As tool mode does it: a row stops, its text is longer, it is read again."""
    policy = policy_of(tmp_path)
    stop = lambda row, ids: len(ids) >= 3 + row % 2 and ids[-1] % 3 == 0
    expected = alone(policy, stop)
    first = sampled(policy, batch_size=3, stop=stop)
    assert first == expected and any(stop(row, ids) and not finished for row, (ids, finished) in enumerate(first))
    whole = fm.sample(policy, PROMPTS, NEW, temperature=0, batch_size=3)
    cut = fm.sample(policy, PROMPTS, NEW, temperature=0, batch_size=3, stop=lambda row, ids: len(ids) == 2)
    again = fm.sample(policy, [p + ids for p, (ids, _) in zip(PROMPTS, cut)], NEW - 2, temperature=0, batch_size=2)
    for (full, _), (head, finished), (rest, _) in zip(whole, cut, again):
        assert full == head if finished else full == head + rest


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_adapters_are_cast_for_the_time_of_sampling_alone(tmp_path, role, monkeypatch):
    policy = policy_of(tmp_path)
    policy.model.to(torch.bfloat16)
    policy.head = policy.model.get_output_embeddings().weight
    for name in ("student", "teacher"):  # .to() has cast what the role points to
        policy.roles[name] = [tensor.float() for tensor in policy.roles[name]]
    policy.point_to("student")
    seen, decode = set(), fm.decode

    def watched(*args):
        seen.update(p.dtype for p in policy.student)
        decode(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(fm, "decode", watched)
    with policy.act_as(role), pytest.raises(KeyboardInterrupt):
        try:
            sampled(policy)
        finally:
            assert all(p.data is not None and p.data_ptr() == t.data_ptr() for p, t in zip(policy.student, policy.roles[role]))
    assert seen == {torch.bfloat16} and all(p.dtype == torch.float32 for p in policy.student)


@pytest.mark.parametrize("family", ["llama", "qwen3_5"])
def test_graphs_without_a_capture_are_slots(tmp_path, family, monkeypatch):
    monkeypatch.setattr(cuda.Graphs, "capture", False)
    policy = policy_of(tmp_path, family)
    expected = sampled(policy, batch_size=3)
    policy.graphs = cuda.Graphs
    assert sampled(policy, batch_size=3) == expected


def test_buffers_are_as_long_as_the_longest_prompt_and_its_new_tokens_and_made_once(tmp_path):
    policy, made = policy_of(tmp_path), []

    class Watched(slots.Slots):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        def step(self, texts):
            shapes = {(id(b), tuple(b.shape)) for layer in self.keys.values() for b in layer.buffers}
            self.shapes = getattr(self, "shapes", shapes)
            assert shapes == self.shapes
            return super().step(texts)

    policy.graphs = Watched
    sampled(policy, batch_size=3)
    assert len(made) == 1 and {shape for _, shape in made[0].shapes} == {(3, 2, 9 + NEW, 8)}


def test_the_bench_gives_every_row_its_own_length(tmp_path, monkeypatch):
    policy = policy_of(tmp_path)
    policy.stop_ids = set()
    written = []
    monkeypatch.setattr(fm, "sample", lambda *args, real=fm.sample, **options: written.append(real(*args, **options)) or written[-1])
    lengths = [1 + row % 4 for row in range(len(PROMPTS))]
    assert rollout.sample(policy, PROMPTS, lengths, slots=2) > 0
    assert [len(ids) for ids, _ in written[0]] == lengths
