"""`python -m lean.proofs RUN`: the proofs recorded in RUN/rollouts.jsonl as files, for a
checker that does not trust us.

    RUN/proofs/P0001.json                      what to compare, as `comparator` wants to be told
    RUN/proofs/Proofs/P0001/Challenge.lean     the header and the statement, with `sorry`
    RUN/proofs/Proofs/P0001/Solution.lean      the same with the proof, or (tool mode) the
                                               whole file that was accepted

Copied into a Lake project that has a library `Proofs` (`lean_env.py setup` writes one),
`lake env comparator P0001.json` says whether the solution proves the challenge. The pairs
compile with the embedded Lean (tests/test_proofs.py); comparator itself: not yet run.
"""

import contextlib
import json
import sys
from pathlib import Path

import tyro

from lean.answers import read_answer
from lean.backends import default_header
from lean.guard import ALLOWED_AXIOMS
from lean.text import namespaces, split_statement, without_header


# What is written into RUN/proofs. Files of an earlier call that have no successor go.
OURS = ("P[0-9][0-9][0-9][0-9].json", "Proofs/P[0-9][0-9][0-9][0-9]/*.lean")


def pairs(rollouts, header):
    """Records of rollouts.jsonl -> (theorem's full name, challenge, solution) of every proof,
    equal ones once. header: what stands before a theorem that names none of its own."""
    found = {}
    for row in rollouts:
        if row["status"] != "proved":
            continue
        statement, before = row["statement"], (row.get("header") or header).rstrip()
        if before:
            before += "\n\n"

        proof, whole = row.get("file"), True  # in tool mode
        if not proof:
            proof, whole = read_answer(row["text"], row.get("chat", False), statement, before)
        if whole:
            proof = without_header(before, proof)
        else:
            proof = f"{statement} := {proof}"
        challenge = f"{before}{statement} := by\n  sorry\n"
        solution = f"{before}{proof.strip()}\n"
        found[challenge, solution] = namespaces(before) + split_statement(statement)[0]
    return [(name, *texts) for texts, name in found.items()]


def write(run):
    """RUN/proofs, made anew (`run` is a Path), but for what else is in it -> how many proofs
    it holds. ValueError, one line, when there is no run or no proof in it."""
    records = run / "rollouts.jsonl"
    if not records.is_file():
        raise ValueError(
            f"{run} holds no rollouts.jsonl. Give the folder of a run of train.py."
        )
    try:
        config = dict(json.loads((run / "config.json").read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{run / 'config.json'} cannot be read: is {run} a run?") from None
    header = default_header(config.get("lean", ""), config.get("lean_project") or None)
    rows = []
    for line in records.read_text("utf-8", "replace").splitlines():
        # What is no row of ours is passed over: the last may be torn.
        with contextlib.suppress(ValueError, TypeError):
            row = dict(json.loads(line))
            if all(isinstance(row.get(name), str) for name in ("status", "statement", "text")):
                rows.append(row)
    found = pairs(rows, header)
    if not found:
        raise ValueError(
            f"{records} (eight attempts a step) records no proof yet. "
            "Train on, or look at another run."
        )

    texts = {}  # path in RUN/proofs -> text
    for n, (name, challenge, solution) in enumerate(found, 1):
        texts[f"Proofs/P{n:04}/Challenge.lean"] = challenge
        texts[f"Proofs/P{n:04}/Solution.lean"] = solution
        task = {
            "challenge_module": f"Proofs.P{n:04}.Challenge",
            "solution_module": f"Proofs.P{n:04}.Solution",
            "theorem_names": [name],
            "permitted_axioms": sorted(ALLOWED_AXIOMS),
        }
        texts[f"P{n:04}.json"] = json.dumps(task, indent=1, ensure_ascii=False)
    replace_files(run / "proofs", texts)
    return len(found)


def replace_files(out, texts):
    """Write these, each whole or not at all, and remove what OURS names and is not among them."""
    for name, text in texts.items():
        beside = out / f"{name}.new"
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, "utf-8")
        beside.replace(out / name)
    for pattern in OURS:
        for file in out.glob(pattern):
            if file.relative_to(out).as_posix() not in texts:
                file.unlink()


def main(run: tyro.conf.Positional[Path]):
    """The proofs of a run as files.

    Args:
        run: folder of a run.
    """
    try:
        print(f"{write(run)} proofs in {run / 'proofs'}")
    except (ValueError, OSError) as error:
        sys.exit(f"proofs.py: {error}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
