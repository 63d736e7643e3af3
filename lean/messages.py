"""Lean's messages: dicts of `severity`, `line` (from 1), `column` (from 0), `data` and, as Lean
gives them, `kind`."""

import re


def error(data, before=""):
    """A message of ours about the place behind the text `before`."""
    lines = before.split("\n")
    return {"severity": "error", "line": len(lines), "column": len(lines[-1]), "data": data}


def is_error(message):
    return message["severity"] == "error"


def has_error(messages):
    return any(map(is_error, messages))


def as_prover_reads(message, job, place):
    """A message with its place in what the prover wrote, without our own names and words."""
    lines = job.shown.split("\n")
    line, column = message["line"] - place.text[0] + 1, message["column"]
    if line > len(lines):  # Lean met the end of the prover's text, at our next word
        line, column = len(lines), len(lines[-1])

    data = message["data"]
    rest = [lines[line - 1][column:], *lines[line:]]
    if not "".join(rest).strip():
        data = re.sub(r"unexpected token '(example|theorem|end)'", "unexpected end of input", data)
    if f"`{place.name}`" in data:
        data = "something is left open at the end"
    data = data.replace(f"{place.name}.", "")[:4000]
    said = dict(message, line=line, column=column, data=data)
    del said["kind"]
    return said


def outside(messages, first):
    """What Lean says before the first job begins, at line `first`, as messages of ours: errors
    of the header, and (line 0) what was printed that is no message."""
    found = []
    for message in messages:
        if message["line"] == 0:
            found.append(error(message["data"]))
        elif message["line"] < first and is_error(message):
            found.append(error(f"before the theorem: {message['data']}"[:4000]))
    return found


def in_a_line(messages):
    """What messages say, on one line of 300 characters at most."""
    return " ".join(" ".join(message["data"] for message in messages).split())[:300]


def axioms_in(answer):
    """The axioms that an answer of `#print axioms` names; None for any other text."""
    if answer.endswith("' does not depend on any axioms"):
        return []
    return re.findall(r"[^\s\[\],]+", answer.partition("' depends on axioms: ")[2]) or None
