"""What counts as the proof in what a prover wrote."""

import re

from lean.text import step, tokens


def extract_proof(text, chat=None):
    """The whole proof term in a completion: "  intro h\\n  exact h" gives
    "by\\n  intro h\\n  exact h".

    A raw completion goes on from ":= by" and ends at a closing fence. Of a chat answer the last
    lean block after the thinking counts; where it repeats the theorem, the proof follows the
    first `:=` outside all brackets. chat None: it is an answer if it opens a lean block and
    does not begin with an indented line, as a proof does.
    """
    text = without_thinking(text)
    if chat is None:
        chat = not re.match(r"(\s*\n)?[ \t]", text)
    blocks = re.findall(r"```lean4?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    if not chat or not blocks:
        return "by\n" + text.split("```")[0].rstrip()

    block = blocks[-1].rstrip()
    proof = proof_of_last_theorem(block)
    if proof is None and re.match(r"\s*by\b", block):
        proof = block.strip()
    return "by\n" + block if proof is None else proof


def proof_of_last_theorem(block):
    """What follows the first `:=` outside brackets of the last theorem in a block; None where
    no theorem has one."""
    starts = list(re.finditer(r"^(?:theorem|lemma|example)\b", block, re.MULTILINE))
    if not starts:
        return None
    depth = 0
    for i in range(starts[-1].end(), len(block)):
        depth += step(block[i])
        if depth == 0 and block.startswith(":=", i):
            return block[i + 2 :].strip()
    return None


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
    """A text without its thinking, whose opening tag can stand in the prompt and whose closing
    one can be cut off."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    return text.split("</think>")[-1].split("<think>")[0]


def tactics_of(text):
    """The words that start a line of a proof, bullets aside: {"intro", "exact"}."""
    lines = extract_proof(text).partition("\n")[2]
    return set(re.findall(r"^[\s·]*([A-Za-z_]\w*)", lines, re.MULTILINE))
