"""The paper's three tools: `lean_write_file`, `lean_check_file`, `rg_in_mathlib`.

    call = find_call(text)                       # sampling stops at the first complete call
    if call:
        outputs = run_tools(env, [(theorem, folder, call.name, call.args)])
        text = text[:call.end] + tool_output(outputs[0], style)  # then sampling goes on
    ...
    verdicts = final_verdicts(env, [(theorem, folder, answer(text))])

`folder` belongs to one attempt. Models write calls in one of three styles: "json" (Qwen3: JSON
in <tool_call> tags), "xml" (Qwen3.5: functions in <tool_call> tags) and "text", for provers
that never saw a tool: lines that cannot stand in a Lean proof,

    #rg mul_comm
    #write a.lean
    theorem t (a b : Nat) : a * b = b * a := Nat.mul_comm a b
    #end
    #compile a.lean

whose outputs come back as Lean comments. A file or an answer that holds no `theorem` is read as
the proof alone (`by ...`) and gets the statement put before it, so that a small prover need not
copy it.

What is covered: files by plain names in `folder` only (no other folder, no links), their size
and number, the length of every output, and a search that starts no shell, takes no option from
the model and ends after 20 s. What a checked file may do: see lean_env.py.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lean import process
from lean.text import words
from lean_env import Verdict, error

MAX_BYTES = 2**16  # of a file
MAX_FILES = 16  # of an attempt
MAX_OUTPUT = 2000  # characters of an output
MAX_LINES = 20  # of a search's answer
SEARCH_SECONDS = 20
HERE = Path(__file__).resolve().parent
MATHLIB = ".lake/packages/mathlib/Mathlib"  # in a project
# What the embedded Lean has instead of Mathlib.
CORE = HERE.parent / "lean" / "core.lean"

# For `tokenizer.apply_chat_template(messages, tools=TOOLS)`.
TOOLS = json.loads((HERE / "tools.json").read_text(encoding="utf-8"))
FUNCTIONS = [tool["function"] for tool in TOOLS]
ARGS = {function["name"]: function["parameters"]["required"] for function in FUNCTIONS}


# ---- what a model is told
def tool_prompt(style):
    """The words that tell a model about the tools, for one whose chat template does not.

    "json" and "xml" get a schema a line and the form of a call, "text" the three lines.
    """
    if style == "text":
        return (
            "Tools, each on lines of its own: `#rg REGEX` searches Mathlib. "
            "`#write NAME.lean`, then a Lean file, then `#end` writes the file. "
            "`#compile NAME.lean` compiles it. The output follows as a comment."
        )
    form = "<function=NAME><parameter=KEY>VALUE</parameter></function>"
    if style == "json":
        form = '{"name": NAME, "arguments": {...}}'
    schemas = "\n".join(map(json.dumps, TOOLS))
    how = f"To call one, write <tool_call>{form}</tool_call>; its output follows."
    return f"Tools:\n{schemas}\n{how}"


# ---- calls
class Call(NamedTuple):
    """text[start:end] is the call.

    A malformed one has the name "" and args {"error": what is wrong}.
    """

    start: int
    end: int
    name: str
    args: dict


OPENING = re.compile(r"<tool_call>|^#(?:rg|write|compile)\b", re.M)
CLOSED = re.compile(
    r"<tool_call>(?P<tags>(?s:.*?))</tool_call>"
    r"|#rg[ \t](?P<pattern>.*)\n"
    r"|#compile[ \t]+(?P<path>.*)\n"
    r"|#write[ \t]+(?P<file>.*)\n(?P<content>(?:.*\n)*?)#end[ \t\r]*\n"
    r"|#(?P<bad>(?:rg|compile|write)(?![ \t]+\S).*)\n"
)


def find_call(text):
    """The first complete call in a text, or None.

    A call that has begun and is not complete hides what comes after it: the lines of a file
    that is being written are no calls.
    """
    opening = OPENING.search(text)
    call = opening and CLOSED.match(text, opening.start())
    if not call:
        return None

    match call.lastgroup:
        case "tags":
            name, args = parse_tags(call["tags"].strip())
        case "pattern":
            name, args = "rg_in_mathlib", {"pattern": call["pattern"].strip()}
        case "path":
            name, args = "lean_check_file", {"path": call["path"].strip()}
        case "content":
            name = "lean_write_file"
            args = {"path": call["file"].strip(), "content": call["content"]}
        case "bad":
            bad = call["bad"].strip()[:60]
            name, args = "", {"error": f"`#{bad}`: what to work on is missing"}
    return Call(call.start(), call.end(), name, args)


def parse_tags(body):
    """What stands in <tool_call> tags -> (name, args), or ("", {"error": ...})."""
    if body.startswith("<function="):
        return parse_xml(body)
    try:
        # Real line breaks inside a string are forgiven.
        call = json.loads(body, strict=False)
        name, args = call["name"], call["arguments"]
        if isinstance(args, str):
            args = json.loads(args, strict=False)
        if isinstance(name, str) and isinstance(args, dict):
            return name, args
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return "", {"error": 'not of the form {"name": NAME, "arguments": {...}}'}


def parse_xml(body):
    function = re.fullmatch(r"<function=([^>\n]*)>(.*)</function>", body, re.S)
    if not function:
        return "", {"error": "`<function=NAME>` has no end"}
    # A value keeps its white space, but for the line breaks that the template puts around it.
    parameter = r"<parameter=([^>\n]*)>\n?(.*?)\n?</parameter>"
    pairs = re.findall(parameter, function[2], re.S)
    return function[1].strip(), {key.strip(): value for key, value in pairs}


# The turn that Qwen's chat template writes around an output.
TURN_START = "<|im_end|>\n<|im_start|>user\n<tool_response>\n"
TURN_END = "\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
THINK = "<think>\n"

# What `tool_output` has put after a call, in a chat and after a raw prompt.
TURN = re.compile(
    rf"\s*(?:{re.escape(TURN_START)}.*?{re.escape(TURN_END)}(?:{THINK})?)?", re.S
)
COMMENTS = re.compile(r"(?:--(?: .*)?\n)*")


def tool_output(output, style):
    """What is put after a call, in the words that the model knows.

    These are Lean comments, or a turn of the chat. The output can end neither, and cannot pass
    for a call.
    """
    if style == "text":
        return "".join(f"-- {line}\n" for line in output.split("\n"))
    output = re.sub(r"<(?=/?tool_|\|)", "< ", output)
    think = THINK if style == "xml" else ""
    return TURN_START + output + TURN_END + think


def answer(text):
    """An attempt without its calls and their outputs: the final answer, "" if there is none."""
    call = find_call(text)
    while call:
        if text[call.start] == "#":  # a raw prover: lines around a call are its proof
            after = COMMENTS.match(text, call.end).end()
            text = text[: call.start] + text[after:]
        else:  # a chat: what counts comes after the last tool's turn
            text = text[TURN.match(text, call.end).end() :]
        call = find_call(text)
    return text if text.strip() else ""


# ---- running them
def run_tools(env, calls, limit=MAX_OUTPUT):
    """[(Theorem, folder of the attempt, name, args)] -> what each tool prints, in order.

    Outputs are cut, with a note, at `limit` characters. Files are checked all at once. Whatever
    a model may write gets an answer in words: nothing is raised. Two calls of one attempt
    belong in two batches.
    """
    outputs = {}  # number of the call: what it prints
    files = {}  # number of the call: (Theorem, text) to be checked
    patterns = {}  # number of the call: what to search for
    for i, (theorem, folder, name, args) in enumerate(calls):
        try:
            refuse_bad_arguments(name, args)
            if name == "lean_write_file":
                outputs[i] = write(folder, **args)
            elif name == "rg_in_mathlib":
                patterns[i] = args["pattern"]
            else:
                files[i] = theorem, as_file(theorem, read(folder, **args))
        except ToolError as wrong:
            outputs[i] = f"error: {wrong}"

    verdicts = env.check_files(list(files.values()), sketch=True)
    for i, verdict in zip(files, verdicts):
        outputs[i] = report(verdict, calls[i][3]["path"])
    with ThreadPoolExecutor(env.workers) as pool:
        outputs.update(zip(patterns, pool.map(partial(search, env), patterns.values())))
    return [shortened(outputs[i], limit) for i in range(len(calls))]


def shortened(output, limit):
    rest = len(output) - limit
    return f"{output[:limit]}\n[{rest} more characters left out]" if rest > 0 else output


class ToolError(Exception):
    """What is wrong with a call, in words for the model."""


def refuse_bad_arguments(name, args):
    if not name:
        raise ToolError(f"malformed tool call: {args.get('error')}")
    if name not in ARGS:
        raise ToolError(f"there is no tool {name[:60]!r}; there are {', '.join(ARGS)}")

    all_text = all(isinstance(value, str) for value in args.values())
    if set(args) != set(ARGS[name]) or not all_text:
        wanted = " and ".join(ARGS[name])
        raise ToolError(f"{name} takes {wanted}, as text, and nothing else")

    # Half a surrogate pair can come from an escape in JSON.
    if re.search("[\0\ud800-\udfff]", "".join(args.values())):
        raise ToolError("there is a character in it that no file can hold")

    # A plain name leads to no other folder.
    path = args.get("path", "proof.lean")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,58}\.lean", path):
        raise ToolError(f"{path[:80]!r} is no plain file name such as proof.lean")


def open_plain(file, flags):
    """For open(): a descriptor of a regular file, through no link. OSError."""
    descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError("not a plain file")
    return descriptor


def write(folder, path, content):
    """Writes a file of the attempt; -> what the tool prints."""
    file = folder / path
    data = content.encode()
    if len(data) > MAX_BYTES:
        raise ToolError(f"{len(data)} bytes, and a file may have {MAX_BYTES}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists() and len(os.listdir(folder)) >= MAX_FILES:
            raise ToolError(
                f"there are {MAX_FILES} files already; write one of them again"
            )
        # Not "wb", which empties a file before open_plain can look at it.
        with open(file, "ab", opener=open_plain) as opened:
            opened.truncate(0)
            opened.write(data)
        now = time.time_ns()  # to the nanosecond: it tells the order of the files
        os.utime(file, ns=(now, now))
    except OSError as wrong:
        raise ToolError(f"{path} cannot be written ({wrong.strerror or wrong})")
    lines = content.removesuffix("\n").count("\n") + 1
    return f"wrote {path}, {lines} lines"


def read(folder, path):
    """The text of a file of the attempt."""
    try:
        with open(folder / path, "rb", opener=open_plain) as opened:
            return opened.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        names = ", ".join(sorted(file.name for file in folder.glob("*")))
        there = f"there are {names}" if names else "nothing was written yet"
        raise ToolError(f"there is no {path}; {there}")
    except OSError as wrong:
        raise ToolError(f"{path} cannot be read ({wrong.strerror or wrong})")


def written(folder):
    """The texts of the files of an attempt, the newest first."""
    texts = []
    for file in sorted(folder.glob("*.lean"), key=lambda file: -file.lstat().st_mtime_ns):
        # A link, a folder: nothing that the tool wrote.
        with contextlib.suppress(ToolError):
            texts.append(read(folder, file.name))
    return texts


def as_file(theorem, text):
    """A proof alone gets its statement."""
    if {"theorem", "lemma"}.isdisjoint(words(text)):
        return f"{theorem.statement} := {text.lstrip()}"
    return text


def report(verdict, path):
    """A verdict on a file in words, as a compiler prints them."""
    if verdict.status == "timeout":
        return "Lean ran out of time on this file."
    if verdict.status == "crash":
        return "Lean broke down on this file: this says nothing about the proof."

    lines = []
    for m in verdict.messages:
        lines.append(f"{path}:{m['line']}:{m['column']}: {m['severity']}: {m['data']}")
    judgement = "It does not prove the theorem."
    if verdict.status == "proved":
        judgement = "It compiles and proves the theorem."
    elif verdict.axioms:
        judgement += f" It rests on {', '.join(verdict.axioms)}."
    return "\n".join([*lines, judgement])


# ---- search
# (folder, pattern) -> what was found. The files do not change while we run, and many attempts
# ask for the same.
FOUND = {}

# No configuration file, no preprocessor, files in a fixed order, of a file one line more than is
# shown. After `-e` comes a pattern, whatever it begins with.
RIPGREP = """rg --no-config --no-messages --color=never --no-heading --with-filename --line-number
--sort=path --smart-case --max-columns=300 --max-count=21 --glob=*.lean -e""".split()
PYTHON = [sys.executable, "-I", "-S", str(HERE / "search.py")]


def search(env, pattern):
    """Lines of Mathlib that match, MAX_LINES at most; or what is wrong, in words.

    Mathlib is the project's; where there is none, core.lean is searched. With ripgrep where it
    is installed, else with Python's `re`, in a process with no shell, no stdin, no keys and no
    network that is killed after SEARCH_SECONDS.
    """
    folder, name = CORE.parent, CORE.name
    if env.cwd and (env.cwd / MATHLIB).is_dir():
        folder, name = env.cwd / MATHLIB, "."

    if not pattern.strip() or len(pattern) > 300:
        return "error: a pattern has 1 to 300 characters"
    if (folder, pattern) in FOUND:
        return FOUND[folder, pattern]

    argv = [*PYTHON, pattern, name]
    if shutil.which("rg"):
        argv = [*RIPGREP, pattern, "--", name]
    code, out, err, _ = process.run(argv, folder, {}, SEARCH_SECONDS, env.memory)
    if code is None:
        return f"error: the search took longer than {SEARCH_SECONDS} s: use a simpler pattern"
    if code == 1:
        return "no match"
    if code:
        reason = " ".join((out + err).split())[:300]
        return f"error: {reason or 'this pattern cannot be searched'}"

    # The name of the one file says nothing, nor does that of the folder itself.
    lines = re.sub(r"(?m)^(core\.lean:\d+:|\./)", "", out).split("\n")[:-1]
    if len(lines) > MAX_LINES:
        more = f"[more than {MAX_LINES} lines match; the first {MAX_LINES} are shown]"
        lines[MAX_LINES:] = [more]
    FOUND[folder, pattern] = "\n".join(lines)
    return FOUND[folder, pattern]


# ---- the verdict
def final_verdicts(env, attempts):
    """[(Theorem, folder, final answer in Lean or "")] -> [(Verdict, the proved file or "")].

    Solved, as in the paper: something written proves the statement, by the judgement of
    `check_files` and not by what a tool said. Judged are the final answer, then the written
    files from the newest back, until one is proved. When none is, the verdict is the first
    one's, or Lean's own failure on one of them.
    """
    texts = []  # of each attempt, in the order in which they are judged
    for theorem, folder, final in attempts:
        own = [text for text in (final, *written(folder)) if text.strip()]
        texts.append([as_file(theorem, text) for text in own])

    nothing = error("no file was written and no answer was given")
    results = [(Verdict("rejected", [nothing]), "")] * len(attempts)
    for n in range(max(map(len, texts), default=0)):
        turn = [i for i, own in enumerate(texts) if n < len(own) and not results[i][1]]
        jobs = [(attempts[i][0], texts[i][n]) for i in turn]
        for i, verdict in zip(turn, env.check_files(jobs)):
            if verdict.status == "proved":
                results[i] = verdict, texts[i][n]
            elif n == 0 or not verdict.judged:
                # The machine's failure on a file is no evidence that the attempt is wrong: it
                # outweighs a rejection.
                results[i] = verdict, ""
    return results
