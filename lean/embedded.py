"""The embedded Lean's library, core.lean: how native code is bound to it, and where it is
compiled, once per machine. data/README.md says what is in it."""

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from lean.process import run
from lean.text import words

CORE = Path(__file__).resolve().with_name("core.lean")

# Where the library's macros and unexpanders were compiled, in order of import.
FILES = ["Init_Notation", "Init_Tactics", "Init_Meta", "Init_Core", "Init_NotationExtra"]
SYMBOL = re.compile(
    rb"\0_?l_((?:[A-Za-z]+_)*)__aux__(\w+?)______(macroRules|unexpand)__(\w+)__(\d+)(?!\w)"
)


def refuse_imports(header):
    if "import" in words(header):
        raise ValueError(
            f"the embedded Lean has no library to import ({header!r}): use --lean-project"
        )


def mangle(name):
    """A Lean name -> the symbol of its compiled code.

    >>> mangle("term_∧_")
    "l_term___u2227__"
    """
    return "l_" + "_".join(re.sub("[^a-zA-Z0-9]", mangled, part) for part in name.split("."))


def mangled(match):
    """A letter of a name as symbols have it."""
    code = ord(match[0])
    if match[0] == "_":
        return "__"
    return f"_x{code:02x}" if code < 256 else f"_u{code:04x}"


def expand_native(source, binary):
    """The text of core.lean and the bytes of Lean's shared library -> core.lean with each table
    (`/-! native KIND NAMESPACE`, then names) replaced by the lines that bind native code.

    KIND is a parser attribute, `part` (a parser that others call) or `app_unexpander`. An axiom
    with the right name and type is enough: Lean's interpreter finds the code by the mangled
    name. Macros and unexpanders are compiled under generated names such as
    `_aux_Init_Notation___macroRules_term_∧__1`; the library's symbols say which there are.
    """
    generated = generated_functions(binary)

    def variants(what, name):
        """The generated functions of one syntax or constant; Lean tries the last first."""
        name = name.replace(".", "_")
        found = generated.get((what, mangle(name)), ())
        return [f"{beginning}_{name}_{number}" for _, number, beginning in sorted(found)]

    def expand(table):
        kind, namespace, names = table.groups()
        lines = []
        for name in names.split():
            if namespace != "-":
                name = f"{namespace}.{name}"
            if kind == "app_unexpander":  # "constant", or "constant=function"
                name, _, function = name.partition("=")
                functions = [function] if function else variants("unexpand", name)
                type_, attribute = "PrettyPrinter.Unexpander", f"app_unexpander {name}"
            else:
                lines += parser(kind, name)
                functions = variants("macroRules", name)
                type_, attribute = "Macro", f"macro {quote(name)}"
            for function in functions:
                ours = f"Lean.native{table.start()}_{len(lines)}"
                lines += [
                    bound(function, " (s : Lean.Syntax) (c t : Lean.Obj) : Lean.Obj"),
                    f"def {ours} : Lean.{type_} := fun s c t => {quote(function)} s c t",
                    f"attribute [{attribute}] {ours}",
                ]
        return "\n".join(lines)

    return re.sub(r"/-! native (\w+) (\S+)\n(.*?)-/", expand, source, flags=re.DOTALL)


def parser(kind, name):
    """The lines of one syntax, without its macros."""
    operand_first = re.match("term_|tactic_", name.rpartition(".")[2])  # `term_∧_`
    type_ = "TrailingParserDescr" if operand_first else "ParserDescr"
    lines = [bound(name, f" : Lean.{type_}")]
    if kind != "part":
        lines.append(f"attribute [{kind} 1000] {quote(name)}")
    return lines


def bound(name, rest):
    """The axiom to which native code is bound."""
    return f'@[extern "{mangle(name)}"] axiom {quote(name)}{rest}'


def generated_functions(binary):
    """The generated functions in a library's bytes: {(kind, mangled name of the syntax or
    constant): {(number of the file, number, how the function's name begins), ...}}."""
    functions = {}
    for parts in SYMBOL.findall(binary):
        namespace, file, kind, name, number = map(bytes.decode, parts)
        file = file.replace("__", "_")
        order = FILES.index(file) if file in FILES else len(FILES)
        beginning = f"{namespace.replace('_', '.')}_aux_{file}___{kind}"
        same = functions.setdefault((kind, f"l_{name}"), set())
        same.add((order, int(number), beginning))
    return functions


def quote(name):
    """Only the last part of these names ever needs quotes."""
    namespace, dot, last = name.rpartition(".")
    return f"{namespace}{dot}«{last}»"


def compiled_core(library):
    """-> the folder with Core.olean: core.lean compiled by that very Lean (some seconds, once).
    Safe when several processes want it at once: each builds under a name of its own and
    renames, the first wins. Raises SystemExit when no folder can be written or core.lean does
    not compile."""
    base = cache_folder()
    stamp = f"{library} {library.stat().st_mtime_ns}".encode()
    made_of = CORE.read_bytes() + Path(__file__).read_bytes() + stamp
    target = base / f"lean-{hashlib.sha256(made_of).hexdigest()[:16]}"
    if (target / "Core.olean").exists():
        return target

    with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as folder:
        build = Path(folder)
        source, result = build / "Core.lean", build / "Core.olean"
        text = expand_native(CORE.read_text("utf-8"), library.read_bytes())
        source.write_text(text, "utf-8")
        argv = [str(library), "-R", folder, "-o", str(result), str(source)]
        code, *texts, _ = run(argv, build, {}, 300, 2**34)
        if code != 0:
            printed = "".join(texts)[:500]
            raise SystemExit(f"lean/core.lean does not compile with {library}: {printed}")
        with contextlib.suppress(OSError):  # somebody else was first
            build.rename(target)
    return target


def cache_folder():
    """A folder of this user's own, writable: in the cache, else in the temporary folder."""
    user = os.getuid()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    in_cache = Path(cache) / "feedback-distillation"
    temporary = Path(tempfile.gettempdir()) / f"feedback-distillation-{user}"
    for folder in (in_cache, temporary):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == user and os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    raise SystemExit(
        "no writable folder for the embedded Lean's library: set XDG_CACHE_HOME to one"
    )
