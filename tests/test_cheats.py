"""Ways to be called a proof without being one, by the numbers of the list that other people's verifiers gave us, and
honest files that look like them. The counts stand in the README."""
import re
import secrets
from pathlib import Path

import pytest

from lean import guard
from lean.embedded import CORE, expand_native
from lean.process import run
from lean.text import tokens
from lean_env import LeanEnv, Theorem

FALSE = "theorem t : False"
STEP = "theorem t (p q : Prop) (hp : p) (h : p → q) : q"
FILE_OF = "theorem t : False := "

# (number, name, statement, whole file, the same as a proof term or None). Numbers 14 (runaway), 18 (no evidence), 19
# (false statements), 20 (tactic mode) have no row: see the end of this file and tests/test_lean_env.py.
CHEATS = [
    (1, "sorry", FALSE, FILE_OF + "sorry", "sorry"),
    (1, "by sorry", FALSE, FILE_OF + "by\n  sorry", "by\n  sorry"),
    (1, "admit", FALSE, FILE_OF + "by admit", "by admit"),
    (1, "stop", FALSE, FILE_OF + "by\n  stop\n  trivial", "by\n  stop\n  trivial"),
    (1, "sorry in a helper", FALSE, "theorem help : False := by sorry\n" + FILE_OF + "help", None),
    (1, "sorry as a last resort", FALSE, FILE_OF + "by first | done | sorry", "by first | done | sorry"),
    (1, "sorry in a definition that the proof uses", FALSE, "def c : False := sorry\n" + FILE_OF + "c", None),
    (2, "exact? where there is nothing", FALSE, FILE_OF + "by exact?", "by exact?"),
    (2, "apply? where there is nothing", FALSE, FILE_OF + "by apply?", "by apply?"),
    (3, "a macro for a term", FALSE, "macro \"easy\" : term => `(sorryAx _)\n" + FILE_OF + "easy", None),
    (3, "a macro for a tactic", FALSE, "macro \"easy\" : tactic => `(tactic| trivial)\n" + FILE_OF + "by easy", None),
    (3, "elab", FALSE, "elab \"easy\" : tactic => pure ()\n" + FILE_OF + "by easy", None),
    (3, "sorryAx", FALSE, FILE_OF + "sorryAx False", "sorryAx False"),
    (3, "sorryAx in a quoted name", FALSE, FILE_OF + "«sorryAx» False false", "«sorryAx» False false"),
    (3, "sorryAx by its full name", FALSE, FILE_OF + "_root_.sorryAx _ true", "_root_.sorryAx _ true"),
    (3, "notation for sorryAx", FALSE, "local notation \"easy\" => sorryAx\n" + FILE_OF + "easy _ false", None),
    (4, "a new #print axioms", FALSE, "elab \"#print\" \"axioms\" i:ident : command => pure ()\n" + FILE_OF + "sorry",
     None),
    (4, "syntax on top of theorem", FALSE, "syntax \"theorem\" ident : command\n" + FILE_OF + "trivial", None),
    (4, "macro_rules for our probe", STEP, "macro_rules | `(type_of% $x) => `(True)\ntheorem t : True := trivial",
     None),
    (4, "an elaborator by attribute", FALSE, "@[command_elab printAxioms] def f := 1\n" + FILE_OF + "f", None),
    (4, "an elaborator by a later attribute", FALSE,
     "def f := 1\nattribute [simp, local term_elab x] f\n" + FILE_OF + "f",
     None),
    (4, "a printer by attribute", FALSE, "@[simp, «app_unexpander» t] def f := 1\n" + FILE_OF + "f", None),
    (5, "a false answer in a message", FALSE, "#check \"'probe' does not depend on any axioms\"", None),
    (5, "a false answer from code", FALSE, "#eval IO.println \"'t' does not depend on any axioms\"", None),
    (5, "the answer for another theorem", FALSE, "theorem probe : True := trivial\n#print axioms probe", None),
    (6, "axiom", FALSE, "axiom bad : False\n" + FILE_OF + "bad", "bad\naxiom bad : False"),
    (6, "opaque", FALSE, "opaque bad : False\n" + FILE_OF + "bad", None),
    (6, "constant", FALSE, "constant bad : False\n" + FILE_OF + "bad", None),
    (6, "an axiom with a good name", FALSE, "axiom A.propext : False\n" + FILE_OF + "A.propext", None),
    (6, "a hypothesis that stays", FALSE, "variable (bad : False)\ninclude bad\n" + FILE_OF + "bad", None),
    (7, "native_decide", FALSE, FILE_OF + "by native_decide", "by native_decide"),
    (7, "decide +native", FALSE, FILE_OF + "by decide +native", "by decide +native"),
    (7, "bv_decide", FALSE, FILE_OF + "by bv_decide", "by bv_decide"),
    (7, "implemented_by", FALSE, "def f := true\n@[implemented_by f] def g := false\n" + FILE_OF + "nofun", None),
    (7, "extern", FALSE, "@[extern \"lean_true\"] def g := false\n" + FILE_OF + "nofun", None),
    (7, "csimp", FALSE, "@[csimp] theorem x : 1 = 1 := rfl\n" + FILE_OF + "nofun", None),
    (7, "ofReduceBool", FALSE, FILE_OF + "Lean.ofReduceBool _ _ rfl", "Lean.ofReduceBool _ _ rfl"),
    (7, "a reduceBool of one's own", FALSE, "namespace Lean\ndef reduceBool (b : Bool) := b\nend Lean\n"
     + FILE_OF + "nofun", None),
    (7, "the same, name in quotes", FALSE, "def «Lean».«reduceBool» (b : Bool) := b\n" + FILE_OF + "nofun", None),
    (8, "True", STEP, "theorem t : True := trivial", None),
    (8, "a weaker goal", STEP, "theorem t (p q : Prop) (hp : p) (h : p → q) : p := hp", None),
    (8, "one more hypothesis", STEP, "theorem t (p q : Prop) (hp : p) (h : p → q) (b : q) : q := b", None),
    (8, "a contradictory hypothesis", STEP, "theorem t (p q : Prop) (hp : p) (h : ¬p) : q := absurd hp h", None),
    (8, "another number", "theorem t : 2 + 2 = 5", "theorem t : 2 + 2 = 4 := rfl", "(rfl : 2 + 2 = 4)"),
    (8, "another type", "theorem t {α : Sort u} (a b : α) (h : a = b) : b = a",
     "theorem t {α : Type} (a b : α) (h : a = b) : b = a := h.symm", None),
    (8, "an implicit hypothesis", FALSE, "theorem t {h : False} : False := h", None),
    (8, "a hypothesis as an instance", FALSE, "class Bad : Prop where\n  out : False\n"
     "theorem t [b : Bad] : False := b.out", None),
    (9, "in a namespace", STEP, "namespace A\n" + STEP + " := h hp\nend A", None),
    (9, "in an open namespace", STEP, "namespace A\n" + STEP + " := h hp", None),
    (9, "a name beside it", STEP, STEP.replace(" t ", " t' ") + " := h hp", None),
    (9, "nothing", STEP, "theorem other : True := trivial", None),
    (9, "only in a comment", STEP, f"-- {STEP} := h hp\n/- {STEP} := h hp -/", None),
    (9, "only in a string", STEP, f"#check \"{STEP} := h hp\"", None),
    (9, "an example", STEP, STEP.replace("theorem t", "example") + " := h hp", None),
    (9, "a definition of that name", STEP, "def t := 1", None),
    (10, "an open comment at the end", FALSE, "theorem t : True := trivial /-", "trivial /-"),
    (10, "an open comment at the beginning", STEP, f"/-\n{STEP} := h hp", None),
    (10, "a comment closed twice", FALSE, "/- -/ -/ " + FILE_OF + "trivial", "trivial -/"),
    (10, "#exit", FALSE, "theorem t : True := trivial\n#exit", "trivial\n#exit"),
    (10, "end of our section", FALSE, "theorem t : True := trivial\nend", "trivial\nend"),
    (10, "in for what comes next", FALSE, "theorem t : True := trivial\nvariable (b : False) in", None),
    (10, "open for what comes next", FALSE, "theorem t : True := trivial\nopen Nat in", None),
    (10, "an attribute for what comes next", FALSE, "theorem t : True := trivial\n@[simp]", None),
    (10, "a string left open", FALSE, "theorem t : True := trivial\n#check \"", "trivial \""),
    (10, "a name left open", FALSE, "theorem t : True := trivial\nnamespace «A", "trivial «"),
    (10, "an open bracket", FALSE, "theorem t : True := (trivial", "trivial)"),
    (10, "an open mutual", FALSE, "mutual\ntheorem t : True := trivial", None),
    (10, "an unfinished theorem", FALSE, "theorem t : True := trivial\ntheorem", None),
    (11, "an instance before the statement", "theorem t : 2 + 2 = 2 * 3", "instance : Add Nat := ⟨fun _ _ => 6⟩\n"
     "theorem t : 2 + 2 = 2 * 3 := rfl", None),
    (11, "a local instance", "theorem t : 2 + 2 = 2 * 3",
     "local instance (priority := 9999) : Add Nat := ⟨fun _ _ => 6⟩\n"
     "theorem t : 2 + 2 = 2 * 3 := rfl", None),
    (11, "an instance taken away", "theorem t : 2 + 2 = 5", "attribute [-instance] instAddNat\n"
     "instance i : Add Nat := ⟨fun _ _ => 5⟩\ntheorem t : 2 + 2 = 5 := rfl", None),
    (11, "another order", "theorem t : 3 ≤ 2", "instance : LE Nat := ⟨fun _ _ => True⟩\ntheorem t : 3 ≤ 2 := trivial",
     None),
    (11, "a coercion that nobody has", FALSE, "theorem t : True := trivial\nvariable [CoeT True t False]", None),
    (11, "an order that nobody has", FALSE, "theorem t : True := trivial\nnamespace A\nvariable [CoeT True t False]",
     None),
    (11, "notation", STEP, "notation:max \"q\" => True\ntheorem t : q := trivial", None),
    (11, "infix", "theorem t : 1 + 1 = 3", "infixl:65 \" + \" => fun _ _ => 3\ntheorem t : 1 + 1 = 3 := rfl", None),
    (11, "macro_rules for the statement", FALSE, "macro_rules | `(False) => `(True)\n" + FILE_OF + "trivial", None),
    (11, "a second False", FALSE, "namespace A\ndef False := True\nend A\nopen A\n" + FILE_OF + "trivial", None),
    (11, "a second False inside", FALSE, "namespace A\ndef False := True\ntheorem _root_.t : False := trivial\nend A",
     None),
    (11, "False again", FALSE, "def False := True\n" + FILE_OF + "trivial", None),
    (11, "a variable named False", FALSE, "theorem t (False : Prop) (h : False) : False := h", None),
    (11, "a namespace that shadows", "theorem Nat.t (n : Nat) : succ n = n",
     "def Nat.A.succ (n : Nat) := n\nopen Nat.A in\ntheorem Nat.t (n : Nat) : A.succ n = n := rfl", None),
    (12, "skipKernelTC", FALSE, "set_option debug.skipKernelTC true\n" + FILE_OF + "nofun",
     "by\n  set_option debug.skipKernelTC true in\n  trivial"),
    (12, "skipKernelTC in quotes", FALSE, "set_option «debug».«skipKernelTC» true\n" + FILE_OF + "nofun",
     "by\n  set_option «debug».«skipKernelTC» true in\n  trivial"),
    (12, "addDecl", FALSE, "open Lean in\ndef f := addDecl\n" + FILE_OF + "nofun", None),
    (12, "propext again", FALSE, "axiom propext : False\n" + FILE_OF + "propext", None),
    (12, "proofs not elaborated", FALSE, "set_option debug.byAsSorry true\n" + FILE_OF + "by trivial", None),
    (13, "warn.sorry", FALSE, "set_option warn.sorry false\n" + FILE_OF + "sorry",
     "by\n  set_option warn.sorry false in\n  exact sorry"),
    (13, "maxErrors", FALSE, "set_option maxErrors 1\n" + FILE_OF + "trivial", None),
    *((15, f"Nat.{name} again: the kernel computes it by name", FALSE,
       f"def Nat.{name} ({'n' if args == '4' else 'n m'} : Nat) : Nat := {wrong}\n"
       f"theorem all ({'n' if args == '4' else 'n m'} : Nat) : Nat.{name} {'n' if args == '4' else 'n m'} = {wrong} "
       f":= rfl\n"
       f"theorem one : Nat.{name} {args} = {right} := rfl\n"
       f"theorem t : False := nomatch ((all {args}).symm.trans one : ({wrong} : Nat) = {right})", None)
      for name, args, right, wrong in [
          ("gcd", "4 2", 2, 0), ("div", "4 2", 2, 0), ("mod", "4 2", 0, 1), ("pow", "4 2", 16, 0), ("log2", "4", 2, 0),
          ("land", "4 2", 0, 1), ("lor", "4 2", 6, 0), ("xor", "4 2", 6, 0), ("shiftLeft", "4 2", 16, 0),
          ("shiftRight", "4 2", 1, 0), ("sub", "4 2", 2, 0), ("add", "4 2", 6, 0), ("mul", "4 2", 8, 0)]),
    (15, "a library of one's own", FALSE, "prelude\ninductive False : Prop where | intro\n" + FILE_OF + "False.intro",
     None),
    (15, "another library", FALSE, "import Evil\n" + FILE_OF + "Evil.proof", None),
    (15, "an import in the middle", FALSE, "theorem a : True := trivial; import Evil\n" + FILE_OF + "Evil.proof", None),
    (15, "unsafeCast", FALSE, FILE_OF + "unsafeCast True.intro", "unsafeCast True.intro"),
    (15, "lcProof", FALSE, FILE_OF + "lcProof", "lcProof"),
    (16, "#eval", FALSE, "#eval 1\n" + FILE_OF + "nofun", None),
    (16, "run_cmd", FALSE, "run_cmd pure ()\n" + FILE_OF + "nofun", None),
    (16, "initialize", FALSE, "initialize pure ()\n" + FILE_OF + "nofun", None),
    (16, "by_elab", FALSE, FILE_OF + "by_elab pure x", "by_elab pure x"),
    (16, "run_tac", FALSE, FILE_OF + "by run_tac pure ()", "by run_tac pure ()"),
    (16, "simproc", FALSE, "simproc f (1) := fun _ => x\n" + FILE_OF + "nofun", None),
    (16, "files", FALSE, "def f := IO.FS.writeFile\n" + FILE_OF + "nofun", None),
    (16, "files, opened", FALSE, "open IO.FS\n" + FILE_OF + "nofun", None),
    (16, "a file in the text", FALSE, FILE_OF + "include_str \"/etc/passwd\"", "include_str \"/etc/passwd\""),
    (16, "code in a string", FALSE, FILE_OF + "f s!\"{by_elab x}\"", "f s!\"{by_elab x}\""),
    (16, "code after a quote in quotes", FALSE, FILE_OF + "f s!\"{'\"'}\"; run_cmd x --\"",
     "f s!\"{'\"'}\"; by_elab x --\""),
    (17, "unsafe", FALSE, "unsafe def bad : False := bad\n" + FILE_OF + "bad", None),
    (17, "partial", FALSE, "partial def bad (n : Nat) : False := bad n\n" + FILE_OF + "bad 0", None),
    (17, "itself", FALSE, FILE_OF + "t", "t"),
    (17, "itself by decreasing_by", FALSE, "theorem x (n : Nat) : False := x (n + 1)\ntermination_by n\n"
     "decreasing_by trivial\n" + FILE_OF + "x 0", None),
    (18, "an empty file", FALSE, "", ""),
    (18, "white space", FALSE, " \n\t\n", " \n"),
    (18, "an error, then peace", FALSE, FILE_OF + "by\n  trivial\ntheorem a : True := trivial", None),
    (18, "an error elsewhere", STEP, STEP + " := h hp\ntheorem a : False := trivial", None),
]

# A keyword of a full Lean (Mathlib's tokens included) where a careless reader sees none: refused by word.
HIDDEN = ["def a := Aᵀnotation", "def a := 0x1notation", "def a := h.1notation", "def a := x⁻¹axiom",
          "def a := 1e5axiom",
          "def a := x <--axiom", "def A := {x // x = 0 ∧ p x}\ndef B := {x //-x = 0}\naxiom bad : False\n-- -/",
          "def a := p \\/-x = 0\naxiom bad : False -- -/", "def a := λsorry", "def a := f '' s ∪ x'\naxiom bad : False",
          "/- -/axiom", "def a := \"\\\"\"axiom", "def a := r\"\\\"axiom", "def a := 'x'axiom", "def a := «x»axiom",
          "/-- doc -/axiom", "def a := ℝ≥0axiom", "@[simp, macro_inline, csimp] def a := 1", "attribute [norm_num x] f",
          "@[simp, init f] def a := 1", "@[to_additive (attr := command_elab x)] def a := 1", "set_option trace.x true",
          "set_option weak.debug.skipKernelTC true", "open Lean Elab", "def a := Lean.Elab.Command.elabCommand"]

TRUE = "theorem t (p : Prop) (hp : p) : p"
# Honest files; `STEP` where no other statement is given.
HONEST = [
    ("its own imports", STEP, f"import Mathlib\nimport Aesop\n\n{STEP} := h hp"),
    ("the usual head", STEP, f"import Mathlib\nset_option maxHeartbeats 400000\nopen Nat Classical\n\n{STEP} := h hp"),
    ("a helper lemma", STEP, f"theorem help (a b : Prop) (x : a) (f : a → b) : b := f x\n{STEP} := help p q hp h"),
    ("a helper after it", STEP, f"{STEP} := h hp\ntheorem more (a : Prop) (x : a) : a := x"),
    ("a definition in the proof", STEP,
     f"def apply' {{a b : Prop}} (f : a → b) (x : a) : b := f x\n{STEP} := apply' h hp"),
    ("an abbreviation", TRUE, "abbrev P := Prop\ntheorem t (p : P) (hp : p) : p := hp"),
    ("a structure", STEP,
     f"structure Two (a b : Prop) where\n  f : a → b\n  x : a\n{STEP} :=\n  let two : Two p q := ⟨h, hp⟩\n"
     "  two.f two.x"),
    ("an inductive type", STEP,
     f"inductive Colour where | red | green\ndef f : Colour → Nat | .red => 1 | .green => 2\n"
     f"theorem two : f .green = 2 := rfl\n{STEP} := h hp"),
    ("a class and an instance", STEP, f"class C (α : Type) where\n  c : α\ninstance : C Nat := ⟨3⟩\n{STEP} := h hp"),
    ("mentions of cheats", TRUE, f"-- sorry, axiom, native_decide\n/- macro /- nested -/ #eval -/\n{TRUE} := by\n"
     "  exact (fun (_ : \"sorry axiom\" = \"sorry axiom\") => hp) rfl -- admit"),
    ("names that begin like cheats", "theorem t (sorry_not axiom' : Prop) (macroₐ : axiom') : axiom'",
     "theorem t (sorry_not axiom' : Prop) (macroₐ : axiom') : axiom' := by\n  have prefix_sum := macroₐ\n"
     "  exact prefix_sum"),
    ("a local open", "theorem t (n : Nat) : n < n + 1",
     "open Nat in\ntheorem t (n : Nat) : n < n + 1 := lt_succ_self n"),
    ("an open for all", "theorem t (n : Nat) : n < n + 1",
     "open Nat\ntheorem t (n : Nat) : n < n + 1 := lt_succ_self n"),
    ("an option for one theorem", STEP, f"set_option maxRecDepth 2000 in\n{STEP} := h hp"),
    ("options for the file", STEP, f"set_option pp.all true\nset_option autoImplicit false\n{STEP} := by\n"
     "  set_option maxHeartbeats 1000 in\n  exact h hp"),
    ("classical logic", "theorem t (p : Prop) : p ∨ ¬p", "theorem t (p : Prop) : p ∨ ¬p := by\n  by_cases h : p\n"
     "  · exact .inl h\n  · exact .inr h"),
    ("a namespace", STEP, f"namespace A\ntheorem help : True := trivial\nend A\nopen A\n{STEP} := have := help; h hp"),
    ("inside a namespace, by its full name", STEP,
     f"namespace A.B\n{STEP.replace(' t ', ' _root_.t ')} := h hp\nend A.B"),
    ("scopes left open", STEP, "noncomputable section\nnamespace A.B\nsection C\nsection\ntheorem x : True := trivial\n"
     f"{STEP.replace(' t ', ' _root_.t ')} := h hp"),
    ("scopes closed one by one", STEP, f"namespace A.B\nsection C\nend C\nend B\nend A\n{STEP} := h hp"),
    ("variables", STEP, "section\nvariable (p q : Prop)\ntheorem t (hp : p) (h : p → q) : q := h hp\nend"),
    ("variables that stay open", STEP, "variable (p q : Prop) {n : Nat}\ntheorem t (hp : p) (h : p → q) : q := h hp"),
    ("where", STEP, f"{STEP} := help hp h where\n  help {{a b : Prop}} (x : a) (f : a → b) : b := f x"),
    ("let rec", STEP, f"{STEP} :=\n  let rec help {{a b : Prop}} (x : a) (f : a → b) : b := f x\n  help hp h"),
    ("other names for the binders", STEP, "theorem t (α β : Prop) (a₁ : α) (φ' : α → β) : β := φ' a₁"),
    ("implicit binders", STEP, "theorem t {p q : Prop} (hp : p) (h : p → q) : q := h hp"),
    ("arrows for binders", STEP, "theorem t : ∀ p q : Prop, p → (p → q) → q := fun _ _ hp h => h hp"),
    ("letters of many alphabets", TRUE, "theorem t (Ωé : Prop) (ℝ₁ : Ωé) : Ωé :=\n  let 𝒜ᵢ := ℝ₁\n  𝒜ᵢ"),
    ("private, protected, noncomputable", STEP,
     "private theorem a : True := trivial\nprotected theorem A.b : True := a\n"
     f"noncomputable def c := 1\n{STEP} := h hp"),
    ("attributes", STEP, f"@[simp] theorem a : (True ∧ True) = True := and_self True\nattribute [local simp] and_comm\n"
     f"@[reducible, inline] def b := 1\n{STEP} := h hp"),
    ("a doc comment", STEP, f"/-! # A file -/\n\n/-- Apply `h`; no `sorry` needed. -/\n{STEP} := h hp"),
    ("mutual", STEP, f"mutual\ntheorem a : True := trivial\ntheorem b : True := trivial\nend\n{STEP} := h hp"),
    ("recursion", STEP,
     f"def double : Nat → Nat\n  | 0 => 0\n  | n + 1 => double n + 2\ntheorem four : double 2 = 4 := rfl\n"
     f"{STEP} := h hp"),
    ("calc, match, anonymous constructors", "theorem t (p q : Prop) : p ∧ q → q ∧ p",
     "theorem t (p q : Prop) : p ∧ q → q ∧ p\n  | ⟨a, b⟩ => ⟨b, a⟩"),
    ("#check and #print", STEP, f"#check Nat.add_comm\n#print Nat\n{STEP} := h hp\n#print axioms t"),
    ("an example", STEP, f"example : 1 + 1 = 2 := rfl\n{STEP} := h hp"),
    ("a universe", "theorem t {α : Sort u} (a b : α) (h : a = b) : b = a",
     "universe w\ntheorem t {β : Sort w} (x y : β) (h : x = y) : y = x := h.symm"),
    ("a default argument", "theorem t (n : Nat := 3) (h : n = n := rfl) : n = n", "theorem t (n : Nat := 3)\n"
     "    (h : n = n := rfl) : n = n := h"),
    ("a theorem in a namespace by name", "theorem Nat.t (n : Nat) : succ n = n + 1",
     "theorem Nat.t (n : Nat) : succ n = n + 1 := rfl"),
    ("a theorem in a namespace by namespace", "theorem Nat.t (n : Nat) : succ n = n + 1",
     "namespace Nat\ntheorem t (n : Nat) : succ n = n + 1 := rfl\nend Nat"),
    ("options that only change names and limits", STEP,
     f"set_option tactic.hygienic false in\nset_option exponentiation.threshold 3000 in\n{STEP} := by\n  exact h hp"),
    ("imports as newer files have them", STEP, f"module\n\npublic meta import Mathlib\n  import all Mathlib\n{STEP} := h hp"),
    ("windows lines", STEP, f"-- a\r\n{STEP} := by\r\n  exact h hp\r\n"),
    ("a name that Lean knows, in a namespace", STEP, f"namespace A\ndef And := 1\nend A\n{STEP} := h hp"),
    ("a brace after a string", TRUE, f"theorem a (_ : \"x\" = \"x\") {{n : Nat}} : n = n := rfl\n{TRUE} := hp"),
]


@pytest.fixture(scope="module")
def env():
    return LeanEnv(lean="wheel", timeout=30)


def judge(env, jobs):
    """Files and proof terms, all at once -> their verdicts."""
    jobs = [(Theorem("t", statement), text, whole) for statement, text, whole in jobs]
    files = iter(env.check_files([(theorem, text) for theorem, text, whole in jobs if whole]))
    terms = iter(env.check([(theorem, text) for theorem, text, whole in jobs if not whole]))
    return [next(files if whole else terms) for *_, whole in jobs]


@pytest.fixture(scope="module")
def cheats(env):
    jobs = [(number, name, statement, text, whole) for number, name, statement, file, term in CHEATS
            for text, whole in ((file, True), (term, False)) if text is not None]
    return {(number, name, whole): verdict
            for (number, name, _, _, whole), verdict in zip(jobs, judge(env, [job[2:] for job in jobs]))}


@pytest.mark.parametrize("number, name, whole", [
    (number, name, whole) for number, name, _, file, term in CHEATS
    for text, whole in ((file, True), (term, False)) if text is not None])
def test_a_known_cheat_is_refused(cheats, number, name, whole):
    verdict = cheats[number, name, whole]
    assert verdict.status in ("cheat", "rejected"), verdict
    assert verdict.messages and verdict.messages[-1]["data"]  # and the prover is told something


@pytest.fixture(scope="module")
def honest(env):
    return dict(zip((name for name, *_ in HONEST),
                    judge(env, [(statement, text, True) for _, statement, text in HONEST])))


@pytest.mark.parametrize("name", [name for name, *_ in HONEST])
def test_an_honest_file_that_looks_suspicious_is_proved(honest, name):
    assert honest[name].status == "proved", honest[name]


def test_a_file_may_repeat_the_header_it_was_shown(env):
    header = "def f (n : Nat) : Nat := n + 1\nuniverse u\nnamespace Foo\n"
    one, two = "theorem t (n : Nat) : f n = n + 1", "theorem u.t (α : Sort u) (a : α) : a = a"
    for statement in (one, two):
        theorem = Theorem("t", statement, header)
        for start in ("", "import Mathlib\n" + header, "-- as asked\n" + header.replace(" :=", "  :=") + "/- now -/ "):
            verdict = env.check_file(theorem, f"{start}{statement} := rfl")
            assert verdict.status == "proved", (start, verdict)
        wrong = env.check_file(theorem, f"import Mathlib\n{header}{statement} := by\n  exact wrong")
        assert wrong.status == "rejected" and wrong.messages[0]["line"] == 6  # lines count in the file as it was written
    other = header.replace("n + 1", "n")  # another definition under that name is not ours
    assert env.check_file(Theorem("t", one, header), f"{other}{one} := rfl").status == "rejected"


def test_a_flood_of_messages_is_cut(env):
    file = f"theorem t (p : Prop) (hp : p) : p := hp\nnamespace {'N' * 5000}\ndef x := 1\n" + "#check x\n" * 300
    verdict = env.check_file(Theorem("t", "theorem t (p : Prop) (hp : p) : p"), file)
    assert len(verdict.messages) == 100 and all(len(m["data"]) <= 4000 for m in verdict.messages) and verdict.status == "proved"
    verdict = env.check_file(Theorem("t", "theorem t (p : Prop) (hp : p) : p"), file + "theorem u : False := x\n")
    assert len(verdict.messages) == 100 and verdict.status == "rejected" and verdict.messages[0]["severity"] == "error"  # behind the flood


class Everything:
    def __contains__(self, word):
        return True


def test_without_our_lists_of_words_leans_own_evidence_still_refuses_them(env, cheats, monkeypatch):
    for name, empty in (("CHEAT", set()), ("CHEAT_NAMES", set()), ("OPTIONS", re.compile(".*")),
                        ("ATTRIBUTES", Everything())):
        monkeypatch.setattr(guard, name, empty)
    # the embedded Lean cannot run code or define syntax: a full Lean could, which is what the lists are for
    rows = [row for row in CHEATS if cheats[row[0], row[1], True].status == "cheat"]
    verdicts = judge(env, [(statement, file, True) for _, _, statement, file, _ in rows])
    assert len(rows) > 50 and [row[:2] for row, verdict in zip(rows, verdicts) if verdict.status == "proved"] == []


@pytest.mark.parametrize("text", HIDDEN)
def test_a_keyword_that_a_careless_reader_overlooks_is_seen(text):
    assert guard.guard(text, embedded=False)[0] is not None


def test_a_name_ends_where_lean_says_it_ends(env):
    edges = "ÀÖ×Øö÷øÿĀſƀªµΐΑΟΠΡΣΤΩΪακλμωϊϻϼἀ῾῿ⁱⁿ₀₉₊ₐₜ₝ᵡᵢᵪᵫⱼⱻ℀⅏⅐𝒜𝖟𝖠²¹ᵀ中'!?"
    jobs = [(Theorem("t", TRUE), f"let x{edge}y := hp; x{edge}y") for edge in edges]
    one_word = [tokens(f"x{edge}y")[0] == ((f"x{edge}y", 0),) for edge in edges]
    assert [verdict.status == "proved" for verdict in env.check(jobs)] == one_word


def test_a_search_that_finds_nothing_leaves_a_sorry_which_shows_and_one_that_finds_something_proves(tmp_path, env):
    # number 2 for real: the embedded Lean with the two search tactics bound, which its own library leaves out
    core, library = CORE.read_text("utf-8"), Path(env.argv[0])
    core = core.replace("\nintro intros exact", "\nexact? apply? intro intros exact", 1)
    (tmp_path / "Core.lean").write_text(expand_native(core, library.read_bytes()), "utf-8")
    argv = [str(library), "-R", str(tmp_path), "-o", str(tmp_path / "Core.olean"), str(tmp_path / "Core.lean")]
    assert run(argv, tmp_path, {}, 60, 2**34)[0] == 0
    searching = LeanEnv(lean="wheel", timeout=30)
    searching.env = {"LEAN_PATH": str(tmp_path)}
    statement = "theorem t (p q : Prop) (hp : p) : p ∧ q", "theorem t (p q : Prop) (hp : p) (hq : q) : p ∧ q"
    jobs = [(statement[0], f"{statement[0]} := by apply?", True), (statement[0], "by apply?", False),
            (statement[0], f"{statement[0]} := by exact?", True), (statement[1], f"{statement[1]} := by exact?", True)]
    verdicts = judge(searching, jobs)
    assert [verdict.status for verdict in verdicts] == ["cheat", "cheat", "rejected", "proved"]
    # the search must not find our own statement, which stands in the file with a `sorry`
    assert "exact { left := hp, right := hq }" in verdicts[3].messages[0]["data"]


def test_even_a_guessed_secret_name_proves_nothing(env, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda n: "guessed")
    target = Theorem("t", FALSE)
    files = ["theorem probe_Jguessed_0 : True := trivial\n#print axioms probe_Jguessed_0",
             "theorem t : True := trivial\nend Jguessed_0\ntheorem probe_Jguessed_0 : True := t\n"
             "#print axioms probe_Jguessed_0\nsection Jguessed_0",
             f"{FALSE} := _ref_Jguessed_0"]
    assert [verdict.status for verdict in env.check_files([(target, file) for file in files])] == \
        ["rejected", "rejected", "cheat"]


def test_a_file_that_never_ends_is_the_machines_failure_not_a_wrong_proof():
    short = LeanEnv(lean="wheel", timeout=2)
    text = f"{FALSE} := by\n  set_option maxHeartbeats 0 in\n  repeat skip"  # number 14
    assert short.check_file(Theorem("t", FALSE), text).status == "timeout"


def test_a_batch_of_files_is_judged_in_order_and_each_alone(env):
    good, wrong, cheat = f"{STEP} := h hp", f"{STEP} := hp", f"{STEP} := sorry"
    spoiler = "instance : Add Nat := ⟨Nat.mul⟩\nattribute [simp] Nat.add_comm\n" + good
    sums = Theorem("t", "theorem t : 2 + 3 = 5"), "theorem t : 2 + 3 = 5 := rfl"
    jobs = [(Theorem("t", STEP), text) for text in (good, wrong, cheat, spoiler)]
    verdicts = env.check_files([*jobs, sums, *jobs[::-1], sums])
    statuses = ["proved", "rejected", "cheat", "proved"]
    assert [verdict.status for verdict in verdicts] == [*statuses, "proved", *statuses[::-1], "proved"]
    assert verdicts[1].messages[0]["line"] == 1 and verdicts[1].messages[0]["column"] == len(f"{STEP} := ")


def test_a_sketch_reaches_lean_and_is_still_no_proof(env):
    sketch = f"theorem help : 1 = 2 := by sorry\n{STEP} := h hq"
    hidden = env.check_file(Theorem("t", STEP), sketch)
    seen = env.check_files([(Theorem("t", STEP), sketch)], sketch=True)[0]
    assert hidden.messages[0]["data"] == "`sorry` is not allowed in a proof"
    assert [m["data"] for m in seen.messages] == ["declaration uses `sorry`", "Unknown identifier `hq`"]
    whole = env.check_files([(Theorem("t", STEP), f"{STEP} := by sorry")], sketch=True)[0]
    axiom = env.check_files([(Theorem("t", STEP), f"axiom a : False\n{STEP} := a.elim")], sketch=True)[0]
    assert (whole.status, axiom.status) == ("cheat", "cheat")
