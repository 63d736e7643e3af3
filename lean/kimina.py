"""`--lean kimina:URL`: a Kimina Lean Server reads the files, our rules judge what it says.

Only the way to Lean differs from a local process: lean_env.py writes the same text around a
proof (the theorem put again by us, `#print axioms` under a name nobody can guess) and looks for
the same evidence in the answer. The server's own verdict is not used: it calls valid what has
no error and no `sorry` that it can see, so an axiom, a changed statement or an empty file
passes.

Servers differ, and none says how: some count lines from the file's first one and some from
behind its imports, and what has no import can share its Lean with what others declared. So
every file gets an import, and behind it a BEGINNING of ours that shows both.

API as read in the server's source, version 2.0.0 (POST /api/check), and tried with the code of
kimina-ast-server 2.1.3 (`make test-real`). Its key, where it wants one, is read from
KIMINA_API_KEY or LEAN_SERVER_API_KEY.
"""

import math
import os
import re
import time
from functools import partial

import requests

from lean.messages import is_error
from lean.text import blank, tokens

# What Python's splitlines, which the server uses, takes for the end of a line and Lean does
# not: behind one of these, what our guard reads as a comment would be code to the server's
# Lean.
NOT_LEANS_LINES = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")

OF_IMPORTS = set("prelude module public private meta import all".split())

# Where Lean answers the second of these lines, the next is line 1 of our text. The first is an
# error in a Lean where a text of ours has been before, and in one without a library.
BEGINNING = "theorem _our_text : True := True.intro\n#print axioms _our_text\n"
BEGUN = "'_our_text' does not depend on any axioms"

BUSY = "No available REPLs"  # in the server's words, as the next

# A server that reads at most 64 KiB of a message says so. Then it is asked to print less of
# every expression, and at last whether a term (in lean_env.frame's words) fails.
TOO_LONG = "Failed to read from REPL stdout"
LESS = "set_option pp.maxSteps {}\n"
TERM = re.compile(
    r"(?s):= (.*)\nexample : True := by first \| exact True\.intro \| exact \(\1\n\)\n.*"
)
DOES_IT_FAIL = r":= by\n first | exact (\1\n       ) | exact _it_fails"


def attach(env, url):
    """Make `env` (a LeanEnv that has no Lean yet) use the server at `url`. SystemExit, one
    line, when there is none."""
    url = (url if re.match("https?://", url) else f"http://{url}").rstrip("/")
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        # Nothing secret may stand in what is printed and logged.
        raise SystemExit(
            "--lean kimina: write kimina:http://HOST:PORT, without a user or a key in it "
            "(the key comes from KIMINA_API_KEY)"
        )
    env.argv, env.env, env.cwd, env.prelude = [], {}, None, ""
    env.batch = 1  # a request for each proof: the server has the header imported already
    env.workers = max(env.workers, 8)
    env.place = f"the Kimina server at {url}"
    env.read = partial(read, url)

    ask_version = f"{env.header}\n#eval Lean.versionString"
    try:
        requests.get(f"{url}/health", timeout=10, auth=show_key, allow_redirects=False)
        # The first import of Mathlib takes its time.
        code, messages, _ = read(url, ask_version, 300)
    except (requests.RequestException, ValueError) as error:
        raise SystemExit(
            f"--lean kimina: nothing answers at {url} ({type(error).__name__}). "
            "Start a Kimina Lean Server there (docker run -p 8000:8000 "
            "projectnumina/kimina-lean-server:2.0.0) or use another --lean"
        ) from None
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    if code not in (0, 1):
        raise SystemExit(
            f"--lean kimina: the Lean at {url} proves nothing behind {env.header!r}: "
            "has it these imports, and memory for them? Its log says more"
        )
    versions = [m["data"].strip('"') for m in messages if re.match(r'"\d', m["data"])]
    env.version = versions[0] if versions else "?"


def read(url, text, seconds):
    """The server reads a file -> (0 or 1: without or with errors, None when it took longer than
    `seconds`, 2 or 3 when there is no answer; messages as `lean --json` gives them; seconds).
    RuntimeError, one line, when asking again cannot help."""
    began = time.monotonic()
    text = text.encode("utf-8", "replace").decode()  # half characters are refused with 422
    imports, text = imports_first(NOT_LEANS_LINES.sub(" ", text))
    code, messages = answer(url, imports, text, seconds)
    if code == 3:
        code, messages = answer(url, imports + LESS.format(50), text, seconds)
    term = code == 3 and TERM.search(text)
    if term:
        # The answer can only reject: where there is no error, there is still no verdict.
        text = TERM.sub(DOES_IT_FAIL, text)
        _, messages = answer(url, imports + LESS.format(1), text, seconds)
        line = text.count("\n", 0, term.start()) + 1
        said = dict(line=line, column=0, data="what Lean says is too long for the server")
        messages = [m | said for m in messages if is_error(m)][:1]
        code = 1 if messages else 2
    messages = [m for m in messages if is_error(m) or "set_option linter." not in m["data"]]
    return code, messages, time.monotonic() - began


def imports_first(text):
    """-> (its imports, at least one, a line each, as a server knows them; the text with as many
    lines, where all is blank up to the first word that belongs to no import)."""
    imports = last = ""
    for word, at in tokens(text)[0]:
        if last in ("import", "all") and word != "all":
            imports += f"import {word}\n"
        elif word not in OF_IMPORTS:
            text = blank(text[:at]) + text[at:]
            break
        last = word
    return imports or "import Init\n", text


def answer(url, imports, text, seconds):
    """-> (code, messages) as `read`, 3: a message was too long."""
    reuse = True  # the Lean that has these imports
    for attempt in range(4):
        body = {
            "snippets": [{"id": "proof", "code": imports + BEGINNING + text}],
            "timeout": math.ceil(seconds),
            "reuse": reuse,
        }
        try:
            result = ask(url, body)
        except ConnectionError:
            result = {"error": BUSY}

        error, response = str(result.get("error") or ""), result.get("response")
        if BUSY in error:  # or being restarted
            time.sleep(2**attempt / 2)
        elif "header command timed out" in error:
            seconds = max(seconds, 300)  # that was the import, not the proof
        elif "timed out" in error:
            return None, []
        elif TOO_LONG in error:
            return 3, []
        elif error or not isinstance(response, dict):
            break
        else:
            # A REPL that fails says {"message": ...}: no messages, no evidence.
            messages = [leans_message(m) for m in response.get("messages") or []]
            first = min((m["line"] for m in messages if m["data"] == BEGUN), default=0)
            errors = [m["line"] for m in messages if is_error(m)]
            if first and first <= min(errors, default=first):
                behind = [m for m in messages if m["line"] > first]
                return int(bool(errors)), [dict(m, line=m["line"] - first) for m in behind]
            reuse = False
    return 2, []


def ask(url, body):
    """One request -> the result for our snippet. ConnectionError: worth another try.
    RuntimeError: not."""
    # Beside the check itself, the server may wait a minute for a free Lean, then import the
    # header.
    timeout = (10, 2 * body["timeout"] + 90)
    try:
        reply = requests.post(
            f"{url}/api/check",
            json=body,
            timeout=timeout,
            auth=show_key,
            allow_redirects=False,
        )
    except requests.RequestException:
        raise ConnectionError from None

    status = reply.status_code
    if status in (401, 403):
        raise RuntimeError(
            f"--lean kimina: {url} wants an API key ({status}): set KIMINA_API_KEY"
        )
    if status in (404, 405, 422) or 300 <= status < 400:
        raise RuntimeError(
            f"--lean kimina: {url} does not understand POST /api/check ({status}): "
            "is it a Kimina Lean Server, version 2.0 or newer?"
        )
    if status in (429, 502, 503, 504):
        raise ConnectionError
    try:
        (result,) = reply.json()["results"]
        return dict(result)
    except (ValueError, KeyError, TypeError):
        return {"error": reply.text}  # 500: its Lean died under this snippet


def show_key(request):
    """Our key, where there is one, and nothing that a .netrc holds."""
    key = os.environ.get("KIMINA_API_KEY") or os.environ.get("LEAN_SERVER_API_KEY")
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def leans_message(message):
    """A message of the REPL -> one of `lean --json`, which has a kind and other names for
    severities."""
    data, severity = message["data"], message["severity"]
    severity = severity.replace("info", "information")
    # Its quotes differ between versions.
    is_sorry = severity == "warning" and re.match("declaration uses .sorry.", data)
    kind = "hasSorry" if is_sorry else ""
    return dict(message["pos"], severity=severity, data=data, kind=kind)
