"""Several cards: `torchrun --standalone --nproc_per_node=N train.py ...` starts N processes.

Each has one card (or runs on the CPU), holds the whole model and takes its share of a step's
theorems. Counts, metrics and gradients are added up, so that all take the same optimiser step;
the first alone writes, prints and evaluates. Seconds in log.jsonl are the first's. When one
process fails, torchrun ends the others. In a single process every function here does nothing.
Run so far on CPUs with gloo; several cards with NCCL: not yet run.
"""

import datetime
import os
import sys

import torch
import torch.distributed as dist



def number(name, default):
    """What torchrun has set, or what one process is. SystemExit for what is no number."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        sys.exit(f"the environment's {name} is {text!r}, no number: unset it, or use torchrun")
    return int(text)


RANK = number("RANK", 0)
WORLD = number("WORLD_SIZE", 1)
FIRST = RANK == 0


def join(prompts):
    """Become one of torchrun's processes: one card each, one process group.

    ValueError for more processes than cards or than prompts in a step, and where some of
    torchrun's variables are there and not all.
    """
    names = "RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT".split()
    missing = [name for name in names if name not in os.environ]
    if RANK >= WORLD or (WORLD > 1 and missing):
        raise ValueError(
            f"RANK is {RANK} and WORLD_SIZE {WORLD}; of what torchrun sets there is no "
            f"{' '.join(missing) or 'sense'}: start with torchrun, or unset RANK and WORLD_SIZE"
        )
    if WORLD == 1:
        return
    local = number("LOCAL_RANK", 0)
    cards = torch.cuda.device_count()
    if 0 < cards <= local or prompts < WORLD:
        raise ValueError(
            f"{WORLD} processes for {prompts} --prompts-per-step on {cards} cards: "
            "lower --nproc_per_node"
        )
    if cards:  # "cuda" then means this card everywhere
        torch.cuda.set_device(local)
    # Hours: the others wait while the first evaluates, or while one process's Lean is slow.
    backend = "cpu:gloo,cuda:nccl" if cards else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(hours=6))
    if not FIRST:
        sys.stdout = open(os.devnull, "w")


def from_first(value):
    """The first process's value, for all: it alone asked Lean which statements can be read."""
    if WORLD == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def share(theorems):
    """This process's part of a step's theorems."""
    first, end = (len(theorems) * rank // WORLD for rank in (RANK, RANK + 1))
    return theorems[first:end]


def generator(seed, prompts, group, max_new_tokens):
    """The random numbers of this process's attempts: as if one process drew for all.

    Attempts before ours, `group` at each theorem, have drawn max_new_tokens numbers each.
    """
    numbers = torch.Generator().manual_seed(seed)
    before = prompts * RANK // WORLD * group
    torch.rand(before, max_new_tokens, generator=numbers, dtype=torch.float64)
    return numbers


def total(counts):
    """The sums of integers over all processes."""
    if WORLD == 1:
        return counts
    sums = torch.tensor(list(counts.values()))
    dist.all_reduce(sums)
    return dict(zip(counts, sums.tolist()))


def combine(parameters, metrics):
    """Gradients and metrics of a backward pass, made those of all processes' tokens.

    Each process has divided by its own count of tokens; here all are weighted by that count.
    """
    if WORLD == 1:
        return metrics
    everyone = [None] * WORLD
    dist.all_gather_object(everyone, metrics)
    tokens = sum(theirs["tokens"] for theirs in everyone)
    weight = metrics["tokens"] / max(tokens, 1)
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad * weight
        dist.all_reduce(p.grad)

    means = {}
    for theirs in everyone:
        for name, mean in theirs.items():
            part = mean * theirs["tokens"] / max(tokens, 1)
            means[name] = means.get(name, 0.0) + part
    return means | {"tokens": tokens}
