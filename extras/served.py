"""Attempts by a model that an OpenAI-compatible server serves (vLLM, SGLang, llama.cpp, ...).

    vllm serve deepseek-ai/DeepSeek-Prover-V1.5-SFT --enable-lora --max-lora-rank 32 \
        --lora-modules fd=out/fd/ckpt/student
    python eval.py --endpoint http://localhost:8000/v1 --model fd --style fence \
        --data minif2f --lean-project DIR

Raw prompts (plain, fence) go to /completions, chat ones to /chat/completions, where the server
applies its own template. Statement, words and sampling are those of a local evaluation. So are
the verifier and the metrics, but for the entropy, which no server tells (nan), and for --seed:
the server draws. The key, where one is needed, comes from OPENAI_API_KEY. Tested against a
small server that speaks the format; not yet run against vLLM itself.
"""

import re
from functools import partial

from extras.endpoint import Endpoint, NoAnswer
from feedback import prompt_text
from lean_env import Rollout, Verdict

# Nothing is cut off. The second line is of vLLM and others, and left out where a server refuses
# it: then the model's generation_config.json decides.
SAMPLING = dict(temperature=1.0, top_p=1.0)
EXTRAS = dict(top_k=-1, min_p=0.0, repetition_penalty=1.0)
# These families were trained on raw completions.
FENCE = re.compile(r"(?i)deepseek-prover-(v?1\.5)|goedel-prover-sft|goedel-prover-dpo")


def keep(answer):
    """A raw completion may be empty, as a first short try may."""
    return answer


def refuse_empty(answer):
    """A chat answer. An empty one was cut while it was thinking; if not, NoAnswer."""
    if answer.text.strip() or answer.cut:
        return answer
    return NoAnswer(
        f"empty `content` after {answer.tokens} tokens; if it stands in `reasoning_content`, start "
        "the server without a reasoning parser"
    )


def connect(
    url, model, style, max_new_tokens, timeout=1800.0, max_parallel=64, backoff=0.5
):
    """A served model, to be called like eval.roll_out.

    url: with or without /v1. model: as the server calls it. style: chat, fence, plain, or auto
    (chat, but for the families that were trained on raw completions). SystemExit in one line
    when the server cannot be used, at once, and when most of the requests fail, later.
    """
    if style == "auto":
        style = "fence" if FENCE.search(model) else "chat"

    url = url.rstrip("/")
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ValueError(
            "--endpoint: write http://HOST:PORT/v1, without a user or a key in it "
            "(the key comes from OPENAI_API_KEY)"
        )
    if not re.search(r"/v\d+\w*$", url):
        url += "/v1"

    kind = "openai" if style == "chat" else "raw"
    fields = dict(SAMPLING)
    if style == "fence":
        fields["stop"] = ["```"]

    # Can it be used at all, and with which fields?
    ask = Endpoint(
        kind, model, url, keep, 1, 120.0, max_parallel, backoff, EXTRAS, **fields
    )
    ask(["theorem"], 1)

    print(f"{model} at {url}, prompt style {style}", flush=True)
    ask.limit = max_new_tokens
    ask.timeout = timeout
    if style == "chat":
        ask.read = refuse_empty
    return partial(roll_out, ask, style)


def roll_out(
    ask, style, policy, env, theorems, max_new_tokens, generator, feedback=None, *_
):
    """eval.roll_out with the model elsewhere: rollouts, judged, in order.

    ask: texts -> Answers, None for a failure. Of the other arguments the theorems, their feedback
    and the limit count: random numbers are the server's. A request that failed gives a "crash":
    it is left out, never a wrong proof.
    """
    prompts = []
    for theorem, text in zip(theorems, feedback or [None] * len(theorems)):
        # There is no tokenizer here: what looks like a special token is taken for one.
        special = set(re.findall(r"<[^<>\s]+>", text or ""))
        prompts.append(prompt_text(theorem, text, style, sorted(special)))

    rollouts, answered = [], []
    for theorem, answer in zip(theorems, ask(prompts)):
        rollout = Rollout(theorem, [], [], [], Verdict("crash"), chat=style == "chat")
        rollouts.append(rollout)
        if answer:
            # How many tokens there are is known, but not which.
            rollout.completion_ids = [-1] * min(answer.tokens, max_new_tokens)
            rollout.sampled = [True] * len(rollout.completion_ids)
            rollout.finished = not answer.cut
            rollout.text = answer.text
            answered.append(rollout)

    silent = sum(not rollout.text.strip() for rollout in answered)
    if silent:
        print(f"{silent} of {len(prompts)} answers were empty or cut while thinking")

    jobs = [(rollout.theorem, rollout.text) for rollout in answered]
    verdicts = env.check_answers(jobs, style == "chat")
    for rollout, verdict in zip(answered, verdicts):
        rollout.verdict = verdict
    return rollouts
