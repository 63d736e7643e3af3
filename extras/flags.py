"""Which flags of train.py make no sense."""

import math

POSITIVE = (
    "steps prompts_per_step group_size lr top_k ema_every max_new_tokens micro_tokens "
    "save_every lean_timeout card_gb"
).split()
NOT_NEGATIVE = "warmup kl_coef lora_rank eval_every".split()


def refuse_nonsense(cfg):
    """ValueError, in one line, for a flag that cannot be meant; None is not looked at."""
    for name in (*POSITIVE, *NOT_NEGATIVE):
        value = getattr(cfg, name)
        if (
            value is None
            or 0 < value < math.inf
            or (value == 0 and name in NOT_NEGATIVE)
        ):
            continue
        bound = "above 0" if name in POSITIVE else "0 or more"
        raise ValueError(f"--{name.replace('_', '-')} must be {bound}, not {value}")

    if not 0 <= cfg.ema_alpha <= 1:
        raise ValueError(
            "--ema-alpha must lie between 0 (copy the student) and 1 (frozen), "
            f"not {cfg.ema_alpha}"
        )
    if cfg.lr > 0.1:
        raise ValueError(f"--lr {cfg.lr} is absurd: adapters want about 1e-5 to 1e-3")
    if cfg.algo == "grpo" and cfg.group_size < 2:
        raise ValueError(
            "--group-size must be at least 2 for grpo, which compares attempts at one theorem"
        )
