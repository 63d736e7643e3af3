"""Three seeded storms: bad invocations, interruptions, and an endpoint that fails. `python -m bench.faults` runs them
with large numbers, tests/test_faults.py with small ones. Each happens in a forked process, as a user's would."""
import contextlib
import hashlib
import http.server
import itertools
import json
import os
import random
import resource
import runpy
import shutil
import signal
import socketserver
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import feedback
import train
from extras import neighbour
from extras.stops import in_one_line

ROOT = Path(__file__).resolve().parent.parent
TOY, TINY = ROOT / "toy", ROOT / "toy" / "tiny"
SMALL = ["--prompts-per-step", "2", "--max-new-tokens", "24", "--eval-every", "0", "--lora-rank", "4"]
THEOREM = '{"name": "a", "statement": "theorem a : True", "proof": "trivial"}\n'


# --- a process of its own


def forked(work, out, limit=None):
    """Start work() in a fork that ends as Python does; what it says goes to the files out.1 and out.2. -> pid"""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        torch.set_num_threads(1)  # in a fork torch replaces its pool of threads at first use, and fails when two come first
        for number in (1, 2):
            os.dup2(os.open(f"{out}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        work()
        code = 0
    except SystemExit as stop:
        code = 0 if stop.code is None else stop.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(pid, seconds):
    """-> its exit code, None when it ran past `seconds` and was killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


# --- bad invocations


def wreck(folder):
    """Broken and odd things, by name; a good run among them."""
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / "run"
    train.train(train.Config(out=str(run), steps=2, prompts_per_step=2, max_new_tokens=24, eval_every=0, lora_rank=4, save_every=1))
    shutil.rmtree(run / "ckpt.old")
    (folder / "file").write_text("nothing\n")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "dangling").symlink_to(folder / "nowhere")
    texts = {"void": "", "blank": "\n\n", "words": "not json\n", "list": "[1, 2]\n", "number": "3\n", "noname": '{"name": "t"}\n', "null": '{"statement": null}\n',
             "notheorem": '{"name": "a", "statement": "lemmma a"}\n', "notype": '{"name": "a", "statement": "theorem a"}\n',
             "open": '{"name": "a", "statement": "theorem a (p : Prop : p"}\n', "imports": '{"name": "a", "statement": "theorem a : True", "header": "import Mathlib"}\n',
             "unknown": '{"name": "a", "statement": "theorem a : Foo.bar 1"}\n', "testonly": '{"name": "a", "statement": "theorem a : True", "split": "test"}\n',
             "proofint": '{"name": "a", "statement": "theorem a : True", "proof": 1}\n', "nan": '{"name": "a", "statement": NaN}\n'}
    for name, text in texts.items():
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "bytes.jsonl").write_bytes(bytes(range(256)) * 20)
    (folder / "wide.jsonl").write_text(THEOREM, encoding="utf-16")
    (folder / "deep.json").write_text("[" * 100_000)
    scripts = {"fails": "exit 1", "silent": "exit 0", "noisy": "yes garbage | head -200000", "garbage": "echo '{\"severity\"'; exit 0", "wrongcode": "echo '{}'; exit 3"}
    for name, text in scripts.items():
        (folder / f"lean-{name}").write_text(f"#!/bin/sh\n{text}\n")
        (folder / f"lean-{name}").chmod(0o755)
    for name, damage in {"cut": lambda b: b[: len(b) // 2], "emptied": lambda b: b"", "garbled": lambda b: bytes(reversed(b)), "listed": lambda b: b"[1, 2]"}.items():
        for path in ("config.json", "ckpt/state.pt", "ckpt/student/adapter_model.safetensors"):
            bad = folder / f"run-{name}-{path.replace('/', '-')}"
            shutil.copytree(run, bad)
            (bad / path).write_bytes(damage((bad / path).read_bytes()))
        for path in ("config.json", "model.safetensors", "tokenizer.json"):
            bad = folder / f"model-{name}-{path}"
            shutil.copytree(TINY, bad)
            (bad / path).write_bytes(damage((bad / path).read_bytes()))
    for path in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copytree(TINY, folder / f"model-without-{path}", ignore=shutil.ignore_patterns(path))
    for name, text in {"empty": "", "words": "words\n", "bare": '{"step": 1}\n{"name": "a"}\n', "list": "[1]\n", "kinds": '{"step": 1, "name": 3, "status": "proved", "statement": 4, "text": null}\n'}.items():
        shutil.copytree(run, folder / f"odd-{name}")
        (folder / f"odd-{name}" / "rollouts.jsonl").write_text(text)
    shutil.copytree(run, folder / "run-nan")
    file = folder / "run-nan" / "ckpt" / "student" / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    shutil.copytree(run, folder / "run-without-teacher", ignore=shutil.ignore_patterns("teacher"))
    return folder


def pools(folder):
    """{script: [ways to be wrong, each a list of flags]}"""
    def at(*names):
        return [str(folder / name) for name in names]

    names = sorted(path.name for path in folder.iterdir())
    no_data = at("nowhere.jsonl", "empty", "deep.json", *(n for n in names if n.endswith(".jsonl"))) + ["~/nowhere.jsonl", "hub:x", "hub:a/b@c:d.txt", "", "\0", "a" * 300]
    no_out = at("file", "file/below", "dangling") + ["/proc/nothing", "/dev/null", "a" * 300, "\0"]
    runs, odd = at(*(n for n in names if n.startswith("run-"))), at(*(n for n in names if n.startswith("odd-")))
    bad_runs = at("nowhere", "file", "empty", "full") + [run for run in runs if "without-teacher" not in run] + ["", "~/nowhere", str(TINY)]
    models = at(*(n for n in names if n.startswith("model-")), "nowhere", "file", "empty", "run", "full") + ["", "no-such-prover", "./x", "/x/y", "a/b/c", "owner/", "tiny/", "~/x", "\0"]
    leans = at("nowhere", "file", "empty", *(n for n in names if n.startswith("lean-"))) + [
        "kimina:", "kimina:x", "kimina:http://u:secret@h", "kimina:http://127.0.0.1:9", "dojo:", "dojo:x", "dojo:https://u:secret@h/x@c", "dojo:https://u:secret@h/x", "", "\0"]
    projects = at("nowhere", "file", "empty") + ["~/x", "\0"]
    tellers = ["", "oracle", "const", "const:", "const: ", "openai:", "openai", "ollama:", "openai:m@x", "openai:m@ftp://h", "openai:m@http://u:secret@h", "openai:m@http://127.0.0.1:9", "ollama:m@http://127.0.0.1:9", "tutor:x", "TUTOR"]
    words = ["abc", "", "nan", "1e400", "0x10", "--", "-1", "None "]
    whole = ["1.5", "-7", *words]

    one = [["--" + name, value] for name in "steps prompts-per-step group-size top-k ema-every max-new-tokens micro-tokens save-every".split() for value in ["0", *whole]]
    one += [["--" + name, value] for name in ("lr", "lean-timeout") for value in ["0", "-0.5", "inf", *words]]
    one += [["--" + name, value] for name in ("warmup", "eval-every") for value in whole]
    one += [["--lora-rank", value] for value in ["100000", *whole]] + [["--kl-coef", value] for value in words] + [["--lr", "3"]]
    one += [["--seed", value] for value in ("1.5", "abc", str(2**64), str(-(2**70)), "9" * 400)]
    one += [["--ema-alpha", value] for value in ("-0.1", "1.1", "nan", "abc")] + [["--max-new-tokens", "512"], ["--max-new-tokens", "100000"], ["--top-k", "100000"]]
    one += [["--" + name, value] for name in ("algo", "tail", "quantize", "feedback-style") for value in ("abc", "", "FD", "0")]
    one += [["--data", value] for value in no_data] + [["--eval-every", "5", "--valid", value] for value in no_data if value]
    one += [["--algo", "sft", "--data", str(folder / "unknown.jsonl")]]
    one += [["--out", value] for value in [*no_out, *at("full", "run", *(n for n in names if n.startswith("run-")))]] + [["--resume", "--out", value] for value in [*no_out, *bad_runs] if value]
    one += [["--init", value] for value in bad_runs if value] + [["--model", value] for value in models] + [["--lean", value] for value in leans] + [["--lean-project", value] for value in projects if value]
    one += [["--feedback", value] for value in tellers]
    one += [["--algo", "grpo", "--group-size", "1"], ["--algo", "sft", "--group-size", "3"], ["--algo", "grpo", "--feedback", "lean"], ["--algo", "sft", "--feedback-style", "2"],
            ["--kl-coef", "0.5"], ["--valid", "minif2f"], ["--no-such-flag"], ["extra"], ["--model"], ["--tools", "yes"], ["--resume", "maybe"], ["--init", str(folder / "run"), "--lora-rank", "8"],
            ["--model", "qwen3-8b"], ["--model", "owner/name"], ["--quantize", "nf4", "--lora-rank", "0"]]

    judged = [["--samples", value] for value in ["0", *whole]] + [["--max-new-tokens", value] for value in ["512", "100000", *whole]] + [["--seed", value] for value in ("1.5", "abc", str(2**64), "9" * 400)]
    judged += [["--data", value] for value in no_data if "testonly" not in value] + [["--split", value] for value in ("", "Test", "dev")] + [["--out", value] for value in no_out]
    judged += [["--model", value] for value in models] + [["--lean", value] for value in leans] + [["--lean-project", value] for value in projects]
    judged += [["--feedback", value] for value in [*tellers, "self"] if value] + [["--who", "nobody"], ["--who", "teacher"], ["--style", "chat"], ["--style", "x"], ["--text"], ["--problem", "x"]]
    judged += [["--endpoint", value] for value in ("x", "ftp://h", "http://u:secret@h", "http://127.0.0.1:9")] + [["--endpoint", "http://127.0.0.1:9", "--tools"]]
    judged += [["--show", value] for value in [*bad_runs, *odd, *at("run-without-teacher")] if value] + [["--show", str(folder / "run"), *more] for more in (["--problem", "x"], ["--samples", "3"], ["--model", "tiny"], ["--out", str(folder / "file")])]
    only = [[run] for run in bad_runs] + [[], ["--endpoint", "http://127.0.0.1:9"], [str(folder / "run"), "nowhere"], [*at("run-without-teacher"), "--who", "teacher"]]

    tools = [["toy.warm_up", "--ship", value] for value in [*bad_runs[:-1], *at("run", "run/ckpt/student"), *(m for m in models if "model-" in m)]] + [["toy.warm_up", "--steps", "0"], ["toy.warm_up", "--out", str(folder / "full")]]
    tools += [["lean.proofs", value] for value in [*bad_runs, *odd]] + [["lean.proofs"], ["lean.proofs", "a", "b"]]
    tools += [["experiments.figures", "--jobs", "-2"],
              ["experiments.figures", "--only", "x"], ["experiments.beyond", "x"], ["experiments.beyond", "failures", "--steps", "0"], ["experiments.bases", "x"], ["experiments.sweep", "--vary", "tail"], ["experiments.sweep", "--vary", "code=no-such-branch"], ["experiments.sweep", "--jobs", "0"]]
    tools += [["bench." + tool, "--" + flag, value] for tool, flags in {"lean": "proofs single files workers", "loss": "tokens repeats width vocabularies", "rollout": "prompts slots longest", "step": "prompts new-tokens batch micro-tokens steps"}.items()
              for flag in flags.split() for value in ("0", "-3", "x")]
    tools += [["lean_env", "setup", ""], ["lean_env", "setup", str(folder / "file")], ["lean_env"], ["lean_env", "setup", str(folder / "p"), "--mathlib", "x"]]
    tools += [["train", "RANK=1"], ["train", "WORLD_SIZE=2"], ["train", "WORLD_SIZE=x"], ["train", "RANK=-1"], ["train", "WORLD_SIZE=2", "RANK=0", "LOCAL_RANK=0"], ["train", "RANK=3", "WORLD_SIZE=2"]]
    return {"train": one, "eval": judged, "eval only": only, "tool": tools}


HARMLESS = [[], [], ["--seed", "3"], ["--micro-tokens", "512"], ["--save-every", "1"], ["--lean-timeout", "9"], ["--lean", "wheel"]]


def invocations(folder, count, seed):
    """[(what was given, a function that runs it)], `count` different ones drawn at random, or all there are."""
    rng = random.Random(seed)
    drawn = []
    for script, ways in pools(folder).items():
        for way in ways:
            drawn.append((script, way))
    rng.shuffle(drawn)
    for number, (script, way) in enumerate(drawn[:count]):
        out = str(folder / "outs" / str(number))
        if script == "train":
            argv = ["train", "--steps", "1", *SMALL, *([] if "--out" in way else ["--out", out]), *rng.choice(HARMLESS), *way]
        elif script == "eval":
            needs = [] if "--model" in way or "--show" in way else ["--model", "tiny"]
            argv = ["eval", *needs, *([] if "--out" in way or "--show" in way else ["--out", out]), *([] if "--samples" in way or "--show" in way else ["--samples", "1"]), *way]
        elif script == "eval only":
            argv = ["eval", *way]
        else:
            argv = way
        yield argv, partial(as_script, argv, folder)


def as_script(argv, folder):
    """`python -m` with these words, in a folder of its own."""
    name, *words = argv
    if name == "train" and "=" in (words or [""])[0]:
        os.environ.update(pair.split("=", 1) for pair in words)
        words = ["--steps", "1", *SMALL, "--out", str(folder / "outs" / "ranks")]
        for module in [m for m in sys.modules if m.partition(".")[0] in ("extras", "eval", "train")]:
            del sys.modules[module]  # these read them when they are imported
    sys.argv = [name, *words]
    shutil.copytree(TOY, folder / "cwd" / "toy", dirs_exist_ok=True)
    os.chdir(folder / "cwd")
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def storm_of_invocations(folder, count=400, seed=0, seconds=120):
    """-> {"refused": n, "traceback": [...], "silent": [...], "hung": [...], "wordy": [...]}"""
    folder = Path(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    wreck(folder)
    before = digest_of(TOY)
    found = {"refused": 0, "traceback": [], "silent": [], "hung": [], "wordy": [], "leaked": []}
    for argv, work in invocations(folder, count, seed):
        out = folder / "said"
        code = ended(forked(work, out), seconds)
        said = Path(f"{out}.1").read_text(errors="replace") + Path(f"{out}.2").read_text(errors="replace")
        lines = [line for line in Path(f"{out}.2").read_text(errors="replace").splitlines() if line.strip() and "it/s]" not in line]
        kind = "refused"
        if "Traceback" in said or "most recent call last" in said:
            kind = "traceback"
        elif code is None:
            kind = "hung"
        elif code <= 0:
            kind = "silent"
        elif "secret" in said.replace(" ".join(argv), ""):
            kind = "leaked"
        elif not lines or (code == 1 and len(lines) > 3):
            kind = "wordy"
        if kind == "refused":
            found[kind] += 1
        else:
            found[kind].append((argv, code, said[-600:]))
    assert digest_of(TOY) == before, "a tool changed the shipped files"
    return found


def digest_of(folder):
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)).hexdigest()


# --- interruptions

KINDS = ["INT", "TERM", "HUP", "KILL", "INT INT", "TERM INT", "INT KILL", "disk", "pipe", "torn", "damaged"]
CLOCKS = ("seconds", "s_")


def rows_of(path):
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(CLOCKS)} for line in path.read_text().splitlines()]


def endings(out):
    """What two runs must share: both adapters, and every line of the three logs but for the clocks."""
    tensors = {who: load_file(out / "ckpt" / who / "adapter_model.safetensors") for who in ("student", "teacher")}
    bits = {who: {name: t.numpy().tobytes() for name, t in named.items()} for who, named in tensors.items()}
    return bits, [rows_of(out / name) for name in ("log.jsonl", "rollouts.jsonl", "valid.jsonl")]


def storm_of_interruptions(folder, count=200, seed=0, steps=8):
    """Runs are interrupted and resumed until `count` interruptions have been. -> {"interruptions": by kind, "runs": how many came to
    their end, "lost": [what is wrong]}"""
    folder, rng = Path(folder), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = (TOY / "train.jsonl").read_text().splitlines(True)
    (folder / "data.jsonl").write_text("".join(lines[:16]))
    (folder / "valid.jsonl").write_text("".join(lines[16:20]))
    config = partial(train.Config, data=str(folder / "data.jsonl"), valid=str(folder / "valid.jsonl"), eval_every=3, steps=steps, prompts_per_step=4, max_new_tokens=24, lora_rank=4, lean="wheel")
    pid = forked(lambda: train.train(config(out=str(folder / "whole"))), folder / "said")
    assert ended(pid, 300) == 0, (folder / "said.2").read_text()
    wanted = endings(folder / "whole")

    done, runs, lost = dict.fromkeys(KINDS, 0), 0, []
    for number in itertools.count():
        out = folder / f"run-{number}"
        for start in itertools.count():
            kind = rng.choice(KINDS) if sum(done.values()) < count else "none"
            begun = (out / "config.json").exists()
            cfg = config(out=str(out), resume=begun, save_every=rng.choice([1, 2, 3, 5]))

            def work():
                if kind == "pipe":
                    reader, writer = os.pipe()
                    os.close(reader)
                    os.dup2(writer, 1)
                    sys.stdout = open(1, "w", closefd=False)
                from extras.stops import in_one_line
                with in_one_line("train.py"):
                    train.train(cfg)

            limit = rng.randrange(2000, 120_000) if kind == "disk" else None
            pid = forked(work, folder / "said", limit)
            code = strike(pid, kind, rng)
            said = (folder / "said.2").read_text(errors="replace")
            if "Traceback" in said or code is None:
                lost.append((kind, number, code, said[-500:]))
            if kind in ("torn", "damaged") and code != 0:
                damage(out, kind, rng)
            if code == 0 and kind != "pipe":
                break
            if code == 0 or kind != "none":
                done[kind] += 1
            else:
                lost.append(("cannot go on", number, code, said[-500:]))
                break
            if code == 0:
                break
        try:
            same = endings(out) == wanted
        except Exception as error:
            same = False
            said = repr(error)
        if same:
            runs += 1
            shutil.rmtree(out)
        else:
            lost.append(("another end", number, code, said[-500:]))
        if sum(done.values()) >= count or len(lost) > 20:
            return {"interruptions": done, "runs": runs, "lost": lost}


def strike(pid, kind, rng):
    """Do this to a process, at a random time. -> its exit code"""
    signals = [part for part in kind.split() if part in ("INT", "TERM", "HUP", "KILL")]
    if kind in ("torn", "damaged"):
        signals = ["KILL"]
    end = time.monotonic() + rng.uniform(0.0, 4.0)
    for name in signals:
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(pid, getattr(signal, "SIG" + name))
        end = time.monotonic() + rng.uniform(0.0, 0.5)
    return ended(pid, 120)


def damage(out, kind, rng):
    """A line that was torn; or, where there is an older checkpoint, a newest one that cannot be read."""
    if kind == "torn" and (out / "log.jsonl").exists():
        for name in ("log.jsonl", "rollouts.jsonl"):
            with (out / name).open("a") as file:
                file.write('{"step": 7, "lo')
    if kind == "damaged" and (out / "ckpt.old" / "state.pt").exists() and (out / "ckpt").exists():
        file = rng.choice(sorted(path for path in (out / "ckpt").rglob("*") if path.suffix in (".pt", ".safetensors")))
        file.write_bytes(rng.choice([b"", file.read_bytes()[: file.stat().st_size // 2], b"garbage" * 999]))


# --- an endpoint that fails

LOST, BAD, ENDS = "lost", "bad", "ends"  # a fault that is asked again, an answer that cannot be used, one that ends the question
FAULTS = {"500": LOST, "503": LOST, "429": LOST, "closed": LOST, "half": LOST, "404": ENDS, "not json": ENDS, "a list": ENDS, "empty": BAD, "null": BAD, "cut": BAD,
          "filtered": BAD, "newlines": BAD, "flood": ENDS, "silent": LOST, "drips": LOST, "no http": LOST, "two": "good", "thinks": BAD}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers every question with words that name it, or fails in one of FAULTS' ways, drawn from a seed; now and then for a while."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, seed, share):
        super().__init__(("127.0.0.1", 0), Handler)
        self.rng, self.share, self.lock, self.outage = random.Random(seed), share, threading.Lock(), 0
        self.counts = dict.fromkeys(FAULTS, 0)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def draw(self):
        with self.lock:
            if self.outage or self.rng.random() < 0.0005 * (self.share > 0):
                self.outage = (self.outage or 400) - 1
                fault = "503"
            elif self.rng.random() >= self.share:
                return None
            else:
                fault = self.rng.choice([name for name in FAULTS if FAULTS[name] == self.rng.choice([LOST, LOST, LOST, BAD, ENDS, "good"])] or ["500"])
            self.counts[fault] += 1
            return fault

    def handle_error(self, *_):
        pass  # a client that has gone


def answer_to(prompt):
    return f"1. Write `{hashlib.sha256(prompt.encode('utf-8', 'replace')).hexdigest()[:24]}`."


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        fault = None if prompt == "Say ok." else self.server.draw()
        text, reason, status = answer_to(prompt), "stop", 200
        if fault in ("cut", "filtered"):
            text, reason = "1. Write `FAULT` " * 9, {"cut": "length", "filtered": "content_filter"}[fault]
        text = {"empty": " \n", "null": None, "newlines": "\n" * 60_000, "thinks": "<think>FAULT"}.get(fault, text)
        body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}], "usage": {"completion_tokens": 9}}).encode()
        if fault and fault.isdecimal():
            status, body = int(fault), b"FAULT"
        body = {"not json": b"<html>FAULT", "a list": b'["FAULT"]', "flood": b"FAULT" * 600_000}.get(fault, body)
        size = len(body)
        if fault == "half":
            body = body[: size // 2]
        if fault == "closed":
            return
        if fault == "silent":
            time.sleep(0.6)
            return
        if fault == "no http":
            self.wfile.write(b"FAULT\r\n\r\n")
            return
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if fault == "drips":
            for byte in body[:40]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
            return
        self.wfile.write(body)
        if fault == "two":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body.replace(b"Write `", b"Write `FAULT"))


def storm_of_faults(folder, count=5000, seed=0, share=0.6):
    """Runs whose endpoint fails `count` times, resumed wherever they stop. -> {"faults": by kind, "steps", "told": samples with feedback,
    "masked": those without, "foreign": [feedback that was no good answer to its own question], "stops": how often a run had to be resumed, "lost"}"""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(seed, share)
    out, tally = folder / "run", folder / "tally.jsonl"
    config = partial(train.Config, out=str(out), feedback=f"openai:m@http://127.0.0.1:{server.server_port}/v1", steps=100_000, prompts_per_step=32, max_new_tokens=24,
                     eval_every=0, lora_rank=4, save_every=3, lean="wheel")

    def work():
        tell = train.runs.tell

        def watched(source, rollouts, step):
            metrics = tell(source, rollouts, step)
            told = [r for r in rollouts if r.feedback is not None]
            foreign = [r.feedback for r in told if r.feedback != answer_to(feedback.instruction(r, 4))]
            with tally.open("a") as file:
                file.write(json.dumps({"step": step, "told": len(told), "masked": len(rollouts) - len(told), "foreign": foreign}) + "\n")
            return metrics

        train.runs.tell = watched
        neighbour.make_feedback = partial(feedback.make_feedback, timeout=0.4, backoff=0.002)
        with in_one_line("train.py"):
            train.train(config(resume=(out / "config.json").exists()))

    found = {"stops": 0, "lost": []}
    def enough():
        return sum(server.counts.values()) >= count and (out / "log.jsonl").exists()

    while not enough() and not found["lost"]:
        pid = forked(work, folder / "said")
        code, done = 0, 0
        while not done and not enough():
            done, status = os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)
        if done:
            code = os.waitstatus_to_exitcode(status)
            found["stops"] += 1
        else:
            os.kill(pid, signal.SIGINT)
            code = ended(pid, 60)
        said = (folder / "said.2").read_text(errors="replace")
        if "Traceback" in said or code not in (1, 130) or found["stops"] > 100:
            found["lost"].append((code, said[-500:]))
    server.shutdown()
    rows = [json.loads(line) for line in tally.read_text().splitlines()]
    logged = [row["step"] for row in rows_of(out / "log.jsonl")]
    if logged != list(range(1, len(logged) + 1)) or torch.load(out / "ckpt" / "state.pt", weights_only=True)["step"] != len(logged):
        found["lost"].append(("steps", logged[-5:]))
    total = {name: sum(row[name] for row in rows) for name in ("told", "masked")}
    return found | total | {"steps": len(logged), "faults": server.counts, "foreign": [text for row in rows for text in row["foreign"]]}
