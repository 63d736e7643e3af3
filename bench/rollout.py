"""Sampling speed: fd_mini.sample against transformers' generate, with the same model, prompts,
batch and lengths.

    python -m bench.rollout               # random weights in the tiny shape, on CUDA if it is there
    python -m bench.rollout --model NAME  # another model (an alias, a folder, a hub id)

The base is fp32 on a CPU and bf16 on CUDA, or NF4, with and without adapters (another model: with).

Two cases. "full": no row ever stops, so that both decode the same tokens: the cost of a step.
"ragged": rows stop at random, as real proofs do: `generate` keeps decoding rows that have finished
until the last one has, sample() drops them. Tokens count until a row's stop. Both sample at
temperature 1 without top-p or top-k and keep a KV cache. Timings on a shared machine vary by tens
of percent: both sides run in turn and the better of two is kept. The ratio is what to read; nothing
is asserted.
"""

import tempfile

import torch
import tyro
from transformers import GenerationConfig

import fd_mini
from bench.common import TINY, machine, now, number_prompts, random_prover
from extras import provers


def generate(policy, prompts, new_tokens):
    """transformers' own loop on the same left-padded batch. -> tokens up to and with the stops"""
    rows = {"input_ids": prompts}
    batch = policy.tokenizer.pad(rows, padding_side="left", return_tensors="pt")
    width = batch["input_ids"].shape[1]
    out = policy.model.generate(**batch.to(policy.device), max_new_tokens=new_tokens)

    count = 0
    for row in out[:, width:].tolist():
        for token in row:
            count += 1
            if token in policy.stop_ids:
                break
    return count


def sample(policy, prompts, new_tokens):
    """Ours. -> tokens"""
    samples = fd_mini.sample(policy, prompts, new_tokens, batch_size=len(prompts))
    return sum(len(ids) for ids, _ in samples)


def rate(way, policy, prompts, new_tokens):
    """Tokens per second of one run."""
    torch.manual_seed(0)
    start = now(policy.device)
    tokens = way(policy, prompts, new_tokens)
    return tokens / (now(policy.device) - start)


def table(policy, batch, new_tokens):
    """Prints a line for each case."""
    prompts = number_prompts(16 + i % 33 for i in range(batch))
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    base = "NF4" if policy.four_bit else str(policy.head.dtype).removeprefix("torch.")
    adapters = f"rank {policy.rank}" if policy.rank else "no LoRA"

    def both(length):
        return [rate(way, policy, prompts, length) for way in (generate, sample)]

    # About one token in 32 is a stop: lengths spread as those of real proofs do.
    cases = {"full": [], "ragged": list(range(0, len(policy.head), 32))}
    for case, stops in cases.items():
        policy.stop_ids = set(stops)
        policy.model.generation_config = GenerationConfig(
            do_sample=True, top_k=0, eos_token_id=stops or None, pad_token_id=0
        )
        both(4)  # warms up
        theirs, ours = map(max, both(new_tokens), both(new_tokens))
        line = f"{policy.device.type:8}{f'{base}, {adapters}':18}{case:10}"
        print(f"{line}{theirs:16,.0f}{ours:15,.0f}{ours / theirs:8.2f}", flush=True)


def main(model: str = "", batch: int = 64, new_tokens: int = 64):
    """Tokens per second of sampling.

    Args:
        model: empty: the tiny shape with random weights.
        batch: rows decoded together.
        new_tokens: most tokens per completion.
    """
    print(machine("transformers"))
    print(f"batch {batch}, prompts of 16 to 48 tokens, up to {new_tokens} new ones\n")
    titles = f"{'device':8}{'base, LoRA':18}{'case':10}"
    print(f"{titles}{'generate tok/s':>16}{'sample tok/s':>15}{'ratio':>8}")

    kinds = [(32, "none"), (32, "nf4")]
    with tempfile.TemporaryDirectory() as folder:
        if not model:
            random_prover(folder, TINY)
            kinds.append((0, "none"))
        for rank, quantize in kinds:
            policy = provers.load(model or folder, rank, quantize)
            table(policy, batch, new_tokens)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
