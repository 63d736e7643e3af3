"""Sampling speed: fd_mini.sample against transformers' generate, with the same model, prompts,
batch and lengths.

    python -m bench.rollout               # random weights in the tiny shape, on CUDA where there is one
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
from dataclasses import dataclass

import torch
import transformers
import tyro

import fd_mini
from bench.common import machine, now, number_prompts, random_prover
from extras import provers

TINY = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}


def generate(policy, prompts, new_tokens):
    """transformers' own loop on the same left-padded batch. -> ids up to and with a row's stop"""
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    out = policy.model.generate(
        input_ids=torch.tensor(ids, device=policy.device),  # [B, P]
        attention_mask=torch.tensor(mask, device=policy.device),
        max_new_tokens=new_tokens,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=sorted(policy.stop_ids) or None,
        pad_token_id=0,
        use_cache=True,
    )

    completions = []
    for row in out[:, width:].tolist():
        stops = [t for t, token in enumerate(row) if token in policy.stop_ids]
        completions.append(row[: stops[0] + 1] if stops else row)
    return completions


def sample(policy, prompts, new_tokens):
    generator = torch.Generator().manual_seed(0)
    samples = fd_mini.sample(
        policy, prompts, new_tokens, generator=generator, batch_size=len(prompts)
    )
    return [ids for ids, _ in samples]


def rate(way, policy, prompts, new_tokens):
    """Tokens per second of one run."""
    torch.manual_seed(0)
    start = now(policy.device)
    completions = way(policy, prompts, new_tokens)
    return sum(map(len, completions)) / (now(policy.device) - start)


def compare(policy, prompts, new_tokens):
    """The better of two rates of generate and of sample."""
    theirs = []
    ours = []
    for length in (4, new_tokens, new_tokens):  # a short run first, to warm up
        theirs.append(rate(generate, policy, prompts, length))
        ours.append(rate(sample, policy, prompts, length))
    return max(theirs[1:]), max(ours[1:])


@dataclass
class Config:
    """Tokens per second of sampling."""

    model: str = ""  # empty: the tiny shape with random weights
    batch: int = 64  # rows decoded together
    new_tokens: int = 64  # most tokens per completion


def main(cfg: Config):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    print(machine("transformers"))
    print(f"batch {cfg.batch}, prompts of 16 to 48 tokens, up to {cfg.new_tokens} new ones\n")
    titles = f"{'device':8}{'base, LoRA':18}{'case':10}"
    print(f"{titles}{'generate tok/s':>16}{'sample tok/s':>15}{'ratio':>8}")

    kinds = [(32, "none"), (32, "nf4")]
    with tempfile.TemporaryDirectory() as folder:
        if not cfg.model:
            random_prover(folder, TINY)
            kinds.append((0, "none"))
        for rank, quantize in kinds:
            policy = provers.load(cfg.model or folder, rank, quantize)
            table(policy, policy.device.type, rank, cfg)


def table(policy, device, rank, cfg):
    """Prints a line for each case."""
    vocabulary = len(policy.head)
    prompts = number_prompts(cfg.batch, list(range(16, 49)), vocabulary)
    base = "NF4" if policy.four_bit else str(policy.head.dtype).removeprefix("torch.")
    adapters = f"rank {rank}" if rank else "no LoRA"

    # About one token in 32 is a stop: lengths spread as those of real proofs do.
    cases = {"full": set(), "ragged": set(range(0, vocabulary, 32))}
    for case, stops in cases.items():
        policy.stop_ids = stops
        policy.model.generation_config.eos_token_id = sorted(stops) or None
        theirs, ours = compare(policy, prompts, cfg.new_tokens)
        line = f"{device:8}{f'{base}, {adapters}':18}{case:10}"
        print(f"{line}{theirs:16,.0f}{ours:15,.0f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
