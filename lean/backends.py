"""The ways to a Lean: a program or the embedded one, a Kimina server, LeanDojo."""

from lean import dojo, kimina
from lean.locate import locate

OTHERS = {"kimina": kimina, "dojo": dojo}
PROJECT_MEMORY = 16 * 2**30  # bytes: the .olean files that a project maps into memory count


def connect(env, lean, project, header):
    """Give a LeanEnv, whose arguments these are, its Lean: how it is started (`argv`, `env`,
    `cwd`, all for lean/process.py), what each file begins with (`prelude`, `header`), where it
    comes from (`place`, `embedded`). A Kimina server replaces `env.read`, LeanDojo adds goals
    to what `env.check` says. Raises SystemExit, one line with advice."""
    env.header = header or ""
    env.version = ""  # to be asked for
    kind, _, where = lean.partition(":")
    if kind in OTHERS:
        if project is not None:
            raise SystemExit(f"--lean {lean} brings its own project: leave --lean-project out")
        OTHERS[kind].attach(env, where, header)
    else:
        env.argv, env.env, env.cwd, env.prelude, env.place = locate(lean, project)
        if project is not None:
            env.memory += PROJECT_MEMORY

    env.embedded = bool(env.prelude)
    if header is None and env.cwd and (env.cwd / ".lake/packages/mathlib").exists():
        env.header = "import Mathlib\n"
