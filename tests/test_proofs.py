"""lean/proofs.py: what it writes for an external checker compiles with real Lean, says what was proved, and nothing else."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from extras import runs
from lean import proofs
from lean_env import LeanEnv, Rollout, Theorem, Verdict

ROOT = Path(__file__).resolve().parent.parent
ONE = Theorem("one", "theorem t (p : Prop) (h : p) : p")
TWO = Theorem("two", "theorem Two.t (a b : Nat) : a + b = b + a", "-- a header\n")


def rollout(theorem, text, status="proved", file=""):
    return Rollout(theorem, [1], [2], [True], Verdict(status), "1. Go on.", True, text, file=file)


@pytest.fixture
def run(tmp_path):
    """A run's records as train.py writes them: two ways to prove `one`, one of them twice, a wrong one, and a file with a helper."""
    helper = "import Mathlib\ntheorem helper (a b : Nat) : a + b = b + a := Nat.add_comm a b\n" + TWO.statement + " := helper a b\n"
    rollouts = [rollout(ONE, "  exact h"), rollout(ONE, "  assumption"), rollout(ONE, "  exact h"), rollout(ONE, "  exact p", "rejected"),
                rollout(TWO, f"```lean\n{helper}\n```", file=helper)]
    runs.append(tmp_path / "rollouts.jsonl", *(runs.record(1, r) for r in rollouts))
    (tmp_path / "config.json").write_text(json.dumps({"lean_project": ""}))
    return tmp_path


def test_every_proof_becomes_a_challenge_and_a_solution_that_real_lean_compiles(run):
    done = subprocess.run([sys.executable, "-m", "lean.proofs", str(run)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"3 proofs in {run / 'proofs'}\n", done.stderr
    env = LeanEnv(lean="wheel", timeout=20)
    for n, name in enumerate(("t", "t", "Two.t"), 1):
        config = json.loads((run / "proofs" / f"P000{n}.json").read_text())
        assert config == {"challenge_module": f"Proofs.P000{n}.Challenge", "solution_module": f"Proofs.P000{n}.Solution", "theorem_names": [name],
                          "permitted_axioms": ["Classical.choice", "Quot.sound", "propext"]}
        texts = [(run / "proofs" / config[f"{which}_module"].replace(".", "/")).with_suffix(".lean").read_text() for which in ("challenge", "solution")]
        for text, sorry in zip(texts, (True, False)):
            code, messages, _ = env.read(f"{env.prelude}{text}\n#print axioms {name}\n", 20)
            assert code == 0 and not any(m["severity"] == "error" for m in messages), messages
            assert any("sorryAx" in m["data"] for m in messages) == sorry
    assert "theorem helper" in texts[1] and "import" not in texts[1] and texts[1].startswith("-- a header\n")


@pytest.mark.parametrize("lean, first", [("kimina:http://localhost:8000", "import Mathlib"), ("auto", ""), ("wheel", "")])
def test_what_stood_before_a_theorem_without_a_header_of_its_own_stands_there_again(run, lean, first):
    (run / "config.json").write_text(json.dumps({"lean": lean, "lean_project": ""}))
    proofs.write(run)
    for file in ("Challenge", "Solution"):
        assert (run / f"proofs/Proofs/P0001/{file}.lean").read_text().startswith(f"{first}\n\n{ONE.statement} := ".lstrip())
        assert (run / f"proofs/Proofs/P0003/{file}.lean").read_text().startswith("-- a header\n\n")  # it has its own


def test_a_file_that_repeats_its_header_and_a_namespace_that_is_open_are_written_once_and_under_the_full_name(run):
    three = Theorem("three", "theorem t : two = 2", "namespace A.B\ndef two := 2\n")
    runs.append(run / "rollouts.jsonl", runs.record(2, rollout(three, "...", file=three.header + three.statement + " := rfl\nend A.B\n")))
    assert proofs.write(run) == 4
    assert json.loads((run / "proofs/P0004.json").read_text())["theorem_names"] == ["A.B.t"]
    text = (run / "proofs/Proofs/P0004/Solution.lean").read_text()
    env = LeanEnv(lean="wheel", timeout=20)
    code, messages, _ = env.read(f"{env.prelude}{text}\n#print axioms A.B.t\n", 20)
    assert code == 0 and [m["data"] for m in messages] == ["'A.B.t' does not depend on any axioms"] and text.count("two := 2") == 1


def test_the_files_are_made_anew_and_where_there_is_nothing_one_line_says_so(run, tmp_path_factory):
    assert proofs.write(run) == 3
    (run / "proofs" / "P0009.json").write_text("{}")
    assert proofs.write(run) == 3 and not (run / "proofs" / "P0009.json").exists()
    lines = (run / "rollouts.jsonl").read_text().splitlines(True)
    (run / "rollouts.jsonl").write_text(lines[3] + lines[0][:40])  # a wrong one and a torn one
    with pytest.raises(ValueError, match="records no proof yet"):
        proofs.write(run)
    with pytest.raises(ValueError, match="Give the folder of a run"):
        proofs.write(tmp_path_factory.mktemp("empty"))
    done = subprocess.run([sys.executable, "-m", "lean.proofs", str(run / "none")], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("proofs.py: ") and done.stderr.count("\n") == 1
