"""Every test runs on a CPU, without a network, a hub or a `lean` on PATH; with -m cuda on a card."""
import gc
import json
import os
import signal
from functools import cache
from multiprocessing import forkserver

# A shell starts what runs in its background deaf to Ctrl-C, and children are as their parents.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the hub must fail at once, not hang
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config):
    if config.option.markexpr != "cuda":  # also in workers, and in what tests start
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish():
    gc.freeze()  # the libraries are never garbage


@pytest.fixture(scope="session", autouse=True)
def fork_server():
    """Of tests/programs.py: started before a test changes the environment."""
    from tests import programs  # it names what the server imports

    forkserver.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def reading_once():
    """A hundred runs read the toy's 4,096 rows, which takes a second each time."""
    import data

    read_theorem = data.read_theorem
    read = cache(lambda text: read_theorem(json.loads(text)))
    data.read_theorem = lambda row: read(json.dumps(row))
    data.key = cache(data.key)
