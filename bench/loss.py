"""Time and peak memory of the loss: fd_mini's chunked head with the teacher's top 25 against all of
the vocabulary at once.

    python -m bench.loss    # on CUDA when there is one (not yet run on CUDA), else on the CPU
    python -m bench.loss --tokens 4096 --vocabularies 102400 --width 256

Three ways from hidden states [N, D] of student and teacher and a frozen head [V, D] to the gradient
for the student's:
  plain     KL(teacher || student) over all of V: both logits held, log-softmax in fp32, autograd
  chunked   fd_mini.teacher_topk and fd_mini.linear_topk_cross_entropy
  + stats   the same with what the training log shows (entropy, KL, overlap), as training runs it
Each runs in a process of its own. Memory is what a run adds to what was there before: on CUDA the
allocator's peak, on a CPU the peak of the resident size less the resident size before. fp32 on a
CPU, bf16 hidden states and head on CUDA. A narrower D makes the products cheaper and so the
comparison of time stricter: on a real head (D = 4096) all ways spend most of their time in the same
three products. The ratios to plain are what to read; expected at 4096 tokens: memory at most 0.05,
time at most 1.1.
"""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import psutil
import torch
import torch.nn.functional as F
import tyro

import fd_mini
from bench.common import machine, now, peak_bytes
from extras.flags import at_least_one
from extras.stops import in_one_line

# Copies of [N, V] in fp32 that the plain way has at its peak, as measured on a CPU.
COPIES = 7.5


def run(way, student, teacher, weight):
    """Leaves the gradient in student.grad. student, teacher [N, D], weight [V, D]."""
    if way == "plain":
        with torch.no_grad():
            teacher_logits = F.linear(teacher, weight)  # [N, V]
        student_logits = F.linear(student, weight)  # [N, V]
        p = teacher_logits.float().log_softmax(-1)
        q = student_logits.float().log_softmax(-1)
        loss = F.kl_div(q, p, log_target=True, reduction="sum")
    else:
        ids, logps = fd_mini.teacher_topk(teacher, weight, 25)  # [N, 25] each
        targets = (student, weight, ids, logps)
        loss = fd_mini.linear_topk_cross_entropy(*targets, with_stats=way == "+ stats")
        if way == "+ stats":
            loss, _ = loss
    loss.sum().backward()


def measure(way, device, vocabulary, tokens, width, repeats):
    """One way, one size, in a fresh process. -> (best seconds, bytes at the peak less before)"""
    cuda = device.type == "cuda"
    torch.manual_seed(0)
    like = {"device": device, "dtype": torch.bfloat16 if cuda else torch.float32}
    weight = torch.randn(vocabulary, width, **like) / width**0.5  # [V, D]
    student = torch.randn(tokens, width, **like).requires_grad_()  # [N, D]
    teacher = (student + torch.randn_like(student)).detach()

    few = student[:8].detach().requires_grad_()
    run(way, few, teacher[:8], weight)  # warms up kernels and threads
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = (
        torch.cuda.memory_allocated() if cuda else psutil.Process().memory_info().rss
    )

    seconds = []
    for _ in range(repeats):
        student.grad = None
        start = now(device)
        run(way, student, teacher, weight)
        seconds.append(now(device) - start)
    return min(seconds), peak_bytes(device) - before


def compare(device, vocabulary, tokens, *rest):
    """Prints a line for each way, each in a process of its own."""
    free = psutil.virtual_memory().available
    if device.type == "cuda":
        free = torch.cuda.mem_get_info()[0]
    need = COPIES * 4 * tokens * vocabulary
    plain = (math.nan, math.nan)
    for way in ("plain", "chunked", "+ stats"):
        if way == "plain" and need > 0.9 * free:
            text = f"left out: needs {need / 2**30:.0f} GiB, {free / 2**30:.0f} are free"
        else:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                job = pool.submit(measure, way, device, vocabulary, tokens, *rest)
            seconds, size = job.result()
            if way == "plain":
                plain = seconds, size
            text = f"{seconds:9.2f}{size / 2**20:9.0f}"
            text += f"{seconds / plain[0]:8.2f}{size / plain[1]:8.3f}"
        print(f"{vocabulary:8}{tokens:8}  {way:10}{text}", flush=True)


def main(
    vocabularies: tuple[int, ...] = (102400, 151936),
    tokens: tuple[int, ...] = (512, 1024, 2048, 4096),
    width: int | None = None,
    repeats: int = 2,
):
    """Time and memory of the loss.

    Args:
        vocabularies: sizes of V (DeepSeek, Qwen).
        tokens: sizes of N.
        width: D; None: 256 on the CPU, 4096 on CUDA.
        repeats: runs of each, the best is kept.
    """
    at_least_one(vocabularies=min(vocabularies, default=0), tokens=min(tokens, default=0))
    at_least_one(width=width, repeats=repeats)
    print(machine())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width = width or (4096 if device.type == "cuda" else 256)
    print(f"\n{device}, D = {width}, best of {repeats}")
    titles = f"{'V':>8}{'tokens':>8}  {'way':10}{'seconds':>9}{'MiB':>9}{'time':>8}"
    print(f"{titles}{'memory':>8}  (ratios to plain)")
    for vocabulary in vocabularies:
        for count in tokens:
            compare(device, vocabulary, count, width, repeats)


if __name__ == "__main__":
    with in_one_line("loss.py"):
        tyro.cli(main, description=__doc__)
