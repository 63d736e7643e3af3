"""One Lean process: its environment, its limits of time, and what it says. lean/child.py has
the other limits."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

CHILD = Path(__file__).resolve().with_name("child.py")
STACK = "--tstack=65536"  # Lean's default stacks reserve gigabytes of memory


def run(argv, cwd, env, seconds, memory):
    """One Lean process -> (exit code, or None when it ran past `seconds`; what it printed; what
    it printed to stderr; seconds it took). It prints to files, not to a pipe that a stray child
    could hold open. In the end its whole process group is killed."""
    cpu_seconds = str(int(4 * seconds) + 10)
    child = [sys.executable, "-I", "-S", str(CHILD), cpu_seconds, str(memory), *argv]
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **env}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            child,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        began = time.monotonic()

        def kill():
            # it may have ended and left nobody behind
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, kill)  # `process.wait(timeout)` would poll every 50 ms
        timer.start()
        try:
            code = process.wait()
        finally:
            timer.cancel()
            kill()
        took = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return None if took > seconds else code, *texts, took


def side_by_side(function, batches, workers):
    """function(batch) of each, in order, `workers` at a time; a bar on a terminal. Ctrl-C waits
    for the running ones only."""
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(function, batches)
        return list(tqdm(results, "Lean", len(batches), leave=False, disable=None))


def read(text, argv, cwd, env, seconds, memory):
    """`argv` and a file that holds `text` -> (exit code or None, messages, seconds) as of `run`.

    Messages [{"line", "column", "severity", "data", "kind"}] are Lean's lines of JSON. Whatever
    else was printed, by elan or lake perhaps, is evidence of nothing: the end of it comes last,
    as a message at line 0.
    """
    with tempfile.TemporaryDirectory(prefix="lean-") as folder:
        file = Path(folder) / "proofs.lean"
        file.write_bytes(text.encode("utf-8", "replace"))
        env = {"HOME": folder, "TMPDIR": folder, **env}
        argv = [*argv, str(file)]
        code, printed, errors, took = run(argv, cwd or folder, env, seconds, memory)

    messages, plain = [], []
    for line in printed.split("\n"):
        try:
            said = json.loads(line)
            # Whether these are there is asked first.
            where, data, severity = said["pos"], said["data"], said["severity"]
            messages.append(
                dict(where, severity=severity, data=data, kind=said.get("kind", ""))
            )
        except (ValueError, TypeError, KeyError):
            plain.append(line)
    rest = "\n".join([*plain, errors]).strip()[-1000:]
    if rest:
        place = {"line": 0, "column": 0}
        messages.append(dict(place, severity="information", data=rest, kind=""))
    return code, messages, took


def version(argv, cwd, env, seconds, memory):
    """What this Lean says about itself: "4.35.0", or "?" when it says nothing."""
    _, printed, _, _ = run([*argv, STACK, "--version"], cwd, env, seconds, memory)
    match = re.search(r"version ([^ ,)]+)", printed)
    return match[1] if match else "?"
