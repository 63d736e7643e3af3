"""`--lean kimina:URL` against the real server's code, whose `lake` and `repl` are played by ours on the embedded Lean.

The package kimina-ast-server counts lines from behind the imports. The project's own newer commits count from the file's first line:
KIMINA_LEAN_SERVER=FOLDER, a checkout of github.com/project-numina/kimina-lean-server, is tested, too.
"""
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from lean_env import LeanEnv, Theorem
from real_parts import ROOT, free_port, python, serving

CHECKOUT = os.environ.get("KIMINA_LEAN_SERVER", "")
# Neither a database nor a cloud's log is used. Python 3.11's own TypedDict is one that pydantic refuses.
STUBS = {
    "sitecustomize.py": "import typing\nimport typing_extensions\ntyping.TypedDict = typing_extensions.TypedDict\n",
    "prisma.py": "class Prisma:\n    async def connect(self):\n        raise OSError\n",
    "google/cloud/logging/__init__.py": "Client = None\n",
    "google/cloud/logging/handlers.py": "CloudLoggingHandler = None\n",
    "google/auth/exceptions.py": "class DefaultCredentialsError(Exception):\n    pass\n",
}
TRUE = Theorem("t", "theorem t (p q : Prop) (hp : p) (h : p → q) : q"), "by\n  exact h hp"
FALSE = Theorem("t", "theorem t (p q : Prop)\n    (hp : p) : p ∧ q"), "by\n  constructor\n  · exact hp\n  · exact hp"


@pytest.fixture(scope="module", params=["package", "checkout"])
def start(request, tmp_path_factory):
    """A function that starts the server -> (its context, its URL)."""
    if request.param == "package" and not importlib.util.find_spec("server"):
        pytest.skip("the package kimina-ast-server is not installed (make test-real)")
    if request.param == "checkout" and not CHECKOUT:
        pytest.skip("KIMINA_LEAN_SERVER names no checkout of the server")
    if not importlib.util.find_spec("kimina_client"):
        pytest.skip("the package kimina-client is not installed (make test-real)")
    folder = tmp_path_factory.mktemp(request.param)
    for name, text in STUBS.items():
        (folder / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stubs" / name).write_text(text)
    repl = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" "{ROOT}/tests/real/lean_repl.py"'
    for name, text in {"lake": 'shift\nexec "$@"', "repl": repl}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    def run(repls):
        port = free_port()
        code = [Path(CHECKOUT).resolve()] if request.param == "checkout" else []
        path = os.pathsep.join(map(str, [folder / "stubs", *code]))
        settings = dict(HOST="127.0.0.1", PORT=str(port), MAX_REPLS=str(repls), REPL_PATH=str(folder / "repl"), PROJECT_DIR=str(folder),
                        SKIP_VALIDATION="1")
        environment = {f"LEAN_SERVER_{name}": value for name, value in settings.items()}
        url = f"http://127.0.0.1:{port}"
        return url, serving(python("-m", "server"), f"{url}/health", folder / "log", PYTHONPATH=path,
                            PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", **environment)
    return run


@pytest.fixture(scope="module")
def url(start):
    url, server = start(repls=3)
    with server:
        yield url


@pytest.mark.parametrize("header", ["", "import Mathlib\n", "-- a word\nimport Mathlib\nimport Aesop\n\nuniverse w\n"],
                         ids=["no import", "an import", "imports behind a word"])
def test_verdicts_and_places_are_lean_s(url, header):
    env = LeanEnv(lean=f"kimina:{url}", header=header, timeout=20)
    for _ in range(2):
        proved, rejected, cheat, classical = env.check([TRUE, FALSE, (TRUE[0], "by\n  exact sorryAx _"),
                                                        (Theorem("t", "theorem t (p : Prop) : p ∨ ¬p"), "Classical.em p")])
        assert [v.status for v in (proved, rejected, cheat, classical)] == ["proved", "rejected", "cheat", "proved"]
        (message,) = rejected.messages
        assert (message["line"], message["column"]) == (5, 4) and message["data"].startswith("Type mismatch\n  hp\n")
        assert classical.axioms == ["propext", "Classical.choice", "Quot.sound"]


def test_jobs_do_not_see_each_other(start):
    """The server's REPL takes the first text without imports for what all later ones begin with."""
    url, server = start(repls=3)
    helper, statement = "theorem help (p q : Prop) (hp : p) (h : p → q) : q := h hp\n", TRUE[0].statement
    with server:
        env = LeanEnv(lean=f"kimina:{url}", header="", timeout=20)
        files = [helper + f"{statement} := help p q hp h{' ' * i}" for i in range(4)] + [f"{statement} := help p q hp h{' ' * i}" for i in range(4)]
        for _ in range(2):
            verdicts = env.check_files([(TRUE[0], file) for file in files])
            assert [v.status for v in verdicts] == ["proved"] * 4 + ["rejected"] * 4


def test_an_import_that_is_not_there_is_told(url):
    with pytest.raises(SystemExit, match="proves nothing behind 'import Missing"):
        LeanEnv(lean=f"kimina:{url}", header="import Missing\n", timeout=20)
    env = LeanEnv(lean=f"kimina:{url}", timeout=20)
    assert [v.status for v in env.check([TRUE, (Theorem("t", TRUE[0].statement, "import Missing\n"), TRUE[1])])] == ["proved", "crash"]


def test_a_proof_that_takes_too_long_is_a_timeout(url):
    env = LeanEnv(lean=f"kimina:{url}", timeout=3)
    assert [v.status for v in env.check([(Theorem("t", "theorem t (p : Prop) : p"), "by\n  repeat skip"), TRUE])] == ["timeout", "proved"]


@pytest.mark.parametrize("proof", [f"by\n  exact \"{'x' * 70000}\"", f"by\n  refine ⟨{'?_, ' * 60}?_⟩"], ids=["a long word", "many goals"])
def test_a_message_too_long_for_the_server_is_a_rejection(url, proof):
    """Newer commits read 64 KiB of a line, and fail behind them; the package reads all of it."""
    big = " ∧ ".join(["(p → q → p → q → p ∨ q ∨ p)"] * 60)
    env = LeanEnv(lean=f"kimina:{url}", header="", timeout=20)
    assert env.check([(Theorem("t", f"theorem t (p q : Prop) (h : {big}) : {big} ∧ q"), proof)])[0].status == "rejected"


def test_half_a_character_ends_nothing(url):
    env = LeanEnv(lean=f"kimina:{url}", timeout=20)
    assert [v.status for v in env.check([(TRUE[0], "h hp -- \ud800"), (FALSE[0], "\udc00"), TRUE])] == ["proved", "rejected", "proved"]


def test_many_at_once_are_all_answered(url):
    env = LeanEnv(lean=f"kimina:{url}", timeout=20, workers=8)
    jobs = [(Theorem(f"t{i}", f"theorem t{i} (p q : Prop) (hp : p) (h : p → q) : q"), "h hp" if i % 3 else "hp") for i in range(12)]
    assert [v.status for v in env.check(jobs)] == ["proved" if i % 3 else "rejected" for i in range(12)]
