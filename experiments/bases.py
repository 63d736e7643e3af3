"""What the experiments start from, beside the tiny prover and the toy: other bases, other data.

    python -m experiments.bases share_1e-4    # a prover, out/bases/share_1e-4: some minutes
    python -m experiments.bases two.jsonl     # theorems, out/bases/two.jsonl

A prover is the tiny one, warmed up for some steps more on data in which one thing is different; all
weights train. Theorems are the toy's, chosen or rewritten; a row says to which part it belongs.
"""

import json
import random
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import tyro

import fd_mini
from data import load_theorems
from extras.runs import replace_text
from extras.speaker import request
from feedback import instruction
from lean_env import LeanEnv, Rollout, Theorem
from toy import warm_up
from toy.theorems import unseen
from toy.tutor import outdated, tutor

OUT = Path("out/bases")
# name -> (steps, settings of the warm-up). STALE: how often a proof has the outdated name where nobody has told the
# prover the current one.
PROVERS = {
    "share_1e-1": (300, {"STALE": 0.9}),
    "share_2e-2": (0, {}),  # the tiny prover's own share
    "share_1e-3": (300, {"STALE": 0.999}),
    "share_1e-4": (1200, {"STALE": 0.9999}),  # what is rare is unlearnt slowly
    "adviser": (600, {}),  # it also writes advice
}


def seconds_for(path):
    """Roughly, to make it, on one thread."""
    return 5 + 1.5 * PROVERS.get(path.name, (0,))[0]


def make_prover(name):
    steps, settings = PROVERS[name]
    if not steps:
        return shutil.copytree("toy/tiny", OUT / name)
    for setting, value in settings.items():
        setattr(warm_up, setting, value)
    theorems = unseen(12000)
    examples = [(theorem, []) for theorem in warm_up.warm_up(theorems)]
    policy = fd_mini.Policy("tiny", rank=0)
    if name == "adviser":
        examples += requests_for_advice(policy, theorems)
    warm_up.imitate(
        policy,
        warm_up.draws(examples, steps),
        lr=1e-3,
        warmup=20,
        micro_tokens=1600,
        out=OUT / f"{name}.new",
        encode=partial(encode, policy),
    )
    (OUT / f"{name}.new").rename(OUT / name)


def link_chat_model():
    """A real one, from a package that `make test-real` installs."""
    from pytest import skip
    from tests.real.real_parts import SMOL

    try:
        (OUT / "smollm2").symlink_to(SMOL.converted())
    except skip.Exception as reason:
        sys.exit(f"smollm2: {reason}")


def requests_for_advice(policy, theorems):
    """Examples (rollout, style): an attempt at each theorem, judged by Lean, on which the prover
    learns to guess what the tutor says, who sees the reference proof."""
    policy.model.config.max_position_embeddings = policy.max_positions = 768
    rng = random.Random(2)
    attempts = []
    for theorem, other in zip(theorems, theorems[1:] + theorems[:1]):
        attempts.append((theorem, warm_up.attempt(theorem, rng, other.proof)))

    examples = []
    for (theorem, proof), verdict in zip(attempts, LeanEnv().check(attempts)):
        text = proof.removeprefix("by\n")
        rollout = Rollout(theorem, [], [], [], verdict, finished=True, text=text)
        examples.append((rollout, rng.randint(1, 4)))
    return examples


def encode(policy, tokenizer, what, more):
    """warm_up.encode, and for a rollout the words of `--feedback self` and the tutor's answer."""
    if isinstance(what, Theorem):
        return warm_up.encode(tokenizer, what, more)
    answer = [*tokenizer.encode(tutor(what, more)), tokenizer.eos_token_id]
    prompt = request(policy, instruction(what, more))
    return prompt, answer, [True] * len(answer)


# --- theorems
def other_hand(proof):
    """As somebody else would write it, in words that the prover has: a term gets a name before it
    is used, hypotheses are applied, a contradiction is announced. Lean accepts it just as well."""
    lines = []
    for line in proof.split("\n"):
        lead, tactic, term = re.fullmatch(r"([·\s]*)(\S*) ?(.*)", line).groups()
        below = "\n" + " " * len(lead)
        if tactic == "contradiction":
            line = f"{lead}exfalso{below}contradiction"
        elif tactic == "exact" and " " not in term and "." not in term:
            line = f"{lead}apply {term}"
        elif tactic == "exact" and term[0] not in "⟨(":
            line = f"{lead}obtain u := {term}{below}exact u"
        lines.append(line)
    return "\n".join(lines)


def is_logic(theorem):
    """About propositions alone."""
    return "Nat" not in theorem.statement


# name -> (which theorems, their proofs)
THEOREMS = {
    # How many current names a proof needs at once.
    "one": (lambda theorem: len(outdated(theorem.proof)) == 1, str),
    "two": (lambda theorem: len(outdated(theorem.proof)) > 1, str),
    "one_bare": (lambda theorem: len(outdated(theorem.proof)) == 1, lambda proof: None),
    "two_bare": (lambda theorem: len(outdated(theorem.proof)) > 1, lambda proof: None),
    "few": (lambda theorem: len(outdated(theorem.proof)) > 2, str),
    "bare": (bool, lambda proof: None),
    "numbers": (lambda theorem: not is_logic(theorem), str),
    "other_hand": (is_logic, other_hand),
}


def make_theorems(name):
    belongs, written = THEOREMS[name]
    rows, jobs = [], []
    for split in ("train", "valid", "test"):
        for theorem in filter(belongs, load_theorems("toy", split)):
            proof = written(theorem.proof)
            rows.append(vars(theorem) | {"proof": proof, "split": split})
            jobs += [(theorem, proof)] if proof else []

    wrong = [v for v in LeanEnv().check(jobs) if v.status != "proved"]
    if wrong:
        raise ValueError(f"Lean does not accept {len(wrong)} of the proofs: {wrong[0]}")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    replace_text(OUT / f"{name}.jsonl", "".join(lines))
    print(f"{OUT / name}.jsonl: {len(rows)} theorems")


def main(name: str, /):
    """share_1e-4, two.jsonl, ..."""
    OUT.mkdir(parents=True, exist_ok=True)
    known = {each: partial(make_prover, each) for each in PROVERS}
    known["smollm2"] = link_chat_model
    known |= {f"{each}.jsonl": partial(make_theorems, each) for each in THEOREMS}
    if name not in known:
        sys.exit(f"{name} is none of {', '.join(known)}")
    known[name]()


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
