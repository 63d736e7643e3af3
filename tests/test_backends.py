"""The ways to reach a Lean give the same verdicts: a process (the embedded Lean), a Kimina server, LeanDojo.

The Kimina server here is ours: a standard-library HTTP server that speaks the format of the real one's source (version 2.0.0) and
answers by running the embedded Lean on the code it is sent. Neither the real server nor LeanDojo with a Lean was at hand.
"""
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from lean import dojo, kimina, process
from lean_env import LeanEnv, Theorem


def theorem(statement, name="t"):
    return Theorem(name, f"theorem {name} {statement}")


TRUE = theorem("(p q : Prop) (hp : p) (h : p → q) : q"), "by\n  exact h hp"
FALSE = theorem("(p q : Prop)\n    (hp : p) : p ∧ q"), "by\n  constructor\n  · exact hp\n  · exact hp"


class Kimina(BaseHTTPRequestHandler):
    """POST /api/check as in the real server's source: the code is cut at its leading imports, which are read once; the rest is a
    command to a REPL that knows them; empty lists and nulls are left out. Servers differ: `server.lines` are counted in the "file" or
    "behind the imports"; `server.shared`: with a first part that is in it, the first command's declarations stay for all later ones
    ("" is what the real one does, whose REPL takes the first command for the header when there is no import); `server.limit`: bytes of
    a message that it can read."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.server.authorized.append(self.headers.get("Authorization"))
        self.answer(200, {"status": "ok"})

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(body)
        server.authorized.append(self.headers.get("Authorization"))
        if server.elsewhere:
            return self.answer(307, {}, Location=server.elsewhere)
        if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            return self.answer(401, {"detail": "Invalid or missing API key"})
        if self.path != "/api/check" or not body["snippets"] or not isinstance(body["timeout"], int):
            return self.answer(404, {"detail": "Not Found"})
        if re.search("[\ud800-\udfff]", body["snippets"][0]["code"]):
            return self.answer(422, {"detail": "Input should be a valid string"})
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            return self.answer(fault, {"detail": "JSON decode error" if fault == 500 else "No available REPLs"})
        if isinstance(fault, str):
            return self.answer(500, {"detail": fault})
        if fault is not None:
            return self.answer(200, fault)
        (result,) = [self.check(snippet, body["timeout"], body["reuse"]) for snippet in body["snippets"]]
        return self.answer(500, {"detail": result}) if isinstance(result, str) else self.answer(200, {"results": [result]})

    def check(self, snippet, timeout, reuse):
        server, lean = self.server, self.server.lean
        lines = snippet["code"].splitlines()
        cut = next((i for i, line in enumerate(lines) if line.strip() and not line.strip().startswith("import ")), len(lines))
        header, body = "\n".join(line.strip() for line in lines[:cut] if line.strip()), "\n".join(lines[cut:])
        late = re.search(r"(?m)^import .*", body)  # the REPL's command for the rest has no imports
        body = body.replace(late[0], "#error", 1) if late else body
        with server.lock:
            before = f"prelude\n{header or 'import Init'}\n".replace("import Init\n", "import Core\n")
            before = "prelude\n" if "import Missing" in before else before  # its error is told to nobody
            first = server.first.get(header) if reuse else None
            if not first and header in server.shared:
                server.first[header] = body
        before += f"{first}\n" if first else ""
        code, messages, took = process.read(before + body, [*lean.argv, "--json", "--tstack=65536"], None, lean.env, timeout, lean.memory)
        if code is None:
            return {"id": snippet["id"], "time": took, "error": f"Lean REPL command timed out in {float(timeout)} seconds"}
        if code not in (0, 1):
            return "JSON decode error"
        if any(len(m["data"].encode()) > server.limit for m in messages):
            return "Failed to read from REPL stdout"
        response, cut = {"env": 1}, cut if server.lines == "file" else 0
        start = before.count("\n")
        said = [{"severity": m["severity"].replace("information", "info"), "pos": {"line": m["line"] + cut - start, "column": m["column"]},
                 "endPos": {"line": m["line"] + cut - start, "column": m["column"] + 1}, "data": m["data"]}
                for m in messages if m["line"] > start]
        return {"id": snippet["id"], "time": took, "response": response | ({"messages": said} if said else {})}


@pytest.fixture(scope="module")
def wheel():
    return LeanEnv(lean="wheel", timeout=20)


@pytest.fixture
def server(wheel):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kimina)
    server.lean, server.asked, server.faults, server.key, server.authorized, server.elsewhere = wheel, [], [], None, [], None
    server.lines, server.shared, server.first, server.limit, server.lock = "file", [""], {}, 2**16, threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def connect(server, **options):
    return LeanEnv(**{"lean": f"kimina:{server.url}", "header": "import Core\n", "timeout": 20, **options})


LAKE = """#!{python}
import os, sys
assert sys.argv[1:3] == ["env", "lean"], sys.argv
os.environ["LEAN_PATH"] = {core!r}
os.execv({argv[0]!r}, {argv!r} + sys.argv[3:])
"""


@pytest.fixture(params=["embedded", "kimina", "kimina, lines from behind the imports", "dojo"])
def backend(request, wheel, tmp_path, monkeypatch):
    """A function that gives an environment, and one that breaks what it relies on. dojo: the package is stubbed, its repository's
    `lake env lean` is the embedded Lean."""
    def no_memory(env):
        env.memory = 2**24  # not even Python starts
    if request.param == "embedded":
        return lambda **options: LeanEnv(**{"lean": "wheel", "timeout": 20, **options}), no_memory
    if request.param == "dojo":
        (tmp_path / "bin").mkdir()
        (tmp_path / "repo").mkdir()
        (tmp_path / "repo" / "lakefile.toml").touch()
        argv = [sys.executable, "-I", "-S", str(process.CHILD), "60", str(2**33), *wheel.argv]
        (tmp_path / "bin" / "lake").write_text(LAKE.format(python=sys.executable, core=wheel.env["LEAN_PATH"], argv=argv))
        (tmp_path / "bin" / "lake").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        repo = SimpleNamespace(lean_version="v4.19.0")
        package = SimpleNamespace(LeanGitRepo=SimpleNamespace(from_path=lambda path: repo), __version__="4.20.0",
                                  get_traced_repo_path=lambda repo, build_deps: tmp_path / "repo")
        monkeypatch.setattr(dojo, "import_lean_dojo", lambda: package)
        return lambda **options: LeanEnv(**{"lean": f"dojo:{tmp_path / 'repo'}", "header": "prelude\nimport Core\n", "timeout": 20,
                                            **options}), no_memory
    server = request.getfixturevalue("server")
    server.lines = "file" if request.param == "kimina" else "behind the imports"
    return lambda **options: connect(server, **options), lambda env: server.faults.extend([500] * 9)


# ---- the contract: the same for every backend
def test_a_theorem_whose_header_ends_in_a_comment_is_proved_like_any_other(backend):
    """A server takes the imports at the very beginning for the header, and no later ones."""
    env = backend[0]()
    one = Theorem("t", "theorem t (p : Prop) (hp : p) : p")
    told = Theorem("t", one.statement, f"{env.header}/- #rg NAME searches -/\n")
    assert [v.status for v in env.check([(one, "hp"), (told, "hp"), (told, "by\n  exact p")])] == ["proved", "proved", "rejected"]
    assert env.check_file(told, f"{one.statement} := hp").status == "proved"


def test_verdicts_come_in_order_with_leans_words_at_leans_place(backend):
    env = backend[0]()
    classical = theorem("(p : Prop) : p ∨ ¬p"), "Classical.em p"
    jobs = [TRUE, FALSE, (theorem("(p : Prop) : p"), "by\n  sorry"), classical, FALSE, TRUE]
    verdicts = env.check(jobs)
    assert [v.status for v in verdicts] == ["proved", "rejected", "cheat", "proved", "rejected", "proved"]
    (message,) = verdicts[1].messages
    assert (message["line"], message["column"], message["severity"]) == (5, 4, "error")  # the statement has two lines
    assert message["data"].startswith("Type mismatch\n  hp\n") and verdicts[0].messages == []
    assert verdicts[3].axioms == ["propext", "Classical.choice", "Quot.sound"] and verdicts[0].axioms == []
    assert all(v.seconds > 0 for v in verdicts if v.status != "cheat")


def test_a_proof_that_takes_too_long_is_a_timeout_and_costs_only_itself(backend):
    env = backend[0](timeout=2)
    verdicts = env.check([TRUE, (theorem("(p : Prop) : p"), "by\n  repeat skip"), FALSE])
    assert [v.status for v in verdicts] == ["proved", "timeout", "rejected"]


def test_when_lean_itself_fails_nobody_is_rejected(backend):
    env = backend[0]()
    backend[1](env)
    assert [v.status for v in env.check([TRUE, FALSE])] == ["crash", "crash"]


def test_whole_files_are_judged_by_the_same_rules(backend):
    env, target = backend[0](), TRUE[0]
    statement = "theorem t (p q : Prop) (hp : p) (h : p → q) : q"
    files = [f"theorem help (p q : Prop) (hp : p) (h : p → q) : q := h hp\n{statement} := help p q hp h", f"\n{statement} := by\n  exact hp",
             f"axiom bad : False\n{statement} := bad.elim"]
    verdicts = [env.check_file(target, file) for file in files]
    assert [v.status for v in verdicts] == ["proved", "rejected", "cheat"]
    assert (verdicts[1].messages[0]["line"], verdicts[1].messages[0]["column"]) == (3, 2)


def test_what_has_no_error_is_not_yet_a_proof(backend):
    """All of these are `valid` to the real server's own verdict: no error, no `sorry` that it can see."""
    env, target = backend[0](), TRUE[0]
    files = ["", "-- theorem t", "theorem t : True := True.intro", "theorem other (p q : Prop) (hp : p) (h : p → q) : q := h hp",
             "namespace A\ntheorem t (p q : Prop) (hp : p) (h : p → q) : q := h hp\nend A"]
    assert [env.check_file(target, file).status for file in files] == ["rejected"] * len(files)
    texts = ["", "h hp /-", "h hp\n#exit", "h hp\nend", "sorryAx q true", "by first | done | exact sorryAx q"]
    assert {v.status for v in env.check([(target, text) for text in texts])} <= {"rejected", "cheat"}


def test_lines_end_where_lean_says(backend):
    """To Python's splitlines, which the real server uses, these characters end a line: then what our guard takes for a comment is code."""
    env = backend[0]()
    for character in "\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        verdict = env.check([(theorem("(p : Prop) (hp : p) : p"), f"by\n  exact hp --{character}axiom bad : False\n  -- {character}#eval 1")])[0]
        assert (character, verdict.status, verdict.messages) == (character, "proved", [])


def test_half_a_character_ends_nothing(backend):
    env = backend[0]()
    assert [v.status for v in env.check([(theorem("(p : Prop) (hp : p) : p"), "by\n  exact hp -- \ud800"), (FALSE[0], "\udc00"), TRUE])] == [
        "proved", "rejected", "proved"]


# ---- what only a server can do wrong
def test_a_server_is_told_from_none_and_its_lean_is_named(server, monkeypatch):
    assert connect(server).describe() == f"Lean ? from the Kimina server at {server.url}"  # our little library has no versionString
    assert {key: type(value) for key, value in server.asked[-1].items()} == {
        "snippets": list, "timeout": int, "reuse": bool}
    server.key = "secret"
    with pytest.raises(SystemExit, match=r"wants an API key \(401\): set KIMINA_API_KEY"):
        connect(server)
    monkeypatch.setenv("KIMINA_API_KEY", "secret")
    assert connect(server).check([TRUE])[0].status == "proved"
    with pytest.raises(SystemExit, match=r"does not understand POST /api/check \(404\)"):
        LeanEnv(lean=f"kimina:{server.url}/somewhere")
    server.server_close()
    with pytest.raises(SystemExit, match="nothing answers at .*docker run"):
        LeanEnv(lean="kimina:127.0.0.1:9")


def test_a_project_beside_a_server_is_refused():
    with pytest.raises(SystemExit, match="brings its own project: leave --lean-project out"):
        LeanEnv(lean="kimina:127.0.0.1:9", project=".")


def test_the_version_is_what_lean_says_about_itself(server):
    said = {"messages": [{"severity": "info", "pos": {"line": line, "column": 0}, "data": data}
                         for line, data in ((3, kimina.BEGUN), (5, '"4.26.0"'))], "env": 0}
    server.faults.append({"results": [{"id": "proof", "time": 1.0, "response": said}]})
    assert connect(server).describe() == f"Lean 4.26.0 from the Kimina server at {server.url}"


def test_a_busy_server_is_asked_again(server):
    env = connect(server)
    server.asked.clear()
    server.faults += [429, 503]
    assert env.check([TRUE])[0].status == "proved" and len(server.asked) == 3


def test_a_slow_import_is_not_the_proofs_fault(server):
    env = connect(server)
    server.faults.append({"results": [{"id": "proof", "time": 20.0, "error": "Lean REPL header command timed out in 20.0 seconds"}]})
    server.asked.clear()
    assert env.check([TRUE])[0].status == "proved" and [body["timeout"] for body in server.asked] == [20, 300]


@pytest.mark.parametrize("answer", [
    b"not json", {}, {"results": []}, {"results": [{"id": "other", "response": {"env": 1}}]}, {"results": [{"id": "proof"}]},
    {"results": [{"id": "proof", "response": None}]}, {"results": [{"id": "proof", "response": {"message": "Unknown environment."}}]},
    {"results": [{"id": "proof", "error": "Lean process exited"}]}, {"results": [{"id": "proof", "response": {"env": 1}}]},
])
def test_an_answer_without_evidence_is_a_crash(server, answer):
    env = connect(server)
    server.faults += [answer] * 8  # once, and once more alone, and each until it is clear that there is none
    assert env.check([TRUE])[0].status == "crash"


def test_the_repls_messages_become_leans():
    def said(data, severity="warning"):
        return kimina.leans_message({"severity": severity, "pos": {"line": 3, "column": 1}, "endPos": None, "data": data})
    assert said("declaration uses 'sorry'")["kind"] == said("declaration uses `sorry`")["kind"] == "hasSorry"
    assert said("unused variable")["kind"] == said("declaration uses `sorry`", "error")["kind"] == ""
    assert said("x", "info") == dict(line=3, column=1, severity="information", data="x", kind="")


# ---- servers differ
@pytest.mark.parametrize("lines", ["file", "behind the imports"])
@pytest.mark.parametrize("header", ["import Core\n", "import Core\n\n\n-- a word\nuniverse w\n", "", "-- a word first\nimport Core\n", "\n\n",
                                    "/- two\nlines -/ import Core import Core\n-- import Missing\n", "module\n\npublic import Core\n"])
def test_verdicts_and_places_are_the_same_however_a_server_counts_and_a_header_is_written(server, lines, header):
    server.lines = lines
    env = connect(server, header=header)
    for _ in range(2):  # in a Lean that has just begun, and in one that has been used
        proved, rejected = env.check([TRUE, FALSE])
        assert (proved.status, proved.messages, rejected.status) == ("proved", [], "rejected")
        (message,) = rejected.messages
        assert (message["line"], message["column"]) == (5, 4) and message["data"].startswith("Type mismatch\n  hp\n")
    assert env.check_file(TRUE[0], f"\n{TRUE[0].statement} := by\n  exact hp").messages[0]["line"] == 3


SHARES = {"nothing": [], "what has no import": [""], "everything with these imports": ["", "import Core", "import Init"]}


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("header", ["", "import Core\n"])
def test_no_job_uses_or_suffers_from_what_another_declared(server, header, shares):
    server.shared = SHARES[shares]
    env, target = connect(server, header=header), TRUE[0]
    helper = "theorem help (p q : Prop) (hp : p) (h : p → q) : q := h hp\n"
    own, borrowed = f"{target.statement} := help p q hp h", f"{target.statement} := by\n  first | exact help p q hp h | exact t p q hp h"
    server.first.clear()  # whatever was asked on the way here: now the helper's job is the first
    assert env.check_file(target, helper + own).status == "proved"
    assert env.check_file(target, borrowed).status == "rejected"
    assert env.check_file(target, helper + own + "\n").status == "proved"  # and not: `help` has already been declared
    assert [v.status for v in env.check([(target, "help p q hp h"), TRUE, (target, "t p q hp h"), (target, "h hp")])] == [
        "rejected", "proved", "rejected", "proved"]
    # A fresh Lean for each proof costs an import of Mathlib: with the real servers there is no need.
    assert all(body["reuse"] for body in server.asked) == (shares != "everything with these imports")


def test_a_server_whose_jobs_cannot_be_kept_apart_is_asked_nothing_more(server, monkeypatch):
    env = connect(server)
    check = Kimina.check
    monkeypatch.setattr(Kimina, "check", lambda self, snippet, timeout, reuse: check(self, snippet, timeout, True))
    server.shared = ["import Core"]
    assert env.check_file(TRUE[0], f"{TRUE[0].statement} := h hp").status == "proved"  # the first
    assert env.check([TRUE, FALSE])[0].status == env.check_file(TRUE[0], f"{TRUE[0].statement} := hp").status == "crash"
    with pytest.raises(SystemExit, match="the Lean at .* proves nothing behind 'import Core.n'"):
        connect(server)


def test_an_import_that_the_server_lacks_is_no_wrong_proof(server):
    """The real server tells nobody of an error in the imports."""
    assert connect(server).check([(Theorem("t", TRUE[0].statement, "import Missing\n"), TRUE[1])])[0].status == "crash"
    with pytest.raises(SystemExit, match="the Lean at .* proves nothing behind 'import Missing.n': has it these imports") as error:
        connect(server, header="import Missing\n")
    assert "\n" not in str(error.value)


def test_what_a_prover_writes_imports_nothing(server):
    env = connect(server)
    for text in ("by\n  exact h hp -- \nimport Missing", "by\n  /-\nimport Missing\n-/\n  exact h hp"):
        env.check([(TRUE[0], text)])
        env.check_file(TRUE[0], f"/-\nimport Missing\n-/\n{TRUE[0].statement} := {text}")
    assert {body["snippets"][0]["code"].partition("\n")[0] for body in server.asked} == {"import Core"}
    assert not any("Missing" in line and line.startswith("import") for body in server.asked
                   for line in body["snippets"][0]["code"].partition(kimina.BEGINNING)[0].splitlines())


# Goals are printed one by one; all numbers of steps are per expression.
BIG = "∧ ".join(["(p → q → p → q → p)"] * 40)
LONG = {
    "a long goal": (theorem(f"(p q : Prop) (h : {BIG} ∧ q ∧ {BIG}) : {BIG} ∧ {BIG} ∧ q"), "by\n  skip", 2),
    "many goals": (theorem(f"(p q : Prop) (h : {BIG}) : {BIG} ∧ q"), f"by\n  refine ⟨{'?_, ' * 40}?_⟩", 3),
    "a long word": (theorem("(p : Prop) : p"), f"by\n  exact \"{'x' * 4000}\"", 3),
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("lines", ["file", "behind the imports"])
def test_a_wrong_proof_with_a_message_too_long_for_the_server_is_rejected(server, lines, kind):
    *job, questions = LONG[kind]
    server.lines, server.limit = lines, 2500
    env = connect(server)
    server.asked.clear()
    (verdict,) = env.check([tuple(job)])
    assert verdict.status == "rejected" and verdict.messages and len(server.asked) == questions
    lines = f"{job[0].statement} := {job[1]}".split("\n")
    assert all(1 <= m["line"] <= len(lines) and m["column"] <= len(lines[m["line"] - 1]) for m in verdict.messages)
    assert not any("_it_fails" in m["data"] for m in verdict.messages)


def test_a_right_proof_is_not_rejected_for_the_length_of_what_lean_says(server):
    env = connect(server)
    server.limit = 10  # not even our own lines can be read
    job = theorem("(p : Prop) (hp : p) : p")
    assert [v.status for v in env.check([(job, "hp"), (job, "by\n  exact hp")])] == ["crash", "crash"]
    server.limit, right = 2**16, "theorem t (p : Prop) (hp : p) : p := hp"
    server.faults += ([kimina.TOO_LONG] * 2 + [None]) * 2  # the last question is answered: it does not fail
    assert [v.status for v in env.check([(job, "by\n  exact hp")])] == ["crash"]
    server.limit = 3000
    assert env.check_file(job, f'#check "{"x" * 4000}"\n{right}').status == "crash"
    assert env.check_file(job, f"#print Nat.add_comm\n{right}").status == "proved"


def test_a_message_that_speaks_of_linters_is_an_error_all_the_same(server):
    assert connect(server).check([(TRUE[0], 'by\n  exact "set_option linter.all"')])[0].status == "rejected"


# ---- what is secret
def test_only_our_own_key_is_sent(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password of-another-site\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert connect(server).check([TRUE])[0].status == "proved" and set(server.authorized) == {None}
    monkeypatch.setenv("KIMINA_API_KEY", "secret")
    server.authorized.clear()
    assert connect(server).check([TRUE])[0].status == "proved" and set(server.authorized) == {"Bearer secret"}


def test_nothing_is_sent_to_where_a_server_points(server, monkeypatch):
    monkeypatch.setenv("KIMINA_API_KEY", "secret")
    server.elsewhere = f"http://localhost:{server.server_port}/elsewhere"
    with pytest.raises(SystemExit, match=r"does not understand POST /api/check \(307\)"):
        connect(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["http://user:hunter2@127.0.0.1:9", "user:hunter2@127.0.0.1:9", "https://hunter2@127.0.0.1/",
                                 "http://127.0.0.1:9/?key=hunter2", "http://127.0.0.1:9/#hunter2", "http://127.0.0.1:9 hunter2"])
def test_a_password_in_the_address_is_refused_and_not_printed(url, capfd):
    with pytest.raises(SystemExit, match="write kimina:http://HOST:PORT, without a user or a key in it") as error:
        LeanEnv(lean=f"kimina:{url}")
    assert "hunter2" not in str(error.value) + "".join(capfd.readouterr()) and "\n" not in str(error.value)


def test_outermost_tactics_are_told_apart():
    assert dojo.split_tactics("by\n  constructor\n  · skip\n    rfl\n\n  rfl") == [
        (2, 2, "constructor"), (3, 2, "· skip\n    rfl"), (6, 2, "rfl")]
    assert dojo.split_tactics("by simp\n") == [(1, 3, "simp")] and dojo.split_tactics("fun h => h") == []


# ---- LeanDojo: what can be said without a Lean that it can talk to
@pytest.fixture(scope="module")
def lean_dojo(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIR", str(tmp_path_factory.mktemp("dojo")))  # else it makes a folder in the home
        patch.delenv("GITHUB_ACCESS_TOKEN", raising=False)
        patch.setenv("DISABLE_REMOTE_CACHE", "1")
        return pytest.importorskip("lean_dojo", reason="the package lean_dojo is not installed")


def checkout(folder, version):
    """A git checkout of a Lean project, as small as can be."""
    folder.mkdir()
    (folder / "lean-toolchain").write_text(f"leanprover/lean4:{version}\n")
    (folder / "lakefile.toml").write_text('name = "x"\n')
    (folder / "X.lean").write_text("theorem t (p q : Prop) (hp : p) : p ∧ q := by\n  sorry\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(folder)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run(git + words, check=True)
    return folder


def test_without_the_package_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "lean_dojo", None)
    with pytest.raises(SystemExit, match="the package lean_dojo is not installed: pip install lean-dojo==4.20.0 .*deprecated") as error:
        LeanEnv(lean="dojo:https://github.com/some/where@abc")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["", " ", "foo", "@abc", "https://github.com/some/where", "https://github.com/some/where@"])
def test_what_is_no_folder_and_no_commit_is_refused_before_leandojo_is_imported(monkeypatch, where):
    monkeypatch.setattr(dojo, "import_lean_dojo", lambda: pytest.fail("it was imported"))
    with pytest.raises(SystemExit, match="--lean dojo:.*give dojo:URL@COMMIT or dojo:FOLDER") as error:
        LeanEnv(lean=f"dojo:{where}")
    assert "\n" not in str(error.value)


def test_the_version_of_lean_is_checked_before_anything_is_built(lean_dojo, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + ":/usr/bin:/bin")
    with pytest.raises(SystemExit, match="uses Lean v4.20.0-rc1, and LeanDojo works with a Lean before 4.20 only.*--lean-project"):
        LeanEnv(lean=f"dojo:{checkout(tmp_path / 'new', 'v4.20.0-rc1')}")
    for version in ("v4.26.0", "nightly-2025-01-01", "v5.0.0", "latest"):
        with pytest.raises(SystemExit, match="before 4.20 only"):
            dojo.check_version(version, "x")
    dojo.check_version("v4.19.0", "x")
    dojo.check_version("4.9.0", "x")


def test_what_leandojo_cannot_open_or_build_is_one_line(lean_dojo, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + ":/usr/bin:/bin")  # git, but no lake
    with pytest.raises(SystemExit, match="cannot open .*give dojo:URL@COMMIT") as error:
        LeanEnv(lean=f"dojo:{tmp_path}")
    assert "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="could not build and trace .*it needs elan and a network") as error:
        LeanEnv(lean=f"dojo:{checkout(tmp_path / 'old', 'v4.19.0')}")
    assert "\n" not in str(error.value)


def tactic_mode(lean_dojo, wheel, job):
    """What a Dojo's run_tac does, with its own dataclasses, answered by the embedded Lean: the proof so far and one tactic more."""
    start = wheel.check([(job, "by\n  skip")])[0].messages[0]["data"].partition("\n")[2]
    proofs = {0: []}

    def run_tac(state, tactic):
        proof = [*proofs[state.id], tactic]
        (verdict,) = wheel.check([(job, "by\n  " + "\n  ".join(proof))])
        errors = [m["data"] for m in verdict.messages if m["severity"] == "error"]
        if verdict.status == "cheat":
            return lean_dojo.ProofGivenUp()
        if not errors:
            return lean_dojo.ProofFinished(len(proofs))
        if not errors[0].startswith("unsolved goals"):
            return lean_dojo.LeanError(errors[0])
        proofs[len(proofs)] = proof
        return lean_dojo.TacticState(errors[0].partition("\n")[2], len(proofs) - 1)

    return run_tac, lean_dojo.TacticState(start, 0)


def test_leandojos_results_become_a_place_and_goals(lean_dojo, wheel):
    job = theorem("(p q : Prop) (hp : p) : p ∧ (q → q)")
    run_tac, state = tactic_mode(lean_dojo, wheel, job)
    place, goals = dojo.walk(lean_dojo, run_tac, state, ["refine ⟨hp, ?_⟩", "intro hq", "exact hp"])
    assert (place, goals) == (2, "p q : Prop\nhp : p\nhq : q\n⊢ q")
    assert dojo.walk(lean_dojo, run_tac, state, ["refine ⟨hp, ?_⟩", "intro hq", "exact hq"]) == (None, "")
    assert dojo.walk(lean_dojo, run_tac, state, ["refine ⟨hp, ?_⟩"]) == (1, "p q : Prop\nhp : p\n⊢ q → q")
    assert dojo.walk(lean_dojo, run_tac, state, ["sorry"]) == (None, "")
    assert [str(goal.conclusion) for goal in lean_dojo.parse_goals(goals)] == ["q"]


def test_goals_are_added_to_rejected_proofs_of_the_repositorys_theorems_only(lean_dojo, wheel, tmp_path):
    job, path = Theorem("t", "theorem t (p q : Prop)\n  (hp : p) : p ∧ (q → q)"), checkout(tmp_path / "repo", "v4.19.0")
    run_tac, state = tactic_mode(lean_dojo, wheel, job)

    class Dojo:  # stands in for the process that a real one starts
        def __init__(self, entry, timeout, build_deps):
            assert (entry.full_name, entry.file_path) == ("t", Path("X.lean"))

        def __enter__(self):
            return SimpleNamespace(run_tac=run_tac), state

        def __exit__(self, *_):
            pass

    def check(jobs, dojo_class):
        package = SimpleNamespace(**{**vars(lean_dojo), "Dojo": dojo_class})
        repo = lean_dojo.LeanGitRepo.from_path(path)
        return dojo.check(package, repo, path, wheel.check, 20, jobs)

    wrong = job, "by\n  refine ⟨hp, ?_⟩\n  intro hq\n  exact hp"
    jobs = [wrong, (job, "⟨hp, id⟩"), (Theorem("u", "theorem u : 1 = 2"), "by\n  rfl"), wrong]
    verdicts = check(jobs, Dojo)
    assert [v.status for v in verdicts] == ["rejected", "proved", "rejected", "rejected"]
    assert verdicts[0].messages[0]["severity"] == "error" and verdicts[0].messages[1:] == [
        {"severity": "information", "line": 5, "column": 2, "data": "goals before this tactic:\np q : Prop\nhp : p\nhq : q\n⊢ q"}]
    assert [len(v.messages) for v in verdicts] == [2, 0, 1, 2]
    assert [len(v.messages) for v in check(jobs, lean_dojo.Dojo)] == [1, 0, 1, 1]  # the real one, with no lake to start: no goals
