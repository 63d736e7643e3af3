"""`--lean dojo:REPO@COMMIT`: proofs about theorems of a Lean repository, with the goals at the
tactic that failed.

LeanDojo (the package lean_dojo) runs a proof tactic by tactic. It is deprecated by its authors,
wants Python below 3.13, builds and traces the whole repository before it answers, and its way
of talking to Lean broke with Lean 4.20. So it is imported only when asked for, only with a Lean
before 4.20, and it judges nothing: its tactic mode accepts wrong proofs and looks at no axioms.
The verdict is that of `lake env lean` in the repository that it built, by the rules of
lean_env.py; LeanDojo adds, to a rejected proof of a theorem that stands in the repository under
the same name, the goals before the tactic that failed.

Not run against a real LeanDojo with a real Lean.
"""

import os
import re
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from lean.text import split_statement


def attach(env, where):
    """Make `env`, a LeanEnv, add the goals to its verdicts on proofs in the repository `where`:
    FOLDER, or URL@COMMIT. -> (the repository's folder, what to say of LeanDojo). SystemExit,
    one line, when that cannot be."""
    url, _, commit = where.rpartition("@")
    is_folder = where.strip() and Path(where).is_dir()  # "" would be the current folder
    if not is_folder and not (url and commit):
        raise SystemExit(
            f"--lean dojo: {where!r} names no repository: give dojo:URL@COMMIT or dojo:FOLDER, "
            "a git checkout of a Lean project"
        )
    if re.search("//[^/]*@", where) and not is_folder:  # it would stand in logs and messages
        raise SystemExit(
            "--lean dojo: write dojo:URL@COMMIT, without a user or a token in it "
            "(the token comes from GITHUB_ACCESS_TOKEN)"
        )
    dojo = import_lean_dojo()
    with or_exit(
        f"cannot open {where!r}",
        "give dojo:URL@COMMIT, with a network, or dojo:FOLDER, a git checkout of a Lean project",
    ):
        if is_folder:
            repo = dojo.LeanGitRepo.from_path(Path(where).resolve())
        else:
            repo = dojo.LeanGitRepo(url, commit)

    check_version(repo.lean_version, where)
    print(
        "LeanDojo is deprecated by its authors and works with a Lean before 4.20 only; it now "
        f"builds and traces {where}, which can take hours for a project with Mathlib",
        file=sys.stderr,
    )
    with or_exit(
        f"LeanDojo could not build and trace {where}",
        "it needs elan and a network. --lean-project does without LeanDojo",
    ):
        path = Path(dojo.get_traced_repo_path(repo, build_deps=False))
    env.check = partial(check, dojo, repo, path, env.check, env.timeout)
    return path, f", goals from LeanDojo {dojo.__version__}"


def import_lean_dojo():
    """The package, or SystemExit with one line."""
    # Else it asks a server for every repository, and fails without a network.
    os.environ.setdefault("DISABLE_REMOTE_CACHE", "1")
    # While it is imported it runs git, makes a cache folder and, with a token, asks GitHub.
    with or_exit(
        "lean_dojo cannot be imported",
        "it wants git on PATH, a writable home, and no GITHUB_ACCESS_TOKEN when there is "
        "no network",
    ):
        try:
            import lean_dojo
        except ImportError:
            raise SystemExit(
                "--lean dojo: the package lean_dojo is not installed: "
                "pip install lean-dojo==4.20.0 (Python below 3.13). It is deprecated and knows "
                "no Lean from 4.20 on; --lean-project does without it"
            ) from None
    return lean_dojo


@contextmanager
def or_exit(failure, advice):
    """What fails inside, in one of many ways, ends as SystemExit with one line."""
    try:
        yield
    except Exception as error:  # git's, GitHub's and LeanDojo's own classes
        last_line = str(error).strip().split("\n")[-1]
        said = f"{type(error).__name__}: {last_line[-150:]}"
        raise SystemExit(f"--lean dojo: {failure} ({said}): {advice}") from None


def check_version(version, where):
    """SystemExit when a Lean ("v4.19.0", "v4.20.0-rc1", "nightly-...") is not known to be one
    that LeanDojo can talk to."""
    if not re.match(r"v?4\.1?\d\.", version):
        raise SystemExit(
            f"--lean dojo: {where} uses Lean {version}, and LeanDojo works with a Lean before "
            "4.20 only (it is deprecated and will not be repaired): give its folder to "
            "--lean-project instead"
        )


def check(dojo, repo, path, judge, timeout, jobs, sketch=False):
    """As LeanEnv.check, which judges (`judge`); to what it rejects, the goals before the
    failing tactic are added."""
    verdicts = judge(jobs, sketch)
    # Equal jobs share one verdict, which the environment keeps: it stays as it is.
    told = {id(verdict): verdict for verdict in verdicts}
    different = {id(verdict): (job, verdict) for job, verdict in zip(jobs, verdicts)}
    for (theorem, proof, *whole), verdict in different.values():
        if any(whole) or verdict.status != "rejected":
            continue
        name = split_statement(theorem.statement)[0]
        file = file_with(name, path)
        if file:
            entry = dojo.Theorem(repo, file, name)
            goals = goals_by_dojo(dojo, entry, theorem.statement, proof, timeout)
            told[id(verdict)] = replace(verdict, messages=verdict.messages + goals)
    return [told[id(verdict)] for verdict in verdicts]


@cache
def file_with(name, path):
    """The first file of a repository that has a theorem of that name, or None."""
    pattern = re.compile(rf"\b(theorem|lemma)\s+{re.escape(name)}[\s:({{\[]")
    for file in path.rglob("*.lean"):
        is_ours = {".lake", "lake-packages"}.isdisjoint(file.parts)
        if is_ours and pattern.search(file.read_text("utf-8", "replace")):
            return file.relative_to(path)
    return None


def goals_by_dojo(dojo, theorem, statement, proof, timeout):
    """-> [] or one message with the goals, at the line and column of the tactic that failed."""
    tactics = split_tactics(proof)
    if not tactics:
        return []  # a term: there are no goals between its parts
    texts = [text for _, _, text in tactics]
    place = None
    # It fails in many ways. The goals are help, the verdict stands without them.
    with suppress(Exception):
        with dojo.Dojo(theorem, timeout=int(timeout), build_deps=False) as (session, state):
            place, goals = walk(dojo, session.run_tac, state, texts)
    if place is None:
        return []

    line, column, _ = tactics[min(place, len(tactics) - 1)]
    if line == 1:  # the proof's first line begins behind the statement
        column += len(f"{statement} := ".split("\n")[-1])
    line += statement.count("\n")
    where = "before this tactic" if place < len(tactics) else "that are left at the end"
    data = f"goals {where}:\n{goals}"
    return [{"severity": "information", "line": line, "column": column, "data": data}]


def walk(dojo, run_tac, state, tactics):
    """Run tactics from `state` -> (number of the first that fails, goals before it);
    (len(tactics), goals) when goals are left; (None, "") when none fails and none is left.
    `run_tac` is that of a Dojo."""
    for i, tactic in enumerate(tactics):
        result = run_tac(state, tactic)
        if isinstance(result, dojo.LeanError):
            return i, state.pp
        if not isinstance(result, dojo.TacticState):
            return None, ""  # finished, or given up with `sorry`
        state = result
    return len(tactics), state.pp


def split_tactics(proof):
    """A proof "by ..." -> [(line from 1, column from 0, text)] of its outermost tactics; [] for
    a term. A bullet with all below it is one tactic.

    >>> split_tactics("by\\n  constructor\\n  · skip\\n    rfl\\n  rfl")
    [(2, 2, "constructor"), (3, 2, "· skip\\n    rfl"), (5, 2, "rfl")]
    """
    if not re.match(r"by\b", proof):
        return []
    lines = ("  " + proof[2:]).split("\n")  # "by simp" on one line: the tactic keeps its column
    columns = {i: re.search(r"\S", line).start() for i, line in enumerate(lines) if line.strip()}
    margin = min(columns.values(), default=0)
    firsts = [i for i, column in columns.items() if column == margin]
    if lines[0].strip():
        firsts, margin = [0], columns[0]
    ends = [*firsts[1:], len(lines)]
    return [(i + 1, margin, "\n".join(lines[i:end]).strip()) for i, end in zip(firsts, ends)]
