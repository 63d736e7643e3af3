"""`python train.py ...` as a process of its own, forked from one that has imported the libraries.

To import torch and transformers takes longer than most programs of the tests then run. One process imports them, and nothing
of this project, and forks for each program, which has its own pid, files and signals. (What happens before they are imported
is for subprocess.)
"""
import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ["torch", "transformers.modeling_layers", "transformers.models.llama.modeling_llama"]

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(LIBRARIES)


class Program:
    """What subprocess.Popen([sys.executable, *argv], text=True) is, as far as the tests need it.

    argv: a script, or -m and a module, or -c and code, with arguments.
    """

    def __init__(self, *argv, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        self.stdout, out = self.open(stdout)
        self.stderr, err = self.open(stderr)
        job = [str(word) for word in argv], str(cwd), dict(env), [out, err]
        self.process = forks.Process(target=run_program, args=job, daemon=True)
        self.process.start()
        out.close()
        err.close()
        self.kill, self.terminate = self.process.kill, self.process.terminate

    def open(self, where):
        """(a file to read from or None, what the program writes to)"""
        ours = None
        if where == subprocess.PIPE:
            ours, theirs = os.pipe()
        elif where == subprocess.DEVNULL:
            theirs = os.open(os.devnull, os.O_WRONLY)
        else:
            theirs = os.dup(where if isinstance(where, int) else where.fileno())
        return ours and open(ours), Connection(theirs, readable=False)  # a kind of file that can be sent

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def poll(self):
        return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout=100):
        self.process.join(timeout)
        if self.poll() is None:
            self.kill()
            raise TimeoutError(f"{timeout} s")
        return self.poll()

    def communicate(self, timeout=100):
        """-> what it wrote, [stdout, stderr], when it has ended."""
        with ThreadPoolExecutor() as pool:
            texts = [pool.submit(file.read) if file else None for file in (self.stdout, self.stderr)]
            self.wait(timeout)
            return [text and text.result() for text in texts]


def run(*argv, **options):
    """A program to its end -> it, with what it wrote as stdout and stderr."""
    program = Program(*argv, **options)
    program.stdout, program.stderr = program.communicate()
    return program


def run_program(argv, cwd, env, files):
    """In the new process: what `python` does with argv. files: for stdout and stderr."""
    import torch

    torch.set_num_threads(1)
    for descriptor, file in enumerate(files, 1):
        os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, cwd)
    how, *sys.argv = argv if argv[0] in ("-m", "-c") else ["", *argv]
    try:
        if how == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            exec(sys.argv[0], {"__name__": "__main__"})
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except (Exception, KeyboardInterrupt) as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()
