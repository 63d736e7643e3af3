"""While train.py or eval.py imports libraries: a Ctrl-C ends the process, in one line.

A KeyboardInterrupt inside an import may be swallowed there, and leave half a module behind, on
which something else fails later. And Python does not look for garbage there: what is imported
stays, and to go through all of it again and again takes seconds.
"""

import gc
import os
import signal
import sys
from pathlib import Path


def end(*_):
    os.write(2, b"interrupted\n")
    os._exit(130)


def over():
    """The libraries are there: a Ctrl-C is a KeyboardInterrupt again, and garbage is looked for."""
    if is_script:
        gc.freeze()  # what is there now is never looked at again
        gc.enable()
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# A notebook that imports train must outlive it.
is_script = Path(sys.argv[0]).name in ("train.py", "eval.py")
if is_script:
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
