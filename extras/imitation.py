"""`--algo sft`: imitation of the data's reference proofs, the baseline that learns off-policy."""

from collections import Counter

from extras import ranks
from extras.prompts import completion_of, prompt_for
from fd_mini import means, micro_batches, sampled_nll
from lean.answers import continuation


def imitable(cfg, theorems):
    """For --algo sft the theorems with a proof that can go on from a prompt.

    These are named. ValueError when none is left.
    """
    if cfg.algo != "sft":
        return theorems
    good, bad = [], []
    for theorem in theorems:
        expressible = theorem.proof and continuation(theorem.proof)
        (good if expressible else bad).append(theorem)
    if bad:
        names = ", ".join(theorem.name for theorem in bad[:10])
        print(
            f"{len(bad)} theorems have no proof, or one that cannot follow a prompt, and are left "
            f"out: {names}"
        )
    if not good:
        raise ValueError(f"--algo sft: no proof in {cfg.data} can follow a prompt")
    return good


def sft_step(cfg, run, theorems, step):
    """The gradient of imitating the theorems' proofs -> (metrics, no rollouts).

    Where a theorem has a feedback text (warm-up data), it stands in the prompt. All have proofs,
    see imitable.
    """
    policy = run.policy
    prompts, completions = [], []
    for theorem in theorems:
        completion = completion_of(policy, theorem)
        room = max(cfg.max_new_tokens, len(completion))
        prompts.append(prompt_for(policy, theorem, theorem.feedback, room))
        completions.append(completion)

    sampled = [[True] * len(ids) for ids in completions]
    losses = sft_backward(policy, prompts, completions, sampled, cfg.micro_tokens)
    return ranks.combine(policy.student, losses), []


def sft_backward(policy, prompts, completions, sampled, micro_tokens=4096):
    """Adds the gradient of the cross-entropy of given completions, and returns its means.

    Arguments as of fd_mini.fd_backward; only tokens whose `sampled` is True are learnt.
    """
    count = sum(map(sum, sampled))
    totals = Counter()
    for batch in micro_batches(micro_tokens, prompts, completions, sampled):
        with policy.act_as("student"):
            nll, entropy = sampled_nll(policy, *batch)  # [N] each
            (nll.sum() / count).backward()
        totals.update(loss=nll.sum().item(), entropy=entropy.sum().item())
    return means(totals, count)
