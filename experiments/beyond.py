"""FD with one thing changed, that the paper does not do. Nothing here is on by default; `figures.py --only beyond` compares.

    python experiments/beyond.py reverse --steps 40 --out out/reverse        # the flags are train.py's
    python experiments/beyond.py reverse+failures --steps 40 --out out/both  # several at once

A change is a function of what the tutor wrote, or a loss put in the place of `topk_cross_entropy`: the same way, in a few
lines, anything else of the method can be changed (experiments/ABLATION.md walks through one).
"""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fd_mini  # noqa: E402
import train  # noqa: E402
from eval import roll_out  # noqa: E402

def reverse_kl(student_logits, teacher_ids, teacher_logps, tail="drop"):
    """KL(student || teacher) over the teacher's top K and one bucket for the rest, instead of its mirror image: [N, V] -> [N].

    It asks of the student to write only what the teacher may write, not to write all of it."""
    logq = student_logits.float().log_softmax(-1).gather(-1, teacher_ids)  # [N, K]
    p_rest, q_rest = fd_mini.log_tail(teacher_logps), fd_mini.log_tail(logq)  # [N]
    return (logq.exp() * (logq - teacher_logps)).sum(-1) + q_rest.exp() * (q_rest - p_rest)

# --- changes of who is taught what: (rollouts, the tutor's texts, policy, env, config, call number) -> texts; None: not taught
def failures(rollouts, texts, *_):
    """No distillation on successes."""
    return [None if r.verdict.status == "proved" else text for r, text in zip(rollouts, texts)]

def taught(rollouts, texts, policy, env, cfg, number):
    """Distil only where the teacher, having read the feedback, proves the theorem itself in one attempt. Twice the samples."""
    own = roll_out(policy, env, [r.theorem for r in rollouts], cfg.max_new_tokens, cfg.seed * 1_000_003 - number, texts, "teacher")
    return [text if r.verdict.status == "proved" else None for r, text in zip(own, texts)]

def wrong_feedback(rollouts, texts, *_):
    """Everybody hears what was said about another theorem's attempt."""
    return texts[1:] + texts[:1]

def cut(rollouts, texts, policy, *_):
    """No loss after the first wrong line: what follows it was written in a state that a right proof never reaches."""
    for r in rollouts:
        r.sampled = [line <= wrong_line(r) for line in token_lines(policy.tokenizer, r.completion_ids)]
    return texts

def token_lines(tokenizer, ids):
    """The line (from 0) on which each token begins, in the text of all of them."""
    return [tokenizer.decode(ids[:i]).count("\n") for i in range(len(ids))]

def wrong_line(rollout):
    """The line (from 0) of a proof's text with Lean's first error; infinite where there is none (`unsolved goals` stands at `by`)."""
    above = rollout.theorem.statement.count("\n") + 1  # Lean counts from 1, in the statement, with `:= by` at its end
    lines = [m["line"] - above - 1 for m in rollout.verdict.messages if m["severity"] == "error"]
    return min((line for line in lines if line >= 0), default=float("inf"))

CHANGES = {change.__name__: change for change in (failures, taught, wrong_feedback, cut)}

def main(names: list[str], flags: list[str]):
    """train.py with these changes."""
    if unknown := set(names) - {"reverse", *CHANGES}:
        sys.exit(f"beyond.py: {', '.join(unknown)} is none of reverse, {', '.join(CHANGES)}")
    if "reverse" in names:
        fd_mini.topk_cross_entropy = reverse_kl
    prepare = train.prepare

    def changed(cfg):
        policy, env, source, rows, valid = prepare(cfg)
        write, calls = source.write, []

        def rewrite(rollouts):
            texts = write(rollouts)
            calls.append(len(texts))
            for name in (n for n in names if n in CHANGES):
                texts = CHANGES[name](rollouts, texts, policy, env, cfg, len(calls))
            return texts
        source.write = rewrite
        return policy, env, source, rows, valid
    train.prepare = changed
    train.main(flags)

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"beyond.py: begin with a change, or several with + between them: reverse, {', '.join(CHANGES)}; then train.py's flags")
    main(sys.argv[1].split("+"), sys.argv[2:])
