"""Whom eval.py judges: runs, a model as it is, or a model that a server serves."""

from collections.abc import Callable
from dataclasses import dataclass

from data import report_overlap
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
        policy.tools = cfg.tools
        limit = cfg.max_new_tokens or 80
        fitting = with_room(policy, theorems, limit)
        yield Subject(cfg.model + suffix, policy, None, limit, fitting)

    for name in cfg.runs:
        policy, config = runs.load_run(name, cfg.who, cfg.quantize)
        if "toy" not in (cfg.data, config["data"]):
            report_overlap(config["data"], theorems)
        policy.tools = cfg.tools or config.get("tools", False)
        limit = cfg.max_new_tokens or config["max_new_tokens"]
        fitting = with_room(policy, theorems, limit)
        yield Subject(name + suffix, policy, None, limit, fitting)


def instead_of_a_table(cfg):
    """The function that does what --show or --watch asks for; None for a table.

    ValueError when eval.py's flags name nobody, no attempt, or what they do not go with; all
    that can be told before anything slow. Fills in --out.
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
    if cfg.samples < 1 or cfg.max_new_tokens < 0:
        raise ValueError("--samples must be at least 1 and --max-new-tokens not negative")
    for name in cfg.runs:
        runs.refuse_no_run(name)
    attempts.place(cfg)
    advisor(cfg.feedback)  # an endpoint that cannot be reached ends it here
