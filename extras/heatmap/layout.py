"""Where things stand: tokens in lines, Lean's messages in the text, and a number's class."""

import unicodedata

from extras.prompts import text_behind
from lean.answers import read_answer

# From here on a difference is one class stronger. Classes can be read off a legend, shades cannot.
CUTS = (0.02, 0.1, 0.3, 0.6)
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # unicode categories with nothing to see


def visible(text):
    """Control and formatting characters as something to see, one for one; a line's end stays.

    What a model wrote must not move the terminal's cursor nor turn the page around, and columns
    must stay right.
    """
    shown = ""
    for char in text:
        if char == "\n" or unicodedata.category(char) not in HIDDEN:
            shown += char
        elif char < " ":
            shown += chr(0x2400 + ord(char))  # ␛ for the escape character
        else:
            shown += "\ufffd"
    return shown


def pieces(tokenizer, ids, prompt=()):
    """The text that each token adds behind the prompt; joined they are the text of all.

    A token that ends inside a character adds "", and the one that completes it the character:
    three tokens for the three bytes of "∧" give ["", "", "∧"].
    """
    found = []
    done = ""
    for t in range(1, len(ids) + 1):
        text = text_behind(tokenizer, prompt, ids[:t])
        if t < len(ids):
            text = text.rstrip("\ufffd")  # what a decoder puts for half a character
        found.append(text[len(done) :])
        done = max(done, text, key=len)
    return found


def place(row, message):
    """Where a message points: an offset in f"{statement} := by\\n{text}", which is shown.

    Lean read f"{statement} := {proof}", or a file, and counts lines from 1 and columns from 0 in
    that. A raw completion continues the `by`; a chat answer has what was judged somewhere inside.
    """
    statement, text = row["statement"], row["text"]
    is_chat = row.get("chat", False)
    proof, whole = read_answer(text, is_chat, statement, row.get("header") or "")
    judged = proof if whole else f"{statement} := {proof}"
    lines_before = judged.split("\n")[: message["line"] - 1]
    offset = sum(len(line) + 1 for line in lines_before) + message["column"]

    body = proof.removeprefix("by\n")
    body_judged = len(judged) - len(body)  # where the body begins in what Lean read
    if offset < body_judged:
        return offset

    body_shown = len(f"{statement} := by\n")
    if is_chat:
        body_shown += max(text.rfind(body), 0)  # of a chat answer the last block counts
    return body_shown + offset - body_judged


def lay_out(head, parts, spots):
    """Lines of cells [text, token or None, numbers of the messages at the cell's start].

    A cell lies in one token and one line; spots are offsets in head + "".join(parts), one per
    message. Example: head "a\\n", parts ["b\\n ", "c"], spots [3] ->
        [[["a", None, []]],  [["b", 0, []], ["⏎", 0, [0]]],  [[" ", 0, []], ["c", 1, []]]]
    """
    lines = [[]]
    offset = 0
    for token, part in [(None, head), *enumerate(parts)]:
        if part == "":  # the token ends inside a character
            lines[-1].append(["▯", token, []])

        for i, char in enumerate(part):
            here = [n for n, spot in enumerate(spots) if spot == offset]
            if i == 0 or here or not lines[-1]:
                lines[-1].append(["", token, here])
            if char != "\n":
                lines[-1][-1][0] += visible(char)
            else:
                if token is not None:
                    lines[-1][-1][0] += "⏎"
                lines.append([])
            offset += 1

    # Such as "unexpected end of input".
    beyond = [n for n, spot in enumerate(spots) if spot >= offset]
    if beyond:
        lines[-1].append(["", None, beyond])
    if not lines[-1]:
        lines.pop()
    return lines


def level(d):
    """The class of a difference, -4 to 4: its sign, and how many of CUTS it reaches."""
    strength = sum(abs(d) >= cut for cut in CUTS)
    return strength if d > 0 else -strength


def verdict_of(attempt):
    """Lean's verdict in words, its first character a mark."""
    status = attempt["status"]
    shown = f"✗ {status}"
    if status == "proved":
        shown = "✓ proved"
    if status in ("timeout", "crash"):
        shown = f"? {status}: Lean itself failed"
    return shown if attempt["finished"] else f"{shown} · cut by the length limit"
