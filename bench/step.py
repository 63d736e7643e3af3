"""One whole FD step and one whole GRPO step: sampling, loss, optimiser. No Lean and no feedback
endpoint: stubs give the verdicts and the advice, so that only the model is timed.

    python -m bench.step            # the shipped tiny prover
    python -m bench.step --cuda --prompts 8 --new-tokens 2048 --batch 8 --micro-tokens 8192

The second: DeepSeek-Prover-V1.5's exact shape, random weights in NF4 (not yet run); where there is
no CUDA device, a small shape with the same code. With --cuda no row ever stops (the worst case), so
that lengths are known; prompts have 256 tokens, the teacher's 512. The random model is written to a
temporary folder (13 GiB) and loaded like any other. Peak memory should stay below 22 GiB.
"""

import tempfile
from dataclasses import dataclass

import torch
import tyro
from transformers import LlamaConfig

import fd_mini
from bench.common import TINY, machine, now, number_prompts, peak_bytes, random_prover
from data import load_theorems
from extras import provers
from extras.flags import at_least_one
from feedback import build_prompt

RIGHT = [1.0, 1.0, 0.0, 0.0, 0.0]  # stub verdicts of a group
RANK = 32
# A tutor's advice, in length.
ADVICE = "1. Write `intro`, not `assume`.\n2. Use `exact h`, not `exact k`."
# What is not named is Llama 7B's, as in LlamaConfig: width 4096, 11008 inside, 32 heads.
DEEPSEEK = LlamaConfig(
    vocab_size=102400,
    num_hidden_layers=30,
    max_position_embeddings=4096,
    dtype="bfloat16",
)


def step(policy, optimizer, algo, prompts, teacher_prompts, cfg):
    """One step as train.py takes it. -> (seconds, those of sampling, sampled tokens)"""
    start = now(policy.device)
    policy.model.zero_grad(set_to_none=True)
    rows = prompts
    if algo == "grpo":
        rows = [prompt for prompt in prompts for _ in RIGHT]
    torch.manual_seed(0)
    samples = fd_mini.sample(policy, rows, cfg.new_tokens, batch_size=cfg.batch)
    sampled = now(policy.device)

    completions = [ids for ids, _ in samples]
    batch = (completions, [[True] * len(ids) for ids in completions])
    limit = {"micro_tokens": cfg.micro_tokens}
    if algo == "fd":
        fd_mini.fd_backward(policy, rows, teacher_prompts, *batch, **limit)
    else:
        rewards = torch.tensor([RIGHT] * len(prompts))  # [B, G]
        advantages = fd_mini.group_advantages(rewards).flatten().tolist()
        fd_mini.grpo_backward(policy, rows, *batch, advantages, **limit)

    torch.nn.utils.clip_grad_norm_(policy.student, 1.0)
    optimizer.step()
    fd_mini.ema_update_(policy.teacher, policy.student, 0.9)
    return now(policy.device) - start, sampled - start, sum(map(len, completions))


def measure(policy, prompts, teacher_prompts, cfg):
    """Prints a line for FD and one for GRPO."""
    titles = f"{'':6}{'s/step':>8}{'sampled tok/s':>15}{'trained tok/s':>15}{'peak GiB':>10}"
    print(f"\n{titles}")
    for algo in ("fd", "grpo"):
        optimizer = torch.optim.AdamW(policy.student, lr=1e-5)
        if policy.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        job = (policy, optimizer, algo, prompts, teacher_prompts, cfg)
        seconds, sampling, tokens = min(step(*job) for _ in range(cfg.steps))

        line = f"{algo:6}{seconds:8.2f}{tokens / sampling:15,.0f}"
        line += f"{tokens / (seconds - sampling):15,.0f}"
        print(f"{line}{peak_bytes(policy.device) / 2**30:10.2f}", flush=True)


def tiny(cfg):
    """The shipped tiny prover on toy theorems."""
    policy = provers.load("tiny", RANK)
    theorems = load_theorems("toy", "train")[: cfg.prompts]
    prompts = [build_prompt(policy.tokenizer, theorem) for theorem in theorems]
    told = [build_prompt(policy.tokenizer, theorem, ADVICE) for theorem in theorems]
    measure(policy, prompts, told, cfg)


def deepseek(cfg):
    """DeepSeek-Prover-V1.5's shape, or without CUDA a small one, with random weights in NF4."""
    shape = DEEPSEEK if torch.cuda.is_available() else TINY
    with tempfile.TemporaryDirectory() as folder:
        random_prover(folder, shape)
        torch.cuda.empty_cache()
        policy = provers.load(folder, RANK, "nf4")

    policy.stop_ids = set()
    prompts = number_prompts([256] * cfg.prompts)
    measure(policy, prompts, number_prompts([512] * cfg.prompts), cfg)


@dataclass
class Config:
    """Seconds of whole steps."""

    cuda: bool = False  # DeepSeek-Prover-V1.5's shape in NF4
    prompts: int = 64  # theorems in a step
    new_tokens: int = 80  # longest completion
    batch: int = 64  # rows decoded together
    micro_tokens: int = 2048  # tokens in one pass
    steps: int = 3  # steps of each, the best is kept


def main(cfg):
    at_least_one(**vars(cfg) | {"cuda": None})
    print(machine("transformers"))
    if cfg.cuda:
        deepseek(cfg)
    else:
        tiny(cfg)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
