"""The memory plan: what a run will need of a GPU, from the model's config alone.

It is made before anything large is loaded. Bytes, by formula: L layers, D width, F inner width,
V vocabulary, H heads and K key-value heads of d numbers, r rank, T tokens of a micro-batch.
What cannot be counted exactly (one layer's recomputed activations, the CUDA context,
fragmentation) is an estimate and named so. The arithmetic is tested (tests/test_memory.py); the
comparison with a measured peak needs a GPU and is not yet run.
"""

import torch

GIB = 2**30
FIXED = 1.6 * GIB  # estimate: CUDA context, cuBLAS workspace, fragmentation
CHUNK = 256  # rows of the head computed at once, fd_mini.linear_topk_cross_entropy


def attention_widths(config):
    """(H d, K d): numbers of a token's queries, and of its keys."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * head, kv_heads * head


def linears(config):
    """(in, out) of one layer's seven linear maps."""
    width, inner = config.hidden_size, config.intermediate_size
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

    They are held as weight, gradient, two of Adam, and the teacher: 5 copies.
    """
    per_layer = rank * sum(a + b for a, b in linears(config))
    return 4 * copies * config.num_hidden_layers * per_layer


def kv_cache(config, rows, tokens):
    """Keys and values in bf16: 2 L K d numbers a token."""
    _, kv = attention_widths(config)
    return rows * tokens * 2 * config.num_hidden_layers * kv * 2


def activations(config, tokens):
    """With checkpoints: each layer's input (T L D, bf16), and one layer's backward.

    What that recomputes (per token) and dequantises is an estimate.
    """
    width, inner = config.hidden_size, config.intermediate_size
    checkpoints = config.num_hidden_layers * width
    recomputed = 12 * width + 5 * inner
    return 2 * tokens * (checkpoints + recomputed) + 2 * width * inner


def head_chunk(config):
    """Logits, their softmax and gradient for one chunk of rows: about 20 bytes each."""
    return 20 * CHUNK * config.vocab_size


def plan(config, form, rank, row_tokens, free, micro_tokens=None, copies=5):
    """The parts in bytes, and the batch sizes `rows` (of rollouts) and `micro_tokens`.

    row_tokens: prompt and completion of the longest row. free: bytes. Batch sizes are chosen to
    fit into 95 % of `free`, micro_tokens where it is None. ValueError, in one line with the
    flag to lower, where it cannot fit.
    """
    parts = {
        "weights": weights(config, form),
        "adapters, optimiser, teacher": adapters(config, rank, copies),
        "fixed (estimate)": FIXED,
    }
    taken = sum(parts.values())
    room = 0.95 * free - taken  # sampling and training take turns in it

    most_rows = int(room // kv_cache(config, 1, row_tokens))
    rows = min(256, most_rows)

    at_rest = activations(config, 0)
    per_token = activations(config, 1) - at_rest
    most_tokens = int((room - head_chunk(config) - at_rest) // per_token)
    if not micro_tokens:
        micro_tokens = max(row_tokens, min(16384, most_tokens // 512 * 512))

    parts["KV cache"] = kv_cache(config, rows, row_tokens)
    parts["activations"] = activations(config, micro_tokens)
    parts["head chunk"] = head_chunk(config)

    if most_rows < 1:
        what, flag = "a single row's KV cache", "--max-new-tokens"
    elif most_tokens < micro_tokens:
        what = f"a micro-batch of {micro_tokens} tokens"
        flag = "--micro-tokens (or --max-new-tokens)"
    else:
        return parts | {"rows": rows, "micro_tokens": micro_tokens}
    raise ValueError(
        f"{what} does not fit: {free / GIB:.1f} GiB are free, the model and its adapters take "
        f"{taken / GIB:.1f}. Lower {flag}, or --lora-rank"
    )


def peaks(parts):
    """Bytes at the peak of sampling and of training, which take turns."""
    *common, cache, blocks, head, _, _ = parts.values()
    return sum(common) + cache, sum(common) + blocks + head


def table(parts, free):
    """The plan as text: its parts, the two peaks, and what is free."""
    *sizes, rows, tokens = parts.values()
    lines = ["memory plan:"]
    for name, size in zip(parts, sizes):
        lines.append(f"  {name:30}{size / GIB:7.2f} GiB")

    sampling, training = peaks(parts)
    title = "peak in sampling, training"
    both = f"{sampling / GIB:7.2f}, {training / GIB:.2f}"
    lines += [
        f"  {title:30}{both} of {free / GIB:.1f} GiB free",
        f"  {rows} rows are sampled at once, a micro-batch has up to {tokens} tokens",
    ]
    return "\n".join(lines)


def fit(cfg, policy):
    """Prints the plan for a policy on CUDA and puts its batch sizes where they are read.

    These places are `policy.rollout_batch` and `cfg.micro_tokens`.
    """
    form = "bf16" if policy.head.dtype == torch.bfloat16 else "fp32"
    if policy.four_bit:
        form = "nf4"

    # What is loaded already is in the plan.
    free, _ = torch.cuda.mem_get_info(policy.device)
    free += torch.cuda.memory_reserved(policy.device)
    # A prompt with feedback seldom has more than 1024 tokens.
    longest = min(policy.max_positions, cfg.max_new_tokens + 1024)
    copies = 6 if cfg.algo == "grpo" else 5  # one more for the reference

    config = policy.model.config.get_text_config()
    parts = plan(config, form, policy.rank, longest, free, cfg.micro_tokens, copies)
    policy.rollout_batch = parts["rows"]
    cfg.micro_tokens = parts["micro_tokens"]
    policy.planned_peak = max(peaks(parts))
    print(table(parts, free), flush=True)


def measured(policy):
    """The line after the first step: what torch's allocator held at its peak, and the plan."""
    tensors = torch.cuda.max_memory_allocated() / GIB
    held = torch.cuda.max_memory_reserved() / GIB
    planned = policy.planned_peak / GIB
    return (
        f"  measured peak: {tensors:.2f} GiB in tensors, {held:.2f} held by torch; planned "
        f"{planned:.2f}, of which {FIXED / GIB:.1f} for CUDA itself, which torch does not "
        "count, and for fragmentation"
    )
