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

from extras.endpoint import Endpoint
from feedback import prompt_text
from lean_env import Rollout, Verdict

# Nothing is cut off. The last three are fields of vLLM and others: without them the model's
# generation_config.json decides.
SAMPLING = dict(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0, repetition_penalty=1.0)
# These families were trained on raw completions.
FENCE = re.compile(
    r"deepseek-prover-(v?1\.5)|goedel-prover-sft|goedel-prover-dpo", re.IGNORECASE
)


def read(reply):
    """(text, finished, tokens) of a reply in either format.

    None where the server itself gave up ("abort", "content_filter").
    """
    choice = reply["choices"][0]
    reason = choice["finish_reason"]
    if reason not in ("stop", "length"):
        return None

    if "text" in choice:
        text = choice["text"]
    else:
        text = choice["message"]["content"]  # null: cut while it was thinking
    usage = reply.get("usage") or {}
    return text or "", reason == "stop", usage.get("completion_tokens", 0)


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
    fields = dict(SAMPLING, max_tokens=max_new_tokens)
    if style == "fence":
        fields["stop"] = ["```"]

    # Can it be used at all?
    shortest = fields | {"max_tokens": 1}
    first = Endpoint(kind, model, url, read, 120.0, 1, backoff, **shortest)
    first(["theorem"], 1)

    print(f"{model} at {url}, prompt style {style}", flush=True)
    ask = Endpoint(kind, model, url, read, timeout, max_parallel, backoff, **fields)
    return partial(roll_out, ask, style)


def roll_out(
    ask, style, policy, env, theorems, max_new_tokens, generator, feedback=None, *_
):
    """eval.roll_out with the model elsewhere: rollouts, judged, in order.

    ask: texts -> what `read` took out of each reply, None for a failure. Of the other arguments
    the theorems and their feedback count: length and random numbers are the server's. A request
    that failed gives a "crash": it is left out, never a wrong proof.
    """
    prompts = []
    for theorem, text in zip(theorems, feedback or [None] * len(theorems)):
        # There is no tokenizer here: what looks like a special token is taken for one.
        special = set(re.findall(r"<[^<>\s]+>", text or ""))
        prompts.append(prompt_text(theorem, text, style, sorted(special)))

    rollouts, answered = [], []
    for theorem, answer in zip(theorems, ask(prompts)):
        text, finished, tokens = answer or ("", False, 0)
        ids = [-1] * tokens  # how many there are is known, but not which
        rollout = Rollout(theorem, [], ids, [True] * tokens, Verdict("crash"))
        rollout.finished = finished
        rollout.text = text
        rollout.chat = style == "chat"
        rollouts.append(rollout)
        if answer:
            answered.append(rollout)

    jobs = [(rollout.theorem, rollout.text) for rollout in answered]
    verdicts = env.check_answers(jobs, style == "chat")
    for rollout, verdict in zip(answered, verdicts):
        rollout.verdict = verdict
    return rollouts
