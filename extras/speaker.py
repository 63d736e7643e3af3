"""`--feedback self`: the prover's own frozen base gives the advice.

It wants a model that can talk.
"""

import torch

import fd_mini
from extras.prompts import decode

ANSWER = 255  # tokens of an answer


def request(policy, text):
    """The token ids of what the model is asked, with room for an answer. Of a long text the end,
    which holds Lean's answer and the request."""
    ids = policy.tokenizer.encode(text)
    if policy.style == "chat":
        turn = {"role": "user", "content": text}
        ids = policy.tokenizer.apply_chat_template(
            [turn], add_generation_prompt=True, return_dict=False
        )
    return ids[ANSWER + 1 - policy.max_positions :]


def speaker(policy):
    """-> a function texts -> answers for make_feedback: the base, without adapters, answers."""

    def generate(texts):
        prompts = [request(policy, text) for text in texts]
        generator = torch.Generator().manual_seed(0)
        with policy.act_as("base"):
            samples = fd_mini.sample(policy, prompts, ANSWER, 1.0, generator)
        return [decode(policy, p, ids) for p, (ids, _) in zip(prompts, samples)]

    return generate
