"""The toy's theorems: random formulas in real Lean text, each with its shortest proof.

    python -m toy.theorems       # writes toy/{train,valid,test}.jsonl, bit-identical every time

A theorem is a random formula over a few propositions, some of which are facts about Nat. A
truth table throws away what is false, an iterative-deepening search finds the shortest proof in
the tactics below, and Lean has the last word: when it does not accept a reference proof,
nothing is written.
"""

import itertools
import json
import operator
import random
import re
import sys
from pathlib import Path

from tqdm import tqdm

from lean_env import LeanEnv, Theorem
from toy.tutor import outdated

SPLITS = {"test": 256, "valid": 256, "train": 4096}
# Tactic lines of the shortest proof.
MIN_LINES = 2
MAX_LINES = 4

# --- formulas
# ("p",) is an atom, ("not", A), ("and", A, B), ("or", A, B), ("imp", A, B) and ("iff", A, B)
# are made of others, and ("nat", text, tactic) is a true fact with the tactic that closes it.
# Of each connective: its symbol, how strongly it binds in Lean, and its truth table; with false
# below true, A → B is A ≤ B.
CONNECTIVES = {
    "iff": ("↔", 20, operator.eq),
    "imp": ("→", 25, operator.le),
    "or": ("∨", 30, operator.or_),
    "and": ("∧", 35, operator.and_),
}
NEGATION = 50  # how strongly ¬ binds

# Facts about Nat and the tactics that close them, which all have outdated twins.
NAT_FACTS = {
    "{0} + {1} = {1} + {0}": "exact Nat.add_comm {0} {1}",
    "{0} * {1} = {1} * {0}": "exact Nat.mul_comm {0} {1}",
    "{0} + 0 = {0}": "exact Nat.add_zero {0}",
    "0 + {0} = {0}": "exact Nat.zero_add {0}",
    "{0} * 1 = {0}": "exact Nat.mul_one {0}",
    "1 * {0} = {0}": "exact Nat.one_mul {0}",
    "{0} ≤ {0}": "exact Nat.le_refl {0}",
    "0 ≤ {0}": "exact Nat.zero_le {0}",
    "{0} = {0}": "rfl",
    "{0} + {1} = {0} + {1}": "rfl",
    "∃ x : Nat, x = {0}": "exists {0}",
}


def show(formula, outer=0):
    """Lean's text of a formula. `outer` says how strongly what stands around it binds."""
    kind = formula[0]
    if len(formula) == 1:
        return kind
    if kind == "not":
        return "¬" + show(formula[1], NEGATION)

    if kind == "nat":
        text = formula[1]
        # = and ≤ bind more strongly than every connective but ¬, and ∃ reaches to the end.
        level = 0 if "∃" in text else NEGATION - 1
    else:
        symbol, level, _ = CONNECTIVES[kind]
        # ∧, ∨ and → associate to the right, ↔ not at all.
        right = level + 1 if kind == "iff" else level
        text = f"{show(formula[1], level + 1)} {symbol} {show(formula[2], right)}"
    return f"({text})" if outer > level else text


def holds(formula, world):
    """The truth value of a formula in a world {atom: bool}."""
    kind, *parts = formula
    if not parts:
        return world[kind]
    if kind == "nat":
        return True

    values = [holds(part, world) for part in parts]
    if kind == "not":
        return not values[0]
    _, _, truth = CONNECTIVES[kind]
    return truth(*values)


def random_formula(rng, size, facts):
    """A formula with `size` connectives over p, q, r and now and then one of the facts."""
    if size == 0:
        if facts and rng.random() < 0.3:
            return rng.choice(facts)
        return (rng.choice("pqr"),)

    (kind,) = rng.choices(["imp", "and", "or", "not", "iff"], [5, 4, 4, 2, 1])
    if kind == "not":
        nested = size > 1 or rng.random() < 0.8
        return ("not", random_formula(rng, size - 1, []) if nested else ("p",))

    left_size = rng.randrange(size)
    left = random_formula(rng, left_size, facts)
    right = random_formula(rng, size - 1 - left_size, facts)
    if left == right:  # `q ∨ q` teaches nothing
        return random_formula(rng, size, facts)
    return (kind, left, right)


# --- the search: intuitionistic, goal-directed, the fewest tactic lines first
# One letter each; p q r are propositions, a b numbers, x a bound variable.
HYPOTHESES = "hgkmuvwyz"
FALSE = ("False",)


def as_arrow(formula):
    """(A, B) of A → B, as which ¬A is A → False; (None, None) of any other formula."""
    match formula:
        case ("imp", left, right):
            return left, right
        case ("not", part):
            return part, FALSE
    return None, None


def closing(hyps, goal):
    """A single tactic that closes the goal, or None. hyps: {name: formula}."""
    if goal[0] == "nat":
        return goal[2]
    for name, fact in hyps.items():
        if fact == goal:
            return f"exact {name}"

    for name, fact in hyps.items():
        if fact[0] == "and" and goal in fact[1:]:
            side = "left" if fact[1] == goal else "right"
            return f"exact {name}.{side}"
        premise, conclusion = as_arrow(fact)
        proofs = [other for other in hyps if hyps[other] == premise]
        if conclusion == goal and proofs:
            return f"exact {name} {proofs[0]}"

    facts = hyps.values()
    if FALSE in facts or any(("not", fact) in facts for fact in facts):
        return "contradiction"
    return None


def moves(hyps, goal):
    """Every sensible next tactic in a fixed order: (line, [(hyps, goal), ...] that it
    leaves)."""
    kind = goal[0]
    one, two = [name for name in HYPOTHESES if name not in hyps][:2]
    premise, conclusion = as_arrow(goal)
    if premise:
        yield f"intro {one}", [({**hyps, one: premise}, conclusion)]
    if kind == "and":
        yield "constructor", [(hyps, goal[1]), (hyps, goal[2])]
    if kind == "iff":
        _, left, right = goal
        yield "constructor", [
            (hyps, ("imp", left, right)),
            (hyps, ("imp", right, left)),
        ]

    for name, fact in hyps.items():
        rest = dict(hyps)
        del rest[name]
        if fact[0] == "and":
            parts = {one: fact[1], two: fact[2]}
            yield f"obtain ⟨{one}, {two}⟩ := {name}", [(rest | parts, goal)]
        if fact[0] == "or":
            cases = [{one: fact[1]}, {two: fact[2]}]
            yield f"rcases {name} with {one} | {two}", [
                (rest | case, goal) for case in cases
            ]

    if kind == "or":
        yield "left", [(hyps, goal[1])]
        yield "right", [(hyps, goal[2])]
    for name, fact in hyps.items():
        premise, conclusion = as_arrow(fact)
        if conclusion == goal:
            yield f"apply {name}", [(hyps, premise)]
    if goal != FALSE and any(fact[0] == "not" for fact in hyps.values()):
        yield "exfalso", [(hyps, FALSE)]


def search(hyps, goal, budget):
    """The lines of a proof of at most `budget` tactics, or None."""
    if budget < 1:
        return None
    line = closing(hyps, goal)
    if line:
        return [line]

    for line, goals in moves(hyps, goal):
        rest = search_all(goals, budget - 1)
        if rest:
            return [line, *rest]
    return None


def search_all(goals, budget):
    """The lines that prove all the goals, `budget` together, or None. Where there are several,
    each proof stands behind a bullet."""
    lines = []
    for i, (hyps, goal) in enumerate(goals, 1):
        later = len(goals) - i  # every later goal needs a line too
        proof = search(hyps, goal, budget - len(lines) - later)
        if not proof:
            return None
        if len(goals) > 1:
            proof = ["· " + proof[0], *("  " + line for line in proof[1:])]
        lines += proof
    return lines


def shortest_proof(hyps, goal):
    """The lines of the shortest proof; none when MAX_LINES do not suffice, or when only
    excluded middle would help."""
    for budget in range(1, MAX_LINES + 1):
        proof = search(hyps, goal, budget)
        if proof:
            return proof
    return []


# --- the generator
def draw_problem(rng):
    """Random hypotheses {name: formula} and a random goal, true or not."""
    facts = []
    if rng.random() < 0.5:
        text, tactic = rng.choice(list(NAT_FACTS.items()))
        numbers = rng.sample("ab", 2)
        facts = [("nat", text.format(*numbers), tactic.format(*numbers))]

    names = HYPOTHESES[: rng.randrange(3)]
    hyps = {name: random_formula(rng, rng.randint(1, 2), []) for name in names}
    return hyps, random_formula(rng, rng.randint(1, 3), facts)


def text_of(hyps, goal):
    """A problem in a line, hypotheses first."""
    return " ⊢ ".join(show(formula) for formula in [*hyps.values(), goal])


def fingerprint(hyps, goal):
    """A text that is the same for problems that differ in the names of variables only."""
    names = {}
    return re.sub(
        r"\b[pqrab]\b",
        lambda match: names.setdefault(match[0], f"n{len(names)}"),
        text_of(hyps, goal),
    )


def is_true(hyps, goal):
    """Whether the goal holds in every world in which all hypotheses hold: the truth table."""
    formula = goal
    for fact in hyps.values():
        formula = ("imp", fact, formula)
    rows = itertools.product((False, True), repeat=3)
    return all(holds(formula, dict(zip("pqr", row))) for row in rows)


def is_worth_learning(hyps, lines):
    """Whether a proof is long enough, differs in Lean 3, and needs every hypothesis."""
    text = "\n".join(lines)
    if len(lines) < MIN_LINES or not outdated(text):
        return False
    uses_all = all(re.search(rf"\b{name}\b", text) for name in hyps)
    return uses_all or "contradiction" in text  # which names no hypothesis


def as_theorem(title, hyps, goal, lines):
    """Every statement declares `theorem t`: a prover need not read a serial number."""
    binders = []
    for letters, kind in [("pqr", "Prop"), ("ab", "Nat")]:
        names = sorted(set(re.findall(rf"\b[{letters}]\b", text_of(hyps, goal))))
        if names:
            binders.append(f"({' '.join(names)} : {kind})")
    binders += [f"({name} : {show(fact)})" for name, fact in hyps.items()]

    statement = " ".join(["theorem t", *binders, ":", show(goal)])
    return Theorem(title, statement, proof="\n  ".join(["by", *lines]))


def generate(count, seed=0):
    """`count` different theorems with their shortest proofs, the same for the same seed; no two
    differ in variable names only."""
    rng = random.Random(seed)
    seen = set()
    theorems = []
    with tqdm(total=count, desc="theorems", disable=None) as bar:
        while len(theorems) < count:
            hyps, goal = draw_problem(rng)
            key = fingerprint(hyps, goal)
            if key in seen or not is_true(hyps, goal):
                continue
            seen.add(key)

            lines = shortest_proof(hyps, goal)
            if is_worth_learning(hyps, lines):
                theorems.append(as_theorem(f"toy_{len(theorems)}", hyps, goal, lines))
                bar.update()
    return theorems


def unseen(count):
    """The next theorems, which no file holds: what the tiny prover learns from."""
    return generate(sum(SPLITS.values()) + count)[-count:]


# --- the files
def row_of(theorem):
    """A theorem as a line of the files, with its proof's length and tactics."""
    lines = theorem.proof.split("\n")[1:]
    row = {name: getattr(theorem, name) for name in ("name", "statement", "proof")}
    tactics = {re.search(r"\w+", line)[0] for line in lines}
    return row | {"depth": len(lines), "tactics": sorted(tactics)}


def main():
    env = LeanEnv()
    print(env.describe())
    theorems = generate(sum(SPLITS.values()))
    verdicts = env.check([(theorem, theorem.proof) for theorem in theorems])
    for theorem, verdict in zip(theorems, verdicts):
        if verdict.status != "proved":
            sys.exit(f"nothing is written: Lean says of {theorem}: {verdict}")

    rows = map(row_of, theorems)
    for split, count in SPLITS.items():
        path = Path(f"toy/{split}.jsonl")
        chosen = itertools.islice(rows, count)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen]
        path.write_text("".join(lines), "utf-8")
        print(f"{path}: {len(lines)} theorems, every reference proved by Lean")


if __name__ == "__main__":
    main()
