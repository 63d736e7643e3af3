"""The embedded Lean: its process, and its library core.lean, compiled once per machine. Used by lean_env.py only."""
import sys

if __name__ == "__main__" and sys.argv[1:2] == ["--lean"]:
    # `python native.py --lean CPU_SECONDS MEMORY_BYTES PROGRAM ARGS...` limits itself and becomes PROGRAM: a `lean`, or
    # the shared library of one. It stands before the other imports because every batch of proofs pays for its start.
    import os
    import resource

    cpu, memory, program, *args = sys.argv[2:]
    for kind, limit in (("CPU", int(cpu)), ("AS", int(memory)), ("FSIZE", 2**27), ("CORE", 0)):
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))
        except (ValueError, OSError):
            pass  # a tighter limit is already set, or (macOS) the system has no such limit
    if not program.endswith((".so", ".dylib")):
        os.execvp(program, [program, *args])
    import ctypes

    libc = ctypes.CDLL(None)
    stdout = ctypes.c_void_p.in_dll(libc, "stdout" if sys.platform == "linux" else "__stdoutp")
    libc.setvbuf(stdout, None, 1, 0)  # line by line: what was answered before a timeout is seen
    argv = [b"lean", b"-DElab.async=false", *(os.fsencode(arg) for arg in args)]  # small proofs: a quarter faster in turn
    status = ctypes.CDLL(program).lean_main(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv, None))
    libc.fflush(None)
    os._exit(status)

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

CORE = Path(__file__).resolve().with_name("core.lean")


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
    generated names such as `_aux_Init_Notation___macroRules_term_∧__1`; the library's symbols say which there are."""
    generated, bound = set(), 0
    for marker in (b"______macroRules__", b"______unexpand__"):
        at = binary.find(marker)
        while at >= 0:
            end = binary.index(b"\0", at)
            generated.add(binary[binary.rindex(b"\0", at - 999, at) + 1:end].decode(errors="replace"))
            at = binary.find(marker, end)
    files = ["Init_Notation", "Init_Tactics", "Init_Meta", "Init_Core", "Init_NotationExtra"]  # in order of import

    def quote(name):  # only the last part of these names ever needs quotes
        space, _, last = name.rpartition(".")
        return (f"{space}." if space else "") + f"«{last}»"

    def function(name, type_, attribute):
        nonlocal bound
        bound += 1
        return [f'@[extern "{mangle(name)}"] axiom {quote(name)} (s : Lean.Syntax) (c t : Lean.Obj) : Lean.Obj',
                f"def Lean.native{bound} : Lean.{type_} := fun s c t => {quote(name)} s c t",
                f"attribute [{attribute}] Lean.native{bound}"]

    def variants(kind, name):  # the generated functions of one syntax or constant; Lean tries the last of them first
        name = name.replace(".", "_")
        middle = f"______{kind}__{mangle(name)[2:]}__"
        pattern = re.compile(r"_?l_((?:[A-Za-z]+_)*)__aux__(\w+?)" + re.escape(middle) + r"(\d+)")
        hits = [(m[1].replace("_", "."), m[2].replace("__", "_"), int(m[3]))
                for m in (pattern.fullmatch(symbol) for symbol in generated if middle in symbol) if m]
        hits.sort(key=lambda hit: (files.index(hit[1]) if hit[1] in files else len(files), hit[2]))
        return [f"{space}_aux_{file}___{kind}_{name}_{n}" for space, file, n in hits]

    def table(match):
        kind, space, lines = match[1], match[2].strip("-"), []
        for name in match[3].split():
            name, _, code = name.partition("=") if kind == "app_unexpander" else (name, "", "")
            name = f"{space}.{name}" if space else name
            if kind == "app_unexpander":
                for unexpander in [code] if code else variants("unexpand", name):
                    lines += function(unexpander, "PrettyPrinter.Unexpander", f"app_unexpander {name}")
                continue
            trailing = "Trailing" * bool(re.match("term_|tactic_", name.rpartition(".")[2]))  # `term_∧_`: operand first
            lines.append(f'@[extern "{mangle(name)}"] axiom {quote(name)} : Lean.{trailing}ParserDescr')
            if kind != "part":
                lines.append(f"attribute [{kind} 1000] {quote(name)}")
            for macro in variants("macroRules", name):
                lines += function(macro, "Macro", f"macro {quote(name)}")
        return "\n".join(lines)

    return re.sub(r"/-! native (\w+) (\S+)\n(.*?)-/", table, source, flags=re.S)


def compiled_core(library, run):
    """-> the folder with Core.olean: core.lean compiled by that very Lean (some seconds, once). Safe when several
    processes want it at once: each builds under a name of its own and renames, the first wins. `run`: lean_env._run.
    Raises SystemExit when no folder can be written or core.lean does not compile."""
    home, user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), os.getuid()
    for base in (Path(home) / "feedback-distillation", Path(tempfile.gettempdir()) / f"feedback-distillation-{user}"):
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            if base.stat().st_uid == user and os.access(base, os.W_OK):
                break
        except OSError:
            continue
    else:
        raise SystemExit("no writable folder for the embedded Lean's library: set XDG_CACHE_HOME to one")
    stamp = f"{library} {library.stat().st_mtime_ns}".encode()
    made_of = [CORE.read_bytes(), Path(__file__).read_bytes(), stamp]
    target = base / f"lean-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}"
    if not (target / "Core.olean").exists():
        build = Path(tempfile.mkdtemp(dir=base))
        try:
            (build / "Core.lean").write_text(expand_native(CORE.read_text("utf-8"), library.read_bytes()), "utf-8")
            argv = [str(library), "-R", str(build), "-o", str(build / "Core.olean"), str(build / "Core.lean")]
            code, out, _ = run(argv, build, {}, 300, 2**34)
            if code != 0:
                raise SystemExit(f"data/core.lean does not compile with {library}: {out[:500]}")
            with contextlib.suppress(OSError):  # somebody else was first
                build.rename(target)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return target
