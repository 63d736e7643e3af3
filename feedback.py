"""What the teacher is told: every source of feedback, and how feedback is worded into the prompt.
The teacher is the same model as the student; all it knows more is a text F(y) about the student's attempt y. Here are the
prompts without and with F(y), the way back from a completion to a proof, and the sources of F(y), asked after every attempt."""
import os
import re
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import requests
import urllib3

from lean.answers import answer_of, extract_proof
from lean_env import Rollout, Theorem, Verdict
from toy.tutor import CURRENT, NAME, OUTDATED, tutor

def build_prompt(tokenizer, theorem: Theorem, feedback: str | None = None, max_tokens: int | None = None,
                 style: str | None = None) -> list[int]:
    """Token ids of the student's prompt (feedback None or "") or of the teacher's. Both end in the same text, so that the teacher
    judges the student's completion from the same place. What does not fit into `max_tokens` is cut from the end of the feedback,
    never from the problem; ValueError when the problem alone does not fit. Worked example, feedback "1. Write `intro`.":
        student:                             theorem t (p : Prop) : p → p := by⏎
        teacher:  /- 1. Write `intro`. -/⏎   theorem t (p : Prop) : p → p := by⏎
    and both go on with "  intro h⏎  exact h". style: see prompt_text, this is "plain"; None: chat where there is a template."""
    style = style or ("chat" if tokenizer.chat_template else "plain")
    tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special or t.content[:1] == "<"]  # <think> too
    def encode(words: list[str]) -> list[int]:
        text = prompt_text(theorem, "".join(words), style, tokens)
        if style != "chat":
            ids = tokenizer(text)["input_ids"]
            return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids  # some tokenizers end every text
        told = dict(tools=getattr(tokenizer, "tools", None), tokenize=False, add_generation_prompt=True)  # see extras/tool_mode.py
        text = tokenizer.apply_chat_template([{"role": "user", "content": text}], **told)
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written the special tokens
    words, room = re.findall(r"\s*\S{1,20}", feedback or ""), float("inf") if max_tokens is None else max_tokens
    fit = bisect_right(range(len(words) + 1), room, key=lambda n: len(encode(words[:n]))) - 1  # the most words that fit
    if fit < 0:
        raise ValueError(f"theorem {theorem.name}: its prompt has {len(encode([]))} tokens and {room} fit; leave it out")
    return encode(words[:fit])

def prompt_text(theorem: Theorem, feedback: str | None, style: str, tokens=()) -> str:
    """What a raw completion goes on from, or (chat) the message that asks for a whole theorem. "fence" is "plain" behind the words
    and the open code fence that DeepSeek-Prover-V1.5 and Goedel-Prover-SFT know; they too had a comment before the theorem.
    The feedback must not close the comment or the fence around it; it is kept from quoting any of `tokens`."""
    told = (feedback or "").strip().replace("-/", "- /").replace("/-", "/ -").replace("```", "` ` `")
    for token in tokens:
        told = told.replace(token, f"{token[0]} {token[1:]}")
    header, code = theorem.header.rstrip() + "\n" if theorem.header else "", f"{theorem.statement} := by\n"
    if style != "chat":
        fence = {"plain": "", "fence": "Complete the following Lean 4 code:\n\n```lean4\n"}[style]
        return fence + header + f"/- {told} -/\n" * bool(told) + code
    return (f"Advice for this problem:\n{told}\n\n" * bool(told) + "Complete the following Lean 4 code. Answer with the "
            f"whole theorem in one lean4 block.\n\n```lean4\n{header}{code}```")

# What is demanded of a language model; style N takes the first N (the paper's four nested prompts, in our words).
LEVELS = [
    "You are an expert Lean 4 tutor. Read a problem and an attempt to solve it, and write short, practical advice.",
    "Write 1 to 3 numbered items of 10 to 50 words about errors, useful or useless steps; start with \"1.\", add nothing else.",
    "Serve whoever tries this problem next and never saw the attempt: orders that quote Lean names; no student, no \"you\".",
    "Where tools can be called, order their use. If the attempt was cut by the token limit, order a shorter answer.",
]

def instruction(rollout: Rollout, style: int = 4) -> str:
    """The whole request to a language model: the demands, the problem, the attempt and Lean's last word on it."""
    attempt = (rollout.conversation or rollout.text) + "\n(cut by the token limit)" * (not rollout.finished)
    return "\n\n".join([*LEVELS[:style], f"# Problem\n{rollout.theorem.statement}", f"# Attempt\n{attempt}",
                        f"# Lean's output (line 1 starts the problem)\n{lean_output(rollout.verdict)}", "# Advice\n"])

def lean_output(verdict: Verdict) -> str:
    """Status and messages as text, at most 4,000 characters: one broken line can make hundreds of errors."""
    return "\n".join([verdict.status, *(f"{m['severity']}, line {m['line']}: {m['data']}" for m in verdict.messages)])[:4000]

def clean_answer(text: str | None, cut: bool = False) -> str | None:
    """A model's answer without its thinking; of a cut one only the complete numbered items. None when nothing is left."""
    text, items = answer_of(text or ""), r"^\s*\d+[.)].*?(?=^\s*\d+[.)])"  # an item is complete when another one follows
    return ("".join(re.findall(items, text, re.DOTALL | re.MULTILINE)) if cut else text).strip() or None

def endpoint(kind: str, model: str, url: str, timeout: float, max_parallel: int, backoff: float, read=None, **fields) -> Callable:
    """A language model behind HTTP as a function texts -> answers, None where all tries failed; it raises SystemExit with advice
    when most do. kind: "ollama" (its own chat API), "openai" (any server's chat/completions) or "raw" (its completions); timeout:
    seconds of silence. read: takes something else than cleaned text out of a reply; fields: more of what is sent."""
    url = url.rstrip("/") or {"ollama": "http://localhost:11434", "openai": "https://api.openai.com/v1"}[kind]
    url += {"ollama": "/api/chat", "openai": "/chat/completions", "raw": "/completions"}[kind]
    if not model or not re.fullmatch(r"https?://[^\s@?#]+", url):  # and nothing secret in what is printed and logged
        raise ValueError(f"feedback {kind}: write {kind}:MODEL or {kind}:MODEL@http://HOST:PORT, without a user or a key in it")
    # Up to four more tries after connection errors, timeouts and these answers; the pauses grow and respect Retry-After.
    retry = urllib3.Retry(4, read=2, allowed_methods=None, status_forcelist=[408, 409, 429, *range(500, 600)],
                          raise_on_status=False, backoff_factor=backoff, backoff_jitter=backoff)
    session, adapter = requests.Session(), requests.adapters.HTTPAdapter(max_retries=retry, pool_maxsize=max_parallel)
    session.adapters = {"http://": adapter, "https://": adapter}
    key = "" if kind == "ollama" else os.environ.get("OPENAI_API_KEY", "").strip()
    session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
    pool, failed = ThreadPoolExecutor(max_parallel), []  # failed: one bool a request
    def advice(reply: dict) -> str | None:
        choice = reply if kind == "ollama" else reply["choices"][0]
        return clean_answer(choice["message"]["content"], "length" in (choice.get("done_reason"), choice.get("finish_reason")))
    def ask(text: str, least: int):
        body = {"prompt": text} if kind == "raw" else {"messages": [{"role": "user", "content": text}]}
        body |= {"model": model, "stream": False, **fields}
        if kind == "ollama":  # its default of 4,096 cuts in silence; powers of two, for each new size reloads the model
            body["options"] = {"num_ctx": max(8192, 1 << (len(text) // 2 + 4096).bit_length())}
        answer, error = None, "no answer"
        try:
            reply = session.post(url, json=body, timeout=(10, timeout), allow_redirects=False)
            error = f"HTTP {reply.status_code} {' '.join(reply.text.replace(key or chr(0), '***').split())[:200]}"
            answer = (read or advice)(reply.json()) if reply.status_code == 200 else None
        except (OSError, LookupError, TypeError, AttributeError, ValueError) as exception:
            error += f" ({type(exception).__name__})"  # not its text, which can quote headers
        failed.append(answer is None)
        if answer is None and len(failed) >= least and 2 * sum(failed[-32:]) > len(failed[-32:]):
            raise SystemExit(f"no answer from {model} at {url}: {error}. Does the server run, does it have the model (ollama pull), "
                             "is OPENAI_API_KEY right? Other addresses: ollama:MODEL@URL, openai:MODEL@URL/v1, --endpoint URL/v1.")
        return answer
    return lambda texts, least=8: list(pool.map(lambda text: ask(text, least), texts))  # an exception cancels the unsent

@dataclass
class Feedback:
    """A source of feedback. failures: how many judged attempts got none."""
    answer: Callable[[list[Rollout]], list[str | None]]
    ping: Callable[[], object] = lambda: None  # raises SystemExit with advice when an endpoint cannot be used
    needs_verdict: bool = True
    failures: int = 0
    def write(self, rollouts: list[Rollout]) -> list[str | None]:
        """One text per rollout, in order. None: there is no feedback, so mask the sample. A timeout or a crash says nothing
        about the proof, and feedback about it would lie: None from every source but `const`."""
        judged = [i for i, r in enumerate(rollouts)
                  if not self.needs_verdict or r.verdict and r.verdict.status not in ("timeout", "crash")]
        texts = dict(zip(judged, self.answer([rollouts[i] for i in judged]), strict=True))
        self.failures += sum(text is None for text in texts.values())
        return [texts.get(i) for i in range(len(rollouts))]

def make_feedback(spec: str, style=4, generate=None, timeout=300.0, max_parallel=8, backoff=0.5) -> Feedback:
    """A source by its name: tutor, lean (Lean's output after a failure, the found proof after a success), truth (the reference
    proof), self (the frozen base writes it: `generate`, texts -> texts), const:TEXT (an empty TEXT changes no prompt),
    ollama:MODEL[@URL], openai:MODEL[@URL] (key from OPENAI_API_KEY; local servers need none). ValueError for any other."""
    example = "An example of a correct solution:\n{}".format
    rules = {"tutor": lambda r: tutor(r, style), "truth": lambda r: example(r.theorem.proof) if r.theorem.proof else None,
             "lean": lambda r: example(extract_proof(r.text)) if r.verdict.status == "proved" else lean_output(r.verdict)}
    kind, _, rest = spec.partition(":")
    if spec in rules:
        return Feedback(lambda rollouts: [rules[spec](r) for r in rollouts])
    if kind == "const":
        return Feedback(lambda rollouts: [rest] * len(rollouts), needs_verdict=False)
    if spec == "self" and generate:
        return Feedback(lambda rollouts: [clean_answer(text) for text in generate([instruction(r, style) for r in rollouts])])
    if kind in ("ollama", "openai"):
        ask = endpoint(kind, *rest.partition("@")[::2], timeout, max_parallel, backoff)
        return Feedback(lambda rollouts: ask([instruction(r, style) for r in rollouts]), ping=lambda: ask(["Say ok."], 1))
    raise ValueError(f"feedback {spec!r} is none of tutor, lean, truth, self, const:TEXT, ollama:MODEL[@URL], openai:MODEL[@URL]")
