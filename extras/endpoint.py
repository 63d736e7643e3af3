"""A language model behind HTTP: a local Ollama, or any server that speaks OpenAI's format.

A server may send anything, or nothing: each question ends, in bounded time, as an Answer or as a
NoAnswer that says why there is none.
"""

import json
import multiprocessing
import os
import re
import time
from dataclasses import dataclass
from itertools import count
from multiprocessing.pool import ThreadPool

import requests
import urllib3
from tqdm import tqdm

URLS = {"ollama": "http://localhost:11434", "openai": "https://api.openai.com/v1"}
PATHS = {"ollama": "/api/chat", "openai": "/chat/completions", "raw": "/completions"}

# Finish reasons in the words of several servers. All others, and none at all, are a normal end.
CUT = set("length max_tokens max_length model_length model_context_window_exceeded".split())
GAVE_UP = set("""
    abort aborted cancelled content_filter error refusal safety recitation
    insufficient_system_resource
    """.split())
# What a terminal would obey, half characters, and what some take for the end of a line.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

ADVICE = (
    ". Does the server run, does it have the model (ollama pull), is OPENAI_API_KEY right? Other "
    "addresses: ollama:MODEL@URL, openai:MODEL@URL/v1, --endpoint URL/v1"
)


@dataclass
class Answer:
    """What a reply says. cut: by a limit of tokens. tokens: how many were written, 0 where the
    server does not tell."""

    text: str
    cut: bool
    tokens: int


class NoAnswer(Exception):
    """Why a question has no answer. tries: how many in all such a failure is worth. pause:
    seconds that the server asks for."""

    def __init__(self, why, tries=1, pause=0.0):
        super().__init__(why)
        self.tries = tries
        self.pause = pause


class GivenUp(SystemExit):
    """Most of the last requests failed; the text says why, in one line."""


class Endpoint:
    """A language model behind HTTP: endpoint(texts) -> answers, None for those that failed.

    kind: "ollama" (its own chat API), "openai" (any server's chat completions) or "raw" (its
    completions). read: Answer -> what is wanted of it, or a NoAnswer. limit: tokens of an answer.
    timeout: seconds of silence; a question with all its tries and pauses gets twice as many.
    max_parallel: requests at a time, None: 4 for Ollama, else 8. backoff: seconds of the
    first pause. extras: fields that are left out where the server refuses them. fields: more of
    what is sent. ValueError for an address that cannot be one.
    """

    def __init__(
        self,
        kind,
        model,
        url,
        read,
        limit=1024,
        timeout=300.0,
        max_parallel=None,
        backoff=0.5,
        extras={},
        **fields,
    ):
        self.kind = kind
        self.model = model
        self.url = (url.rstrip("/") or URLS[kind]) + PATHS[kind]
        if not model or not re.fullmatch(r"https?://[^\s@?#]+", self.url):
            # Nothing secret may stand in what is printed and logged.
            raise ValueError(
                f"feedback {kind}: write {kind}:MODEL or {kind}:MODEL@http://HOST:PORT, "
                "without a user or a key in it"
            )
        self.read = read
        self.limit = limit
        self.timeout = timeout
        self.max_parallel = max_parallel or (4 if kind == "ollama" else 8)
        self.backoff = backoff
        self.fields = fields
        self.options = {}  # more of Ollama's
        self.context = 8192  # its tokens, at least
        self.fixed = False  # no more of these for a long text
        self.failed = []  # one bool a request
        self.trouble = ""  # the last failure

        # What the limit is called, and extras. A refusal (400, 422) drops the first choice, a first
        # answer all the others. OpenAI's models that reason have another name for the limit.
        self.choices = [("max_tokens", extras), ("max_tokens", {}), ("max_completion_tokens", {})]
        self.key = os.environ.get("OPENAI_API_KEY", "").strip()
        if kind == "ollama":
            self.choices = [("", extras)]
            self.key = ""

    # --- many questions

    def __call__(self, texts, least=8):
        """Answers in order; `tokens` counts theirs. GivenUp when most of the last requests failed.

        least: how many requests must have been made before that is said. Prints a line when it
        waits long, and one when some questions got no answer.
        """
        self.tokens = 0
        self.trouble = ""
        tries = 5 if least == 1 else 9
        answers = []
        quiet = len(texts) == 1 or None  # None: tqdm decides by the terminal
        # What still runs when this block is left is not waited for: its threads are daemons.
        with ThreadPool(self.max_parallel) as pool:
            results = [pool.apply_async(self.ask, (text, tries)) for text in texts]
            for result in tqdm(results, self.model, disable=quiet, leave=False):
                answers.append(self.take(self.wait(result), least))

        failed = answers.count(None)
        if failed:
            print(f"{failed} of {len(texts)} requests to {self.model} failed: {self.trouble}")
        return answers

    def ping(self):
        """SystemExit with advice when the endpoint cannot be used."""
        read, limit = self.read, self.limit
        self.read, self.limit = str, 16  # whatever it says, and be it cut, will do
        self(["Say ok."], least=1)
        self.read, self.limit = read, limit

    def wait(self, result):
        """The Answer or NoAnswer of the oldest open question."""
        patience = 2 * self.timeout + 1  # its thread has less, but cannot always see a clock
        pause = 30.0
        while patience > 0:
            try:
                return result.get(min(pause, patience))
            except multiprocessing.TimeoutError:
                tqdm.write(f"waiting for {self.model} at {self.url} {self.trouble}")
                patience -= pause
                pause *= 2
        return NoAnswer("its connection hangs")

    def take(self, answer, least):
        """Count a result -> what `read` makes of it, or None."""
        if isinstance(answer, Answer):
            self.tokens += answer.tokens
            answer = self.read(answer)
        self.failed.append(isinstance(answer, NoAnswer))
        if not self.failed[-1]:
            return answer

        self.trouble = str(answer)
        recent = self.failed[-32:]
        if len(self.failed) >= least and 2 * sum(recent) > len(recent):
            raise GivenUp(f"no answer from {self.model} at {self.url}: {answer}.")
        return None

    # --- one question, in a thread

    def ask(self, text, patience):
        """One question with its tries, `patience` at most -> its Answer, or the last NoAnswer."""
        deadline = time.monotonic() + 2 * self.timeout
        for tried in count(1):
            try:
                return self.request(text, deadline)
            except NoAnswer as failure:
                self.trouble = f"({failure})"
                pause = max(self.backoff * 2 ** (tried - 1), failure.pause)
                is_last = tried >= min(failure.tries, patience)
                if is_last or time.monotonic() + pause > deadline:
                    return failure
                time.sleep(pause)

    def request(self, text, deadline):
        """One request -> its Answer. Raises a NoAnswer that says why there is none."""
        choices = self.choices
        body = self.body(text, *choices[0])
        try:
            status, headers, data = self.post(body, deadline)
        except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
            raise NoAnswer(f"no answer in time ({self.timeout:g} s)", 2) from None
        except Exception as error:  # its text can quote headers
            lost = isinstance(error, (requests.ConnectionError, urllib3.exceptions.HTTPError))
            why = f"no connection ({type(error).__name__}){ADVICE}"
            raise NoAnswer(why, 9 if lost else 1) from None

        said = self.harmless(" ".join(data[:4000].decode(errors="replace").split()))
        said = f"HTTP {status} {said[:200]}"
        if status == 200:
            self.choices = choices[:1]
            try:
                return self.understand(json.loads(data))
            except Exception:  # whatever was sent
                raise NoAnswer(f"{said} is no reply of its format{ADVICE}") from None

        if status in (400, 422) and len(choices) > 1:
            if self.choices is choices:  # no other thread was faster
                self.choices = choices[1:]
                refused = ", ".join(choices[0][1]) or "max_tokens"
                print(f"{self.model} at {self.url} refused {refused}: its own settings decide")
            return self.request(text, deadline)
        raise self.failure(status, headers, said)

    def failure(self, status, headers, said):
        """The NoAnswer of an HTTP status that is none of success."""
        tries = 1
        if status in (429, 502, 503, 504):
            tries = 9  # an outage, which lasts
        elif status in (408, 409) or status >= 500:
            tries = 5
        pause = 0.0
        try:
            pause = urllib3.Retry().parse_retry_after(headers["Retry-After"])
        except Exception:
            pass  # it asks for none, or in no way that can be read
        if pause > 1:
            said += f" (it wants a pause of {pause:.0f} s)"
        if status < 400 or status in (401, 403, 404):
            said += ADVICE
        return NoAnswer(said, tries, pause)

    def post(self, body, deadline):
        """Send a body -> (status, headers, the reply's bytes). TimeoutError, requests' errors."""
        data = bytearray()
        # A connection is used once: what else comes on it belongs to no question. `auth` keeps
        # requests from sending a password of .netrc; proxies come from the environment.
        with requests.post(
            self.url,
            json=body,
            auth=self.sign,
            headers={"Connection": "close", "Accept-Encoding": "identity"},
            timeout=(min(10, self.timeout), self.timeout),
            allow_redirects=False,
            stream=True,
        ) as reply:
            while len(data) < (1 << 20) + 64 * self.limit:
                part = reply.raw.read1(1 << 16)
                if not part:
                    return reply.status_code, reply.headers, bytes(data)
                data += part
                if time.monotonic() > deadline:
                    raise TimeoutError
        raise ValueError("endless")

    def sign(self, request):
        """Our key, or none."""
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request

    def body(self, text, limit_name, extras):
        """What is sent. NoAnswer for a text that a fixed context has no room for."""
        body = {"model": self.model, "stream": False, **self.fields, **extras}
        if self.kind == "ollama":
            # Its default of 4,096 cuts in silence. Powers of two: a new size loads it again.
            room = len(text) // 2 + 4096 + self.limit
            size = max(self.context, 1 << room.bit_length())
            if self.fixed and size > self.context:
                raise NoAnswer(
                    f"{len(text)} characters may not fit into the {self.context} tokens that "
                    "--tutor-card shared leaves it: turns or cpu has no such limit"
                )
            body["options"] = {"num_ctx": size, "num_predict": self.limit, **self.options}
        else:
            body[limit_name] = self.limit
        if self.kind == "raw":
            return body | {"prompt": text}
        return body | {"messages": [{"role": "user", "content": text}]}

    def understand(self, reply):
        """A reply's JSON -> Answer, or NoAnswer where the server gave up. Any error for what is no
        reply."""
        choice = reply if self.kind == "ollama" else reply["choices"][0]
        message = choice if "text" in choice else choice["message"]
        reason = choice.get("finish_reason") or choice.get("done_reason") or ""
        reason = str(reason).lower()
        if reason in GAVE_UP:
            return NoAnswer(f"the server gave up ({reason})")

        text = message.get("text", message.get("content")) or ""
        if isinstance(text, list):
            text = "".join(part["text"] for part in text if part["type"] == "text")
        text = self.harmless(text)

        number = reply.get("eval_count")
        if isinstance(reply.get("usage"), dict):
            number = reply["usage"].get("completion_tokens")
        is_count = isinstance(number, (int, float)) and 0 < number < 1e9
        return Answer(text, reason in CUT, int(number) if is_count else 0)

    def harmless(self, text):
        """A server's text with nothing in it that a terminal or a file cannot take, nor our key
        (short ones are no secrets)."""
        if len(self.key) > 7:
            text = text.replace(self.key, "***")
        return UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))
