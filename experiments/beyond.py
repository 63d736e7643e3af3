"""FD with one thing changed, that the paper does not do. Nothing here is on by default;
`python -m experiments.figures --only beyond` compares.

    python -m experiments.beyond failures --steps 40 --out out/failures  # the flags are train.py's
    python -m experiments.beyond taught+failures --steps 40    # several at once
    python -m experiments.beyond expert --algo grpo                      # expert iteration

A change is a function of what the tutor wrote; the loss itself is changed in fd_mini.py
(experiments/ABLATION.md walks through that). What helped stands in train.py as a flag:
`--tail reverse`.
"""

import sys

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


CHANGES = {change.__name__: change for change in (failures, taught, wrong_feedback)}


def main(names, flags):
    """train.py with these changes."""
    if names == ["expert"]:
        train.STEPS["grpo"] = expert_step
        return train.main(flags)
    unknown = set(names) - CHANGES.keys()
    if unknown:
        sys.exit(
            f"beyond.py: {', '.join(unknown)} is none of expert, {', '.join(CHANGES)}. Begin with one, "
            "or several with + between them; then train.py's flags"
        )

    prepare = train.prepare

    def changed(cfg):
        run = prepare(cfg)
        write = run.source.write
        calls = 0

        def rewrite(rollouts):
            nonlocal calls
            calls += 1
            texts = write(rollouts)
            for name in names:
                texts = CHANGES[name](rollouts, texts, run.policy, run.env, cfg, calls)
            return texts

        run.source.write = rewrite
        return run

    train.prepare = changed
    train.main(flags)


if __name__ == "__main__":
    changes, *flags = sys.argv[1:] or ["nothing"]
    main(changes.split("+"), flags)
