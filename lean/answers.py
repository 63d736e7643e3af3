"""What counts as the proof in what a prover wrote."""

import re
from textwrap import indent
from typing import NamedTuple

from lean.source import split_theorem
from lean.text import IMPORTS, blank, tokens, words

# A block of code. Its closing fence may be missing, or stand behind the last line.
BLOCK = re.compile(
    r"(?P<fence>```+|(?<![^\n \t>])~~~+)[ \t]*(?P<info>[^\n`]*)\n(?P<code>.*?)(?:(?P=fence)|\Z)",
    re.DOTALL,
)
DECLARATIONS = ("theorem", "lemma", "example")
# Where Lean begins in an answer without blocks, and what it must hold.
FIRST_LINE = re.compile(
    r"(?m)^(?:import|open|set_option|@\[|private|namespace|section|variable|"
    r"noncomputable|def|/--|theorem|lemma|example)(?!\w)"
)
THEOREM_LINE = re.compile(r"(?m)^(?:@\[.*\] *|private +)?(?:theorem|lemma|example)\b")
MODIFIERS = re.compile(
    r"\b(?:private|protected|noncomputable|nonrec)\b(?=[ \t\w]*\b(?:theorem|lemma)\b)"
)
# No tactic begins with these.
TERM = ("fun", "λ", "⟨", "@")

# How models mark their thinking: tags, Mistral's, Kimi's, Cohere's and OpenAI's marks.
TAG = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|seed:think)"
THINKING = re.compile(
    rf"(?P<close></{TAG}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<\|channel\|>final[^<]*<\|message\|>|assistantfinal)"
    rf"|<{TAG}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>"
)


class Answer(NamedTuple):
    """The text to be judged, "" where there is no proof: one term or a `whole` file."""

    text: str
    whole: bool = False


def read_answer(text, chat, statement="", header=""):
    """What a prover wrote about a statement -> Answer. `header`: what stood before it.

    A raw completion goes on from ":= by" and ends at a closing fence. A chat answer has its
    proof in a block of code behind the thinking: the last that holds the theorem, else the last
    that holds a proof alone. A theorem alone, modifiers and the header aside, gives its proof; one
    with more before it (lemmas, opens) gives a file. What follows the theorem is left out. Prose
    is no proof.
    """
    text = without_thinking(text.replace("\r\n", "\n"))
    if not chat:
        return Answer("by\n" + text.split("```")[0].rstrip())

    name = "".join(words(statement)[1:2])
    blocks = code_blocks(text)
    theorems = [code for _, code in blocks if proved_in(code)]
    named = [code for code in theorems if name in proved_in(code)]
    if theorems:
        return theorem_in((named or theorems)[-1], name, header)
    for is_lean, code in reversed(blocks):
        proof = proof_alone(code, is_lean)
        if proof:
            return Answer(proof)
    return Answer("")


def code_blocks(text):
    """The blocks of code in a chat answer, but those in other languages, as [(is it said to be
    Lean?, code)]. An answer without any can be Lean itself."""
    blocks = []
    for match in BLOCK.finditer(text):
        info = match["info"].strip().lower()
        if info == "" or info.startswith("lean"):
            # In a list or a quotation the fence has a margin, and the code has it too.
            margin = text[: match.start()].rpartition("\n")[2]
            inside = r"[ \t]*>[ \t]?" if ">" in margin else rf"[ \t]{{0,{len(margin)}}}"
            code = re.sub(rf"(?m)^{inside}", "", match["code"])
            blocks.append((info != "", code.rstrip()))
    if "```" in text or blocks:
        return blocks

    first = FIRST_LINE.search(text)
    if first and THEOREM_LINE.search(text):
        code = text[first.start() :].rstrip()
        return [(True, code)] if proved_in(code) else []
    goes_on = re.match(r"(?:[ \t]*\n)*(?:[ \t]+\S|by[ \t]*\n)", text)
    return [(True, text.rstrip())] if goes_on else []


def proved_in(code):
    """The names of the theorems that a block proves."""
    found = words(code)
    if ":=" not in found and "|" not in found:
        return []
    return [name for word, name in zip(found, found[1:]) if word in DECLARATIONS]


def extract_proof(text, chat=False, statement="", header=""):
    """The text that is judged of what a prover wrote, see read_answer.

    >>> extract_proof("  intro h\\n  exact h")
    "by\\n  intro h\\n  exact h"
    """
    return read_answer(text, chat, statement, header).text


def theorem_in(code, name, header):
    """The Answer in a block that declares a theorem, this one if it is there."""
    if set(words(code)).isdisjoint(("theorem", "lemma")):
        code = re.sub(r"(?m)^([ \t]*)example\b", r"\1theorem example_", code)
    try:
        before, statement, proof = split_theorem(code, name)
    except ValueError:  # something is not closed: Lean will say what
        return Answer(code, True)

    shown = words(IMPORTS.sub("", header))
    alone = words(IMPORTS.sub("", before)) in ([], shown)
    if alone and proof is not None:
        return Answer(proof.strip())
    statement = statement.rstrip()
    last = (proof or "").rstrip()
    end = code.index(last, code.rindex(statement) + len(statement)) + len(last)
    # The theorem is to be seen from outside; columns stay what they are.
    return Answer(MODIFIERS.sub(lambda match: blank(match[0]), code[:end]), True)


def proof_alone(code, is_lean):
    """The proof term in a block without a theorem, or ""."""
    code = re.sub(r"\A\s*:=", "", code)
    first = words(code)[:1]
    if first == ["by"] or (is_lean and first and first[0] in TERM):
        return code.strip()
    if not is_lean or not first or first[0].startswith("#"):
        return ""
    at_margin = re.match(r"\s*^\S", code, re.MULTILINE)
    return "by\n" + (indent(code, "  ") if at_margin else code)


def continuation(proof):
    """A proof term as what follows `:= by` and a line's end, or None if it cannot stand there.

    The inverse of extract_proof for a raw completion: what it finds in the result proves the
    same. "by\\n  intro h" and "by intro h" give tactic lines, a term `h` gives "  exact h".
    """
    text = proof.replace("\r\n", "\n").strip()
    # Something is left open, or a fence or a thought would end it.
    if not tokens(text)[1] or "```" in text or without_thinking(text) != text:
        return None
    if re.match(r"by\s*\n", text):
        return re.sub(r"by\s*?\n", "", text, count=1)
    if re.match(r"by\b(?!')", text):
        return "  " + text[2:]  # the first tactic keeps its column
    if "\n" in text or "--" in text:
        return f"  exact ({text}\n  )"
    return f"  exact {text}"


def without_thinking(text):
    """A text without its thinking, whose opening mark can stand in the prompt and whose closing
    one can be cut off."""
    kept, position, thinks = "", 0, False
    for mark in THINKING.finditer(text):
        if not thinks:  # what closes now was opened in the prompt
            kept = "" if mark["close"] else kept + text[position : mark.start()]
        thinks = not mark["close"]
        position = mark.end()
    return kept if thinks else kept + text[position:]


def tactics_of(proof):
    """The words that start a line of a proof, bullets aside: {"intro", "exact"}."""
    lines = proof.partition("\n")[2]
    return set(re.findall(r"^[\s·]*([A-Za-z_]\w*)", lines, re.MULTILINE))
