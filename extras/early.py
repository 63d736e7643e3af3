"""A Ctrl-C while train.py or eval.py imports libraries: it ends the process, in one line.

A KeyboardInterrupt inside an import may be swallowed there, and leave half a module behind, on
which something else fails later.
"""

import os
import signal
import sys
from pathlib import Path


def end(*_):
    os.write(2, b"interrupted\n")
    os._exit(130)


def over():
    """The libraries are there: a Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# A notebook that imports train must outlive it.
is_script = Path(sys.argv[0]).name in ("train.py", "eval.py")
if is_script and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end)
