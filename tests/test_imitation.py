"""What imitation teaches is what Lean accepts behind the prompt: proofs in every shape, and real Lean."""
import json

import pytest

import train
from lean.answers import continuation, extract_proof
from lean_env import LeanEnv, Theorem

X = Theorem("x", "theorem x (p q : Prop) (h : p) (k : q) : p ∧ q")
SHAPES = {
    "tactics": "by\n  constructor\n  · exact h\n  · exact k",
    "one line": "by exact ⟨h, k⟩",
    "several on a line": "by constructor; exact h; exact k",
    "a line that goes on": "by constructor\n  <;> assumption",
    "a term": "⟨h, k⟩",
    "a term with a comment": "⟨h, k⟩ -- a pair",
    "a term over lines": "And.intro\n  h\n  k",
    "in brackets": "(by\n  exact ⟨h, k⟩)",
    "a function": "have f : q → p ∧ q := fun k => ⟨h, k⟩\nf k",
    "spaces behind by": "by   \n  exact ⟨h, k⟩\n",
    "a comment behind by": "by -- note\n  exact ⟨h, k⟩",
    "carriage returns": "by\r\n  constructor\r\n  · exact h\r\n  · exact k\r\n",
    "a nested by": "⟨by exact h, by\n  exact k⟩",
    "a name that begins with by": "by_name h k",
}


@pytest.fixture(scope="module")
def env():
    return LeanEnv(lean="wheel", timeout=20)


def test_every_shape_of_a_proof_goes_on_from_the_prompt_and_comes_back_as_a_proof(env):
    header = "theorem by_name {p q : Prop} (h : p) (k : q) : p ∧ q := ⟨h, k⟩\n"
    theorem = Theorem(X.name, X.statement, header)
    texts = {shape: continuation(proof) for shape, proof in SHAPES.items()}
    verdicts = env.check([(theorem, extract_proof(text, chat=False)) for text in texts.values()])
    files = env.check_files([(theorem, f"{X.statement} := by\n{text}\n") for text in texts.values()])
    for shape, verdict, file in zip(SHAPES, verdicts, files):
        assert verdict.status == file.status == "proved", (shape, texts[shape], verdict, file)


def test_tactics_below_by_come_back_letter_by_letter():
    proof = SHAPES["tactics"]
    assert continuation(proof) == "  constructor\n  · exact h\n  · exact k"
    assert extract_proof(continuation(proof), chat=False) == proof


@pytest.mark.parametrize("proof", ["(h", "by\n  exact h /- open", "by\n  exact h -- ```", "by\n  exact h -- <think>"])
def test_what_cannot_follow_a_prompt_is_none(proof):
    assert continuation(proof) is None


def test_such_a_proof_is_named_and_left_out_and_the_others_are_learnt(tmp_path, capsys):
    rows = [{"name": "good", "statement": X.statement, "proof": SHAPES["one line"]},
            {"name": "bare", "statement": X.statement}, {"name": "fenced", "statement": X.statement, "proof": "by\n  exact ⟨h, k⟩ -- ```"}]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = train.resolve(train.Config(algo="sft", data=str(data), lean="wheel", eval_every=0))
    assert [theorem.name for theorem in train.prepare(cfg).theorems] == ["good"]
    assert "2 theorems have no proof, or one that cannot follow a prompt, and are left out: bare, fenced" in capsys.readouterr().out
    data.write_text(json.dumps(rows[1]) + "\n" + json.dumps(rows[2]) + "\n")
    with pytest.raises(ValueError, match="no proof in .* can follow a prompt"):
        train.prepare(cfg)
