"""Other people's theorems: their field names, their ways to end a statement, the hub's files, what is reported."""
import json
import math

import huggingface_hub.constants
import pytest

from data import load_theorems, report_overlap
from data.formats import read_objects, read_theorem, split_theorem
from data.hub import SETS, WORKBOOK_HEADER, workbook_split
from lean_env import LeanEnv, Theorem

HEADER = "import Mathlib\nimport Aesop\n\nset_option maxHeartbeats 0\n\nopen BigOperators Real Nat Topology Rat\n\n"
# One row of each set, by hand, in the set's documented format.
MINIF2F = [  # datasets/minif2f.jsonl of DeepSeek-Prover-V1.5, on the hub as Tonic/MiniF2F
    {"name": "mathd_algebra_182", "split": "valid", "informal_prefix": "/-- Expand $7(3y+2)$ Show that it is 21y+14.-/\n",
     "formal_statement": "theorem mathd_algebra_182 (y : ℂ) : 7 * (3 * y + 2) = 21 * y + 14 := by\n",
     "goal": "y : ℂ\n⊢ 7 * (3 * y + 2) = 21 * y + 14", "header": HEADER},
    {"name": "mathd_numbertheory_169", "split": "test", "informal_prefix": "/-- What is the gcd of $20 !$ and $200,\\!000$?-/\n",
     "formal_statement": "theorem mathd_numbertheory_169 : Nat.gcd 20! 200000 = 40000 := by\n",
     "goal": "⊢ 20!.gcd 200000 = 40000", "header": HEADER}]
PROOFNET = {  # its proofnet.jsonl, on the hub as UDACA/proofnet-lean4
    "name": "exercise_1_13a", "split": "valid", "informal_prefix": "/-- Prove that $f$ is constant.-/\n",
    "formal_statement": "theorem exercise_1_13a {f : ℂ → ℂ} (Ω : Set ℂ) (a b : Ω) (h : IsOpen Ω)\n"
                        "  (hc : ∃ (c : ℝ), ∀ z ∈ Ω, (f z).re = c) :\n  f a = f b :=",
    "goal": "f : ℂ → ℂ\n⊢ f ↑a = f ↑b", "header": "import Mathlib\n\nopen Complex Filter Function Metric Finset\nopen scoped Topology\n\n"}
WORKBOOK = [  # internlm/Lean-Workbook, lean_workbook.json: one list
    {"natural_language_statement": f"Prove number {i // 2}.", "answer": "", "tags": ["inequality"], "split": "lean_workbook",
     "formal_statement": f"theorem lean_workbook_{i} (a b : ℝ) (ha : 0 < a) : a + {i} ≥ b  :=  by sorry",
     "proof": ["have h : True := trivial\nnlinarith [sq_nonneg (a - b)]", "linarith"] if i < 8 else []} for i in range(10)]
GOEDEL = {  # Goedel-LM/Lean-workbook-proofs: a whole file
    "problem_id": "lean_workbook_plus_7", "full_proof": "import Mathlib\nopen Real\n\n/-- sum := 2 -/\ntheorem lean_workbook_plus_7 "
    "(x : ℝ) (h : x = 1 := by rfl) : x + 1 = 2 := by\n  have h₁ : x = 1 := h\n  linarith\n"}
KIMINA = {  # AI-MO/minif2f_test: the header stands in the statement
    "name": "imo_1", "informal_prefix": "/-- Find n. -/", "formal_statement":
    "import Mathlib\n\nopen Real\n\nnoncomputable def f (n : ℕ) : ℕ := n + 1\n\n/-- Find n. -/\ntheorem imo_1 (n : ℕ) : f n = n + 1 := by\n  sorry\n"}
SHARP = {  # PAug/ProofNetSharp
    "id": "Rudin|exercise_1_1b", "nl_statement": "Prove it.", "lean4_src_header": "import Mathlib\n\nopen Real\n",
    "lean4_formalization": "theorem exercise_1_1b (x : ℝ) : x = x :=\nsorry"}
UNPORTED = {  # cat-searcher/minif2f-lean4: some rows hold a comment only
    "id": "amc12_1", "split": "test", "header": HEADER, "formal_statement": "-- Error: Real.log\n-- theorem amc12_1 : 1 = 1 := sorry\n"}


LEAN = LeanEnv(lean="wheel", timeout=20)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("text, statement, rest", [
    ("theorem t : True", "theorem t : True", None),
    ("theorem t : True := by sorry", "theorem t : True", " by sorry"),
    ("theorem t : True  :=  by\n  sorry\n", "theorem t : True", "  by\n  sorry\n"),
    ("theorem t : True :=", "theorem t : True", ""),
    ("theorem t (h : 1 = 1 := by rfl) : True := by", "theorem t (h : 1 = 1 := by rfl) : True", " by"),
    ("theorem t (n : Nat := 3) [Foo (x := 2)] {y : Nat := by exact 1} : n = n := sorry",
     "theorem t (n : Nat := 3) [Foo (x := 2)] {y : Nat := by exact 1} : n = n", " sorry"),
    ("theorem t : let x := 3; have y := x; y = 3 := by", "theorem t : let x := 3; have y := x; y = 3", " by"),
    ("theorem t : (let x := 3; x) = 3 := by let y := 3; rfl", "theorem t : (let x := 3; x) = 3", " by let y := 3; rfl"),
    ("theorem t /- := by -/ (p : Prop) -- := )\n  (hp : p) : p := by", "theorem t /- := by -/ (p : Prop) -- := )\n  (hp : p) : p", " by"),
    ("theorem t : True -- so it is\n  := by trivial", "theorem t : True", " by trivial"),
    ("theorem t : True /- so -/ := by trivial", "theorem t : True", " by trivial"),
    ('theorem t (s : String) : s = ":= (" := by', 'theorem t (s : String) : s = ":= ("', " by"),
    ('theorem t : s = "a" -- "b"\n := by', 'theorem t : s = "a" -- "b"\n', " by"),
    ("theorem a : True := by trivial\n\ntheorem t : True := a", "theorem t : True", " a"),
    ("namespace X\ntheorem t : True := by trivial\nend X", "theorem t : True", "by trivial"),
    ("theorem t : True := by trivial\n\n-- all\n#print axioms t\n", "theorem t : True", "by trivial"),
    ("theorem t : True := by\n  trivial\n\n/-- two -/\n@[simp]\ndef two := 2", "theorem t : True", "by\n  trivial"),
    ("theorem t : True := by\n  trivial\n/-- two -/ def two := 2", "theorem t : True", "by\n  trivial"),
    ("theorem t : True := trivial\n@[simp] def two := 2", "theorem t : True", "trivial"),
    ("theorem t : True := trivial\n\n/-! Next. -/\n", "theorem t : True", "trivial"),
    ("theorem t : True := trivial\naxiom two : 1 = 2", "theorem t : True", "trivial"),
    ("theorem t : True := trivial\nopen Nat in\ninstance : Inhabited Nat := ⟨2⟩", "theorem t : True", "trivial"),
    ("theorem t : True\ndef two := 2", "theorem t : True", None),
    ("theorem t : True := h where\n  h := trivial\nend X", "theorem t : True", "h where\n  h := trivial"),
    ("theorem t : True := h 3\nwhere h : Nat → True\n| 0 => trivial\n| n + 1 => h n\ntermination_by n => n",
     "theorem t : True", " h 3\nwhere h : Nat → True\n| 0 => trivial\n| n + 1 => h n\ntermination_by n => n"),
    ('theorem t : "\nend X" = s := (by\nopen Nat; exact h)\n-- so', 'theorem t : "\nend X" = s', " (by\nopen Nat; exact h)\n-- so"),
])
def test_a_statement_ends_at_the_sign_that_starts_its_proof(text, statement, rest):
    assert split_theorem(text)[1:] == (statement, rest)


def test_what_stands_before_the_theorem_is_its_header_without_docstring_and_modifiers():
    text = "-- Rudin\nimport Mathlib\n\nopen Real\n/-- two -/ def two := 2\n/-- `theorem` t : by := -/\n@[simp] private theorem t : two = 2 := by"
    header, statement, _ = split_theorem(text)
    assert (header, statement) == ("import Mathlib\n\nopen Real\n/-- two -/ def two := 2\n", "theorem t : two = 2")


@pytest.mark.parametrize("text, complaint", [
    ("-- theorem t : True", "no `theorem`"), ("def f := 3", "no `theorem`"), ("theorem t (p : Prop : p := by", "not closed"),
    ("theorem t /- : True := by", "not closed"), ("theorem t := by", "no `: TYPE`"), ("theorem (p : Prop) : p", "theorem NAME"),
])
def test_what_is_no_theorem_is_said_to_be_none(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        split_theorem(text)


def test_the_parts_fit_together_again_in_lean():
    texts = ["theorem t (n : Nat := 3) /- := by -/ (h : n = n := rfl) -- :=\n  : n = n ∧ 1 = 1 -- (\n := by\n  exact ⟨h, rfl⟩",
             "theorem t : let x := 3; x = 3 := by\n  intro x\n  rfl",
             "theorem two : 1 + 1 = 2 := rfl\n\n@[simp]\ntheorem t (p : Prop) (hp : p) : p ∧ 1 + 1 = 2 := ⟨hp, two⟩"]
    theorems = [read_theorem({"formal_statement": text}) for text in texts]
    assert [theorem.header for theorem in theorems] == [None, None, "theorem two : 1 + 1 = 2 := rfl\n"]
    verdicts = LeanEnv(lean="wheel").check([(t, t.proof) for t in theorems])
    assert [(v.status, v.messages) for v in verdicts] == [("proved", [])] * 3


def test_a_header_that_the_statement_brings_along_is_not_put_before_it_again():
    def header(theirs, own, default=None):
        return read_theorem({"formal_statement": own + "theorem t : True := by sorry", "header": theirs or default}).header
    assert header("import Mathlib\nopen Real\n", "import Mathlib\nopen Real\n") == "import Mathlib\nopen Real\n"
    assert header("import Mathlib\n", "-- 1\nimport Mathlib\nimport Aesop\nopen Nat\n") == "import Mathlib\nimport Aesop\nopen Nat\n"
    assert header(None, "import Mathlib\nopen Nat\n", WORKBOOK_HEADER) == "import Mathlib\nopen Nat\n"
    assert header("open Real\n", "open Real\ndef two := 2\n") == "open Real\ndef two := 2\n"
    assert header("open Real", "open Real Nat\n") == "open Real\nopen Real Nat\n"  # not the same
    assert header("import Mathlib\n", "def /- import -/ two := 2\n") == "import Mathlib\n\ndef /- import -/ two := 2\n"
    assert header(None, "def two := 2\n", WORKBOOK_HEADER).startswith("import Mathlib\nimport Aesop\n")


def test_a_row_whose_namespace_is_closed_behind_the_theorem_is_proved_by_lean():
    texts = ["namespace X\ntheorem t : True := by trivial\nend X\n#print axioms X.t",
             "theorem Y.c : True := trivial\nnamespace A.B\nsection S\ndef one := 1\nopen Y\n/-- c -/\nprotected theorem a : one = 1 ∧ True := ⟨rfl, c⟩\n"
             "namespace C\nset_option maxRecDepth 900\n@[simp] theorem t.{u} (α : Type u) (x : α) : x = x ∧ one = 1 := by\n"
             "  have := c\n  exact ⟨rfl, B.a.1⟩\nend C\nend S\nend A.B",
             "namespace X\ntheorem a : True := trivial\nend X\ntheorem t : True := X.a",
             "theorem Y.c : True := trivial\nset_option maxRecDepth 900 in\nopen Y in\n/-- c -/\n@[simp] theorem t : c = c := rfl\nend X"]
    theorems = [read_theorem({"formal_statement": text}) for text in texts]
    assert [t.header.split("\n")[-2:] for t in theorems] == [["namespace X", ""], ["set_option maxRecDepth 900", ""], ["end X", ""], ["open Y", ""]]
    assert [(v.status, v.messages) for v in LEAN.check([(t, t.proof) for t in theorems])] == [("proved", [])] * 4
    alone = [(t, f"{t.statement} := {t.proof}") for t in theorems]
    assert [v.status for v in LEAN.check_files(alone)] == ["proved"] * 4
    assert [v.status for v in LEAN.check_files([(t, t.header + text) for t, text in alone])] == ["proved"] * 4


def test_the_rows_of_the_common_sets_are_read_from_a_local_file(tmp_path):
    theorems = load_theorems(write(tmp_path / "minif2f.jsonl", MINIF2F), "test")
    assert [(t.name, t.statement, t.header.rstrip()) for t in theorems] == [
        ("mathd_numbertheory_169", "theorem mathd_numbertheory_169 : Nat.gcd 20! 200000 = 40000", HEADER.rstrip())]
    (theorem,) = load_theorems(write(tmp_path / "proofnet.jsonl", [PROOFNET]), "valid")
    assert theorem.statement.endswith(":\n  f a = f b") and theorem.proof is None
    (theorem,) = load_theorems(write(tmp_path / "goedel.jsonl", [GOEDEL]))
    assert theorem == Theorem(
        "lean_workbook_plus_7", "theorem lean_workbook_plus_7 (x : ℝ) (h : x = 1 := by rfl) : x + 1 = 2",
        "import Mathlib\nopen Real\n", "by\n  have h₁ : x = 1 := h\n  linarith")
    (theorem,) = load_theorems(write(tmp_path / "kimina.jsonl", [KIMINA]))
    assert theorem.header == "import Mathlib\n\nopen Real\n\nnoncomputable def f (n : ℕ) : ℕ := n + 1\n" and theorem.proof is None
    assert theorem.statement == "theorem imo_1 (n : ℕ) : f n = n + 1"
    (theorem,) = load_theorems(write(tmp_path / "sharp.jsonl", [SHARP]))
    assert (theorem.name, theorem.statement) == ("Rudin|exercise_1_1b", "theorem exercise_1_1b (x : ℝ) : x = x")
    assert theorem.header.splitlines()[0] == "import Mathlib"


@pytest.mark.parametrize("statement, proof, term", [
    ("theorem t : True", "trivial", "trivial"), ("theorem t : True", "by\n  trivial", "by\n  trivial"),
    ("theorem t : True := by\n", "trivial", "by\n  trivial"), ("theorem t : True := by\n", "  skip\n  trivial\n", "by\n  skip\n  trivial"),
    ("theorem t : True := by sorry", "by\n  trivial", "by\n  trivial"),
    ("theorem t : True := by sorry", "import Mathlib\n\ntheorem t : True := by\n  trivial\n", "by\n  trivial"),
    ("theorem t : True := by sorry", "theorem t : True := by sorry", None),
    ("theorem t : True := trivial", None, "trivial"), ("theorem t : True := by sorry", [], None),
    ("theorem t : True := by", ":= by\n  trivial", "by\n  trivial"), ("theorem t : True := by", " := trivial", "trivial"),
    ("theorem t : True", ":=\n  trivial\n", "trivial"), ("theorem t : True := by sorry", ":= by sorry", None),
    ("theorem t : True := by\n", "  skip\n  trivial\n\nend X", "by\n  skip\n  trivial"),
    ("theorem t : True", "by trivial\n\n#print axioms t", "by trivial"), ("theorem t : True := by sorry", "by\n  sorry", None),
])
def test_a_proof_becomes_a_whole_term_however_it_was_written(statement, proof, term):
    theorem = read_theorem({"formal_statement": statement, "formal_proof": proof, "id": 7})
    assert (theorem.proof, theorem.statement, theorem.name) == (term, "theorem t : True", "7")


@pytest.mark.parametrize("tactics", [
    "constructor\n  · exact a\n  · exact b", "constructor\n· exact a\n· exact b", " constructor\n    · exact a\n    · exact b",
    "    constructor\n    exact a\n    exact b\n", "refine ⟨?_, ?_⟩\n    exact a\n    exact b", "constructor\n-- one\n  exact a\n\n  exact b",
    "-- two\n  constructor\n  exact a\n  exact b", "/- two\n of -/ constructor\n  exact a\n  exact b",
    "  constructor\n  (exact a)\n  (exact b)",
    "have h : p := by\n    skip\n    exact a\n  exact ⟨h, b⟩", "have h : p := by\n  skip\n  exact a\nexact ⟨h, b⟩",
    "exact And.intro\n  a\n  b", "refine ⟨a,\n  b⟩", "apply And.intro\n  (a)\n  (b)", "constructor <;>\n  assumption", "constructor\n  <;> assumption",
    "constructor\n  <;> skip\n  exact a\n  exact b", "constructor <;>\n  skip\n  exact a\n  exact b", "constructor\n    <;> skip\n  <;> assumption",
    "have := a; constructor; exact a;\n  exact b", "simp only [a] at *\n  exact ⟨a, b⟩", "cases Nat.le_refl 0 with\n  | refl => exact ⟨a, b⟩",
    "cases Nat.le_refl 0 with\n  | refl =>\n    exact ⟨a, b⟩", "suffices h : p from\n  ⟨h, b⟩\nexact a",
])
def test_tactics_without_their_by_are_read_by_lean_however_they_were_indented(tactics):
    theorem = read_theorem({"formal_statement": "theorem t (p q : Prop) (a : p) (b : q) : p ∧ q := by", "proof": tactics})
    (verdict,) = LEAN.check([(theorem, theorem.proof)])
    assert (verdict.status, verdict.messages) == ("proved", []), theorem.proof


def test_rows_without_a_theorem_are_left_out_and_named(tmp_path, capsys):
    theorems = load_theorems(write(tmp_path / "some.jsonl", [*MINIF2F, UNPORTED]), "test")
    assert [t.name for t in theorems] == ["mathd_numbertheory_169"]
    assert "1 rows hold no readable theorem and are left out: amc12_1 (no `theorem` in it)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no row holds a theorem; the first is amc12_1"):
        load_theorems(write(tmp_path / "none.jsonl", [UNPORTED]), "test")


def test_a_set_for_evaluation_is_not_trained_on(tmp_path):
    path = write(tmp_path / "minif2f.jsonl", MINIF2F)
    with pytest.raises(ValueError, match="has no train rows, only test and valid: it is for evaluation"):
        load_theorems(path, "train")
    with pytest.raises(ValueError, match="--split must be train, valid or test, not tset"):
        load_theorems(path, "tset")


def test_lean_workbook_is_split_by_problem_and_keeps_what_has_a_proof(tmp_path):
    path = tmp_path / "lean_workbook.json"
    path.write_text(json.dumps([*WORKBOOK, WORKBOOK[0] | {"formal_statement": "theorem again (a b : ℝ) (ha : 0 < a) : a+0 ≥ b := by sorry"}]))
    entries = [(row, read_theorem({"header": WORKBOOK_HEADER, **row})) for _, row in read_objects(path)]
    theorem = entries[1][1]
    assert theorem.statement == "theorem lean_workbook_1 (a b : ℝ) (ha : 0 < a) : a + 1 ≥ b"
    assert theorem.header.startswith("import Mathlib\n") and theorem.name == "lean_workbook_1"
    assert theorem.proof == "by\n  have h : True := trivial\n  nlinarith [sq_nonneg (a - b)]"
    words = {theorem: row["natural_language_statement"] for row, theorem in entries}
    parts = {split: workbook_split(entries, split, held_out=1) for split in ("train", "valid", "test")}
    problems = {split: {words[theorem] for theorem in part} for split, part in parts.items()}
    assert [len(parts[split]) for split in ("test", "valid", "train")] == [2, 2, 4]  # of 8 with proofs, two readings of each problem
    assert not problems["test"] & problems["valid"] and not (problems["test"] | problems["valid"]) & problems["train"]
    assert words[workbook_split(entries[::-1], "test", held_out=1)[0]] in problems["test"]  # any order


def test_repeated_statements_are_counted_but_not_those_with_feedback(tmp_path, capsys):
    one = {"name": "a", "statement": "theorem a (p : Prop) (hp : p) : p", "proof": "hp"}
    twin = {"name": "b", "statement": "theorem b (p:Prop) /- same -/ (hp : p) :\n  p"}
    assert len(load_theorems(write(tmp_path / "some.jsonl", [one, twin, one | {"feedback": "Do."}]))) == 3
    assert "1 of 3 train statements repeat another one" in capsys.readouterr().out


def test_training_statements_that_are_held_out_too_are_counted(tmp_path, capsys):
    rows = [{"name": f"a{i}", "statement": f"theorem a{i} : {i} = {i}"} for i in range(5)]
    held_out = [Theorem("b", "theorem b : 3=3"), Theorem("c", "theorem c : 7 = 7")]
    report_overlap(write(tmp_path / "five.jsonl", rows), held_out)
    assert "1 of the 5 different training statements are also among the 2 held-out ones" in capsys.readouterr().out
    report_overlap(write(tmp_path / "three.jsonl", rows[:3]), held_out[:1])
    assert capsys.readouterr().out == ""
    report_overlap("/nowhere.jsonl", held_out)
    assert "nobody can say whether" in capsys.readouterr().out


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache folder, empty; `put` lays a file of a data set into it as a download does."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(repo, commit, file, text, branch=None):
        folder = tmp_path / f"datasets--{repo.replace('/', '--')}"
        (folder / "snapshots" / commit / file).parent.mkdir(parents=True)
        (folder / "snapshots" / commit / file).write_text(text, encoding="utf-8")
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / (branch or "none")).write_text(commit)
    return put


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_hubs_sets_are_read_at_their_pinned_commit(hub):
    repo, commit = SETS["minif2f"].split(":")[0].split("@")
    hub(repo, "0" * 40, "minif2f.jsonl", lines(MINIF2F[:1]), branch="main")  # a newer one is not taken
    hub(repo, commit, "minif2f.jsonl", lines(MINIF2F))
    assert [t.name for t in load_theorems("minif2f", "test")] == ["mathd_numbertheory_169"]
    repo, commit = SETS["lean-workbook"].split(":")[0].split("@")
    hub(repo, commit, "lean_workbook.json", json.dumps(WORKBOOK))
    assert len(load_theorems("lean-workbook", "test")) == 8  # fewer than 256 problems: all are held out
    hub("some/body", "1" * 40, "data/x.jsonl", lines(MINIF2F))
    assert len(load_theorems(f"hub:some/body@{'1' * 40}:data/x.jsonl", "valid")) == 1


def test_a_set_that_could_not_be_pinned_says_which_commit_it_was(hub, capsys):
    hub("UDACA/proofnet-lean4", "a" * 40, "proofnet/valid.jsonl", lines([PROOFNET]), branch="main")
    assert len(load_theorems("proofnet", "valid")) == 1
    assert f"UDACA/proofnet-lean4 at main, which is {'a' * 40} today" in capsys.readouterr().out
    with pytest.raises(ValueError, match="it is for evaluation"):
        load_theorems("proofnet", "train")


@pytest.mark.parametrize("data, complaint", [
    ("minif2f", "Tonic/MiniF2F .minif2f.jsonl at .* is not in the hub's cache and cannot be downloaded .*Run it once with a network"),
    ("hub:some/body", "write hub:OWNER/NAME@COMMIT:FILE"), ("hub:some/body@main:x.parquet", "only .json and .jsonl files"),
    ("mini2f2", "there is no file mini2f2. Give `toy`, `minif2f`, `lean-workbook`, `proofnet`"),
])
def test_what_the_hub_cannot_give_is_one_line(hub, data, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        load_theorems(data, "test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["some.jsonl", "some.json"])
def test_a_file_that_is_no_text_is_one_line_with_its_path(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1\x15\x04\xff\xfe\n")
    with pytest.raises(ValueError, match=f"{name}: not UTF-8 text") as error:
        load_theorems(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["some.jsonl", "some.json"])
def test_a_byte_order_mark_and_the_nan_of_a_missing_field_are_read_over(tmp_path, name):
    rows = [{"name": "a", "statement": "theorem a : True", "proof": math.nan, "header": math.nan, "feedback": math.nan, "score": math.inf},
            {"name": math.nan, "id": "b", "formal_statement": math.nan, "statement": "theorem b : True", "proof": "by\n  trivial"}]
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    assert "NaN" in text and "Infinity" in text
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert load_theorems(str(tmp_path / name)) == [Theorem("a", "theorem a : True"), Theorem("b", "theorem b : True", None, "by\n  trivial")]


FENCE = "```"


@pytest.mark.parametrize("opening, closing", [
    ("```lean4\n", "\n```"), ("```lean\r\n", "\n```\n"), ("  ```\n", "\n``` "), ("Here it is:\n\n```lean4\n", "\n```\nIt's done."), ("```lean4  \n", "\n"),
    ("First\n```lean4\ntheorem no : False := by\n  sorry\n```\nthen\n```lean4\n", "\n```")])
def test_a_fence_around_a_statement_or_a_proof_is_no_part_of_it(opening, closing):
    proof = "by\n  intro h -- `h`, not ``h``\n  exact h"
    statement = "theorem t (p : Prop) : p → p"
    rows = [{"statement": f"{opening}{statement} := by sorry{closing}", "proof": f"{opening}{proof}{closing}"},
            {"statement": statement, "proof": f"{opening}{statement} := {proof}{closing}"},
            {"full_proof": f"{opening}import Lean\n\n{statement} := {proof}{closing}"}]
    theorems = [read_theorem({"name": "t"} | row) for row in rows]
    assert [(t.statement, t.proof) for t in theorems] == [(statement, proof)] * 3
    assert [v.status for v in LEAN.check([(t, t.proof) for t in theorems[:2]])] == ["proved"] * 2


def test_a_fence_in_a_comment_stays_where_it_is():
    comment = f"/-- As in\n{FENCE}lean\nfoo\n{FENCE}\n-/"
    theorem = read_theorem({"statement": f"def one := 1\n{comment}\ndef two := 2\ntheorem t : two = 2 := by\n  /-\n{FENCE}\n-/\n  rfl"})
    assert comment in theorem.header and theorem.statement == "theorem t : two = 2" and FENCE in theorem.proof


@pytest.mark.parametrize("line, complaint", [
    ("[" * 100_000, "not a JSON object"), ('{"name": "t", "statement": NaN}', '"statement"'),
    ("{not json", "not a JSON object"), ('["a", "b"]', "not a JSON object"), ("3", "not a JSON object"), ('{"name": "t"}', '"statement"'),
    ('{"name": "t", "statement": 3}', '"statement"'), ('{"name": "t", "statement": "theorem t : True", "proof": 1}', '"proof"'),
])
def test_a_malformed_row_is_reported_with_file_line_and_field(tmp_path, line, complaint):
    path = tmp_path / "some.jsonl"
    path.write_text('{"name": "a", "statement": "theorem a : True"}\n\n' + line + "\n")
    with pytest.raises(ValueError) as error:
        load_theorems(str(path))
    assert f"{path}, line 3" in str(error.value) and complaint in str(error.value) and "\n" not in str(error.value)


def test_a_missing_data_file_and_an_empty_one_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*nowhere.jsonl"):
        load_theorems(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no theorem"):
        load_theorems(str(tmp_path / "empty.jsonl"))


def test_rows_become_theorems_with_optional_header_and_proof(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps({"name": "a", "statement": "theorem a : True", "proof": "by\n  trivial", "other": 1}) + "\n")
    (theorem,) = load_theorems(str(path))
    assert (theorem.name, theorem.statement, theorem.header, theorem.proof) == ("a", "theorem a : True", None, "by\n  trivial")
