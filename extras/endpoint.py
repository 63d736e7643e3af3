"""A language model behind HTTP: a local Ollama, or any server that speaks OpenAI's format."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import requests
import urllib3

URLS = {"ollama": "http://localhost:11434", "openai": "https://api.openai.com/v1"}
PATHS = {"ollama": "/api/chat", "openai": "/chat/completions", "raw": "/completions"}


class Endpoint:
    """A language model behind HTTP: endpoint(texts) -> answers, None where all tries failed.

    kind: "ollama" (its own chat API), "openai" (any server's chat completions) or "raw" (its
    completions). read: takes the answer out of a reply's JSON. timeout: seconds of silence;
    max_parallel: requests at a time; backoff: seconds of the first pause between two tries;
    fields: more of what is sent. ValueError for an address that cannot be one.
    """

    def __init__(
        self,
        kind,
        model,
        url,
        read,
        timeout=300.0,
        max_parallel=8,
        backoff=0.5,
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
        self.timeout = timeout
        self.read = read
        self.fields = fields
        self.failed = []  # one bool a request
        self.pool = ThreadPoolExecutor(max_parallel)

        # Up to four more tries after connection errors, timeouts (two) and these answers; the
        # pauses grow and respect Retry-After.
        retry = urllib3.Retry(
            4,
            read=2,
            allowed_methods=None,
            status_forcelist=[408, 409, 429, *range(500, 600)],
            raise_on_status=False,
            backoff_factor=backoff,
            backoff_jitter=backoff,
        )
        self.session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(
            max_retries=retry, pool_maxsize=max_parallel
        )
        self.session.adapters = {"http://": adapter, "https://": adapter}
        self.key = ""
        if kind != "ollama":
            self.key = os.environ.get("OPENAI_API_KEY", "").strip()
        if self.key:
            self.session.headers["Authorization"] = f"Bearer {self.key}"

    def __call__(self, texts, least=8):
        """Answers in order. SystemExit with advice when most of the last requests failed.

        least: how many requests must have been made before that is said.
        """
        answers = self.pool.map(self.ask, texts, [least] * len(texts))
        return list(answers)  # an exception cancels what is not sent yet

    def ping(self):
        """SystemExit with advice when the endpoint cannot be used."""
        self(["Say ok."], least=1)

    def ask(self, text, least):
        """One request, with its retries -> the answer, or None."""
        answer = None
        error = "no answer"
        try:
            reply = self.session.post(
                self.url,
                json=self.body(text),
                timeout=(10, self.timeout),
                allow_redirects=False,
            )
            said = " ".join(reply.text.split())
            if self.key:
                said = said.replace(self.key, "***")
            error = f"HTTP {reply.status_code} {said[:200]}"
            if reply.status_code == 200:
                answer = self.read(reply.json())
        except (
            OSError,
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
        ) as exception:
            error += f" ({type(exception).__name__})"  # its text can quote headers

        self.failed.append(answer is None)
        recent = self.failed[-32:]
        if (
            answer is None
            and len(self.failed) >= least
            and 2 * sum(recent) > len(recent)
        ):
            raise SystemExit(
                f"no answer from {self.model} at {self.url}: {error}. Does the server run, does "
                "it have the model (ollama pull), is OPENAI_API_KEY right? Other addresses: "
                "ollama:MODEL@URL, openai:MODEL@URL/v1, --endpoint URL/v1."
            )
        return answer

    def body(self, text):
        """What is sent."""
        body = {"model": self.model, "stream": False, **self.fields}
        if self.kind == "raw":
            return body | {"prompt": text}
        body["messages"] = [{"role": "user", "content": text}]
        if self.kind == "ollama":
            # Its default of 4,096 cuts in silence. Powers of two: a new size loads it again.
            size = max(8192, 1 << (len(text) // 2 + 4096).bit_length())
            body["options"] = {"num_ctx": size}
        return body
