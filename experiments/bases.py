"""What the experiments start from, beside the tiny prover and the toy: other bases, other data.

    python -m experiments.bases share_1e-4    # a prover, out/bases/share_1e-4: some minutes
    python -m experiments.bases two.jsonl     # theorems, out/bases/two.jsonl

A prover is the tiny one, warmed up for some steps more on data in which one thing is different; all
weights train. Theorems are the toy's, chosen or rewritten; a row says to which part it belongs.
"""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import tyro

import fd_mini
from data import load_theorems
from extras.runs import replace_text
from lean_env import LeanEnv, Theorem
from toy import warm_up
from toy.theorems import unseen
from toy.tutor import outdated

OUT = Path("out/bases")
# name -> (steps, settings of the warm-up). STALE: how often a proof has the outdated name where nobody has told the
# prover the current one. KINDS: which attempts it has read feedback about.
PROVERS = {
    "own": (300, {"KINDS": {"own": 1}}),
    "all": (300, {}),
    "share_2e-2": (0, {}),  # the tiny prover's own share
    "share_1e-1": (300, {"STALE": 0.9}),
    "share_1e-3": (300, {"STALE": 0.999}),
    "share_1e-4": (1200, {"STALE": 0.9999}),  # what is rare is unlearnt slowly
}


def make_prover(name):
    steps, settings = PROVERS[name]
    if not steps:
        return shutil.copytree("toy/tiny", OUT / name)
    for setting, value in settings.items():
        setattr(warm_up, setting, value)
    data = warm_up.warm_up(unseen(12000))
    batches = warm_up.draws(data, steps)
    policy = fd_mini.Policy("tiny", rank=0)
    new = OUT / f"{name}.new"
    warm_up.imitate(policy, batches, lr=1e-3, warmup=20, micro_tokens=1600, out=new)
    new.rename(OUT / name)


# --- theorems: a function takes one and returns it, changed perhaps, or None to leave it out
def one(theorem):
    """Its proof needs one current name, once."""
    return theorem if len(outdated(theorem.proof)) == 1 else None


def two(theorem):
    """Its proof needs two or more current names at once."""
    return theorem if len(outdated(theorem.proof)) > 1 else None


def bare(theorem):
    """Without a reference proof."""
    return replace(theorem, proof=None)


def numbers(theorem):
    """About natural numbers too."""
    return theorem if "Nat" in theorem.statement else None


def logic(theorem):
    """About propositions alone."""
    return None if numbers(theorem) else theorem


def other_hand(theorem):
    """About propositions alone, and proved as somebody else would: what is used gets a name
    first, pairs are built with `refine`. Lean accepts it just as well."""
    proof = re.sub(r"^([·\s]*)exact (.*)$", named_first, theorem.proof, flags=re.M)
    proof = proof.replace("constructor", "refine ⟨?_, ?_⟩")
    return logic(replace(theorem, proof=proof))


def named_first(match):
    lead, term = match.groups()
    return f"{lead}have fact := {term}\n{' ' * len(lead)}exact fact"


THEOREMS = {f.__name__: f for f in (one, two, bare, numbers, logic, other_hand)}


def make_theorems(name):
    rows = []
    for split in ("train", "valid", "test"):
        chosen = map(THEOREMS[name], load_theorems("toy", split))
        rows += [vars(theorem) | {"split": split} for theorem in chosen if theorem]

    proved = [Theorem(row["name"], row["statement"], proof=row["proof"]) for row in rows if row["proof"]]
    verdicts = LeanEnv().check([(theorem, theorem.proof) for theorem in proved])
    wrong = [t.name for t, verdict in zip(proved, verdicts) if verdict.status != "proved"]
    if wrong:
        raise ValueError(f"Lean does not accept the proofs of {', '.join(wrong[:5])}")

    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    replace_text(OUT / f"{name}.jsonl", "".join(lines))
    print(f"{OUT / name}.jsonl: {len(rows)} theorems")


def main(name: str, /):
    """share_1e-4, two.jsonl, ..."""
    OUT.mkdir(parents=True, exist_ok=True)
    if name in PROVERS:
        make_prover(name)
    elif name.removesuffix(".jsonl") in THEOREMS:
        make_theorems(name.removesuffix(".jsonl"))
    else:
        known = [*PROVERS, *(f"{each}.jsonl" for each in THEOREMS)]
        sys.exit(f"{name} is none of {', '.join(known)}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
