"""The toy: provable theorems in real Lean text, and a prover whose Lean is out of date.

    python data/toy.py                    # writes toy_train.jsonl, toy_valid.jsonl, toy_test.jsonl (bit-identical every time)
    python data/toy.py --warm-up DIR      # also the tiny prover's warm-up data and an untrained prover; --variant mild, reasoning

A theorem is a random formula over a few propositions, some of which are facts about Nat. A truth table throws away what is
false, an iterative-deepening search finds the shortest proof in the tactics below, and Lean has the last word: a row whose
reference proof Lean does not accept is never written.

The warm-up data is what makes the task. Without feedback its proofs are written in Lean 3 (`assume`, `split`, `nat.add_comm`),
as by a prover trained on last decade's Lean; with feedback in the prompt that names the current words (`intro`,
`constructor`, `Nat.add_comm`), they are written in Lean 4. So the tiny prover knows the mathematics, does not know the
language it is judged in, and believes what it is told: what it lacks is exactly what feedback carries.
"""
import argparse
import itertools
import json
import random
import re
import sys
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from feedback import OUTDATED, make_feedback, tutor  # noqa: E402
from lean_env import LeanEnv, Rollout, Theorem, Verdict  # noqa: E402

SPLITS = {"test": 256, "valid": 256, "train": 4096, "warm": 32000}  # "warm" is the warm-up's own, never judged on
MIN_LINES, MAX_LINES = 2, 4  # tactic lines of the shortest proof

# --- formulas: ("p",) is an atom; ("and" | "or" | "imp" | "iff", A, B); ("not", A); ("nat", text, closing tactic) is a true fact
PRECEDENCE = {"iff": 20, "imp": 25, "or": 30, "and": 35}
SYMBOL = {"iff": "↔", "imp": "→", "or": "∨", "and": "∧"}
NAT_FACTS = [  # (statement, the tactic that closes it); exists and rfl have outdated twins, as have the lemma names
    ("{0} + {1} = {1} + {0}", "exact Nat.add_comm {0} {1}"), ("{0} * {1} = {1} * {0}", "exact Nat.mul_comm {0} {1}"),
    ("{0} + 0 = {0}", "exact Nat.add_zero {0}"), ("0 + {0} = {0}", "exact Nat.zero_add {0}"),
    ("{0} * 1 = {0}", "exact Nat.mul_one {0}"), ("1 * {0} = {0}", "exact Nat.one_mul {0}"),
    ("{0} ≤ {0}", "exact Nat.le_refl {0}"), ("0 ≤ {0}", "exact Nat.zero_le {0}"),
    ("{0} = {0}", "rfl"), ("{0} + {1} = {0} + {1}", "rfl"), ("∃ x : Nat, x = {0}", "exists {0}"),
]

def show(formula, outer=0):
    """Lean text of a formula, with the brackets that Lean's own precedences need."""
    kind = formula[0]
    if kind == "nat":
        return f"({formula[1]})" if outer == 50 or (outer and "∃" in formula[1]) else formula[1]
    if kind not in SYMBOL:
        return kind if kind != "not" else "¬" + show(formula[1], 50)
    level = PRECEDENCE[kind]
    right = level if kind != "iff" else level + 1  # ∧ ∨ → associate to the right, ↔ not at all
    text = f"{show(formula[1], level + 1)} {SYMBOL[kind]} {show(formula[2], right)}"
    return f"({text})" if outer > level else text

def atoms(formula):
    return {formula[0]} if len(formula) == 1 else set() if formula[0] == "nat" else set().union(*map(atoms, formula[1:]))

def holds(formula, world):
    """Truth value in a world {atom: bool}; a Nat fact is always true."""
    kind = formula[0]
    if len(formula) == 1 or kind == "nat":
        return world.get(kind, True)
    left = holds(formula[1], world)
    if kind == "not":
        return not left
    right = holds(formula[2], world)
    return {"and": left and right, "or": left or right, "imp": not left or right, "iff": left == right}[kind]

def random_formula(rng, size, facts):
    """A formula with `size` connectives over p, q, r and now and then a fact about Nat."""
    if size == 0:
        return rng.choice(facts) if facts and rng.random() < 0.3 else (rng.choice("pqr"),)
    kind = rng.choices(["imp", "and", "or", "not", "iff"], [5, 4, 4, 2, 1])[0]
    if kind == "not":
        return ("not", random_formula(rng, size - 1, [])) if size > 1 or rng.random() < 0.8 else ("not", ("p",))
    left = rng.randrange(size)
    parts = random_formula(rng, left, facts), random_formula(rng, size - 1 - left, facts)
    return (kind, *parts) if parts[0] != parts[1] else random_formula(rng, size, facts)  # `q ∨ q` teaches nothing

# --- the search: intuitionistic, goal-directed, the fewest tactic lines first
HYPOTHESES = "hgkmuvwyz"  # one letter each; p q r are propositions, a b numbers, x a bound variable

def fresh(hyps, n):
    """The first n unused hypothesis names, so that a name depends on the goal alone."""
    return [name for name in HYPOTHESES if name not in hyps][:n]

def closing(hyps, goal):
    """A single tactic that closes the goal, or None. hyps: {name: formula}."""
    if goal[0] == "nat":
        return goal[2]
    for name, fact in hyps.items():
        if fact == goal:
            return f"exact {name}"
    for name, fact in hyps.items():
        if fact[0] == "and" and goal in fact[1:]:
            return f"exact {name}.{'left' if fact[1] == goal else 'right'}"
        if (fact[0] == "imp" and fact[2] == goal) or (fact[0] == "not" and goal == ("False",)):
            for other, premise in hyps.items():
                if premise == fact[1]:
                    return f"exact {name} {other}"
    if ("False",) in hyps.values() or any(("not", fact) in hyps.values() for fact in hyps.values()):
        return "contradiction"
    return None

def moves(hyps, goal):
    """Every sensible next tactic: (line, [(hyps, goal), ...]) in a fixed order."""
    kind = goal[0]
    if kind in ("imp", "not"):
        (name,) = fresh(hyps, 1)
        yield f"intro {name}", [({**hyps, name: goal[1]}, goal[2] if kind == "imp" else ("False",))]
    if kind in ("and", "iff"):
        parts = goal[1:] if kind == "and" else [("imp", goal[1], goal[2]), ("imp", goal[2], goal[1])]
        yield "constructor", [(hyps, part) for part in parts]
    for name, fact in hyps.items():
        rest = {n: f for n, f in hyps.items() if n != name}
        if fact[0] == "and":
            one, two = fresh(hyps, 2)
            yield f"obtain ⟨{one}, {two}⟩ := {name}", [({**rest, one: fact[1], two: fact[2]}, goal)]
        if fact[0] == "or":
            one, two = fresh(hyps, 2)
            yield f"rcases {name} with {one} | {two}", [({**rest, one: fact[1]}, goal), ({**rest, two: fact[2]}, goal)]
    if kind == "or":
        yield "left", [(hyps, goal[1])]
        yield "right", [(hyps, goal[2])]
    for name, fact in hyps.items():
        if (fact[0] == "imp" and fact[2] == goal) or (fact[0] == "not" and goal == ("False",)):
            yield f"apply {name}", [(hyps, fact[1])]
    if kind != "False" and any(fact[0] == "not" for fact in hyps.values()):
        yield "exfalso", [(hyps, ("False",))]

def search(hyps, goal, budget):
    """The lines of a proof of at most `budget` tactics, or None. Bullets wherever a tactic leaves several goals."""
    line = closing(hyps, goal)
    if line or budget <= 1 or len(hyps) > len(HYPOTHESES) - 2:
        return [line] if line and budget >= 1 else None
    for line, goals in moves(hyps, goal):
        lines, left = [line], budget - 1
        for i, (sub_hyps, sub_goal) in enumerate(goals):
            proof = search(sub_hyps, sub_goal, left - (len(goals) - 1 - i))  # every later goal needs a line too
            if proof is None:
                break
            left -= len(proof)
            lines += proof if len(goals) == 1 else ["· " + proof[0], *("  " + text for text in proof[1:])]
        else:
            return lines
    return None

def canonical(formula, names):
    """The formula with its variables renamed in order of appearance: equal for statements that differ in names only."""
    if formula[0] == "nat":
        rename = lambda m: names.setdefault(m[0], f"n{len(names)}")  # noqa: E731
        return ("nat", re.sub(r"\b[ab]\b", rename, formula[1]))
    if len(formula) == 1:
        return (names.setdefault(formula[0], f"n{len(names)}"),)
    return (formula[0], *(canonical(part, names) for part in formula[1:]))

def generate(count, seed=0):
    """`count` different theorems with their shortest proofs: [{"name", "statement", "proof", "depth", "tactics"}, ...].

    Every statement declares `theorem t`: what tells them apart is "name", and a prover need not read a serial number."""
    rng, seen, rows = random.Random(seed), set(), []
    bar = tqdm(total=count, desc="theorems", disable=None)
    while len(rows) < count:
        facts = []
        if rng.random() < 0.5:
            text, tactic = rng.choice(NAT_FACTS)
            numbers = rng.sample("ab", 2)
            facts = [("nat", text.format(*numbers), tactic.format(*numbers))]
        hyps = {name: random_formula(rng, rng.randint(1, 2), []) for name in HYPOTHESES[: rng.randrange(3)]}
        goal = random_formula(rng, rng.randint(1, 3), facts)
        names = {}
        bar.update(len(rows) - bar.n)
        key = (tuple(canonical(h, names) for h in hyps.values()), canonical(goal, names))
        variables = sorted(set().union(atoms(goal), *map(atoms, hyps.values())))
        worlds = [dict(zip(variables, w)) for w in itertools.product((False, True), repeat=len(variables))]
        if key in seen or not all(holds(goal, w) or not all(holds(h, w) for h in hyps.values()) for w in worlds):
            continue
        seen.add(key)
        proof = next((p for n in range(1, MAX_LINES + 1) if (p := search(hyps, goal, n))), None)  # fewest lines first
        if proof is None or len(proof) < MIN_LINES or not outdated("\n".join(proof)):
            continue  # not provable without excluded middle, too short, or the same in both dialects
        if not any("contradiction" in line for line in proof) and any(not re.search(rf"\b{name}\b", "\n".join(proof)) for name in hyps):
            continue  # a hypothesis that nobody needs only makes the prompt longer
        numbers = sorted(set(re.findall(r"\b[ab]\b", show(goal))))
        binders = [f"({' '.join(v)} : {t})" for v, t in ((variables, "Prop"), (numbers, "Nat")) if v]
        binders += [f"({name} : {show(h)})" for name, h in hyps.items()]
        tactics = sorted({re.match(r"[·\s]*(\w+)", line)[1] for line in proof})
        rows.append({"name": f"toy_{len(rows)}", "statement": " ".join(["theorem t", *binders, ":", show(goal)]), "proof": "by\n" + "\n".join("  " + p for p in proof),
                     "depth": len(proof), "tactics": tactics})
    return rows

# --- the outdated dialect
STALE = {current: old for old, current in OUTDATED.items()}
WORD = re.compile(r"[A-Za-z_][\w.]*")

def outdated(proof):
    """The current names in a proof that have an outdated twin."""
    return [word for word in WORD.findall(proof) if word in STALE]

def dialect(proof, rng, stale):
    """The proof with each current name replaced by its outdated twin with probability `stale`, independently."""
    return WORD.sub(lambda m: STALE[m[0]] if m[0] in STALE and rng.random() < stale else m[0], proof)

# --- warm-up data: half without feedback in the outdated dialect, half with feedback, in the dialect that it names
VARIANTS = {"outdated": 0.98, "mild": 0.6, "reasoning": 0.0}  # share of outdated names when no feedback names the current ones
SLIP = 0.02  # a name now and then in the other dialect: what comes later must not depend on what was written before
KINDS = {"own": 50, "right": 20, "wrong": 15, "mixed": 15}  # what the attempts are like that feedback is about, see attempt()
IDLE = ["Think carefully.", "Be concise.", "1. Keep the proof short.", "Check every step before the next one."]

def corrupt(proof, rng, other):
    """A wrong attempt: one line lost, swapped for another theorem's, turned the other way, or cut short."""
    lines = proof.split("\n")[1:]
    i = rng.randrange(len(lines))
    how = rng.randrange(4)
    if how == 0:
        lines = lines[: max(i, 1)]
    elif how == 1:
        lines[i] = re.match(r"[·\s]*", lines[i])[0] + rng.choice(other.split("\n")[1:]).strip("· ")
    elif how == 2:
        turn = {"left": "right", "right": "left"}
        lines = [re.sub(r"\b(left|right)\b", lambda m: turn[m[0]], line) for line in lines]
    else:  # another hypothesis
        lines[i] = re.sub(r"\b[hgkm]\b", lambda m: rng.choice("hgkm"), lines[i])
    return "\n".join(["by", *lines])

def attempt(row, rng, other, kind):
    """What a prover may have written about this theorem. Kinds: own (outdated), right, wrong, mixed (half outdated)."""
    wrong = kind == "wrong" or (kind != "right" and rng.random() < 0.5)
    text = corrupt(row["proof"], rng, other) if wrong else row["proof"]
    return dialect(text, rng, {"own": 0.98, "right": 0.0, "wrong": 0.0, "mixed": 0.5}[kind])

def told_about(row, rng, other, source=None):
    """What the tutor, or another source, says after such an attempt; whatever differs from the reference counts as wrong."""
    text = attempt(row, rng, other, rng.choices(list(KINDS), list(KINDS.values()))[0])
    theorem = Theorem(row["name"], row["statement"], None, row["proof"])
    verdict = Verdict("proved" if text == row["proof"] else "rejected")
    rollout = Rollout(theorem, [], [], [], verdict, None, rng.random() > 0.03, text.partition("\n")[2])
    return source.write([rollout])[0] if source else tutor(rollout, rng.choices([4, 3, 2, 1], [7, 1, 1, 1])[0])

def warm_up(rows, stale, seed=1):
    """Warm-up rows {"name", "statement", "proof", "feedback"}: two of each theorem, shuffled."""
    rng, out, truth = random.Random(seed), [], make_feedback("truth")
    for row, other in zip(rows, rows[1:] + rows[:1]):
        plain = {"name": row["name"], "statement": row["statement"], "feedback": None, "proof": dialect(row["proof"], rng, stale)}
        if rng.random() < 0.1:  # feedback that names nothing changes nothing
            plain["feedback"] = rng.choice(IDLE)
        told = {**plain, "proof": dialect(row["proof"], rng, SLIP)}
        told["feedback"] = told_about(row, rng, other["proof"], truth if rng.random() < 0.1 else None)
        out += [plain, told]
    rng.shuffle(out)
    return out

def untrained(folder, texts, width=128, layers=4, heads=4, vocab=512):
    """An untrained tiny Llama and its tokenizer (byte-level BPE: any text can be encoded) in `folder`."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"\n *| ?[\p{L}_][\p{L}_.]*|\p{N}| ?[^\s\p{L}\p{N}]+| ")  # a word, a digit, a symbol, a newline with its indent
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<pad>", "<eos>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=heads,
        max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0)).save_pretrained(folder)

def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

def ship(run: Path):
    """Copy a warm-up run's prover to data/tiny in half precision."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(run / "ckpt" / "student", dtype="float16").save_pretrained(HERE / "tiny")
    AutoTokenizer.from_pretrained(run / "ckpt" / "student").save_pretrained(HERE / "tiny")
    print(f"{HERE / 'tiny'}: {sum(f.stat().st_size for f in (HERE / 'tiny').iterdir()) / 2**20:.1f} MiB")

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--warm-up", type=Path, help="also write the warm-up data and an untrained tiny prover here")
    parser.add_argument("--variant", choices=VARIANTS, default="outdated", help="how outdated the warm-up's proofs are")
    parser.add_argument("--ship", type=Path, help="only copy the prover of this warm-up run to data/tiny")
    args = parser.parse_args()
    if args.ship:
        return ship(args.ship)

    sizes = {split: size for split, size in SPLITS.items() if split != "warm" or args.warm_up}
    rows = generate(sum(sizes.values()))
    ends = list(itertools.accumulate(sizes.values()))
    splits = {split: rows[end - sizes[split] : end] for split, end in zip(sizes, ends)}
    env = LeanEnv()
    print(env.describe())
    for split in ("test", "valid", "train"):
        verdicts = env.check([(Theorem(r["name"], r["statement"], None, r["proof"]), r["proof"]) for r in splits[split]])
        bad = [(r, v) for r, v in zip(splits[split], verdicts) if v.status != "proved"]
        if bad:
            sys.exit(f"{split}: Lean does not accept {len(bad)} reference proofs; nothing more is written. The first:\n{bad[0]}")
        write_jsonl(HERE / f"toy_{split}.jsonl", splits[split])
        print(f"{HERE / f'toy_{split}.jsonl'}: {len(splits[split])} theorems, every reference proved by Lean")
    if args.warm_up:
        args.warm_up.mkdir(parents=True, exist_ok=True)
        data = warm_up(splits["warm"], VARIANTS[args.variant])
        write_jsonl(args.warm_up / "warm_up.jsonl", data)
        untrained(args.warm_up / "untrained", [f"/- {r['feedback']} -/\n{r['statement']} := {r['proof']}" for r in data])
        print(f"{args.warm_up}: {len(data)} warm-up proofs and an untrained prover")

if __name__ == "__main__":
    main()
