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
from pathlib import Path

CHILD = Path(__file__).resolve().with_name("child.py")
STACK = "--tstack=65536"  # Lean's default stacks reserve gigabytes of memory


def run(argv, cwd, env, seconds, memory):
    """One Lean process -> (exit code, or None when it ran past `seconds`; what it printed;
    seconds it took). It prints to a file, not a pipe that a stray child could hold open. In the
    end its whole process group is killed."""
    cpu_seconds = str(int(4 * seconds) + 10)
    child = [sys.executable, "-I", "-S", str(CHILD), cpu_seconds, str(memory), *argv]
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **env}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            child,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
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
        out.seek(0)
        printed = out.read().decode("utf-8", "replace")
    return None if took > seconds else code, printed, took


def read(text, argv, cwd, env, seconds, memory):
    """`argv` and a file that holds `text` -> as `run`, but for what was printed its messages:
    [{"line", "column", "severity", "data", "kind"}]. They are Lean's lines of JSON; whatever
    else was printed is evidence of nothing."""
    with tempfile.TemporaryDirectory(prefix="lean-") as folder:
        file = Path(folder) / "proofs.lean"
        file.write_bytes(text.encode("utf-8", "replace"))
        env = {"HOME": folder, "TMPDIR": folder, **env}
        code, printed, took = run([*argv, str(file)], cwd or folder, env, seconds, memory)

    messages = []
    for line in printed.split("\n"):
        try:
            said = json.loads(line)
            # Whether these are there is asked first.
            where, data, severity = said["pos"], said["data"], said["severity"]
            messages.append(
                dict(where, severity=severity, data=data, kind=said.get("kind", ""))
            )
        except (ValueError, TypeError, KeyError):
            continue
    return code, messages, took


def version(argv, cwd, env, memory):
    """What this Lean says about itself: "4.35.0", or "?" when it says nothing."""
    _, printed, _ = run([*argv, STACK, "--version"], cwd, env, 60, memory)
    match = re.search(r"version ([^ ,)]+)", printed)
    return match[1] if match else "?"
