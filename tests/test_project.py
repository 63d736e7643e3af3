"""Setting up a Lake project, and statements that the Lean at hand cannot read."""
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import eval as evaluation
import train
import data
from lean import project
from lean_env import LeanEnv, Theorem

ROOT = Path(__file__).resolve().parent.parent
# Stands in for elan's lake: notes what it is asked to do, and fails at the step that the file `fail` names.
LAKE = """#!/bin/sh
echo "$@" >> "{log}"
[ "$*" != "$(cat "{fail}" 2>/dev/null)" ]
"""


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A PATH with git and a stand-in for lake: (what it was asked, how to make a step fail)."""
    folder, log, fail = tmp_path / "bin", tmp_path / "log", tmp_path / "fail"
    folder.mkdir()
    (folder / "lake").write_text(LAKE.format(log=log, fail=fail))
    (folder / "git").write_text("#!/bin/sh\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda: log.read_text().splitlines() if log.exists() else [], fail.write_text


def test_without_elan_the_project_is_written_and_what_to_do_is_said(tmp_path):
    def setup(*words):
        return subprocess.run([sys.executable, "lean_env.py", "setup", str(tmp_path / "p"), *words], cwd=ROOT, capture_output=True,
                              text=True, env={"PATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})
    run = setup()
    assert run.returncode == 1 and "https://github.com/leanprover/elan" in run.stderr and "git, from your" in run.stderr
    assert run.stderr.rstrip().endswith(f"Then run this again: python lean_env.py setup {tmp_path / 'p'}")
    lakefile = tomllib.loads((tmp_path / "p" / "lakefile.toml").read_text())
    assert lakefile["require"] == [{"name": "mathlib", "git": "https://github.com/leanprover-community/mathlib4", "rev": project.MATHLIB}]
    assert (tmp_path / "p" / "lean-toolchain").read_text() == f"leanprover/lean4:{project.MATHLIB}\n"
    assert (tmp_path / "p" / "Check.lean").read_text().startswith("import Mathlib\n")
    assert setup().stderr == run.stderr  # again: the same, nothing is lost
    other = setup("--mathlib", "v4.9.0")
    assert other.returncode == 1 and "differs from what would be written for Mathlib v4.9.0; nothing was changed" in other.stderr
    assert (tmp_path / "p" / "lean-toolchain").read_text() == f"leanprover/lean4:{project.MATHLIB}\n"
    assert "give a tag of Mathlib such as" in setup("--mathlib", "main").stderr


def test_with_elan_each_step_is_run_and_a_failing_one_can_be_run_again(tmp_path, lake, capfd):
    asked, fail = lake
    fail("exe cache get")
    assert project.main(["setup", str(tmp_path / "p"), "--mathlib", "v4.9.0"]) == 1
    assert asked() == ["update", "exe cache get"]
    said = capfd.readouterr().err
    assert "`lake exe cache get` failed" in said and f"run this again: python lean_env.py setup {tmp_path / 'p'} --mathlib v4.9.0" in said
    fail("")
    assert project.main(["setup", str(tmp_path / "p"), "--mathlib", "v4.9.0"]) == 0
    assert asked()[2:] == ["update", "exe cache get", "build"] and "--lean-project" in capfd.readouterr().out
    assert tomllib.loads((tmp_path / "p" / "lakefile.toml").read_text())["require"][0]["rev"] == "v4.9.0"


def test_another_project_is_never_overwritten(tmp_path, lake):
    (tmp_path / "lakefile.toml").write_text('name = "mine"\n')
    assert project.main(["setup", str(tmp_path)]) == 1
    assert (tmp_path / "lakefile.toml").read_text() == 'name = "mine"\n' and not (tmp_path / "lean-toolchain").exists()


def test_a_project_with_a_lakefile_in_lean_and_an_empty_name_are_refused_before_anything_is_written(tmp_path, lake, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lakefile.lean").write_text("import Lake\n")
    assert project.main(["setup", str(tmp_path / "mine")]) == 1
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["lakefile.lean"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'mine' / 'lakefile.lean'} is there" in said and "--lean-project" in said
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("", " "):
        assert project.main(["setup", name]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "DIR is empty" in said and not any(Path(".").iterdir())
    assert not lake[0]()


# ---- statements that do not compile
GOOD = [{"name": f"good{i}", "statement": f"theorem t (p q : Prop) (hp : p) (hq : q) : p ∧ q ∧ {i} = {i}", "proof": "⟨hp, hq, rfl⟩"}
        for i in range(3)]
BAD = [{"name": "no_such_name", "statement": "theorem t (a b : ℝ) : a + b = b + a", "proof": "by ring"},
       {"name": "no_such_lemma", "statement": "theorem t (n : Nat) : Nat.no_such n = 2"}]


@pytest.fixture(scope="module")
def env():
    return LeanEnv(lean="wheel", timeout=20)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_statements_that_lean_cannot_read_are_named_with_its_words(env):
    theorems = [Theorem(row["name"], row["statement"]) for row in (BAD[0], *GOOD, BAD[1])]
    said = data.complaints(env, theorems)
    assert "HAdd ℝ ℝ" in said[0] and said[1:4] == [None] * 3 and "Nat.no_such" in said[4]
    assert data.complaints(env, theorems[1:4]) == [None] * 3 and data.complaints(env, []) == []


def test_a_statement_that_rests_on_what_nobody_proved_is_named_and_left_out(env, capsys):
    headers = {"solution": "def x_solution : Nat := sorry\n", "open": "axiom goal : Prop\n", "fine": "def x_solution : Nat := 2\n",
               "library": "theorem em : True ∨ False := Classical.em True |>.elim .inl (fun _ => .inl trivial)\ndef x_solution := 1\n"}
    claims = {"open": "theorem t (n : Nat) : goal"}
    theorems = [Theorem(name, claims.get(name, "theorem t (n : Nat) (h : n = x_solution) : n = x_solution"), header)
                for name, header in headers.items()]
    said = dict(zip(headers, data.complaints(env, theorems)))
    assert said == {"solution": "it rests on a `sorry`", "open": "it rests on goal", "fine": None, "library": None}
    # what an attempt at them would be called, were they not left out
    proofs = [(theorem, "by exact h") for theorem in theorems if theorem.name in ("solution", "fine")]
    assert [v.status for v in env.check(proofs)] == ["cheat", "proved"]
    left, _ = data.screen(env, theorems)
    assert [t.name for t in left] == ["fine", "library"] and "solution: it rests on a `sorry`" in capsys.readouterr().out


def test_binders_of_every_kind_are_read_without_a_proof(env):
    claims = ["(n : Nat := 3) (h : n = n := rfl) : n = n", "{α : Sort w} [Decidable p] (a b : α) : a = b → b = a", "n m : Nat.add n m = Nat.add n m",
              ": let m := 2; m = m", "⦃n : Nat⦄ /- : -/ (h : 0 = n) -- : x\n  : n = 0 -- end", "(f : Nat → Nat) : (∀ n, f n = n) ∧ True"]
    theorems = [Theorem("t", f"theorem t.{{w}} {claim}" if "w}" in claim else f"theorem t {claim}", "variable (p : Prop)\n") for claim in claims]
    assert data.complaints(env, theorems) == [None] * len(claims)
    assert None not in data.complaints(env, [Theorem("t", f"theorem t {claim}") for claim in ("(n : Nat) : n", ": Nat", "(h : q) : q = 1")])


def test_a_lean_that_fails_is_not_taken_for_bad_statements():
    env = LeanEnv(lean="wheel", timeout=20)
    env.memory = 2**24  # not even Python starts
    with pytest.raises(ValueError, match=r"Lean failed \(crash\) on every statement"):
        data.complaints(env, [Theorem(row["name"], row["statement"]) for row in GOOD])


def test_equal_names_are_told_apart(env, capsys):
    both = [Theorem("same", GOOD[0]["statement"]), Theorem("same", BAD[0]["statement"])]
    theorems, others = data.screen(env, both, [Theorem("x", GOOD[0]["statement"])])
    assert [t.statement for t in theorems] == [GOOD[0]["statement"]] and len(others) == 1
    out = capsys.readouterr().out
    assert out.startswith("1 of 3 statements cannot be proved here and are left out: same: ")
    assert "warning: 1 of the 1 different training statements are also among the 1 held-out ones" in out
    with pytest.raises(ValueError, match="none of the statements can be proved here, the first says `no_such_name: "):
        data.screen(env, [Theorem(row["name"], row["statement"]) for row in BAD])


def test_training_leaves_them_out_before_it_starts(tmp_path, capsys):
    cfg = train.Config(data=write(tmp_path / "some.jsonl", BAD + GOOD), valid=write(tmp_path / "valid.jsonl", [GOOD[0], BAD[1]]), lean="wheel")
    run = train.prepare(train.resolve(cfg))
    rows, valid = run.theorems, run.valid
    assert [t.name for t in rows] == ["good0", "good1", "good2"] and [t.name for t in valid] == ["good0"]
    out = capsys.readouterr().out
    assert "3 of 7 statements cannot be proved" in out and all(name in out for name in ("no_such_name", "no_such_lemma"))
    assert "1 of the 3 different training statements" in out


def test_evaluation_leaves_them_out_and_looks_for_what_the_run_was_trained_on(tmp_path, capsys):
    some = write(tmp_path / "some.jsonl", BAD[:1] + GOOD)
    train.train(train.Config(data=some, out=str(tmp_path / "run"), steps=1, prompts_per_step=2, eval_every=0, lean="wheel", micro_tokens=512))
    held_out = write(tmp_path / "test.jsonl", GOOD[1:] + [GOOD[0] | {"statement": "theorem t : 1 = 1"}] + BAD[1:])
    results = evaluation.main(evaluation.Config(runs=(str(tmp_path / "run"),), data=held_out, samples=1, lean="wheel"))
    assert [r["problems"] for r in results.values()] == [3]
    assert "2 of the 4 different training statements are also among the 3 held-out ones" in capsys.readouterr().out


def test_the_toy_costs_nothing(monkeypatch):
    monkeypatch.setattr(data, "complaints", lambda *_: pytest.fail("the toy was looked at"))
    run = train.prepare(train.resolve(train.Config(lean="wheel")))
    rows, valid = run.theorems, run.valid
    assert (len(rows), len(valid)) == (4096, 128)
