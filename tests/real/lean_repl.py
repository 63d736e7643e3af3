"""Plays `repl`, Lean's read-eval-print loop, on the embedded Lean: a JSON object and a blank line -> a JSON object and a blank line.

As in the real one a command without "env" begins with imports (all are the embedded library here; a missing one leaves nothing), one
with an "env" goes on where that command ended, and each message stands on a line of its own.
"""
import json
import re
import sys

from lean import process
from lean_env import LeanEnv

lean = LeanEnv(lean="wheel")
commands = []  # the whole text up to the end of each


def run(command):
    number = command.get("env")
    if number is not None and number >= len(commands):
        return {"message": "Unknown environment."}
    before, text = "prelude\n", command["cmd"]
    if number is not None:
        before = commands[number]
    elif "import Missing" not in text:
        before += "import Core\n"
        text = re.sub(r"(?m)^import .*", "", text)
    code, messages, _ = process.read(f"{before}{text}\n", [*lean.argv, "--json", process.STACK], None, lean.env, 60, lean.memory)
    if code not in (0, 1):
        sys.exit(1)
    commands.append(f"{before}{text}\n")
    start = before.count("\n")
    said = [{"severity": m["severity"].replace("information", "info"), "pos": {"line": m["line"] - start, "column": m["column"]},
             "endPos": None, "data": m["data"]} for m in messages if m["line"] > start]
    return {"env": len(commands) - 1} | ({"messages": said} if said else {})


asked = ""
for line in sys.stdin:
    asked += line
    if asked.strip() and not line.strip():
        print(json.dumps(run(json.loads(asked)), ensure_ascii=False, indent=1), end="\n\n", flush=True)
        asked = ""
