"""`--lean kimina:URL`: a Kimina Lean Server reads the files, our rules judge what it says.

Only the way to Lean differs from a local process: lean_env.py writes the same text around a
proof (the theorem put again by us, `#print axioms` under a name nobody can guess) and looks for
the same evidence in the answer. The server's own verdict is not used: it calls valid what has
no error and no `sorry` that it can see, so an axiom, a changed statement or an empty file
passes.

API as read in the server's source, version 2.0.0 (POST /api/check); not yet run against a real
server. Its key, where it wants one, is read from KIMINA_API_KEY or LEAN_SERVER_API_KEY.
"""

import math
import os
import re
import time
from functools import partial

import requests

# What Python's splitlines, which the server uses, takes for the end of a line and Lean does
# not: behind one of these, what our guard reads as a comment would be code to the server's
# Lean.
NOT_LEANS_LINES = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def attach(env, url):
    """Make `env` (a LeanEnv that has no Lean yet) use the server at `url`. SystemExit, one
    line, when there is none."""
    url = (url if re.match("https?://", url) else f"http://{url}").rstrip("/")
    env.argv, env.env, env.cwd, env.prelude = [], {}, None, ""
    env.batch = 1  # a request for each proof: the server has the header imported already
    env.workers = max(env.workers, 8)
    env.place = f"the Kimina server at {url}"
    env.read = partial(read, url)

    ask_version = f"{env.header}\n#eval Lean.versionString"
    try:
        requests.get(f"{url}/health", timeout=10)
        # The first import of Mathlib takes its time.
        _, messages, _ = read(url, ask_version, 300)
    except (requests.RequestException, ValueError) as error:
        raise SystemExit(
            f"--lean kimina: nothing answers at {url} ({type(error).__name__}). "
            "Start a Kimina Lean Server there (docker run -p 8000:8000 "
            "projectnumina/kimina-lean-server:2.0.0) or use another --lean"
        ) from None
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    versions = [m["data"].strip('"') for m in messages if re.match(r'"\d', m["data"])]
    env.version = versions[0] if versions else "?"


def read(url, text, seconds):
    """The server reads a file -> (0 or 1: without or with errors, None when it took longer than
    `seconds`, 2 when there is no answer; messages as `lean --json` gives them; seconds).
    RuntimeError, one line, when asking again cannot help."""
    began = time.monotonic()
    snippet = {"id": "proof", "code": NOT_LEANS_LINES.sub(" ", text)}
    code, messages = 2, []
    for attempt in range(4):
        body = {
            "snippets": [snippet],
            "timeout": math.ceil(seconds),
            "debug": False,
            "reuse": True,
        }
        try:
            result = ask(url, body)
        except ConnectionError:  # busy, or being restarted
            time.sleep(2**attempt / 2)
            continue

        error, response = str(result.get("error") or ""), result.get("response")
        if "header command timed out" in error:
            seconds = max(seconds, 300)  # that was the import, not the proof
            continue
        if "timed out" in error:
            code = None
        elif not error and isinstance(response, dict):
            # A REPL that fails says {"message": ...}: no messages, no evidence, a crash.
            messages = [leans_message(m) for m in response.get("messages") or []]
            code = int(any(m["severity"] == "error" for m in messages))
        break
    messages = [m for m in messages if "set_option linter." not in m["data"]]
    return code, messages, time.monotonic() - began


def ask(url, body):
    """One request -> the result for our snippet. ConnectionError: worth another try.
    RuntimeError: not."""
    key = os.environ.get("KIMINA_API_KEY") or os.environ.get("LEAN_SERVER_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Beside the check itself, the server may wait a minute for a free Lean, then import the
    # header.
    timeout = (10, 2 * body["timeout"] + 90)
    try:
        reply = requests.post(f"{url}/api/check", json=body, headers=headers, timeout=timeout)
    except requests.RequestException:
        raise ConnectionError from None

    status = reply.status_code
    if status in (401, 403):
        raise RuntimeError(
            f"--lean kimina: {url} wants an API key ({status}): set KIMINA_API_KEY"
        )
    if status in (404, 405, 422):
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
        return {}  # 500: its Lean died under this snippet


def leans_message(message):
    """A message of the REPL -> one of `lean --json`, which has a kind and other names for
    severities."""
    data, severity = message["data"], message["severity"]
    if severity == "info":
        severity = "information"
    kind = ""
    # Its quotes differ between versions.
    if severity == "warning" and re.match(r"declaration uses .sorry.", data):
        kind = "hasSorry"
    return dict(message["pos"], severity=severity, data=data, kind=kind)
