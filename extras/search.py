"""ripgrep's part in Python, for one file or for the .lean files below a folder.

    python -I -S search.py PATTERN NAME      # NAME "." is the folder itself

Run by path in a process of its own, in the folder to be searched (extras/tools.py): a pattern
may never come to an end. So this file uses the standard library alone. Prints FILE:LINE:TEXT;
exit status as ripgrep's: 0 found, 1 no match, 2 no regular expression.
"""

import re
import sys
from pathlib import Path

MAX_LINES = 21  # one more than is shown; then nothing more is read
MAX_COLUMNS = 300


def main(pattern, name):
    ignore_case = re.IGNORECASE if pattern == pattern.lower() else 0
    try:
        expression = re.compile(pattern, ignore_case)
    except (re.error, RecursionError, OverflowError) as error:
        print(f"{pattern[:80]!r} is no regular expression: {error}")
        return 2

    files = sorted(Path(".").rglob("*.lean")) if name == "." else [Path(name)]
    count = 0
    for file in files:
        lines = file.read_text("utf-8", "replace").split("\n")
        for number, line in enumerate(lines, 1):
            if expression.search(line):
                print(f"{file}:{number}:{line[:MAX_COLUMNS]}")
                count += 1
            if count == MAX_LINES:
                return 0
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
