"""Which models provers.load takes, and what it says of the others: tiny random ones of many families, made on the spot."""
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from extras import provers
from tests.programs import run

HERE = Path(__file__).resolve().parent.parent
TOKENIZER = hf.AutoTokenizer.from_pretrained(HERE / "toy" / "tiny")
SHORT = dict(vocab_size=len(TOKENIZER), hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
LONG = SHORT | dict(intermediate_size=64, num_key_value_heads=2)
OLD = dict(vocab_size=len(TOKENIZER), n_embd=64, n_layer=2, n_head=4)
ENDS = dict(bos_token_id=None, eos_token_id=1, pad_token_id=None)


def made(folder, config, auto=hf.AutoModelForCausalLM, change=None):
    """The folder of a random model; change(model) comes before it is saved."""
    torch.manual_seed(0)
    model = auto.from_config(config)
    if change:
        change(model)
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def refusal(folder, rank=4):
    with pytest.raises(ValueError) as caught:
        provers.load(folder, rank)
    text = str(caught.value)
    assert "\n" not in text and folder in text, text
    return text


GOOD = {
    "llama": hf.LlamaConfig(**LONG, **ENDS),
    "tied": hf.LlamaConfig(**LONG, **ENDS, tie_word_embeddings=True),
    "qwen2": hf.Qwen2Config(**LONG, **ENDS),
    "qwen3": hf.Qwen3Config(**LONG, **ENDS, head_dim=16),
    "gemma3": hf.Gemma3TextConfig(**LONG, **ENDS, head_dim=16),
    "scale of one": hf.GraniteConfig(**LONG, **ENDS, logits_scaling=1.0),
}


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("name", GOOD)
def test_a_model_with_a_plain_head_is_taken(tmp_path, name, quantize):
    policy = provers.load(made(tmp_path, GOOD[name]), 4, quantize)
    assert provers.head_error(policy) < 1e-6
    if quantize == "nf4":
        return
    # In bf16, as on a card, rounding must not refuse it; sharp predictions round the worst.
    policy.model.to(torch.bfloat16)
    policy.head = policy.model.get_output_embeddings().weight
    with torch.no_grad():
        policy.head.mul_(30)
    provers.refuse_unfit(policy)


def test_under_longrope_no_row_is_so_long_that_others_change(tmp_path):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32, "factor": 4.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    config = hf.LlamaConfig(**LONG, **ENDS, max_position_embeddings=128, rope_parameters=rope)
    folder = made(tmp_path, config)
    policy = provers.load(folder, 4)
    assert policy.max_positions == provers.reader(folder).max_positions == provers.positions(config) == 32

    row, other = [5, 9, 7, 5, 9, 8] * 3, list(range(2, 62))

    def first_row(others):
        rows = [row, *others]
        with torch.no_grad():
            return policy.hidden([r[:1] for r in rows], [r[1:] for r in rows], [[True] * (len(r) - 1) for r in rows])[0][: len(row) - 1]

    alone = first_row([])
    torch.testing.assert_close(first_row([other[:32]]), alone)
    with pytest.raises(ValueError, match="60 tokens > 32 positions"):
        first_row([other])
    policy.max_positions = 128  # as its config says
    assert (first_row([other]) - alone).abs().max() > 0.01


def with_bias(model):
    torch.nn.init.normal_(model.lm_head.bias, std=0.25)


SCALED = {
    "granite": (hf.GraniteConfig(**LONG, **ENDS, logits_scaling=8.0), None),
    "cohere": (hf.CohereConfig(**LONG, **ENDS), None),
    "gemma2": (hf.Gemma2Config(**LONG, **ENDS, head_dim=16, final_logit_softcapping=0.1), None),
    "phi": (hf.PhiConfig(**SHORT, **ENDS, intermediate_size=64), with_bias),
    "gptj": (hf.GPTJConfig(**OLD, **ENDS, rotary_dim=8), with_bias),
}


@pytest.mark.parametrize("name", SCALED)
def test_a_head_that_scales_caps_or_adds_is_refused_with_the_difference(tmp_path, name):
    config, change = SCALED[name]
    said = refusal(made(tmp_path, config, change=change))
    nats = float(said.split("KL between them is ")[1].split(" ")[0])
    assert nats > 0.002 and "Llama" in said

    # By hand: the model's own logits against the plain product.
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = TOKENIZER("theorem t (p q : Prop) (h : p ∧ q) : q := by\n  exact", return_tensors="pt").input_ids
    with torch.no_grad():
        p = model(ids).logits.softmax(-1)
        q = (model.base_model(ids).last_hidden_state @ model.get_output_embeddings().weight.T).softmax(-1)
    assert nats == pytest.approx((p * (p / q).log()).sum(-1).max().item(), rel=0.01)


def test_without_a_linear_layer_there_is_nothing_to_adapt(tmp_path):
    folder = made(tmp_path, hf.GPT2Config(**OLD, **ENDS))
    assert "no nn.Linear" in refusal(folder) and "--lora-rank 0" in refusal(folder)
    assert len(provers.load(folder, 0).student) > 20  # as it says


OTHERS = {
    "bloom": (hf.BloomConfig(vocab_size=512, hidden_size=64, n_layer=2, n_head=4), hf.AutoModelForCausalLM),
    "mamba": (hf.MambaConfig(vocab_size=512, hidden_size=64, num_hidden_layers=2), hf.AutoModelForCausalLM),
    "mpt": (hf.MptConfig(vocab_size=512, d_model=64, n_layers=2, n_heads=4), hf.AutoModelForCausalLM),
    "t5": (hf.T5Config(vocab_size=512, d_model=64, d_kv=16, d_ff=64, num_layers=2, num_heads=4), hf.AutoModelForSeq2SeqLM),
    "bart": (hf.BartConfig(vocab_size=512, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                           decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64), hf.AutoModelForSeq2SeqLM),
    "bert": (hf.BertConfig(**SHORT, intermediate_size=64), hf.AutoModelForMaskedLM),
    "vit": (hf.ViTConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64), hf.AutoModel),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_other_kinds_are_refused_in_one_line(tmp_path, name):
    config, auto = OTHERS[name]
    assert "decoder-only" in refusal(made(tmp_path, config, auto))


def test_without_an_output_head_and_after_any_exception_there_is_one_line(tmp_path, monkeypatch):
    folder = made(tmp_path, GOOD["llama"])
    monkeypatch.setattr(hf.LlamaForCausalLM, "get_output_embeddings", lambda self: None)
    assert "decoder-only" in refusal(folder)
    for error in (RuntimeError("one\ntwo"), KeyError(), ImportError("pip install sentencepiece")):
        def fail(self):
            raise error
        monkeypatch.setattr(hf.LlamaForCausalLM, "get_output_embeddings", fail)
        assert refusal(folder).rpartition(": ")[2] in ("one", "KeyError", "pip install sentencepiece")


@pytest.fixture
def incomplete(tmp_path):
    made(tmp_path / "whole", GOOD["llama"])
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_a_model_whose_files_lack_tensors_is_not_trained_on_random_ones(incomplete):
    said = refusal(str(incomplete / "part"))
    assert "lack 3 of its tensors" in said and "model.layers.1.mlp.down_proj.weight" in said
    config = json.loads((incomplete / "whole" / "config.json").read_text())
    (incomplete / "whole" / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    refusal(str(incomplete / "whole"))  # tensors of other sizes


LOAD = """
import sys
from extras import provers
provers.load(sys.argv[1], 4, "nf4")
try:
    provers.load(sys.argv[2], 4)
except ValueError:
    print("refused")
"""


@pytest.mark.parametrize("broken", ["[1, 2]", "", "{}", "not json", "null"])
def test_a_tokenizer_file_that_is_none_is_one_line(tmp_path, broken):
    folder = tmp_path / "model"
    shutil.copytree(HERE / "toy" / "tiny", folder)
    (folder / "tokenizer.json").write_text(broken)
    with pytest.raises(ValueError, match="cannot load") as error:
        provers.load(str(folder))
    assert "\n" not in str(error.value)


def test_loading_is_quiet_but_for_what_is_wrong(incomplete):
    env = os.environ | {"PYTHONPATH": str(HERE)}
    argv = [sys.executable, "-c", LOAD, incomplete / "whole", incomplete / "part"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100)
    assert done.stdout.count("model: ") == 2 and done.stdout.endswith("refused\n"), done.stderr
    assert "kernels" not in done.stderr and "Loading" not in done.stderr and "it/s" not in done.stderr
    assert done.stderr.count("MISSING") >= 3  # transformers' own report
    before, report, _ = done.stderr.partition("LlamaForCausalLM LOAD REPORT")
    assert report and len(before.splitlines()) <= 1, before


SAMPLE = """
import fd_mini
from extras import provers
policy = provers.load("tiny", 4)
print(fd_mini.sample(policy, [[5, 6, 7]] * 3, 20))
"""


def test_sampling_has_a_bar_on_a_terminal_and_nothing_on_a_pipe():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = run("-c", SAMPLE, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 10**6).decode()
    assert done.returncode == 0 and "tokens" in shown and "/20 [" in shown
    assert not shown.split("\r")[-1].strip()  # it is wiped at the end
    piped = run("-c", SAMPLE)
    assert piped.stderr == "" and len(piped.stdout) > 20
