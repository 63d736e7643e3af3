"""Answers of chat provers, of every shape that was met, and what Lean says about them."""
import pytest

from lean.answers import extract_proof, read_answer, without_thinking
from lean_env import LeanEnv, Rollout, Theorem

AND = Theorem("a_b", "theorem a_b (p q : Prop) (hp : p) (hq : q) : p ∧ q")
LET = Theorem("l", "theorem l (n : Nat) : let m := n; have k : m = n := rfl; m + 0 = n")
ADD = Theorem("s.add", "theorem s.add (n : Nat) : succ n = n + 1", "open Nat\n")
PROOF = " := by\n  constructor\n  · exact hp\n  · exact hq"
WHOLE = AND.statement + PROOF
WRONG = AND.statement + " := by\n  exact hp"


def fenced(code, info="lean4", fence="```"):
    return f"Here it is.\n\n{fence}{info}\n{code}\n{fence}\nDone."


def indented(code, margin):
    return "\n".join(margin + line for line in code.split("\n"))


HELPER = "theorem swap_them (a b : Prop) (h : a ∧ b) : b ∧ a := ⟨h.2, h.1⟩"
BY_HELPER = f"{HELPER}\n\n{AND.statement} := swap_them q p ⟨hq, hp⟩"
# (what it is, the theorem, the answer, what it is worth)
ANSWERS = [
    ("the theorem", AND, fenced(WHOLE), "proved"),
    ("wrong", AND, fenced(WRONG), "rejected"),
    *[(f"info {info!r}", AND, fenced(WHOLE, info), "proved")
      for info in ("lean", "Lean", "LEAN4", "lean 4", 'lean4 title="x.lean"', "", "  lean4  ")],
    ("tildes", AND, fenced(WHOLE, "lean", "~~~"), "proved"),
    ("four backticks", AND, fenced(WHOLE, "lean", "````"), "proved"),
    ("line ends of Windows", AND, fenced(WHOLE).replace("\n", "\r\n"), "proved"),
    ("in a list", AND, f"1. Proof:\n   ```lean4\n{indented(WHOLE, '   ')}\n   ```\n2. Done.", "proved"),
    ("in a bullet", AND, f"- ```lean4\n{indented(WHOLE, '  ')}\n  ```", "proved"),
    ("in a quotation", AND, f"> ```lean4\n{indented(WHOLE, '> ')}\n> ```", "proved"),
    ("cut before its fence", AND, fenced(WHOLE).partition("\n```\nDone")[0], "proved"),
    ("a fence behind the last line", AND, fenced(WHOLE).replace("\n```\nDone", "```\nDone"), "proved"),
    ("a tagged attribute", AND, fenced("@[simp]\n" + WHOLE), "proved"),
    ("private", AND, fenced("private " + WHOLE), "proved"),
    ("a docstring", AND, fenced("/-- Both := hold, sorry. -/\n" + WHOLE), "proved"),
    ("a docstring, attributes and a modifier", AND, fenced("/-- x -/\n@[simp, reducible] protected " + WHOLE), "proved"),
    ("a comment that begins like a theorem", AND, fenced("-- theorem a_b := sorry\n/-\ntheorem a_b : False := h\n-/\n" + WHOLE), "proved"),
    ("open in", AND, fenced("open Nat in\n" + WHOLE), "proved"),
    ("open in, needed", AND, fenced(f"open And in\n{AND.statement} := intro hp hq"), "proved"),
    ("set_option in", AND, fenced("set_option maxRecDepth 1000 in\n" + WHOLE), "proved"),
    ("imports and opens", AND, fenced("import Mathlib\nimport Aesop\n\nset_option maxRecDepth 1000\nopen Nat\n\n" + WHOLE), "proved"),
    ("a helper lemma", AND, fenced(BY_HELPER), "proved"),
    ("a private helper", AND, fenced("private " + BY_HELPER), "proved"),
    ("a wrong helper", AND, fenced(BY_HELPER.replace("⟨h.2, h.1⟩", "h")), "rejected"),
    ("a helper with sorry", AND, fenced(BY_HELPER.replace("⟨h.2, h.1⟩", "sorry")), "cheat"),
    ("a definition before it", AND, fenced(f"def two := 2\n{AND.statement} :=\n  (fun _ : two = 2 => ⟨hp, hq⟩) rfl"), "proved"),
    ("a namespace for helpers", AND, fenced(f"namespace X\n{HELPER}\nend X\nopen X\n{AND.statement} := swap_them q p ⟨hq, hp⟩"), "proved"),
    ("a section with variables", AND, fenced(f"section\nvariable (a b : Prop)\ntheorem o (h : a) : a := h\nend\n{AND.statement} := ⟨o p hp, hq⟩"),
     "proved"),
    ("an example after it", AND, fenced(WHOLE + "\n\nexample : True := trivial"), "proved"),
    ("commands after it", AND, fenced(WHOLE + "\n\n#check a_b\n#print axioms a_b"), "proved"),
    ("another theorem after it", AND, fenced(WHOLE + "\n\ntheorem unrelated : True := trivial"), "proved"),
    ("text after a module comment", AND, fenced(WHOLE + "\n/-! That was it. -/"), "proved"),
    ("a comment after it", AND, fenced(WHOLE + "  -- done, no sorry\n-- the end"), "proved"),
    ("the axioms in a last block", AND, fenced(WHOLE) + "\n" + fenced("#print axioms a_b"), "proved"),
    ("a snippet in a last block", AND, fenced(WHOLE) + "\nThe key step was\n" + fenced("constructor"), "proved"),
    ("a lemma in a last block", AND, fenced(WHOLE) + "\nOr generally\n" + fenced("theorem other (p : Prop) : p := by\n  sorry"), "proved"),
    ("output in a last block", AND, fenced(WHOLE) + "\nLean says\n" + fenced("no goals", ""), "proved"),
    ("another language first", AND, fenced("theorem = 1 := 2", "python") + "\n" + fenced(WHOLE), "proved"),
    ("a first try, then better", AND, fenced(WRONG) + "\nNo:\n" + fenced(WHOLE), "proved"),
    ("better, then worse", AND, fenced(WHOLE) + "\nNo:\n" + fenced(WRONG), "rejected"),
    ("renamed", AND, fenced(WHOLE.replace("a_b", "my_theorem")), "proved"),
    ("an example in its place", AND, fenced(WHOLE.replace("theorem a_b", "example")), "proved"),
    ("lemma for theorem", AND, fenced(WHOLE.replace("theorem", "lemma")), "proved"),
    ("a proof alone", AND, fenced("by\n  exact ⟨hp, hq⟩"), "proved"),
    ("tactics alone", AND, fenced("constructor\n· exact hp\n· exact hq"), "proved"),
    ("indented tactics", AND, fenced("  constructor\n  · exact hp\n  · exact hq"), "proved"),
    ("a term alone", AND, fenced("⟨hp, hq⟩"), "proved"),
    ("a term with its sign", AND, fenced(":= by\n  exact ⟨hp, hq⟩"), "proved"),
    ("no block, the theorem", AND, WHOLE, "proved"),
    ("no block, words before", AND, "I split the goal.\n\n" + WHOLE, "proved"),
    ("no block, a proof", AND, "by\n  exact ⟨hp, hq⟩", "proved"),
    ("no block, tactics", AND, "  exact ⟨hp, hq⟩", "proved"),
    ("let and have in the statement", LET, fenced(f"{LET.statement} := by\n  intro m k\n  exact rfl"), "proved"),
    ("let in the statement, a term", LET, fenced(f"{LET.statement} :=\n  rfl"), "proved"),
    ("let in the statement, wrong", LET, fenced(f"{LET.statement} := by\n  exact n"), "rejected"),
    ("an argument with a default", Theorem("d", "theorem d (n : Nat := 3) : n = n"), fenced("theorem d (n : Nat := 3) : n = n := rfl"), "proved"),
    ("equations", Theorem("e", "theorem e : ∀ n : Nat, n = n"), fenced("theorem e : ∀ n : Nat, n = n\n  | 0 => rfl\n  | _ + 1 => rfl"), "proved"),
    ("a clause at its end", Theorem("w", "theorem w (n : Nat) : n = n"), fenced("theorem w (n : Nat) : n = n := help\nwhere\n  help : n = n := rfl"),
     "proved"),
    ("its header again", ADD, fenced("import Mathlib\nopen Nat\n\ntheorem s.add (n : Nat) : succ n = n + 1 := by\n  exact rfl"), "proved"),
    ("its header left out", ADD, fenced("theorem s.add (n : Nat) : succ n = n + 1 := rfl"), "proved"),
    ("its header and a lemma", ADD, fenced("open Nat\ntheorem x (n : Nat) : succ n = n + 1 := rfl\ntheorem s.add (n : Nat) : succ n = n + 1 := x n"),
     "proved"),
    ("another statement beside a lemma", AND, fenced(f"{HELPER}\ntheorem a_b : True := trivial"), "rejected"),
    ("an axiom beside it", AND, fenced(f"axiom bad : False\n{AND.statement} := bad.elim"), "cheat"),
    ("sorry", AND, fenced(f"{AND.statement} := by\n  sorry"), "cheat"),
    ("nothing", AND, "", "rejected"),
    ("prose", AND, "We import the idea, then stop: by an axiom of Lean it is unsafe to say more.", "rejected"),
    ("prose that begins like code", AND, "by the axiom of choice, and\nimport of the lemma, sorry", "rejected"),
    ("prose about a theorem", AND, "This theorem says p := q. The\ntheorem is open, macro and axiom.", "rejected"),
    ("prose in a block", AND, fenced("we import the idea, then stop", ""), "rejected"),
    ("an open bracket", AND, fenced(f"{AND.statement} := by\n  exact (⟨hp, hq⟩"), "rejected"),
    ("an open comment", AND, fenced(f"{AND.statement} := by\n  exact ⟨hp, hq⟩ /- and"), "rejected"),
]
THOUGHTS = ["<think>\nX\n</think>", "[THINK]X[/THINK]", "<thought>X</thought>", "<reasoning>\nX</reasoning>", "<thinking>X</thinking>",
            "X</think>", "<think>a</think> b\nX</think>", "◁think▷X◁/think▷", "<|begin_of_thought|>X<|end_of_thought|>",
            "<|channel|>analysis<|message|>X<|end|><|start|>assistant<|channel|>final<|message|>", "analysisX assistantfinal"]


@pytest.fixture(scope="module")
def env():
    return LeanEnv(lean="wheel", timeout=20)


@pytest.fixture(scope="module")
def judged(env):
    jobs = [(theorem, answer) for _, theorem, answer, _ in ANSWERS]
    return dict(zip((what for what, *_ in ANSWERS), env.check_answers(jobs, chat=True)))


@pytest.mark.parametrize("what, theorem, answer, status", ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_answer_is_judged_as_what_it_is(judged, what, theorem, answer, status):
    assert judged[what].status == status, (judged[what], read_answer(answer, True, theorem.statement))


@pytest.mark.parametrize("thought", THOUGHTS)
def test_what_was_thought_is_not_answered(env, thought):
    wrong, right = thought.replace("X", fenced(WRONG)), thought.replace("X", fenced(WHOLE))
    answers = [f"{wrong}\n\n{fenced(WHOLE)}", f"{right}\n\nI give up.", f"{right}\n\n{fenced(WRONG)}"]
    verdicts = env.check_answers([(AND, answer) for answer in answers], chat=True)
    assert [verdict.status for verdict in verdicts] == ["proved", "rejected", "rejected"]


def test_a_thought_that_never_ends_hides_what_follows():
    for opening in ("<think>", "[THINK]", "<thought>", "<|channel|>analysis<|message|>"):
        assert without_thinking(f"before {opening} x {fenced(WHOLE)}") == "before "
    assert without_thinking("a < think > b, [think], </thinker> c") == "a < think > b, [think], </thinker> c"


def test_prose_says_in_words_that_it_holds_no_proof(judged):
    for what in ("prose", "nothing", "prose in a block"):
        assert [message["data"] for message in judged[what].messages] == ["there is no Lean proof in this answer"]


def test_the_style_is_told_and_never_guessed(env):
    # what a raw prover writes goes on from `:= by`, whatever it looks like
    assert extract_proof(fenced("by simp"), chat=False) == "by\nHere it is."
    assert extract_proof("exact h", chat=False) == "by\nexact h" and extract_proof("exact h", chat=True) == ""
    tactics = "  constructor\n  · exact hp\n  · exact hq\n```\nAnd now\n```lean4\nby sorry\n```"
    assert [v.status for v in env.check_answers([(AND, tactics)], chat=False)] == ["proved"]
    rollout = Rollout(AND, [], [], [], text=fenced(BY_HELPER), chat=True)
    assert rollout.proof == BY_HELPER
    rollout.chat = False
    assert rollout.proof == "by\nHere it is."


def test_messages_about_a_file_stand_at_its_own_lines(env):
    wrong = f"private {HELPER}\n\n{AND.statement} := by\n  exact swap_them p q hp"
    (verdict,) = env.check_answers([(AND, f"Look.\n\n{fenced(wrong)}")], chat=True)
    assert verdict.status == "rejected" and (verdict.messages[0]["line"], verdict.messages[0]["column"]) == (4, 22)


def test_a_megabyte_of_anything_is_read_without_a_pause_of_minutes():
    for text in ("\n" * 10**6, "<think>" * 10**5, "</think>" * 10**5, "```\n" * 10**5, "```lean\ntheorem\n" * 10**5,
                 "theorem t :=\n" * 10**5, "~~~\n" * 10**5, "> " * 10**5, " " * 10**6, "<|channel|>final" * 10**5):
        for chat in (True, False):
            assert len(read_answer(text, chat, AND.statement).text) <= len(text) + 3 * 10**5
