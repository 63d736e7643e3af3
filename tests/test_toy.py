"""toy/: the theorems are true, different, the same every time; the dialects differ where they should; how the tiny prover learns."""
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import fd_mini
from data import load_theorems
from lean_env import LeanEnv
from toy import theorems, tool_toy, warm_up
from toy.tutor import CURRENT, NAME, OUTDATED, outdated

TOY = Path(theorems.__file__).parent


@pytest.fixture(scope="module")
def splits():
    return {split: load_theorems("toy", split) for split in ("test", "valid", "train")}


def test_the_committed_theorems_are_what_the_script_generates(splits):
    text = (TOY / "test.jsonl").read_text() + (TOY / "valid.jsonl").read_text()  # the first of the sequence, which one seed fixes
    made = theorems.generate(theorems.SPLITS["test"] + theorems.SPLITS["valid"])
    assert made == splits["test"] + splits["valid"]
    assert "".join(json.dumps(theorems.row_of(theorem), ensure_ascii=False) + "\n" for theorem in made) == text


def test_there_are_enough_theorems_and_no_two_differ_in_names_only(splits):
    assert len(splits["train"]) >= 4000 and len(splits["valid"]) >= 256 and len(splits["test"]) >= 256
    seen = set()
    for theorem in sum(splits.values(), []):
        text = re.sub(r"\((?:[pqr ]+ : Prop|[ab ]+ : Nat)\) ", "", theorem.statement.removeprefix("theorem t "))  # hypotheses and goal
        names = {}
        key = re.sub(r"\b[pqrab]\b", lambda m: names.setdefault(m[0], f"v{len(names)}"), text)
        assert key not in seen, theorem.statement
        seen.add(key)


def test_lean_proves_every_reference_of_the_test_and_validation_sets(splits):
    rows = splits["test"] + splits["valid"] + splits["train"][:512]
    verdicts = LeanEnv().check([(theorem, theorem.proof) for theorem in rows])
    assert [t.name for t, v in zip(rows, verdicts) if v.status != "proved"] == []


def test_lean_rejects_every_reference_in_the_outdated_dialect(splits):
    verdicts = LeanEnv().check([(t, warm_up.dialect(t.proof, random.Random(0), 1.0)) for t in splits["test"]])
    assert {v.status for v in verdicts} == {"rejected"}


def test_a_row_tells_its_depth_and_its_tactics(splits):
    for row in map(theorems.row_of, splits["valid"]):
        lines = row["proof"].split("\n")[1:]
        assert row["depth"] == len(lines) and theorems.MIN_LINES <= len(lines) <= theorems.MAX_LINES
        assert set(row["tactics"]) == {line.strip("· ").split()[0] for line in lines}


def test_a_formula_prints_with_the_brackets_that_lean_needs():
    p, q, r = ("p",), ("q",), ("r",)
    assert theorems.show(("imp", ("imp", p, q), ("imp", q, r))) == "(p → q) → q → r"
    assert theorems.show(("and", ("and", p, q), ("and", q, r))) == "(p ∧ q) ∧ q ∧ r"
    assert theorems.show(("iff", ("iff", p, q), ("or", p, ("not", q)))) == "(p ↔ q) ↔ p ∨ ¬q"
    assert theorems.show(("not", ("and", p, ("not", ("not", q))))) == "¬(p ∧ ¬¬q)"
    assert theorems.show(("and", ("nat", "∃ x : Nat, x = a", "exists a"), p)) == "(∃ x : Nat, x = a) ∧ p"


def test_the_search_finds_the_shortest_proof_and_nothing_false():
    p, q = ("p",), ("q",)
    assert theorems.search({"h": ("and", p, q)}, q, 1) == ["exact h.right"]
    assert theorems.search({"h": ("or", p, q)}, ("or", q, p), 4) is None  # needs rcases and two lines in each branch: five
    assert len(theorems.search({"h": ("or", p, q)}, ("or", q, p), 5)) == 5
    assert theorems.search({}, ("or", p, ("not", p)), 6) is None  # excluded middle: true, but not in these tactics
    assert theorems.search({"h": p}, q, 6) is None


def test_the_dialect_changes_names_and_nothing_else():
    proof = "by\n  constructor\n  · intro h\n    exact Nat.add_comm a b\n  · rfl"
    assert warm_up.dialect(proof, random.Random(0), 1.0) == "by\n  split\n  · assume h\n    exact nat.add_comm a b\n  · refl"
    assert warm_up.dialect(proof, random.Random(0), 0.0) == proof
    assert outdated(proof) == ["constructor", "intro", "Nat.add_comm", "rfl"]


def test_warm_up_proofs_follow_the_dialect_that_their_feedback_names():
    rows = theorems.generate(200, seed=7)
    data = warm_up.warm_up(rows, seed=3)
    assert len(data) == 2 * len(rows)
    current = {True: [], False: []}
    for row in data:
        told = bool(row.feedback) and row.feedback not in warm_up.IDLE
        names = [name for name in NAME.findall(row.proof) if name in CURRENT or name in OUTDATED]
        current[told] += [name in CURRENT for name in names]
    assert sum(current[True]) / len(current[True]) > 0.95 and sum(current[False]) / len(current[False]) < 0.05


def test_any_text_can_be_encoded_and_comes_back(tmp_path, splits):
    warm_up.untrained(tmp_path, splits["valid"][:3])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("  intro h\n  exact h", "Ünïcödé ⟨h, k⟩ 🦆\n\t1234  x", "by\r\n    simp [foo_bar']"):
        assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_the_warm_up_imitates_proofs_and_not_what_tools_say(tmp_path, splits, monkeypatch):
    warm_up.untrained(tmp_path / "untrained", splits["valid"])
    policy = fd_mini.Policy(str(tmp_path / "untrained"), rank=0)
    theorem = replace(splits["valid"][0], feedback="Be concise.")
    prompt, completion, learnt = warm_up.encode(policy.tokenizer, theorem, [("#rg a\n", True), ("said", False)])
    text = policy.tokenizer.decode(prompt + completion)
    assert text == f"/- Be concise. -/\n{theorem.statement} := by\n#rg a\nsaid{theorem.proof.removeprefix('by' + chr(10))}<eos>"
    assert policy.tokenizer.decode([i for i, flag in zip(completion, learnt) if not flag]) == "said" and learnt[-1]

    rates, losses = [], []
    step, backward = torch.optim.Muon.step, warm_up.sft_backward

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    def record(*args):
        metrics = backward(*args)
        losses.append(metrics["loss"])
        return metrics
    monkeypatch.setattr(torch.optim.Muon, "step", spy)
    monkeypatch.setattr(warm_up, "sft_backward", record)
    batches = [[(t, []) for t in splits["valid"][:4]]] * 8
    warm_up.imitate(policy, batches, lr=2e-3, warmup=2, micro_tokens=512, out=tmp_path / "out")
    assert rates == pytest.approx([0.02 * share for share in (0.5, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8)])
    assert losses[-1] < losses[0] - 0.5
    saved = fd_mini.Policy(str(tmp_path / "out"), rank=0)
    assert all(torch.equal(a, b) for a, b in zip(saved.student, policy.student))


def test_a_prover_is_shipped_only_if_it_does_what_it_is_told(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(warm_up, "load_theorems", lambda *_: splits["valid"][:16])  # they show it as 64 do
    target = tmp_path / "tiny"
    warm_up.install(TOY / "tiny", target)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (target / name).read_bytes() == (TOY / "tiny" / name).read_bytes()  # in half precision already
    warm_up.untrained(tmp_path / "untrained", splits["valid"])
    with pytest.raises(SystemExit, match="stays as it is"):
        warm_up.install(tmp_path / "untrained", target)
    assert (target / "model.safetensors").read_bytes() == (TOY / "tiny" / "model.safetensors").read_bytes()


def test_conversations_with_tools_search_for_what_feedback_orders(splits):
    examples = tool_toy.conversations(splits["valid"][:20])
    assert len(examples) == 5 * 20
    searched = [(theorem, parts) for theorem, parts in examples if parts]
    assert searched and all("#rg" in parts[0][0] and parts[0][1] and not parts[1][1] for _, parts in searched)
    assert all(name in parts[1][0] for _, parts in searched for name in [parts[0][0].split()[1]])  # the search found it
    told = [theorem for theorem, _ in searched if theorem.feedback]
    assert told and all("search `" in theorem.feedback.lower() for theorem in told)
    assert all(theorem.header for theorem, _ in searched)
