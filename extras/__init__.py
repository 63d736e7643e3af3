"""What a first reading skips: one subject a file, imported where it is used."""

import os
import sys

import lean

if not hasattr(lean, "ROOT"):
    sys.exit(f"`import lean` finds {lean.__file__}, another package: start in the project's folder")

# Before torch starts: a card's memory in pieces that grow. Keys and values of a batch leave other
# gaps than training wants, and without this such gaps are lost.
if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

# Also before torch: its threads wait for each other in loops. Where another program has a core,
# the usual 300,000 rounds make a step of the toy ten times slower (docs/results.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

interrupted = "interrupted"  # who keeps something says so here


def hook(kind, error, trace):
    """A Ctrl-C is no failure: one line, from the first import on."""
    if issubclass(kind, KeyboardInterrupt):
        print(interrupted, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = hook

import extras.early  # until all libraries are there, a Ctrl-C ends the process at once
