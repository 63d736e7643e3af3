"""Sampling speed: fd_mini.sample against transformers' generate and its continuous batching, in
tokens a second.

    python -m bench.rollout                           # 25 M parameters, random weights: 20 minutes
    python -m bench.rollout --longest 256             # shorter rows
    python -m bench.rollout --quantize nf4 --rank 0   # another base, no adapters
    python -m bench.rollout --model NAME              # an alias, a folder, a hub id

16 rows at a time: batch by batch for `generate`, refilled by the other two. Each row has a length
that is forced, the same for all. "even": all have a quarter of the longest. "tail": as real proofs,
the median has 0.15 of the longest (150 of 1,024 tokens, log-normal). All sample at temperature 1
without top-p or top-k and keep a KV cache. Timings on a shared machine vary by tens of percent: the
sides run in turn, a line for each round. The ratios are what to read; nothing is asserted.
"""

import itertools
import math
import random
import tempfile
from statistics import NormalDist

import tyro
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig

import fd_mini
from bench.common import machine, now, number_prompts, random_prover
from extras import provers
from extras.flags import at_least_one
from extras.stops import in_one_line

PAGE = 32  # columns in a block of continuous batching's cache
MEDIUM = LlamaConfig(
    vocab_size=512,
    hidden_size=512,
    intermediate_size=1376,
    num_hidden_layers=8,
    num_attention_heads=8,
    max_position_embeddings=2048,
)


def long_tail(count, longest):
    """The quantiles of a log-normal distribution, in an order that is drawn once."""
    normal = NormalDist()
    z = [normal.inv_cdf((i + 0.5) / count) for i in range(count)]  # -2.4 to 2.4 for 64
    lengths = [max(1, round(longest * 0.15 ** (1 - x / z[-1]))) for x in z]
    random.Random(0).shuffle(lengths)
    return lengths


def generate(policy, prompts, lengths, slots):
    """transformers' own loop, a batch until its longest row has its tokens. -> seconds"""
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    policy.model.generation_config = GenerationConfig(do_sample=True, top_k=0, pad_token_id=0)
    start = now(policy.device)
    for first in range(0, len(prompts), slots):
        rows = {"input_ids": prompts[first : first + slots]}
        batch = policy.tokenizer.pad(rows, padding_side="left", return_tensors="pt")
        # `generate` pads a row that has ended until the last one has: the longest alone counts.
        most = max(lengths[first : first + slots])
        policy.model.generate(**batch.to(policy.device), max_new_tokens=most)
    return now(policy.device) - start


def continuous(policy, prompts, lengths, slots):
    """transformers' continuous batching. -> seconds"""
    columns = max(map(len, prompts)) + max(lengths)
    # Its own choice is made for a card's memory.
    setting = ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=slots * math.ceil(columns / PAGE),
        max_batch_tokens=1024,
        max_requests_per_batch=slots,
    )
    generation = GenerationConfig(do_sample=True, top_k=0, pad_token_id=0, eos_token_id=-1)
    start = now(policy.device)
    batching = policy.model.continuous_batching_context_manager(
        generation, continuous_batching_config=setting
    )
    with batching as manager:
        for prompt, length in zip(prompts, lengths):
            manager.add_request(prompt, max_new_tokens=length)
        ended = itertools.islice(manager, len(prompts))
        written = [len(row.generated_tokens) for row in ended]
    assert sorted(written) == sorted(lengths)
    return now(policy.device) - start


def sample(policy, prompts, lengths, slots):
    """Ours. -> seconds"""

    def stop(row, ids):
        return len(ids) == lengths[row]

    start = now(policy.device)
    samples = fd_mini.sample(policy, prompts, max(lengths), batch_size=slots, stop=stop)
    seconds = now(policy.device) - start
    assert [len(ids) for ids, _ in samples] == lengths
    return seconds


def main(
    model: str = "",
    rank: int = 32,
    quantize: str = "none",
    prompts: int = 64,
    slots: int = 16,
    longest: int = 1024,
    rounds: int = 2,
):
    """Tokens per second of sampling.

    Args:
        model: empty: 25 M parameters with random weights.
        rank: of the adapters, 0 for none.
        quantize: the base: none, nf4, auto.
        prompts: rows to write.
        slots: rows written at a time.
        longest: tokens of the longest.
        rounds: lines for each case.
    """
    at_least_one(prompts=prompts, slots=slots, longest=longest, rounds=rounds)
    print(machine("transformers"))
    with tempfile.TemporaryDirectory() as folder:
        if not model:
            random_prover(folder, MEDIUM)
        policy = provers.load(model or folder, rank, quantize)
    policy.stop_ids = set()  # a row ends at its length

    # No two are equal: those would be read once.
    texts = number_prompts(16 + i % 33 for i in range(prompts))
    texts = [[1 + i, *text] for i, text in enumerate(texts)]
    cases = {"even": [max(1, longest // 4)] * prompts, "tail": long_tail(prompts, longest)}
    sample(policy, texts, [2] * prompts, slots)  # warms up
    print(f"{'tok/s':8}{'sample':>8}{'generate':>12}{'ratio':>7}{'continuous':>14}{'ratio':>7}")
    for case, lengths in cases.items():
        for _ in range(rounds):
            job = (policy, texts, lengths, slots)
            ours = sum(lengths) / sample(*job)
            line = f"{case:8}{ours:8,.0f}"
            for side, width in ((generate, 12), (continuous, 14)):
                try:
                    speed = sum(lengths) / side(*job)
                except Exception as error:  # it does not run everywhere
                    line += f"{'-':>{width}}  ({type(error).__name__})"
                else:
                    line += f"{speed:{width},.0f}{ours / speed:7.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    with in_one_line("rollout.py"):
        tyro.cli(main, description=__doc__)
