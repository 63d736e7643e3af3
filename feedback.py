"""What the teacher is told: the prompts, the sources of feedback, and the request for advice.

The teacher is the same model as the student. The only other thing it sees is a text F(y) about
the student's attempt y. First come the prompts without and with F(y), then the sources of F(y),
which are asked after every attempt, then the request to a language model.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from extras.endpoint import Answer, Endpoint, NoAnswer
from extras.own import function_in
from lean.answers import without_thinking
from lean_env import Rollout, Theorem, Verdict
from toy.tutor import tutor

# ---- 1. Prompts ------------------------------------------------------------------------------


def build_prompt(
    tokenizer,
    theorem: Theorem,
    feedback: str | None = None,
    max_tokens: int | None = None,
    style: str | None = None,
) -> list[int]:
    """Token ids of the student's prompt (feedback None or "") or of the teacher's.

    Both end in the same text, so that the teacher judges the student's completion from the same
    place. With the feedback "1. Write `intro`.":

        student:                             theorem t (p : Prop) : p → p := by⏎
        teacher:  /- 1. Write `intro`. -/⏎   theorem t (p : Prop) : p → p := by⏎

    and the student's completion follows: "  intro h⏎  exact h". What does not fit into
    `max_tokens` is cut from the end of the feedback, never from the problem; ValueError when the
    problem alone does not fit. style: see prompt_text; None is chat where the tokenizer has a
    template, else plain.
    """
    if style is None:
        style = "chat" if tokenizer.chat_template else "plain"
    # White space, then up to 20 other characters, each.
    pieces = re.findall(r"\s*\S{1,20}", (feedback or "").rstrip())

    def length(count: int) -> int:
        return len(encode(tokenizer, theorem, "".join(pieces[:count]), style))

    fitting = len(pieces)
    if max_tokens is not None:
        # The largest count whose prompt fits; -1 if not even that without feedback does.
        fitting = bisect_right(range(len(pieces) + 1), max_tokens, key=length) - 1
    if fitting < 0:
        raise ValueError(
            f"theorem {theorem.name}: its prompt has {length(0)} tokens and {max_tokens} fit; "
            "leave it out"
        )
    return encode(tokenizer, theorem, "".join(pieces[:fitting]), style)


def encode(tokenizer, theorem: Theorem, feedback: str, style: str) -> list[int]:
    """The prompt with all of this feedback, as token ids."""
    # Special tokens, and words such as <think>: feedback may not quote them.
    added = tokenizer.added_tokens_decoder.values()
    forbidden = [t.content for t in added if t.special or t.content.startswith("<")]
    text = prompt_text(theorem, feedback, style, forbidden)
    if style == "chat":
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tools=getattr(tokenizer, "tools", None),  # see extras/tool_mode.py
            tokenize=False,
            add_generation_prompt=True,
        )
        # The template has written the special tokens: none is added again.
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    ids = tokenizer(text)["input_ids"]
    ends_itself = ids[-1] == tokenizer.eos_token_id  # some tokenizers end every text
    return ids[:-1] if ends_itself else ids


def prompt_text(
    theorem: Theorem, feedback: str | None, style: str, forbidden=()
) -> str:
    """What a raw completion goes on from or, for "chat", the message that asks for a theorem.

    "plain" is Lean text alone. "fence" puts it behind the words and the open code fence that
    DeepSeek-Prover-V1.5 and Goedel-Prover-SFT know, whose data had comments before theorems, too.
    The feedback cannot close the comment or the fence around it, nor quote a forbidden token.
    """
    advice = (feedback or "").strip()
    for mark, broken in (("-/", "- /"), ("/-", "/ -")):
        advice = advice.replace(mark, broken)
    advice = re.sub(r"`{3,}", spaced, advice)
    for token in forbidden:
        advice = advice.replace(token, f"{token[0]} {token[1:]}")

    header = f"{theorem.header.rstrip()}\n" if theorem.header else ""
    code = f"{theorem.statement} := by\n"
    if style == "chat":
        opening = f"Advice for this problem:\n{advice}\n\n" if advice else ""
        return (
            f"{opening}Complete the following Lean 4 code. Answer with the whole theorem in one "
            f"lean4 block.\n\n```lean4\n{header}{code}```"
        )
    comment = f"/- {advice} -/\n" if advice else ""
    fence = {"plain": "", "fence": "Complete the following Lean 4 code:\n\n```lean4\n"}
    return fence[style] + header + comment + code


def spaced(run: re.Match) -> str:
    """Three backticks and more, one by one: no fence."""
    return " ".join(run[0])


# ---- 2. Sources of feedback ------------------------------------------------------------------


@dataclass
class Feedback:
    """A source of feedback.

    answer: rollouts -> texts, in order. needs_verdict: False for a source whose text does not
    depend on the attempt. endpoint: where the texts come from, if from a server.
    failures: how many judged attempts got none.
    """

    answer: Callable[[list[Rollout]], list[str | None]]
    needs_verdict: bool = True
    endpoint: Endpoint | None = None
    failures: int = 0

    def write(self, rollouts: list[Rollout]) -> list[str | None]:
        """One text per rollout, in order. None: there is no feedback, so mask the sample.

        A timeout or a crash says nothing about the proof, and feedback about it would lie.
        """
        texts = [None] * len(rollouts)
        asked = []
        for i, rollout in enumerate(rollouts):
            judged = rollout.verdict and rollout.verdict.judged
            if judged or not self.needs_verdict:
                asked.append(i)
        answers = self.answer([rollouts[i] for i in asked])
        for i, answer in zip(asked, answers, strict=True):
            texts[i] = answer
            self.failures += answer is None
        return texts

    def ping(self):
        """SystemExit, with advice, when an endpoint cannot be used."""
        if self.endpoint:
            self.endpoint.ping()


def make_feedback(spec: str, style=4, generate=None, **options) -> Feedback:
    """A source by its name; ValueError for any other.

    tutor                 rules, with a look at the reference proof (toy/tutor.py)
    lean                  Lean's output after a failure, the found proof after a success
    truth                 the reference proof
    const:TEXT            this text; an empty one changes no prompt
    self                  the frozen base writes it (`generate`, texts -> texts)
    ollama:MODEL[@URL]    a local language model
    openai:MODEL[@URL]    any OpenAI-compatible server; key in OPENAI_API_KEY, if it wants one
    FILE.py:FUNCTION      a function of your own, rollout -> text or None

    ollama and openai are told not to think, where their server knows how to; ollama-think:MODEL
    and openai-think:MODEL think, and may write eight times as much. style: how much is demanded
    of the advice, see LEVELS. options: of the Endpoint.
    """
    kind, _, rest = spec.partition(":")
    server = kind.removesuffix("-think")
    thinks = server != kind

    def ask_rule(rollouts):
        return [RULES[spec](rollout, style) for rollout in rollouts]

    def ask_base(rollouts):
        answers = generate([instruction(rollout, style) for rollout in rollouts])
        return [clean_answer(answer) for answer in answers]

    def repeat(rollouts):
        return [rest] * len(rollouts)

    if spec in RULES:
        return Feedback(ask_rule)
    if kind == "const":
        return Feedback(repeat, needs_verdict=False)
    if spec == "self" and generate:
        return Feedback(ask_base)
    if kind.endswith(".py"):
        function = function_in(kind, rest)

        def ask_function(rollouts):
            return [function(rollout) or None for rollout in rollouts]

        return Feedback(ask_function)
    if server in ("ollama", "openai"):
        model, _, url = rest.partition("@")
        limit = 8192 if thinks else 1024
        extras = {"think": thinks}
        if server == "openai":
            extras = {"chat_template_kwargs": {"enable_thinking": thinks}}
        endpoint = Endpoint(server, model, url, advice, limit, extras=extras, **options)

        def ask_endpoint(rollouts):
            return endpoint([instruction(rollout, style) for rollout in rollouts])

        return Feedback(ask_endpoint, endpoint=endpoint)
    raise ValueError(
        f"feedback {spec!r} is none of tutor, lean, truth, const:TEXT, ollama:MODEL[@URL], "
        "openai:MODEL[@URL], FILE.py:FUNCTION; self needs a policy in training, which train.py alone has"
    )


def lean_rule(rollout: Rollout, style: int) -> str:
    """Lean's output, or after a success the proof that it accepted."""
    if rollout.verdict.status == "proved":
        return as_example(rollout.proof)
    return lean_output(rollout.verdict)


def truth_rule(rollout: Rollout, style: int) -> str | None:
    """The reference proof, where there is one."""
    proof = rollout.theorem.proof
    return as_example(proof) if proof else None


def as_example(proof: str) -> str:
    return f"An example of a correct solution:\n{proof}"


def lean_output(verdict: Verdict) -> str:
    """Status and messages, at most 4,000 characters: a broken line can make many errors."""
    lines = [verdict.status]
    for m in verdict.messages:
        lines.append(f"{m['severity']}, line {m['line']}: {m['data']}")
    return "\n".join(lines)[:4000]


RULES = {"tutor": tutor, "lean": lean_rule, "truth": truth_rule}


# ---- 3. A language model that advises --------------------------------------------------------

# What is demanded of it: style N takes the first N (the paper's four nested prompts, our words).
LEVELS = [
    "You are an expert Lean 4 tutor. Read a problem and an attempt to solve it, "
    "and write short, practical advice.",
    "Write 1 to 3 numbered items of 10 to 50 words about errors, useful or useless steps; "
    'start with "1.", add nothing else.',
    "Serve whoever tries this problem next and never saw the attempt: orders that quote Lean "
    'names; no student, no "you".',
    "Where tools can be called, order their use. If the attempt was cut by the token limit, "
    "order a shorter answer.",
]


def instruction(rollout: Rollout, style: int = 4) -> str:
    """The whole request: the demands, the problem, the attempt and Lean's last word on it."""
    attempt = rollout.conversation or rollout.text
    if not rollout.finished:
        attempt += "\n(cut by the token limit)"
    output = lean_output(rollout.verdict)
    parts = [
        *LEVELS[:style],
        f"# Problem\n{rollout.theorem.statement}",
        f"# Attempt\n{attempt}",
        f"# Lean's output (line 1 starts the theorem or, of a whole file, the file)\n{output}",
        "# Advice\n",
    ]
    return "\n\n".join(parts)


# Characters that nobody sees.
INVISIBLE = re.compile(
    "[\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffd\x00\U000e0000-\U000e0fff]"
)


def clean_answer(text: str | None, cut: bool = False) -> str | None:
    """An answer without its thinking, at most 4,000 characters; None when no word is left.

    Of one that was cut the numbered items count, but for the last one, which may be cut.
    """
    text = without_thinking(text or "")
    text = INVISIBLE.sub("", text)
    if cut:
        items = list(re.finditer(r"^[ \t]*\d+[.)]", text, re.MULTILINE))
        text = text[items[0].start() : items[-1].start()] if items else ""
    is_read = re.search(r"[^\W\d_]", re.sub(r"`{3,}\w*", "", text))
    return text.strip()[:4000] if is_read else None


def advice(answer: Answer) -> str | NoAnswer:
    """The advice in a language model's answer, or why there is none in it."""
    text = clean_answer(answer.text, answer.cut)
    if text:
        return text
    if answer.cut:
        return NoAnswer(
            f"its answer was cut at {answer.tokens} tokens, before any advice; a model that "
            "thinks has more with ollama-think:MODEL, openai-think:MODEL"
        )
    return NoAnswer("an answer without a word that can be read")
