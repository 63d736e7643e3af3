"""Theorems from elsewhere: other people's jsonl files, three sets on the hub, and what is checked before they are used.

    --data some.jsonl                       # the house format, or the field names of the common sets
    --data minif2f | proofnet | lean-workbook
    --data hub:OWNER/NAME@COMMIT:FILE       # any json or jsonl file of a data set on the Hugging Face hub

Every row becomes {"name", "statement", "header", "proof", ...}: the statement goes from `theorem` up to, not including, the `:=`
that starts its proof. data/README.md says where the sets come from and what is wrong with them.
"""
import hashlib
import json
import re
import textwrap
from pathlib import Path

from lean.guard import CHEAT, COMMAND
from lean.text import CLOSING, OPENING, split_statement, tokens
from lean_env import Theorem

# Where a set lies on the hub: OWNER/NAME@COMMIT:FILE, `{split}` is valid or test. No hash could be found for proofnet's: it is
# whatever `main` is on the day; which commit that was is printed, to be pinned with hub:...
HUB = {
    "minif2f": "Tonic/MiniF2F@3a5dceb842b916345a4d7bb7dc4c4c1dbd4b98aa:minif2f.jsonl",
    "lean-workbook": "internlm/Lean-Workbook@2e066e310b2c6d2c27616927ae131f82901c8f1c:lean_workbook.json",
    "proofnet": "UDACA/proofnet-lean4@main:proofnet/{split}.jsonl",
}
# Lean-Workbook's statements come without one; this is the header that provers were trained with (DeepSeek-Prover-V1.5, Goedel).
WORKBOOK_HEADER = "import Mathlib\nimport Aesop\n\nset_option maxHeartbeats 400000\n\nopen BigOperators Real Nat Topology Rat\n"
# Our name of a field -> theirs, the first that a row has. A statement in words (`statement` beside `formal_statement`) loses.
FIELDS = {
    "statement": ("formal_statement", "lean4_formalization", "statement", "full_proof"),
    "header": ("header", "lean4_src_header"),
    "proof": ("proof", "formal_proof", "full_proof"),
    "name": ("name", "problem_id", "theorem_name", "id", "uuid"),
    "feedback": ("feedback",),
}
# What starts a command when it stands at the margin: the words of lean_env.py that are no tactics.
COMMANDS = (COMMAND | CHEAT) - set("exact? apply? rw? try? hint observe? sorry admit stop native_decide run_tac by_elab".split())
# A line that ends with one of these goes on in the next, one that begins so goes on from the last.
UNFINISHED = set("by with from using at fun := => , | = + - / ∧ ∨ → ↔ ≠ ≤ ≥ ∈ ∘ $ :".split())  # not `<;>`, which may stand at any column
SPLITS = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


def split_theorem(text):
    """Lean text -> (header, statement, rest): what stands before the last theorem, that theorem up to the `:=` of its proof, what
    follows the `:=` up to the next command (None without one). A `:=` in a binder or of a `let` is not it; comments at the seams are
    dropped. ValueError when there is no theorem, or a bracket, comment or string is left open.

    >>> split_theorem("open Nat\\n/-- one -/\\ntheorem t (n : Nat := 3) : let m := n; m = m := by sorry")
    ("open Nat\\n", "theorem t (n : Nat := 3) : let m := n; m = m", " by sorry")
    """
    found, ok = tokens(text)
    depth, lets, start, cut = 0, 0, None, None
    for i, (word, _) in enumerate(found):
        depth += (word in OPENING) - (word in CLOSING)
        if depth == 0 and word in ("theorem", "lemma"):
            start, cut, lets = i, None, 0
        elif depth == 0 and word in ("let", "letI", "have", "haveI") and cut is None:
            lets += 1
        elif depth == 0 and word == ":=" and cut is None and start is not None:
            lets, cut = (lets - 1, None) if lets else (0, i)
    if start is None or not ok:
        raise ValueError("no `theorem` in it" if start is None else "a bracket, comment or string in it is not closed")
    stop = next((i for i in _commands(text, found) if i > start), None)  # `end X`, `#print axioms t`, the next definition
    cut = None if stop and cut and cut > stop else cut
    header, statement = _code(text, found, 0, start), _code(text, found, start, next(i for i in (cut, stop, len(found)) if i is not None))
    # Attributes and modifiers belong to the declaration, which we write ourselves; a docstring may stand before them.
    header = re.sub(r"((@\[[^\]]*\]|\b(private|protected|noncomputable|nonrec))\s*)+\Z", "", header)
    header = _code(header, tokens(header)[0], 0, len(tokens(header)[0]))
    header = re.sub(r"\s+in(?=(\n[^\n]*\sin)*\s*\Z)", "", header)  # `open X in` before it: what follows is ours, so it must hold on
    split_statement(statement)
    rest = None if cut is None else text[found[cut][1] + 2:] if stop is None else _code(text, found, cut + 1, stop)
    return header.rstrip() + "\n" * bool(header.strip()), statement, rest


def _commands(text, found):
    """Numbers of the tokens at the margin that start a command, docstring or not; len(found) for a `/-! -/` behind the last one."""
    depth, end = 0, 0
    for i, (word, at) in enumerate([*found, ("", len(text))]):
        gap = "\n" * (end == 0) + text[end:at]  # what lies between two tokens: spaces, comments, strings
        margin = re.search(r"\n(/-.*-/\s*)?\Z", gap, re.S)
        if depth == 0 and margin and (word in COMMANDS or re.match(r"#\w", word) or text[at:at + 2] == "@[" or re.search(r"\n/-[-!]", gap)):
            yield i
        depth, end = depth + (word in OPENING) - (word in CLOSING) if word else depth, at + len(word)


def _code(text, found, first, end):
    """The text of tokens `first` to `end` without the comments around it; a docstring left before our own text would not parse."""
    if first == end:
        return ""
    last, at = found[end - 1]
    tail = text[at + len(last):found[end][1] if end < len(found) else len(text)]
    tail = tail if tokens(tail)[1] and re.search(r'^\s*["\']', tail) else ""  # a string literal is no token, and no comment
    return text[found[first][1]:at + len(last)] + tail.rstrip() + "\n" * ("--" in tail)


def proof_term(proof, bare):
    """What sets call a proof -> a whole term, None for a stub. It may be a term, with its `:=` or without, a theorem with its proof (a
    file, perhaps), or, with `bare`, the tactics that follow `:= by`."""
    found = tokens(proof)[0]
    words = [word for word, _ in found]
    if words[:1] not in (["by"], [":="]) and ("theorem" in words or "lemma" in words):
        try:
            term = split_theorem(proof)[2]
        except ValueError:
            return None  # the statement is good all the same
    else:
        stop = next((i for i in _commands(proof, found) if i), None)
        term = proof if stop is None else _code(proof, found, 0, stop)
        if words[:1] == [":="]:
            term = term.strip()[2:]
        elif words[:1] != ["by"] and bare:
            term = _by(term)
    return None if term is None or _is_stub(term) else term.strip()


def _by(tactics):
    """Tactics without their `by` -> the term. Sets strip such a text, which moves its first line only: that goes back to where the
    others stand, unless these are the rest of the first tactic.

    >>> _by("constructor\\n  · exact a\\n  · exact b"), _by("refine ⟨a,\\n  b⟩")
    ("by\\n  constructor\\n  · exact a\\n  · exact b", "by\\n  refine ⟨a,\\n    b⟩")
    """
    text, firsts = tactics.expandtabs(), {}
    found = tokens(text)[0]
    words = [word for word, _ in found]
    for i, (_, at) in enumerate(found):
        firsts.setdefault(text.count("\n", 0, at), (at - text.rfind("\n", 0, at) - 1, i))
    (column, _), *later = firsts.values() or [(0, 0)]  # (column, token) where a line of code begins
    if later:
        (second, i), margin = later[0], min(later)[0]
        depth = sum((word in OPENING) - (word in CLOSING) for word in words[:i])
        goes_on = second == margin and (depth or words[i - 1] in UNFINISHED or words[i] in UNFINISHED or words[i] in "_([⟨")
        goes_on = goes_on or words[0] in ("exact", "calc")  # which leave no goal to another tactic
        column = margin if column > margin or not goes_on else column
    text = " " * column + text[found[0][1] if found else 0:]
    return "by\n" + textwrap.indent(textwrap.dedent(text.rstrip()), "  ")


def _is_stub(rest):
    words = [word for word, _ in tokens(rest)[0]]
    return words[:1] in ([], ["sorry"]) or words == ["by"] or words[:2] in (["by", "sorry"], ["by", "admit"])


def read_row(row, default_header=None):
    """A row in anybody's field names -> in ours; other fields are kept. ValueError says what is wrong with it."""
    ours = {}
    for field, theirs in FIELDS.items():
        value = next((row[name] for name in theirs if row.get(name) not in (None, "", [])), None)
        if field == "proof" and isinstance(value, list):  # Lean-Workbook: every proof that was found
            value = value[0]
        if field == "name" and isinstance(value, int):
            value = str(value)
        if not isinstance(value, (str, type(None))) or field == "statement" and value is None:
            raise TypeError(f'the field "{field}" is missing or not a text')
        ours[field] = value
    header, statement, rest = "", ours["statement"], None
    if not re.match(r"theorem (?!.*(:=|--|/-))", statement, re.S):  # not the house's bare statement
        header, statement, rest = split_theorem(statement)
    theirs = ours["header"] or default_header and default_header.strip()
    if "import" in (word for word, _ in tokens(header)[0]) or theirs and header.startswith(theirs.strip() + "\n"):
        theirs = None  # the statement brings its own (Goedel-V2's miniF2F has it in both fields)
    ours["header"] = "\n".join(filter(None, (theirs, header))) or None
    ours["statement"], ours["name"] = statement, ours["name"] or tokens(statement)[0][1][0]
    if ours["proof"]:
        ours["proof"] = proof_term(ours["proof"], bare=rest is not None)
    elif rest is not None and not _is_stub(rest):
        ours["proof"] = rest.strip()
    return {k: v for k, v in (row | ours).items() if v is not None}


def load(data, split):
    """The rows of `data` (see above) for `split`. Prints one line about what was left out, one about duplicates. ValueError names
    the file, the line and the field."""
    spec = HUB.get(data) or data.removeprefix("hub:") if data in HUB or data.startswith("hub:") else None
    path = _download(data, spec.format(split=split if split != "train" else "valid")) if spec else Path(data)
    if not path.is_file():
        raise ValueError(f"--data {data}: there is no file {path}. Give `toy`, {', '.join(f'`{name}`' for name in HUB)} "
                         "or the path of a jsonl file.")
    rows, bad = [], []
    for number, row in _objects(path):
        if data == "lean-workbook" and not row.get("proof"):
            continue  # nine of ten, see workbook_split
        try:
            rows.append(read_row(row, WORKBOOK_HEADER if data == "lean-workbook" else None))
        except TypeError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        except ValueError as error:
            bad.append(f"{row.get('name', row.get('id', f'line {number}'))} ({error})")
    if bad and not rows:
        raise ValueError(f"{path}: no row holds a theorem; the first is {bad[0]}")
    if not rows:
        raise ValueError(f"{path}: the file holds no theorem")
    rows = workbook_split(rows, split) if data == "lean-workbook" else pick_split(rows, split, path)
    keys = [key(row["statement"]) for row in rows if not row.get("feedback")]  # with feedback, a theorem may come once for each
    twice = len(keys) - len(set(keys))
    if bad:
        print(f"{data}: {len(bad)} rows hold no readable theorem and are left out: {'; '.join(bad[:5])}{' ...' * (len(bad) > 5)}")
    if twice:
        print(f"{data}: {twice} of {len(rows)} {split} statements repeat another one, names apart")
    return rows


def _objects(path):
    """(line number, object) of a jsonl file, or (place, object) of a json file that holds one list."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): a jsonl or json file is expected") from None
    if path.suffix == ".json" and text.lstrip().startswith("["):
        try:
            numbered = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
    else:
        numbered = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                numbered += [(number, json.loads(line))] if line.strip() else []
            except ValueError:
                raise ValueError(f"{path}, line {number}: not a JSON object; one object per line is expected") from None
    for number, row in numbered:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object; one object per line is expected")
    return numbered


def _download(data, spec):
    """The file that "OWNER/NAME@COMMIT:FILE" names, from the hub or its cache. ValueError, one line, when it cannot be had."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w./-]+):(.+)", spec)
    if not match:
        raise ValueError(f"--data {data}: write hub:OWNER/NAME@COMMIT:FILE, for example hub:{HUB['minif2f']}")
    repo, commit, file = match.groups()
    if not file.endswith((".json", ".jsonl")):
        raise ValueError(f"--data {data}: only .json and .jsonl files can be read, {file} is neither")
    from huggingface_hub import hf_hub_download
    try:
        path = Path(hf_hub_download(repo, file, repo_type="dataset", revision=commit))
    except Exception as error:  # no network, no such commit or file, a private set: the hub's own classes differ by version
        raise ValueError(f"--data {data}: {repo} ({file} at {commit}) is not in the hub's cache and cannot be downloaded "
                         f"({type(error).__name__}). Run it once with a network, or give the path of a jsonl file.") from None
    if not re.fullmatch("[0-9a-f]{40}", commit):
        print(f"{data}: {repo} at {commit}, which is {path.parts[path.parts.index('snapshots') + 1]} today; pin it with hub:...")
    return path


def pick_split(rows, split, path):
    """The rows of `split`, where rows say which they belong to; all rows where none does. Evaluation sets are not trained on."""
    there = {SPLITS[str(row["split"]).lower()] for row in rows if str(row.get("split")).lower() in SPLITS}
    if not there:
        return rows
    if split not in there:
        raise ValueError(f"{path} has no {split} rows, only {' and '.join(sorted(there))}"
                         + (": it is for evaluation, train on something else (lean-workbook)" if split == "train" else ""))
    return [row for row in rows if SPLITS.get(str(row.get("split")).lower()) == split]


def workbook_split(rows, split, held_out=256):
    """Lean-Workbook has no train and test of its own. Ours: the statements with a published proof, each once; by a hash of the
    problem in words, so that two readings of one problem stay together, the first 256 problems are test, 256 more valid."""
    problems = {}
    for row in {key(row["statement"]): row for row in rows if row.get("proof")}.values():
        words = row.get("natural_language_statement", row["name"])
        problems.setdefault(hashlib.sha256(words.encode()).hexdigest(), []).append(row)
    places = {"test": (0, held_out), "valid": (held_out, 2 * held_out), "train": (2 * held_out, None)}
    return [row for digest in sorted(problems)[slice(*places[split])] for row in problems[digest]]


def key(statement):
    """What two statements share when they differ in name, spaces and comments only."""
    return " ".join(word for word, _ in tokens(statement)[0][2:])


def complaints(env, theorems):
    """Of each statement: Lean's first error when its proof is `sorry`, or None. ValueError when Lean itself fails on all of them."""
    verdicts = env.check([(t, "sorry") for t in theorems], sketch=True)  # here `sorry` must reach Lean
    if verdicts and all(v.status in ("timeout", "crash") for v in verdicts):
        raise ValueError(f"Lean failed ({verdicts[0].status}) on every statement: try a longer --lean-timeout or another --lean")
    errors = [[" ".join(m["data"].split()) for m in v.messages if m["severity"] == "error"] for v in verdicts]
    return [None if v.status in ("proved", "cheat") else (said or [f"no answer from Lean: {v.status}"])[0]
            for v, said in zip(verdicts, errors)]


def unreadable(env, theorems):
    """{name: Lean's first error} of the statements that do not compile in `env` with `sorry` as their proof."""
    return {t.name: said for t, said in zip(theorems, complaints(env, theorems)) if said}


def screen(env, rows, others=()):
    """`rows` to train on and the held-out `others` (dicts or Theorems) without the statements that this Lean cannot read; these are
    named, and statements that stand in both are counted. Costs one short Lean check per statement."""
    theorems = [r if isinstance(r, Theorem) else Theorem(r["name"], r["statement"], r.get("header")) for r in (*rows, *others)]
    said = complaints(env, theorems)
    bad = [f"{t.name}: {text[:100]}" for t, text in zip(theorems, said) if text]
    if bad:
        print(f"{len(bad)} of {len(said)} statements do not compile with `sorry` here and are left out:", "; ".join(bad[:10]),
              "..." * (len(bad) > 10), flush=True)
    parts = [[r for r, text in zip(part, texts) if not text] for part, texts in ((rows, said), (others, said[len(rows):]))]
    if not parts[0] or len(others) and not parts[1]:
        raise ValueError(f"none of the statements compiles here, the first says `{bad[0]}`: it may want another Lean or Mathlib")
    if others:
        report_overlap(*parts)
    return parts


def report_overlap(rows, others):
    """One line when statements of `rows` (trained on: rows, or the --data that they came from) stand in `others` (held out) as well,
    names apart."""
    if isinstance(rows, str):
        try:
            rows = load(rows, "train")
        except ValueError as error:
            return print(f"warning: nobody can say whether the run was trained on these theorems: {error}")
    statements, held_out = ([key(r.statement if isinstance(r, Theorem) else r["statement"]) for r in part] for part in (rows, others))
    shared = len(set(statements) & set(held_out))
    if shared:
        print(f"warning: {shared} of the {len(set(statements))} different training statements are also among the {len(held_out)} "
              "held-out ones", flush=True)
