"""Other people's rows: their field names, and their ways to write a statement and a proof.

Every row becomes a Theorem, whose statement goes from `theorem` up to, not including, the `:=`
that starts its proof.
"""

import json
import re
import textwrap

from lean.source import code, next_command, split_theorem
from lean.text import step, tokens, words
from lean_env import Theorem

# Our name of a field -> theirs, the first that a row has. A statement in words (`statement`
# beside `formal_statement`) loses.
FIELDS = {
    "statement": "formal_statement lean4_formalization statement full_proof",
    "header": "header lean4_src_header",
    "proof": "proof formal_proof full_proof",
    "name": "name problem_id theorem_name id uuid",
    "feedback": "feedback",
}
SPLITS = {"training": "train", "validation": "valid", "val": "valid", "dev": "valid"}
# A line that ends with one of these goes on in the next, one that begins so goes on from the
# last. Not `<;>`, which may stand at any column.
UNFINISHED = set("by with from using at fun := => , | = + - / ∧ ∨ → ↔ ≠ ≤ ≥ ∈ ∘ $ :".split())


# --- files
def read_objects(path):
    """(line number, object) of a jsonl file, or (place, object) of a json file with one
    list."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): "
            "a jsonl or json file is expected"
        ) from None

    if path.suffix == ".json" and text.lstrip().startswith("["):
        try:
            numbered = list(enumerate(load(text), 1))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
    else:
        lines = enumerate(text.split("\n"), 1)
        numbered = [(number, parse(line)) for number, line in lines if line.strip()]

    for number, row in numbered:
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, line {number}: not a JSON object; one object per line is expected"
            )
    return numbered


def load(text):
    """A JSON value. NaN, which pandas writes where a field is missing, is read as null."""
    return json.loads(text, parse_constant={}.get)


def parse(line):
    """The JSON value of a line, or None."""
    try:
        return load(line)
    except (ValueError, RecursionError):
        return None


def pick_split(entries, split, path):
    """The theorems of `split`, where rows say which they belong to; all of them where none
    does. Evaluation sets are not trained on. entries: [(row, theorem), ...]."""
    theirs = [str(row.get("split")).lower() for row, _ in entries]
    belongs = [SPLITS.get(name, name) for name in theirs]
    there = {"train", "valid", "test"}.intersection(belongs)
    if there and split not in there:
        found = " and ".join(sorted(there))
        advice = ""
        if split == "train":
            advice = ": it is for evaluation, train on something else (lean-workbook)"
        raise ValueError(f"{path} has no {split} rows, only {found}{advice}")
    return [theorem for (_, theorem), its in zip(entries, belongs) if its == split or not there]


def read_theorem(row):
    """A row in anybody's field names -> Theorem. TypeError names a field that is missing or no
    text, ValueError says why the statement cannot be read."""
    ours = {field: read_field(row, field) for field in FIELDS}
    header, statement, rest = "", unfenced(ours["statement"]), None
    if not re.match(r"theorem (?!.*(:=|--|/-))", statement, re.S):  # bare in our own files
        header, statement, rest = split_theorem(statement)

    theirs = ours["header"]
    # A statement may bring its own header (Goedel-V2's miniF2F has it in both fields).
    repeats = theirs and header.startswith(theirs.strip() + "\n")
    if repeats or "import" in words(header):
        theirs = None
    header = "\n".join(filter(None, (theirs, header))) or None

    if ours["proof"]:
        proof = proof_term(unfenced(ours["proof"]), bare=rest is not None)
    else:
        proof = unless_stub(rest)
    name = ours["name"] or words(statement)[1]
    return Theorem(name, statement, header, proof, ours["feedback"])


def read_field(row, field):
    """The text of one of our fields, or None where the row has none."""
    names = [name for name in FIELDS[field].split() if row.get(name) not in (None, "", [])]
    value = row[names[0]] if names else None
    # Lean-Workbook has every proof that was found.
    if field == "proof" and isinstance(value, list):
        value = value[0]
    if field == "name" and isinstance(value, int):
        value = str(value)

    if not isinstance(value, str) and (value is not None or field == "statement"):
        raise TypeError(f'the field "{field}" is missing or not a text')
    return value


# --- Lean text
def unfenced(text):
    """What stands in the last Markdown fence of a text, which may be in a chat's answer; the text
    where there is none. In a comment a fence is part of Lean's text."""
    blocks = re.findall(r"```\w*\s*?\n(.*?)(?:```|\Z)", text, re.S)
    return blocks[-1] if blocks and "```" in "".join(words(text)) else text


def key(statement):
    """What two statements share when they differ in name, spaces and comments only."""
    return " ".join(words(statement)[2:])


def proof_term(proof, bare):
    """What sets call a proof -> a whole term, None for a stub. It may be a term, with its `:=`
    or without, a theorem with its proof (a file, perhaps), or, with `bare`, the tactics that
    follow `:= by`."""
    found = tokens(proof)[0]
    opens = found[0][0] if found else ""
    is_theorem = not {"theorem", "lemma"}.isdisjoint(words(proof))
    if is_theorem and opens not in ("by", ":="):
        try:
            term = split_theorem(proof)[2]
        except ValueError:
            return None  # the statement is good all the same
    else:
        stop = next_command(proof, found, 0)
        term = code(proof, found, 0, stop) if stop else proof
        if opens == ":=":
            term = term.partition(":=")[2]
        elif opens != "by" and bare:
            term = by(term)
    return unless_stub(term)


def unless_stub(term):
    """The term, or None where there is none or only a `sorry`."""
    start = words(term or "")[:2]
    stubs = ([], ["by"], ["by", "sorry"], ["by", "admit"])
    is_stub = start in stubs or start[0] == "sorry"
    return None if is_stub else term.strip()


def by(tactics):
    """Tactics without their `by` -> the term. Sets strip such a text, which moves its first
    line only: that goes back to where the others stand, unless these are the rest of the first
    tactic.

    >>> by("constructor\\n  · exact a\\n  · exact b"), by("refine ⟨a,\\n  b⟩")
    ("by\\n  constructor\\n  · exact a\\n  · exact b", "by\\n  refine ⟨a,\\n    b⟩")
    """
    text = tactics.expandtabs()
    found = tokens(text)[0]
    if not found:
        return "by\n"

    lines = {}  # number of a line of code -> (its column, the number of its first token)
    for i, (_, at) in enumerate(found):
        column = at - text.rfind("\n", 0, at) - 1
        lines.setdefault(text.count("\n", 0, at), (column, i))
    (column, _), *later = lines.values()

    if later:
        said = words(text)
        second, i = later[0]
        margin, _ = min(later)
        in_brackets = sum(map(step, said[:i])) != 0
        unfinished = {said[i - 1], said[i]} & UNFINISHED or said[i] in "_([⟨"
        goes_on = second == margin and (in_brackets or unfinished)
        goes_on = goes_on or said[0] in ("exact", "calc")  # no goal is left to another tactic
        if column > margin or not goes_on:
            column = margin
    text = " " * column + text[found[0][1] :]
    return "by\n" + textwrap.indent(textwrap.dedent(text.rstrip()), "  ")
