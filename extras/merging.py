"""Adapters and base as one matrix, where no gradient is wanted: one product instead of three."""

import contextlib
from functools import partial

import torch
import torch.nn.functional as F

# Numbers in a matrix. Beside larger ones adapters are little work, and a sum takes memory.
SMALL = 2**20


@contextlib.contextmanager
def merged(policy):
    """Inside, LoRALinear computes (W + scale B A) x. No gradients, and no other role: RuntimeError.

    The sum is made where W is fp32 and small. In bf16 it would lose updates below half an ulp of
    W, and in 4 bits nearly all; there the adapters are cast once, not at every use.
    """
    layers = [m for m in policy.model.modules() if hasattr(m, "lora_A") and can_be_merged(m.base)]
    try:
        for layer in layers:
            merge(layer)
        for parameter in policy.student:
            parameter.data = parameter.data.to(policy.head.dtype)
        policy.point_to = refuse
        yield
    finally:
        vars(policy).pop("point_to", None)
        policy.point_to(policy.active)
        for layer in layers:
            vars(layer).pop("forward", None)


@torch.no_grad()
def merge(layer):
    A, B = layer.lora_A.weight, layer.lora_B.weight
    weight = torch.addmm(layer.base.weight, B, A, alpha=layer.scale)  # [out, in]
    layer.forward = partial(F.linear, weight=weight, bias=layer.base.bias)


def can_be_merged(linear):
    return linear.weight.dtype == torch.float32 and linear.weight.numel() <= SMALL


def refuse(role):
    raise RuntimeError(f"no role may change while adapters are merged: {role}")
