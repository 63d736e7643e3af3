"""Sampling speed: fd_mini.sample against transformers' generate, with the same model, prompts,
batch and lengths.

    python -m bench.rollout               # random weights in the tiny shape, on CUDA if it is there
    python -m bench.rollout --model NAME  # another model (an alias, a folder, a hub id)
    python -m bench.rollout --long-tail   # many prompts, few slots, lengths with a long tail

The base is fp32 on a CPU and bf16 on CUDA, or NF4, with and without adapters (another model: with).

Two cases. "full": no row ever stops, so that both decode the same tokens: the cost of a step.
"ragged": rows stop at random, as real proofs do: `generate` keeps decoding rows that have finished
until the last one has, sample() drops them. Tokens count until a row's stop.

--long-tail: 64 prompts with a model of 25M parameters, 16 rows at a time: in order and batch by batch for
`generate`, in slots for sample(). Every row has a length that is forced, the same for both. "tail":
a median of 150 tokens, the longest has 1,024. "even": all have 256. Both sample at
temperature 1 without top-p or top-k and keep a KV cache. Timings on a shared machine vary by tens
of percent: both sides run in turn and the better of two is kept. The ratio is what to read; nothing
is asserted.
"""

import math
import random
import tempfile
from statistics import NormalDist

import torch
import tyro
from transformers import GenerationConfig, LlamaConfig

import fd_mini
from bench.common import TINY, machine, now, number_prompts, random_prover
from extras import provers
from extras.flags import at_least_one
from extras.stops import in_one_line


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


MEDIUM = LlamaConfig(
    vocab_size=512,
    hidden_size=512,
    intermediate_size=1376,
    num_hidden_layers=8,
    num_attention_heads=8,
    max_position_embeddings=2048,
)
PROMPTS, SLOTS = 64, 16


def tail_lengths(median=150, longest=1024):
    """The quantiles of a log-normal distribution, in an order that is drawn once."""
    normal = NormalDist()
    z = [normal.inv_cdf((i + 0.5) / PROMPTS) for i in range(PROMPTS)]
    sigma = math.log(longest / median) / z[-1]
    lengths = [round(median * math.exp(sigma * x)) for x in z]
    random.Random(0).shuffle(lengths)
    return lengths


def generate_forced(policy, prompts, lengths):
    """Batches in order, each until its longest row has its tokens. -> seconds"""
    start = now(policy.device)
    for first in range(0, PROMPTS, SLOTS):
        some = lengths[first : first + SLOTS]
        rows = {"input_ids": prompts[first : first + SLOTS]}
        batch = policy.tokenizer.pad(rows, padding_side="left", return_tensors="pt")
        # A row that has ended is padded by `generate` until the last one has ended, so that the
        # longest alone says how many steps there are.
        policy.model.generate(**batch.to(policy.device), max_new_tokens=max(some))
    return now(policy.device) - start


def sample_forced(policy, prompts, lengths):
    """-> seconds"""
    wanted = {prompt[0]: length for prompt, length in zip(prompts, lengths)}
    has_ended = fd_mini.has_ended

    def at_its_length(policy, prompt, completion, *_):
        return len(completion) == wanted[prompt[0]]

    fd_mini.has_ended = at_its_length
    start = now(policy.device)
    samples = fd_mini.sample(policy, prompts, max(lengths), batch_size=SLOTS)
    seconds = now(policy.device) - start
    fd_mini.has_ended = has_ended
    assert [len(ids) for ids, _ in samples] == lengths
    return seconds


def tail(policy, rounds):
    """Prints a line for each case: both sides in turn."""
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    policy.stop_ids = set()
    policy.model.generation_config = GenerationConfig(do_sample=True, top_k=0, pad_token_id=0)
    # The first token says which row it is.
    prompts = number_prompts(16 + i % 33 for i in range(PROMPTS))
    prompts = [[1 + i, *prompt] for i, prompt in enumerate(prompts)]

    sample_forced(policy, prompts, [2] * PROMPTS)  # warms up
    for case, lengths in (("even", [256] * PROMPTS), ("tail", tail_lengths())):
        for _ in range(rounds):
            theirs = sum(lengths) / generate_forced(policy, prompts, lengths)
            ours = sum(lengths) / sample_forced(policy, prompts, lengths)
            print(f"{case:36}{theirs:16,.0f}{ours:15,.0f}{ours / theirs:8.2f}", flush=True)


def main(model: str = "", batch: int = 64, new_tokens: int = 64, long_tail: bool = False):
    """Tokens per second of sampling.

    Args:
        model: empty: the tiny shape with random weights.
        batch: rows decoded together.
        new_tokens: most tokens per completion.
        long_tail: many prompts, few slots, lengths with a long tail, instead.
    """
    at_least_one(batch=batch, new_tokens=new_tokens)
    print(machine("transformers"))
    if long_tail:
        with tempfile.TemporaryDirectory() as folder:
            random_prover(folder, MEDIUM)
            tail(provers.load(folder, 32, "none"), rounds=2)
        return

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
    with in_one_line("rollout.py"):
        tyro.cli(main, description=__doc__)
