"""Attempts that may call tools: several turns inside one generation, as in the paper.

    sampling stops at a complete call -> the tool runs -> its output is appended -> and so on

until the final answer, the token limit or TURNS calls. Tool output counts towards the token
limit. `sampled` is False for it: student and teacher both attend to it, and no loss touches it.
The verdict is Lean's on what was written (extras/tools.py). `--tools` imports this.
"""

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

import fd_mini
from extras.prompts import call_style, decode, prompt_for
from extras.tools import (
    Call,
    answer,
    final_verdicts,
    find_call,
    run_tools,
    tool_output,
)
from lean.answers import read_answer
from lean_env import Rollout

TURNS = 8  # calls in one attempt


@dataclass
class Attempt(Rollout):
    """A rollout with a folder for its files; call: what it has written and waits for; uniforms:
    what its tokens are drawn with, [max_new_tokens]."""

    folder: Path | None = None
    call: Call | None = None
    uniforms: torch.Tensor | None = None


def roll_out(
    policy,
    env,
    theorems,
    max_new_tokens,
    generator,
    feedback=None,
    role="student",
    timings=None,
):
    """eval.roll_out with tools: the same arguments, the same kind of result.

    "s_lean" in timings is the final verdict alone.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="attempts-") as parent:
        rollouts = []
        for theorem, text in zip(theorems, feedback or [None] * len(theorems)):
            prompt = prompt_for(policy, theorem, text, max_new_tokens)
            folder = Path(parent) / str(len(rollouts))
            attempt = Attempt(theorem, prompt, [], [], folder=folder)
            attempt.chat = policy.style == "chat"
            rollouts.append(attempt)

        with policy.act_as(role):
            converse(policy, env, rollouts, max_new_tokens, generator)
        sampled = time.perf_counter()
        judge(env, rollouts)

    if timings is not None:
        timings.update(s_sample=sampled - start, s_lean=time.perf_counter() - sampled)
    return rollouts


# ---- converse
def converse(policy, env, rollouts, max_new_tokens, generator):
    """Writes the attempts: fills in what the rollouts hold of completion and text.

    A completion holds calls, outputs and the answer.
    """
    style = call_style(policy)
    limit = min(2000, max(80, max_new_tokens))  # characters of an output
    # A row's random numbers, one for each place in its completion, whatever the others do.
    shape = len(rollouts), max_new_tokens
    numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
    for rollout, its in zip(rollouts, numbers):
        rollout.uniforms = its

    live = rollouts
    for turn in range(TURNS + 1):
        sample_turn(policy, live, max_new_tokens, may_call=turn < TURNS)

        calling = [r for r in live if r.call]
        jobs = [(r.theorem, r.folder, r.call.name, r.call.args) for r in calling]
        for rollout, output in zip(calling, run_tools(env, jobs, limit)):
            text = tool_output(output, style)
            ids = policy.tokenizer.encode(text, add_special_tokens=False)
            extend(rollout, ids, max_new_tokens, sampled=False)

        live = [r for r in calling if len(r.completion_ids) < max_new_tokens]
        if not live:
            break

    for rollout in rollouts:
        rollout.conversation = decode(
            policy, rollout.prompt_ids, rollout.completion_ids
        )
        rollout.text = answer(rollout.conversation)


def sample_turn(policy, rollouts, max_new_tokens, may_call):
    """Goes on with each rollout up to a call or its end."""
    behind = rollouts[0].prompt_ids  # all prompts end alike
    left = [rollout.uniforms[len(rollout.completion_ids) :] for rollout in rollouts]

    def stop(row, ids):
        if len(ids) == len(left[row]):  # others may have room for more
            return True
        newest = decode(policy, behind, ids[-1:])  # only such a token can complete a call
        may_end = may_call and re.search("[\n>]", newest)
        return may_end and find_call(decode(policy, behind, ids))

    samples = fd_mini.sample(
        policy,
        [rollout.prompt_ids + rollout.completion_ids for rollout in rollouts],
        max(map(len, left)),
        uniforms=pad_sequence(left, batch_first=True),
        stop=stop,
    )

    for rollout, (ids, finished) in zip(rollouts, samples):
        kept = extend(rollout, ids, max_new_tokens, sampled=True)
        rollout.finished = finished and kept == ids
        rollout.call = None
        if may_call and not rollout.finished:
            rollout.call = find_call(decode(policy, behind, kept))


def extend(rollout, ids, max_new_tokens, sampled):
    """Adds tokens to a completion, as many as the limit leaves room for; -> those."""
    kept = ids[: max_new_tokens - len(rollout.completion_ids)]
    rollout.completion_ids += kept
    rollout.sampled += [sampled] * len(kept)
    return kept


# ---- judge
def judge(env, rollouts):
    """Gives every rollout its verdict and, where a whole file proved its theorem, that file."""
    bare = []  # all they have is an answer
    filed = []  # these wrote files
    for rollout in rollouts:
        if rollout.folder.exists():
            filed.append((rollout, final_file(rollout)))
        else:
            bare.append(rollout)

    chat = any(rollout.chat for rollout in rollouts)
    verdicts = env.check_answers([(r.theorem, r.text) for r in bare], chat)
    for rollout, verdict in zip(bare, verdicts):
        rollout.verdict = verdict

    jobs = [(r.theorem, r.folder, final) for r, final in filed]
    for (rollout, final), result in zip(filed, final_verdicts(env, jobs)):
        rollout.verdict, rollout.file = result
        # What counts is not what it said last: feedback is about this.
        if rollout.file not in ("", final):
            rollout.text = f"```lean\n{rollout.file}\n```"
            rollout.chat = True


def final_file(rollout):
    """The final answer as a file, "" where there is none."""
    theorem, text = rollout.theorem, rollout.text
    proof, whole = read_answer(text, rollout.chat, theorem.statement, theorem.header or "")
    if whole or not proof or not text.strip():
        return proof if whole else ""
    return f"{theorem.statement} := {proof}"
