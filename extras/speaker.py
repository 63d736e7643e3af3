"""`--feedback self`: the prover's own frozen base gives the advice.

It wants a model that can talk.
"""

import torch

import fd_mini
from extras.prompts import decode

ANSWER = 255  # tokens of an answer


def speaker(policy):
    """-> a function texts -> answers for make_feedback: the base, without adapters, answers."""
    tokenizer = policy.tokenizer

    def generate(texts):
        prompts = []
        for text in texts:
            ids = tokenizer.encode(text)
            if policy.style == "chat":
                turn = {"role": "user", "content": text}
                ids = tokenizer.apply_chat_template(
                    [turn], add_generation_prompt=True, return_dict=False
                )
            # Its end holds Lean's answer and the request.
            prompts.append(ids[ANSWER + 1 - policy.max_positions :])

        generator = torch.Generator().manual_seed(0)
        with policy.act_as("base"):
            samples = fd_mini.sample(policy, prompts, ANSWER, 1.0, generator)
        return [decode(policy, p, ids) for p, (ids, _) in zip(prompts, samples)]

    return generate
