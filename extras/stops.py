"""Ending a run without losing a step: signals, failures, and output that nobody takes."""

import contextlib
import os
import re
import shlex
import signal
import sys

import torch
import tyro

from extras import early, ranks

early.over()

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What signals ask for. The first asks the loop to end after its step, the second ends the
    process at once, but never inside `with stop.held():`."""

    def __init__(self):
        self.signals = 0
        self.holding = False

    def handle(self, *_):
        self.signals += 1
        if self.signals == 1 and ranks.FIRST:
            tell("stopping after this step; once more stops at once")
        elif self.signals > 1 and not self.holding and ranks.WORLD == 1:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self):
        """What stands inside happens as a whole or, after kill -9, not at all."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.signals > 1 and ranks.WORLD == 1:
            raise KeyboardInterrupt

    def __call__(self):
        """Was there a signal, to any of torchrun's processes?"""
        return ranks.total({"signals": self.signals})["signals"] > 0


@contextlib.contextmanager
def stoppable(save):
    """`with stoppable(save) as stop:` is the body of a run.

    However it fails, save() is called, which saves the steps that are done and gives their
    number. Failures go on upwards; an interrupt ends the process, whatever else is waiting.
    """
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    except BaseException as error:
        stop.holding = True  # from here on signals only count
        step = 0
        try:
            step = save()
        except OSError as problem:
            tell(f"{problem}. The steps since the checkpoint before are lost")
        if step:
            print(f"steps up to {step} are saved. Go on with: {resume_command()}", flush=True)
        if isinstance(error, KeyboardInterrupt):
            # Not sys.exit, which would wait for threads and so for a server that is silent.
            os._exit(130)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_command():
    """The command line that goes on with this run."""
    start = "python"
    if ranks.WORLD > 1:
        start = f"torchrun --standalone --nproc_per_node={ranks.WORLD}"
    flags = [arg for arg in sys.argv[1:] if arg != "--resume"]
    return f"{start} train.py {shlex.join([*flags, '--resume'])}"


def tell(text):
    """A line on stderr, from a signal's handler too: nothing of Python's is interrupted."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode("utf-8", "replace"))


class Forgiving:
    """A text stream that goes on when nobody reads it any more, or cannot show a character."""

    def __init__(self, stream):
        self.stream = stream
        stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        with self.forgiven():
            self.stream.write(text)
        return len(text)

    def flush(self):
        with self.forgiven():
            self.stream.flush()

    @contextlib.contextmanager
    def forgiven(self):
        try:
            yield
        except OSError:  # a closed pipe, a terminal that is gone, a full disk
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def run_command(name, command, config, description, args=None):
    """Run a script's command with its flags, a dataclass, `in_one_line`."""
    with in_one_line(name):
        command(tyro.cli(config, description=description, args=args))


@contextlib.contextmanager
def in_one_line(name):
    """What goes wrong inside ends the script with one line and a code above zero; output that
    nobody can take is not an error."""
    nobody = open(os.devnull, "w")  # in the place of a stream that was closed from the start
    streams = contextlib.ExitStack()
    streams.enter_context(contextlib.redirect_stdout(Forgiving(sys.stdout or nobody)))
    streams.enter_context(contextlib.redirect_stderr(Forgiving(sys.stderr or nobody)))
    try:
        with streams:
            yield
    except RuntimeError as error:  # CUDA's own have several lines
        reason, *_ = [*str(error).split(". GPU")[0].splitlines(), type(error).__name__]
        if re.search("out of memory|ALLOC_FAILED", reason):
            reason += (
                ": try a lower --max-new-tokens; in training a lower --micro-tokens, with which "
                "--resume goes on where steps were saved, or begin anew with a lower --lora-rank"
            )
        sys.exit(f"{name}: {reason}")
    except (ValueError, OSError) as error:
        sys.exit(f"{name}: {error}")
