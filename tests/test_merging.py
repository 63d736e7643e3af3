"""Adapters and base as one matrix: the same numbers, for passes without gradients alone."""
import pytest
import torch

import fd_mini as fm
from extras import merging
from tests.test_slots import policy_of

PROMPTS, COMPLETIONS = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13]]
ROWS = PROMPTS, COMPLETIONS, [[True] * len(ids) for ids in COMPLETIONS]


@pytest.fixture
def policy(tmp_path):
    """Rank 4, so that the scale is 8; its teacher is not its student."""
    policy = policy_of(tmp_path)
    torch.manual_seed(0)
    for role in ("student", "teacher"):
        for tensor in policy.roles[role]:
            tensor.normal_(std=.05)
    return policy


def nll(policy, role):
    with torch.no_grad(), policy.act_as(role):
        return fm.sampled_nll(policy, *ROWS)[0]


def nll_merged(policy, role):
    with torch.no_grad(), policy.act_as(role), policy.merged():
        return fm.sampled_nll(policy, *ROWS)[0]


def test_each_role_says_the_same_but_for_rounding(policy):
    said = {role: nll(policy, role) for role in ("student", "teacher", "base")}
    for role, expected in said.items():
        torch.testing.assert_close(nll_merged(policy, role), expected, rtol=1e-5, atol=1e-5)
    for one, other in [("student", "teacher"), ("student", "base"), ("teacher", "base")]:
        assert (said[one] - said[other]).abs().max() > .01


def test_the_merged_matrix_is_w_plus_alpha_over_rank_times_b_a(policy):
    layer = next(m for m in policy.model.modules() if isinstance(m, fm.LoRALinear))
    W, A, B = layer.base.weight, layer.lora_A.weight, layer.lora_B.weight
    expected = W.double() + 32 / policy.rank * B.double() @ A.double()
    with policy.merged():
        seen = layer(torch.eye(W.shape[1])).T
    torch.testing.assert_close(seen.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_of_it_is_left_behind(policy, error):
    before, tensors = nll(policy, "student"), [p.data_ptr() for p in policy.student]
    try:
        with policy.merged():
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert nll(policy, "student").equal(before) and [p.data_ptr() for p in policy.student] == tensors
    with policy.act_as("teacher"):  # roles may change again
        assert policy.active == "teacher"


def test_a_change_of_role_inside_is_refused(policy):
    with pytest.raises(RuntimeError, match="no role may change"):
        with policy.merged(), policy.act_as("teacher"):
            pass
    assert policy.active == "student"


def test_a_backward_pass_inside_is_an_error_and_not_a_gradient_of_zero(policy):
    with policy.merged(), pytest.raises(RuntimeError, match="does not require grad"):
        fm.sampled_nll(policy, *ROWS)[0].sum().backward()


@pytest.mark.parametrize("why", ["bf16", "large"])
def test_what_is_not_fp32_or_large_is_left_as_two_products(policy, why, monkeypatch):
    """An update of a thousandth of a weight is lost in a sum in bf16."""
    if why == "large":
        monkeypatch.setattr(merging, "SMALL", 1)
    else:
        policy.model.to(torch.bfloat16)
        policy.head = policy.model.get_output_embeddings().weight
        policy.roles["student"] = [p.data.float() for p in policy.student]
        policy.point_to("student")
    expected = nll(policy, "student")
    assert nll_merged(policy, "student").equal(expected)
    with policy.merged():
        assert not any("forward" in vars(module) for module in policy.model.modules())


def test_gradients_are_those_of_a_teacher_that_is_not_merged(policy, monkeypatch):
    def gradients():
        policy.model.zero_grad()
        fm.fd_backward(policy, PROMPTS, [[1, *p] for p in PROMPTS], *ROWS[1:], top_k=5)
        return [p.grad.clone() for p in policy.student]

    ours = gradients()
    monkeypatch.setattr(merging, "SMALL", 0)
    for one, other in zip(ours, gradients()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert other.abs().max() > 0
