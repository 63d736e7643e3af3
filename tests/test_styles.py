"""Every family's prompt style on a small model made on the spot: its configuration, its special tokens, a template in its format."""
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen3_5Config,
                          Qwen3_5ForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM)

import fd_mini
from extras import runs
from feedback import build_prompt, prompt_text
from lean_env import Theorem, extract_proof

THEOREM = Theorem("t", "theorem t (p : Prop) : p → p", "import Mathlib\nopen Nat\n", "by\n  intro h\n  exact h")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEEPSEEK_CHAT = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}{% else %}<｜Assistant｜>"
                 "{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}")
CHATML = ("SYSTEM{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\nTHINK{% endif %}")
# Qwen3 thinks unless it is told not to; Qwen3.5's template opens the thinking itself, unless it is told not to.
QWEN2_CHAT = CHATML.replace("SYSTEM", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n").replace("THINK", "")
QWEN3_CHAT = CHATML.replace("SYSTEM", "").replace("THINK", "{% if enable_thinking is defined and enable_thinking is false %}"
                                                  "<think>\n\n</think>\n\n{% endif %}")
QWEN3_5_CHAT = CHATML.replace("SYSTEM", "").replace("THINK", "<think>\n{% if enable_thinking is defined and enable_thinking is false %}"
                                                    "\n</think>\n\n{% endif %}")
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
             max_position_embeddings=1024, initializer_range=0.25)


def qwen3_5(**shape):
    """As on the hub: the text model inside one that also sees, every fourth layer full attention, the others recurrent."""
    text = dict(shape, num_hidden_layers=4, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2,
                linear_num_value_heads=2, initializer_range=0.05)  # larger ones make the recurrence chaotic
    seen = dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=32, num_position_embeddings=16, patch_size=4)
    return Qwen3_5Config(text_config=text, vision_config=seen, tie_word_embeddings=False)


# name: (prompt style to ask for, config, model, special tokens, chat template, ids that end a completion, the assistant's header)
FAMILIES = {
    "deepseek-prover-v1.5, goedel-prover-sft": ("fence", LlamaConfig, LlamaForCausalLM, DEEPSEEK[:2], None, [DEEPSEEK[1]], None),
    "a fence though there is a template": ("fence", LlamaConfig, LlamaForCausalLM, DEEPSEEK, DEEPSEEK_CHAT, [DEEPSEEK[1]], None),
    "deepseek-prover-v2": (None, LlamaConfig, LlamaForCausalLM, DEEPSEEK, DEEPSEEK_CHAT, [DEEPSEEK[1]], "<｜Assistant｜>"),
    "kimina-prover 1.5b": (None, Qwen2Config, Qwen2ForCausalLM, QWEN, QWEN2_CHAT, [QWEN[2], QWEN[0]], "<|im_start|>assistant\n"),
    "qwen3, goedel-prover-v2, kimina-prover 1.7b": (
        None, Qwen3Config, Qwen3ForCausalLM, QWEN, QWEN3_CHAT, [QWEN[2], QWEN[0]], "<|im_start|>assistant\n"),
    "qwen3.5": (None, qwen3_5, Qwen3_5ForConditionalGeneration, QWEN, QWEN3_5_CHAT, [QWEN[2], QWEN[0]], "<|im_start|>assistant\n<think>\n"),
    "no template, no special tokens": (None, LlamaConfig, LlamaForCausalLM, ("<eos>",), None, ["<eos>"], None),
}


def write_tokenizer(folder, special, template):
    """One token a byte, and the family's special tokens; <think> and </think> are words of their own, but not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(list(special))
    core.add_tokens([AddedToken(word, normalized=False) for word in ("<think>", "</think>")] if special is QWEN else [])
    deepseek = special[0] == DEEPSEEK[0]
    if deepseek:  # each text begins with <｜begin▁of▁sentence｜>
        core.post_processor = TemplateProcessing(single=f"{DEEPSEEK[0]} $A", special_tokens=[(DEEPSEEK[0], core.token_to_id(DEEPSEEK[0]))])
    eos = {"<｜begin▁of▁sentence｜>": DEEPSEEK[1], "<|endoftext|>": QWEN[2]}.get(special[0], special[0])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token=DEEPSEEK[0] if deepseek else None,
                                        chat_template=template, additional_special_tokens=list(special))
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(style, policy loaded from a folder, the assistant's header, the model that was written)."""
    style, config, model, special, template, stops, header = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("model")
    tokenizer = write_tokenizer(folder, special, template)
    stops = tokenizer.convert_tokens_to_ids(stops)
    torch.manual_seed(1)
    written = model(config(vocab_size=len(tokenizer) + 3, eos_token_id=stops[0], bos_token_id=None, pad_token_id=None, **SHAPE))
    written.generation_config.eos_token_id = stops
    written.save_pretrained(folder)
    policy = fd_mini.Policy(str(folder), rank=4)
    assert policy.stop_ids == set(stops)
    return style, policy, header, written


def test_the_weights_come_from_the_folder_and_every_linear_layer_gets_adapters(family):
    _, policy, _, written = family
    theirs = {name.split("layers.")[-1]: tensor for name, tensor in written.state_dict().items() if "visual" not in name}
    ours = {name.replace(".base.", ".").split("layers.")[-1]: t for name, t in policy.model.state_dict().items() if "lora" not in name}
    # names up to "layers." differ between a text model and the same inside a larger one; embeddings, norm and head keep theirs
    layers = [name for name in ours if name[0].isdigit()]
    assert len(layers) > 10 and all(torch.equal(ours[name], theirs[name]) for name in layers)
    assert torch.equal(policy.head, written.get_output_embeddings().weight)
    assert torch.equal(policy.model.get_input_embeddings().weight, written.get_input_embeddings().weight)
    kinds = {name.removesuffix(".lora_A.weight").split(".")[-1] for name in runs.trained_names(policy)}
    assert {"gate_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "o_proj"} <= kinds and "lm_head" not in kinds


def test_student_and_teacher_prompts_end_in_the_same_ids_and_only_the_advice_differs(family):
    style, policy, header, _ = family
    student, teacher = (build_prompt(policy.tokenizer, THEOREM, f, style=style) for f in (None, "1. Write `intro h`."))
    texts = [policy.tokenizer.decode(ids) for ids in (student, teacher)]
    start = texts[0].index("theorem t")
    tail = len(policy.tokenizer(texts[0][start:], add_special_tokens=False)["input_ids"])
    assert student[-tail:] == teacher[-tail:] and "1. Write `intro h`." in texts[1]
    bos = policy.tokenizer.bos_token_id
    assert bos is None or all(ids.count(bos) == 1 and ids[0] == bos for ids in (student, teacher))
    if header is None:
        fence = "Complete the following Lean 4 code:\n\n```lean4\n" * (style == "fence")
        code = "theorem t (p : Prop) : p → p := by\n"
        begin = policy.tokenizer.bos_token or ""
        assert texts[0] == begin + fence + "import Mathlib\nopen Nat\n" + code
        assert texts[1] == begin + fence + "import Mathlib\nopen Nat\n/- 1. Write `intro h`. -/\n" + code
    else:
        assert texts[0].endswith(header) and texts[0].count("<|im_start|>") == texts[1].count("<|im_start|>")
        assert "```lean4\nimport Mathlib\nopen Nat\ntheorem t (p : Prop) : p → p := by\n```" in texts[0]
        # the template's own default of thinking: nothing is switched off
        assert "</think>" not in texts[0]


def test_special_tokens_and_thinking_tags_in_the_feedback_are_only_text(family):
    style, policy, _, _ = family
    words = [token.content for token in policy.tokenizer.added_tokens_decoder.values()]
    feedback = "1. Stop." + " ".join(words) + "".join(words) + " -/ ``` now"
    student, teacher = (build_prompt(policy.tokenizer, THEOREM, f, style=style) for f in (None, feedback))
    added = set(policy.tokenizer.added_tokens_decoder)
    assert [i for i in student if i in added] == [i for i in teacher if i in added]
    text = policy.tokenizer.decode(teacher)
    assert text.count("```") == policy.tokenizer.decode(student).count("```") and text.count("/-") == text.count("-/")


def test_the_whole_path_a_sample_a_proof_and_a_step_that_moves_the_adapters_within_the_models_positions(family):
    style, policy, _, _ = family
    new, feedback = 24, " ".join(f"{i}. write `intro` and do not write `assume`" for i in range(400))
    room = policy.max_positions - new
    student, teacher = (build_prompt(policy.tokenizer, THEOREM, f, room, style) for f in (None, feedback))
    assert room - 20 < len(teacher) <= room and len(student) < 400  # the feedback alone was cut, by no more than a word
    assert policy.tokenizer.decode(teacher).count(THEOREM.statement) == 1
    samples = fd_mini.sample(policy, [student, student, teacher], new, generator=torch.Generator().manual_seed(3))
    completions = [ids for ids, _ in samples]
    assert all(len(p) + len(c) <= policy.max_positions for p, c in zip([student, student, teacher], completions))
    texts = [policy.tokenizer.decode([i for i in ids if i not in policy.stop_ids]) for ids in completions]
    assert all(isinstance(extract_proof(text), str) for text in texts)
    policy.model.zero_grad(set_to_none=True)
    metrics = fd_mini.fd_backward(policy, [student] * 2, [teacher] * 2, completions[:2], [[True] * len(c) for c in completions[:2]])
    assert metrics["tokens"] == sum(map(len, completions[:2])) and metrics["kl"] > 0
    before = [p.detach().clone() for p in policy.student]
    torch.optim.AdamW(policy.student, lr=1e-3).step()
    moved = {name for name, p, old in zip(runs.trained_names(policy), policy.student, before) if not torch.equal(p, old) and "lora_B" in name}
    assert moved == {name for name in runs.trained_names(policy) if "lora_B" in name}  # A follows a step later: its gradient is B's, zero now
    again = fd_mini.fd_backward(policy, [student] * 2, [teacher] * 2, completions[:2], [[True] * len(c) for c in completions[:2]])
    assert again["loss"] < metrics["loss"]
    with torch.no_grad():  # the next test finds the policy as it was
        for p, old in zip(policy.student, before):
            p.copy_(old)


def test_a_prompt_as_text_is_what_the_ids_say(family):
    style, policy, header, _ = family
    text = prompt_text(THEOREM, "1. Stop.", style or ("chat" if header else "plain"))
    assert text in policy.tokenizer.decode(build_prompt(policy.tokenizer, THEOREM, "1. Stop.", style=style))


WHOLE = "```lean4\ntheorem t (p : Prop) : p → p := by\n  intro h\n  exact h\n```"


@pytest.mark.parametrize("completion", [
    "  intro h\n  exact h",  # plain
    "  intro h\n  exact h\n```\n\nThis works.\n```lean4\ntheorem other : True := by\n  trivial\n```",  # fence: the model goes on
    "  intro h\n  exact h\n```<｜end▁of▁sentence｜>",
    WHOLE, f"### Plan\nUse `intro`.\n\n{WHOLE}\nDone.",  # deepseek-prover-v2
    f"<think>\nMaybe\n```lean4\nby simp\n```\n</think>\n\n{WHOLE}",  # qwen3, kimina: thinking in the answer
    f"Maybe\n```lean4\nby simp\n```\n</think>\n\n{WHOLE}",  # qwen3.5: the prompt has opened it
    f"<think>\nNo.\n</think>\n\n```lean4\nby simp\n```\nBetter:\n{WHOLE}\n<think>\n```lean4\nby omega\n```"])  # the last one, not a thought
def test_the_proof_of_every_familys_answer_is_found(completion):
    assert extract_proof(completion, chat=not completion.startswith("  ")) == "by\n  intro h\n  exact h"


def test_a_thought_is_no_answer():
    for text in ("<think>\n```lean4\nby simp\n```", "<think>\n```lean4\nby simp\n```\n</think>\n\nI give up."):
        assert extract_proof(text, chat=True) == "" and "simp" not in extract_proof(text)
