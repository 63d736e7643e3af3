"""The house stands as docs/architecture.md draws it: who may import whom, and names that pages quote."""
import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

import eval as evaluation
import train

ROOT = Path(__file__).resolve().parent.parent
BOOK = ["fd_mini.py", "lean_env.py", "feedback.py", "eval.py", "train.py"]
ROOMS = ["lean", "toy", "data", "extras", "experiments", "bench", "docs"]
FILES = [ROOT / name for name in BOOK] + [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
PAGES = ["docs/architecture.md", "docs/reading.md"]
ALL_PAGES = ["README.md", *(str(p.relative_to(ROOT)) for room in ROOMS for p in (ROOT / room).glob("*.md"))]

# Room or file -> the first parts of what it may import of ours. Scripts of toy/ and everything in experiments/ and bench/ stand above all.
MAY = {
    "fd_mini": {"extras.slots", "extras.merging"},
    "lean": {"lean"},
    "lean_env": {"lean"},
    "toy.tutor": {"lean", "lean_env"},
    "toy.theorems": {"lean_env", "toy.tutor"},
    "feedback": {"lean", "lean_env", "toy.tutor", "extras.endpoint", "extras.own"},
    "data": {"lean", "lean_env", "data"},
    "extras": {"fd_mini", "lean", "lean_env", "feedback", "data", "extras"},
    "eval": {"fd_mini", "lean", "lean_env", "feedback", "data", "extras"},
    "train": {"fd_mini", "lean", "lean_env", "feedback", "data", "extras", "eval"},
}


def module(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


def imports(file):
    """The modules of ours that a file imports, anywhere in it: inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {name for name in found if name in MODULES}


GRAPH = {name: imports(file) for name, file in MODULES.items()}


def test_there_is_no_circle_lazy_imports_included():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name):], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(GRAPH[name] - {name}):
            visit(other)
        path.pop()
        done.add(name)

    for name in GRAPH:
        visit(name)
    assert len(done) > 50 and GRAPH["train"] >= {"eval", "feedback", "fd_mini", "lean_env"}


@pytest.mark.parametrize("room", MAY)
def test_imports_go_one_way(room):
    inside = [name for name in GRAPH if name == room or name.startswith(f"{room}.")]
    assert inside
    for name in inside:
        for other in GRAPH[name]:
            allowed = any(other == one or other.startswith(f"{one}.") for one in MAY[room])
            assert allowed, f"{name} imports {other}"


@pytest.mark.parametrize("file", FILES, ids=module)
def test_no_tricks_stand_in_the_way_of_the_reader(file):
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert "noqa" not in text and "runpy" not in text and not re.search(r"sys\.path\s*[\[.+=]", text)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr), f"line {node.lineno}: a walrus"
        assert not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)), f"line {node.lineno}: a lambda with a name"


def definitions(file):
    """Names that a file defines at the top, in classes (Policy.hidden) and as constants."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_function_that_a_page_names_is_there(page):
    """`fd_mini.Policy.hidden` and the like: a module of ours and what it defines; `lean/child.py`: a file."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.]+?)(?:\(\))?`", text))
    checked = 0
    for name in named:
        if "/" in name or name.endswith((".py", ".md", ".lean")):
            assert (ROOT / name).exists(), name
            checked += 1
            continue
        parts = name.split(".")
        owner = next((".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1) if ".".join(parts[:n]) in MODULES), None)
        if owner:
            assert name.removeprefix(f"{owner}.") in definitions(MODULES[owner]), name
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_commands_of_the_pages_name_modules_that_are_there():
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in ALL_PAGES)
    modules = set(re.findall(r"python -m ([\w.]+)", text))
    assert modules and all(name in MODULES for name in modules), modules - MODULES.keys()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split() or [str(f.relative_to(ROOT)) for f in FILES]
    scripts = set(re.findall(r"python (\w+\.py)", text))
    assert scripts and scripts <= set(tracked)


def commands_of(page):
    """The flags of every `python train.py ...` and `python eval.py ...` that a page shows whole, but for those with
    a loss that ABLATION.md adds: [(script, [flag, ...])]."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"^python (train|eval)\.py\b(.*)", "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S)), re.M)
    shown += re.findall(r"`python (train|eval)\.py\b([^`]*)`", text)
    return [(script, shlex.split(rest, comments=True)) for script, rest in shown if not re.search(r"\.\.\.|--help|sharper", rest)]


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if commands_of(page)])
def test_every_command_that_a_page_shows_has_flags_that_the_script_takes(page):
    for script, flags in commands_of(page):
        cfg = tyro.cli(train.Config if script == "train" else evaluation.Config, args=flags)
        if script == "train":
            train.resolve(cfg)


def test_the_front_page_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200 and all(len(line) <= 200 or line.startswith("|") for line in lines)
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in "\n".join(lines) or page.name in ("reading.md", "architecture.md"), page


# --- somebody else's packages


def foreign(folder, room):
    """A folder with another package of this name."""
    (folder / room).mkdir()
    (folder / room / "__init__.py").write_text("def try_import(name): ...\n")
    return os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}


TRAIN, EVAL = ["-m", "train"], ["-m", "eval"]
IMPORT = ["-c", f"import sys; sys.path += [{str(ROOT)!r}]; import train"]


@pytest.mark.parametrize("room", ["extras", "lean", "data", "toy"])
def test_another_package_of_a_rooms_name_is_named_in_one_line(tmp_path, room):
    env = foreign(tmp_path, room)
    # Another `extras` shows when torch has been imported: ten seconds each.
    for command in [TRAIN] if room == "extras" else [TRAIN, EVAL, IMPORT]:
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"`import {room}` finds {tmp_path / room / '__init__.py'}, another package: start in ")


BY_PATH = ["ROOT/train.py", "--steps", "0"]


@pytest.mark.parametrize(
    "room, command, folder",
    [
        ("extras tests", BY_PATH, ""),  # from another folder by their path, from their own by -m
        ("experiments", ["-m", "toy.warm_up", "--steps", "0"], ROOT),
        ("tests", ["-m", "bench.faults", "--help"], ROOT),
    ],
)
def test_scripts_find_their_own_rooms_whatever_else_is_on_the_path(tmp_path, room, command, folder):
    """The project comes first."""
    for name in room.split():
        env = foreign(tmp_path, name)
    argv = [sys.executable, *(part.replace("ROOT", str(ROOT)) for part in command)]
    done = subprocess.run(argv, cwd=folder or tmp_path, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and ("must be above 0" in done.stderr or "invocations" in done.stdout)
