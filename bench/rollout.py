"""Sampling speed: fd_mini.sample against transformers' generate, in tokens a second.

    python -m bench.rollout                           # 25 M parameters, random weights: 15 minutes
    python -m bench.rollout --longest 256             # shorter rows
    python -m bench.rollout --quantize nf4 --rank 0   # another base, no adapters
    python -m bench.rollout --model NAME              # an alias, a folder, a hub id

16 rows at a time: batch by batch for `generate`, in slots for sample(). Each row has a length that
is forced, the same for both. "even": all have a quarter of the longest. "tail": as real proofs, the
median has 0.15 of the longest (150 of 1,024 tokens, log-normal). Both sample at temperature 1
without top-p or top-k and keep a KV cache. Timings on a shared machine vary by tens of percent:
both sides run in turn, a line for each round. The ratio is what to read; nothing is asserted.
"""

import random
import tempfile
from statistics import NormalDist

import tyro
from transformers import GenerationConfig, LlamaConfig

import fd_mini
from bench.common import machine, now, number_prompts, random_prover
from extras import provers
from extras.flags import at_least_one
from extras.stops import in_one_line

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


def sample(policy, prompts, lengths, slots):
    """Ours. -> seconds"""
    wanted = {prompt[0]: length for prompt, length in zip(prompts, lengths)}
    has_ended = fd_mini.has_ended

    def at_its_length(_, prompt, completion, *__):
        return len(completion) == wanted[prompt[0]]

    fd_mini.has_ended = at_its_length
    start = now(policy.device)
    samples = fd_mini.sample(policy, prompts, max(lengths), batch_size=slots)
    seconds = now(policy.device) - start
    fd_mini.has_ended = has_ended
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

    # The first token says which row it is.
    texts = number_prompts(16 + i % 33 for i in range(prompts))
    texts = [[1 + i, *text] for i, text in enumerate(texts)]
    cases = {"even": [max(1, longest // 4)] * prompts, "tail": long_tail(prompts, longest)}
    sample(policy, texts, [2] * prompts, slots)  # warms up
    print(f"{'case':8}{'generate tok/s':>16}{'sample tok/s':>15}{'ratio':>8}")
    for case, lengths in cases.items():
        for _ in range(rounds):
            theirs = sum(lengths) / generate(policy, texts, lengths, slots)
            ours = sum(lengths) / sample(policy, texts, lengths, slots)
            print(f"{case:8}{theirs:16,.0f}{ours:15,.0f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    with in_one_line("rollout.py"):
        tyro.cli(main, description=__doc__)
