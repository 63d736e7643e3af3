"""How Lean is run, and how answers are read: what a first reading of the project skips."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Somebody's package of the same name may come first on Python's path.
for room in ("extras", "data", "toy"):
    found = find_spec(room).origin
    if not Path(found).is_relative_to(ROOT):
        sys.exit(f"`import {room}` finds {found}, another package: start in {ROOT}")
