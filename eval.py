"""How good is a prover? pass@k with a confidence interval, entropy, length, variety; a table, eval.json and a picture.

    python eval.py out/fd                        # a run: its student, on the held-out test theorems
    python eval.py out/fd out/grpo --samples 16  # several runs side by side
    python eval.py --model tiny                  # the untrained base
    python eval.py --model tiny --feedback tutor # the same with feedback about a first attempt in the prompt

Attempts are sampled at temperature 1, nothing cut off (top-p 1, top-k 0) and judged by Lean. An attempt on which Lean itself
failed (`timeout`, `crash`) is counted apart and left out of n, never taken for a wrong proof.
"""
import json
import math
import re
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from tqdm import tqdm

import fd_mini
from feedback import build_prompt, extract_proof, make_feedback
from lean_env import LeanEnv, Rollout, Theorem

HERE = Path(__file__).resolve().parent
KS = (1, 2, 4, 8, 16)
MACHINE_FAILED = ("timeout", "crash")  # verdicts that say nothing about the proof

# --- data and rollouts (train.py uses both)
def load_rows(data: str, split: str = "train") -> list[dict]:
    """The rows of `data` that belong to `split`: the toy, the path of a jsonl file, or a set on the hub (extras/datasets.py).
    A row has "name" and "statement" (from `theorem` up to, not including, `:=`) and may have "header", "proof" and "feedback".
    Errors: ValueError that names the file, the line and the field."""
    if split not in ("train", "valid", "test"):
        raise ValueError(f"--split must be train, valid or test, not {split}")
    if data == "toy":
        return [json.loads(line) for line in (HERE / "data" / f"toy_{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    from extras import datasets  # reads the same format from a file, and checks it; and other people's formats
    return datasets.load(data, split)

def theorem_of(row: dict) -> Theorem:
    return Theorem(row["name"], row["statement"], row.get("header"), row.get("proof"))

def roll_out(policy, env, theorems, max_new_tokens, seed, feedback=None, who="student", batch_size=None, timings=None, before=0) -> list[Rollout]:
    """One attempt at every theorem, sampled at temperature 1 and judged by Lean, in order.
    feedback: None, or one text (or None) per theorem for its prompt. timings: a dict that gets the seconds of "sample" and "lean"."""
    if env.tools:  # several turns, with searches and Lean in between
        from extras import tool_mode
        return tool_mode.roll_out(policy, env, theorems, max_new_tokens, torch.Generator().manual_seed(seed + before), feedback, who, batch_size, timings)
    clock, room = time.perf_counter(), policy.max_positions - max_new_tokens
    prompts = [build_prompt(policy.tokenizer, t, f, room, policy.style) for t, f in zip(theorems, feedback or [None] * len(theorems))]
    generator = torch.Generator().manual_seed(seed)
    torch.rand(before, max_new_tokens, generator=generator, dtype=torch.float64)  # the numbers of attempts that other processes make
    with policy.act_as(who):
        samples = fd_mini.sample(policy, prompts, max_new_tokens, 1.0, generator, batch_size)
    texts = [policy.tokenizer.decode([i for i in ids if i not in policy.stop_ids], clean_up_tokenization_spaces=False) for ids, _ in samples]
    rollouts = [Rollout(theorem, prompt, ids, [True] * len(ids), finished=finished, text=text)
                for theorem, prompt, (ids, finished), text in zip(theorems, prompts, samples, texts)]
    sampled = time.perf_counter()
    for rollout, verdict in zip(rollouts, env.check([(r.theorem, extract_proof(r.text)) for r in rollouts])):
        rollout.verdict = verdict  # of a text cut by the length limit too: what Lean accepts is a proof
    if timings is not None:
        timings.update(sample=sampled - clock, lean=time.perf_counter() - sampled)
    return rollouts

# --- metrics
def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k from n attempts of which c are right: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1). Needs 1 <= k <= n.

    >>> pass_at_k(10, 3, 1), round(pass_at_k(10, 3, 5), 4)
    (0.3, 0.9167)
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} needs at least {k} attempts and 0 <= c <= n, got n = {n}, c = {c}")
    return 1.0 if n - c < k else 1 - math.prod(1 - k / i for i in range(n - c + 1, n + 1))

def tactics_of(proof: str) -> set[str]:
    """The words that start a line of a proof, bullets aside: {"intro", "exact"}."""
    return set(re.findall(r"^[\s·]*([A-Za-z_]\w*)", extract_proof(proof).partition("\n")[2], re.MULTILINE))

def confidence(values: list[float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over problems: 1,000 resamples."""
    values = torch.tensor(values, dtype=torch.float64)
    draws = torch.randint(len(values), (1000, len(values)), generator=torch.Generator().manual_seed(seed))
    low, high = torch.quantile(values[draws].mean(1), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high

def evaluate(policy, env, theorems, samples=1, max_new_tokens=96, seed=0, source=None, who="student", batch_size=None) -> dict:
    """`samples` attempts at every theorem -> {"pass@1": ..., "entropy": nats per token, "length": tokens, ...}.

    policy: or what makes judged attempts elsewhere, as roll_out does (extras/served.py); then the entropy is nan.
    source: a feedback source; then a first attempt is made and judged, and what counts is the attempt that has read the
    feedback about it. left_out counts attempts on which Lean failed or nothing could be said. Entropy is full-vocabulary,
    over all sampled tokens, those of attempts cut by the limit included.
    """
    rights, totals = [0] * len(theorems), [0] * len(theorems)
    entropies, tokens, written, finished, left_out, tactics = 0.0, 0, 0, 0, 0, set()
    local = isinstance(policy, fd_mini.Policy)
    attempt = (lambda *args: roll_out(policy, *args)) if local else (lambda *args: policy(None, *args))
    for n in tqdm(range(samples), desc="attempts", disable=None if samples > 1 else True, leave=False):
        stream = (seed + 1) * 1_000_000_007 + 2 * n  # seeds apart from training's
        rollouts = attempt(env, theorems, max_new_tokens, stream, None, who, batch_size)
        told = source.write(rollouts) if source else [None] * len(rollouts)
        if source:
            rollouts = attempt(env, theorems, max_new_tokens, stream + 1, told, who, batch_size)
        for i, rollout in enumerate(rollouts):
            known = rollout.verdict.status not in MACHINE_FAILED and (told[i] is not None or not source)
            proved = known and rollout.verdict.status == "proved"
            totals[i], rights[i], left_out = totals[i] + known, rights[i] + proved, left_out + (not known)
            tactics |= tactics_of(rollout.text) if proved else set()
        columns = [list(column) for column in zip(*((r.prompt_ids, r.completion_ids, r.sampled) for r in rollouts))]
        for rows in fd_mini.micro_batches(*columns, 8192) if local else ():
            with policy.act_as(who), torch.no_grad():
                hidden, _ = fd_mini.states(policy, *columns, rows)  # [N, D] of the sampled tokens
                entropies += fd_mini.chunked_entropy(hidden, policy.head, 1024).sum().item()
        tokens += sum(sum(r.sampled) for r in rollouts)
        written += sum(len(r.completion_ids) > 0 for r in rollouts)  # of a request that failed there is no length
        finished += sum(r.finished for r in rollouts if r.completion_ids)
    result = {"problems": len(theorems), "samples": samples, "seed": seed, "left_out": left_out}
    for k in KS:
        scores = [pass_at_k(n, c, k) for n, c in zip(totals, rights) if n >= k]
        if k <= samples and scores:
            result[f"pass@{k}"] = sum(scores) / len(scores)
            result[f"pass@{k}_ci"] = confidence(scores)
    return result | {"entropy": entropies / max(tokens, 1) if local else math.nan, "length": tokens / (written or math.nan),
                     "cut": 1 - finished / (written or math.nan), "tactics": len(tactics)}

# --- table
def show(rollout):
    """An attempt as text: statement, what was written, what Lean and the feedback said."""
    said = rollout.verdict.status + "".join(f" · line {m['line']}: {m['data']}" for m in rollout.verdict.messages[:1])
    text = f"{rollout.theorem.statement} := by\n{rollout.text}\nLean: {said}" + (f"\n{rollout.feedback}" if rollout.feedback else "")
    return textwrap.indent(text, "    | ")

@dataclass
class Config:
    """Evaluate runs, or a model that no run has trained."""
    runs: tyro.conf.Positional[tuple[str, ...]] = ()  # folders written by train.py
    model: str = ""  # evaluate this model as it is, without adapters, beside the runs
    endpoint: str = ""  # or the model of that name on an OpenAI-compatible server: http://HOST:8000/v1 (extras/served.py)
    style: Literal["auto", "chat", "fence", "plain"] = "auto"  # how a served model is prompted
    data: str = "toy"  # theorems to judge by: toy, minif2f, proofnet, lean-workbook, or a jsonl file
    split: str = "test"  # which part of it: settings are chosen on valid, results quoted on test
    samples: int = 16  # attempts per theorem; pass@k needs k of them
    who: Literal["student", "teacher"] = "student"  # which adapters
    feedback: str = ""  # judge the attempt after this feedback on a first one: tutor, lean, ...
    max_new_tokens: int = 0  # longest attempt; 0: as the run was trained, 80 for the toy
    seed: int = 0  # of the attempts
    quantize: Literal["auto", "nf4", "none"] = "auto"  # 4-bit base
    tools: bool = False  # attempts may call the three tools; those of a run that was trained with them may anyway
    lean: str = "auto"  # auto, wheel, the path of a lean executable, kimina:URL (a server), or dojo:REPO@COMMIT
    lean_project: str = ""  # a Lake project to check proofs in
    out: str = ""  # folder for eval.json and eval.png; empty: the first run's, or out/base
    show: str = ""  # instead: a page with this run's attempts at one problem, coloured token by token (extras/heatmap.py)
    problem: str = ""  # the name of that problem; empty: the first of the last step
    text: bool = False  # that view in the terminal, not as a page

def load_run(folder: str, who: str, quantize: str):
    """The policy of a run with its adapters, and the run's config. Errors: ValueError when there is no run."""
    if not (Path(folder) / "ckpt" / "state.pt").is_file():
        raise ValueError(f"{folder} holds no run with a checkpoint. Train one: python train.py --out {folder}")
    config = json.loads((Path(folder) / "config.json").read_text())
    policy = fd_mini.Policy(config["model"], rank=config["lora_rank"], quantize=quantize, seed=config["seed"])
    policy.load(Path(folder) / "ckpt" / who, who)
    return policy, config

def table(results: dict) -> str:
    """Rows of results as aligned text, one line each."""
    ks = [k for k in KS if any(f"pass@{k}" in r for r in results.values())]
    width = max(map(len, results))
    lines = [" " * width + "".join(f"  pass@{k:<2}" for k in ks) + "   pass@1 95 % CI   entropy  length   cut  tactics"]
    for name, r in results.items():
        cells = "".join(f"  {r[f'pass@{k}']:7.3f}" if f"pass@{k}" in r else "        -" for k in ks)
        low, high = r.get("pass@1_ci", (math.nan, math.nan))
        lines.append(f"{name:{width}}{cells}   [{low:.3f}, {high:.3f}]   {r['entropy']:7.3f}  {r['length']:6.1f}  {r['cut']:.2f}  {r['tactics']:7d}")
    return "\n".join(lines)

def main(cfg: Config) -> dict:
    if cfg.show:
        from extras import heatmap  # not part of a first reading
        policy, config = load_run(cfg.show, "student", cfg.quantize)
        return heatmap.main(policy, config, cfg)
    if not cfg.model and (cfg.endpoint or not cfg.runs):
        raise ValueError("nothing to evaluate: give a run (python eval.py out/fd), --model tiny, or --endpoint URL --model NAME")
    if cfg.samples < 1 or cfg.max_new_tokens < 0:
        raise ValueError("--samples must be at least 1 and --max-new-tokens not negative")
    theorems = [theorem_of(row) for row in load_rows(cfg.data, cfg.split)]
    env = LeanEnv(lean=cfg.lean, project=cfg.lean_project or None)
    if cfg.data != "toy":
        from extras import datasets
        theorems, _ = datasets.screen(env, theorems)  # a statement that this Lean cannot read is named and left out
    print(f"{len(theorems)} theorems, {cfg.samples} attempts each · {env.describe()}", flush=True)
    source, results = make_feedback(cfg.feedback) if cfg.feedback else None, {}
    for name in (*([cfg.model] if cfg.model else []), *cfg.runs):
        if name in cfg.runs:
            policy, config = load_run(name, cfg.who, cfg.quantize)
            if "toy" not in (cfg.data, config["data"]):
                datasets.report_overlap(config["data"], theorems)
        elif cfg.endpoint:
            from extras import served
            config = {"max_new_tokens": 2048}
            policy = served.connect(cfg.endpoint, name, cfg.style, cfg.max_new_tokens or config["max_new_tokens"])
        else:
            policy, config = fd_mini.Policy(name, quantize=cfg.quantize), {"max_new_tokens": 80}  # fresh adapters do nothing
        env.tools, clock = cfg.tools or config.get("tools", False), time.perf_counter()
        label = name + (f" + {cfg.feedback}" if source else "") + (" (teacher)" if cfg.who == "teacher" else "")
        result = evaluate(policy, env, theorems, cfg.samples, cfg.max_new_tokens or config["max_new_tokens"], cfg.seed, source, cfg.who)
        results[label] = result | {"data": cfg.data, "split": cfg.split, "seconds": time.perf_counter() - clock}
    print(table(results))
    out = Path(cfg.out or (cfg.runs[0] if cfg.runs else "out/base"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "eval.json").write_text(json.dumps(results, indent=1))
    from extras import pictures
    pictures.evaluation(results, cfg.runs, out / "eval.png", KS)
    print(f"{out / 'eval.json'} and {out / 'eval.png'} written")
    return results

if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"eval.py: {error}")
