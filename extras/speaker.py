"""`--feedback self`: the prover's own frozen base gives the advice. It wants a model that can talk."""

import torch

import fd_mini

ANSWER = 255  # tokens of an answer


def speaker(policy):
    """-> a function texts -> answers for make_feedback: the base, without adapters, answers."""
    tokenizer = policy.tokenizer

    def encode(text):
        if policy.style != "chat":
            return tokenizer.encode(text)
        turns = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False
        )

    def generate(texts):
        room = policy.max_positions - ANSWER - 1
        prompts = [encode(text)[-room:] for text in texts]  # its end holds Lean's answer
        generator = torch.Generator().manual_seed(0)
        with policy.act_as("base"):
            samples = fd_mini.sample(policy, prompts, ANSWER, 1.0, generator=generator)

        answers = []
        for ids, _ in samples:
            answers.append(tokenizer.decode([i for i in ids if i not in policy.stop_ids]))
        return answers

    return generate
