"""What student and teacher made, and at other steps would have made, of an attempt's tokens."""

import math
from functools import partial
from pathlib import Path

import torch

import fd_mini
from extras.heatmap.layout import lay_out, pieces, place, verdict_of, visible
from extras.prompts import prompt_for, text_behind
from extras.runs import BOTH, kept, read_lines, take_adapters
from lean_env import Theorem

MOST = 6000  # tokens times steps, of all attempts: a page stays below 2 MB

# What a row of rollouts.jsonl must have.
NEEDED = dict(step=int, name=str, statement=str, text=str, prompt_ids=list, completion_ids=list)


def attempts_at(folder, problem=""):
    """(problem, its rows of rollouts.jsonl by step, the problems there are as text).

    problem "": where student and teacher differed most, of the attempts at a step of which they
    are known in full. Errors: ValueError.
    """
    path = Path(folder) / "rollouts.jsonl"
    problems = {}
    for row in read_lines(path):
        if all(isinstance(row.get(name), kind) for name, kind in NEEDED.items()):
            row["rank"] = (row["step"] in {1, *kept(folder)}, difference(row))
            problems.setdefault(row["name"], []).append(row)
    if not problems:
        raise ValueError(
            f"{path} holds no attempt: train with --algo fd or grpo (sft writes none): "
            f"python train.py --out {folder}"
        )

    ranks = {name: max(row["rank"] for row in rows) for name, rows in problems.items()}
    names = sorted(problems, key=ranks.get, reverse=True)
    listing = [f"{len(names)} problems, first those with the most |p_teacher - p_student|:"]
    for name in names[:20]:
        marks = "".join(verdict_of(row)[0] for row in problems[name])
        step = problems[name][0]["step"]
        listing.append(f"  {ranks[name][1]:5.2f}  {one_line(name)}  {marks}  from step {step}")

    problem = problem or names[0]
    if problem not in problems:
        there = ", ".join(map(one_line, names[:20]))
        raise ValueError(
            f"--problem {visible(problem)}: {path} holds no attempt at it, but at {there}"
        )
    return problem, problems[problem], "\n".join(listing)


def one_line(name):
    return visible(name).replace("\n", " ")


def recorded(row):
    """{token: (student's, teacher's log-probability)} when the loss was taken.

    What a tool printed has none; {} without feedback and in runs of older versions.
    """
    pairs = enumerate(zip(*row.get("logps", {}).values()))
    return {t: pair for t, pair in pairs if None not in pair}


def difference(row):
    """How far student and teacher were apart: |p_teacher - p_student|, summed over the tokens."""
    pairs = recorded(row).values()
    return sum(abs(math.exp(teacher) - math.exp(student)) for student, teacher in pairs)


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


def examine(policy, config, state, rows):
    """Rows of rollouts.jsonl with everything to show, evenly thinned to MOST.

    state: of the run's checkpoint. Models are named by the step whose attempts they make; those
    of the checkpoint would make those of the step after it. "own": the attempt's step or, where
    nothing is known of that, the last. "tokens": one dict a token with its "text", {step: what
    student and teacher "said"}, and "d", p_teacher - p_student at "own". "messages": Lean's, in
    the order in which they are met. "lines": see lay_out.
    """
    longest = max(len(row["completion_ids"]) for row in rows)
    rows = spread(rows, MOST // longest)
    attempts = [begin(policy, config, row) for row in rows]

    folders = kept(state["folder"].parent)
    folders[state["step"] + 1] = state["folder"]
    if not config.get("init"):  # where an --init run starts is not in its folder
        folders[1] = None
    for step, folder in spread(sorted(folders.items()), MOST // (longest * len(rows))):
        roles = ("base", "base")
        if folder:
            take_adapters(policy, folder)
            roles = BOTH
        for attempt in attempts:
            job = zip(roles, attempt["prompts"])
            asked = [ask(policy, *who, attempt["completion_ids"]) for who in job]
            for token, *said in zip(attempt["tokens"], *asked):
                token["said"][step] = said

    for attempt in attempts:
        steps = attempt["tokens"][0]["said"]
        attempt["own"] = attempt["step"] if attempt["step"] in steps else max(steps)
        learnt = recorded(attempt)
        for t, token in enumerate(attempt["tokens"]):
            token["d"] = 0.0
            if learnt and t not in learnt:  # a tool printed it
                token["said"] = {}
                continue
            student, teacher = token["said"][attempt["own"]]
            token["d"] = teacher["p"] - student["p"]
    return attempts


def spread(items, most):
    """At most so many of a list (at least one), evenly spaced, the last among them."""
    count = min(max(most, 1), len(items))
    return [items[(n + 1) * len(items) // count - 1] for n in range(count)]


def begin(policy, config, row):
    """A row with its prompts, messages, lines, and tokens with what was recorded of these."""
    prompts = prompts_of(policy, config, row)
    ids = row["completion_ids"]
    parts = pieces(policy.tokenizer, ids, prompts[0])

    # A part "" is a token that ends inside a character.
    texts = [part or policy.tokenizer.decode([i]) for part, i in zip(parts, ids)]
    tokens = [{"text": visible(text), "said": {}} for text in texts]
    for t, pair in recorded(row).items():
        known = [{"p": rounded(logp), "top": []} for logp in pair]
        tokens[t]["said"][row["step"]] = known

    where = partial(place, row)
    messages = sorted(row["messages"], key=where)
    spots = list(map(where, messages))
    lines = lay_out(f"{row['statement']} := by\n", parts, spots)
    return row | dict(prompts=prompts, messages=messages, tokens=tokens, lines=lines)


@torch.no_grad()
def ask(policy, role, prompt, completion):
    """What a role thinks of the T tokens of a completion, one dict each.

    "p": probability of the token. "top": [text, probability] of the five likeliest at its place.
    """
    row = ([prompt], [completion], [[True] * len(completion)])
    # The head too: it is trained when the run has no adapters.
    with policy.act_as(role):
        nll, _ = fd_mini.sampled_nll(policy, *row)  # [T]
        hidden, _ = policy.hidden(*row)  # [T, D]
        ids, logps = fd_mini.teacher_topk(hidden, policy.head, 5)  # [T, 5] each

    said = []
    for logp, top_ids, top_logps in zip((-nll).tolist(), ids.tolist(), logps.tolist()):
        top = []
        for i, top_logp in zip(top_ids, top_logps):
            if rounded(top_logp) >= 0.001:  # what is shown has three places
                word = text_behind(policy.tokenizer, prompt, [i])
                top.append([visible(word), rounded(top_logp)])
        said.append({"p": rounded(logp), "top": top})
    return said


def rounded(logp):
    """A probability to four places, which are enough to see and short to store."""
    return round(math.exp(logp), 4)
