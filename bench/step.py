"""One whole FD step and one whole GRPO step: sampling, loss, optimiser. No Lean and no feedback
endpoint: stubs give the verdicts and the advice, so that only the model is timed.

    python -m bench.step            # the shipped tiny prover, beside TRL's trainers
    python -m bench.step --cuda --prompts 8 --new-tokens 2048 --batch 8 --micro-tokens 8192

The second: DeepSeek-Prover-V1.5's exact shape, random weights in NF4 (not yet run); where there is
no CUDA device, a small shape with the same code. TRL's nearest, where `trl` can be imported:
SDFTTrainer (on-policy, forward KL on the top 25, an EMA teacher that reads the same advice) beside
FD, GRPOTrainer (groups of 5, KL 0.001) beside GRPO: same model, prompts, LoRA rank and longest
completion. Steps alternate, one of TRL's and one of ours, so that both meet the same machine; of
each the fastest is kept, and of the ratios of pairs the median, the first pair left out where
there are more. With --cuda no row ever stops (the worst case), so that lengths are known; prompts
have 256 tokens, the teacher's 512. The random model is written to a temporary folder (13 GiB) and
loaded like any other. Peak memory should stay below 22 GiB.
"""

import contextlib
import io
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial

import torch
import tyro
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, TrainerCallback

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
TRL_CONFIG = {
    "learning_rate": 1e-5,
    "temperature": 1.0,
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": not torch.cuda.is_available(),
}


# --- ours
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


def ours(policy, prompts, teacher_prompts, cfg):
    """Prints a line for FD and one for GRPO. -> {"fd": a function that takes a step, "grpo": ...}"""
    titles = f"{'':14}{'s/step':>8}{'sampled tok/s':>15}{'trained tok/s':>15}{'peak GiB':>10}"
    print(f"\n{titles}")
    steps = {}
    for algo in ("fd", "grpo"):
        optimizer = torch.optim.AdamW(policy.student, lr=1e-5)
        if policy.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        job = (policy, optimizer, algo, prompts, teacher_prompts, cfg)
        whole, sampling, tokens = min(step(*job) for _ in range(cfg.steps))

        steps[algo] = partial(step, *job)
        line = f"{'fd_mini ' + algo.upper():14}{whole:8.2f}{tokens / sampling:15,.0f}"
        line += f"{tokens / (whole - sampling):15,.0f}"
        print(f"{line}{peak_bytes(policy.device) / 2**30:10.2f}", flush=True)
    return steps


# --- TRL's
class StepClock(TrainerCallback):
    """Seconds of TRL's steps, and of one of ours after each: [(theirs, mine), ...]."""

    def __init__(self, mine):
        self.mine = mine
        self.pairs = []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        theirs = time.perf_counter() - self.start
        self.pairs.append((theirs, self.mine()[0]))


def pairs_of_steps(mine, trainer, *its_own, **common):
    """One of TRL's trainers, between whose steps ours are taken."""
    from peft import LoraConfig

    clock = StepClock(mine)
    adapters = LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer(*its_own, **common, callbacks=[clock], peft_config=adapters).train()
    return clock.pairs[1:] or clock.pairs


def beside_trl(folder, prompts, mine, cfg):
    """Seconds of TRL's steps and ours: {"fd": [(theirs, mine), ...], "grpo": ...}."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype=torch.float32)
    columns = {
        "prompt": tokenizer.batch_decode(prompts),
        "privileged_context": [ADVICE] * len(prompts),
    }
    data = {
        "train_dataset": Dataset.from_dict(columns),
        "processing_class": tokenizer,
    }

    def reward(**_):
        return RIGHT * len(prompts)

    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as out, quiet:
        common = TRL_CONFIG | {"output_dir": out, "max_steps": cfg.steps}
        common["max_completion_length"] = cfg.new_tokens
        # One attempt a prompt. The teacher's prompt has the advice at its end.
        sdft = SDFTConfig(
            **common,
            per_device_train_batch_size=len(prompts),
            num_generations=1,
            teacher_model_kind="ema",
            teacher_update_rate=0.1,
            distillation_alpha=0.0,  # forward KL
            distillation_topk=25,
        )
        # Groups of attempts with the stub verdicts as reward.
        grpo = GRPOConfig(
            **common,
            per_device_train_batch_size=len(RIGHT) * len(prompts),
            num_generations=len(RIGHT),
            beta=0.001,
        )
        return {
            "fd": pairs_of_steps(mine["fd"], SDFTTrainer, load(), sdft, **data),
            "grpo": pairs_of_steps(mine["grpo"], GRPOTrainer, load(), reward, grpo, **data),
        }


# --- the two comparisons
def tiny(cfg):
    """The shipped tiny prover on toy theorems, against TRL."""
    policy = provers.load("tiny", RANK)
    theorems = load_theorems("toy", "train")[: cfg.prompts]
    prompts = [build_prompt(policy.tokenizer, theorem) for theorem in theorems]
    told = [build_prompt(policy.tokenizer, theorem, ADVICE) for theorem in theorems]

    mine = ours(policy, prompts, told, cfg)
    try:
        pairs = beside_trl(policy.name, prompts, mine, cfg)
    except ImportError as error:
        print(f"\ntrl not installed: pip install trl ({error})")
        return

    print(f"\n{'':14}{'TRL s/step':>12}{'fd_mini':>10}{'fd_mini / TRL':>15}{'median':>10}")
    for algo, name in {"fd": "SDFTTrainer", "grpo": "GRPOTrainer"}.items():
        their_best, our_best = map(min, zip(*pairs[algo]))
        median = statistics.median(our / their for their, our in pairs[algo])
        print(f"{name:14}{their_best:12.2f}{our_best:10.2f}{our_best / their_best:15.2f}{median:10.2f}")


def deepseek(cfg):
    """DeepSeek-Prover-V1.5's shape, or without CUDA a small one, with random weights in NF4."""
    shape = DEEPSEEK if torch.cuda.is_available() else TINY
    with tempfile.TemporaryDirectory() as folder:
        random_prover(folder, shape)
        torch.cuda.empty_cache()
        policy = provers.load(folder, RANK, "nf4")

    policy.stop_ids = set()
    prompts = number_prompts([256] * cfg.prompts)
    ours(policy, prompts, number_prompts([512] * cfg.prompts), cfg)


@dataclass
class Config:
    """Seconds of whole steps."""

    cuda: bool = False  # DeepSeek-Prover-V1.5's shape in NF4
    prompts: int = 64  # theorems in a step
    new_tokens: int = 80  # longest completion
    batch: int = 64  # rows decoded together
    micro_tokens: int = 2048  # tokens in one pass
    steps: int = 3  # steps of each


def main(cfg):
    at_least_one(**vars(cfg) | {"cuda": None})
    print(machine("transformers", "trl"))
    if cfg.cuda:
        deepseek(cfg)
    else:
        tiny(cfg)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
