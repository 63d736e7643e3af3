"""Expand the tables of native bindings in core.lean (used by lean_env.py when it compiles the embedded Lean's library)."""
import re

def mangle(name):
    """A Lean name -> the symbol of its compiled code.   >>> mangle("term_∧_")   "l_term___u2227__" """
    parts = ["".join(c if c.isascii() and c.isalnum() else "__" if c == "_" else
                     f"_x{ord(c):02x}" if ord(c) < 256 else f"_u{ord(c):04x}" for c in part) for part in name.split(".")]
    return "l_" + "_".join(parts)


def expand_native(source, binary):
    """The text of core.lean, the bytes of libleanshared -> core.lean with each table `/-! native KIND NAMESPACE` + names replaced by the lines that bind native code.

    KIND is a parser attribute, `part` (a parser that others call) or `app_unexpander`. An axiom with the right name and type
    is enough: Lean's interpreter finds the code by the mangled name. Macros and unexpanders are compiled under generated
    names such as `_aux_Init_Notation___macroRules_term_∧__1`; we look up which of them the library has."""
    generated = set()
    for marker in (b"______macroRules__", b"______unexpand__"):
        at = binary.find(marker)
        while at >= 0:
            end = binary.index(b"\0", at)
            generated.add(binary[binary.rindex(b"\0", 0, at) + 1:end].decode(errors="replace"))
            at = binary.find(marker, end)
    files = ["Init_Notation", "Init_Tactics", "Init_Meta", "Init_Core", "Init_NotationExtra"]  # in core's order of import
    bound = 0

    def function(name, type_, attribute):
        nonlocal bound
        bound += 1
        return [f'@[extern "{mangle(name)}"] axiom {quote(name)} (s : Lean.Syntax) (c t : Lean.Obj) : Lean.Obj',
                f"def Lean.native{bound} : Lean.{type_} := fun s c t => {quote(name)} s c t",
                f"attribute [{attribute}] Lean.native{bound}"]

    def variants(kind, name):  # the generated functions of one syntax or constant, later ones are tried first
        name = name.replace(".", "_")
        pattern = re.compile(rf"_?l_((?:[A-Za-z]+_)*)__aux__(\w+?)______{kind}__{re.escape(mangle(name)[2:])}__(\d+)")
        hits = [m for m in map(pattern.fullmatch, generated) if m]
        order = sorted((files.index(f) if f in files else len(files), int(m[3]), m[1], f)
                       for m in hits for f in [m[2].replace("__", "_")])
        return [f"{space.replace('_', '.')}_aux_{f}___{kind}_{name}_{n}" for _, n, space, f in order]

    def quote(name):  # only the last part of these names ever needs quotes
        space, _, last = name.rpartition(".")
        return (f"{space}." if space else "") + f"«{last}»"

    def table(match):
        kind, space, lines = match[1], match[2].strip("-"), []
        for name in match[3].split():
            name, _, code = name.partition("=") if kind == "app_unexpander" else (name, "", "")
            name = f"{space}.{name}" if space else name
            if kind == "app_unexpander":
                for unexpander in [code] if code else variants("unexpand", name):
                    lines += function(unexpander, "PrettyPrinter.Unexpander", f"app_unexpander {name}")
                continue
            trailing = "Trailing" * bool(re.match("term_|tactic_", name.rpartition(".")[2]))  # `term_∧_` begins with an operand
            lines.append(f'@[extern "{mangle(name)}"] axiom {quote(name)} : Lean.{trailing}ParserDescr')
            lines += [f"attribute [{kind} 1000] {quote(name)}"] if kind != "part" else []
            for macro in variants("macroRules", name):
                lines += function(macro, "Macro", f"macro {quote(name)}")
        return "\n".join(lines)

    return re.sub(r"/-! native (\w+) (\S+)\n(.*?)-/", table, source, flags=re.S)
