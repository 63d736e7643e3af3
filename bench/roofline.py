"""python -m bench.roofline: what a step should cost on a card, from its bytes and its arithmetic.

ESTIMATES: nothing here was measured on a card. A kernel is taken to reach 75 % of the memory's
bandwidth, or 60 % of the arithmetic; a small one costs 2.5 microseconds in a graph. All attempts
run to the end, as real ones seldom do. docs/one_card.md explains the terms.
"""

import math
from dataclasses import dataclass

import tyro

from extras import memory, provers
from extras.dry_run import DRIVER, find_config
from extras.memory import GIB

# GiB, bytes and operations a second (bf16) as sold, and for how many rows bitsandbytes 0.50.2
# multiplies without unpacking the weights: those of attention, up and gate, down. The rows are
# those of DeepSeek-Prover's matrices (4096 x 11008), and taken for other models' as well.
CARDS = {
    "RTX 3090": (24, 936e9, 71e12, (64, 128, 64)),
    "RTX 4090": (24, 1008e9, 165e12, (8, 64, 64)),
    "RTX 5090": (32, 1792e9, 209e12, (8, 64, 8)),
}
KERNEL = 2.5e-6
KERNELS = 85  # a layer


@dataclass
class Config:
    model: str = "deepseek-prover-1.5b"
    prompts: int = 32
    # tokens of a prompt, of the advice in the teacher's, and of an attempt
    prompt: int = 300
    advice: int = 200
    new: int = 1024
    rank: int = 32


def looked_up(config):
    """Numbers of which a token reads one row: embeddings that are not the head as well."""
    return 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size


def step_bytes(config, form, rank, rows, width, fused):
    """What one decoding step reads and writes."""
    attention, up, down = fused
    limits = [attention] * 4 + [up] * 2 + [down]
    total = memory.weights(config, form) - 2 * looked_up(config)
    for (a, b), limit in zip(memory.linears(config), limits):
        if form == "nf4" and rows > limit:
            total += 4 * a * b * config.num_hidden_layers  # unpacked: written and read
    adapters = memory.adapters(config, rank, 1) / 2  # in bf16: cast once, before the first token
    return total + adapters + memory.kv_cache(config, rows, width)


def main(cfg):
    config = find_config(cfg.model)
    form = "nf4" if provers.is_large(config) else "bf16"
    numbers = memory.weights(config, "bf16") / 2 - looked_up(config)
    width = cfg.prompt + cfg.new
    print(f"{'estimates':12}{'rows':>6}{'ms a token':>12}{'tokens/s':>10}{'sample s':>10}{'teacher s':>11}{'student s':>11}")
    for name, (gib, bandwidth, speed, fused) in CARDS.items():
        room = memory.plan(config, form, cfg.rank, width, gib * GIB - DRIVER)["room"]
        rows = memory.rollout_batch(config, room, cfg.prompt, cfg.new, cfg.prompts)
        moved = step_bytes(config, form, cfg.rank, rows, width, fused)
        step = moved / (0.75 * bandwidth) + KERNEL * KERNELS * config.num_hidden_layers
        sampling = math.ceil(cfg.prompts / rows) * cfg.new * step
        # Forward: 2 operations a number and token. Student: forward twice, and half a backward.
        token = 2 * numbers / (0.6 * speed)
        teacher = token * cfg.prompts * (width + cfg.advice)
        student = 3 * token * cfg.prompts * width
        print(f"{name:12}{rows:6}{1000 * step:12.0f}{rows / step:10.0f}{sampling:10.0f}{teacher:11.0f}{student:11.0f}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
