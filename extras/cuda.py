"""What a policy does differently on CUDA: it decodes by CUDA graphs and trains by recomputing.

Recomputing: backward computes each block again instead of keeping what is inside it. Graphs: a
static KV cache and one CUDA graph per batch size.

A decoding step of a 7B model is some thousand small kernels (30 layers, 7 linear layers each,
with two adapter products beside every one): launching them one by one costs more time than
running them. A CUDA graph replays them all with one launch, but wants fixed addresses and fixed
shapes. So keys and values lie in buffers made once per batch, and attention reads the whole
buffer under a mask. The rows still alive are rounded up to a power of two, a bucket; a graph is
captured for each bucket when it is first needed. Graphs live as long as their batch: training
needs the memory between two rollouts, and `act_as` gives the adapters other addresses.

A capture that fails (a model may read a number inside a step) warns once, and decoding goes on
in the same shapes without graphs. FD_GRAPHS=0 in the environment asks for that from the start.

provers.load() uses this on a CUDA device only. The static shapes are tested on a CPU
(tests/test_cuda.py), and with a stand-in that records and replays (tests/test_capture.py). Not
yet run: the capture itself, on any GPU.
"""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

CARDS = ("/proc/driver/nvidia", "/dev/dxg")  # Linux, and Linux inside Windows


def why_none():
    """Why torch finds no CUDA device, to follow "needs a CUDA device, and"."""
    if not any(Path(name).exists() for name in CARDS):
        return "there is none"
    if torch.version.cuda is None:
        return "this torch is built for CPUs (there is a card: install torch's CUDA build)"
    return (
        f"torch cannot use the card that is there (a driver too old for CUDA {torch.version.cuda}, "
        "or CUDA_VISIBLE_DEVICES)"
    )


def prepare(policy):
    """Puts both into a policy."""
    policy.graphs = Graphs
    policy.body = Recomputing(policy.model)


class Recomputing:
    """Stands in for a model without its head while it trains: with gradient checkpointing."""

    def __init__(self, model):
        self.body = model.base_model
        # The re-entrant kind would give no gradient: the embeddings are frozen.
        model.activation_checkpointing_enable({"use_reentrant": False})
        modules = model.modules()
        self.blocks = [m for m in modules if isinstance(m, GradientCheckpointingLayer)]

    def __call__(self, **inputs):
        # Only the blocks' own flag is set: .train() would turn dropout on inside them. A block
        # that checkpoints keeps no KV cache, so the flag must be off while sampling.
        for block in self.blocks:
            block.training = torch.is_grad_enabled()
        out = self.body(**inputs)
        for block in self.blocks:
            block.training = False
        return out


class Buffers(DynamicLayer):
    """One layer's keys and values, in buffers [B, heads, length, d] that are made once.

    DynamicLayer's own torch.cat would copy all of them at every token.
    """

    def __init__(self, length):
        super().__init__()
        self.length = length
        # Where a graph writes: a tensor, for its addresses are fixed.
        self.column = None

    def update(self, keys, values, *_, **__):
        """Adds the keys and values of new tokens, [B, heads, T, d]. -> all so far.

        Inside a graph: -> the whole buffers, to be masked.
        """
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            # Zeros: where a buffer held a NaN, a masked key would still make NaN.
            self.buffers = [
                states.new_zeros(*states.shape[:2], self.length, states.shape[3])
                for states in (keys, values)
            ]
        rows, _, new, _ = keys.shape
        buffers = [buffer[:rows] for buffer in self.buffers]

        if self.column is not None:
            for buffer, states in zip(buffers, (keys, values)):
                buffer.index_copy_(2, self.column, states)
            return buffers

        start = self.get_seq_length()
        for buffer, states in zip(buffers, (keys, values)):
            buffer[:, :, start : start + new] = states
        self.view(rows, start + new)
        return self.keys, self.values

    def view(self, rows, width):
        """Makes the first rows and columns what the layer holds."""
        self.keys, self.values = (buffer[:rows, :, :width] for buffer in self.buffers)

    def reorder_cache(self, index):
        """Row i becomes the old row index[i].

        Ascending (index[i] >= i), so that rows can be copied in place.
        """
        for new, old in enumerate(index.tolist()):
            if new != old:
                self.keys[new] = self.keys[old]
                self.values[new] = self.values[old]
        self.view(len(index), self.get_seq_length())


class Graphs:
    """Stands in for `body`, the model without its head, inside decode().

    length: columns of the cache, prompt and completion. Where `capture` is False the same fixed
    shapes run without a graph, on any device. Nothing here may hold a reference to itself: the
    cache must be free when decode() returns, not when Python looks for cycles.
    """

    capture = os.environ.get("FD_GRAPHS") != "0"  # of the class: one failure is enough

    def __init__(self, body, length):
        self.body = body
        self.length = length
        self.buckets = {}  # rows -> that bucket's inputs, output and graph

        self.cache = DynamicCache(config=body.config)
        self.static = True
        for number, layer in enumerate(self.cache.layers):
            if type(layer) is DynamicLayer:
                self.cache.layers[number] = Buffers(length)
            else:
                # No plain attention (Qwen3.5's linear layers): rows move when some are dropped.
                self.static = False

    def __call__(self, input_ids, attention_mask, position_ids, past_key_values, **_):
        """Like body(...): input_ids and position_ids [B, T], attention_mask [B, columns]."""
        # The prompts, once; or a family whose states have no fixed address.
        if past_key_values is None or not self.static:
            return self.forward(input_ids, attention_mask, position_ids)

        rows, width = attention_mask.shape
        step = self.step_for(rows)
        step.ids[:rows] = input_ids
        step.positions[:rows] = position_ids
        step.mask[:rows, 0, 0, :width] = attention_mask
        step.column.fill_(width - 1)

        # The bucket's other rows compute what nobody reads.
        if self.capture and step.graph is None:
            self.record(step)
        if step.graph:
            step.graph.replay()
        else:
            self.run(step)

        for layer in self.cache.layers:
            layer.view(rows, width)
        return SimpleNamespace(
            last_hidden_state=step.out[:rows], past_key_values=self.cache
        )

    def forward(self, ids, mask, positions):
        return self.body(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )

    def step_for(self, rows):
        """The fixed inputs for so many rows: made when their bucket is first needed."""
        buffer = self.cache.layers[0].buffers[0]
        power_of_two = 1 << (rows - 1).bit_length()
        bucket = min(power_of_two, len(buffer))
        if bucket in self.buckets:
            return self.buckets[bucket]

        device = buffer.device
        zeros = torch.zeros(3, bucket, 1, dtype=torch.long, device=device)
        ids, positions, columns = zeros
        # A row's first column is always attended to, or softmax over nothing would be NaN.
        mask = torch.zeros(bucket, 1, 1, self.length, dtype=torch.bool, device=device)
        mask[..., 0] = True
        step = SimpleNamespace(ids=ids, positions=positions, mask=mask, graph=None)
        step.column = columns[0]  # [1]
        self.buckets[bucket] = step
        return step

    def run(self, step):
        """One decoding step, from the bucket's inputs to its output."""
        for layer in self.cache.layers:
            layer.column = step.column
        out = self.forward(step.ids, step.mask, step.positions)
        step.out = out.last_hidden_state  # [bucket, 1, D]

    def record(self, step):
        """Makes a graph of one step: two rounds on a side stream warm up, then comes the capture
        (PyTorch's recipe)."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # each writes the same keys into the same column
                self.run(step)
        torch.cuda.current_stream().wait_stream(side)

        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (a progress bar, a server's answer) may do what they like meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.run(step)
            step.graph = graph
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            Graphs.capture = False
            reason = str(error).splitlines()[0]
            warnings.warn(f"no CUDA graphs for this model ({reason}): sampling is slower")
