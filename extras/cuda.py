"""What a policy does differently on CUDA: it decodes by CUDA graphs and trains by recomputing.

Recomputing: backward computes each block again instead of keeping what is inside it.

A decoding step of a 7B model is some thousand small kernels (30 layers, 7 linear layers each,
with two adapter products beside every one): launching them one by one costs more time than
running them. A CUDA graph replays them all with one launch, but wants fixed addresses, which
slots have (extras/slots.py), and fixed shapes. So the rows alive and the columns in use are
rounded up to powers of two, and a graph is captured for each shape when it is first needed.
Graphs live as long as their slots: training needs the memory between two rollouts, and `act_as`
gives the adapters other addresses.

A capture that fails (a model may read a number inside a step) warns once, and decoding goes on
in the same shapes without graphs. FD_GRAPHS=0 in the environment asks for that from the start.

provers.load() uses this on a CUDA device only. The shapes are tested on a CPU
(tests/test_slots.py), and with a stand-in that records and replays (tests/test_capture.py). Not
yet run: the capture itself, on any GPU.
"""

import os
import warnings
from pathlib import Path

import torch

from extras.slots import Slots

CARDS = ("/proc/driver/nvidia", "/dev/dxg")  # Linux, and Linux inside Windows


def has_card():
    """Is there a card, whether torch can use it or not? One that was hidden is none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path(name).exists() for name in CARDS)


def why_none():
    """Why torch finds no CUDA device, to follow "needs a CUDA device, and"."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "there is none (CUDA_VISIBLE_DEVICES hides all)"
    if not has_card():
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
        # Takes seconds, which --help and a flag that is refused need not wait for.
        from transformers.modeling_layers import GradientCheckpointingLayer

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


class Graphs(Slots):
    """Slots whose steps are replayed.

    Where `capture` is False the same shapes run without a graph, on any device.
    """

    capture = os.environ.get("FD_GRAPHS") != "0"  # of the class: one failure is enough
    side = None  # one stream for all warm-ups: each that is made keeps a workspace of cuBLAS

    def __init__(self, *args):
        super().__init__(*args)
        self.graphs = {}  # (rows, width) -> a graph and its output
        # One for all: each output is read before the next replay may write over it.
        self.pool = None

    def run(self, rows, width):
        # Rows that are not alive compute what nobody reads.
        shape = (
            min(power_of_two(rows), self.place.size),
            min(power_of_two(width), self.place.columns),
        )
        # States move on with every step, a warm-up's too.
        if self.capture and not self.has_states and shape not in self.graphs:
            self.record(*shape)
        if shape not in self.graphs:
            return super().run(rows, width)
        graph, out = self.graphs[shape]
        graph.replay()
        return out

    def record(self, *shape):
        """Makes a graph of one step: two rounds on a side stream warm up, then comes the capture
        (PyTorch's recipe)."""
        side = Graphs.side = Graphs.side or torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # each writes the same keys into the same columns
                super().run(*shape)
        torch.cuda.current_stream().wait_stream(side)

        graph = torch.cuda.CUDAGraph()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        mode = "thread_local"  # other threads (a progress bar, a server's answer) do what they like
        try:
            # A capture that fails leaves its own stream current: the outer block takes it back.
            with torch.cuda.stream(torch.cuda.current_stream()):
                with torch.cuda.graph(graph, self.pool, capture_error_mode=mode):
                    out = super().run(*shape)
            self.graphs[shape] = graph, out
        except RuntimeError as error:
            # Ending a capture that has failed fails as well; what failed first says why.
            first = error.__context__ or error
            if isinstance(first, torch.OutOfMemoryError):
                raise first
            Graphs.capture = False
            reason = str(first).splitlines()[0]
            warnings.warn(f"no CUDA graphs for this model ({reason}): sampling is slower")


def power_of_two(number):
    """The next one from this number up."""
    return 1 << (number - 1).bit_length()
