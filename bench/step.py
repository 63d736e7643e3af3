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
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial

import torch
import transformers
import tyro
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

import fd_mini
from bench.common import machine, now, number_prompts, peak_bytes, random_prover
from data import load_theorems
from extras import provers
from feedback import build_prompt

GROUP = 5
RANK = 32
ADVICE = (
    "1. Write `intro`, not `assume`.\n2. Use `exact h`, not `exact k`."  # a tutor's, in length
)
DEEPSEEK = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
}
SMALL = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}
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
SIZES = {
    "tiny": {"prompts": 64, "new_tokens": 80, "batch": 64, "micro_tokens": 2048},
    "cuda": {"prompts": 8, "new_tokens": 2048, "batch": 8, "micro_tokens": 8192},
}


def rewards(attempts):
    """Stub verdicts: two attempts of five are right."""
    return [float(i % GROUP < 2) for i in range(attempts)]


# --- ours
def clocked(policy, seconds):
    """policy.act_as that adds the time spent in each role to `seconds`."""
    act_as = policy.act_as

    @contextlib.contextmanager
    def timed(role):
        start = now(policy.device)
        with act_as(role):
            yield
        seconds[role] = seconds.get(role, 0) + now(policy.device) - start

    return timed


def step(policy, optimizer, algo, prompts, teacher_prompts, cfg):
    """One step as train.py takes it. -> (seconds of each phase, sampled tokens)"""
    group = 1 if algo == "fd" else GROUP
    rows = [prompt for prompt in prompts for _ in range(group)]
    seconds = {}

    start = now(policy.device)
    policy.model.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(0)
    samples = fd_mini.sample(
        policy, rows, cfg.new_tokens, generator=generator, batch_size=cfg.batch
    )
    seconds["sample"] = now(policy.device) - start

    completions = [ids for ids, _ in samples]
    sampled = [[True] * len(ids) for ids in completions]
    batch = (completions, sampled)
    policy.act_as = clocked(policy, seconds)
    if algo == "fd":
        fd_mini.fd_backward(
            policy, rows, teacher_prompts, *batch, micro_tokens=cfg.micro_tokens
        )
    else:
        right = torch.tensor(rewards(len(rows))).view(-1, GROUP)  # [B, G]
        advantages = fd_mini.group_advantages(right).flatten().tolist()
        fd_mini.grpo_backward(policy, rows, *batch, advantages, micro_tokens=cfg.micro_tokens)
    del policy.act_as  # the class's own again

    begin = now(policy.device)
    torch.nn.utils.clip_grad_norm_(policy.student, 1.0)
    optimizer.step()
    fd_mini.ema_update_(policy.teacher, policy.student, 0.9)
    end = now(policy.device)
    seconds |= {"optimiser": end - begin, "whole": end - start}
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
        line += "  ".join(f"{name} {value / whole:.0%}" for name, value in seconds.items())
        print(line, flush=True)
    return wholes


# --- TRL's
class StepClock(TrainerCallback):
    """Seconds of each of TRL's steps."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.start)


def gkd_trainer(load, prompts, tokenizer, new_tokens, common, **rest):
    """On-policy distillation from the base itself."""
    from datasets import Dataset
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    def collate(rows):
        batch = tokenizer.pad({"input_ids": [row["ids"] for row in rows]}, return_tensors="pt")
        ids = batch["input_ids"]
        mask = batch["attention_mask"]
        prompt = {"prompts": ids, "prompt_attention_mask": mask}
        return prompt | {"input_ids": ids, "attention_mask": mask, "labels": ids.clone()}

    config = GKDConfig(
        **common,
        per_device_train_batch_size=len(prompts),
        lmbda=1.0,
        beta=0.0,
        max_new_tokens=new_tokens,
    )
    rows = Dataset.from_list([{"ids": prompt} for prompt in prompts])
    return GKDTrainer(load(), load(), config, collate, rows, processing_class=tokenizer, **rest)


def grpo_trainer(load, prompts, tokenizer, new_tokens, common, **rest):
    """Groups of attempts with the stub verdicts as reward."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions, **_):
        return rewards(len(completions))

    config = GRPOConfig(
        **common,
        per_device_train_batch_size=GROUP * len(prompts),
        num_generations=GROUP,
        beta=0.001,
        max_completion_length=new_tokens,
    )
    rows = Dataset.from_list([{"prompt": tokenizer.decode(prompt)} for prompt in prompts])
    return GRPOTrainer(load(), reward, config, rows, processing_class=tokenizer, **rest)


def trl_steps(folder, prompts, cfg):
    """Seconds of one step of TRL's trainers: {"fd": ..., "grpo": ...}."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from peft import LoraConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype=torch.float32)
    seconds = {}

    for algo, make in {"fd": gkd_trainer, "grpo": grpo_trainer}.items():
        clock = StepClock()
        adapters = LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            common = TRL_CONFIG | {"output_dir": out, "max_steps": cfg.steps}
            rest = {"callbacks": [clock], "peft_config": adapters}
            make(load, prompts, tokenizer, cfg.new_tokens, common, **rest).train()
        seconds[algo] = min(clock.seconds)
    return seconds


# --- the two comparisons
def tiny(cfg):
    """The shipped tiny prover on toy theorems, against TRL."""
    policy = provers.load("tiny", RANK)
    prompts = []
    teacher_prompts = []
    for theorem in load_theorems("toy", "train")[: cfg.prompts]:
        prompts.append(build_prompt(policy.tokenizer, theorem))
        teacher_prompts.append(build_prompt(policy.tokenizer, theorem, ADVICE))

    mine = ours(policy, prompts, teacher_prompts, cfg)
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
        random_prover(folder, SMALL if cfg.small else DEEPSEEK, torch.bfloat16)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        policy = provers.load(folder, RANK, "nf4")

    policy.stop_ids = set()
    prompts = number_prompts(cfg.prompts, [256], 998)
    teacher_prompts = number_prompts(cfg.prompts, [512], 998)
    print(
        f"{cfg.prompts} prompts, {cfg.new_tokens} new tokens each, "
        f"{cfg.batch} rows decoded together, {cfg.micro_tokens} tokens a pass"
    )
    ours(policy, prompts, teacher_prompts, cfg)


@dataclass
class Config:
    """Seconds of whole steps."""

    cuda: bool = False  # DeepSeek-Prover-V1.5's shape in NF4
    small: bool = False  # with --cuda: scaled down, runs on a CPU as well
    prompts: int | None = None  # theorems in a step; None: 64, with --cuda 8
    new_tokens: int | None = None  # longest completion; None: 80, --cuda 2048, --small 64
    batch: int | None = None  # rows decoded together; None: 64, with --cuda 8
    micro_tokens: int | None = None  # tokens in one pass; None: 2048, with --cuda 8192
    steps: int = 3  # steps of each, the best is kept


def main(cfg: Config):
    if cfg.small:
        cfg.new_tokens = cfg.new_tokens or 64
    for name, value in SIZES["cuda" if cfg.cuda else "tiny"].items():
        setattr(cfg, name, getattr(cfg, name) or value)

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(machine("transformers", "trl"))
    if cfg.cuda:
        deepseek(cfg)
    else:
        tiny(cfg)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
