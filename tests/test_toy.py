"""data/toy.py: the theorems are true, different, the same every time; the dialects differ where they should."""
import json
import random
import re
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
sys.path.insert(0, str(DATA))

import toy  # noqa: E402
from lean_env import LeanEnv, Theorem  # noqa: E402


@pytest.fixture(scope="module")
def splits():
    return {split: [json.loads(line) for line in (DATA / f"toy_{split}.jsonl").read_text().splitlines()] for split in ("test", "valid", "train")}


def test_the_committed_theorems_are_what_the_script_generates(splits):
    rows = splits["test"] + splits["valid"]  # the first of the sequence, which one seed fixes
    assert toy.generate(len(rows)) == rows


def test_there_are_enough_theorems_and_no_two_differ_in_names_only(splits):
    assert len(splits["train"]) >= 4000 and len(splits["valid"]) >= 256 and len(splits["test"]) >= 256
    seen = set()
    for row in sum(splits.values(), []):
        text = re.sub(r"\((?:[pqr ]+ : Prop|[ab ]+ : Nat)\) ", "", row["statement"].removeprefix("theorem t "))  # hypotheses and goal
        names = {}
        key = re.sub(r"\b[pqrab]\b", lambda m: names.setdefault(m[0], f"v{len(names)}"), text)
        assert key not in seen, row["statement"]
        seen.add(key)


def test_lean_proves_every_reference_of_the_test_and_validation_sets(splits):
    rows = splits["test"] + splits["valid"] + splits["train"][:512]
    verdicts = LeanEnv().check([(Theorem(r["name"], r["statement"]), r["proof"]) for r in rows])
    assert [r["name"] for r, v in zip(rows, verdicts) if v.status != "proved"] == []


def test_lean_rejects_every_reference_in_the_outdated_dialect(splits):
    rows = splits["test"]
    verdicts = LeanEnv().check([(Theorem(r["name"], r["statement"]), toy.dialect(r["proof"], random.Random(0), 1.0)) for r in rows])
    assert {v.status for v in verdicts} == {"rejected"}


def test_a_row_tells_its_depth_and_its_tactics(splits):
    for row in splits["valid"]:
        lines = row["proof"].split("\n")[1:]
        assert row["depth"] == len(lines) and toy.MIN_LINES <= len(lines) <= toy.MAX_LINES
        assert set(row["tactics"]) == {line.strip("· ").split()[0] for line in lines}


def test_a_formula_prints_with_the_brackets_that_lean_needs():
    p, q, r = ("p",), ("q",), ("r",)
    assert toy.show(("imp", ("imp", p, q), ("imp", q, r))) == "(p → q) → q → r"
    assert toy.show(("and", ("and", p, q), ("and", q, r))) == "(p ∧ q) ∧ q ∧ r"
    assert toy.show(("iff", ("iff", p, q), ("or", p, ("not", q)))) == "(p ↔ q) ↔ p ∨ ¬q"
    assert toy.show(("not", ("and", p, ("not", ("not", q))))) == "¬(p ∧ ¬¬q)"
    assert toy.show(("and", ("nat", "∃ x : Nat, x = a", "exists a"), p)) == "(∃ x : Nat, x = a) ∧ p"


def test_the_search_finds_the_shortest_proof_and_nothing_false():
    p, q = ("p",), ("q",)
    assert toy.search({"h": ("and", p, q)}, q, 1) == ["exact h.right"]
    assert toy.search({"h": ("or", p, q)}, ("or", q, p), 4) is None  # needs rcases and two lines in each branch: five
    assert len(toy.search({"h": ("or", p, q)}, ("or", q, p), 5)) == 5
    assert toy.search({}, ("or", p, ("not", p)), 6) is None  # excluded middle: true, but not in these tactics
    assert toy.search({"h": p}, q, 6) is None


def test_the_dialect_changes_names_and_nothing_else():
    proof = "by\n  constructor\n  · intro h\n    exact Nat.add_comm a b\n  · rfl"
    assert toy.dialect(proof, random.Random(0), 1.0) == "by\n  split\n  · assume h\n    exact nat.add_comm a b\n  · refl"
    assert toy.dialect(proof, random.Random(0), 0.0) == proof
    assert toy.outdated(proof) == ["constructor", "intro", "Nat.add_comm", "rfl"]


def test_warm_up_proofs_follow_the_dialect_that_their_feedback_names():
    rows = toy.generate(200, seed=7)
    data = toy.warm_up(rows, stale=0.98, seed=3)
    assert len(data) == 2 * len(rows)
    current = {True: [], False: []}
    for row in data:
        told = bool(row["feedback"]) and row["feedback"] not in toy.IDLE
        names = [w for w in toy.WORD.findall(row["proof"]) if w in toy.STALE or w in toy.OUTDATED]
        current[told] += [w in toy.STALE for w in names]
    assert sum(current[True]) / len(current[True]) > 0.95 and sum(current[False]) / len(current[False]) < 0.05


def test_any_text_can_be_encoded_and_comes_back(tmp_path):
    from transformers import AutoTokenizer
    toy.untrained(tmp_path, ["theorem t (p : Prop) : p → p := by\n  intro h\n  exact h"], width=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("  intro h\n  exact h", "Ünïcödé ⟨h, k⟩ 🦆\n\t1234  x", "by\r\n    simp [foo_bar']"):
        assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text
