"""Whom eval.py judges: runs, a model as it is, or a model that a server serves."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

from data import load_theorems, report_overlap
from extras import attempts, flags, provers, runs, served
from extras.neighbour import advisor
from extras.prompts import with_room
from fd_mini import Policy


@dataclass
class Subject:
    """label: its name in the table. policy: None for a served model. attempt: what makes its
    judged attempts, None for eval.roll_out. max_new_tokens: its longest attempt. theorems:
    those that fit into its positions."""

    label: str
    policy: Policy | None
    attempt: Callable | None
    max_new_tokens: int
    theorems: list


def fitting(cfg, policy, theorems, config=runs.OLDER, named=True):
    """(the longest attempt, the theorems with room for it), with a run's flags. Sets .tools"""
    policy.tools = cfg.tools or config["tools"]
    limit = cfg.max_new_tokens or config["max_new_tokens"]
    return limit, with_room(policy, theorems, limit, named=named)


def subjects(cfg, theorems):
    """The model of eval.py's flags and its runs, loaded one after another."""
    suffix = attempts.suffix(cfg)
    if cfg.endpoint:
        limit = cfg.max_new_tokens or 2048
        attempt = served.connect(cfg.endpoint, cfg.model, cfg.style, limit)
        yield Subject(cfg.model + suffix, None, attempt, limit, theorems)
    elif cfg.model:
        policy = provers.load(
            cfg.model, quantize=cfg.quantize
        )  # fresh adapters do nothing
        room = fitting(cfg, policy, theorems, named=False)
        yield Subject(cfg.model + suffix, policy, None, *room)
        del policy  # a card has room for one
        gc.collect()  # bitsandbytes' layers and their weights refer to each other

    for name in cfg.runs:
        policy, config = runs.load_run(name, cfg.who, cfg.quantize)
        if "toy" not in (cfg.data, config["data"]):
            report_overlap(config["data"], theorems)
        room = fitting(cfg, policy, theorems, config, named=False)
        yield Subject(name + suffix, policy, None, *room)
        del policy
        gc.collect()


def instead_of_a_table(cfg):
    """The function that does what --show or --watch asks for; None for a table.

    ValueError when eval.py's flags name nobody, or what they do not go with.
    """
    flags.refuse_unused_in_eval(cfg)
    if cfg.show:
        from extras import heatmap

        return heatmap.main
    if not cfg.model and (cfg.endpoint or not cfg.runs):
        raise ValueError(
            "nothing to evaluate: give a run (python eval.py out/fd), --model tiny, "
            "or --endpoint URL --model NAME"
        )
    if cfg.watch:
        from extras import watch

        return watch.main


def theorems_for(cfg):
    """The theorems of eval.py's flags, after all that can be told without Lean and weights.

    ValueError for no attempt, or when no prompt has room; prompts that have none are named. Fills
    in --out.
    """
    if cfg.samples < 1 or cfg.max_new_tokens < 0:
        raise ValueError("--samples must be at least 1 and --max-new-tokens not negative")
    configs = [runs.flags_of(name) for name in cfg.runs]
    attempts.place(cfg)

    theorems = load_theorems(cfg.data, cfg.split)
    if cfg.model and not cfg.endpoint:
        configs.append(runs.OLDER | {"model": cfg.model})
    for config in configs:
        fitting(cfg, provers.reader(config["model"]), theorems, config)
    advisor(cfg.feedback)  # an endpoint that cannot be reached ends it here
    return theorems
