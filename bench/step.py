"""One whole FD step and one whole GRPO step: sampling, loss, optimiser. No Lean and no feedback
endpoint: stubs give the verdicts and the advice, so that only the model is timed.

    python -m bench.step                 # the shipped tiny prover, beside TRL's trainers
    python -m bench.step --cuda          # DeepSeek-Prover-V1.5's exact shape, random weights in NF4
    python -m bench.step --cuda --small  # the same code scaled down, on whatever device there is

(--cuda without --small is not yet run.) TRL's nearest, where `trl` can be imported: GKDTrainer
(on-policy, forward KL over the full vocabulary, the base as its teacher, no feedback in its prompt)
beside FD, GRPOTrainer (groups of 5, KL 0.001) beside GRPO: same model, prompts, LoRA rank and
longest completion, each best of two steps after a first one. With --cuda no row ever stops (the
worst case), so that lengths are known; prompts have 256 tokens, the teacher's 512. The random model
is written to a temporary folder (13 GiB) and loaded like any other. Peak memory should stay below
22 GiB.
"""

import contextlib
import io
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial

import torch
import tyro
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    TrainerCallback,
)

import fd_mini
from bench.common import TINY, machine, number_prompts, peak_bytes, random_prover, timed
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
    """One step as train.py takes it. -> (seconds of each phase, sampled tokens)"""
    seconds = {}
    clock = partial(timed, policy.device, seconds)

    @contextlib.contextmanager
    def timed_role(role):
        with clock(role), fd_mini.Policy.act_as(policy, role):
            yield

    with clock("whole"):
        policy.model.zero_grad(set_to_none=True)
        rows = prompts
        if algo == "grpo":
            rows = [prompt for prompt in prompts for _ in RIGHT]
        torch.manual_seed(0)
        with clock("sample"):
            samples = fd_mini.sample(policy, rows, cfg.new_tokens, batch_size=cfg.batch)

        policy.act_as = timed_role
        completions = [ids for ids, _ in samples]
        batch = (completions, [[True] * len(ids) for ids in completions])
        if algo == "fd":
            fd_mini.fd_backward(
                policy, rows, teacher_prompts, *batch, micro_tokens=cfg.micro_tokens
            )
        else:
            rewards = torch.tensor([RIGHT] * len(prompts))  # [B, G]
            advantages = fd_mini.group_advantages(rewards).flatten().tolist()
            fd_mini.grpo_backward(
                policy, rows, *batch, advantages, micro_tokens=cfg.micro_tokens
            )

        with clock("optimiser"):
            torch.nn.utils.clip_grad_norm_(policy.student, 1.0)
            optimizer.step()
            fd_mini.ema_update_(policy.teacher, policy.student, 0.9)
    return seconds, sum(map(len, completions))


def ours(policy, prompts, teacher_prompts, cfg):
    """Prints a line for FD and one for GRPO. -> {"fd": seconds, "grpo": seconds}"""
    titles = f"{'':14}{'s/step':>8}{'sampled tok/s':>15}{'trained tok/s':>15}{'peak GiB':>10}"
    print(f"\n{titles}   share of time")
    wholes = {}

    for algo in ("fd", "grpo"):
        optimizer = torch.optim.AdamW(policy.student, lr=1e-5)
        if policy.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steps = []
        for _ in range(cfg.steps):
            steps.append(step(policy, optimizer, algo, prompts, teacher_prompts, cfg))
        seconds, tokens = min(steps, key=lambda result: result[0]["whole"])

        whole = seconds.pop("whole")
        wholes[algo] = whole
        training = sum(seconds.values()) - seconds["sample"]
        line = f"{'fd_mini ' + algo.upper():14}{whole:8.2f}"
        line += f"{tokens / seconds['sample']:15,.0f}{tokens / training:15,.0f}"
        line += f"{peak_bytes(policy.device) / 2**30:10.2f}   "
        line += "  ".join(
            f"{name} {value / whole:.0%}" for name, value in seconds.items()
        )
        print(line, flush=True)
    return wholes


# --- TRL's
class StepClock(TrainerCallback):
    """Seconds of the best of TRL's steps."""

    best = math.inf

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.best = min(self.best, time.perf_counter() - self.start)


def best_step(trainer, *its_own, **common):
    """Seconds of the best step of one of TRL's trainers."""
    from peft import LoraConfig

    clock = StepClock()
    adapters = LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer(*its_own, **common, callbacks=[clock], peft_config=adapters).train()
    return clock.best


def trl_steps(folder, prompts, cfg):
    """Seconds of one step of TRL's trainers: {"fd": ..., "grpo": ...}."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype=torch.float32)
    rows = [{"prompt": tokenizer.decode(ids), "input_ids": ids} for ids in prompts]
    data = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}

    def collate(rows):
        batch = {"input_ids": [row["input_ids"] for row in rows]}
        batch = tokenizer.pad(batch, return_tensors="pt")
        ids = batch["input_ids"]
        prompt = {"prompts": ids, "prompt_attention_mask": batch["attention_mask"]}
        return {**batch, **prompt, "labels": ids}

    def reward(**_):
        return RIGHT * len(prompts)

    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(
        io.StringIO()
    ):
        common = TRL_CONFIG | {"output_dir": out, "max_steps": cfg.steps}
        # On-policy distillation from the base itself.
        gkd = GKDConfig(
            **common,
            per_device_train_batch_size=len(prompts),
            lmbda=1.0,
            beta=0.0,
            max_new_tokens=cfg.new_tokens,
        )
        # Groups of attempts with the stub verdicts as reward.
        grpo = GRPOConfig(
            **common,
            per_device_train_batch_size=len(RIGHT) * len(prompts),
            num_generations=len(RIGHT),
            beta=0.001,
            max_completion_length=cfg.new_tokens,
        )
        return {
            "fd": best_step(GKDTrainer, load(), load(), gkd, collate, **data),
            "grpo": best_step(GRPOTrainer, load(), reward, grpo, **data),
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
        theirs = trl_steps(policy.name, prompts, cfg)
    except ImportError as error:
        print(f"\ntrl not installed: pip install trl ({error})")
        return

    print(f"\n{'':14}{'TRL s/step':>12}{'TRL / fd_mini':>16}")
    for algo, name in {"fd": "GKDTrainer", "grpo": "GRPOTrainer"}.items():
        print(f"{name:14}{theirs[algo]:12.2f}{theirs[algo] / mine[algo]:16.2f}")


def deepseek(cfg):
    """DeepSeek-Prover-V1.5's shape, or a small one, with random weights in NF4."""
    if not (cfg.small or torch.cuda.is_available()):
        sys.exit(
            "bench/step.py: --cuda needs a CUDA device; --cuda --small runs on a CPU as well"
        )

    with tempfile.TemporaryDirectory() as folder:
        random_prover(folder, TINY if cfg.small else DEEPSEEK)
        torch.cuda.empty_cache()
        policy = provers.load(folder, RANK, "nf4")

    policy.stop_ids = set()
    print(
        f"{cfg.prompts} prompts, {cfg.new_tokens} new tokens each, "
        f"{cfg.batch} rows decoded together, {cfg.micro_tokens} tokens a pass"
    )
    prompts = number_prompts([256] * cfg.prompts)
    ours(policy, prompts, number_prompts([512] * cfg.prompts), cfg)


@dataclass
class Config:
    """Seconds of whole steps."""

    cuda: bool = False  # DeepSeek-Prover-V1.5's shape in NF4
    small: bool = False  # with --cuda: scaled down, runs on a CPU as well
    prompts: int = 64  # theorems in a step; with --cuda 8
    new_tokens: int = 80  # longest completion; with --cuda 2048, with --small 64
    batch: int = 64  # rows decoded together; with --cuda 8
    micro_tokens: int = 2048  # tokens in one pass; with --cuda 8192
    steps: int = 3  # steps of each, the best is kept


def main(flags: list[str]):
    """The defaults depend on the flags."""
    default = Config()
    if "--cuda" in flags:
        default = Config(prompts=8, new_tokens=2048, batch=8, micro_tokens=8192)
    if "--small" in flags:
        default.new_tokens = 64
    cfg = tyro.cli(Config, default=default, args=flags, description=__doc__)

    at_least_one(prompts=cfg.prompts, new_tokens=cfg.new_tokens, batch=cfg.batch)
    at_least_one(micro_tokens=cfg.micro_tokens, steps=cfg.steps)
    print(machine("transformers", "trl"))
    if cfg.cuda:
        deepseek(cfg)
    else:
        tiny(cfg)


if __name__ == "__main__":
    main(sys.argv[1:])
