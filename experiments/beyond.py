"""FD with one thing changed, that the paper does not do. Nothing here is on by default;
`python -m experiments.figures --only beyond` compares.

    python -m experiments.beyond failures --steps 40         # the flags are train.py's
    python -m experiments.beyond taught+failures --steps 40  # several at once
    python -m experiments.beyond expert --algo grpo          # expert iteration

A change is a function of what the tutor wrote, or a loss in place of the paper's
(experiments/ABLATION.md walks through adding one). What helped stands in train.py as a flag:
`--tail reverse`.
"""

import sys
from functools import partial

import torch

import fd_mini
import train
from eval import roll_out, seeded
from extras.imitation import sft_backward


# --- another step
def expert_step(cfg, run, theorems, step):
    """Expert iteration: imitate the attempts of this step that Lean has accepted."""
    metrics, rollouts = train.sample_and_judge(cfg, run, theorems, step)
    good = [r for r in rollouts if r.verdict.status == "proved"]
    if good:
        rows = zip(*[(r.prompt_ids, r.completion_ids, r.sampled) for r in good])
        metrics |= sft_backward(run.policy, *rows, cfg.micro_tokens)
    return metrics, rollouts


# --- changes of who is taught what
# (rollouts, the tutor's texts, policy, env, config, call number) -> texts; None: not taught
def failures(rollouts, texts, *_):
    """No distillation on successes."""
    return [
        None if r.verdict.status == "proved" else text
        for r, text in zip(rollouts, texts)
    ]


def taught(rollouts, texts, policy, env, cfg, number):
    """Distil only where the teacher, having read the feedback, proves the theorem itself in one
    attempt. Twice the samples."""
    theorems = [rollout.theorem for rollout in rollouts]
    seed = cfg.seed * 1_000_003 - number
    own = roll_out(
        policy, env, theorems, cfg.max_new_tokens, seeded(seed), texts, "teacher"
    )
    return [
        text if r.verdict.status == "proved" else None for r, text in zip(own, texts)
    ]


def wrong_feedback(rollouts, texts, *_):
    """Everybody hears what was said about another theorem's attempt."""
    return texts[1:] + texts[:1]


def position(rollouts, texts, policy, env, cfg, number):
    """Later tokens of a wrong attempt count less (arXiv 2605.21606): token t of T is kept with
    probability 1 - t/T, which weighs it so on average."""
    generator = seeded(cfg.seed * 1_000_003 - number)
    for rollout in rollouts:
        length = len(rollout.sampled)
        if rollout.verdict.status != "proved":
            chances = 1 - torch.arange(length) / length
            rollout.sampled = torch.bernoulli(chances, generator=generator).bool().tolist()
    return texts


CHANGES = {change.__name__: change for change in (failures, taught, wrong_feedback, position)}


# --- another loss
def forks(logp, logq):
    """No loss where the student is undecided, above half a nat among the teacher's top K: there
    self-distillation was seen to close forks that are needed (arXiv 2607.05184)."""
    entropy = -(logq.exp() * logq).sum(-1)  # [N]
    return fd_mini.drop_tail(logp, logq) * (entropy < 0.5)


def main(names, flags):
    """train.py with these changes."""
    known = {"expert", "forks", "no_momentum", *CHANGES}
    unknown = set(names) - known
    if unknown:
        sys.exit(
            f"beyond.py: {', '.join(unknown)} is none of {', '.join(sorted(known))}. Begin with "
            "one, or several with + between them; then train.py's flags"
        )
    if "expert" in names:
        train.STEPS["grpo"] = expert_step
        return train.main(flags)
    if "forks" in names:
        fd_mini.LOSSES["drop"] = forks
    if "no_momentum" in names:  # Adam's step follows the gradient of its own batch alone
        torch.optim.AdamW = partial(torch.optim.AdamW, betas=(0.0, 0.999))

    prepare = train.prepare

    def changed(cfg):
        run = prepare(cfg)
        write = run.source.write
        calls = 0

        def rewrite(rollouts):
            nonlocal calls
            calls += 1
            texts = write(rollouts)
            for name, change in CHANGES.items():
                if name in names:
                    texts = change(rollouts, texts, run.policy, run.env, cfg, calls)
            return texts

        run.source.write = rewrite
        return run

    train.prepare = changed
    train.main(flags)


if __name__ == "__main__":
    changes, *flags = sys.argv[1:] or ["nothing"]
    main(changes.split("+"), flags)
