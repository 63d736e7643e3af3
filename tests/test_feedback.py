"""feedback.py: the tutor's words, the prompts, and language models behind HTTP (a server of the standard library plays them)."""
import json
import logging
import random
import re
import socket
import threading
import time
from email.utils import formatdate

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from feedback import LEVELS, build_prompt, clean_answer, instruction, make_feedback, prompt_text
from lean_env import LeanEnv, Rollout, Theorem, Verdict, extract_proof
from tests.servers import Local, Quiet
from toy.tutor import OUTDATED, tutor

AND = Theorem("and_right", "theorem and_right (p q : Prop) : p → q → p ∧ q", None,
              "by\n  intro h k\n  constructor\n  · exact h\n  · exact k")
NAMES = "1. Write `intro`, not `assume`; write `constructor`, not `split`."


def rollout(text, status="rejected", theorem=AND, finished=True, errors=()):
    messages = [{"severity": "error", "line": 2, "column": 0, "data": error} for error in errors]
    return Rollout(theorem, [], [], [], Verdict(status, messages, [], 0.0), None, finished, text)


# --- the tutor ---

def test_without_a_reference_the_tutor_quotes_leans_error_and_the_goal_it_is_about():
    theorem = Theorem("t", "theorem t (p q : Prop) : p → q → p")
    unsolved = "unsolved goals\np q : Prop\nh : p\n⊢ q → p"
    assert tutor(rollout("  intro h", theorem=theorem, errors=[unsolved])) == "1. Avoid the error: unsolved goals p q : Prop h : p ⊢ q → p."
    attempt = rollout("  intro h\n  exact g", theorem=theorem, errors=["Unknown identifier `g`"])
    assert tutor(attempt) == "1. Avoid the error: Unknown identifier `g`."
    attempt.verdict.messages.append({"severity": "information", "line": 3, "column": 2, "data": "p q : Prop\nh : p\n⊢ q →\n    p"})  # of --lean dojo
    assert tutor(attempt) == "1. Avoid the error: Unknown identifier `g`; the goal is `q → p`."



def test_an_attempt_with_only_outdated_names_is_told_the_current_ones_in_the_order_of_the_reference():
    assert tutor(rollout("  assume h k\n  split\n  · exact h\n  · exact k")) == f"{NAMES}\n2. Keep `exact h`."


def test_the_first_line_that_is_not_the_references_is_set_right():
    assert tutor(rollout("  assume h k\n  split\n  · exact k\n  · exact h")) == f"{NAMES}\n2. Use `exact h`, not `exact k`."
    assert tutor(rollout("  intro h k\n  constructor\n  · exact h")) == f"{NAMES}\n2. Use `exact k`."
    assert tutor(rollout("  intro h k\n  split\n  · exact h\n  · exact k\n  exact h")) == f"{NAMES}\n2. Stop after `exact k`."


def test_a_line_too_long_or_unprintable_is_not_quoted():
    for garbage in ("h " * 40, "exact \x00h", "exact `h`"):
        assert tutor(rollout("  intro h k\n  constructor\n  " + garbage)) == f"{NAMES}\n2. Use `exact h`."


def test_after_a_success_the_names_are_told_too_and_the_first_line_that_decided_something_is_kept():
    assert tutor(rollout("  intro h k\n  constructor\n  · exact h\n  · exact k", "proved")) == f"{NAMES}\n2. Keep `exact h`."
    # what is kept is the attempt's own line, not the reference's
    assert tutor(rollout("  intro h k\n  exact ⟨h, k⟩", "proved")) == f"{NAMES}\n2. Keep `exact ⟨h, k⟩`."


def test_names_of_an_attempt_that_the_reference_lacks_come_last_and_four_pairs_are_the_most():
    theorem = Theorem("t", "theorem t : True", None, "by\n  exists 0\n  rw [Nat.add_comm, Nat.mul_one, Nat.zero_add]")
    items = tutor(rollout("  split\n  assume h", theorem=theorem)).splitlines()
    assert items[0] == ("1. Write `exists`, not `existsi`; write `Nat.add_comm`, not `nat.add_comm`; "
                        "write `Nat.mul_one`, not `nat.mul_one`; write `Nat.zero_add`, not `nat.zero_add`.")
    theorem = Theorem("t", "theorem t : p → p", None, "by\n  intro h\n  exact h")
    assert tutor(rollout("  split\n  exact h", theorem=theorem)).startswith(
        "1. Write `intro`, not `assume`; write `constructor`, not `split`.")


def test_names_that_lean_or_the_reference_accepts_are_never_called_outdated():
    split = Theorem("t", "theorem t : p", None, "by\n  split\n  exact h")
    assert tutor(rollout("  split\n  exact k", theorem=split)) == "1. Use `exact h`, not `exact k`."
    assert tutor(rollout("  split", "proved", Theorem("t", "theorem t : p", None, "by\n  exact h"))) == "1. Keep `split`."
    assert tutor(rollout("  split\n  exact h", "proved", Theorem("t", "theorem t : p"))) == "1. Keep `split`."
    symm = Theorem("t", "theorem t : b = a", None, "by\n  exact h.symm")  # in `| refl` it is the constructor's name
    assert tutor(rollout("  cases h with\n  | refl => k", theorem=symm)) == "1. Use `exact h.symm`, not `cases h with`."


def test_a_success_without_a_reference_is_its_own_reference():
    assert tutor(rollout("  intro h\n  exact h", "proved", Theorem("t", "theorem t : p → p"))) == (
        "1. Write `intro`, not `assume`.\n2. Keep `exact h`.")


def test_without_a_reference_leans_first_error_is_the_advice_in_thirty_words_at_most():
    bare = Theorem("t", "theorem t : p")
    attempt = rollout("  exact k", theorem=bare, errors=["unknown identifier\n  `k`.", "second"])
    assert tutor(attempt) == "1. Avoid the error: unknown identifier `k`."
    attempt = rollout("  exact k", theorem=bare, errors=["word " * 500])
    assert tutor(attempt) == "1. Avoid the error: " + " ".join(["word"] * 30) + "."
    assert tutor(rollout("  sorry", "cheat", bare)) == "1. Prove the statement itself, without `sorry` or new axioms."


def test_a_rejected_attempt_with_the_references_own_lines_gets_leans_error():
    attempt = rollout("intro h k\n  constructor\n  exact h\n  exact k", errors=["expected command"])
    assert tutor(attempt) == f"{NAMES}\n2. Avoid the error: expected command."


def test_an_attempt_cut_by_the_length_limit_is_told_to_be_shorter():
    assert tutor(rollout("  intro h k", finished=False)) == (
        f"{NAMES}\n2. Use `constructor`.\n3. Be shorter: stop as soon as the goal is closed.")
    assert "shorter" not in tutor(rollout("  intro h k", finished=False), style=3)


def test_styles_one_and_two_describe_the_attempt_in_prose_and_as_a_list():
    attempt = rollout("  assume h k\n  constructor\n  · exact k")
    about = "About the attempt: "
    first, second = f"{about}write `intro`, not `assume`.", f"{about}use `exact h`, not `exact k`."
    assert tutor(attempt, 1) == f"{first} {second}"
    assert tutor(attempt, 2) == f"1. {first}\n2. {second}"
    assert tutor(rollout(AND.proof[3:], "proved"), 1).startswith("The attempt was right: ")


OWN = [  # proofs as people write them: (binders and type, proof, the order after a wrong start)
    ("(p q : Prop) : p → q → p", "fun h => fun k => h", "Write `exact fun h => fun k => h`."),
    ("(p q : Prop) (h : p ∧ q) : q ∧ p", "⟨h.right,\n h.left⟩", "Write `exact ⟨h.right, h.left⟩`."),
    ("(p : Prop) (h : p) : p", "by exact h", "Use `exact h`, not `intro z`."),
    ("(p q : Prop) (h : p ∨ q) : q ∨ p", "by\n  rcases h with a | b\n  · right\n    exact a\n  · left\n    exact b",
     "Use `rcases h with a | b`, not `intro z`."),
    ("(a b : Nat) (h : a = b ∨ b = a) : a = b", "by\n  cases h with\n  | inl k => exact k\n  | inr k =>\n    exact k.symm",
     "Use `cases h with | inl k => exact k | inr k => exact k.symm`, not `intro z`."),
    ("(a b : Nat) (h : a = b ∨ b = a) : a = b", "by\n  cases h with\n  | inl k =>\n    subst k\n    trivial\n  | inr k => exact k.symm",
     "Use the tactic `cases`, not `intro z`."),
    ("(p : Prop) (h : p ∨ p ∨ p) : p", "by\n  cases h with\n  | inl a => exact a\n  | inr k =>\n    cases k with\n    | inl b => exact b\n    | inr c => exact c",
     "Use the tactic `cases`, not `intro z`."),
    ("(p q : Prop) (h : p ∧ q) : q ∧ p", "by\n  exact {\n    left := h.right,\n    right := h.left }", "Use the tactic `exact`, not `intro z`."),
    ("(p q : Prop) (h : p ∧ q) : p", "match h with\n| ⟨a, _⟩ => a", "Write `exact match h with | ⟨a, _⟩ => a`."),
    ("(p q : Prop) (h : p ∧ q) : p", "by\n  match h with\n  | ⟨a, _⟩ => exact a", "Use `match h with | ⟨a, _⟩ => exact a`, not `intro z`."),
    ("(a b c : Nat) (h : a = b) (k : b = c) : a = c", "by\n  calc a = b := h\n    _ = c := k", "Use the tactic `calc`, not `intro z`."),
    ("(a b c : Nat) (h : a = b) (k : b = c) : a = c", "calc a = b := h\n  _ = c := k", "Write the tactic `exact`."),
    ("(p q : Prop) (h : p) (k : q) : p ∧ q", "by constructor; exact h; exact k", "Use `constructor; exact h; exact k`."),
    ("(p q : Prop) (h : p) (k : q) : p ∧ q", "by\n  constructor <;> assumption", "Use `constructor <;> assumption`."),
    ("(p q : Prop) (h : p) (k : q) : p ∧ q", "by\n  constructor\n  <;> assumption", "Use `constructor <;> assumption`."),
    ("(p q : Prop) (h : p ∧ q) : p", "by\n  have := h.left -- the first\n  exact this", "Use `have := h.left`, not `intro z`."),
    ("(p q : Prop) (h : p ∧ q) : p", "by\n  have k : p := by\n    exact h.left\n  exact k", "Use `have k : p := by exact h.left`, not `intro z`."),
    ("(p q : Prop) (h : p ∧ q) : p", "by\n  /- two\n  lines -/\n  exact\n    h.left", "Use `exact h.left`, not `intro z`."),
    ("(p q : Prop) (h : p) (k : q) : p ∧ q", "by\n  . constructor\n    . exact h\n    . exact k", "Use `constructor`, not `intro z`."),
]


def test_orders_for_proofs_of_ones_own_are_whole_tactics_that_lean_takes():
    env, jobs, orders = LeanEnv(lean="wheel"), [], []
    for binders, proof, wanted in OWN:
        theorem = Theorem("t", f"theorem t {binders}", None, proof)
        told = [line for line in tutor(rollout("  intro z\n  exact z", theorem=theorem)).split("\n") if "`, not `" not in line or "intro z" in line]
        assert told[-1].partition(". ")[2] == wanted
        jobs.append((theorem, proof))
        # With nothing written, with the reference itself, and with half of it: no tactic is cut off, and items are lines.
        written = proof.removeprefix("by\n") if proof.startswith("by") else f"  exact {proof}"
        for text, status in (("", "rejected"), (written, "proved"), (written[: len(written) // 2], "rejected")):
            for style in (1, 2, 3, 4):
                said = tutor(rollout(text, status, theorem), style)
                for number, line in enumerate(said.splitlines(), 1):
                    assert style == 1 or line.startswith(f"{number}. ")
                said = re.sub(r", not `[^`]*`", "", said)
                assert not re.search(r"(?:with|by|=>|:=|,)`", said) and said.count("`") % 2 == 0, said
        # What is ordered, where it is all of the proof, proves it.
        quoted = re.match(r"(?:Use|Write) `([^`]*)`", wanted)
        if quoted and " ".join(re.sub(r"\A\s*by\s", "", proof).split()) == quoted[1].removeprefix("exact ").strip():
            orders.append((theorem, f"by\n  {quoted[1]}"))
        elif quoted:  # else it is what the proof may begin with
            orders.append((theorem, f"by\n  {quoted[1]}\n  all_goals sorry"))
    assert [verdict.status for verdict in env.check(jobs)] == ["proved"] * len(jobs)
    assert all(verdict.status in ("proved", "cheat") or "no goals" in str(verdict.messages) for verdict in env.check(orders, sketch=True))


def test_an_order_that_would_be_cut_names_the_tactic():
    long = Theorem("t", "theorem t : p", None, "by\n  exact " + " ".join(f"(h{i} x)" for i in range(40)))
    assert tutor(rollout("  exact k", theorem=long)) == "1. Use the tactic `exact`, not `exact k`."


def test_the_tutor_survives_any_garbage_and_stays_an_order_of_few_words():
    rng = random.Random(0)
    pieces = ["by", "·", "`", "\n", "  ", "assume", "nat.add_comm", "```lean4\n", ":=", "theorem", "(", "⟩", "\x00", "\u2028",
              "\ud800"]
    for theorem in (AND, Theorem("t", "theorem t : p"), Theorem("t", "theorem t : p", None, "fun h => h " + "x " * 200)):
        for status in ("proved", "rejected", "cheat"):
            for _ in range(100):
                text = "".join(rng.choice(pieces) if rng.random() < 0.5 else chr(rng.randrange(0x110000))
                               for _ in range(rng.randrange(60)))
                for style in (1, 2, 3, 4):
                    attempt = rollout(text, status, theorem, rng.random() < 0.5, errors=[text] * rng.randrange(2))
                    told = tutor(attempt, style)
                    assert told == tutor(attempt, style) and attempt.text == text
                    items = told.split("\n")
                    assert 1 <= len(items) <= (1 if style == 1 else 3)
                    outside = re.sub(r"`[^`]*`", "", told).lower().replace(" ".join(text.lower().split()), "")
                    assert not re.search(r"\b(student|you|your)\b", outside)
                    if style > 1:
                        for number, item in enumerate(items, 1):
                            assert item.startswith(f"{number}. ") and len(item.split()) <= 51
                            assert len(item.splitlines()) == 1
    assert tutor(rollout("x" * 10**6)) and tutor(rollout(""))


def test_every_outdated_name_has_one_current_name_and_none_is_both():
    assert len(set(OUTDATED.values())) == len(OUTDATED) and not set(OUTDATED) & set(OUTDATED.values())
    assert OUTDATED["assume"] == "intro" and OUTDATED["nat.le_succ"] == "Nat.le_succ" and OUTDATED["iff.intro"] == "Iff.intro"


# --- the sources ---


def test_no_source_but_the_constant_speaks_about_a_timeout_a_crash_or_an_unchecked_attempt():
    unchecked = rollout("  exact h")
    unchecked.verdict = None
    rollouts = [rollout("  exact h", "timeout"), rollout("  exact h"), rollout("  exact h", "crash"), unchecked]
    for spec in ("tutor", "lean", "truth", "self"):
        source = make_feedback(spec, generate=lambda texts: ["1. Use `exact h`."] * len(texts))
        first, second, third, fourth = source.write(rollouts)
        assert first is third is fourth is None and second and source.failures == 0
    assert make_feedback("const:be brief: now").write(rollouts) == ["be brief: now"] * 4


def test_the_style_reaches_the_tutor_and_the_language_model():
    attempt = rollout("  exact h", finished=False)
    assert [make_feedback("tutor", style).write([attempt]) for style in (1, 2, 3, 4)] == [
        [tutor(attempt, style)] for style in (1, 2, 3, 4)]
    assert make_feedback("tutor").write([attempt]) == [tutor(attempt, 4)] == [tutor(attempt)]
    with Play(ollama("1. Use it.")) as server:
        source("ollama", server, style=2).write([attempt])
        source("ollama", server).write([attempt])
    asked = [body["messages"][0]["content"] for _, _, body in server.requests]
    assert asked == [instruction(attempt, 2), instruction(attempt, 4)]


def test_lean_gives_its_output_after_a_failure_and_the_found_proof_after_a_success():
    failed, proved = rollout("  exact k", errors=["unknown identifier `k`"]), rollout("  exact h", "proved")
    assert make_feedback("lean").write([failed, proved]) == [
        "rejected\nerror, line 2: unknown identifier `k`", "An example of a correct solution:\nby\n  exact h"]
    assert len(make_feedback("lean").write([rollout("", errors=["e" * 50] * 999)])[0]) == 4000


def test_truth_shows_the_reference_and_has_nothing_to_say_where_there_is_none():
    source = make_feedback("truth")
    assert source.write([rollout("x"), rollout("x", theorem=Theorem("t", "theorem t : p"))]) == [
        "An example of a correct solution:\n" + AND.proof, None]
    assert source.failures == 1


def test_self_feedback_is_asked_with_the_instruction_and_loses_its_thinking():
    asked = []
    source = make_feedback("self", 2, lambda texts: asked.extend(texts) or ["<think>hm</think>1. Use it.", "<think>endless"])
    assert source.write([rollout("  exact h"), rollout("  exact k")]) == ["1. Use it.", None]
    assert asked == [instruction(rollout("  exact h"), 2), instruction(rollout("  exact k"), 2)]


@pytest.mark.parametrize("spec", ["", "tuto", "tutor:x", "self", "ollama", "ollama:", "ollama:m@ftp://host", "openai:m@host",
                                  "openai:m@http://me:hunter2@host", "openai:m@https://host/?key=hunter2"])
def test_a_source_that_cannot_be_is_one_line_that_says_what_can(spec):
    with pytest.raises(ValueError) as error:
        make_feedback(spec)
    message = str(error.value)
    assert "\n" not in message and ("ollama:MODEL" in message or "openai:MODEL" in message)
    assert "hunter2" not in message


def test_the_four_levels_of_the_instruction_are_nested():
    attempt = rollout("  exact k", errors=["unknown identifier"], finished=False)
    texts = [instruction(attempt, style) for style in (1, 2, 3, 4)]
    for style, text in enumerate(texts, 1):
        assert [level in text for level in LEVELS] == [i < style for i in range(4)]
        for part in (AND.statement, "  exact k\n(cut by the token limit)", "unknown identifier"):
            assert part in text
    assert "cut by" not in instruction(rollout("  exact k"), 3)


# --- prompts ---

CHAT = ("{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
        "{% if add_generation_prompt %}<bos>assistant\n{% endif %}")


def tokenizer(ends=False, chat_template=None):
    """One token a byte; with `ends` every text gets <bos> before and <eos> behind it, as some hub tokenizers do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<bos>", "<eos>"])}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if ends:
        core.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 256), ("<eos>", 257)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", chat_template=chat_template)


def test_the_raw_prompts_differ_by_a_comment_before_the_statement():
    words, theorem = tokenizer(), Theorem("t", "theorem t (p : Prop) : p → p", "open Nat\n", None)
    code = "theorem t (p : Prop) : p → p := by\n"
    assert words.decode(build_prompt(words, theorem)) == "open Nat\n" + code
    assert words.decode(build_prompt(words, theorem, "1. Write `intro`.\n2. Stop.")) == (
        "open Nat\n/- 1. Write `intro`.\n2. Stop. -/\n" + code)
    assert build_prompt(words, theorem, "") == build_prompt(words, theorem)


@pytest.mark.parametrize("chat_template", [None, CHAT])
def test_both_prompts_end_in_the_same_problem_and_the_same_assistant_header(chat_template):
    words = tokenizer(chat_template=chat_template)
    student, teacher = (words.decode(build_prompt(words, AND, f)) for f in (None, "1. Use `exact h`."))
    tail = student[student.index("theorem"):]
    assert AND.statement + " := by\n" in tail and teacher.endswith(tail) and "1. Use `exact h`." in teacher
    if chat_template:
        assert tail.endswith("```<eos>\n<bos>assistant\n") and student.count("<bos>") == teacher.count("<bos>") == 2


def test_a_beginning_token_is_kept_once_and_an_end_token_is_never_left_on():
    for chat_template in (None, CHAT):
        words = tokenizer(ends=True, chat_template=chat_template)
        for feedback in (None, "1. Use `exact h`."):
            ids = build_prompt(words, AND, feedback)
            assert ids[0] == words.bos_token_id != ids[1] and ids[-1] != words.eos_token_id


@pytest.mark.parametrize("chat_template", [None, CHAT])
def test_the_feedback_is_shortened_from_its_end_and_the_problem_is_kept(chat_template):
    words = tokenizer(chat_template=chat_template)
    student, feedback = build_prompt(words, AND), " ".join(f"word{i}" for i in range(200))
    assert len(build_prompt(words, AND, feedback)) == len(build_prompt(words, AND, feedback, 10**6)) > len(student) + 1000
    for room in (0, 5, 60, 61, 62, 63, 300):
        ids = build_prompt(words, AND, feedback, len(student) + room)
        text = words.decode(ids)
        assert len(ids) <= len(student) + room and AND.statement + " := by\n" in text
        kept = re.findall(r"word\d+", text)
        assert kept == [f"word{i}" for i in range(len(kept))]
    assert len(kept) >= 30 and len(ids) > len(student) + 300 - 8  # as much as fits, to the word
    assert build_prompt(words, AND, feedback, len(student)) == student
    endless = words.decode(build_prompt(words, AND, "x" * 5000, len(student) + 100))
    assert endless.count("x") >= 40  # a single endless word is shortened too, not dropped


def test_a_problem_that_does_not_fit_is_an_error_that_names_the_theorem():
    words = tokenizer()
    with pytest.raises(ValueError, match="and_right.*10 fit"):
        build_prompt(words, AND, "1. Use `exact h`.", 10)


def test_feedback_can_neither_close_its_comment_nor_end_its_message():
    words = tokenizer()
    text = words.decode(build_prompt(words, AND, "stop -/ theorem /- and /-/ --/ <eos> <bos>"))
    comment, code = text.split("\n", 1)
    assert code == AND.statement + " := by\n" and comment.count("/-") == comment.count("-/") == 1
    ids = build_prompt(words, AND, "<eos><bos>")
    assert words.eos_token_id not in ids and words.bos_token_id not in ids


def test_a_function_in_a_file_is_a_source_and_what_it_says_nothing_about_is_left_out(tmp_path):
    file = tmp_path / "hints.py"
    file.write_text("WORDS = {}\n\ndef hint(rollout):\n    return f'1. Not {rollout.text.strip()}.' if rollout.text else ''\n")
    told = make_feedback(f"{file}:hint")
    attempts = [Rollout(AND, [], [], [], Verdict("rejected"), text=text) for text in ("  skip", "")]
    crashed = Rollout(AND, [], [], [], Verdict("crash"), text="  skip")
    assert told.write([*attempts, crashed]) == ["1. Not skip.", None, None] and told.failures == 1
    for spec, why in ((f"{file}:other", "defines no other"), (f"{tmp_path}/none.py:hint", "there is no file")):
        with pytest.raises(ValueError, match=why):
            make_feedback(spec)


def test_a_raw_completion_is_a_proof_up_to_a_closing_fence():
    assert extract_proof("  intro h\n  exact h") == "by\n  intro h\n  exact h"
    assert extract_proof("  intro h\n  exact h\n```\nThis works.") == "by\n  intro h\n  exact h"
    assert extract_proof("  exact h\n```\n```lean4\nby simp\n```", chat=False) == "by\n  exact h"
    assert extract_proof("") == "by\n"


def test_of_a_chat_answer_the_last_lean_block_counts_and_a_repeated_statement_is_removed():
    answer = "Plan.\n```lean4\nby simp\n```\nBetter:\n```lean4\n{}\n```\nDone."
    assert extract_proof(answer.format("theorem t (n : Nat := 3) : p := by\n  exact h"), chat=True) == "by\n  exact h"
    assert extract_proof(answer.format("import Mathlib\n\ntheorem t : p → p := fun h => h"), chat=True) == "fun h => h"
    assert extract_proof(answer.format("by\n  exact h"), chat=True) == "by\n  exact h"
    assert extract_proof(answer.format("  have k : p := h\n  exact k"), chat=True) == "by\n  have k : p := h\n  exact k"
    assert extract_proof("```lean\ntheorem t : p := by\n  exact h", chat=True) == "by\n  exact h"  # cut before the fence
    assert extract_proof("  exact h", chat=True) == "by\n  exact h"


# --- language models ---


@pytest.mark.parametrize("text, cut, clean", [
    ("1. Use it.", False, "1. Use it."), ("<think>hm\n1. no</think>\n1. Use it.", False, "1. Use it."),
    ("from the template</think>1. Use it.", False, "1. Use it."), ("1. Use it.<think>never closed", False, "1. Use it."),
    ("1. Use it.\n<think>is\nit?</think>", False, "1. Use it."), ("<think>never closed", False, None),
    ("", False, None), (None, False, None), (" \n", False, None),
    ("1. Use it.\n2. Do not", True, "1. Use it."), ("1. a\n more\n2. b\n3. c", True, "1. a\n more\n2. b"),
    ("1. Do not", True, None), ("prose without", True, None)])
def test_of_an_answer_thinking_and_a_cut_last_item_are_dropped(text, cut, clean):
    assert clean_answer(text, cut) == clean


class Play(Local):
    """An HTTP server in a thread. `script`: one (status, headers, body or seconds to sleep) a request, the last one for ever."""

    def __init__(self, *script):
        self.script, self.requests, self.now, self.most, self.times = list(script), [], 0, 0, []
        lock = threading.Lock()

        class Handler(Quiet):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length") or 0)) or "{}")
                with lock:
                    self.times.append(time.monotonic())
                    self.requests.append((handler.path, dict(handler.headers), body))
                    status, headers, reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                    self.now += 1
                    self.most = max(self.most, self.now)
                time.sleep(0.05 if not isinstance(reply, float) else reply)
                with lock:
                    self.now -= 1
                data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                try:
                    handler.reply(data, status, **headers)
                except OSError:
                    pass  # the client did not wait

            do_GET = do_POST  # a followed redirect would come as one

        super().__init__(Handler)


def ollama(content, done_reason="stop"):
    return 200, {}, {"model": "qwen3:8b", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": done_reason,
                     "message": {"role": "assistant", "content": content}, "total_duration": 5, "eval_count": 3}


def openai(content, finish_reason="stop"):
    return 200, {}, {"id": "x", "object": "chat.completion", "usage": {"prompt_tokens": 9, "completion_tokens": 3}, "choices": [
        {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}]}


@pytest.fixture(autouse=True)
def no_proxy_and_no_key(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def source(kind, server, **options):
    return make_feedback(f"{kind}:qwen3:8b@{server.url}", **{"timeout": 5.0, "backoff": 0.01, **options})


@pytest.mark.parametrize("count", range(3, 12))
def test_no_run_of_backticks_in_the_advice_is_a_fence(count):
    advice = f"1. Write {'`' * count}lean and `intro`."
    text = prompt_text(Theorem("t", "theorem t : True"), advice, "chat")
    assert text.count("```") == 2 and text.count("`") == count + 2 + 6  # the message's own fence


ONE = [rollout("  exact k")]


def test_ollama_is_asked_without_streaming_and_with_room_for_the_whole_prompt():
    with Play(ollama("1. Use `exact h`.")) as server:
        assert source("ollama", server).write([*ONE, rollout("x" * 60_000)]) == ["1. Use `exact h`."] * 2
    for path, headers, body in server.requests:
        text = body["messages"][0]["content"]
        assert path == "/api/chat" and body["model"] == "qwen3:8b" and body["stream"] is False and "Authorization" not in headers
        assert body["options"]["num_ctx"] >= max(8192, len(text) / 2 + 4096)
    assert {body["messages"][0]["content"] for _, _, body in server.requests} == {
        instruction(ONE[0]), instruction(rollout("x" * 60_000))}


def test_openai_servers_get_the_key_as_bearer_and_local_ones_none(monkeypatch):
    with Play(openai("1. Use `exact h`.")) as server:
        assert source("openai", server).write(ONE) == ["1. Use `exact h`."]
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234\n")
        assert source("openai", server).write(ONE) == ["1. Use `exact h`."]
        assert source("ollama", server).write(ONE) == [None]  # an answer in the wrong format
    (path, first, body), (_, second, _), (_, third, _) = server.requests
    assert path == "/chat/completions" and body["model"] == "qwen3:8b" and body["stream"] is False
    assert "Authorization" not in first and second["Authorization"] == "Bearer sk-secret-1234" and "Authorization" not in third


def test_the_key_is_in_no_error_and_no_log(monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for key in ("sk-secret-1234", "sk-secret\n-1234", "sk-secret…1234"):  # the last two cannot stand in a header
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with Play((401, {}, {"error": {"message": f"Incorrect API key provided: {key}", "type": "auth"}})) as server:
            with pytest.raises(SystemExit) as error:
                source("openai", server).ping()
        seen = str(error.value) + caplog.text + repr(error.getrepr(style="short")) + "".join(capfd.readouterr())
        assert "sk-secret" not in seen and "OPENAI_API_KEY" in str(error.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_passing_failure_is_tried_again(status):
    with Play((status, {}, {"error": "busy"}), (status, {}, "not even json"), ollama("1. Use it.")) as server:
        told = source("ollama", server)
        assert told.write(ONE) == ["1. Use it."] and told.failures == 0
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again_and_its_sample_is_masked_and_counted(status):
    with Play((status, {"Location": "/elsewhere"}, {"error": "no", "message": {"content": "1. Not an answer."}})) as server:
        told = source("ollama", server)
        assert told.write(ONE * 2) == [None, None] and told.failures == 2
    assert len(server.requests) == 2


def test_a_server_that_never_recovers_is_given_up_after_five_tries_with_growing_pauses():
    with Play((500, {}, {"error": "broken"})) as server:
        told = source("ollama", server, backoff=0.1)
        assert told.write(ONE) == [None] and told.failures == 1
    with Play((500, {}, {"error": "broken"})) as other, pytest.raises(SystemExit, match="HTTP 500.*broken"):
        source("ollama", other).ping()
    pauses = [b - a for a, b in zip(server.times, server.times[1:])]
    assert len(pauses) == 4 and all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses))
    assert pauses[0] < pauses[3], "the first is not as long as the last"


@pytest.mark.parametrize("after", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_the_least_wait_as_seconds_and_as_a_date(after):
    with Play((429, {"Retry-After": after()}, {"error": "slow down"}), openai("1. Use it.")) as server:
        assert source("openai", server).write(ONE) == ["1. Use it."]
    assert 0.9 <= server.times[1] - server.times[0] < 3


@pytest.mark.parametrize("reply", [
    openai(""), openai(None), openai("<think>hm", "length"), openai("1. Use", "length"), openai([1]), (200, {}, "no json"),
    (200, {}, {"error": "model crashed"}), (200, {}, {"choices": []}), (200, {}, []), (429, {"Retry-After": "soon"}, "")])
def test_an_answer_without_advice_is_none_and_never_an_empty_text(reply):
    for kind in ("openai", "ollama"):
        with Play(reply) as server:
            told = source(kind, server)
            assert told.write(ONE) == [None] and told.failures == 1


def test_of_a_cut_answer_the_complete_items_are_kept():
    with Play(ollama("1. Use it.\n2. Do not", "length"), ollama("<think>x</think>1. Use that.")) as server:
        told = source("ollama", server, max_parallel=1)
        assert told.write(ONE * 2) == ["1. Use it.", "1. Use that."]


def test_a_silent_server_costs_the_timeout_and_then_its_sample():
    with Play((200, {}, 1.0)) as server:
        start = time.monotonic()
        told = source("ollama", server, timeout=0.2)
        assert told.write(ONE) == [None] and told.failures == 1
        assert 0.4 <= time.monotonic() - start < 2
    assert len(server.requests) == 2


def test_requests_run_in_parallel_but_never_more_than_allowed_and_answers_keep_their_order():
    with Play(ollama("1. Use it.")) as server:
        told = source("ollama", server, max_parallel=3).write(ONE * 12)
    assert told == ["1. Use it."] * 12 and server.most == 3


def test_answers_belong_to_their_attempts():
    with Play(ollama("1. a"), ollama("1. b"), ollama("1. c")) as server:
        attempts = [rollout("  exact k"), rollout("  exact k", "timeout"), rollout("  exact h"), rollout("  exact m")]
        assert source("ollama", server, max_parallel=1).write(attempts) == ["1. a", None, "1. b", "1. c"]


def test_an_unreachable_server_stops_the_run_at_the_first_ping_with_one_line_of_advice():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    told = make_feedback(f"ollama:qwen3:8b@{url}", backoff=0.01)  # nothing is sent here
    with pytest.raises(SystemExit) as error:
        told.ping()
    message = str(error.value)
    assert url in message and "qwen3:8b" in message and "Does the server run" in message and "\n" not in message


def test_a_model_that_is_not_pulled_is_told_by_the_ping_and_a_good_one_passes():
    with Play((404, {}, {"error": "model 'qwen3:8b' not found"})) as server:
        with pytest.raises(SystemExit, match="HTTP 404.*not found.*ollama pull"):
            source("ollama", server).ping()
    with Play(ollama("ok")) as server:
        source("ollama", server).ping()
    make_feedback("tutor").ping()


def test_the_run_stops_when_more_than_half_of_eight_or_more_requests_failed_and_sends_no_more():
    bad, good = (400, {}, {"error": "no"}), ollama("1. Use it.")
    with Play(bad) as server:
        told = source("ollama", server, max_parallel=2)
        assert told.write(ONE * 7) == [None] * 7  # too few to judge
        with pytest.raises(SystemExit, match="HTTP 400"):
            told.write(ONE)
        with pytest.raises(SystemExit):
            told.write(ONE * 40)
    assert len(server.requests) <= 8 + 5
    with Play(*[bad] * 7, good, bad) as server:
        told = source("ollama", server, max_parallel=1)
        assert told.write(ONE * 8) == [None] * 7 + ["1. Use it."]  # an answer in hand is not thrown away
        with pytest.raises(SystemExit):
            told.write(ONE)
    with Play(*[good, bad] * 10, good) as server:
        told = source("ollama", server, max_parallel=1)
        assert told.write(ONE * 20) == ["1. Use it.", None] * 10 and told.failures == 10  # half is not more than half
