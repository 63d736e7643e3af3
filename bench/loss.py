"""Time and peak memory of the loss: fd_mini's chunked head with the teacher's top 25 against all of the vocabulary at once.

    python bench/loss.py                                   CPU, and CUDA when there is one (not yet run on CUDA)
    python bench/loss.py --tokens 4096 --vocabularies 102400 --width 256

Four ways from hidden states [N, D] of student and teacher and a frozen head [V, D] to the gradient for the student's:
  plain     KL(teacher || student) over all of V: both logits held, log-softmax in fp32, autograd
  TRL       the same divergence by TRL's GKD loss (beta 0), where `trl` can be imported
  chunked   fd_mini.teacher_topk and fd_mini.linear_topk_cross_entropy
  + stats   the same with what the training log shows (entropy, KL, overlap), as training runs it
Each runs in a process of its own. Memory is what a run adds to what was there before: on CUDA the allocator's peak, on a CPU the
peak of the resident size less the resident size before. fp32 on a CPU, bf16 hidden states and head on CUDA. A narrower D makes the
products cheaper and so the comparison of time stricter: on a real head (D = 4096) all ways spend most of their time in the same
three products. The ratios to plain are what to read; expected at 4096 tokens: memory at most 0.05, time at most 1.1.
"""
import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import fd_mini  # noqa: E402

WAYS = ("plain", "TRL", "chunked", "+ stats")
COPIES = {"plain": 7.5, "TRL": 9.5}  # of [N, V] in fp32 at the peak, as measured on a CPU: to leave out what would not fit


def trl_loss():
    """TRL's loss function, or None."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    try:
        from trl.experimental.gkd import GKDTrainer
    except ImportError:
        try:
            from trl import GKDTrainer
        except ImportError:
            return None
    return GKDTrainer.generalized_jsd_loss


def run(way, student, teacher, weight, jsd):
    """Leaves the gradient in student.grad. student, teacher [N, D], weight [V, D]."""
    if way in ("chunked", "+ stats"):
        ids, logps = fd_mini.teacher_topk(teacher, weight, 25)  # [N, 25] each
        out = fd_mini.linear_topk_cross_entropy(student, weight, ids, logps, with_stats=way == "+ stats")
        loss = (out[0] if way == "+ stats" else out).sum()
    else:
        with torch.no_grad():
            teacher_logits = F.linear(teacher, weight)  # [N, V]
        student_logits = F.linear(student, weight)  # [N, V]
        if way == "TRL":
            loss = jsd(student_logits[None], teacher_logits[None], beta=0.0, reduction="sum")
        else:
            p, q = teacher_logits.float().log_softmax(-1), student_logits.float().log_softmax(-1)
            loss = F.kl_div(q, p, log_target=True, reduction="sum")
    loss.backward()


def measure(args):
    """One way, one size, in this fresh process: prints {"seconds": best of the repeats, "bytes": peak less before}."""
    cuda, jsd = args.device == "cuda", trl_loss() if args.way == "TRL" else None
    torch.manual_seed(0)
    like = dict(device=args.device, dtype=torch.bfloat16 if cuda else torch.float32)
    weight = torch.randn(args.vocabularies[0], args.width, **like) / args.width**0.5  # [V, D]
    student = torch.randn(args.tokens[0], args.width, **like).requires_grad_()  # [N, D]
    teacher = (student + torch.randn_like(student)).detach()
    small = student[:8].detach().requires_grad_()
    run(args.way, small, teacher[:8], weight, jsd)  # warms up kernels and threads
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else resident()
    seconds = []
    for _ in range(args.repeats):
        student.grad, start = None, time.perf_counter()
        run(args.way, student, teacher, weight, jsd)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": min(seconds), "bytes": peak - before}))


def resident():
    """Bytes resident now; where /proc is missing, the peak so far."""
    if Path("/proc/self/statm").exists():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_bytes(device):
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return kib[0] * 1024 if kib else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def one(device, vocabulary, tokens, way, args):
    """The measurement of a fresh process, or None where it failed (out of memory, most likely)."""
    command = [sys.executable, __file__, "--way", way, "--device", device, "--vocabularies", str(vocabulary), "--tokens", str(tokens),
               "--width", str(args.width), "--repeats", str(args.repeats), "--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def compare(device, args):
    print(f"\n{device}, D = {args.width}, best of {args.repeats}\n"
          f"{'V':>8}{'tokens':>8}  {'way':10}{'seconds':>9}{'MiB':>9}{'time':>8}{'memory':>8}  (ratios to plain)")
    for vocabulary in args.vocabularies:
        for tokens in args.tokens:
            plain = None
            for way in WAYS:
                if way == "TRL" and trl_loss() is None:
                    continue
                need, free = COPIES.get(way, 0) * 4 * tokens * vocabulary, free_bytes(device)
                result = one(device, vocabulary, tokens, way, args) if need < 0.9 * free else None
                plain = result if way == "plain" else plain
                if result is None:
                    why = f"left out: needs {need / 2**30:.0f} GiB, {free / 2**30:.0f} are free" if need >= 0.9 * free else "failed"
                    print(f"{vocabulary:8}{tokens:8}  {way:10}{why}", flush=True)
                    continue
                ratios = [result[key] / plain[key] if plain else float("nan") for key in ("seconds", "bytes")]
                print(f"{vocabulary:8}{tokens:8}  {way:10}{result['seconds']:9.2f}{result['bytes'] / 2**20:9.0f}"
                      f"{ratios[0]:8.2f}{ratios[1]:8.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[102400, 151936], help="sizes of V (DeepSeek, Qwen)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="sizes of N")
    parser.add_argument("--width", type=int, default=None, help="D; default 256 on the CPU, 4096 on CUDA")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, the best is kept")
    parser.add_argument("--device", choices=["cpu", "cuda"], default=None, help="default: both, where there are both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # the fresh process
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.way:
        return measure(args)
    trl = "trl not installed: pip install trl"
    if trl_loss():
        import trl as package
        trl = f"trl {package.__version__}"
    print(f"torch {torch.__version__}, {trl}, python {platform.python_version()}, {args.threads} thread(s); "
          + (torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"))
    width = args.width
    for device in [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        args.width = width or (4096 if device == "cuda" else 256)
        compare(device, args)


if __name__ == "__main__":
    main()
