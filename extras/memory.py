"""The memory plan: what a run will need of a GPU, from the model's config alone, before anything large is loaded.

Bytes, by formula: L layers, D width, F inner width, V vocabulary, H heads and K key-value heads of d numbers, r rank, T tokens of a
micro-batch. What cannot be counted exactly (one layer's recomputed activations, the CUDA context, fragmentation) is an estimate, named so.
The arithmetic is tested (tests/test_memory.py); the comparison with a measured peak needs a GPU and is not yet run.
"""
GIB = 2**30
FIXED = 1.6 * GIB  # estimate: CUDA context, cuBLAS workspace, fragmentation
CHUNK = 256  # rows of the head computed at once, fd_mini.linear_topk_cross_entropy

def linears(config) -> list[tuple[int, int]]:
    """(in, out) of one layer's seven linear maps."""
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or width // heads
    q, kv = heads * head, (getattr(config, "num_key_value_heads", None) or heads) * head
    return [(width, q), (width, kv), (width, kv), (q, width), (width, inner), (width, inner), (inner, width)]

def weights(config, form: str) -> float:
    """The base. form "nf4": layers in 4 bits and one fp32 scale per 64 of them, embeddings and head in bf16; or "bf16", "fp32"."""
    layers = config.num_hidden_layers * sum(a * b for a, b in linears(config))  # L (2 D H d + 2 D K d + 3 D F)
    ends = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)  # V D, twice where untied
    return {"nf4": layers * (0.5 + 4 / 64) + ends * 2, "bf16": (layers + ends) * 2, "fp32": (layers + ends) * 4}[form]

def adapters(config, rank: int, copies: int = 5) -> float:
    """LoRA on all linear maps: r (in + out) numbers each, fp32, held as weight, gradient, two of Adam, and the teacher (5 copies)."""
    return 4 * copies * rank * config.num_hidden_layers * sum(a + b for a, b in linears(config))

def kv_cache(config, rows: int, tokens: int) -> float:
    """Keys and values in bf16: 2 L K d numbers a token."""
    return rows * tokens * 2 * config.num_hidden_layers * linears(config)[1][1] * 2

def activations(config, tokens: int) -> float:
    """With checkpoints: each layer's input (T L D, bf16) and, estimate, what one layer's backward recomputes and dequantises."""
    width, inner = config.hidden_size, config.intermediate_size
    return 2 * tokens * (config.num_hidden_layers * width + 12 * width + 5 * inner) + 2 * width * inner

def head_chunk(config) -> float:
    """Logits, their softmax and gradient for one chunk of rows: about 20 bytes each."""
    return 20 * CHUNK * config.vocab_size

def plan(config, form: str, rank: int, row_tokens: int, free: float, rows=None, micro_tokens=None, copies=5) -> dict:
    """The parts in bytes, and the rollout batch (`rows`) and `micro_tokens`, chosen to fit into 95 % of `free` where they are None.

    row_tokens: prompt and completion of the longest row. ValueError, in one line with the flag to lower, where it cannot fit."""
    parts = {"weights": weights(config, form), "adapters, optimiser, teacher": adapters(config, rank, copies), "fixed (estimate)": FIXED}
    room = 0.95 * free - sum(parts.values())  # sampling and training take turns in it
    most = int(room // kv_cache(config, 1, row_tokens))
    rows = rows or min(256, most)
    per_token = (activations(config, 2**20) - activations(config, 0)) / 2**20
    budget = int((room - head_chunk(config) - activations(config, 0)) // per_token)
    micro_tokens = micro_tokens or max(row_tokens, min(16384, budget // 512 * 512))
    parts |= {"KV cache": kv_cache(config, rows, row_tokens), "activations": activations(config, micro_tokens), "head chunk": head_chunk(config)}
    for name, fits, flag in (("a single row's KV cache", most >= max(rows, 1), "--max-new-tokens"),
                             (f"a micro-batch of {micro_tokens} tokens", budget >= micro_tokens, "--micro-tokens (or --max-new-tokens)")):
        if not fits:
            raise ValueError(f"{name} does not fit: {free / GIB:.1f} GiB are free, the model and its adapters take "
                             f"{(0.95 * free - room) / GIB:.1f}. Lower {flag}, or --lora-rank")
    return parts | {"rows": rows, "micro_tokens": micro_tokens}

def peaks(parts: dict) -> tuple[float, float]:
    """Bytes at the peak of sampling and of training, which take turns."""
    common = sum(parts[name] for name in ("weights", "adapters, optimiser, teacher", "fixed (estimate)"))
    return common + parts["KV cache"], common + parts["activations"] + parts["head chunk"]

def table(parts: dict, free: float) -> str:
    """The plan as text: its parts, the two peaks, and what is free."""
    sampling, training = peaks(parts)
    lines = [f"  {name:30}{size / GIB:7.2f} GiB" for name, size in parts.items() if name not in ("rows", "micro_tokens")]
    return "\n".join(["memory plan:", *lines, f"  {'peak in sampling, training':30}{sampling / GIB:7.2f}, {training / GIB:.2f} of {free / GIB:.1f} GiB free",
                      f"  {parts['rows']} rows are sampled at once, a micro-batch has up to {parts['micro_tokens']} tokens"])

def fit(cfg, policy) -> None:
    """Prints the plan for a policy on CUDA and puts its batch sizes into `policy.rollout_batch` and `cfg.micro_tokens`."""
    import torch
    config = policy.model.config.get_text_config()
    free = torch.cuda.mem_get_info(policy.device)[0] + torch.cuda.memory_reserved(policy.device)  # what is loaded is in the plan
    form = "nf4" if policy.four_bit else "bf16" if policy.head.dtype == torch.bfloat16 else "fp32"
    longest = min(policy.max_positions, cfg.max_new_tokens + 1024)  # a prompt with feedback seldom has more
    parts = plan(config, form, policy.rank, longest, free, None, cfg.micro_tokens, 6 if cfg.algo == "grpo" else 5)  # and the reference
    policy.rollout_batch, cfg.micro_tokens, policy.planned_peak = parts["rows"], parts["micro_tokens"], max(peaks(parts))
    print(table(parts, free), flush=True)

def measured(policy) -> str:
    """The line after the first step: what torch's allocator held at its peak, beside the plan."""
    import torch
    tensors, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return (f"  measured peak: {tensors / GIB:.2f} GiB in tensors, {held / GIB:.2f} held by torch; planned {policy.planned_peak / GIB:.2f}, of which "
            f"{FIXED / GIB:.1f} for CUDA itself, which torch does not count, and for fragmentation")
