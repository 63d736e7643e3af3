"""The dry run: the real code at full width on fake tensors, the plan beside it, and what may stand on which device."""

import ctypes
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig, Qwen3_5TextConfig

import fd_mini
import train
from extras import cuda, dry_run, memory, merging, provers
from extras.heatmap import models
from extras.memory import FIXED, GIB
from extras.progress import Progress

PROVERS = ["deepseek-prover-1.5b", "qwen3-8b", "kimina-prover-1.7b"]


@pytest.fixture
def two_layers(monkeypatch):
    """The known provers at full width with two layers: a second or two each."""
    known, is_large = dry_run.find_config, provers.is_large

    def shallow(model):
        config = known(model)
        config.whole_is_large = is_large(config)
        config.num_hidden_layers = 2
        if getattr(config, "layer_types", None):
            # The last is one with keys.
            config.layer_types = config.layer_types[:1] + config.layer_types[-1:]
        return config

    monkeypatch.setattr(dry_run, "find_config", shallow)
    monkeypatch.setattr(provers, "is_large", lambda config: config.whole_is_large)


def flags(**given):
    return train.resolve(train.Config(dry_run=True, out="never", **given))


# ---- the plan against the fake peak


CASES = [
    ("deepseek-prover-1.5b", "fd", {}),
    ("deepseek-prover-1.5b", "grpo", {}),
    ("deepseek-prover-1.5b", "fd", {"lora_rank": 0, "card_gb": 40.0}),
    ("kimina-prover-1.7b", "fd", {"lora_rank": 0, "card_gb": 20.0, "micro_tokens": 6000}),
    ("qwen3-8b", "fd", {}),
    ("kimina-prover-1.7b", "fd", {}),
    ("qwen3.5-9b", "fd", {}),
]


@pytest.mark.parametrize("model, algo, more", CASES)
def test_the_plan_is_within_a_tenth_of_the_peak_of_the_real_code(model, algo, more, two_layers, capsys):
    measured, planned = dry_run.main(flags(model=model, algo=algo, **{"card_gb": 12.0} | more))
    for phase in ("sampling", "student"):
        assert planned[phase] - FIXED == pytest.approx(measured[phase] - FIXED, rel=0.1), phase
    assert set(measured) == {"sampling", "student", "optimiser", "teacher's update", "teacher" if algo == "fd" else "reference"}
    assert max(measured.values()) in (measured["sampling"], measured["student"])
    said = capsys.readouterr().out
    assert f"{measured['student'] / GIB:7.2f} GiB   planned {planned['student'] / GIB:.2f}" in said and "it fits" in said


@pytest.mark.parametrize("model, shape", zip(PROVERS, [(24, 300, 1024, 8192), (8, 1024, 3072, 16384), (6, 3000, 255, 8192)]))
def test_prefill_decoding_and_training_are_as_planned_at_other_lengths(model, shape, two_layers, capsys):
    """What memory.py says of `rows` rows, piece by piece: everything above weights and adapters."""
    rows, prompt, new, micro = shape
    config, form = dry_run.find_config(model), "bf16" if "kimina" in model else "nf4"
    with FakeTensorMode(), dry_run.Count() as count:
        policy = dry_run.FakePolicy(config, 32, form == "nf4", count)
        assert count.bytes == pytest.approx(memory.weights(config, form) + memory.adapters(config, 32, 2), rel=0.01)
        for p in policy.student:
            p.grad = torch.zeros_like(p)
        base = count.bytes
        count.phase = "prefill"

        def stop(row, ids):
            count.phase = "decoding"
            return len(ids) == 3

        fd_mini.sample(policy, [[row] * prompt for row in range(rows - 1)] + [[5] * (prompt - 1)], new, batch_size=rows, stop=stop)
        assert count.bytes == base, "the cache is free when its batch ends, without the garbage collector"
        many = max(1, micro // (prompt + new))
        batch = [[5] * prompt] * many, [[7] * new] * many, [[True] * new] * many
        fd_mini.fd_backward(policy, batch[0], *batch, micro_tokens=1e9)
    cache = memory.kv_cache(config, rows, prompt + new)
    assert count.peaks["prefill"] - base == pytest.approx(cache + memory.prefill(config, rows * prompt), rel=0.1)
    # In decoding also the adapters in 16 bits, and the distribution of the next token: fp32, and double for a while.
    beside = memory.adapters(config, 32, 1) / 2 + rows * config.vocab_size * (4 + 2 * 8)
    assert count.peaks["decoding"] - base == pytest.approx(cache + beside, rel=0.1)
    tokens = many * (prompt + new)
    training = memory.checkpoints(config, tokens) + max(memory.layer(config, tokens), memory.head_chunk(config))
    assert base + training == pytest.approx(count.peaks["student"], rel=0.1)


def test_grpos_reference_is_there_while_it_samples(two_layers, capsys):
    config, peaks = dry_run.find_config("kimina-prover-1.7b"), {}
    for algo in ("fd", "grpo"):
        with FakeTensorMode(), dry_run.Count() as count:
            policy = dry_run.FakePolicy(config, 32, False, count)
            dry_run.step(flags(model="kimina-prover-1.7b", algo=algo, micro_tokens=2048), policy, 2)
        peaks[algo] = count.peaks["sampling"]
    assert peaks["grpo"] - peaks["fd"] == pytest.approx(memory.adapters(config, 32, 1), rel=0.02)


def test_the_users_own_command_at_full_size(capsys):
    """30 layers of 7B in NF4: what sampling and training take, in GiB, and that 24 GB are enough."""
    measured, planned = dry_run.main(flags(model="deepseek-prover-1.5b"))
    for phase in planned:
        assert planned[phase] == pytest.approx(measured[phase], rel=0.03)
    assert 20 < measured["sampling"] / GIB < 22 and 14 < measured["student"] / GIB < 16
    said = capsys.readouterr().out
    assert "Goedel-Prover-SFT" in said and "it fits" in said, "where the shape is from"


# ---- what it says


def test_what_does_not_fit_is_one_line_with_the_flag_and_the_figures_come_first(two_layers, capsys):
    with pytest.raises(ValueError, match="the model does not fit: 1.0 GiB are free, .*--quantize nf4, a smaller --model or --lora-rank") as refused:
        dry_run.main(flags(model="kimina-prover-1.7b", card_gb=2.0))
    assert "\n" not in str(refused.value) and "  sampling" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a micro-batch of 24000 tokens does not fit.*a lower --micro-tokens"):
        dry_run.main(flags(model="kimina-prover-1.7b", card_gb=5.0, micro_tokens=24_000))


def test_what_a_run_would_refuse_the_dry_run_refuses(two_layers, capsys):
    """A run keeps a twentieth of the card free; the step itself would fit."""
    given = {"model": "kimina-prover-1.7b", "micro_tokens": 16_000}
    measured, _ = dry_run.main(flags(**given, card_gb=10.0))
    free = measured["student"] / 0.99
    with pytest.raises(ValueError, match="a micro-batch of 16000 tokens does not fit"):
        dry_run.main(flags(**given, card_gb=(free + dry_run.DRIVER) / GIB))
    assert f"  student  {measured['student'] / GIB:28.2f} GiB" in capsys.readouterr().out.split("memory plan")[2]


def test_an_attempt_longer_than_the_models_positions_is_planned_as_it_is_cut(two_layers, capsys):
    dry_run.main(flags(model="deepseek-prover-1.5b", quantize="nf4", card_gb=12.0, max_new_tokens=5000))
    assert "it fits" in capsys.readouterr().out, "of 4,096 positions"


def test_a_shape_without_an_inner_width_is_planned():
    config = GPT2Config(n_embd=64, n_layer=2, n_head=4)
    assert memory.linears(config)[-1] == (256, 64) and memory.plan(config, "bf16", 8, 512, GIB)["rows"] >= 1


def test_nothing_is_written_and_no_card_or_network_is_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provers, "hub_answers", lambda: pytest.fail("asked the hub"))
    train.main(["--dry-run", "--model", "tiny", "--out", str(tmp_path / "run")])
    assert "it fits" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_folder_needs_a_config_alone_and_an_unknown_shape_is_asked_for(tmp_path, monkeypatch, capsys):
    LlamaConfig(vocab_size=500, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
                max_position_embeddings=256).save_pretrained(tmp_path)
    assert dry_run.find_config(str(tmp_path)).num_hidden_layers == 3
    dry_run.main(flags(model=str(tmp_path), max_new_tokens=100))
    monkeypatch.setattr(provers, "hub_answers", lambda: False)
    with pytest.raises(ValueError, match="not known and the hub does not answer: give --model a folder with its config.json"):
        dry_run.find_config("somebody/prover")
    with pytest.raises(ValueError, match="unknown model"):
        dry_run.find_config("prover-of-everything")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read the config of"):
        dry_run.find_config(str(tmp_path))


def test_every_named_prover_has_a_shape_that_says_where_it_is_from(capsys):
    sizes = {"deepseek-prover-1.5b": 6.9, "kimina-prover-1.5b": 1.54, "kimina-prover-1.7b": 1.72, "qwen3-8b": 8.2}
    for name in provers.ALIASES:
        config = dry_run.find_config(name)
        assert capsys.readouterr().out.startswith(f"{name}: ") and config.max_position_embeddings >= 4096
        if name in sizes:  # what is published of them, in billions of parameters
            assert memory.weights(config, "bf16") / 2e9 == pytest.approx(sizes[name], rel=0.02)


# ---- the counter


def test_what_is_alive_is_counted_once_and_in_blocks_of_512_bytes():
    with FakeTensorMode(), dry_run.Count() as count:
        a = torch.empty(1000)  # 4,000 bytes: 8 blocks
        assert count.bytes == 4096
        view = a[:10]
        assert count.bytes == 4096, "a view has no memory of its own"
        b = a + 1
        assert (count.bytes, count.peaks["loaded"]) == (8192, 8192)
        del a
        assert count.bytes == 8192, "the view keeps it"
        del view, b
        assert (count.bytes, count.peaks["loaded"]) == (0, 8192)
        count.phase = "next"
        torch.empty(10)
        assert (count.peaks["next"], count.peaks["loaded"]) == (512, 8192)


def test_packed_layers_are_the_bytes_that_bitsandbytes_allocates_and_give_its_gradient():
    with FakeTensorMode(), dry_run.Count() as count:
        linear = torch.nn.Linear(256, 128, bias=False, dtype=torch.bfloat16)
        dry_run.pack(linear)
        assert count.bytes == 256 * 128 // 2 + 4 * 256 * 128 // 64 + 512  # numbers, scales, and the code's table
        x = torch.empty(3, 256, dtype=torch.bfloat16, requires_grad=True)
        linear(x).sum().backward()
        assert x.grad.shape == (3, 256) and linear.weight.grad is None
        before = count.bytes
        count.phase = "many rows"
        linear(torch.empty(600, 256, dtype=torch.bfloat16))
        rows, weight = 600 * (256 + 128) * 2, 256 * 128 * 2
        assert count.peaks["many rows"] - before == rows + weight, "its CUDA backend unpacks the weight for many rows"


# ---- devices


@pytest.fixture
def cuda_without_cuda():
    """A CPU build of torch has no guard that switches cards, and fake "cuda" tensors want one: this does nothing."""
    if torch.version.cuda:
        yield
        return
    core = ctypes.CDLL(f"{torch.__path__[0]}/lib/libc10.so")
    guards = (ctypes.c_void_p * 22).in_dll(core, "_ZN3c104impl26device_guard_impl_registryE")
    kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
    answer = kind(lambda this, argument: 1)  # "cuda:0", for each of its methods
    methods = (ctypes.c_void_p * 64)(*[ctypes.cast(answer, ctypes.c_void_p).value] * 64)
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(methods))
    guards[1] = ctypes.addressof(guard)
    yield
    guards[1] = None


# Layers with one state a row, and layers that see a window.
LINEAR = dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8)
OTHERS = {"qwen3_5": partial(Qwen3_5TextConfig, **LINEAR), "gemma3": partial(Gemma3TextConfig, sliding_window=4)}


FAMILIES = ["llama", "qwen2", "qwen3", *OTHERS]


@pytest.fixture(params=FAMILIES)
def on_cuda(request, cuda_without_cuda):
    """A policy whose tensors say that they are on a card; whoever mixes devices raises. No gradients."""
    from tests import test_fd_mini

    kinds = {name: kind for name, (kind, *_) in test_fd_mini.FAMILIES.items()} | OTHERS
    config = kinds[request.param](**test_fd_mini.SHAPE | OTHERS.get(request.param, partial(dict)).keywords)
    with FakeTensorMode(), dry_run.Count() as count, torch.no_grad():
        with torch.device("cuda"):
            policy = dry_run.FakePolicy(config, 8, True, count)
        policy.device = torch.device("cuda")
        assert all(p.is_cuda for p in policy.model.parameters())
        yield policy


PROMPTS = [[5] * 7, [4] * 3, [2]]


def test_fake_tensors_do_refuse_two_devices(cuda_without_cuda):
    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device="cuda") + torch.ones(3)


# With layers that keep states nothing is captured.
WAYS = [(family, way) for family in FAMILIES for way in ("plain", "graphs") if (family, way) != ("qwen3_5", "graphs")]


@pytest.mark.parametrize("on_cuda, way", WAYS, indirect=["on_cuda"])
def test_sampling_keeps_to_one_device(on_cuda, way, monkeypatch):
    if way == "graphs":
        monkeypatch.setattr(cuda.Graphs, "capture", False)
        on_cuda.graphs = cuda.Graphs
    lengths = iter(range(100))  # rows end at different times, so that they move
    samples = fd_mini.sample(on_cuda, PROMPTS, 6, stop=lambda row, ids: next(lengths) == 4)
    assert sorted(len(ids) for ids, _ in samples) == [2, 6, 6]
    assert fd_mini.sample(on_cuda, PROMPTS, 3, temperature=0, batch_size=2)[0] == ([1, 1, 1], False)


def test_teacher_losses_optimiser_and_average_keep_to_one_device(on_cuda):
    completions, sampled = [[1] * 4] * 3, [[True, False, True, True]] * 3
    with on_cuda.act_as("teacher"):
        hidden, ids = on_cuda.hidden(PROMPTS, completions, sampled)
        top, logps = fd_mini.teacher_topk(hidden, on_cuda.head, 5)
    loss, stats = fd_mini.linear_topk_cross_entropy(hidden, on_cuda.head, top, logps, "bucket", with_stats=True)
    nll, entropy = fd_mini.sampled_nll(on_cuda, PROMPTS, completions, sampled)
    assert {x.device.type for x in (hidden, ids, top, logps, loss, stats, nll, entropy)} == {"cuda"}
    assert hidden.shape == (9, on_cuda.config.hidden_size)

    from eval import total_entropy

    rows = [SimpleNamespace(prompt_ids=p, completion_ids=c, sampled=s) for p, c, s in zip(PROMPTS, completions, sampled)]
    assert total_entropy(on_cuda, rows, "student") == 1  # a fake number
    dry_run.leave_gradients(on_cuda)
    torch.nn.utils.clip_grad_norm_(on_cuda.student, 1.0)
    torch.optim.AdamW(on_cuda.student, foreach=True).step()
    fd_mini.ema_update_(on_cuda.teacher, on_cuda.student, 0.9)


def test_what_looks_at_a_model_beside_its_training_keeps_to_one_device(on_cuda, monkeypatch):
    def tokenizer(text, return_tensors):
        return SimpleNamespace(input_ids=torch.ones(1, len(text.split()), dtype=torch.long))

    on_cuda.tokenizer = tokenizer
    assert provers.head_error(on_cuda) == 1, "a fake number"
    rollout = SimpleNamespace(prompt_ids=PROMPTS[0], completion_ids=[1, 2, 3], sampled=[True, False, True])
    writer = SimpleNamespace(policy=on_cuda, cfg=SimpleNamespace(micro_tokens=4096))
    assert Progress.logps(writer, [rollout], "student") == [[1, None, 1]]
    monkeypatch.setattr(models, "text_behind", lambda *_: "x")
    assert [token["p"] for token in models.ask(on_cuda, "teacher", PROMPTS[0], [1, 2])] == [models.rounded(1)] * 2


def test_adapters_are_merged_where_they_are(cuda_without_cuda):
    """The matrices that are, in fp32: those of the policies above are in 16 bits."""
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        layer = fd_mini.LoRALinear(torch.nn.Linear(8, 6), 2)
        merging.merge(layer)
        assert vars(layer)["forward"] and layer(torch.ones(3, 8)).is_cuda
