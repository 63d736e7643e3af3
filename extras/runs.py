"""What a run leaves behind: its folder with config, logs, rollouts and checkpoints.

OUT/config.json                  the flags, resolved
OUT/log.jsonl, valid.jsonl       a line a step, a line an evaluation
OUT/rollouts.jsonl               eight attempts a step
OUT/ckpt/student, ckpt/teacher   adapters in PEFT's file format
OUT/ckpt/state.pt                the step and the optimiser's state
"""

import contextlib
import hashlib
import json
import shutil
import signal
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from extras import provers, ranks
from extras.endpoint import GivenUp
from fd_mini import LORA_ALPHA

# What the terminal shows of a step, each with its format.
SHOWN = (
    "pass:.2f loss:.4f kl:.3f kl_ref:.4f flat_groups:.2f entropy:.3f length:.1f cut:.2f"
).split()

# Flags that may change between a run and its --resume: its past does not depend on them.
FREE = "resume steps eval_every save_every lean lean_timeout micro_tokens".split()


# --- the folder


def open_run(cfg, run, optimizer):
    """Create or reopen cfg.out -> (its path, how many steps are done).

    ValueError when it holds another run, or none to resume. What is resumed has the flags and
    the theorems of before: config.json remembers a digest of these.
    """
    out = Path(cfg.out)
    digest = hashlib.sha256(repr(run.theorems).encode()).hexdigest()
    mine = asdict(cfg) | {"theorems": digest}
    if cfg.resume:
        check_same_run(out, mine)
    elif ranks.FIRST and out.exists() and any(out.iterdir()):
        raise ValueError(
            f"--out {out} already holds files. Give another folder, or --resume to go on "
            "with the run in it."
        )
    done = load_checkpoint(out, run.policy, optimizer) if cfg.resume else 0
    if ranks.FIRST:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(mine, indent=1))
        for name in ("log.jsonl", "rollouts.jsonl"):
            keep_lines(out / name, done)
    return out, done


def check_same_run(out, mine):
    """ValueError unless `out` holds a run with a checkpoint and these flags."""
    if not (out / "config.json").is_file() or not find_checkpoint(out):
        raise ValueError(
            f"--resume: {out} holds no run with a checkpoint. Leave --resume out to start one."
        )
    theirs = json.loads((out / "config.json").read_text())
    if theirs.get("theorems", mine["theorems"]) != mine["theorems"]:
        raise ValueError(
            f"--resume: the theorems of --data {mine['data']} are not those that {out} began "
            "with. Bring them back, or start another run."
        )
    for name in mine.keys() - {*FREE, "theorems"}:
        if mine[name] != theirs.get(name):
            flag = name.replace("_", "-")
            raise ValueError(
                f"--resume: {out} has --{flag} {theirs.get(name)}, not {mine[name]}. "
                "Keep its flags."
            )


def load_run(folder, role, quantize):
    """(the policy of a run with this role's adapters, the run's config as a dict).

    ValueError when there is no run.
    """
    out = Path(folder)
    if not (out / "ckpt" / "state.pt").is_file():
        raise ValueError(
            f"{folder} holds no run with a checkpoint. Train one: python train.py --out {folder}"
        )
    config = json.loads((out / "config.json").read_text())
    policy = provers.load(
        config["model"], config["lora_rank"], quantize, config["seed"]
    )
    load_adapters(policy, out / "ckpt" / role, role)
    return policy, config


# --- checkpoints


def find_checkpoint(out):
    """The newest whole checkpoint: ckpt, or ckpt.old if the machine died between renames."""
    for folder in (out / "ckpt", out / "ckpt.old"):
        if (folder / "state.pt").is_file():
            return folder
    return None


def save_checkpoint(out, policy, optimizer, step):
    """Adapters, optimiser and step, under a temporary name until all of it is on disk.

    Nothing else is needed to go on: what is drawn in a step is seeded by (seed, step).
    """
    if not ranks.FIRST:
        return
    new, old, final = out / "ckpt.new", out / "ckpt.old", out / "ckpt"
    shutil.rmtree(new, ignore_errors=True)
    for role in ("student", "teacher"):
        save_adapters(policy, new / role, role)
    state = {"step": step, "optimizers": [optimizer.state_dict()]}
    torch.save(state, new / "state.pt")

    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(out, policy, optimizer):
    """The newest checkpoint into the policy and its optimiser -> the step it was saved after."""
    folder = find_checkpoint(out)
    state = torch.load(folder / "state.pt", weights_only=True)
    if len(state["optimizers"]) != 1:
        raise ValueError(
            f"--resume: {out} is a warm-up by an older version, with two optimisers. "
            "Start it anew: python -m toy.warm_up"
        )
    for role in ("student", "teacher"):
        load_adapters(policy, folder / role, role)
    optimizer.load_state_dict(state["optimizers"][0])
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


@torch.no_grad()
def load_adapters(policy, folder, role="student"):
    """Read what save_adapters wrote, in place: an optimiser keeps its tensors.

    ValueError when it is missing or does not fit.
    """
    path = Path(folder) / (
        "adapter_model.safetensors" if policy.rank else "model.safetensors"
    )
    saved = {}
    if path.is_file():
        for name, tensor in load_file(path).items():
            saved[name.removeprefix("base_model.model.")] = tensor
    names = trained_names(policy)
    ours = {name: p.shape for name, p in zip(names, policy.student)}
    if {name: tensor.shape for name, tensor in saved.items()} != ours:
        raise ValueError(
            f"{path} is missing or does not fit: use the --model and --lora-rank it was "
            "written with"
        )
    for name, tensor in zip(names, policy.roles[role]):
        tensor.copy_(saved[name])


# --- logs


def append(path, *rows):
    """Add rows to a jsonl file; the first process alone does."""
    if ranks.FIRST:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_lines(path):
    """The rows of a jsonl file, a torn last line left out; [] where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def keep_lines(path, step):
    """Drop the rows of steps after `step`: they were run, but not saved, before the stop."""
    if ranks.FIRST:
        rows = [row for row in read_lines(path) if row["step"] <= step]
        path.write_text("")
        append(path, *rows)


def record(step, rollout):
    """A rollout as a row of rollouts.jsonl."""
    theorem, verdict = rollout.theorem, rollout.verdict
    row = {"step": step, "name": theorem.name, "header": theorem.header}
    row |= {"statement": theorem.statement, "status": verdict.status}
    row["messages"] = verdict.messages
    for name in (
        "text",
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


def log_step(out, step, steps, metrics, rollouts):
    """A step's line in the log, eight of its attempts, and what the terminal shows."""
    append(out / "log.jsonl", {"step": step, **metrics})
    append(out / "rollouts.jsonl", *(record(step, r) for r in rollouts[:8]))
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


# --- stopping


@contextlib.contextmanager
def stoppable():
    """`with stoppable() as stop:` stop() is True after the first Ctrl-C or SIGTERM, to anybody.

    The loop asks after each step. The second one ends a single process at once.
    """
    signals = []

    def handle(*_):
        if signals and ranks.WORLD == 1:
            sys.exit(130)
        signals.append(True)

    def stop():
        return ranks.total({"signals": len(signals)})["signals"] > 0

    handlers = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    yield stop
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_saying_how_to_resume(step):
    """Exit, after telling how to go on."""
    flags = " ".join(arg for arg in sys.argv[1:] if arg != "--resume")
    start = "python"
    if ranks.WORLD > 1:
        start = f"torchrun --standalone --nproc_per_node={ranks.WORLD}"
    print(
        f"stopped after step {step}, everything is saved. "
        f"Go on with: {start} train.py {flags} --resume"
    )
    sys.exit(130)
