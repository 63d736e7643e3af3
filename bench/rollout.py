"""Sampling speed: fd_mini.sample against transformers' generate, same model, prompts, batch and lengths, in one run.

    python bench/rollout.py                     the tiny shape with random weights, on the CPU and on CUDA when there is one
    python bench/rollout.py --model NAME        another model (an alias, a folder, a hub id), adapters on top as in training

The base is fp32 on a CPU and bf16 on CUDA, or NF4, with and without adapters.

Two cases. "full": no row ever stops, so that both decode the same tokens: the cost of a step. "ragged": rows stop at random, as
real proofs do: `generate` keeps decoding rows that have finished until the last one has, sample() drops them. Tokens count until
a row's stop. Both sample at temperature 1 without top-p or top-k and keep a KV cache. Timings on a shared machine vary by tens of
percent: both sides run in turn and the better of two is kept. The ratio is what to read; nothing is asserted.
"""
import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import fd_mini  # noqa: E402


def tiny_shape(folder):
    """A random Llama of the tiny prover's shape: speed does not depend on what the weights say."""
    words = {f"w{i}": i for i in range(512)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w1")), eos_token="w0").save_pretrained(folder)
    config = LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
                         num_key_value_heads=4, max_position_embeddings=1024, bos_token_id=None, eos_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def generate(policy, prompts, new_tokens):
    """transformers' own loop on the same left-padded batch; returns token ids up to and with each row's stop id."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=policy.device)  # [B, P]
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=policy.device)
    stops = sorted(policy.stop_ids) or None
    out = policy.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=True, temperature=1.0, top_p=1.0,
                                top_k=0, eos_token_id=stops, pad_token_id=0, use_cache=True)[:, width:].tolist()
    first = [next((t for t, token in enumerate(row) if token in policy.stop_ids), len(row) - 1) for row in out]
    return [row[:t + 1] for row, t in zip(out, first)]


def clock(run, policy, rates):
    """Appends tokens per second of one run."""
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    completions = run()
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    rates.append(sum(map(len, completions)) / (time.perf_counter() - start))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="default: the tiny shape with random weights")
    parser.add_argument("--batch", type=int, default=64, help="rows decoded together")
    parser.add_argument("--new-tokens", type=int, default=64, help="most tokens per completion")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, python {platform.python_version()}, "
          f"{torch.get_num_threads()} thread(s); " + (torch.cuda.get_device_name() if len(devices) > 1 else "no CUDA device"))
    print(f"batch {args.batch}, prompts of 16 to 48 tokens, up to {args.new_tokens} new ones\n")
    print(f"{'device':8}{'base, LoRA':18}{'case':10}{'generate tok/s':>16}{'sample tok/s':>15}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or tiny_shape(folder)
        for device in devices:
            for rank, quantize in ((32, "none"), (32, "nf4"), (0, "none")) if args.model is None else ((32, "none"), (32, "nf4")):
                policy = fd_mini.Policy(model, rank=rank, quantize=quantize, device=device)
                vocabulary = len(policy.head)
                prompts = [[1 + (7 * i + t) % (vocabulary - 1) for t in range(16 + i % 33)] for i in range(args.batch)]
                # about one token in 32 is a stop: lengths spread as those of real proofs do
                for case, stops in (("full", set()), ("ragged", set(range(0, vocabulary, 32)))):
                    policy.stop_ids, theirs, ours = stops, [], []
                    policy.model.generation_config.eos_token_id = sorted(stops) or None
                    for length in (4, args.new_tokens, args.new_tokens):  # a short run first, to warm up
                        torch.manual_seed(0)
                        g = torch.Generator().manual_seed(0)
                        clock(lambda: generate(policy, prompts, length), policy, theirs)
                        clock(lambda: [c for c, _ in fd_mini.sample(policy, prompts, length, generator=g, batch_size=args.batch)],
                              policy, ours)
                    theirs, ours = max(theirs[1:]), max(ours[1:])
                    form = "NF4" if policy.four_bit else str(policy.head.dtype).removeprefix("torch.")
                    name = f"{form}, {f'rank {rank}' if rank else 'no LoRA'}"
                    print(f"{device:8}{name:18}{case:10}{theirs:16,.0f}{ours:15,.0f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    main()
