"""`--feedback self`: the prover's own frozen base gives the advice. It wants a model that can talk."""
import torch

import fd_mini

def speaker(policy):
    """-> a function texts -> answers for make_feedback: the base, without adapters, answers each instruction."""
    def generate(texts):
        encode = policy.tokenizer.encode
        if policy.style == "chat":
            encode = lambda text: policy.tokenizer.apply_chat_template(  # noqa: E731
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False)
        prompts = [encode(text)[256 - policy.max_positions:] for text in texts]  # its end holds Lean's answer and the request
        with policy.act_as("base"):
            answers = fd_mini.sample(policy, prompts, 255, 1.0, generator=torch.Generator().manual_seed(0))
        return [policy.tokenizer.decode([i for i in ids if i not in policy.stop_ids]) for ids, _ in answers]
    return generate
