"""Decoding on CUDA: a static KV cache and one CUDA graph per batch size. fd_mini.decode() imports this on a CUDA device only.

A decoding step of a 7B model is some thousand small kernels (30 layers, 7 linear layers each, with two adapter products beside
every one): launching them one by one costs more time than running them. A CUDA graph replays them all with one launch, but wants
fixed addresses and fixed shapes. So keys and values lie in buffers made once per batch, attention reads the whole buffer under a
mask, and the rows still alive are rounded up to a power of two (a bucket), for each of which a graph is captured when first needed.
Graphs live as long as their batch: training needs the memory between two rollouts, and `act_as` gives the adapters other addresses.

The static shapes are tested on a CPU (tests/test_memory.py), where `capture` is left out. Not yet run: the capture itself, on any GPU.
"""
from types import SimpleNamespace

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class Buffers(DynamicLayer):
    """One layer's keys and values in buffers [B, heads, length, d] made once, where torch.cat would copy all of them at every token."""

    def __init__(self, length):
        super().__init__()
        self.length, self.place = length, None

    def update(self, keys, values, *_, **__):
        """Adds the keys and values of new tokens, [B, heads, T, d]. -> all so far; inside a graph the whole buffers, to be masked"""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            # zeros: a masked key of NaN would still make NaN
            self.buffers = [x.new_zeros(*x.shape[:2], self.length, x.shape[3]) for x in (keys, values)]
        rows, start = len(keys), self.get_seq_length()
        if self.place is not None:  # the column to write to, a tensor: a graph's addresses are fixed, its values are not
            for buffer, new in zip(self.buffers, (keys, values)):
                buffer[:rows].index_copy_(2, self.place, new)
            return self.buffers[0][:rows], self.buffers[1][:rows]
        for buffer, new in zip(self.buffers, (keys, values)):
            buffer[:rows, :, start:start + new.shape[2]] = new
        self.view(rows, start + keys.shape[2])
        return self.keys, self.values

    def view(self, rows, width):
        self.keys, self.values = (buffer[:rows, :, :width] for buffer in self.buffers)

    def reorder_cache(self, index):
        """Row i becomes the old row index[i]. Ascending (index[i] >= i), so that rows can be copied in place."""
        moves = [(i, j) for i, j in enumerate(index.tolist()) if i != j]
        for x in (self.keys, self.values):
            for i, j in moves:
                x[i] = x[j]
        self.view(len(index), self.keys.shape[2])


class Graphs:
    """Stands in for `body`, the model without its head, inside decode(). length: columns of the cache, prompt and completion.
    capture False runs the same fixed shapes without a graph (any device)."""

    def __init__(self, body, length, capture=True):
        self.body, self.capture, self.buckets = body, capture, {}
        self.cache = DynamicCache(config=body.config)
        # layers that are not plain attention (Qwen3.5's linear ones) keep the model's own kind
        self.cache.layers = [Buffers(length) if type(layer) is DynamicLayer else layer for layer in self.cache.layers]
        self.static = all(isinstance(layer, Buffers) for layer in self.cache.layers)  # other layers move when rows are dropped
        self.length = length

    def __call__(self, input_ids, attention_mask, position_ids, past_key_values=None, use_cache=True):
        """Like body(...): input_ids and position_ids [B, T], attention_mask [B, columns so far]."""
        if past_key_values is None or not self.static:  # the prompts, once; or a family whose states have no fixed address
            return self.body(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
                             past_key_values=self.cache, use_cache=True)
        rows, width = attention_mask.shape
        bucket = min(1 << (rows - 1).bit_length(), len(self.cache.layers[0].buffers[0]))
        if bucket not in self.buckets:
            self.buckets[bucket] = self.make(bucket)
        step = self.buckets[bucket]
        step.ids[:rows], step.positions[:rows] = input_ids, position_ids
        step.mask[:rows, 0, 0, :width] = attention_mask.bool()  # the bucket's other rows compute what nobody reads
        self.place.fill_(width - 1)
        if step.replay is None:
            step.replay = self.record(step)
        step.replay()
        for layer in self.cache.layers:
            layer.view(rows, width)
        return SimpleNamespace(last_hidden_state=step.out[:rows], past_key_values=self.cache)

    def make(self, bucket):
        """Fixed inputs for a bucket; a row's first column is always attended to, or softmax over nothing would be NaN."""
        device = self.cache.layers[0].buffers[0].device
        if not self.buckets:
            self.place = torch.zeros(1, dtype=torch.long, device=device)
        mask = torch.zeros(bucket, 1, 1, self.length, dtype=torch.bool, device=device)
        mask[..., 0] = True
        ids, positions = torch.zeros(2, bucket, 1, dtype=torch.long, device=device)
        return SimpleNamespace(ids=ids, positions=positions, mask=mask, out=None, replay=None)

    def record(self, step):
        """-> what runs one step. On CUDA: two rounds on a side stream to warm up, then the capture (PyTorch's recipe)."""
        def run():
            for layer in self.cache.layers:
                layer.place = self.place
            step.out = self.body(input_ids=step.ids, attention_mask=step.mask, position_ids=step.positions,
                                 past_key_values=self.cache, use_cache=True).last_hidden_state  # [bucket, 1, D]
        if not self.capture:
            return run
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # each writes the same keys into the same column
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay
