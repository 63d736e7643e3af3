"""What a policy reads and wrote: completions decoded behind their prompt, and theorems that leave no room."""
import dataclasses
import json
import random
import shutil

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

import eval as evaluation
import fd_mini
import train
from data import load_theorems
from extras import prompts, provers, speaker, tool_mode
from extras.heatmap.layout import pieces, visible
from extras.heatmap.models import ask
from feedback import build_prompt
from lean_env import LeanEnv, Theorem

THEOREM = Theorem("t", "theorem t (p : Prop) : p → p", None, "by\n  intro h\n  exact h")
PROOF = "  intro h\n  exact h"
TEXTS = [PROOF, " ", "", "exact h", "  · exact ⟨h, ℕ, 🦆⟩\n\n  ", "\n  intro h", "⟨h⟩", "   x", "#rg add_comm\n"]


@pytest.fixture(scope="module")
def llama2(tmp_path_factory):
    """A policy whose tokenizer is of Llama 2's kind: words begin with ▁, bytes for what is rare, no space at a text's beginning."""
    folder = tmp_path_factory.mktemp("llama2")
    to_blocks = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    draft = Tokenizer(models.BPE())
    draft.normalizer = to_blocks
    corpus = [f"{t.statement} := {t.proof}".replace("\n", " ") for t in load_theorems("toy", "train")[:300]]
    draft.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learnt = json.loads(draft.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + sorted(learnt["vocab"], key=learnt["vocab"].get)
    vocab = {name: i for i, name in enumerate(names)}
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = to_blocks
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    config = hf.LlamaConfig(vocab_size=len(fast), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                            bos_token_id=1, eos_token_id=2, max_position_embeddings=2000)
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    return provers.load(str(folder), 2)


@pytest.fixture(scope="module")
def tiny():
    return fd_mini.Policy("tiny", rank=2)


def behind(policy, text):
    """(prompt, ids of what follows it); of Llama 2's kind they are those of the whole text, or a space would come before it."""
    prompt = build_prompt(policy.tokenizer, THEOREM)
    if "▁a" not in policy.tokenizer.get_vocab():
        return prompt, policy.tokenizer.encode(text, add_special_tokens=False)
    whole = policy.tokenizer(f"{THEOREM.statement} := by\n{text}")["input_ids"]
    whole = whole[:-1] if whole[-1] == policy.tokenizer.eos_token_id else whole
    assert whole[: len(prompt)] == prompt
    return prompt, whole[len(prompt):]


@pytest.mark.parametrize("text", TEXTS)
def test_a_completion_keeps_every_character_behind_its_prompt(llama2, tiny, text):
    for policy in (llama2, tiny):
        prompt, ids = behind(policy, text)
        for end in ([], [policy.tokenizer.eos_token_id]):
            assert prompts.decode(policy, prompt, ids + end) == text
        parts = pieces(policy.tokenizer, ids, prompt)
        assert "".join(parts) == text and len(parts) == len(ids)
    if text.startswith(" "):  # that is what this is about
        assert llama2.tokenizer.decode(behind(llama2, text)[1]) == text[1:]


def test_bytes_level_tokenizers_give_what_they_gave_whatever_was_sampled(tiny):
    rng = random.Random(0)
    prompt = prompts.prompt_for(tiny, THEOREM)
    for _ in range(500):
        ids = [rng.randrange(len(tiny.tokenizer)) for _ in range(rng.randrange(12))]
        kept = [i for i in ids if i not in tiny.stop_ids]
        assert prompts.decode(tiny, prompt, ids) == tiny.tokenizer.decode(kept, clean_up_tokenization_spaces=False)


def scripted(monkeypatch, policy, text):
    """Sampling writes this text after every prompt, up to where `stop` would end it."""
    def sample(policy, prompts, room, temperature=1.0, generator=None, batch_size=None, stop=None, uniforms=None):
        ids = behind(policy, text)[1]
        end = next((n for n in range(1, len(ids) + 1) if stop and stop(0, ids[:n])), None)
        return [(ids[:end], False) if end else (ids + [policy.tokenizer.eos_token_id], True) for _ in prompts]
    monkeypatch.setattr(fd_mini, "sample", sample)


@pytest.mark.parametrize("tools", [False, True])
def test_a_proof_of_several_lines_is_proved_with_every_tokenizer(llama2, tiny, monkeypatch, tools):
    env = LeanEnv(lean="wheel")
    for policy in (llama2, tiny):
        monkeypatch.setattr(policy, "tools", tools)
        scripted(monkeypatch, policy, PROOF)
        (rollout,) = evaluation.roll_out(policy, env, [THEOREM], 200, torch.Generator())
        assert rollout.text == PROOF and rollout.verdict.status == "proved" and rollout.finished
        assert not tools or rollout.conversation == PROOF


def test_calls_are_found_and_advice_is_read_behind_the_prompt(llama2, monkeypatch):
    monkeypatch.setattr(llama2, "tools", True)
    scripted(monkeypatch, llama2, " #rg a\n#rg add_comm\nmore")  # indented it is no call
    monkeypatch.setattr(tool_mode, "TURNS", 1)
    (rollout,) = tool_mode.roll_out(llama2, LeanEnv(lean="wheel"), [THEOREM], 300, torch.Generator())
    assert rollout.conversation.startswith(" #rg a\n#rg add_comm\n") and not all(rollout.sampled)
    scripted(monkeypatch, llama2, "  1. Use it.")
    assert speaker.speaker(llama2)(["Advise\n"]) == ["  1. Use it."]


def test_the_heat_map_shows_the_space_before_a_word(llama2):
    prompt, ids = behind(llama2, PROOF)
    with torch.no_grad():
        said = ask(llama2, "base", prompt, ids)
    shown = {word for token in said for word, _ in token["top"]}
    every = {i: prompts.text_behind(llama2.tokenizer, prompt, [i]) for i in range(len(llama2.tokenizer))}
    assert shown <= set(map(visible, every.values())) and any(word.startswith(" ") for word in every.values())
    block = llama2.tokenizer.convert_tokens_to_ids("▁a")
    assert every[block] == " a" and llama2.tokenizer.decode([block]) == "a"


# --- theorems that leave no room


def theorem_of(policy, length):
    """A theorem whose prompt has about `length` tokens, and that Lean can read."""
    name = Theorem("long", "theorem long (p : Prop) : p → p", "", "by\n  intro h\n  exact h")
    while len(prompts.prompt_for(policy, name)) < length:
        name = dataclasses.replace(name, statement=name.statement + " ∧ True")
    return name


@pytest.mark.parametrize("style, tools", [("plain", False), ("plain", True), ("fence", False), ("fence", True), ("chat", False), ("chat", True)])
def test_a_theorem_is_kept_exactly_when_its_prompt_leaves_room(monkeypatch, capsys, style, tools):
    policy = fd_mini.Policy("tiny", rank=2)
    policy.style, policy.tools = style, tools
    policy.tokenizer.chat_template = "{% for t in tools or [] %}{{ t['function']['name'] }}{% endfor %}{{ messages[0]['content'] }}"
    theorems = [dataclasses.replace(THEOREM, name=f"t{n}", statement="theorem t : True" + " ∧ True" * n) for n in range(12)]
    lengths = [len(prompts.prompt_for(policy, theorem)) for theorem in theorems]
    policy.max_positions = lengths[6] + 80
    kept = prompts.with_room(policy, theorems, 80)
    assert kept == theorems[:7]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"5 of 12 theorems" in said and "t7 (" in said
    # The advice is true: 5 left out, the middle one (the third) sets the limit, which the shorter two keep as well.
    limit = policy.max_positions - lengths[9]
    assert f"--max-new-tokens 80 takes the room: with {limit} or less 3 of them would fit" in said
    assert len(prompts.with_room(policy, theorems, limit)) == 10 and len(prompts.with_room(policy, theorems, limit + 1)) == 9
    for theorem in kept:  # neither the attempt nor the teacher's longest prompt meets the end
        assert len(prompts.prompt_for(policy, theorem, "x " * 900, 80)) + 80 <= policy.max_positions
    assert prompts.with_room(policy, kept, 80) is kept and prompts.with_room(policy, [], 80) == []


def test_when_none_is_left_one_line_says_what_takes_the_room(tiny):
    length = len(prompts.prompt_for(tiny, THEOREM))
    with pytest.raises(ValueError, match=f"--max-new-tokens 511 takes the room: with {512 - length} or less 1 of them would fit"):
        prompts.with_room(tiny, [THEOREM], 511)
    with pytest.raises(ValueError, match="more positions or shorter theorems") as caught:
        prompts.with_room(tiny, [theorem_of(tiny, 520)], 1)
    assert "leave" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_prompt_that_is_called_short_unseen_is_as_short_when_it_is_tokenised(llama2, tiny):
    """Also where every byte is a token."""
    random.seed(0)
    said = 0
    for policy in (llama2, tiny):
        for _ in range(200):
            letters = random.choices("p →∧∨ℕ⟨⟩αβ🦆\n·₁0a", k=random.randrange(60))
            theorem = Theorem("t", f"theorem t : {''.join(letters)}", random.choice([None, "open Nat\n" * random.randrange(5)]))
            needed = len(prompts.prompt_for(policy, theorem))
            room = random.randrange(20, 400)
            short = prompts.is_short(policy, theorem, room)
            assert needed <= room or not short
            said += short
    assert 100 < said < 300


def test_a_proof_to_imitate_needs_its_room_too(tiny, capsys):
    long = dataclasses.replace(THEOREM, name="long", proof="by\n  intro h\n" + "  skip\n" * 300 + "  exact h")
    assert prompts.with_room(tiny, [THEOREM, long], 80) == [THEOREM, long]
    capsys.readouterr()
    assert prompts.with_room(tiny, [THEOREM, long], 80, imitated=True) == [THEOREM]
    assert "max-new-tokens" not in capsys.readouterr().out  # it is not the limit that takes the room


def write(path, *theorems):
    path.write_text("".join(json.dumps({"name": t.name, "statement": t.statement, "proof": t.proof}) + "\n" for t in theorems))
    return str(path)


@pytest.mark.parametrize("algo", ["fd", "sft"])
def test_a_row_that_is_too_long_is_named_before_the_start_and_the_run_goes_on(tmp_path, capsys, tiny, algo):
    short = [dataclasses.replace(THEOREM, name=f"s{i}") for i in range(2)]
    long = theorem_of(tiny, 450)
    data = write(tmp_path / "mine.jsonl", *short, long)
    flags = ["--algo", algo, "--data", data, "--valid", data, "--out", str(tmp_path / "out"), "--prompts-per-step", "3", "--lora-rank", "2",
             "--max-new-tokens", "80", "--eval-every", "1"]
    train.main([*flags, "--steps", "2"])
    train.main([*flags, "--steps", "3", "--resume"])
    said = capsys.readouterr()
    assert said.out.count("1 of 3 theorems do not fit") == 4 and "long (4" in said.out
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    results = evaluation.main(evaluation.Config(model="tiny", data=data, samples=1, out=str(tmp_path / "eval")))
    assert results["tiny"]["problems"] == 2
    assert capsys.readouterr().out.count("1 of 3 theorems do not fit") == 1  # before Lean, and not once more
    with pytest.raises(SystemExit, match="--max-new-tokens 511 takes the room"):
        train.main([*flags[:-4], "--max-new-tokens", "511", "--out", str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


def test_prompts_are_made_before_lean_starts_and_weights_are_read(tmp_path, capsys, tiny):
    """Folders with a config and a tokenizer, and weights that are no weights; and there is no such Lean."""
    data = write(tmp_path / "mine.jsonl", THEOREM, theorem_of(tiny, 450))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(fd_mini.TINY / name, folder)
    (folder / "model.safetensors").write_text("torn")
    run = tmp_path / "run"  # a run of that model whose longest attempt leaves no room
    (run / "ckpt").mkdir(parents=True)
    (run / "ckpt" / "state.pt").write_text("torn")
    (run / "config.json").write_text(json.dumps({"algo": "fd", "model": str(folder), "max_new_tokens": 511}))
    how = dict(data=data, lean=str(tmp_path / "no-lean"), out=str(tmp_path / "out"))

    for flags in (dict(model=str(folder), max_new_tokens=511), dict(runs=(str(run),))):
        with pytest.raises(ValueError, match="2 of 2 theorems do not fit into the model's 512 positions.*--max-new-tokens 511 takes the room"):
            evaluation.main(evaluation.Config(**how, **flags))
        assert "model:" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no-lean"):
        evaluation.main(evaluation.Config(model=str(folder), max_new_tokens=80, **how))
    assert "1 of 2 theorems do not fit" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--max-new-tokens 511 takes the room"):
        train.main(["--model", str(folder), "--data", data, "--lean", how["lean"], "--eval-every", "0", "--max-new-tokens", "511", "--out", how["out"]])
