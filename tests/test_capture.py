"""A stand-in for CUDA graphs on real CPU tensors: capture records every call, replay makes the same calls on the SAME tensors.

Like a graph it runs no Python, keeps the addresses that it saw, and cannot read a number. What is sampled through it must be what plain
decoding samples; a graph that is kept across roles must not.
"""

import gc
import itertools
import weakref

import pytest
import torch
from tests.test_fd_mini import FAMILIES, shake, write_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import fd_mini as fm
from extras import cuda

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15], [200, 3], [8, 8, 8, 8]]
READS = ("_local_scalar_dense", "nonzero", "masked_select")  # a card would have to be waited for


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if any(name in str(op) for name in READS):
            raise RuntimeError(f"{op}: operation not permitted when stream is capturing")
        out = op(*args, **(kwargs or {}))
        self.calls.append((op, args, kwargs or {}, out))
        return out


class Graph:
    made, replays = [], 0

    def __init__(self):
        Graph.made.append(weakref.ref(self))

    def replay(self):
        """With a pool in common a replay may write over what other graphs gave: here it always does."""
        Graph.replays += 1
        for graph in filter(None, (ref() for ref in Graph.made)):
            if graph is not self and graph.pool == self.pool:
                graph.calls[-1][-1].fill_(torch.nan)
        for op, args, kwargs, out in self.calls:
            if not op.is_view:  # a view of the same memory is what it was
                for new, old in zip(*(tree_flatten(result)[0] for result in (op(*args, **kwargs), out))):
                    if isinstance(old, torch.Tensor) and new.data_ptr() != old.data_ptr():
                        old.copy_(new)


class Capture:
    def __init__(self, graph, pool, capture_error_mode):
        assert capture_error_mode == "thread_local"
        graph.pool = pool
        self.graph, self.recorder = graph, Recorder()

    def __enter__(self):
        self.stream = Stream()
        self.stream.__enter__()
        self.recorder.__enter__()

    def __exit__(self, kind, *error):
        """As torch's: a capture that failed cannot be ended, and its stream stays current."""
        self.recorder.__exit__(kind, *error)
        self.graph.calls = self.recorder.calls
        if kind:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.stream.__exit__()


class Stream:
    """One is current; a block of another gives it back."""

    current = None

    def __init__(self, stream=None):
        self.stream = stream or self

    def wait_stream(self, other):
        pass

    def __enter__(self):
        self.before, Stream.current = Stream.current, self.stream

    def __exit__(self, *error):
        Stream.current = self.before


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    Stream.current = Stream()
    pools = itertools.count(1)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    names = dict(Stream=Stream, stream=Stream, current_stream=lambda: Stream.current, CUDAGraph=Graph, graph=Capture)
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda.Graphs, "capture", True)
    monkeypatch.setattr(cuda.Graphs, "side", None)
    Graph.made, Graph.replays = [], 0


def policy_of(folder, family="llama", **changes):
    policy = fm.Policy(write_model(folder, family, **changes), rank=4)
    for number, role in enumerate(("student", "teacher")):
        shake(policy, role, seed=number, size=0.1)
    policy.roles["reference"] = [tensor.clone() for tensor in policy.student]
    shake(policy, "reference", seed=7, size=0.1)
    policy.stop_ids = set(range(0, 256, 16))  # rows end at different times: buckets change, rows move
    return policy


def samples(policy, graphs, role="student", **options):
    policy.graphs = graphs
    with policy.act_as(role):
        return fm.sample(policy, PROMPTS, 24, generator=torch.Generator().manual_seed(0), **options)


ROLES = ("student", "teacher", "base", "reference")


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_steps_sample_what_plain_decoding_samples_in_every_role(tmp_path, family):
    policy = policy_of(tmp_path, family)
    plain = {role: samples(policy, None, role) for role in ROLES}
    assert {role: samples(policy, cuda.Graphs, role) for role in ROLES} == plain
    assert len({str(each) for each in plain.values()}) == 4, "the roles differ, or nothing is tested"
    assert Graph.replays > 2 * len(Graph.made) > 8, "several buckets, each replayed"


def test_the_graphs_of_a_rollout_have_their_memory_in_common(tmp_path):
    policy = policy_of(tmp_path)
    pools = []

    class Watched(cuda.Graphs):
        def run(self, rows, width):
            out = super().run(rows, width)
            pools.append({graph.pool for graph, _ in self.graphs.values()})
            return out

    for _ in range(2):
        samples(policy, Watched)
    assert set(map(len, pools)) == {1} and len(set.union(*pools)) == 2 < len(Graph.made)


def test_a_graph_that_is_kept_across_roles_would_be_seen(tmp_path):
    """The adapters' addresses are the graph's: another role's numbers never reach it."""
    policy = policy_of(tmp_path)
    kept = {}

    class Kept(cuda.Graphs):
        """Slots that take graphs, buffers and inputs of the ones before."""

        def read(self, slots, prompts):
            hidden = super().read(slots, prompts)
            if kept:
                for number, layer in self.keys.items():
                    old = kept["keys"][number].buffers
                    for buffer, mine in zip(old, layer.buffers):
                        buffer.copy_(mine)
                    layer.buffers = old
                self.newest, self.graphs = kept["newest"], kept["graphs"]
            else:
                kept.update(keys=self.keys, newest=self.newest, graphs=self.graphs)
            return hidden

    policy.stop_ids = set()  # one prefill, so that nothing but the role is stale
    plain = {role: samples(policy, None, role) for role in ROLES}
    assert samples(policy, Kept, "student") == plain["student"]
    assert samples(policy, Kept, "student") == plain["student"], "within a role a kept graph would be right"
    assert samples(policy, Kept, "teacher") != plain["teacher"], "across roles it is not"


def test_no_graph_and_no_cache_outlives_its_slots(tmp_path):
    policy = policy_of(tmp_path)
    alive = []

    class Watched(cuda.Graphs):
        def read(self, slots, prompts):
            hidden = super().read(slots, prompts)
            alive.extend((weakref.ref(self), weakref.ref(self.cache), *map(weakref.ref, self.keys.values())))
            return hidden

    gc.collect()
    gc.disable()
    try:
        samples(policy, Watched, batch_size=2)
        assert len(alive) >= 4 and Graph.made
        assert not any(ref() for ref in [*alive, *Graph.made])
        cuda.Graphs.capture = False
        alive.clear()
        samples(policy, Watched, batch_size=2)
        assert len(alive) >= 4 and not any(ref() for ref in alive), "nor without graphs"
    finally:
        gc.enable()


def test_a_capture_that_fails_is_told_once_and_the_samples_are_the_same(tmp_path, recwarn):
    """Dynamic RoPE reads the longest position as a number, which no graph can hold."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    policy = policy_of(tmp_path, rope_parameters=rope)
    plain = samples(policy, None, batch_size=2)
    stream = Stream.current
    assert samples(policy, cuda.Graphs, batch_size=2) == plain
    told = [str(w.message) for w in recwarn if "no CUDA graphs" in str(w.message)]
    assert len(told) == 1 and "not permitted when stream is capturing" in told[0] and "\n" not in told[0]
    assert len(Graph.made) == 1 and Graph.replays == 0, "it is not tried again"
    assert Stream.current is stream, "what comes next is not asked of the capture's stream"
    assert cuda.Graphs.capture is False


@pytest.mark.parametrize("place", [(Capture, "__enter__"), (Recorder, "__torch_dispatch__")])
def test_memory_that_runs_out_in_a_capture_is_no_reason_to_go_on(tmp_path, monkeypatch, place):
    policy = policy_of(tmp_path)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(*place, full)
    with pytest.raises(torch.OutOfMemoryError):
        samples(policy, cuda.Graphs)
    assert cuda.Graphs.capture is True


def test_the_switch_leaves_graphs_out_from_the_start(tmp_path, monkeypatch):
    import importlib

    monkeypatch.setenv("FD_GRAPHS", "0")
    assert importlib.reload(cuda).Graphs.capture is False
    policy = policy_of(tmp_path)
    assert samples(policy, cuda.Graphs) == samples(policy, None) and not Graph.made
    monkeypatch.delenv("FD_GRAPHS")
    assert importlib.reload(cuda).Graphs.capture is True
