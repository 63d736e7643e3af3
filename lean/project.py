"""`python lean_env.py setup DIR [--mathlib VERSION]`: a Lake project with Lean and Mathlib
pinned, to be given as --lean-project DIR.

Can be run again at any time: what is there is kept, what is missing is done. Not run with a
real elan and network; the commands are those of Mathlib's own instructions.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Mathlib's tags are those of the Lean that it is built with. The Kimina server has the same.
MATHLIB = "v4.26.0"
FILES = {
    "lean-toolchain": "leanprover/lean4:{version}\n",
    "lakefile.toml": """name = "proofs"
defaultTargets = ["Check"]

[[require]]
name = "mathlib"
git = "https://github.com/leanprover-community/mathlib4"
rev = "{version}"

[[lean_lib]]
name = "Check"

[[lean_lib]]
name = "Proofs"
""",
    "Check.lean": "import Mathlib\n\nexample (a b : ℝ) : a * b = b * a := by ring\n",
}
# What must be there, and how to get it.
PROGRAMS = {
    "git": "git, from your system's packages",
    "lake": "elan, which brings lean and lake: see https://github.com/leanprover/elan (no "
    "rights are needed), then open a new shell or add ~/.elan/bin to PATH",
}
# What is done in the project, in order, and what a failure most likely means.
STEPS = {
    "lake update": "it fetches Lean and Mathlib's source: "
    "is there a network, and does that version exist?",
    "lake exe cache get": "it fetches Mathlib compiled, about 5 GB on disk: "
    "is there a network, and room?",
    "lake build": "it compiles a file of three lines that imports Mathlib",
}


def main(args=None):
    """The command line -> exit code: 0 when DIR can be used, 1 when something is missing (what,
    and what to do, is printed)."""
    parser = argparse.ArgumentParser(
        prog="lean_env.py",
        description="Set up a Lean project with Mathlib, to check proofs in.",
    )
    parser.add_argument("command", choices=["setup"])
    parser.add_argument("dir", help="the project's folder, new or one that this command wrote")
    parser.add_argument(
        "--mathlib",
        default=MATHLIB,
        metavar="VERSION",
        help="a tag of Mathlib, which names the Lean as well "
        f"(default {MATHLIB}; DeepSeek-Prover-V1.5 knows v4.9.0)",
    )
    options = parser.parse_args(args)
    try:
        if not options.dir.strip():  # to Path, that is the current folder
            raise ValueError(
                "DIR is empty: give the project's folder, new or one that this command wrote"
            )
        return setup(Path(options.dir), options.mathlib)
    except (ValueError, OSError) as error:
        print(f"lean_env.py setup: {error}", file=sys.stderr)
        return 1


def setup(folder, version):
    """Write the project and fetch what it needs -> exit code as of main."""
    write_files(folder, version)
    print(f"{folder}: a Lean project with Lean and Mathlib {version}", flush=True)

    again = f"python lean_env.py setup {folder}"
    if version != MATHLIB:
        again += f" --mathlib {version}"
    missing = [how for program, how in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        print(f"missing: {'; '.join(missing)}. Then run this again: {again}", file=sys.stderr)
        return 1

    for command, hint in STEPS.items():
        print("$", command, flush=True)
        if subprocess.run(command.split(), cwd=folder).returncode:
            advice = f"{hint} Nothing is lost, run this again: {again}"
            print(f"`{command}` failed in {folder}; {advice}", file=sys.stderr)
            return 1
    run = "python train.py --model deepseek-prover-1.5b --data lean-workbook"
    print(f"ready: {run} --lean-project {folder}")
    return 0


def write_files(folder, version):
    """Raises ValueError, one line, before anything is written, where it is another project."""
    if not re.fullmatch(r"v4\.\d+\.\d+(-rc\d+)?", version):
        raise ValueError(
            f"--mathlib {version}: give a tag of Mathlib such as {MATHLIB} or v4.9.0"
        )
    use_it = f"Give another folder, or use it as it is: --lean-project {folder}"
    texts = {name: text.replace("{version}", version) for name, text in FILES.items()}
    for name in [*texts, "lakefile.lean"]:
        file = folder / name
        if file.exists() and file.read_text("utf-8") != texts.get(name):
            raise ValueError(
                f"{file} is there and differs from what would be written for Mathlib "
                f"{version}; nothing was changed. {use_it}"
            )

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
