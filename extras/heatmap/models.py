"""What student and teacher make of every token of an attempt."""

import math
from collections import Counter
from functools import partial
from pathlib import Path

import torch

import fd_mini
from extras.heatmap.layout import lay_out, pieces, place, visible
from extras.prompts import prompt_for, text_behind
from extras.runs import read_lines
from lean_env import Theorem

TOP = 5  # tokens of each model's distribution that are listed

# Who is student and who is teacher at the moments that can be shown.
ROLES = {"end": ("student", "teacher"), "start": ("base", "base")}

# What a row of rollouts.jsonl must have.
NEEDED = dict(step=int, name=str, statement=str, text=str, prompt_ids=list, completion_ids=list)


def attempts_at(folder, problem=""):
    """(problem, its rows of rollouts.jsonl by step, the names there are).

    problem "": the first of the last step. Errors: ValueError.
    """
    path = Path(folder) / "rollouts.jsonl"
    rows = [row for row in read_lines(path) if is_attempt(row)]
    if not rows:
        raise ValueError(
            f"{path} holds no attempt: train with --algo fd or grpo (sft writes none): "
            f"python train.py --out {folder}"
        )

    if not problem:
        last_step = rows[-1]["step"]
        problem = next(row["name"] for row in rows if row["step"] == last_step)
    names = list_names(rows)
    own = [row for row in rows if row["name"] == problem]
    if not own:
        raise ValueError(
            f"--problem {visible(problem)}: {path} holds no attempt at it, but at {names}"
        )
    return problem, own, names


def is_attempt(row):
    """Does a line of the file have what is shown?"""
    return all(isinstance(row.get(name), kind) for name, kind in NEEDED.items())


def list_names(rows):
    """The problems in one line, those with the most attempts first: they show training."""
    counts = Counter(row["name"] for row in rows).most_common()
    names = ", ".join(f"{visible(name)} ({count})" for name, count in counts[:20])
    if len(counts) > 20:
        names += f" and {len(counts) - 20} more"
    return f"{len(counts)} problems (attempts): {names}".replace("\n", " ")


def prompts_of(policy, config, row):
    """(student's prompt, teacher's prompt) of an attempt, token ids.

    ValueError when the student's is not the one that was recorded.
    """
    theorem = Theorem(row["name"], row["statement"], row.get("header"))
    policy.tools = config.get("tools", False)
    prompts = []
    for feedback in (None, row["feedback"]):
        prompts.append(prompt_for(policy, theorem, feedback, config["max_new_tokens"]))
    if prompts[0] != row["prompt_ids"]:
        raise ValueError(
            f"{row['name']}: its prompt cannot be rebuilt; the tokenizer changed since the run"
        )
    return prompts


def examine(policy, config, views, row):
    """A row of rollouts.jsonl with everything to show.

    "tokens": one dict a token, with its text and, per view, d and what both models say.
    "messages": Lean's, in the order in which they are met. "lines": see lay_out.
    """
    student_prompt, teacher_prompt = prompts_of(policy, config, row)
    ids = row["completion_ids"]
    parts = pieces(policy.tokenizer, ids, student_prompt)

    # A part "" is a token that ends inside a character.
    texts = [part or policy.tokenizer.decode([i]) for part, i in zip(parts, ids)]
    tokens = [{"text": visible(text)} for text in texts]
    for view in views:
        student, teacher = ROLES[view]
        student_says = ask(policy, student, student_prompt, ids)
        teacher_says = ask(policy, teacher, teacher_prompt, ids)
        for token, of_student, of_teacher in zip(tokens, student_says, teacher_says):
            d = of_teacher["logp"] - of_student["logp"]
            token[view] = {"student": of_student, "teacher": of_teacher, "d": d}

    where = partial(place, row)
    messages = sorted(row["messages"], key=where)
    spots = list(map(where, messages))
    lines = lay_out(f"{row['statement']} := by\n", parts, spots)
    return row | {"messages": messages, "tokens": tokens, "lines": lines}


@torch.no_grad()
def ask(policy, role, prompt, completion):
    """What a role thinks of the T tokens of a completion, one dict each.

    "logp": of the token. "top": [text, probability] of the TOP likeliest at its place.
    """
    row = ([prompt], [completion], [[True] * len(completion)])
    # The head too: it is trained when the run has no adapters.
    with policy.act_as(role):
        nll, _ = fd_mini.sampled_nll(policy, *row)  # [T]
        hidden, _ = policy.hidden(*row)  # [T, D]
        ids, logps = fd_mini.teacher_topk(hidden, policy.head, TOP)  # [T, TOP] each

    said = []
    for logp, top_ids, top_logps in zip((-nll).tolist(), ids.tolist(), logps.tolist()):
        words = [visible(text_behind(policy.tokenizer, prompt, [i])) for i in top_ids]
        probabilities = [math.exp(top_logp) for top_logp in top_logps]
        said.append({"logp": logp, "top": list(zip(words, probabilities))})
    return said
