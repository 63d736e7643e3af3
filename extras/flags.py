"""Which flags make no sense, alone, together, or with these data; and what must be said of them."""

import math
import sys
from os.path import expanduser
from pathlib import Path

from data import load_theorems
from extras import ranks, runs, track

POSITIVE = (
    "steps prompts_per_step group_size lr top_k ema_every max_new_tokens micro_tokens "
    "save_every lean_timeout card_gb"
).split()
NOT_NEGATIVE = "warmup kl_coef lora_rank eval_every keep_every".split()
# Beyond these a number is a slip.
MOST = {
    "lr": (0.1, "adapters want about 1e-5 to 1e-3"),
    "top_k": (4096, "the paper's is 25"),
    "lora_rank": (1024, "8 to 256 is usual, and 0 trains all weights"),
}
# What each seed is multiplied by has to fit into 64 bits.
LARGEST_SEED = 2**32
# At most this many theorems take part in a validation.
VALID = 128

# What goes with flags of eval.py that ask for something else than a table.
ALONE = dict(show="problem text out quantize", watch="runs")
PLACES = "model data valid out init lean lean_project show runs".split()


def refuse_nonsense(cfg):
    """ValueError, in one line, for flags of train.py that cannot be meant; None is not looked
    at. Fills in what `~` stands for."""
    for name in (*POSITIVE, *NOT_NEGATIVE):
        value = getattr(cfg, name)
        if (
            value is None
            or 0 < value < math.inf
            or (value == 0 and name in NOT_NEGATIVE)
        ):
            continue
        bound = "above 0" if name in POSITIVE else "0 or more"
        raise ValueError(f"{flag(name)} must be {bound}, not {value}")
    for name, (most, usual) in MOST.items():
        if getattr(cfg, name) > most:
            raise ValueError(f"{flag(name)} {getattr(cfg, name)} is absurd: {usual}")

    if not 0 <= cfg.ema_alpha <= 1:
        raise ValueError(
            "--ema-alpha must lie between 0 (copy the student) and 1 (frozen), "
            f"not {cfg.ema_alpha}"
        )
    if cfg.algo == "grpo" and cfg.group_size < 2:
        raise ValueError(
            "--group-size must be at least 2 for grpo, which compares attempts at one theorem"
        )
    refuse_everywhere(cfg)
    if not cfg.resume:  # what has run so may go on so
        refuse_unused_in_training(cfg)
    runs.refuse_unwritable(cfg.out)
    track.refuse_missing(cfg.track)


def refuse_everywhere(cfg):
    """What train.py and eval.py refuse alike."""
    for name in set(PLACES) & vars(cfg).keys():
        value = getattr(cfg, name)
        # As a shell writes it, where no shell has read it: --out=~/run.
        several = isinstance(value, tuple)
        setattr(cfg, name, tuple(map(expanduser, value)) if several else expanduser(value))

    if abs(cfg.seed) > LARGEST_SEED:
        raise ValueError(f"--seed must be at most {LARGEST_SEED}, not {cfg.seed}")
    kind, _, text = cfg.feedback.partition(":")
    if kind == "const" and not text.strip():
        raise ValueError("--feedback const:TEXT needs its text, for example 'const:Be concise.'")
    if (Path(cfg.model) / "ckpt").is_dir():
        raise ValueError(
            f"--model {cfg.model} is a run: train.py --init {cfg.model} starts from its adapters, "
            f"eval.py {cfg.model} judges it"
        )
    is_path = cfg.model.startswith((".", "/")) or cfg.model.count("/") > 1
    is_served = getattr(cfg, "endpoint", "")
    if is_path and not is_served and not Path(cfg.model).is_dir():
        raise ValueError(f"--model {cfg.model}: there is no such folder")


def flag(name):
    return f"--{name.replace('_', '-')}"


def refuse(cfg, names, reason):
    """ValueError when one of these flags is not at its default."""
    default = type(cfg)()
    for name in names:
        if getattr(cfg, name) != getattr(default, name):
            raise ValueError(f"{flag(name)}: {reason}")


def refuse_unused_in_training(cfg):
    """ValueError for a flag that would change nothing, as with this --algo."""
    if cfg.algo != "fd":
        names = "feedback feedback_style top_k tail ema_alpha ema_every".split()
        refuse(cfg, names, f"for --algo fd only, leave it out with {cfg.algo}")
    if cfg.algo != "grpo":
        refuse(cfg, ["kl_coef"], f"for --algo grpo only, leave it out with {cfg.algo}")
    if cfg.algo == "sft" and cfg.group_size > 1:
        raise ValueError("--group-size: sft makes no attempts, leave it out")
    if not cfg.feedback.startswith("ollama"):
        refuse(cfg, ["tutor_card"], "for --feedback ollama:MODEL only, leave it out")
    if not cfg.eval_every:
        refuse(cfg, ["valid"], "nothing is validated with --eval-every 0")


def refuse_unused_in_eval(cfg):
    """ValueError for flags of eval.py that would change nothing."""
    refuse_everywhere(cfg)
    for name, used in ALONE.items():
        if getattr(cfg, name):
            others = sorted(vars(cfg).keys() - {name, *used.split()})
            refuse(cfg, others, f"not used with {flag(name)}, leave it out")
            return
    refuse(cfg, ["problem", "text"], "for --show RUN only")
    if not cfg.endpoint:
        refuse(cfg, ["style"], "how a served model is prompted: give --endpoint URL, too")
    if not cfg.runs:
        refuse(cfg, ["who"], "a model that no run has trained has no teacher: give a run")
        if cfg.endpoint:
            refuse(cfg, ["tools", "quantize"], "not used with --endpoint, leave it out")


def validation(cfg):
    """The theorems of train.py's --eval-every, in the first process; [] where there are none."""
    if not ranks.FIRST or not cfg.eval_every:
        return []
    if not cfg.valid and cfg.data != "toy":
        print(f"no validation: {cfg.data} brings no theorems for it, --valid FILE would name some")
        return []
    theorems = load_theorems(cfg.valid or "toy", "valid")
    if len(theorems) > VALID:
        print(f"validation: the first {VALID} of {len(theorems)} theorems")
    return theorems[:VALID]


def say_of_repeats(cfg, theorems):
    """One line where a step takes theorems more than once."""
    if cfg.prompts_per_step > len(theorems):
        print(
            f"{len(theorems)} theorems for {cfg.prompts_per_step} --prompts-per-step: "
            "a step takes some of them more than once"
        )


def at_least_one(**numbers):
    """SystemExit, in one line, for a flag of a tool that must be above 0."""
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            sys.exit(f"{flag(name)} must be above 0, not {value}")
