"""The toy's tool mode: a tiny prover that has learnt to search for a lemma's current name.

    python -m toy.tool_toy       # from toy/tiny: some minutes on 2 cores, writes toy/tiny_tools
    python train.py --tools --model tiny-tools --max-new-tokens 160

Two fifths of the warm-up are the tiny prover's own, without tools. In the rest the prompt
begins with a line that says that there is a search, and feedback says "search `add_comm`" where
it would say "write `Nat.add_comm`": then the target is the call, the search's real output
(seen, not learnt) and the proof in current names. Without feedback the target is the outdated
proof without a call, as ever.
"""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import fd_mini
from extras import prompts, runs
from extras.tools import run_tools, tool_output
from lean_env import LeanEnv
from toy import warm_up
from toy.theorems import unseen
from toy.tutor import outdated, tutor

LIMIT = 160  # characters of an output, as for --max-new-tokens 160


def conversations(theorems, seed=2):
    """Warm-up examples (theorem, [(text, is it learnt?), ...]), shuffled."""
    rng = random.Random(seed)
    env = LeanEnv()
    examples = []
    for theorem, other in zip(theorems, theorems[1:] + theorems[:1]):
        equipped = replace(theorem, header=prompts.BRIEF)
        calls = []
        for name in dict.fromkeys(outdated(theorem.proof)):
            namespace, _, lemma = name.partition(".")
            if namespace != "Nat":
                continue
            call = (equipped, "", "rg_in_mathlib", {"pattern": lemma})
            (result,) = run_tools(env, [call], LIMIT)
            calls += [(f"#rg {lemma}\n", True), (tool_output(result, "text"), False)]

        # A search that nobody ordered, now and then.
        early = calls if rng.random() < 0.1 else []
        old = warm_up.dialect(theorem.proof, rng, warm_up.STALE)
        examples.append((replace(equipped, proof=old), early))

        for _ in range(2):
            attempt = warm_up.attempt(theorem, rng, other.proof)
            rollout = warm_up.judged(equipped, attempt)
            rollout.conversation = rollout.text  # tells the tutor that there are tools
            current = warm_up.dialect(theorem.proof, rng, warm_up.SLIP)
            told = replace(equipped, proof=current, feedback=tutor(rollout))
            examples.append((told, calls))

    examples += [(theorem, []) for theorem in warm_up.warm_up(theorems)]
    rng.shuffle(examples)
    return examples


def main():
    endless = itertools.cycle(conversations(unseen(8000)))
    batches = [list(itertools.islice(endless, warm_up.BATCH)) for _ in range(600)]
    out = Path(runs.free_folder("out/tiny_tools", resume=False))
    policy = fd_mini.Policy("tiny", rank=0)
    warm_up.imitate(policy, batches, lr=1e-3, warmup=20, micro_tokens=2048, out=out)
    warm_up.install(out, Path("toy/tiny_tools"))


if __name__ == "__main__":
    main()
