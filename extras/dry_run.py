"""`train.py --dry-run`: will it fit? One step of the real code at full size, without a card.

Fake tensors have a shape and a type, and no memory. The policy, sampling, the backward passes,
AdamW and bitsandbytes' own autograd run on them as they are; what is counted is the bytes that
are alive. What CUDA does otherwise than a CPU is put in (class Count). Counting small models
this way gives what torch's allocator gives for real ones. No kernel runs, so it says nothing
about seconds; kernels' workspaces and fragmentation are the plan's "fixed (estimate)".
"""

import contextlib
import weakref
from collections import Counter

import bitsandbytes
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM

import fd_mini
from extras import cuda, imitation, memory, provers
from extras.memory import GIB

aten = torch.ops.aten


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


class NF4(nn.Linear):
    """A linear layer as bitsandbytes keeps it: 4 bits a number, and a scale for 64 of them."""

    def __init__(self, base):
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = (
            base.in_features,
            base.out_features,
            base.bias,
        )
        numbers = base.weight.numel()
        packed = torch.empty(numbers // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.state = bitsandbytes.functional.QuantState(
            absmax=torch.empty(numbers // 64),
            shape=base.weight.shape,
            code=torch.empty(16),
            blocksize=64,
            quant_type="nf4",
            dtype=torch.bfloat16,
        )

    def forward(self, x):
        return bitsandbytes.matmul_4bit(x, self.weight, quant_state=self.state, bias=self.bias)


class FakePolicy(fd_mini.Policy):
    """A policy of fake tensors from a config. The role that acts names the phase."""

    def __init__(self, config, rank, quantize, count):
        self.config = config
        self.count = count
        super().__init__("", rank, quantize)

    def load_base(self):
        """As it would be on CUDA. The tensors are a CPU's: without CUDA no other has gradients."""
        self.device = torch.device("cpu")
        dtype = torch.bfloat16 if self.rank else torch.float32
        self.model = AutoModelForCausalLM.from_config(self.config, dtype=dtype).eval()
        head = self.model.get_output_embeddings()
        self.head = head.weight
        for name, module in list(self.model.named_modules()):
            if self.four_bit and isinstance(module, nn.Linear) and module is not head:
                self.model.set_submodule(name, NF4(module))
        self.max_positions = self.config.max_position_embeddings
        self.stop_ids = set()
        cuda.prepare(self)
        cuda.Graphs.capture = False

    def point_to(self, role):
        self.count.phase = role
        super().point_to(role)

    def hidden(self, prompts, completions, sampled):
        self.count.tokens = sum(map(sum, sampled))
        return super().hidden(prompts, completions, sampled)
