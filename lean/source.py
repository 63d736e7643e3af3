"""Other people's Lean text: where in a file its theorem stands, and what stands around it."""

import re
from itertools import accumulate

from lean.guard import CHEAT, COMMAND
from lean.text import split_statement, step, tokens

STARTS = ("theorem", "lemma")
# What starts a command when it stands at the margin: the guard's words that are no tactics.
TACTICS = "exact? apply? rw? try? hint observe? sorry admit stop native_decide run_tac by_elab"
COMMANDS = (COMMAND | CHEAT) - set(TACTICS.split())


def split_theorem(text, name=None):
    """Lean text -> (header, statement, rest): what stands before the theorem `name` (None: the
    last), that theorem up to the `:=` of its proof, what follows the `:=` up to the next command
    (None without one). A `:=` in a binder or of a `let` is not it; comments at the seams are
    dropped. ValueError when there is no theorem, or a bracket, comment or string is left open.

    >>> split_theorem("open A\\ntheorem t (n : Nat := 3) : let m := n; m = m := by sorry")
    ("open A\\n", "theorem t (n : Nat := 3) : let m := n; m = m", " by sorry")
    """
    found, is_closed = tokens(text)
    depths = list(accumulate(step(word) for word, _ in found))
    starts = [i for i, (word, _) in enumerate(found) if word in STARTS and depths[i] == 0]
    if not starts:
        raise ValueError("no `theorem` in it")
    if not is_closed:
        raise ValueError("a bracket, comment or string in it is not closed")

    named = [i for i in starts if found[i + 1 : i + 2] and found[i + 1][0] == name]
    start = (named or starts)[-1]
    stop = next_command(text, found, start)  # `end X`, `#print axioms t`, the next definition
    cut = None  # the number of the `:=` of its proof; one behind `stop` is another definition's
    lets = 0  # whose own `:=` is still to come
    for i in range(start, stop or len(found)):
        word = found[i][0]
        if depths[i] == 0 and word in ("let", "letI", "have", "haveI"):
            lets += 1
        elif depths[i] == 0 and word == ":=":
            lets -= 1
        if lets < 0:
            cut = i
            break

    end = cut or stop or len(found)
    header = clean_header(code(text, found, 0, start))
    statement = code(text, found, start, end)
    split_statement(statement)

    rest = None
    if cut and stop:
        rest = code(text, found, cut + 1, stop)
    elif cut:
        rest = text[found[cut][1] + 2 :]  # all behind the `:=`
    return header, statement, rest


def clean_header(header):
    """A header without what belongs to the theorem behind it."""
    # Attributes and modifiers belong to the declaration, which we write ourselves; a docstring
    # may stand before them.
    modifiers = r"((@\[[^\]]*\]|\b(private|protected|noncomputable|nonrec))\s*)+\Z"
    header = re.sub(modifiers, "", header)
    found = tokens(header)[0]
    header = code(header, found, 0, len(found))
    # After `open X in` comes the declaration: what follows is ours, so it must hold on.
    header = re.sub(r"\s+in(?=(\n[^\n]*\sin)*\s*\Z)", "", header).rstrip()
    return header + "\n" if header else ""


def next_command(text, found, after):
    """The number of the first token behind the one numbered `after` that starts a command at
    the margin, docstring or not; len(found) for a `/-! -/` behind the last one; or None."""
    depth = end = 0
    for i, (word, at) in enumerate([*found, ("", len(text))]):
        gap = text[end:at]  # what lies between two tokens: spaces, comments, strings
        at_margin = depth == 0 and re.search(r"\n(/-.*-/\s*)?\Z", gap, re.S)
        is_command = at_margin and (
            word in COMMANDS
            or re.match(r"#\w", word)
            or text.startswith("@[", at)
            or re.search(r"\n/-[-!]", gap)
        )
        if i > after and is_command:
            return i
        depth += step(word)
        end = at + len(word)
    return None


def code(text, found, first, end):
    """The text of tokens `first` to `end` without the comments around it; a docstring left
    before our own text would not parse."""
    if first == end:
        return ""
    word, at = found[end - 1]
    last = at + len(word)
    tail = text[last : found[end][1]] if end < len(found) else text[last:]
    is_string = tokens(tail)[1] and re.match(r'\s*["\']', tail)  # no token, and no comment
    if not is_string:
        tail = ""
    return text[found[first][1] : last] + tail.rstrip() + ("\n" if "--" in tail else "")
