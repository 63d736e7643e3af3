"""The proof in a prover's answer."""
import re

def extract_proof(text: str, chat: bool | None = None) -> str:
    """The whole proof term in a completion: "  intro h\\n  exact h" gives "by\\n  intro h\\n  exact h".
    A raw completion goes on from ":= by" and ends at a closing fence. Of a chat answer the last lean block after the thinking
    counts; where it repeats the theorem, the proof follows the first `:=` outside all brackets. chat None: it is an answer if it
    opens a lean block and does not begin with an indented line, as a proof does."""
    text = answer_of(text)
    chat = not re.match(r"(\s*\n)?[ \t]", text) if chat is None else chat
    blocks = re.findall(r"```lean4?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL) if chat else []
    if not blocks:
        return "by\n" + text.split("```")[0].rstrip()
    block, depth = blocks[-1].rstrip(), 0
    starts = [match.end() for match in re.finditer(r"^(?:theorem|lemma|example)\b", block, re.MULTILINE)]
    for i in range(starts[-1] if starts else len(block), len(block)):
        depth += (block[i] in "([{⟨") - (block[i] in ")]}⟩")
        if depth == 0 and block.startswith(":=", i):
            return block[i + 2:].strip()
    return block.strip() if re.match(r"\s*by\b", block) else "by\n" + block

def answer_of(text: str) -> str:
    """A text without its thinking, whose opening tag can stand in the prompt and whose closing one can be cut off."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    return text.split("</think>")[-1].split("<think>")[0]
