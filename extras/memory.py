"""The memory plan: what a run will need of a GPU, from the model's config alone.

It is made before anything large is sampled. Bytes, by formula: L layers, D width, F inner width,
V vocabulary, H heads and K key-value heads of d numbers, r rank, T tokens of a micro-batch. `size`:
bytes of a number while it computes, 4 where all weights train (rank 0).
What one layer holds at its peak is fitted to dry runs (extras/dry_run.py), against which the plan
is tested; what CUDA itself takes and fragmentation are an estimate. Not yet run: the comparison
with a measured peak, which needs a GPU.
"""

import math
from functools import partial

import torch

GIB = 2**30
# Estimate, on the safe side: cuBLAS's workspace, what CUDA loads later, fragmentation.
FIXED = 1.6 * GIB
CHUNK = 256  # rows of the head computed at once, fd_mini.linear_topk_cross_entropy
PROMPT = 1024  # a prompt with feedback seldom has more tokens


def attention_widths(config):
    """(H d, K d): numbers of a token's queries, and of its keys."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * head, kv_heads * head


def inner_width(config):
    """F, which older models do not name: four times D."""
    return getattr(config, "intermediate_size", None) or 4 * config.hidden_size


def linear_layers(config):
    """How many layers keep one state a row instead of keys and values, as most of Qwen3.5's."""
    return list(getattr(config, "layer_types", None) or []).count("linear_attention")


def linears(config):
    """(in, out) of one layer's seven linear maps."""
    width, inner = config.hidden_size, inner_width(config)
    q, kv = attention_widths(config)
    attention = [(width, q), (width, kv), (width, kv), (q, width)]
    return attention + [(width, inner), (width, inner), (inner, width)]


def weights(config, form):
    """The base, its norms left out.

    form: "nf4" (layers in 4 bits and one fp32 scale per 64 of them, embeddings and head in
    bf16), "bf16" or "fp32".
    """
    # L (2 D H d + 2 D K d + 3 D F)
    layers = config.num_hidden_layers * sum(a * b for a, b in linears(config))
    ends = config.vocab_size * config.hidden_size  # V D
    if not config.tie_word_embeddings:
        ends *= 2  # the head has numbers of its own

    if form == "nf4":
        return layers * (0.5 + 4 / 64) + ends * 2
    return (layers + ends) * (2 if form == "bf16" else 4)


def adapters(config, rank, copies=5):
    """LoRA on all linear maps: r (in + out) numbers each, fp32.

    They are held as weight, teacher, two of Adam, and gradient: 5 copies. Rank 0 trains all
    weights, of which one copy is the base that the run started from.
    """
    if rank == 0:
        return copies * weights(config, "fp32")
    per_layer = rank * sum(a + b for a, b in linears(config))
    return 4 * copies * config.num_hidden_layers * per_layer


def kv_cache(config, rows, tokens, size=2):
    """Keys and values, 2 L K d numbers a token, and the states of linear layers."""
    _, kv = attention_widths(config)
    layers = config.num_hidden_layers - linear_layers(config)
    return rows * (size * tokens * 2 * layers * kv + states(config))


def states(config):
    """Bytes that a row's states take, in fp32."""
    layers = linear_layers(config)
    if layers:
        heads = config.linear_num_value_heads
        layers *= heads * config.linear_key_head_dim * config.linear_value_head_dim
    return 4 * layers


def prefill(config, tokens, size=2):
    """Reading prompts of so many tokens, beside the cache: 4 D + 4 F numbers (fitted)."""
    return size * tokens * 4 * (config.hidden_size + inner_width(config))


def beside_cache(config, prompt, size=2):
    """What sampling takes beside the cache: (bytes once, bytes a row).

    All prompts are read together. With linear layers they are read one by one, and what weighs is
    the distribution of each row's next token, 20 bytes a number.
    """
    reading = prefill(config, prompt, size)
    if linear_layers(config):
        return reading, 20 * config.vocab_size
    return 0, reading


def checkpoints(config, tokens, size=2):
    """Each layer's input, T L D numbers."""
    return size * tokens * config.num_hidden_layers * config.hidden_size


def layer(config, tokens, size=2):
    """One layer's backward: what it computes again (fitted) and a dequantised matrix."""
    width, inner = config.hidden_size, inner_width(config)
    q, _ = attention_widths(config)
    linear = 34 * width if linear_layers(config) else 0  # Qwen3.5's, without its own kernels
    return size * (tokens * (11 * width + 5.5 * inner + 5 * q + linear) + width * inner)


def head_chunk(config):
    """Logits, their softmax and gradient for one chunk of rows: about 20 bytes each."""
    return 20 * CHUNK * config.vocab_size


def most_rows(config, room, prompt, new, size=2):
    """How many rows of so many tokens can be decoded together in `room` bytes: at least one."""
    once, each = beside_cache(config, prompt, size)
    row = kv_cache(config, 1, prompt + new, size) + each
    return max(1, min(256, int((room - once) // row)))


def rollout_batch(config, room, prompt, new, waiting, size=2):
    """In place of Policy.rollout_batch: as many, in batches of equal size."""
    batches = math.ceil(waiting / most_rows(config, room, prompt, new, size))
    return math.ceil(waiting / batches)


def plan(config, form, rank, row_tokens, free, micro_tokens=None, copies=5):
    """The parts in bytes, and the batch sizes `rows` (of rollouts) and `micro_tokens`.

    row_tokens: prompt and completion of the longest row. free: bytes. Batch sizes are chosen to
    fit into 95 % of `free`, micro_tokens where it is None. What does not fit is planned as well:
    check() refuses it.
    """
    parts = {
        "weights": weights(config, form),
        "adapters, optimiser, teacher": adapters(config, rank, copies - 1),
        "fixed (estimate)": FIXED,
    }
    room = 0.95 * free - sum(parts.values())  # sampling and training take turns in it
    size = 4 if form == "fp32" else 2
    prompt = min(PROMPT, row_tokens - 1)
    rows = most_rows(config, room, prompt, row_tokens - prompt, size)
    once, each = beside_cache(config, prompt, size)

    gradient = adapters(config, rank, 1)
    if rank == 0:  # embeddings and head: sums of autograd's own (fitted)
        gradient += 3 * 4 * config.vocab_size * config.hidden_size
    matrix = layer(config, 0, size)
    per_token = checkpoints(config, 1, size) + layer(config, 1, size) - matrix
    most_tokens = int((room - gradient - matrix) // per_token)
    if not micro_tokens:
        micro_tokens = max(row_tokens, min(16384, most_tokens // 512 * 512))

    return parts | {
        "KV cache": kv_cache(config, rows, row_tokens, size),
        "reading prompts": once + rows * each,
        "gradient": gradient,
        "checkpoints": checkpoints(config, micro_tokens, size),
        "one layer's backward": layer(config, micro_tokens, size),
        "or a head chunk": head_chunk(config),
        "room": room,
        "rows": rows,
        "micro_tokens": micro_tokens,
    }


def peaks(parts):
    """Bytes at the peak of sampling and of training, which take turns."""
    *common, cache, prompts, gradient, kept, block, head, _, _, _ = parts.values()
    base = sum(common)
    return base + cache + prompts, base + gradient + kept + max(block, head)


def check(policy, parts, free, sampling, training):
    """ValueError, in one line with the flag to lower, when a peak is above what is free."""
    smaller = "--lora-rank" if policy.rank else "--lora-rank 32, which trains adapters alone"
    taken = sum(list(parts.values())[:3])
    if taken > free:
        what = "the model"
        others = "" if policy.four_bit or not policy.rank else "--quantize nf4, "
        flag = f"{others}a smaller --model or {smaller}"
    elif sampling > free:
        what = f"sampling {parts['rows']} rows at a time"
        flag = f"a lower --max-new-tokens or {smaller}"
    elif training > free:
        what = f"a micro-batch of {parts['micro_tokens']} tokens"
        flag = f"a lower --micro-tokens, --max-new-tokens or {smaller}"
    else:
        return
    raise ValueError(
        f"{what} does not fit: {free / GIB:.1f} GiB are free, the model and its adapters take "
        f"{taken / GIB:.1f}. Try {flag}"
    )


def table(parts, free):
    """The plan as text: its parts, the two peaks, and what is free."""
    *sizes, _, rows, tokens = parts.values()
    lines = ["memory plan:"]
    for name, size in zip(parts, sizes):
        lines.append(f"  {name:30}{size / GIB:7.2f} GiB")

    sampling, training = peaks(parts)
    title = "peak in sampling, training"
    both = f"{sampling / GIB:7.2f}, {training / GIB:.2f}"
    lines += [
        f"  {title:30}{both} of {free / GIB:.1f} GiB free",
        f"  {rows} of the longest rows are sampled at once (more of shorter ones), a micro-batch "
        f"has up to {tokens} tokens",
    ]
    return "\n".join(lines)


def available(policy):
    """Bytes of the card that are free, or that torch holds and does not use."""
    free, _ = torch.cuda.mem_get_info(policy.device)
    held = torch.cuda.memory_reserved(policy.device)
    return free + held - torch.cuda.memory_allocated(policy.device)


def share(policy, room):
    """Batches of sampling, tool mode and evaluation will take so many bytes, whatever their
    rows' lengths."""
    config = policy.model.config.get_text_config()
    size = policy.head.dtype.itemsize
    policy.rollout_batch = partial(rollout_batch, config, room, size=size)


def share_what_is_free(policy):
    """For evaluation, which needs nothing else. A run makes its own plan."""
    share(policy, 0.95 * available(policy) - FIXED)


def plan_for(cfg, policy, free):
    """Prints the plan for a policy on a card with so many bytes for it -> the parts.

    Its batch sizes are put where they are read: `policy.rollout_batch` and `cfg.micro_tokens`.
    """
    form = "bf16" if policy.head.dtype == torch.bfloat16 else "fp32"
    if policy.four_bit:
        form = "nf4"
    longest = min(policy.max_positions, cfg.max_new_tokens + PROMPT)
    copies = 6 if cfg.algo == "grpo" else 5  # one more for the reference

    config = policy.model.config.get_text_config()
    parts = plan(config, form, policy.rank, longest, free, cfg.micro_tokens, copies)
    print(table(parts, free), flush=True)
    cfg.micro_tokens = parts["micro_tokens"]
    share(policy, parts["room"])
    policy.planned_peak = max(peaks(parts))
    return parts


def fit(cfg, policy):
    """plan_for() what this card has. ValueError where it does not fit."""
    # What is loaded already is in the plan.
    free = available(policy) + torch.cuda.memory_allocated(policy.device)
    parts = plan_for(cfg, policy, free)
    check(policy, parts, 0.95 * free, *peaks(parts))
    torch.cuda.reset_peak_memory_stats(policy.device)  # loading does not count


def measured(policy):
    """The line after the second step, the first that finds Adam's averages: what torch's allocator held at its peak, and the plan."""
    tensors = torch.cuda.max_memory_allocated() / GIB
    held = torch.cuda.max_memory_reserved() / GIB
    planned = policy.planned_peak / GIB
    return (
        f"  measured peak: {tensors:.2f} GiB in tensors, {held:.2f} held by torch; planned "
        f"{planned:.2f}, of which {FIXED / GIB:.1f} for CUDA itself, which torch does not "
        "count, and for fragmentation"
    )
