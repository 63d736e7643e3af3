"""What a policy reads and what it wrote: its prompts, their room, and a completion's text."""

import re
from dataclasses import replace

from data import first
from extras.tools import TOOLS, tool_prompt
from feedback import build_prompt, prompt_text
from lean.answers import continuation
from lean.text import IMPORTS

BRIEF = "-- #rg NAME searches\n"  # for the tiny prover, whose every word is expensive


def prompt_for(policy, theorem, feedback=None, max_new_tokens=None):
    """feedback.build_prompt for this policy: in its style, and with its tools.

    It leaves room for max_new_tokens; None: it may be of any length.
    """
    if policy.tools:
        theorem = equip(theorem, policy)
    room = None
    if max_new_tokens is not None:
        room = policy.max_positions - max_new_tokens
    return build_prompt(policy.tokenizer, theorem, feedback, room, policy.style)


def call_style(policy):
    """How this model writes calls: "text" after a raw prompt.

    In a chat it is "xml" where the model's own template does so, else "json".
    """
    if policy.style != "chat":
        return "text"
    return "xml" if "<function=" in str(policy.tokenizer.chat_template) else "json"


def equip(theorem, policy):
    """Tells the model about the tools; -> the theorem as the prompt has it.

    The chat template tells it where that can (student's and teacher's prompts alike, see
    build_prompt). Else a comment in the theorem's header does, behind the imports.
    """
    template = str(policy.tokenizer.chat_template)
    if policy.style == "chat" and re.search(r"\btools\b", template):
        policy.tokenizer.tools = TOOLS
        return theorem

    comment = f"/- {tool_prompt(call_style(policy))} -/\n"
    if policy.style == "plain":
        comment = BRIEF
    header = theorem.header or ""
    if comment in header:
        return theorem

    imports = [match.end() + 1 for match in IMPORTS.finditer(header)]
    place = max(imports, default=0)
    header = header[:place] + comment + header[place:]
    return replace(theorem, header=header)


def completion_of(policy, theorem):
    """The reference proof as what follows the prompt: token ids that end with a stop id."""
    # A raw prompt ends in `by` and a newline; a chat answers with the whole theorem.
    text = continuation(theorem.proof)
    if policy.style == "chat":
        text = f"```lean4\n{theorem.statement} := {theorem.proof}\n```"
    ids = policy.tokenizer.encode(text, add_special_tokens=False)
    return ids + [policy.tokenizer.eos_token_id]


def with_room(policy, theorems, max_new_tokens, imitated=False, named=True):
    """The theorems whose prompt leaves room for an attempt, or for the proof that is `imitated`.

    policy: one, or provers.reader(). The others are named. ValueError, with advice, when none is
    left.
    """
    good, bad, rooms = [], [], []
    for theorem in theorems:
        if not imitated and is_short(policy, theorem, policy.max_positions - max_new_tokens):
            good.append(theorem)
            continue
        prompt = len(prompt_for(policy, theorem))
        least = 1
        if imitated and theorem.proof:
            least = len(completion_of(policy, theorem))
        if prompt + max(least, max_new_tokens) <= policy.max_positions:
            good.append(theorem)
            continue
        bad.append(f"{theorem.name} ({prompt} tokens)")
        if prompt + least <= policy.max_positions:
            rooms.append(policy.max_positions - prompt)
    if not bad:
        return theorems

    advice = "a model with more positions or shorter theorems would help"
    if rooms:  # it is the limit that takes the room, not the prompt: keep half of these
        middle = (len(rooms) - 1) // 2
        advice = (
            f"--max-new-tokens {max_new_tokens} takes the room: "
            f"with {sorted(rooms)[middle]} or less {len(rooms) - middle} of them would fit"
        )
    problem = (
        f"{len(bad)} of {len(theorems)} theorems do not fit into the model's "
        f"{policy.max_positions} positions"
    )
    if not good:
        raise ValueError(f"{problem}, the first is {bad[0]}: {advice}")
    if named:
        print(f"{problem} and are left out: {first(10, bad)}; {advice}")
    return good


def is_short(policy, theorem, room):
    """Does its prompt surely fit? A token has a byte or more, and half of the room is left for what
    a tokenizer adds. Of thousands of theorems most need no other look."""
    if policy.style == "chat" or policy.tools:
        return False  # the template and the tools are of any length
    return 2 * len(prompt_text(theorem, None, policy.style).encode()) < room


def text_behind(tokenizer, prompt, ids):
    """The text of ids (of a completion, or of its beginning) as it goes on from the prompt.

    Tokenizers of Llama 2's kind drop the space that a text begins with. So the text is decoded
    behind the prompt's last token, whose own text is then cut off by its length: half a
    character can change how that looks, not how long it is.
    """
    exact = dict(clean_up_tokenization_spaces=False)
    before = tokenizer.decode(prompt[-1:], **exact)
    return tokenizer.decode([*prompt[-1:], *ids], **exact)[len(before) :]


def decode(policy, prompt, ids):
    """The text of a completion without the token that ended it."""
    kept = [i for i in ids if i not in policy.stop_ids]
    return text_behind(policy.tokenizer, prompt, kept)
