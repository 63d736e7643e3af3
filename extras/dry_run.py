"""`train.py --dry-run`: will it fit? One step of the real code at full size, without a card.

Fake tensors have a shape and a type, and no memory. The policy, sampling, the backward passes,
AdamW and bitsandbytes' own autograd run on them as they are; what is counted is the bytes that
are alive. That torch's allocator counts as many of a real model is a test for a card
(tests/test_cuda.py, not run yet). No kernel runs, so it says nothing about seconds; kernels'
workspaces, CUDA's masks in bf16 and fragmentation are the plan's "fixed (estimate)".
"""

import json
import logging
import weakref
from collections import Counter
from functools import partial
from pathlib import Path

# Before it is imported: it misses a faster kernel for CPUs, and no kernel runs here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel("ERROR")
import bitsandbytes
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForCausalLM

import fd_mini
from extras import cuda, memory, provers
from extras.memory import FIXED, GIB, PROMPT

aten = torch.ops.aten
DRIVER = GIB  # estimate: what a CUDA context and a desktop take of a card


class Count(TorchDispatchMode):
    """Sums up the storages that are alive, in the 512-byte blocks of CUDA's allocator.

    peaks: phase -> the most bytes at one time. tokens: how many a mask selects; fake tensors hold
    no values, and every number that is read is a 1.
    """

    def __init__(self):
        super().__init__()
        self.sizes = {}
        self.peaks = Counter()
        self.bytes = 0
        self.phase = "loaded"
        self.tokens = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op is aten._local_scalar_dense.default:
            return 1
        if op is aten.index.Tensor and args[1][0].dtype == torch.bool:
            x, (mask, *_) = args
            return self.see(x.new_empty((self.tokens, *x.shape[mask.ndim :])))
        if op is torch.ops.bitsandbytes.gemm_4bit.default:
            x, _, shape = args[:3]
            # Many rows: its CUDA backend makes a copy of the weight in 16 bits.
            if x.shape[:-1].numel() > 512:
                with self:
                    return F.linear(x, x.new_empty(shape))
        return self.see(op(*args, **(kwargs or {})))

    def see(self, result):
        """Counts a result's storages until they are freed."""
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.sizes:
                    self.sizes[key] = -(-storage.nbytes() // 512) * 512
                    self.bytes += self.sizes[key]
                    weakref.finalize(storage, self.free, key)
        self.peaks[self.phase] = max(self.peaks[self.phase], self.bytes)
        return result

    def free(self, key):
        self.bytes -= self.sizes.pop(key)


def pack(linear):
    """Makes a layer what bitsandbytes makes of it: 4 bits a number, and a scale for 64 of them."""
    numbers = linear.weight.numel()
    state = bitsandbytes.functional.QuantState(
        absmax=torch.empty(numbers // 64),
        shape=linear.weight.shape,
        code=torch.empty(16),
        blocksize=64,
        quant_type="nf4",
        dtype=torch.bfloat16,
    )
    packed = torch.empty(numbers // 2, 1, dtype=torch.uint8)
    linear.weight = nn.Parameter(packed, requires_grad=False)
    multiply = partial(bitsandbytes.matmul_4bit, B=packed, quant_state=state, bias=linear.bias)
    linear.forward = multiply


class FakePolicy(fd_mini.Policy):
    """A policy of fake tensors, as it would be on CUDA. The role that acts names the phase.

    Its tensors are those of a CPU: where there is no CUDA, no others have gradients.
    """

    def __init__(self, config, rank, four_bit, count):
        self.config = config
        self.count = count
        super().__init__("", rank, "nf4" if four_bit else "none")

    def load_base(self):
        self.device = torch.device("cpu")
        dtype = torch.bfloat16 if self.rank else torch.float32
        self.model = AutoModelForCausalLM.from_config(self.config, dtype=dtype).eval()
        head = self.model.get_output_embeddings()
        self.head = head.weight
        for module in self.model.modules():
            if self.four_bit and isinstance(module, nn.Linear) and module is not head:
                pack(module)
        self.body = cuda.Recomputing(self.model)
        self.max_positions = provers.positions(self.config)
        self.stop_ids = set()

    def point_to(self, role):
        self.count.phase = role
        super().point_to(role)

    def hidden(self, prompts, completions, sampled):
        self.count.tokens = sum(map(sum, sampled))
        return super().hidden(prompts, completions, sampled)


def find_config(model):
    """The config of a model by its name; ValueError, in one line, where it cannot be had."""
    known = json.loads(Path(__file__).with_name("configs.json").read_text("utf-8"))
    if model in known:
        print(f"{model}: {known[model].pop('source')}")
        return AutoConfig.for_model(**known[model])

    folder = str(provers.TOY.get(model, model))
    if not Path(folder).is_dir():
        provers.resolve(model)  # refuses what is no name
        if not provers.hub_answers():
            raise ValueError(
                f"the shape of {model} is not known and the hub does not answer: give --model a "
                "folder with its config.json"
            )
    try:
        return provers.read(AutoConfig, folder).get_text_config()
    except OSError as error:
        raise ValueError(f"cannot read the config of {model!r}: {error}") from error


def step(cfg, policy, rows):
    """One step with `rows` rows sampled at once, as any but the first step finds the optimiser.

    What is trained on is the last micro-batch: it finds the gradients of those before. Imitation
    is taken for FD, which does more.
    """
    longest = min(policy.max_positions, cfg.max_new_tokens + PROMPT)
    prompt = min(PROMPT, longest - 1)
    new = longest - prompt
    if cfg.algo == "grpo":  # the reference is there from the start
        policy.roles["reference"] = [tensor.clone() for tensor in policy.student]
    optimizer = torch.optim.AdamW(policy.student, weight_decay=0.0, foreach=True)
    leave_gradients(policy)
    optimizer.step()  # from here on Adam has its averages
    optimizer.zero_grad()

    count = policy.count
    count.peaks.clear()
    count.phase = "sampling"
    # Its cache has the full length from the start, so three tokens show its peak.
    texts = [[row] * prompt for row in range(rows)]  # equal ones would be read once
    if memory.linear_layers(policy.config):
        texts = texts[:1] * rows  # with states each is read alone: as one of them
    fd_mini.sample(policy, texts, new, stop=lambda row, ids: len(ids) == 3)

    leave_gradients(policy)
    rows = max(1, cfg.micro_tokens // (prompt + new))
    prompts, written, flags = [[1] * prompt] * rows, [[1] * new] * rows, [[True] * new] * rows
    if cfg.algo == "grpo":
        fd_mini.grpo_backward(policy, prompts, written, flags, [1.0] * rows, micro_tokens=1e9)
    else:
        fd_mini.fd_backward(policy, prompts, prompts, written, flags, micro_tokens=1e9)

    count.phase = "optimiser"
    torch.nn.utils.clip_grad_norm_(policy.student, 1.0, foreach=True)
    optimizer.step()
    count.phase = "teacher's update"
    fd_mini.ema_update_(policy.teacher, policy.student, cfg.ema_alpha)


def leave_gradients(policy):
    for p in policy.student:
        p.grad = torch.zeros_like(p)


def main(cfg):
    """Prints the plan for a card of cfg.card_gb, and each phase's peak beside it -> (peaks, planned).

    ValueError, in one line with the flag to lower, where the step does not fit.
    """
    config = find_config(cfg.model)
    provers.check(cfg.lora_rank, cfg.quantize)
    large = cfg.quantize == "auto" and cfg.lora_rank > 0 and provers.is_large(config)
    four_bit = cfg.quantize == "nf4" or large
    free = cfg.card_gb * GIB - DRIVER
    with FakeTensorMode(), Count() as count:
        policy = FakePolicy(config, cfg.lora_rank, four_bit, count)
        parts = memory.plan_for(cfg, policy, free)
        step(cfg, policy, parts["rows"])

    planned = dict(zip(("sampling", "student"), memory.peaks(parts)))
    print(f"one step on fake tensors, and {FIXED / GIB:.1f} GiB that are fixed:")
    measured = {phase: peak + FIXED for phase, peak in count.peaks.items()}
    for phase, peak in measured.items():
        beside = f"   planned {planned[phase] / GIB:.2f}" if phase in planned else ""
        print(f"  {phase:30}{peak / GIB:7.2f} GiB{beside}")

    highest = max(measured.values())
    memory.check(policy, parts, free, measured["sampling"], highest)
    memory.check(policy, parts, 0.95 * free, *planned.values())  # as a run does
    print(f"it fits: {highest / GIB:.1f} of the {free / GIB:.1f} GiB that are free")
    return measured, planned
