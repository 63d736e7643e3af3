"""How good is a prover? pass@k with a confidence interval, entropy, length, variety.

    python eval.py out/fd                        # a run: its student, on the held-out test theorems
    python eval.py out/fd out/grpo --samples 16  # several runs side by side
    python eval.py --model tiny                  # the untrained base
    python eval.py --model tiny --feedback tutor # with feedback about a first attempt in its prompt
    python eval.py --watch out/fd out/grpo       # curves of runs that go on, or have ended

A table is printed; eval.json and eval.png go to --out. Attempts are sampled at temperature 1,
nothing cut off (top-p 1, top-k 0), and judged by Lean. An attempt on which Lean itself failed
(`timeout`, `crash`) is counted apart and left out of n, never taken for a wrong proof.
"""

import math
import time
from dataclasses import dataclass
from typing import Literal

import extras  # first: while torch is imported a Ctrl-C is one line, too
import torch
import tyro
from tqdm import tqdm

import fd_mini
from data import screen
from extras import tool_mode
from extras.attempts import Kept
from extras.pictures import report
from extras.prompts import decode, prompt_for
from extras.stops import run_command
from extras.subjects import instead_of_a_table, subjects, theorems_for
from lean.answers import tactics_of
from lean_env import LeanEnv, Rollout

KS = (1, 2, 4, 8, 16)

# ---- 1. Attempts -----------------------------------------------------------------------------


def roll_out(
    policy,
    env,
    theorems,
    max_new_tokens,
    generator,
    feedback=None,
    role="student",
    timings=None,
) -> list[Rollout]:
    """One attempt at every theorem, sampled at temperature 1 and judged by Lean, in order.

    generator: a CPU torch.Generator. feedback: None, or one text (or None) per theorem for its
    prompt. timings: a dict that gets the seconds "s_sample" and "s_lean".
    """
    if policy.tools:  # several turns, with searches and Lean in between
        return tool_mode.roll_out(
            policy, env, theorems, max_new_tokens, generator, feedback, role, timings
        )

    clock = time.perf_counter()
    prompts = []
    for theorem, text in zip(theorems, feedback or [None] * len(theorems)):
        prompts.append(prompt_for(policy, theorem, text, max_new_tokens))
    with policy.act_as(role):
        samples = fd_mini.sample(policy, prompts, max_new_tokens, generator=generator)

    rollouts = []
    for theorem, prompt, (ids, finished) in zip(theorems, prompts, samples):
        rollout = Rollout(theorem, prompt, ids, [True] * len(ids))
        rollout.finished = finished
        rollout.text = decode(policy, prompt, ids)
        rollout.chat = policy.style == "chat"
        rollouts.append(rollout)

    sampled_at = time.perf_counter()
    # Texts cut by the length limit are judged, too: what Lean accepts is a proof.
    jobs = [(r.theorem, r.text) for r in rollouts]
    verdicts = env.check_answers(jobs, policy.style == "chat")
    for rollout, verdict in zip(rollouts, verdicts):
        rollout.verdict = verdict
    if timings is not None:
        timings["s_sample"] = sampled_at - clock
        timings["s_lean"] = time.perf_counter() - sampled_at
    return rollouts


# ---- 2. Metrics ------------------------------------------------------------------------------


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k from n attempts of which c are right (Chen et al. 2021, equation 1).

    1 - C(n-c, k) / C(n, k): the share of choices of k attempts that hold a right one. Needs 1 <= k <= n, or ValueError.

    >>> round(pass_at_k(10, 3, 1), 4), round(pass_at_k(10, 3, 5), 4)
    (0.3, 0.9167)
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(
            f"pass@{k} needs at least {k} attempts and 0 <= c <= n, got n = {n}, c = {c}"
        )
    # Where n - c < k, every choice holds a right one: then i = k is among these, a factor of 0.
    return 1 - math.prod(1 - k / i for i in range(n - c + 1, n + 1))


def confidence(values: list[float]) -> list[float]:
    """95 % bootstrap interval of the mean over problems: 1,000 resamples."""
    values = torch.tensor(values, dtype=torch.float64)  # [problems]
    draws = torch.randint(len(values), (1000, len(values)), generator=seeded(0))
    means = values[draws].mean(1)  # [1000]
    return torch.quantile(means, means.new_tensor([0.025, 0.975])).tolist()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def total_entropy(policy, rollouts, role) -> float:
    """The sum of the next-token entropies (all of V) at every token that was sampled, nats."""
    # micro_batches() takes columns: prompts, completions, flags.
    rows = [(r.prompt_ids, r.completion_ids, r.sampled) for r in rollouts]
    total = 0.0
    with policy.act_as(role), policy.merged():
        for batch in fd_mini.micro_batches(8192, *zip(*rows)):
            _, entropy = fd_mini.sampled_nll(policy, *batch)  # [N], one a sampled token
            total += entropy.sum().item()
    return total


def evaluate(
    policy,
    env,
    theorems,
    samples=1,
    max_new_tokens=96,
    seed=0,
    source=None,
    role="student",
    attempt=roll_out,
) -> dict:
    """`samples` attempts at every theorem -> {"pass@1": ..., "entropy": nats per token, ...}

    source: a feedback source; then a first attempt is made and judged, and what counts is a
    second one that has read the feedback about the first. left_out counts attempts on which Lean
    failed or that got no feedback. Every pass@k is over the same theorems, those with any other
    attempt; where a theorem has fewer than k of them, it counts with those it has. pass@k_low:
    over all theorems, with what was left out taken for wrong. Entropy, length and cut are of all
    attempts. attempt: used in place of roll_out for a served model (extras/served.py); then
    policy is None and the entropy nan.
    """
    judged = [0] * len(theorems)  # attempts that count, of each theorem
    proved = [0] * len(theorems)
    tactics = set()
    rollouts = []
    job = (policy, env, theorems, max_new_tokens)
    # disable=None: on a terminal only.
    for sample in tqdm(range(samples), "attempts", disable=None, leave=False):
        # Two seeds a sample: of a first attempt, and of one with feedback. Far from training's.
        first_seed = (seed + 1) * 1_000_000_007 + 2 * sample
        attempts = attempt(*job, seeded(first_seed), None, role)
        advice = [""] * len(theorems)
        if source:
            advice = source.write(attempts)
            attempts = attempt(*job, seeded(first_seed + 1), advice, role)

        for i, rollout in enumerate(attempts):
            if rollout.verdict.judged and advice[i] is not None:
                judged[i] += 1
                if rollout.verdict.status == "proved":
                    proved[i] += 1
                    tactics |= tactics_of(rollout.proof)
        rollouts += attempts

    result = {
        "problems": len(theorems),
        "samples": samples,
        "seed": seed,
        "left_out": len(rollouts) - sum(judged),
        "proved": proved,
    }
    for k in KS:
        if k <= max(judged):
            scores = [pass_at_k(n, c, min(n, k)) for n, c in zip(judged, proved) if n]
            result[f"pass@{k}"] = sum(scores) / len(scores)
            result[f"pass@{k}_ci"] = confidence(scores)
            low = [pass_at_k(samples, c, k) for c in proved]
            result[f"pass@{k}_low"] = sum(low) / len(low)
    return result | text_metrics(policy, rollouts, role) | {"tactics": len(tactics)}


def text_metrics(policy, rollouts, role) -> dict:
    """Entropy per sampled token, tokens per attempt, and the share cut by the limit."""
    # A request that failed has no length. Where nothing was written, there are no means.
    written = [r for r in rollouts if r.completion_ids]
    count = len(written) or math.nan
    tokens = sum(sum(r.sampled) for r in written)
    cut = sum(not r.finished for r in written)
    entropy = math.nan
    if policy:
        entropy = total_entropy(policy, written, role) / max(tokens, 1)
    return {"entropy": entropy, "length": tokens / count, "cut": cut / count}


# ---- 3. The command --------------------------------------------------------------------------


@dataclass
class Config:
    """Evaluate runs, or a model that no run has trained."""

    # folders written by train.py
    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    # evaluate this model as it is, without adapters, beside the runs
    model: str = ""
    # or the model of that name on an OpenAI-compatible server: http://HOST:8000/v1
    endpoint: str = ""
    # how a served model is prompted
    style: Literal["auto", "chat", "fence", "plain"] = "auto"
    # theorems to judge by: toy, minif2f, proofnet, lean-workbook, or a jsonl file
    data: str = "toy"
    # which part of it: settings are chosen on valid, results quoted on test
    split: str = "test"
    # attempts per theorem; pass@k needs k of them
    samples: int = 16
    # which of a run's adapters
    who: Literal["student", "teacher"] = "student"
    # judge the attempt after this feedback on a first one: tutor, lean, ...
    feedback: str = ""
    # longest attempt; 0: as the run was trained, 80 for the toy
    max_new_tokens: int = 0
    # of the random numbers
    seed: int = 0
    # 4-bit base
    quantize: Literal["auto", "nf4", "none"] = "auto"
    # attempts may call tools; those of a run that was trained with them always may
    tools: bool = False
    # auto, wheel, the path of a lean executable, kimina:URL (a server), or dojo:REPO@COMMIT
    lean: str = "auto"
    # a Lake project to check proofs in
    lean_project: str = ""
    # folder for eval.json and eval.png; empty: the first run's, or out/base
    out: str = ""
    # instead of a table: a page with a run's attempts at one problem, coloured token by token
    show: str = ""
    # the name of that problem; empty: the first of the last step
    problem: str = ""
    # that view in the terminal, not as a page
    text: bool = False
    # instead of a table: curves of these runs in the terminal, until they have ended
    watch: bool = False


def main(cfg: Config) -> dict:
    """Print the table, write eval.json and eval.png (extras/pictures.py) -> {name: metrics}"""
    other = instead_of_a_table(cfg)
    if other:  # --show, --watch: not part of a first reading
        return other(cfg)
    theorems = theorems_for(cfg)
    env = LeanEnv(lean=cfg.lean, project=cfg.lean_project or None)
    if cfg.data != "toy":
        # A statement that this Lean cannot read is named and left out.
        theorems, _ = screen(env, theorems)
    print(f"{len(theorems)} theorems, {cfg.samples} attempts each · {env.describe()}")

    kept = Kept(cfg, env.describe())
    results = {}
    for subject in subjects(cfg, theorems):
        clock = time.perf_counter()
        attempt, source = kept.of(subject, roll_out, cfg.who)
        result = evaluate(
            subject.policy,
            env,
            subject.theorems,
            cfg.samples,
            subject.max_new_tokens,
            cfg.seed,
            source,
            cfg.who,
            attempt,
        )
        result["seconds"] = time.perf_counter() - clock
        results[subject.label] = result | dict(data=cfg.data, split=cfg.split)
        del subject, attempt, source  # a card has room for one policy
    report(results, cfg, KS)
    kept.finish()
    return results


if __name__ == "__main__":
    run_command("eval.py", main, Config, __doc__)
