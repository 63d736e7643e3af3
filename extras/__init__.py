"""What a first reading skips: one subject a file, imported where it is used."""

import sys


def hook(kind, error, trace):
    """A Ctrl-C is no failure: one line, from the first import on."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = hook
