"""FD with one thing changed, that the paper does not do. Nothing here is on by default; `figures.py --only beyond` compares.

    python experiments/beyond.py failures --steps 40 --out out/failures  # the flags are train.py's
    python experiments/beyond.py taught+cut --steps 40 --out out/both    # several at once

A change is a function of what the tutor wrote; the loss itself is changed in fd_mini.py (experiments/ABLATION.md walks through
that). What helped stands in train.py as a flag: `--tail reverse`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train  # noqa: E402
from eval import roll_out  # noqa: E402


# --- changes of who is taught what: (rollouts, the tutor's texts, policy, env, config, call number) -> texts; None: not taught
def failures(rollouts, texts, *_):
    """No distillation on successes."""
    return [None if r.verdict.status == "proved" else text for r, text in zip(rollouts, texts)]


def taught(rollouts, texts, policy, env, cfg, number):
    """Distil only where the teacher, having read the feedback, proves the theorem itself in one attempt. Twice the samples."""
    own = roll_out(
        policy,
        env,
        [r.theorem for r in rollouts],
        cfg.max_new_tokens,
        cfg.seed * 1_000_003 - number,
        texts,
        "teacher",
    )
    return [text if r.verdict.status == "proved" else None for r, text in zip(own, texts)]


def wrong_feedback(rollouts, texts, *_):
    """Everybody hears what was said about another theorem's attempt."""
    return texts[1:] + texts[:1]


def cut(rollouts, texts, policy, *_):
    """No loss after the first wrong line: what follows it was written in a state that a right proof never reaches."""
    for r in rollouts:
        r.sampled = [
            line <= wrong_line(r) for line in token_lines(policy.tokenizer, r.completion_ids)
        ]
    return texts


def token_lines(tokenizer, ids):
    """The line (from 0) on which each token begins, in the text of all of them."""
    return [tokenizer.decode(ids[:i]).count("\n") for i in range(len(ids))]


def wrong_line(rollout):
    """The line (from 0) of a proof's text with Lean's first error; infinite where there is none (`unsolved goals` stands at `by`)."""
    above = (
        rollout.theorem.statement.count("\n") + 1
    )  # Lean counts from 1, in the statement, with `:= by` at its end
    lines = [
        m["line"] - above - 1 for m in rollout.verdict.messages if m["severity"] == "error"
    ]
    return min((line for line in lines if line >= 0), default=float("inf"))


CHANGES = {change.__name__: change for change in (failures, taught, wrong_feedback, cut)}


def main(names: list[str], flags: list[str]):
    """train.py with these changes."""
    if unknown := set(names) - CHANGES.keys():
        sys.exit(f"beyond.py: {', '.join(unknown)} is none of {', '.join(CHANGES)}")
    prepare = train.prepare

    def changed(cfg):
        policy, env, source, rows, valid = prepare(cfg)
        write, calls = source.write, []

        def rewrite(rollouts):
            texts = write(rollouts)
            calls.append(len(texts))
            for name in names:
                texts = CHANGES[name](rollouts, texts, policy, env, cfg, len(calls))
            return texts

        source.write = rewrite
        return policy, env, source, rows, valid

    train.prepare = changed
    train.main(flags)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(
            f"beyond.py: begin with a change, or several with + between them: {', '.join(CHANGES)}; then train.py's flags"
        )
    main(sys.argv[1].split("+"), sys.argv[2:])
