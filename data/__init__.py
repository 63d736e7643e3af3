"""Where theorems come from: the toy, anybody's jsonl file, a set on the Hugging Face hub.

    load_theorems("toy", "valid")                   # the toy's validation theorems
    load_theorems("some.jsonl")                     # our field names, or those of common sets
    load_theorems("minif2f", "test")                # also proofnet, lean-workbook
    load_theorems("hub:OWNER/NAME@COMMIT:FILE")     # any json or jsonl file of a set on the hub

data/README.md says where the sets come from and what is wrong with them.
"""

from dataclasses import replace
from pathlib import Path

from data import hub
from data.formats import key, pick_split, read_objects, read_theorem
from lean.guard import ALLOWED_AXIOMS
from lean.messages import in_a_line, is_error
from lean.text import split_statement, words

TOY = Path(__file__).resolve().parent.parent / "toy"


def load_theorems(name, split="train"):
    """The theorems of `name` for `split`. Prints one line about what was left out and one about
    duplicates. ValueError names the file, the line and the field."""
    if split not in ("train", "valid", "test"):
        raise ValueError(f"--split must be train, valid or test, not {split}")
    path = TOY / f"{split}.jsonl" if name == "toy" else hub.find(name, split)
    is_workbook = name == "lean-workbook"

    entries = []  # (row, theorem)
    bad = []  # what is wrong with the others
    for line, row in read_objects(path):
        if is_workbook:
            if not row.get("proof"):
                continue  # nine of ten, see hub.workbook_split
            row = {"header": hub.WORKBOOK_HEADER, **row}
        try:
            entries.append((row, read_theorem(row)))
        except TypeError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        except ValueError as error:
            bad.append(f"{row.get('name', row.get('id', f'line {line}'))} ({error})")
    if not entries:
        found = "the file holds no theorem"
        if bad:
            found = f"no row holds a theorem; the first is {bad[0]}"
        raise ValueError(f"{path}: {found}")

    if is_workbook:
        theorems = hub.workbook_split(entries, split)
    else:
        theorems = pick_split(entries, split, path)
    # With feedback, a theorem may come once for each.
    keys = [key(theorem.statement) for theorem in theorems if not theorem.feedback]
    twice = len(keys) - len(set(keys))

    if bad:
        print(
            f"{name}: {len(bad)} rows hold no readable theorem and are left out: {first(5, bad)}"
        )
    if twice:
        print(
            f"{name}: {twice} of {len(theorems)} {split} statements repeat another one, names apart"
        )
    return theorems


def first(most, texts):
    """The first texts in a line, and dots for others."""
    return "; ".join(texts[:most]) + (" ..." if len(texts) > most else "")


def complaints(env, theorems):
    """Of each statement: None, or why nobody can prove it: Lean's first error when it reads it,
    or what it rests on, a `sorry` of its header perhaps. ValueError when Lean itself fails on all
    of them."""
    said = [unasked(env, theorem) for theorem in theorems]
    asked = [i for i, why in enumerate(said) if why is None]
    verdicts = env.check([(saying_nothing(theorems[i]), "Or.inl True.intro") for i in asked])
    if verdicts and not any(verdict.judged for verdict in verdicts):
        raise ValueError(
            f"Lean failed ({verdicts[0].status}) on every statement: "
            f"try a longer --lean-timeout or another --lean. {in_a_line(verdicts[0].messages)}"
        )

    for i, verdict in zip(asked, verdicts):
        errors = [m["data"] for m in verdict.messages if is_error(m)]
        if verdict.status == "cheat":
            foreign = sorted(set(verdict.axioms) - ALLOWED_AXIOMS)
            if "sorryAx" in foreign or not foreign:
                foreign = ["a `sorry`"]
            errors = [f"it rests on {', '.join(foreign)}"]
        errors.append(f"no answer from Lean: {verdict.status}")
        said[i] = None if verdict.status == "proved" else " ".join(errors[0].split())
    return said


def unasked(env, theorem):
    """Why Lean cannot even be asked about a statement (no type, an import of a library that is
    not there), or None."""
    try:
        env.job(saying_nothing(theorem), "")
    except ValueError as error:
        return str(error)


def saying_nothing(theorem):
    """A theorem that mentions the statement of another and is true whatever that says."""
    name, universes, binders, type_ = split_statement(theorem.statement)
    claim = f"∀ {binders}\n, {type_}" if words(binders) else type_
    statement = f"theorem {name}{universes} : True ∨ ({claim}\n)"
    return replace(theorem, statement=statement)


def screen(env, theorems, valid=()):
    """Both lists without the statements that this Lean cannot read; these are named, and
    statements that stand in both are counted. -> (theorems, valid). Costs one short check each.
    """
    everything = [*theorems, *valid]
    errors = dict(zip(everything, complaints(env, everything)))
    bad = [f"{t.name}: {errors[t][:100]}" for t in everything if errors[t]]
    if bad:
        print(
            f"{len(bad)} of {len(everything)} statements cannot be proved here "
            f"and are left out: {first(10, bad)}"
        )

    good = [theorem for theorem in theorems if not errors[theorem]]
    good_valid = [theorem for theorem in valid if not errors[theorem]]
    if not good or (valid and not good_valid):
        raise ValueError(
            f"none of the statements can be proved here, the first says `{bad[0]}`: "
            "it may want another Lean or Mathlib"
        )
    warn_of_overlap(good, good_valid)
    return good, good_valid


def report_overlap(train_name, theorems):
    """One line when a run on `train_name` was trained on some of these held-out theorems."""
    try:
        trained = load_theorems(train_name)
    except ValueError as error:
        print(f"warning: nobody can say whether the run was trained on these theorems: {error}")
    else:
        warn_of_overlap(trained, theorems)


def warn_of_overlap(trained, held_out):
    """One line when statements stand in both lists, names apart."""
    statements = {key(theorem.statement) for theorem in trained}
    shared = statements & {key(theorem.statement) for theorem in held_out}
    if shared:
        print(
            f"warning: {len(shared)} of the {len(statements)} different training statements "
            f"are also among the {len(held_out)} held-out ones"
        )
