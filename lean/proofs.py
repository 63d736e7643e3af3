"""`python extras/proofs.py RUN`: the proofs recorded in RUN/rollouts.jsonl as files, for a checker that does not trust us.

    RUN/proofs/P0001.json                      what is to be compared, as `comparator` wants to be told
    RUN/proofs/Proofs/P0001/Challenge.lean     the header and the statement, with `sorry`
    RUN/proofs/Proofs/P0001/Solution.lean      the same with the proof; in tool mode the whole file that was accepted

Copied into a Lake project that has a library `Proofs` (`lean_env.py setup` writes one), `lake env comparator P0001.json` says whether
the solution proves the challenge. The pairs compile with the embedded Lean (tests/test_proofs.py); comparator itself: not yet run.
"""
import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from feedback import extract_proof  # noqa: E402
from lean_env import ALLOWED_AXIOMS, IMPORTS, _scopes, _split_statement, _without  # noqa: E402


def pairs(rollouts: list[dict], header: str) -> list[tuple[str, str, str]]:
    """Records of rollouts.jsonl -> (theorem's full name, challenge, solution) of every proof, equal ones once.
    header: what stands before a theorem that names none of its own."""
    found = {}
    for row in (r for r in rollouts if r["status"] == "proved"):
        before, statement = (row.get("header") or header).rstrip(), row["statement"]
        before += "\n\n" * bool(before)
        proof = _without(before, IMPORTS.sub("", row["file"])) if row.get("file") else f"{statement} := {extract_proof(row['text'])}"
        inside = "".join(f"{name}." for word, name in _scopes(before) if word == "namespace")
        found[before + f"{statement} := by\n  sorry\n", before + proof.strip() + "\n"] = inside + _split_statement(statement)[0]
    return [(name, *texts) for texts, name in found.items()]


def write(run: Path) -> int:
    """RUN/proofs, made anew -> how many proofs it holds. ValueError, one line, when there is no run or no proof in it."""
    if not (run / "rollouts.jsonl").is_file():
        raise ValueError(f"{run} holds no rollouts.jsonl. Give the folder of a run of train.py.")
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    config = json.loads((run / "config.json").read_text())
    project, kind = config.get("lean_project"), config.get("lean", "").partition(":")[0]
    mathlib = kind == "kimina" or project and (Path(project) / ".lake/packages/mathlib").exists()  # as LeanEnv chooses its header
    found, out = pairs(rows, "import Mathlib" if mathlib else ""), run / "proofs"
    if not found:
        raise ValueError(f"{run}/rollouts.jsonl (eight attempts a step) records no proof yet. Train on, or look at another run.")
    shutil.rmtree(out, ignore_errors=True)
    for n, (name, challenge, solution) in enumerate(found, 1):
        folder = out / "Proofs" / f"P{n:04}"
        folder.mkdir(parents=True)
        (folder / "Challenge.lean").write_text(challenge, encoding="utf-8")
        (folder / "Solution.lean").write_text(solution, encoding="utf-8")
        config = {"challenge_module": f"Proofs.P{n:04}.Challenge", "solution_module": f"Proofs.P{n:04}.Solution",
                  "theorem_names": [name], "permitted_axioms": sorted(ALLOWED_AXIOMS)}
        (out / f"P{n:04}.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    run = parser.parse_args().run
    try:
        print(f"{write(run)} proofs in {run / 'proofs'}")
    except (ValueError, OSError) as error:
        sys.exit(f"proofs.py: {error}")
