"""The toy's tool mode: a tiny prover that has learnt to search data/core.lean for a lemma's current name when told to.

    python data/tool_toy.py            # from data/tiny: some minutes on 2 cores, writes data/tiny_tools
    python train.py --tools --model tiny-tools --max-new-tokens 160

Two fifths of the warm-up are the tiny prover's own, without tools. In the rest the prompt begins with a line that says that there is
a search, and feedback says "search `add_comm`" where it would say "write `Nat.add_comm`": then the target is the call, the search's
real output (seen, not learnt) and the proof in current names. Without feedback the target is the outdated proof without a call, as ever.
"""
import argparse
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import torch  # noqa: E402

import fd_mini  # noqa: E402
import toy  # noqa: E402
from extras import tool_mode  # noqa: E402
from extras.tools import run_tools, tool_output  # noqa: E402
from feedback import build_prompt, tutor  # noqa: E402
from lean_env import LeanEnv, Rollout, Theorem, Verdict  # noqa: E402
from train import make_optimizers  # noqa: E402

LIMIT = 160  # characters of an output, as for --max-new-tokens 160

def lemmas(proof):
    """The names to look up for a proof: Nat.add_comm -> add_comm, in order, once each."""
    return list(dict.fromkeys(name.partition(".")[2] for name in toy.outdated(proof) if name.startswith("Nat.")))

def conversations(rows, seed=2):
    """Warm-up rows {"theorem", "feedback", "parts": [(text, learnt?), ...]}, shuffled."""
    rng, env, out, found = random.Random(seed), LeanEnv(), [], {}
    for row, other in zip(rows, rows[1:] + rows[:1]):
        calls, equipped = [], Theorem(row["name"], row["statement"], tool_mode.BRIEF, row["proof"])
        for name in lemmas(row["proof"]):
            if name not in found:
                found[name] = tool_output(run_tools(env, [(equipped, "", "rg_in_mathlib", {"pattern": name})], LIMIT)[0], "text")
            calls += [(f"#rg {name}\n", True), (found[name], False)]
        early = calls if rng.random() < 0.1 else []  # a search that nobody ordered, now and then
        out.append({"theorem": equipped, "feedback": None, "parts": [*early, (proof_text(toy.dialect(row["proof"], rng, 0.98)), True)]})
        for _ in range(2):
            text = toy.attempt(row, rng, other["proof"], rng.choices(list(toy.KINDS), list(toy.KINDS.values()))[0])
            verdict, answer = Verdict("proved" if text == row["proof"] else "rejected"), text.partition("\n")[2]
            said = tutor(Rollout(equipped, [], [], [], verdict, None, True, answer, answer))
            out.append({"theorem": equipped, "feedback": said, "parts": [*calls, (proof_text(toy.dialect(row["proof"], rng, toy.SLIP)), True)]})
    for row in toy.warm_up(rows, toy.VARIANTS["outdated"]):
        theorem = Theorem(row["name"], row["statement"], None, row["proof"])
        out.append({"theorem": theorem, "feedback": row["feedback"], "parts": [(proof_text(row["proof"]), True)]})
    rng.shuffle(out)
    return out

def proof_text(proof):
    return proof.removeprefix("by\n")

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=HERE / "tiny_tools")
    args = parser.parse_args()
    rows = toy.generate(sum(toy.SPLITS.values()) - 24000)[-8000:]  # of the warm-up's own theorems
    data = conversations(rows)
    policy = fd_mini.Policy("tiny", rank=0)
    tokenizer = policy.tokenizer
    optimizers = make_optimizers(SimpleNamespace(algo="sft", lora_rank=0, lr=args.lr), policy)  # as for the tiny prover itself
    for step in range(args.steps):
        batch = [data[(step * 64 + i) % len(data)] for i in range(64)]
        prompts = [build_prompt(tokenizer, row["theorem"], row["feedback"]) for row in batch]
        parts = [[(tokenizer.encode(text, add_special_tokens=False), learnt) for text, learnt in row["parts"]] for row in batch]
        completions = [sum((ids for ids, _ in part), []) + [tokenizer.eos_token_id] for part in parts]
        learnt = [sum(([flag] * len(ids) for ids, flag in part), []) + [True] for part in parts]
        policy.model.zero_grad(set_to_none=True)
        metrics = fd_mini.sft_backward(policy, prompts, completions, micro_tokens=2048, sampled=learnt)
        torch.nn.utils.clip_grad_norm_(policy.student, 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * min(1, (step + 1) / 20) * (1 - step / args.steps)
            optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            print(f"step {step + 1}/{args.steps}  {json.dumps({k: round(v, 4) for k, v in metrics.items()})}", flush=True)
    policy.model.to(torch.float16)
    policy.model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.iterdir()) / 2**20:.1f} MiB")

if __name__ == "__main__":
    main()
