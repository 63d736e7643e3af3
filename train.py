"""Feedback Distillation (arXiv 2605.30861): a prover learns to do without the advice it was given.

    python train.py                  # a tiny prover, the embedded Lean, the offline tutor: minutes
    python train.py --algo grpo      # the baseline; with --init out/fd: GRPO over FD
    python train.py --model deepseek-prover-1.5b --lean-project DIR --feedback ollama:qwen3:8b

Kept from the paper: the loss (cross-entropy against the teacher's top 25 tokens, true
log-probabilities, nothing renormalised), on-policy samples at one per prompt, feedback after
every attempt, right or wrong, the teacher as an exponential moving average of the student (0.9
every 5 optimiser steps), linear warm-up; GRPO with groups of 5 and KL 0.001.
Changed: LoRA adapters on a frozen base, and learning rates to match; 32 to 64 prompts a step;
the loss is divided by the batch's count of sampled tokens.
Left out: several machines, a separate sampling engine, replay.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import extras  # first: while torch is imported a Ctrl-C is one line, too
import torch

import fd_mini
from data import load_theorems, screen
from eval import evaluate, roll_out
from extras import flags, imitation, memory, provers, ranks, runs
from extras.neighbour import advisor
from extras.progress import Progress
from extras.prompts import prompt_for, with_room
from extras.speaker import speaker
from extras.stops import run_command, stoppable
from feedback import Feedback
from lean_env import LeanEnv, Theorem

# What a flag left at None means (lr by --algo). TOY was chosen on the toy's validation split.
# REAL is a place to start a sweep: adapters want about ten times the learning rate of full
# fine-tuning.
TOY = dict(
    steps=60,
    prompts_per_step=64,
    max_new_tokens=80,
    micro_tokens=2048,
    warmup=10,
    lean_timeout=10.0,
    lr=1e-3,
)
REAL = dict(
    steps=500,
    prompts_per_step=32,
    max_new_tokens=1024,
    warmup=50,
    lean_timeout=60.0,
    lr=dict(fd=1e-4, grpo=1e-5, sft=1e-4),
)
GROUPS = dict(group_size=dict(fd=1, grpo=5, sft=1))


@dataclass
class Config:
    """One training run. Values left at None depend on the model: TOY and REAL in train.py."""

    # tiny, deepseek-prover-1.5b, kimina-prover-1.7b, qwen3-8b, ..., a hub id or a local folder
    model: str = "tiny"
    # which loss: feedback distillation, GRPO, or imitation of the data's proofs
    algo: Literal["fd", "grpo", "sft"] = "fd"
    # who advises: tutor, lean, truth, self, const:TEXT, ollama:MODEL[@URL], openai:..., FILE.py:NAME
    feedback: str = "tutor"
    # a local Ollama on the policy's card: in turns, shared (the plan has what is left), or cpu
    tutor_card: Literal["turns", "shared", "cpu"] = "turns"
    # how much structure the advice must have (the paper's four nested prompts)
    feedback_style: Literal[1, 2, 3, 4] = 4
    # theorems to train on: toy, lean-workbook, or a jsonl file with name, statement, header, proof
    data: str = "toy"
    # theorems for --eval-every: minif2f, proofnet, lean-workbook, a jsonl file (the toy has its own)
    valid: str = ""
    # folder of this run; empty: out/ALGO
    out: str = ""
    # start from the adapters of this run's folder, with a fresh optimiser (GRPO over FD)
    init: str = ""
    # go on with the run in --out
    resume: bool = False
    # optimiser steps
    steps: int | None = None
    # theorems in a step
    prompts_per_step: int | None = None
    # attempts per theorem; None: 1 for fd, 5 for grpo
    group_size: int | None = None
    # learning rate after warm-up
    lr: float | None = None
    # steps of linear warm-up
    warmup: int | None = None
    # how many of the teacher's tokens the loss sees at each position
    top_k: int = 25
    # probability outside the top k: drop it (the paper), bucket it; or reverse the KL (ours)
    tail: Literal[*fd_mini.LOSSES] = "drop"
    # how much of itself the teacher keeps at an update: 1 frozen, 0 a copy of the student
    ema_alpha: float = 0.9
    # optimiser steps between teacher updates
    ema_every: int = 5
    # GRPO: weight of the KL to where the run started
    kl_coef: float = 0.001
    # longest attempt, in tokens
    max_new_tokens: int | None = None
    # tokens in one forward pass (None: as memory allows); the gradient stays the same
    micro_tokens: int | None = None
    # rank of the adapters; 0 trains all weights
    lora_rank: int = 32
    # 4-bit base: auto means above 4 billion parameters, on a GPU
    quantize: Literal["auto", "nf4", "none"] = "auto"
    # attempts may call the paper's three tools (extras/tool_mode.py); the toy: --model tiny-tools
    tools: bool = False
    # of adapters, theorems and attempts
    seed: int = 0
    # steps between evaluations on the validation theorems; 0: never
    eval_every: int = 10
    # steps between checkpoints
    save_every: int = 20
    # steps between adapters that are kept for eval.py --show, to see with them; 0: none are
    keep_every: int = 0
    # also send the numbers to tensorboard (in OUT/tensorboard), wandb or trackio
    track: Literal["", "tensorboard", "wandb", "trackio"] = ""
    # auto, wheel, the path of a lean executable, kimina:URL (a server), or dojo:REPO@COMMIT
    lean: str = "auto"
    # a Lake project to check proofs in
    lean_project: str = ""
    # seconds that Lean may take for one proof
    lean_timeout: float | None = None
    # only say whether a step fits on a card: the plan, and the real code on tensors without memory
    dry_run: bool = False
    # of that card
    card_gb: float = 24


@dataclass
class Run:
    """What the steps of a run share."""

    policy: fd_mini.Policy  # its .student is the list of tensors that train
    env: LeanEnv | None  # None for imitation without validation
    source: Feedback | None  # who advises; None unless --algo fd
    theorems: list[Theorem]
    valid: list[Theorem]


# ---- 1. One step -----------------------------------------------------------------------------
#
# A step makes attempts, leaves its gradient in policy.student, and returns (metrics, rollouts).
# With several cards each process has its share of the theorems, and ranks.combine() adds up
# gradients and losses. In a single process what is called `ranks` passes its argument through.


def fd_step(cfg: Config, run: Run, theorems: list[Theorem], step: int):
    """Sample, judge, tell, and leave the gradient of FD in the student -> (metrics, rollouts)

    RuntimeError when no attempt got feedback, in all processes.
    """
    policy = run.policy
    metrics, rollouts = sample_and_judge(cfg, run, theorems, step)

    clock = time.perf_counter()
    # run.source writes about every attempt, right or wrong. None: Lean failed on it, or nobody
    # could say anything. Nothing is learnt from such an attempt.
    metrics |= runs.tell(run.source, rollouts, step)
    told = [r for r in rollouts if r.feedback is not None]
    metrics["s_feedback"] = time.perf_counter() - clock

    clock = time.perf_counter()
    teacher_prompts = [
        prompt_for(policy, r.theorem, r.feedback, cfg.max_new_tokens) for r in told
    ]
    losses = fd_mini.fd_backward(
        policy,
        [r.prompt_ids for r in told],
        teacher_prompts,
        [r.completion_ids for r in told],
        [r.sampled for r in told],  # False for what a tool printed
        top_k=cfg.top_k,
        tail=cfg.tail,
        micro_tokens=cfg.micro_tokens,
    )
    metrics |= ranks.combine(policy.student, losses)
    metrics["s_train"] = time.perf_counter() - clock
    return metrics, rollouts


def grpo_step(cfg: Config, run: Run, theorems: list[Theorem], step: int):
    """Sample, judge, and leave the gradient of GRPO in the student -> (metrics, rollouts)"""
    metrics, rollouts = sample_and_judge(cfg, run, theorems, step)

    clock = time.perf_counter()
    proved = [float(r.verdict.status == "proved") for r in rollouts]
    judged = [r.verdict.judged for r in rollouts]
    rewards = torch.tensor(proved).view(-1, cfg.group_size)  # [B, G]
    judged = torch.tensor(judged).view(-1, cfg.group_size)  # [B, G]
    # An attempt on which Lean failed gets the mean reward of the others in its group, and so the
    # advantage 0; the KL to the reference still acts on it.
    count = judged.sum(1, keepdim=True).clamp(min=1)  # [B, 1]
    mean = (rewards * judged).sum(1, keepdim=True) / count
    rewards = torch.where(judged, rewards, mean)

    # Groups of equal rewards have no signal; counted in attempts, as everything in the log.
    flat = (rewards == rewards[:, :1]).all(1).sum().item()
    metrics |= runs.share_of_attempts(
        flat_groups=flat * cfg.group_size, attempts=len(rollouts)
    )
    losses = fd_mini.grpo_backward(
        run.policy,
        [r.prompt_ids for r in rollouts],
        [r.completion_ids for r in rollouts],
        [r.sampled for r in rollouts],
        fd_mini.group_advantages(rewards).flatten().tolist(),
        kl_coef=cfg.kl_coef,
        micro_tokens=cfg.micro_tokens,
    )
    metrics |= ranks.combine(run.policy.student, losses)
    metrics["s_train"] = time.perf_counter() - clock
    return metrics, rollouts


STEPS = {"fd": fd_step, "grpo": grpo_step, "sft": imitation.sft_step}


def sample_and_judge(cfg: Config, run: Run, theorems: list[Theorem], step: int):
    """group_size attempts at each theorem, judged by Lean -> (metrics, rollouts)

    RuntimeError when Lean failed on every one of them, in all processes.
    """
    seconds = {}  # of sampling and of Lean, from roll_out
    attempts = [theorem for theorem in theorems for _ in range(cfg.group_size)]
    # Seeded by (seed, step), so that a resumed run samples what it would have sampled. The sizes
    # let each process skip the numbers of the attempts before its own.
    generator = ranks.generator(
        cfg.seed * 1_000_003 + step,
        cfg.prompts_per_step,
        cfg.group_size,
        cfg.max_new_tokens,
    )
    rollouts = roll_out(
        run.policy, run.env, attempts, cfg.max_new_tokens, generator, timings=seconds
    )
    metrics = runs.attempt_metrics(rollouts)
    if metrics["pass"] is None:
        raise RuntimeError(
            f"Lean failed ({rollouts[0].verdict.status}) on every attempt of step {step}: raise "
            "--lean-timeout, or try another --lean. Whatever was trained before is saved: "
            "--resume goes on."
        )
    return metrics | seconds, rollouts


def draw_theorems(theorems: list, step: int, count: int, seed: int) -> list:
    """The `count` theorems of this step (the first is 1): a fresh random order in each epoch.

    A function of seed and step alone, so that a resumed run draws what it would have drawn.
    """
    drawn = []
    for position in range((step - 1) * count, step * count):
        epoch, place = divmod(position, len(theorems))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(theorems), generator=generator)
        drawn.append(theorems[order[place]])
    return drawn


def lr_at(cfg: Config, step: int) -> float:
    """Linear warm-up, then constant; imitation also decays linearly to zero."""
    lr = cfg.lr * min(1.0, step / max(cfg.warmup, 1))
    if cfg.algo == "sft":
        lr *= 1 - (step - 1) / cfg.steps
    return lr


# ---- 2. The loop -----------------------------------------------------------------------------


def train(cfg: Config) -> Path:
    """Run `cfg` to its last step -> the run's folder. After a Ctrl-C the process exits."""
    resolve(cfg)  # fills cfg in
    if cfg.dry_run:
        from extras import dry_run  # not part of a first reading

        return dry_run.main(cfg)
    run = prepare(cfg)
    policy = run.policy
    optimizer = torch.optim.AdamW(policy.student, lr=cfg.lr, weight_decay=0.0)
    out, done = runs.open_run(cfg, run, optimizer)
    lean = run.env.describe() if run.env else "no Lean needed"
    print(f"{cfg.algo} · {policy.name} · {len(run.theorems)} theorems · {lean} · {out}")

    progress = Progress(cfg, out, policy, optimizer, done)
    with stoppable(progress.save) as stop:
        for step in range(done + 1, cfg.steps + 1):
            # Without validation theorems (or with --eval-every 0) `valid` is empty.
            if run.valid and (step - 1) % cfg.eval_every == 0:
                validate(cfg, run, progress, step - 1)

            clock = time.perf_counter()
            theorems = draw_theorems(run.theorems, step, cfg.prompts_per_step, cfg.seed)
            theorems = ranks.share(theorems)
            metrics, rollouts = STEPS[cfg.algo](cfg, run, theorems, step)

            norm = torch.nn.utils.clip_grad_norm_(policy.student, 1.0).item()
            seconds = time.perf_counter() - clock
            metrics |= dict(grad_norm=norm, lr=lr_at(cfg, step), seconds=seconds)
            with stop.held():  # a step is logged and done, or neither
                progress.log(step, metrics, rollouts)
                if math.isfinite(norm):  # a bad batch must not poison Adam's averages
                    optimizer.param_groups[0]["lr"] = lr_at(cfg, step)
                    optimizer.step()
                if cfg.algo == "fd" and step % cfg.ema_every == 0:
                    fd_mini.ema_update_(policy.teacher, policy.student, cfg.ema_alpha)
                optimizer.zero_grad()  # sampling needs their memory
                progress.done = step

            runs.show_step(step, cfg.steps, metrics, rollouts)
            # From the second step on Adam has its averages.
            if step == done + 2 and policy.device.type == "cuda":
                print(memory.measured(policy))
            if stop():  # was there a Ctrl-C?
                raise KeyboardInterrupt
            if step % cfg.save_every == 0 or step == cfg.steps:
                with stop.held():
                    progress.save()

        if run.valid:
            validate(cfg, run, progress, cfg.steps)
    return out


def validate(cfg: Config, run: Run, progress: Progress, step: int):
    """One attempt at each validation theorem, on the terminal and in valid.jsonl."""
    result = evaluate(
        run.policy, run.env, run.valid, 1, cfg.max_new_tokens, seed=cfg.seed
    )
    progress.validated(step, result)
    names = "pass@1", "entropy", "length"
    shown = [f"{name} {result.get(name, math.nan):.3f}" for name in names]
    print(f"  validation after step {step}: {'  '.join(shown)}", flush=True)


# ---- 3. Before the first step ----------------------------------------------------------------


def resolve(cfg: Config) -> Config:
    """Fill in what depends on the model, and refuse what makes no sense: ValueError."""
    defaults = GROUPS | (TOY if cfg.model.startswith("tiny") else REAL)
    for name, value in defaults.items():
        if getattr(cfg, name) is None:
            value = value[cfg.algo] if isinstance(value, dict) else value
            setattr(cfg, name, value)
    cfg.out = cfg.out or runs.free_folder(f"out/{cfg.algo}", cfg.resume)

    flags.refuse_nonsense(cfg)
    return cfg


def prepare(cfg: Config) -> Run:
    """Everything a run needs, checked before anything is written."""
    ranks.join(cfg.prompts_per_step)
    theorems = imitation.imitable(cfg, load_theorems(cfg.data, "train"))
    valid = flags.validation(cfg)
    reader = provers.reader(cfg.model)
    reader.tools = cfg.tools
    # What is too long for the model is named and left out.
    theorems = with_room(reader, theorems, cfg.max_new_tokens, cfg.algo == "sft")
    valid = with_room(reader, valid, cfg.max_new_tokens)

    env = None
    if valid or cfg.algo != "sft":
        env = LeanEnv(cfg.lean, cfg.lean_project or None, timeout=cfg.lean_timeout)

    def generate(texts):
        return speaker(policy)(texts)  # when it is asked there is a policy

    # Before the policy: an endpoint that cannot be reached ends the run here, and the memory plan
    # sees what a language model on the same card leaves.
    source = None
    if cfg.algo == "fd":
        source = advisor(cfg.feedback, cfg.feedback_style, generate, cfg.tutor_card)
    policy = provers.load(cfg.model, cfg.lora_rank, cfg.quantize, cfg.seed)
    policy.tools = cfg.tools
    if policy.device.type == "cuda":
        memory.fit(cfg, policy)  # prints the memory plan, and takes batch sizes from it
    cfg.micro_tokens = cfg.micro_tokens or 8192
    only_toy = cfg.data == "toy" and not cfg.valid
    if env and ranks.FIRST and not only_toy:
        # Statements that this Lean cannot read are named and left out.
        theorems, valid = screen(env, theorems, valid)
    theorems = ranks.from_first(theorems)
    flags.say_of_repeats(cfg, theorems)

    if cfg.init:
        runs.restore(cfg.init, policy, ["student"])
        runs.check_base(policy, cfg.init)
        # The teacher starts as the student.
        fd_mini.ema_update_(policy.teacher, policy.student, 0.0)
    if cfg.algo == "grpo":
        # Its KL is measured from where this run starts.
        policy.roles["reference"] = [
            tensor.clone() for tensor in policy.roles["student"]
        ]
    return Run(policy, env, source, theorems, valid)


def main(args=None):
    run_command("train.py", train, Config, __doc__, args)


if __name__ == "__main__":
    main()
