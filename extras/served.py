"""Attempts from a model that an OpenAI-compatible server serves (vLLM, SGLang, llama.cpp, ...): for users who outgrow one card.

    vllm serve deepseek-ai/DeepSeek-Prover-V1.5-SFT --enable-lora --max-lora-rank 32 --lora-modules fd=out/fd/ckpt/student
    python eval.py --endpoint http://localhost:8000/v1 --model fd --style fence --data minif2f --lean-project DIR

Raw prompts (plain, fence) go to /completions, chat ones to /chat/completions, where the server applies its own template. Statement,
words and sampling are those of a local evaluation, and so are the verifier and the metrics, but for the entropy, which no server
tells (nan), and for --seed: the server draws. The key, where one is needed, comes from OPENAI_API_KEY. Tested against a small
server that speaks the format; not yet run against vLLM itself.
"""
import re
from collections.abc import Callable

from feedback import endpoint, extract_proof, prompt_text
from lean_env import Rollout, Verdict

# Nothing cut off. The last three are vLLM's and others' own fields: without them the model's generation_config.json decides.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
FENCE = re.compile(r"deepseek-prover-(v?1\.5)|goedel-prover-sft|goedel-prover-dpo", re.IGNORECASE)  # trained on raw completions


def read(reply: dict) -> tuple[str, bool, int] | None:
    """(text, finished, tokens) of a reply in either format; None where the server itself gave up ("abort", "content_filter")."""
    choice = reply["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]  # null: cut while it was thinking
    tokens = (reply.get("usage") or {}).get("completion_tokens", 0)
    return (text or "", choice["finish_reason"] == "stop", tokens) if choice["finish_reason"] in ("stop", "length") else None


def connect(url: str, model: str, style: str, max_new_tokens: int, timeout=1800.0, max_parallel=64, backoff=0.5) -> Callable:
    """A function like eval.roll_out without its policy: (env, theorems, ..., feedback) -> rollouts, judged, in order.

    url: with or without /v1. model: as the server calls it. style: chat, fence, plain, or auto (chat, but for the families that
    were trained on raw completions). A request that failed gives a "crash": it is left out, never a wrong proof. SystemExit in
    one line when the server cannot be used, at once, and when most of the requests fail, later.
    """
    style = ("fence" if FENCE.search(model) else "chat") if style == "auto" else style
    kind, url = "openai" if style == "chat" else "raw", url.rstrip("/")
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ValueError("--endpoint: write http://HOST:PORT/v1, without a user or a key in it (the key comes from OPENAI_API_KEY)")
    url = url if re.search(r"/v\d+\w*$", url) else url + "/v1"
    fields = SAMPLING | {"max_tokens": max_new_tokens} | ({"stop": ["```"]} if style == "fence" else {})
    endpoint(kind, model, url, 120.0, 1, backoff, read, **fields | {"max_tokens": 1})(["theorem"], 1)  # can it be used at all?
    ask = endpoint(kind, model, url, timeout, max_parallel, backoff, read, **fields)
    print(f"{model} at {url}, prompt style {style}", flush=True)

    def roll_out(env, theorems, max_new_tokens, seed, feedback=None, *_) -> list[Rollout]:
        told = [text or "" for text in feedback or [None] * len(theorems)]
        # no tokenizer here: whatever looks like a special token is taken for one
        prompts = [prompt_text(t, text, style, sorted(set(re.findall(r"<[^<>\s]+>", text)))) for t, text in zip(theorems, told)]
        rollouts = []
        for theorem, answer in zip(theorems, ask(prompts), strict=True):
            text, finished, tokens = answer or ("", False, 0)
            rollout = Rollout(theorem, [], [-1] * tokens, [True] * tokens, finished=finished, text=text)  # how many, not which
            rollout.verdict = None if answer else Verdict("crash", [], [], 0.0)
            rollouts.append(rollout)
        answered = [r for r in rollouts if r.verdict is None]
        jobs = [(r.theorem, extract_proof(r.text, chat=style == "chat")) for r in answered]
        for rollout, verdict in zip(answered, env.check(jobs), strict=True):
            rollout.verdict = verdict
        return rollouts

    return roll_out
