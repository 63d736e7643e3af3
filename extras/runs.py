"""What a run leaves behind: its folder with config, logs, rollouts and checkpoints.

OUT/config.json                  the flags, resolved
OUT/log.jsonl, valid.jsonl       a line a step, a line an evaluation
OUT/rollouts.jsonl               eight attempts a step
OUT/ckpt/student, ckpt/teacher   adapters in PEFT's file format
OUT/ckpt/state.pt                the step and the optimiser's state
OUT/kept/5/student, teacher      with --keep-every: those that made the attempts of step 5
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import shutil
import textwrap
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from extras import provers, ranks
from extras.endpoint import GivenUp
from fd_mini import LORA_ALPHA

# What the terminal shows of a step, each with its format.
SHOWN = (
    "pass:.2f loss:.4f kl:.3f kl_ref:.4f flat_groups:.2f entropy:.3f length:.1f cut:.2f"
).split()

# Flags that may change between a run and its --resume: its past does not depend on them.
FREE = "resume out steps eval_every save_every lean lean_timeout micro_tokens".split()
FREE += "dry_run card_gb tutor_card keep_every track".split()
# What else is remembered, and what is said where it differs.
DIGESTS = {
    "theorems": "the theorems of --data {data} are not those that",
    "base": "the weights of --model {model} are not those that",
}


# What a run writes before its first checkpoint.
EARLY = {"config.json", "log.jsonl", "valid.jsonl", "rollouts.jsonl", "ckpt.new", ".lock"}
EARLY |= {"kept", "tensorboard"}
# What reading a damaged file can raise: torch, safetensors, json and pickle have their own.
DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError)
DAMAGE += (SafetensorError, pickle.UnpicklingError)
# Flags that a run of an older version may not name, for its readers.
OLDER = dict(model="tiny", data="toy", max_new_tokens=80, lora_rank=32, seed=0, tools=False)


BOTH = ("student", "teacher")

# --- the folder


def open_run(cfg, run, optimizer):
    """Create or reopen cfg.out -> (its path, how many steps are done).

    ValueError when it holds something else, or another process works in it. What is resumed has
    the flags, the theorems and the base of before: config.json remembers digests of these. A run
    that ended before its first checkpoint starts over.
    """
    out = Path(cfg.out)
    theorems = hashlib.sha256(repr(run.theorems).encode()).hexdigest()
    mine = asdict(cfg) | {"theorems": theorems, "base": base_digest(run.policy)}
    names = {file.name for file in out.iterdir()} if out.is_dir() else set()
    config = read_config(out) if "config.json" in names else {}
    if cfg.resume:
        check_same_run(out, config, mine)
    elif ranks.FIRST and not (names <= EARLY and ("algo" in config or names <= {".lock"})):
        raise ValueError(
            f"--out {out} already holds files. Give another folder, or --resume to go on "
            "with the run in it."
        )

    if ranks.FIRST:
        out.mkdir(parents=True, exist_ok=True)
        lock(out)
    done = load_checkpoint(out, run.policy, optimizer) if cfg.resume else 0
    if ranks.FIRST:
        replace_text(out / "config.json", json.dumps(mine, indent=1))
        for name in ("log.jsonl", "rollouts.jsonl", "valid.jsonl"):
            keep_lines(out / name, done)
        for step, folder in kept(out).items():
            if step > done:
                shutil.rmtree(folder)
    return out, done


def refuse_unwritable(out):
    """ValueError, in one line, where nothing can be written into this folder."""
    there = Path(out)
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: nothing can be written into {there}. Give another folder.")


def free_folder(wanted, resume):
    """`wanted`, or wanted-2, wanted-3, ...: the first that is free; to resume the last that is
    there."""
    name, number = wanted, 1
    while Path(name).exists():
        last = name
        number += 1
        name = f"{wanted}-{number}"
    return last if resume and number > 1 else name


def lock(out):
    """Keep other processes from working in a folder, until this one ends, however it ends."""
    LOCKS.pop(out.resolve(), None)  # of a run that this process has finished
    file = (out / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"another process is training in {out}") from None
    LOCKS[out.resolve()] = file


LOCKS = {}  # open files; the system lets go of them with the process


def read_config(out):
    """The flags of a run, as a dict. ValueError when they cannot be read."""
    path = out / "config.json"
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except DAMAGE as error:
        raise ValueError(f"{path} cannot be read ({error}): is {out} a run?") from None


def check_same_run(out, theirs, mine):
    """ValueError unless `out` holds a run with these flags."""
    if "algo" not in theirs:
        raise ValueError(f"--resume: {out} holds no run. Leave --resume out to start one.")
    for name, advice in DIGESTS.items():
        if theirs.get(name, mine[name]) != mine[name]:
            raise ValueError(f"--resume: {advice.format(**mine)} {out} began with.")
    for name in mine.keys() & theirs.keys() - {*FREE, *DIGESTS}:
        if mine[name] != theirs[name]:
            flag = name.replace("_", "-")
            raise ValueError(
                f"--resume: {out} has --{flag} {theirs[name]}, not {mine[name]}. "
                "Keep its flags."
            )


def base_digest(policy):
    """What tells a base from another of the same shape: its norms and some rows of its head."""
    digest = hashlib.sha256()
    frozen = [p for p in policy.model.parameters() if p.dim() == 1 and not p.requires_grad]
    large = policy.head if policy.rank else policy.roles["base"][0]
    for tensor in (*frozen, large[:64]):
        rounded = tensor.detach().bfloat16().float()  # as on every device
        digest.update(rounded.cpu().numpy().tobytes())
    return digest.hexdigest()


def check_base(policy, folder):
    """ValueError when a run's adapters were trained on another base than this one."""
    theirs = read_config(Path(folder)).get("base")
    if theirs not in (None, base_digest(policy)):
        raise ValueError(
            f"{folder} was trained on another base than {policy.name}, of the same shape: "
            "use the --model that it began with"
        )


def load_run(folder, role, quantize):
    """(the policy of a run with this role's adapters, the run's config as a dict).

    ValueError when there is no run.
    """
    config = flags_of(folder)
    policy = provers.load(
        config["model"], config["lora_rank"], quantize, config["seed"]
    )
    check_base(policy, folder)
    restore(folder, policy, [role])
    return policy, config


def flags_of(folder):
    """The flags of a run, as a dict. ValueError where there is none that could be read."""
    if not find_checkpoints(folder):
        raise ValueError(
            f"{folder} holds no run with a checkpoint. Train one: python train.py --out {folder}"
        )
    return OLDER | read_config(Path(folder))


# --- checkpoints


def find_checkpoints(out):
    """The checkpoints of a run, the newest first: ckpt, and ckpt.old, the one before it."""
    folders = (Path(out) / "ckpt", Path(out) / "ckpt.old")
    return [folder for folder in folders if (folder / "state.pt").is_file()]


def restore(out, policy, roles=BOTH):
    """The newest checkpoint that can be read, into these roles of a policy -> its state.

    ValueError when none can; nothing was changed then.
    """
    problems = []
    for folder in find_checkpoints(out):
        try:
            # What was saved on a card can be read without one; the optimiser moves it back.
            state = torch.load(folder / "state.pt", "cpu", weights_only=True)
            state["step"], state["optimizers"]
            take_adapters(policy, folder, roles)
        except DAMAGE as error:
            problems.append(f"{folder}: {' '.join(str(error).split())[:300]}")
            continue
        if problems:
            print(f"{problems[0]}. Step {state['step']}, saved before it, is taken")
        return state | {"folder": folder}
    raise ValueError("; ".join(problems) or f"{out}: no checkpoint there. Give the folder of a run.")


def save_checkpoint(out, policy, optimizer, step):
    """Adapters, optimiser and step, under a temporary name until all of it is on disk. The
    checkpoint before stays as ckpt.old, unless the disk is full.

    Nothing else is needed to go on: what is drawn in a step is seeded by (seed, step).
    """
    if not ranks.FIRST:
        return
    new, old, final = out / "ckpt.new", out / "ckpt.old", out / "ckpt"
    try:
        write_checkpoint(new, policy, optimizer, step)
    except OSError:
        if not old.exists():
            raise
        shutil.rmtree(old)
        write_checkpoint(new, policy, optimizer, step)

    if final in find_checkpoints(out):
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    shutil.rmtree(final, ignore_errors=True)  # half of one
    new.rename(final)
    flush(out)


def write_checkpoint(folder, policy, optimizer, step):
    """A checkpoint in a new folder, on the disk itself before this returns. OSError.

    optimizer None: the adapters alone, which no run can go on from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for role in BOTH:
            save_adapters(policy, folder / role, role)
        if optimizer:
            state = {"step": step, "optimizers": [optimizer.state_dict()]}
            torch.save(state, folder / "state.pt")
    except (RuntimeError, SafetensorError) as error:  # what the writers call a full disk
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(f"{folder} cannot be written: {str(error).splitlines()[0]}") from None
    for path in (*folder.rglob("*"), folder):
        flush(path)


def keep(out, policy, step):
    """Both models as they are, for the heat map: those that made the attempts of this step."""
    new = out / "kept" / "new"
    write_checkpoint(new, policy, None, step)
    replace_folder(new, new.with_name(str(step)))


def kept(out):
    """{step: folder} of what keep() has written."""
    folders = Path(out).glob("kept/*")
    return {int(folder.name): folder for folder in folders if folder.name.isdecimal()}


def flush(path):
    """Have the system write a file or folder to the disk now: a power cut may come."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(out, policy, optimizer):
    """The newest checkpoint into the policy and its optimiser -> the step it was saved after, 0
    where there is none."""
    if not find_checkpoints(out):
        return 0
    state = restore(out, policy)
    if len(state["optimizers"]) != 1:
        raise ValueError(
            f"--resume: {out} is a warm-up by an older version, with two optimisers. "
            "Start it anew: python -m toy.warm_up"
        )
    optimizer.load_state_dict(state["optimizers"][0])
    for newer in find_checkpoints(out):
        if newer == state["folder"]:
            break
        shutil.rmtree(newer)  # it cannot be read, and would take the place of this one
    return state["step"]


def trained_names(policy):
    """The names of the trained parameters, in the order of a role's tensors."""
    return [name for name, p in policy.model.named_parameters() if p.requires_grad]


def save_adapters(policy, folder, role="student"):
    """Write a role: an adapter in PEFT's file format or, at rank 0, a whole model."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if policy.rank == 0:
        with policy.act_as(role):
            policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        return

    names = trained_names(policy)
    tensors = {}
    for name, tensor in zip(names, policy.roles[role]):
        tensors[f"base_model.model.{name}"] = tensor.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")

    suffix = ".lora_A.weight"
    targets = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    config = dict(
        peft_type="LORA",
        task_type="CAUSAL_LM",
        base_model_name_or_path=policy.name,
        r=policy.rank,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0,
        target_modules=targets,
    )
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def read_adapters(policy, folder):
    """What save_adapters wrote, as tensors in the order of a role's."""
    path = Path(folder) / (
        "adapter_model.safetensors" if policy.rank else "model.safetensors"
    )
    saved = {}
    with contextlib.suppress(OSError, SafetensorError):
        for name, tensor in load_file(path).items():
            saved[name.removeprefix("base_model.model.")] = tensor
    names = trained_names(policy)
    ours = {name: p.shape for name, p in zip(names, policy.student)}
    if {name: tensor.shape for name, tensor in saved.items()} != ours:
        raise ValueError(
            f"{path} is missing, damaged, or does not fit: use the --model and --lora-rank it was "
            "written with"
        )
    if not all(tensor.isfinite().all() for tensor in saved.values()):
        raise ValueError(f"{path} holds numbers that are not finite")
    return [saved[name] for name in names]


@torch.no_grad()
def take_adapters(policy, folder, roles=BOTH):
    """What save_adapters wrote for these roles, into the policy: all of it, or nothing."""
    tensors = [read_adapters(policy, folder / role) for role in roles]
    for role, saved in zip(roles, tensors):
        for ours, theirs in zip(policy.roles[role], saved):
            ours.copy_(theirs)


# --- logs


def append(path, *rows):
    """Add rows to a jsonl file; the first process alone does."""
    if ranks.FIRST:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_lines(path):
    """The rows of a jsonl file; what is no row (a torn last line) is left out. [] where there is
    no file."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            rows.append(dict(json.loads(line)))
    return rows


def keep_lines(path, step):
    """Drop the rows of steps after `step`: they were run, but not saved, before the stop."""
    if not ranks.FIRST or not path.is_file():
        return
    rows = [row for row in read_lines(path) if row.get("step", 0) <= step]
    kept = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if kept != path.read_text(encoding="utf-8", errors="replace"):
        replace_text(path, kept)


def replace_folder(new, target):
    """A finished folder in the place of another, or after a crash that one beside it, as .old."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def replace_text(path, text):
    """Write a file anew: all of it, or after a power cut what was there."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    flush(beside)
    beside.replace(path)


def record(step, rollout):
    """A rollout as a row of rollouts.jsonl."""
    theorem, verdict = rollout.theorem, rollout.verdict
    row = {"step": step, "name": theorem.name, "header": theorem.header}
    row |= {"statement": theorem.statement, "status": verdict.status}
    row["messages"] = verdict.messages
    for name in (
        "text",
        "chat",
        "file",
        "feedback",
        "finished",
        "prompt_ids",
        "completion_ids",
    ):
        row[name] = getattr(rollout, name)
    return row


def attempt_metrics(rollouts):
    """What the log shows of a step's judged attempts, of all processes.

    "pass" is None when Lean failed on every one of them.
    """
    statuses = [r.verdict.status for r in rollouts]
    n = ranks.total(
        dict(
            attempts=len(rollouts),
            judged=sum(r.verdict.judged for r in rollouts),
            proved=statuses.count("proved"),
            cheats=statuses.count("cheat"),
            tokens=sum(len(r.completion_ids) for r in rollouts),
            cut=sum(not r.finished for r in rollouts),
            called=sum(not all(r.sampled) for r in rollouts),
        )
    )
    return {
        "pass": n["proved"] / n["judged"] if n["judged"] else None,
        "lean_failures": n["attempts"] - n["judged"],
        "cheats": n["cheats"],
        "length": n["tokens"] / n["attempts"],
        "cut": n["cut"] / n["attempts"],
        "called": n["called"] / n["attempts"],
    }


def share_of_attempts(attempts, **count):
    """A count as a share of the attempts, of all processes."""
    n = ranks.total({"attempts": attempts, **count})
    return {name: n[name] / n["attempts"] for name in count}


def tell(source, rollouts, step):
    """Feedback about each attempt, from source.write, into rollout.feedback -> metrics.

    RuntimeError, in all processes, when nobody got any or one had to give up its endpoint.
    """
    trouble = ""
    try:
        texts = source.write(rollouts)
    except GivenUp as error:
        texts = [None] * len(rollouts)
        trouble = f": {error}"
    for rollout, text in zip(rollouts, texts):
        rollout.feedback = text

    counts = dict(attempts=len(texts), told=len(texts) - texts.count(None))
    counts["tokens"] = source.endpoint.tokens if source.endpoint else 0
    counts["stops"] = len(trouble)
    attempts, told, tokens, stops = ranks.total(counts).values()
    if stops or not told:
        raise RuntimeError(
            f"feedback for only {told} of {attempts} attempts of step {step}{trouble}. The step "
            "does not count, and whatever was trained before is saved: --resume goes on, perhaps "
            "with more theorems a step or another --feedback."
        )
    return {"feedback": told / attempts, "feedback_tokens": tokens}


def show_step(step, steps, metrics, rollouts):
    """What the terminal shows of a step."""
    print(step_line(step, steps, metrics), flush=True)
    if rollouts and step % 10 == 1:
        print(show_attempt(rollouts[0]), flush=True)


def step_line(step, steps, metrics):
    """The readable line of a step; log.jsonl has the rest."""
    shown = []
    for metric in SHOWN:
        name, form = metric.split(":")
        if name in metrics:
            shown.append(f"{name} {metrics[name]:{form}}")

    clocks = []
    for name in ("sample", "lean", "feedback", "train"):
        if f"s_{name}" in metrics:
            clocks.append(f"{name} {metrics[f's_{name}']:.1f}")
    phases = f" ({' '.join(clocks)})" if clocks else ""
    width = len(str(steps))
    return f"step {step:{width}}/{steps}  {'  '.join(shown)}  {metrics['seconds']:.1f} s{phases}"


def show_attempt(rollout):
    """An attempt as text: statement, what was written, what Lean and the feedback said."""
    said = rollout.verdict.status
    for message in rollout.verdict.messages[:1]:
        said += f" · line {message['line']}: {message['data']}"
    text = f"{rollout.theorem.statement} := by\n{rollout.text}\nLean: {said}"
    if rollout.feedback:
        text += f"\n{rollout.feedback}"
    return textwrap.indent(text, "    | ")
