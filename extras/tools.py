"""The paper's three tools: `lean_write_file`, `lean_check_file`, `rg_in_mathlib`. Only tool mode imports this.

    call = find_call(text)                                  # sampling stops at the first complete call
    if call:
        output = run_tool(env, theorem, folder, call.name, call.args)
        text = text[:call.end] + tool_output(output, style)  # appended, not sampled; then sampling goes on
    ...
    verdict = final_verdict(env, theorem, folder, answer(text))

`folder` belongs to one attempt. Models write calls in one of three styles: "json" (Qwen3: JSON in <tool_call> tags),
"xml" (Qwen3.5: functions in <tool_call> tags) and "text" for provers that never saw a tool: lines that cannot stand in
a Lean proof,

    #rg mul_comm
    #write a.lean
    theorem t (a b : Nat) : a * b = b * a := Nat.mul_comm a b
    #end
    #compile a.lean

whose outputs come back as Lean comments. A file or an answer that holds no `theorem` is read as the proof alone
(`by ...`) and gets the statement put before it, so that a small prover need not copy it.

What is covered: files by plain names in `folder` only (no other folder, no links), their size and number, the length of
every output, and a search that starts no shell, takes no option from the model and ends after 20 s. What a checked file
may do: see lean_env.py.
"""
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

MAX_BYTES, MAX_FILES, MAX_OUTPUT, MAX_LINES, SEARCH_SECONDS = 2**16, 16, 2000, 20, 20
CORE = Path(__file__).resolve().parent.parent / "lean" / "core.lean"  # what the embedded Lean has instead of Mathlib

ARGS = {"lean_write_file": {"path": "File name such as proof.lean.", "content": "The whole Lean file."},
        "lean_check_file": {"path": "Name of a file that was written."},
        "rg_in_mathlib": {"pattern": "Regular expression, as ripgrep reads it."}}
ABOUT = {"lean_write_file": "Write a Lean 4 file. The last written file that proves the theorem is the answer.",
         "lean_check_file": "Compile a written file; returns Lean's errors and warnings, or success.",
         "rg_in_mathlib": "Search the source of Mathlib for a regular expression; returns matching lines."}
# For `tokenizer.apply_chat_template(messages, tools=TOOLS)`.
TOOLS = [{"type": "function", "function": {"name": name, "description": ABOUT[name], "parameters": {
    "type": "object", "properties": {key: {"type": "string", "description": text} for key, text in args.items()},
    "required": list(args)}}} for name, args in ARGS.items()]


def tool_prompt(style):
    """The words that tell a model about the tools, for one whose chat template does not: "json" and "xml" a schema a line
    and the form of a call, "text" the three lines."""
    if style != "text":
        form = '{"name": NAME, "arguments": {...}}' if style == "json" else "<function=NAME><parameter=KEY>VALUE</parameter></function>"
        return "\n".join(["Tools:", *map(json.dumps, TOOLS), f"To call one, write <tool_call>{form}</tool_call>; its output follows."])
    return ("Tools, each on lines of its own: `#rg REGEX` searches Mathlib. `#write NAME.lean`, then a Lean file, then "
            "`#end` writes the file. `#compile NAME.lean` compiles it. The output follows as a comment.")


# ---- calls
class Call(NamedTuple):
    """text[start:end] is the call. A malformed one has the name "" and args {"error": what is wrong}."""
    start: int
    end: int
    name: str
    args: dict


OPENING = re.compile(r"<tool_call>|^#(?:rg|write|compile)\b", re.M)
CLOSED = re.compile(r"<tool_call>(?P<tags>(?s:.*?))</tool_call>|#rg[ \t](?P<rg>.*)\n|#compile[ \t]+(?P<compile>.*)\n"
                    r"|#write[ \t]+(?P<write>.*)\n(?P<content>(?:.*\n)*?)#end[ \t\r]*\n"
                    r"|#(?P<bad>(?:rg|compile|write)(?![ \t]+\S).*)\n")


def find_call(text):
    """The first complete call in a text, or None. A call that has begun and is not complete hides what comes after it:
    the lines of a file that is being written are no calls."""
    opening = OPENING.search(text)
    call = opening and CLOSED.match(text, opening.start())
    if not call:
        return None
    if call["tags"] is not None:
        name, args = _parse(call["tags"].strip())
    elif call["rg"] is not None:
        name, args = "rg_in_mathlib", {"pattern": call["rg"].strip()}
    elif call["compile"] is not None:
        name, args = "lean_check_file", {"path": call["compile"].strip()}
    elif call["write"] is not None:
        name, args = "lean_write_file", {"path": call["write"].strip(), "content": call["content"]}
    else:
        name, args = "", {"error": f"`#{call['bad'].strip()[:60]}`: what to work on is missing"}
    return Call(call.start(), call.end(), name, args)


def _parse(body):
    """What stands in <tool_call> tags, in JSON or in XML -> (name, args), or ("", {"error": ...})."""
    if body.startswith("<function="):
        function = re.fullmatch(r"<function=([^>\n]*)>(.*)</function>", body, re.S)
        if not function:
            return "", {"error": "`<function=NAME>` has no end"}
        # a value keeps its white space, but for the line breaks that the template puts around it
        pairs = re.findall(r"<parameter=([^>\n]*)>\n?(.*?)\n?</parameter>", function[2], re.S)
        return function[1].strip(), {key.strip(): value for key, value in pairs}
    try:
        call = json.loads(body, strict=False)  # real line breaks inside a string are forgiven
        name, args = call["name"], call["arguments"]
        args = json.loads(args, strict=False) if isinstance(args, str) else args
        if isinstance(name, str) and isinstance(args, dict):
            return name, args
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return "", {"error": 'not of the form {"name": NAME, "arguments": {...}}'}


# The turn that Qwen's chat template writes around an output.
TURN = ("<|im_end|>\n<|im_start|>user\n<tool_response>", "</tool_response><|im_end|>\n<|im_start|>assistant\n")


def tool_output(output, style):
    """What is put after a call, in the words that the model knows: Lean comments, or a turn of the chat. The output can
    end neither, and cannot pass for a call."""
    if style == "text":
        return "".join(f"-- {line}\n" for line in output.split("\n"))
    output = re.sub(r"<(?=/?tool_|\|)", "< ", output)
    return f"{TURN[0]}\n{output}\n{TURN[1]}" + "<think>\n" * (style == "xml")


def answer(text):
    """An attempt without its calls and their outputs: what is left is the final answer, "" where there is none."""
    while call := find_call(text):
        if text.startswith("#", call.start):  # a raw prover: the lines around a call are its proof
            text = text[:call.start] + text[re.compile("(?:--(?: .*)?\n)*").match(text, call.end).end():]
        else:  # a chat: what counts comes after the last tool's turn
            text = re.compile(rf"\s*(?:{re.escape(TURN[0])}\n.*?\n{re.escape(TURN[1])}(?:<think>\n)?)?", re.S).sub(
                "", text[call.end:], count=1)
    return text if text.strip() else ""


# ---- running them
def run_tool(env, theorem, folder, name, args, limit=MAX_OUTPUT):
    """`run_tools` for one call."""
    return run_tools(env, [(theorem, folder, name, args)], limit)[0]


def run_tools(env, calls, limit=MAX_OUTPUT):
    """[(Theorem, folder of the attempt, name, args)] -> what each tool prints, in order, cut with a note at `limit`
    characters. Files are checked all at once. Whatever a model may write gets an answer in words: nothing is raised.
    Two calls of one attempt belong in two batches."""
    outputs, checks, searches = [None] * len(calls), [], []
    for i, (theorem, folder, name, args) in enumerate(calls):
        error = _wrong(name, args)
        if error:
            outputs[i] = f"error: {error}"
        elif name == "lean_write_file":
            outputs[i] = _write(folder, **args)
        elif name == "rg_in_mathlib":
            searches.append((i, args["pattern"]))
        else:
            text, outputs[i] = _read(folder, **args)
            checks += [(i, theorem, _as_file(theorem, text))] if text is not None else []
    verdicts = env.check_files([(theorem, text) for _, theorem, text in checks], sketch=True) if checks else []
    for (i, _, _), verdict in zip(checks, verdicts):
        outputs[i] = _report(verdict, calls[i][3]["path"])
    with ThreadPoolExecutor(env.workers) as pool:
        for (i, _), found in zip(searches, pool.map(lambda one: search(env, one[1]), searches)):
            outputs[i] = found
    return [output if len(output) <= limit else f"{output[:limit]}\n[{len(output) - limit} more characters left out]"
            for output in outputs]


def _wrong(name, args):
    if not name:
        return f"malformed tool call: {args.get('error')}"
    if name not in ARGS:
        return f"there is no tool {name[:60]!r}; there are {', '.join(ARGS)}"
    if set(args) != set(ARGS[name]) or not all(isinstance(value, str) for value in args.values()):
        return f"{name} takes {' and '.join(ARGS[name])}, as text, and nothing else"
    text = "".join(args.values())
    if "\0" in text or text != text.encode("utf-8", "replace").decode():  # half a surrogate pair, from an escape in JSON
        return "there is a character in it that no file can hold"


def _path(folder, path):
    """-> (the file, None) or (None, why not). A plain name leads to no other folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,58}\.lean", path):
        return None, f"error: {path[:80]!r} is no plain file name such as proof.lean"
    return Path(folder) / path, None


def _open(file, flags):
    """A descriptor of a regular file, through no link. OSError."""
    descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError("not a plain file")
    return descriptor


def _write(folder, path, content):
    file, error = _path(folder, path)
    data = content.encode("utf-8", "replace")
    if error or len(data) > MAX_BYTES:
        return error or f"error: {len(data)} bytes, and a file may have {MAX_BYTES}"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not file.exists() and len(os.listdir(folder)) >= MAX_FILES:
            return f"error: there are {MAX_FILES} files already; write one of them again"
        with open(_open(file, os.O_WRONLY | os.O_CREAT), "wb") as f:
            f.truncate()
            f.write(data)
            os.utime(f.fileno(), ns=(time.time_ns(),) * 2)  # to the nanosecond: the order of the files
    except OSError as e:
        return f"error: {path} cannot be written ({e.strerror or e})"
    return f"wrote {path}, {content.count(chr(10)) + (not content.endswith(chr(10)))} lines"


def _read(folder, path):
    """-> (text, None) or (None, why not)."""
    file, error = _path(folder, path)
    if error:
        return None, error
    try:
        with open(_open(file, os.O_RDONLY), "rb") as f:
            return f.read(MAX_BYTES).decode("utf-8", "replace"), None
    except FileNotFoundError:
        there = ", ".join(sorted(os.listdir(folder))) if os.path.isdir(folder) else ""
        return None, f"error: there is no {path}; " + (f"there are {there}" if there else "nothing was written yet")
    except OSError as e:
        return None, f"error: {path} cannot be read ({e.strerror or e})"


def _written(folder):
    """The texts of the files of an attempt, the newest first."""
    files = sorted(Path(folder).glob("*.lean"), key=lambda file: -file.lstat().st_mtime_ns)
    return [text for text, _ in (_read(folder, file.name) for file in files) if text]


def _as_file(theorem, text):
    """A proof alone gets its statement."""
    from lean.text import tokens  # here, because this file is also run by itself, as `_search_here`

    whole = any(word in ("theorem", "lemma") for word, _ in tokens(text)[0])
    return text if whole else f"{theorem.statement} := {text.lstrip()}"


def _report(verdict, path):
    """A verdict on a file in words, as a compiler prints them."""
    if verdict.status == "timeout":
        return "Lean ran out of time on this file."
    if verdict.status == "crash":
        return "Lean broke down on this file: this says nothing about the proof."
    lines = [f"{path}:{m['line']}:{m['column']}: {m['severity']}: {m['data']}" for m in verdict.messages]
    rests = f" It rests on {', '.join(verdict.axioms)}." * bool(verdict.axioms)
    return "\n".join([*lines, {"proved": "It compiles and proves the theorem."}.get(
        verdict.status, f"It does not prove the theorem.{rests}")])


# ---- search
FOUND = {}  # (folder, pattern) -> what was found: the files do not change while we run, and many attempts ask for the same


def search(env, pattern):
    """Lines of the project's Mathlib that match, or of data/core.lean where there is none, MAX_LINES at most; or what
    is wrong, in words. With ripgrep where it is installed, else with Python's `re` in a process of its own, which is
    killed after SEARCH_SECONDS."""
    mathlib = env.cwd and Path(env.cwd) / ".lake" / "packages" / "mathlib" / "Mathlib"
    folder, name = (mathlib, ".") if mathlib and mathlib.is_dir() else (CORE.parent, CORE.name)
    if not pattern.strip() or len(pattern) > 300:
        return "error: a pattern has 1 to 300 characters"
    if (folder, pattern) in FOUND:
        return FOUND[folder, pattern]
    # `-e`: what follows is a pattern, whatever it begins with. No configuration file, no --pre, files in a fixed order.
    argv = ["rg", "--no-config", "--no-messages", "--color=never", "--no-heading", "--with-filename", "--line-number",
            "--sort=path", "--smart-case", "--max-columns=300", "--max-count=50", "--glob=*.lean",
            "-e", pattern, "--", name]
    if not shutil.which("rg"):
        argv = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), pattern, name]
    out, code = _run_capped(argv, folder)
    if code is None:
        return f"error: the search took longer than {SEARCH_SECONDS} s: use a simpler pattern"
    lines = [re.sub(rf"^{re.escape(CORE.name)}:\d+:|^\./", "", line) for line in out.split("\n") if line]
    if code not in (0, 1, -9):  # 1: nothing matches; -9: there was more than we wanted to read
        return f"error: {' '.join(' '.join(lines).split())[:300] or 'this pattern cannot be searched'}"
    if not lines:
        return "no match"
    more = f"\n[more than {MAX_LINES} lines match; the first {MAX_LINES} are shown]" * (len(lines) > MAX_LINES)
    if len(FOUND) < 10_000:
        FOUND[folder, pattern] = "\n".join(lines[:MAX_LINES]) + more
    return "\n".join(lines[:MAX_LINES]) + more


def _run_capped(argv, cwd):
    """-> (the first 256 KB that it prints, exit code; None when it took too long). No shell, no stdin, no keys."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    overtime = threading.Event()
    timer = threading.Timer(SEARCH_SECONDS, lambda: (overtime.set(), process.kill()))
    timer.start()
    try:
        out = process.stdout.read(2**18)
        if len(out) == 2**18:
            process.kill()
        process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.stdout.close()
    return out.decode("utf-8", "replace"), None if overtime.is_set() else process.returncode


def _search_here(pattern, name):
    """`rg` in Python, for one file or the .lean files below a folder; run as `python tools.py PATTERN NAME`."""
    try:
        found = re.compile(pattern, re.I if pattern == pattern.lower() else 0)
    except (re.error, RecursionError, OverflowError) as error:
        print(f"{pattern[:80]!r} is no regular expression: {error}")
        sys.exit(2)
    count = 0
    for file in sorted(Path(".").rglob("*.lean")) if name == "." else [Path(name)]:
        lines = enumerate(file.read_text("utf-8", "replace").split("\n"), 1)
        matches = [f"{file}:{n}:{line[:300]}" for n, line in lines if found.search(line)][:50]
        print("\n".join(matches), end="\n" * bool(matches))
        count += len(matches)
        if count > 1000:
            break
    sys.exit(count == 0)


# ---- the verdict
def final_verdict(env, theorem, folder, text=""):
    """`final_verdicts` for one attempt."""
    return final_verdicts(env, [(theorem, folder, text)])[0][0]


def final_verdicts(env, attempts):
    """[(Theorem, folder, final answer in Lean or "")] -> [(Verdict, the file that was proved or "")]. Solved, as in the
    paper: something written proves the statement, by the judgement of `check_files` and not by what a tool said. Judged
    are the final answer, then the written files from the newest back, until one is proved; when none is, the verdict is
    the first one's, or Lean's own failure on one of them."""
    from lean_env import Verdict

    queues = [[_as_file(theorem, text) for text in [final, *_written(folder)] if text.strip()]
              for theorem, folder, final in attempts]
    nothing = [dict(severity="error", line=1, column=0, data="no file was written and no answer was given")]
    verdicts, proved = [None if queue else Verdict("rejected", nothing) for queue in queues], [""] * len(queues)
    while turn := [i for i, queue in enumerate(queues) if queue]:
        for i, verdict in zip(turn, env.check_files([(attempts[i][0], queues[i][0]) for i in turn])):
            text = queues[i].pop(0)
            # the machine's failure on a file is no evidence that the attempt is wrong: it outweighs a rejection
            if verdicts[i] is None or verdict.status in ("proved", "timeout", "crash"):
                verdicts[i] = verdict
            if verdict.status == "proved":
                queues[i], proved[i] = [], text
    return list(zip(verdicts, proved))


if __name__ == "__main__":
    _search_here(*sys.argv[1:])
