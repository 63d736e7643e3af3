"""Every test runs on a CPU, without a network, a hub or a `lean` on PATH."""
import os
import signal

# A shell starts what runs in its background deaf to Ctrl-C, and children are as their parents.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the hub must fail at once, not hang
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import torch

torch.set_num_threads(1)
