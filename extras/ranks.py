"""Several cards: `torchrun --standalone --nproc_per_node=N train.py ...` starts N processes, each with one card (or on the CPU).

Every process holds the whole model and takes its share of a step's theorems; counts, metrics and adapter gradients are added up
(fd_mini.total_), so that all take the same optimiser step; the first alone writes, prints and evaluates. Seconds in log.jsonl are the
first's. When one process fails, torchrun ends the others. Run so far on CPUs with gloo; several cards with NCCL: not yet run.
"""
import datetime
import os
import sys

import torch
import torch.distributed as dist


def join(prompts: int):
    """Becomes one of torchrun's processes: one card each, one process group. ValueError for more processes than cards or prompts."""
    local, world, cards = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"]), torch.cuda.device_count()
    if 0 < cards <= local or prompts < world:
        raise ValueError(f"{world} processes for {prompts} --prompts-per-step on {cards} cards: lower --nproc_per_node")
    if cards:  # set before CUDA starts: "cuda" then means this card everywhere
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(cards)))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local]
    # hours: the others wait while the first evaluates, or while one process's Lean is slow
    dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo", timeout=datetime.timedelta(hours=6))
    if dist.get_rank():
        sys.stdout = open(os.devnull, "w")

def from_first(rows: list) -> list:
    """The first process's rows, for all: it alone has asked Lean which statements can be read, and all must pick from the same."""
    box = [rows]
    dist.broadcast_object_list(box)
    return box[0]
