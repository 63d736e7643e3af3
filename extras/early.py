"""A Ctrl-C while libraries are imported: it ends the process, in one line.

A KeyboardInterrupt inside an import may be swallowed there, and leave half a module behind, on
which something else fails later.
"""

import os
import signal
import sys
from threading import current_thread, main_thread


def end(*_):
    os.write(2, b"interrupted\n")
    os._exit(130)


def over():
    """The libraries are there: a Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


is_script = hasattr(sys.modules["__main__"], "__file__")  # a notebook must outlive it
is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if is_script and is_default and current_thread() is main_thread():
    signal.signal(signal.SIGINT, end)
