"""What the benchmarks share: the line above a table, the clock, peak memory, random weights."""

import platform
import resource
import sys
import time
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

TINY = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def machine(*packages: str) -> str:
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
    names.append(f"python {platform.python_version()}")
    return f"{', '.join(names)}, {torch.get_num_threads()} thread(s); {device}"


@contextmanager
def timed(device: torch.device, seconds: dict, name: str):
    """Adds to seconds[name] what passes until all that was asked of the device is done."""
    start = now(device)
    yield
    seconds[name] = seconds.get(name, 0) + now(device) - start


def now(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: torch.device) -> int:
    """The most memory in use so far: CUDA's allocator's, or the resident size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def random_prover(folder: str, shape: dict):
    """Write a Llama of this shape with random weights into `folder`, with a tokenizer whose words
    are w0 (the end of a text), w1, ...: speed does not depend on what weights say."""
    words = {f"w{i}": i for i in range(shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, "w1"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0").save_pretrained(
        folder
    )

    config = LlamaConfig(**shape, bos_token_id=None, eos_token_id=0)
    # Drawn where that is fast.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def number_prompts(count: int, lengths: list[int]) -> list[list[int]]:
    """Prompts of word numbers, none of them the end of a text; as long as `lengths`, in turn."""
    prompts = []
    for i in range(count):
        length = lengths[i % len(lengths)]
        prompts.append([1 + (7 * i + t) % 500 for t in range(length)])
    return prompts
