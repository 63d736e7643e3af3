"""A process that has imported the libraries, and forks for each program it is asked to run: to
import torch and transformers takes longer than a tenth of what most runs of a sweep take.

It reads lines of JSON, [words after `python -m`, folder, log], one program at a time, and answers
with two: the program's process id, then its exit code. Nothing of this project is imported here.
"""

import importlib
import json
import os
import runpy
import sys

LIBRARIES = ["torch", "transformers.models.llama.modeling_llama", "tyro"]


def main():
    for library in LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return run(*json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(words, folder, log):
    """In the new process: what `python -m` does there."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream, file in enumerate((nothing, written, written)):
        os.dup2(file, stream)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
