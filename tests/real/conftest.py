"""Real parts that `make test` does without: `make test-real` installs them (requirements-real.txt) and runs these."""
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(argv, url, log, seconds=120, **environment):
    """A server's process while the block runs, from when GET `url` is answered with 200."""
    with open(log, "wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=Path(log).parent,
                                   env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        try:
            until = time.monotonic() + seconds
            while True:
                try:
                    if requests.get(url, timeout=5).status_code == 200:
                        break
                except requests.RequestException:
                    pass
                assert process.poll() is None and time.monotonic() < until, Path(log).read_text(errors="replace")[-3000:]
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def python(*words):
    return [sys.executable, *map(str, words)]
