"""Attempts that may call tools: several turns inside one generation, as in the paper. `--tools` imports this.

    sampling stops at a complete call -> the tool runs -> its output is appended -> sampling goes on

until the final answer, the token limit or TURNS calls. Tool output counts towards the token limit; `sampled` is False for it: student
and teacher both attend to it, no loss touches it (fd_mini.states). The verdict is Lean's on what was written (extras/tools.py).
"""
import dataclasses
import re
import tempfile
import time
from pathlib import Path

import fd_mini
from extras.tools import TOOLS, answer, find_call, final_verdicts, run_tools, tool_output, tool_prompt
from feedback import answer_of, build_prompt, extract_proof
from lean.text import IMPORTS
from lean_env import Rollout

TURNS = 8  # calls in one attempt
BRIEF = "-- #rg NAME searches\n"  # for the tiny prover, whose every word is expensive

def call_style(policy) -> str:
    """How this model writes calls: "text" after a raw prompt; in a chat "xml" where its own template does so, else "json"."""
    template = str(policy.tokenizer.chat_template or "")
    return "text" if policy.style != "chat" else "xml" if "<function=" in template else "json"

def equip(theorem, env, policy):
    """Tells the model about the tools: by its chat template where that can (student's and teacher's prompts alike, see build_prompt),
    else by a comment in the theorem's header, behind the imports: the prompt has it, and Lean does not mind."""
    if policy.style == "chat" and re.search(r"\btools\b", str(policy.tokenizer.chat_template)):
        policy.tokenizer.tools = TOOLS
        return theorem
    told = BRIEF if policy.style == "plain" else f"/- {tool_prompt(call_style(policy))} -/\n"
    header = env.header if theorem.header is None else theorem.header
    at = max((m.end() + 1 for m in IMPORTS.finditer(header)), default=0)
    return theorem if told in header else dataclasses.replace(theorem, header=f"{header[:at]}{told}{header[at:]}")

def final_file(theorem, text):
    """The final answer as a file: a chat's last lean block with all that stands beside the theorem, or the statement and its proof."""
    blocks = re.findall(r"```lean4?[ \t]*\n(.*?)(?:```|\Z)", answer_of(text), re.DOTALL)
    words = r"^(?:@\[.*?\][ \t]*)?(?:(?:private|protected|noncomputable)[ \t]+)*(?:theorem|lemma|def|abbrev|inductive|structure|instance)\b"
    whole = blocks and len(re.findall(words, blocks[-1], re.MULTILINE)) > 1
    return blocks[-1] if whole else f"{theorem.statement} := {extract_proof(text)}" if text.strip() else ""

def converse(policy, env, theorems, prompts, folders, max_new_tokens, generator, batch_size=None):
    """B prompts (lists of ids) -> (completions, sampled, finished), B each; a completion holds calls, outputs and the answer."""
    tokenizer, style = policy.tokenizer, call_style(policy)
    ids, sampled, finished = [[] for _ in prompts], [[] for _ in prompts], [False] * len(prompts)
    text_of = lambda tokens: tokenizer.decode(tokens, clean_up_tokenization_spaces=False)  # noqa: E731
    called = lambda tokens: any(c in text_of(tokens[-1:]) for c in "\n>") and find_call(text_of(tokens)) is not None  # noqa: E731
    live = list(range(len(prompts)))
    for turn in range(TURNS + 1):
        room = max(max_new_tokens - len(ids[i]) for i in live)
        new = fd_mini.sample(policy, [prompts[i] + ids[i] for i in live], room, 1.0, generator=generator, batch_size=batch_size,
                             stop=called if turn < TURNS else None)
        calls = []
        for i, (tokens, done) in zip(live, new):
            kept = tokens[: max_new_tokens - len(ids[i])]
            ids[i], sampled[i] = ids[i] + kept, sampled[i] + [True] * len(kept)
            finished[i] = done and kept == tokens
            if turn < TURNS and not finished[i] and (call := find_call(text_of(kept))):
                calls.append((i, call))
        limit = min(2000, max(80, max_new_tokens))  # characters of an output
        outputs = run_tools(env, [(theorems[i], folders[i], call.name, call.args) for i, call in calls], limit) if calls else []
        for (i, _), output in zip(calls, outputs):
            told = tokenizer.encode(tool_output(output, style), add_special_tokens=False)[: max_new_tokens - len(ids[i])]
            ids[i], sampled[i] = ids[i] + told, sampled[i] + [False] * len(told)
        live = [i for i, _ in calls if len(ids[i]) < max_new_tokens]
        if not live:
            return ids, sampled, finished
    return ids, sampled, finished

def roll_out(policy, env, theorems, max_new_tokens, seed, feedback=None, who="student", batch_size=None, timings=None) -> list[Rollout]:
    """eval.roll_out with tools: the same arguments, the same kind of result; "lean" in timings is the final verdict alone."""
    import torch
    clock, room = time.perf_counter(), policy.max_positions - max_new_tokens
    theorems = [equip(theorem, env, policy) for theorem in theorems]
    told = feedback or [None] * len(theorems)
    prompts = [build_prompt(policy.tokenizer, t, f, room, policy.style) for t, f in zip(theorems, told)]
    with tempfile.TemporaryDirectory(prefix="attempts-") as place, policy.act_as(who):
        folders = [Path(place) / str(i) for i in range(len(theorems))]
        ids, sampled, finished = converse(policy, env, theorems, prompts, folders, max_new_tokens,
                                          torch.Generator().manual_seed(seed), batch_size)
        rollouts = []
        for theorem, prompt, tokens, mask, done in zip(theorems, prompts, ids, sampled, finished):
            text = policy.tokenizer.decode([i for i in tokens if i not in policy.stop_ids], clean_up_tokenization_spaces=False)
            rollouts.append(Rollout(theorem, prompt, tokens, mask, finished=done, text=answer(text), conversation=text))
        judged = time.perf_counter()
        proofs = [f"{t.statement} := {extract_proof(r.text)}" for t, r in zip(theorems, rollouts)]
        final = [final_file(t, r.text) for t, r in zip(theorems, rollouts)]
        # these wrote files, or lemmas beside the theorem; the others' answers share processes
        filed = [i for i, folder in enumerate(folders) if folder.exists() or final[i] not in ("", proofs[i])]
        bare = [i for i in range(len(rollouts)) if i not in filed]
        verdicts = {i: (v, "") for i, v in zip(bare, env.check([(theorems[i], extract_proof(rollouts[i].text)) for i in bare]))}
        verdicts |= dict(zip(filed, final_verdicts(env, [(theorems[i], folders[i], final[i]) for i in filed])))
        for i, rollout in enumerate(rollouts):
            rollout.verdict, rollout.file = verdicts[i]
            if rollout.file not in ("", final[i]):  # what counts is not what it said last: feedback is about this
                rollout.text = f"```lean\n{rollout.file}\n```"
    if timings is not None:
        timings.update(sample=judged - clock, lean=time.perf_counter() - judged)
    return rollouts
