"""The tiny prover, from nothing: warm-up data, an untrained model, training and shipping.

    python -m toy.warm_up --out out/tiny     # about half an hour on a CPU core
    python -m toy.warm_up --ship out/tiny    # checks that prover and puts it into toy/tiny

The warm-up data is what makes the task. Without feedback its proofs are written in Lean 3
(`assume`, `split`, `nat.add_comm`), as by a prover trained on last decade's Lean; with feedback
in the prompt that names the current words (`intro`, `constructor`, `Nat.add_comm`), they are
written in Lean 4. So the tiny prover knows the mathematics, does not know the language it is
judged in, and believes what it is told: what it lacks is exactly what feedback carries.
"""

import random
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import fd_mini
from data import load_theorems
from eval import evaluate
from extras import provers, runs
from extras.flags import at_least_one
from extras.imitation import sft_backward
from extras.stops import in_one_line
from feedback import build_prompt, make_feedback
from lean_env import LeanEnv, Rollout, Verdict
from toy.theorems import unseen
from toy.tutor import CURRENT, NAME, tutor
from train import draw_theorems

# The share of outdated names when no feedback names the current ones.
STALE = 0.98
# A name now and then in the other dialect: what comes later must not depend on what came
# before.
SLIP = 0.02
# What the attempts are like that feedback is about, see `attempt`, and how often.
KINDS = {"own": 50, "right": 20, "wrong": 15, "mixed": 15}
OUTDATED_SHARE = {"own": STALE, "right": 0.0, "wrong": 0.0, "mixed": 0.5}
# Feedback that names nothing changes nothing.
IDLE = [
    "Think carefully.",
    "Be concise.",
    "1. Keep the proof short.",
    "Check every step before the next one.",
]
BATCH = 64  # proofs in an optimiser step
VOCABULARY = 512  # the tokenizer's


# --- the warm-up data
def dialect(proof, rng, stale):
    """The proof with each current name replaced by its outdated twin with probability
    `stale`."""

    def translate(match):
        name = match[0]
        return CURRENT[name] if name in CURRENT and rng.random() < stale else name

    return NAME.sub(translate, proof)


def corrupt(proof, rng, other_proof):
    """A wrong attempt: cut short, or with one line of another proof, with left and right
    exchanged, or with another hypothesis."""
    lines = proof.split("\n")[1:]
    i = rng.randrange(len(lines))
    how = rng.choice(["cut", "line", "side", "hypothesis"])

    if how == "cut":
        lines = lines[: max(i, 1)]
    if how == "line":
        lead = re.match(r"[·\s]*", lines[i])[0]
        lines[i] = lead + rng.choice(other_proof.split("\n")[1:]).strip("· ")
    if how == "side":
        other = {"left": "right", "right": "left"}
        lines = [re.sub(r"\b(left|right)\b", lambda m: other[m[0]], line) for line in lines]
    if how == "hypothesis":
        lines[i] = re.sub(r"\b[hgkm]\b", lambda _: rng.choice("hgkm"), lines[i])
    return "\n".join(["by", *lines])


def attempt(theorem, rng, other_proof):
    """What a prover may have written about this theorem, right or wrong. Kinds: own (outdated),
    right, wrong, mixed (half outdated)."""
    (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
    wrong = kind == "wrong" or (kind != "right" and rng.random() < 0.5)
    proof = corrupt(theorem.proof, rng, other_proof) if wrong else theorem.proof
    return dialect(proof, rng, OUTDATED_SHARE[kind])


def judged(theorem, proof):
    """A rollout of a made-up attempt; whatever differs from the reference counts as wrong."""
    verdict = Verdict("proved" if proof == theorem.proof else "rejected")
    answer = proof.removeprefix("by\n")
    return Rollout(theorem, [], [], [], verdict, finished=True, text=answer)


def advice(theorem, rng, other_proof):
    """What the tutor says after some attempt; now and then the reference proof instead."""
    wants_example = rng.random() < 0.1
    rollout = judged(theorem, attempt(theorem, rng, other_proof))
    rollout.finished = rng.random() > 0.03
    if wants_example:
        return make_feedback("truth").write([rollout])[0]
    (style,) = rng.choices([4, 3, 2, 1], [7, 1, 1, 1])
    return tutor(rollout, style)


def warm_up(theorems, seed=1):
    """Each theorem twice, shuffled: outdated without advice, current with advice in
    `feedback`."""
    rng = random.Random(seed)
    data = []
    for theorem, other in zip(theorems, theorems[1:] + theorems[:1]):
        plain = dialect(theorem.proof, rng, STALE)
        idle = rng.choice(IDLE) if rng.random() < 0.1 else None
        data.append(replace(theorem, proof=plain, feedback=idle))

        current = dialect(theorem.proof, rng, SLIP)
        told = advice(theorem, rng, other.proof)
        data.append(replace(theorem, proof=current, feedback=told))
    rng.shuffle(data)
    return data


# --- the untrained prover
def untrained(folder, theorems):
    """Writes an untrained tiny Llama and its tokenizer to `folder`. The tokenizer is a
    byte-level BPE of the theorems' texts: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    # A word, a digit, a symbol, a newline with its indent.
    words = Regex(r"\n *| ?[\p{L}_][\p{L}_.]*|\p{N}| ?[^\s\p{L}\p{N}]+| ")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(words, "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = [f"/- {t.feedback} -/\n{t.statement} := {t.proof}" for t in theorems]
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    ).save_pretrained(folder)

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


# --- the training: imitation of all proofs, with all weights
# An example is (theorem, [(text, is it learnt?), ...]): what a prover reads, and, with tools,
# what stands before the proof that it is to write.
def encode(tokenizer, theorem, before):
    """An example as token lists (prompt, completion, learnt: one flag a token)."""
    prompt = build_prompt(tokenizer, theorem, theorem.feedback)
    completion = []
    learnt = []
    proof = theorem.proof.removeprefix("by\n")
    for text, is_learnt in [*before, (proof, True)]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        completion += ids
        learnt += [is_learnt] * len(ids)
    return prompt, [*completion, tokenizer.eos_token_id], [*learnt, True]


def draws(examples, steps):
    """A batch of examples for each step, in a new random order each epoch."""
    return [draw_theorems(examples, step, BATCH, seed=0) for step in range(1, steps + 1)]


def make_optimizers(policy, lr):
    """AdamW, and Muon on the matrices inside the layers, which halves the time."""
    matrices = []
    rest = []
    for name, parameter in policy.model.named_parameters():
        is_inside = parameter.ndim == 2 and "layers" in name
        (matrices if is_inside else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=10 * lr, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def imitate(policy, batches, lr, warmup, micro_tokens, out, encode=encode):
    """One optimiser step for each batch of examples. The learning rate climbs to `lr` in
    `warmup` steps and falls to zero. The prover is written to the folder `out`."""
    steps = len(batches)
    optimizers = make_optimizers(policy, lr)
    policy.tokenizer.save_pretrained(out)

    for step, batch in enumerate(batches, 1):
        encoded = [encode(policy.tokenizer, *example) for example in batch]
        prompts, completions, learnt = zip(*encoded)
        policy.model.zero_grad(set_to_none=True)
        metrics = sft_backward(policy, prompts, completions, learnt, micro_tokens)
        torch.nn.utils.clip_grad_norm_(policy.student, 1.0)

        rate = min(1.0, step / warmup) * (1 - (step - 1) / steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * rate
            optimizer.step()

        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {metrics['loss']:.4f}", flush=True)
            policy.model.save_pretrained(out)


# --- the shipping
def install(folder, target):
    """Puts the prover in `folder` into `target` in half precision, if what is written there
    loads again and does what the tutor says on most of 64 theorems. SystemExit if not."""
    if not (folder / "model.safetensors").is_file() or (folder / "adapter_config.json").exists():
        sys.exit(
            f"--ship {folder} holds no whole prover (model.safetensors): give what "
            "`python -m toy.warm_up --out DIR` has written"
        )
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    policy = provers.load(str(folder), rank=0)
    policy.model.half().save_pretrained(new)
    policy.tokenizer.save_pretrained(new)

    theorems = load_theorems("toy", "valid")[:64]
    source = make_feedback("tutor")
    shipped = fd_mini.Policy(str(new))
    told = evaluate(shipped, LeanEnv(), theorems, max_new_tokens=80, source=source)
    print(f"{new}: pass@1 {told['pass@1']:.3f} with the tutor's feedback")
    if told["pass@1"] < 0.5:
        shutil.rmtree(new)
        sys.exit(f"{target} stays as it is: that should be more than half")

    runs.replace_folder(new, target)


def main(
    out: Path = Path("out/tiny"),
    steps: int = 1800,
    ship: Path | None = None,
):
    """Makes the tiny prover, or ships it.

    Args:
        out: a new folder for it and for the untrained prover.
        steps: optimiser steps.
        ship: only check the prover in this folder and put it into toy/tiny.
    """
    at_least_one(steps=steps)
    if ship:
        return install(ship, Path("toy/tiny"))
    if out.exists():
        sys.exit(f"--out {out} is there already: give another folder")

    data = warm_up(unseen(32000))
    untrained(out / "untrained", data)
    policy = fd_mini.Policy(str(out / "untrained"), rank=0)
    batches = draws([(theorem, []) for theorem in data], steps)
    imitate(policy, batches, lr=2e-3, warmup=100, micro_tokens=1600, out=out)


if __name__ == "__main__":
    with in_one_line("warm_up.py"):
        tyro.cli(main)
