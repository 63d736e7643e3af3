"""What the benchmarks share: the line above a table, the clock, peak memory, random weights."""

import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import fd_mini

# The shape of the tiny prover, with room for longer texts and a head of its own.
TINY = LlamaConfig.from_pretrained(
    fd_mini.TINY, max_position_embeddings=1024, tie_word_embeddings=False
)

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def machine(*packages):
    """What the numbers below were measured with."""
    names = []
    for package in ("torch", *packages):
        try:
            names.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            names.append(f"{package} not installed: pip install {package}")

    device = "no CUDA device"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    python = f"python {platform.python_version()}, {torch.get_num_threads()} thread(s)"
    return f"{', '.join(names)}, {python}; {device}"


def now(device):
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device):
    """The most memory in use so far: CUDA's allocator's, or the resident size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def random_prover(folder, config):
    """Write a Llama of this shape with random weights into `folder`, and the tiny prover's
    tokenizer: speed does not depend on what weights and words say."""
    AutoTokenizer.from_pretrained(fd_mini.TINY).save_pretrained(folder)
    # Drawn where that is fast.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def number_prompts(lengths):
    """Prompts of these lengths, ids from 1 to 500."""
    prompts = []
    for i, length in enumerate(lengths):
        prompts.append([1 + (7 * i + t) % 500 for t in range(length)])
    return prompts
