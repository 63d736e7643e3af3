"""One whole FD step and one whole GRPO step: sampling, loss, optimiser. No Lean and no feedback endpoint: stubs give the verdicts and
the advice, so that only the model is timed.

    python bench/step.py                    the shipped tiny prover on the CPU, beside TRL's nearest trainers where `trl` can be imported
    python bench/step.py --cuda             DeepSeek-Prover-V1.5's exact shape with random weights in NF4 (not yet run)
    python bench/step.py --cuda --small     the same code path scaled down, on whatever device there is

TRL's nearest: GKDTrainer (on-policy, forward KL over the full vocabulary, the base as its teacher, no feedback in its prompt) beside
FD, GRPOTrainer (groups of 5, KL 0.001) beside GRPO: same model, prompts, LoRA rank and longest completion, each best of two steps after
a first one. With --cuda no row ever stops (the worst case), so that lengths are known; prompts have 256 tokens, the teacher's 512.
The random model is written to a temporary folder (13 GiB) and loaded like any other. Peak memory should stay below 22 GiB.
"""
import argparse
import contextlib
import io
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, PreTrainedTokenizerFast, TrainerCallback

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import fd_mini  # noqa: E402
from feedback import build_prompt  # noqa: E402
from lean_env import Theorem  # noqa: E402

GROUP, RANK = 5, 32
DEEPSEEK = dict(vocab_size=102400, hidden_size=4096, intermediate_size=11008, num_hidden_layers=30, num_attention_heads=32,
                num_key_value_heads=32, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=None, eos_token_id=0)
SMALL = DEEPSEEK | dict(vocab_size=1024, hidden_size=128, intermediate_size=344, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=4)


def now(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def clocked(policy, seconds):
    """policy.act_as that adds the time spent in each role to `seconds`."""
    act_as = type(policy).act_as

    @contextlib.contextmanager
    def timed(who):
        start = now(policy.device)
        with act_as(policy, who):
            yield
        seconds[who] = seconds.get(who, 0) + now(policy.device) - start

    return timed


def step(policy, optimizer, algo, prompts, teacher_prompts, args):
    """One step as train.py takes it. -> (seconds by phase, sampled tokens)"""
    seconds, start = {}, now(policy.device)
    rows = prompts if algo == "fd" else [p for p in prompts for _ in range(GROUP)]
    policy.model.zero_grad(set_to_none=True)
    completions = [ids for ids, _ in fd_mini.sample(policy, rows, args.new_tokens, generator=torch.Generator().manual_seed(0),
                                                    batch_size=args.batch)]
    seconds["sample"], policy.act_as = now(policy.device) - start, clocked(policy, seconds)
    sampled = [[True] * len(c) for c in completions]
    if algo == "fd":
        fd_mini.fd_backward(policy, rows, teacher_prompts, completions, sampled, micro_tokens=args.micro_tokens)
    else:
        rewards = torch.tensor([float(i % GROUP < 2) for i in range(len(rows))]).view(-1, GROUP)  # stub verdicts: two of five right
        fd_mini.grpo_backward(policy, rows, completions, sampled, fd_mini.group_advantages(rewards).flatten().tolist(),
                              micro_tokens=args.micro_tokens)
    del policy.act_as
    begin = now(policy.device)
    torch.nn.utils.clip_grad_norm_(policy.student, 1.0)
    optimizer.step()
    policy.update_teacher(0.9)
    return seconds | {"optimiser": now(policy.device) - begin, "whole": now(policy.device) - start}, sum(map(len, completions))


def ours(policy, prompts, teacher_prompts, args):
    """Prints a line for FD and one for GRPO. -> {"fd": seconds, "grpo": seconds}"""
    cuda, whole = policy.device.type == "cuda", {}
    print(f"\n{'':14}{'s/step':>8}{'sampled tok/s':>15}{'trained tok/s':>15}{'peak GiB':>10}   share of time")
    for algo in ("fd", "grpo"):
        optimizer = torch.optim.AdamW(policy.student, lr=1e-5)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds, tokens = min((step(policy, optimizer, algo, prompts, teacher_prompts, args) for _ in range(args.steps)),
                              key=lambda result: result[0]["whole"])
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
        peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else kib / 2**20  # a CPU's is the whole process's so far
        whole[algo] = seconds.pop("whole")
        train = sum(seconds.values()) - seconds["sample"]
        shares = "  ".join(f"{name} {value / whole[algo]:.0%}" for name, value in seconds.items())
        print(f"{'fd_mini ' + algo.upper():14}{whole[algo]:8.2f}{tokens / seconds['sample']:15,.0f}{tokens / train:15,.0f}{peak:10.2f}   {shares}",
              flush=True)
    return whole


class StepClock(TrainerCallback):
    """Seconds of each of TRL's steps."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *args, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)


def trl_steps(folder, prompts, args, device):
    """Seconds of one step of TRL's trainers: {"fd": ..., "grpo": ...}."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    whole = {}
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)  # noqa: E731
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):  # its own log lines
        common = dict(output_dir=out, max_steps=args.steps, learning_rate=1e-5, report_to="none", save_strategy="no", bf16=False,
                      gradient_checkpointing=False, use_cpu=device.type == "cpu", disable_tqdm=True, logging_strategy="no")
        lora = dict(peft_config=LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"))

        def collate(rows):
            batch = tokenizer.pad({"input_ids": [row["ids"] for row in rows]}, return_tensors="pt")
            return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": batch["input_ids"].clone(),
                    "prompts": batch["input_ids"], "prompt_attention_mask": batch["attention_mask"]}

        config = GKDConfig(**common, per_device_train_batch_size=len(prompts), lmbda=1.0, beta=0.0, temperature=1.0,
                           max_new_tokens=args.new_tokens)
        clock = StepClock()
        GKDTrainer(load(), load(), config, collate, Dataset.from_list([{"ids": p} for p in prompts]), processing_class=tokenizer,
                   callbacks=[clock], **lora).train()
        whole["fd"], clock = min(clock.seconds), StepClock()
        config = GRPOConfig(**common, per_device_train_batch_size=GROUP * len(prompts), num_generations=GROUP, beta=0.001,
                            temperature=1.0, max_completion_length=args.new_tokens)
        GRPOTrainer(load(), lambda completions, **_: [float(i % GROUP < 2) for i in range(len(completions))], config,
                    Dataset.from_list([{"prompt": tokenizer.decode(p)} for p in prompts]), processing_class=tokenizer,
                    callbacks=[clock], **lora).train()
        whole["grpo"] = min(clock.seconds)
    return whole


def tiny(args):
    """The shipped tiny prover on toy theorems, against TRL."""
    policy = fd_mini.Policy("tiny", rank=RANK, device="cpu")
    with open(ROOT / "toy" / "train.jsonl", encoding="utf-8") as file:
        theorems = [Theorem(row["name"], row["statement"]) for row in map(json.loads, file)][:args.prompts]
    advice = "1. Write `intro`, not `assume`.\n2. Use `exact h`, not `exact k`."  # what a tutor writes, in length
    prompts, teacher_prompts = ([build_prompt(policy.tokenizer, t, f) for t in theorems] for f in (None, advice))
    mine = ours(policy, prompts, teacher_prompts, args)
    try:
        theirs = trl_steps(policy.name, prompts, args, policy.device)
    except ImportError as error:
        return print(f"\ntrl not installed: pip install trl ({error})")
    print(f"\n{'':14}{'TRL s/step':>12}{'TRL / fd_mini':>16}")
    for algo, name in (("fd", "GKDTrainer"), ("grpo", "GRPOTrainer")):
        print(f"{name:14}{theirs[algo]:12.2f}{theirs[algo] / mine[algo]:16.2f}")


def deepseek(args):
    """DeepSeek-Prover-V1.5's shape, or a small one, with random weights in NF4."""
    shape, device = SMALL if args.small else DEEPSEEK, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not args.small:
        sys.exit("bench/step.py: --cuda needs a CUDA device; --cuda --small runs the same code on a CPU")
    with tempfile.TemporaryDirectory() as folder:
        words = {f"w{i}": i for i in range(shape["vocab_size"])}
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w1")), eos_token="w0").save_pretrained(folder)
        with device:  # 13 GiB in bf16, drawn where that is fast
            model = transformers.AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=torch.bfloat16)
        model.save_pretrained(folder)
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
        policy = fd_mini.Policy(folder, rank=RANK, quantize="nf4")
    policy.stop_ids = set()
    prompts, teacher_prompts = ([[1 + (7 * i + t) % 997 for t in range(n)] for i in range(args.prompts)] for n in (256, 512))
    print(f"{args.prompts} prompts, {args.new_tokens} new tokens each, {args.batch} rows decoded together, {args.micro_tokens} tokens a pass")
    ours(policy, prompts, teacher_prompts, args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="DeepSeek-Prover-V1.5's shape in NF4")
    parser.add_argument("--small", action="store_true", help="with --cuda: scaled down, runs on a CPU as well")
    parser.add_argument("--prompts", type=int, default=None, help="theorems in a step; default 64, with --cuda 8")
    parser.add_argument("--new-tokens", type=int, default=None, help="longest completion; default 80, with --cuda 2048")
    parser.add_argument("--batch", type=int, default=None, help="rows decoded together; default 64, with --cuda 8")
    parser.add_argument("--micro-tokens", type=int, default=None, help="tokens in one pass; default 2048, with --cuda 8192")
    parser.add_argument("--steps", type=int, default=3, help="steps of each, the best is kept")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    args = parser.parse_args()
    defaults = dict(prompts=8, new_tokens=64 if args.small else 2048, batch=8, micro_tokens=8192) if args.cuda else dict(
        prompts=64, new_tokens=80, batch=64, micro_tokens=2048)
    for name, value in defaults.items():
        setattr(args, name, getattr(args, name) or value)
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    versions = [f"{name} {sys.modules[name].__version__}" for name in ("torch", "transformers")]
    with contextlib.suppress(ImportError):
        import trl
        versions.append(f"trl {trl.__version__}")
    print(", ".join(versions) + f", python {platform.python_version()}, {args.threads} thread(s); "
          + (torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"))
    (deepseek if args.cuda else tiny)(args)


if __name__ == "__main__":
    main()
