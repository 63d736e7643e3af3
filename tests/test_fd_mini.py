"""The method, checked against closed forms and against slow, plain code: one row at a time, no padding, no chunks, no cache."""
import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM

import fd_mini as fm
from extras import cuda, provers, runs
from extras.imitation import sft_backward
from eval import total_entropy
from lean_env import Rollout, Theorem

# ----------------------------------------------------------------------------------------------------------------------
# Models made on the spot
# ----------------------------------------------------------------------------------------------------------------------
SHAPE = dict(vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, max_position_embeddings=64, bos_token_id=None, eos_token_id=0, pad_token_id=0, initializer_range=0.25)
FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM, True), "qwen2": (Qwen2Config, Qwen2ForCausalLM, False),
            "qwen3": (Qwen3Config, Qwen3ForCausalLM, False)}


def write_model(folder, family="llama", **changes):
    """A random model (weights large enough for its predictions to depend on the context) with a byte-level tokenizer; pad == eos == 0."""
    vocab = {"<eos>": 0, **{c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    config, model, tied = FAMILIES[family]
    torch.manual_seed(1)
    model = model(config(**{**SHAPE, "tie_word_embeddings": tied, **changes}))
    with torch.no_grad():  # biases start at zero: give them values, or a lost bias would not be seen
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(std=0.2)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small to share: on a busy machine a second thread costs far more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: write_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture
def policy(folders):
    return fm.Policy(folders["llama"], rank=4)


def shake(policy, who, seed=0, size=0.3):
    """Gives a role random tensors, so that no two roles agree."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in policy.roles[who]:
            tensor.add_(size * torch.randn(tensor.shape, generator=generator))


def batch(seed=0, rows=5, extra=3):
    """Prompts, teacher prompts (longer by `extra` and more), completions that end with the stop id 0, and masks with holes."""
    g = torch.Generator().manual_seed(seed)
    ids = lambda n: torch.randint(1, 257, (n,), generator=g).tolist()
    prompts = [ids(3 + 2 * i) for i in range(rows)]
    completions = [ids(7 - i) + [0] for i in range(rows)]
    sampled = [[(i + t) % 4 != 1 for t in range(len(c))] for i, c in enumerate(completions)]
    return prompts, [p[:-1] + ids(extra + i) + p[-1:] for i, p in enumerate(prompts)], completions, sampled


def plain_logits(policy, prompt, completion):
    """One row, no padding, default positions, the model's own head: logits [T, V] that predict the completion."""
    logits = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0]
    return logits[len(prompt) - 1:len(prompt) - 1 + len(completion)]


def freeze_reference(policy):
    policy.roles["reference"] = [tensor.clone() for tensor in policy.roles["student"]]


def take_grads(policy):
    grads = [p.grad for p in policy.student]
    for p in policy.student:
        p.grad = None
    return [torch.zeros_like(p) if g is None else g for p, g in zip(policy.student, grads)]


def assert_close(xs, ys, tol=1e-5):
    for x, y in zip(xs, ys, strict=True):
        torch.testing.assert_close(x, y, rtol=tol, atol=tol)


# ----------------------------------------------------------------------------------------------------------------------
# 1. Losses
# ----------------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def load_adapters(policy, folder, role="student"):
    for ours, theirs in zip(policy.roles[role], runs.read_adapters(policy, folder)):
        ours.copy_(theirs)


def test_top_k_losses_have_the_values_computed_by_hand():
    q, p, ids = torch.tensor([[.5, .3, .2]]), torch.tensor([[.6, .3]]), torch.tensor([[0, 1]])
    # -(.6 ln .5 + .3 ln .3) = .415888 + .361192;  the bucket: -(1 - .9) ln(1 - .8) = .160944
    assert fm.topk_cross_entropy(q.log(), ids, p.log(), "drop").item() == pytest.approx(.777080, abs=1e-5)
    assert fm.topk_cross_entropy(q.log(), ids, p.log(), "bucket").item() == pytest.approx(.938024, abs=1e-5)
    entropy, kl, mass, teacher_mass, overlap = fm.topk_stats(q.log(), ids, p.log())[0].tolist()
    # H = .5 ln 2 + .3 ln(10/3) + .2 ln 5 = 1.029653;  KL = .6 ln(.6/.5) + .3 ln(.3/.3) + .1 ln(.1/.2) = .040078
    assert (entropy, kl, mass, teacher_mass, overlap) == pytest.approx((1.029653, .040078, .8, .9, 1), abs=1e-5)
    assert fm.topk_stats(q.log(), torch.tensor([[1, 2]]), p.log())[0, 4].item() == .5  # of 1 and 2 only 1 is in the top 2


def random_topk(n=6, v=40, k=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    z, teacher = 2 * torch.randn(n, v, generator=g), 2 * torch.randn(n, v, generator=g)
    top = teacher.log_softmax(-1).topk(k)
    return z, top.indices, top.values


@pytest.mark.parametrize("tail", ["drop", "bucket"])
def test_top_k_gradients_are_the_closed_forms(tail):
    z, ids, logps = random_topk()
    z.requires_grad_()
    fm.topk_cross_entropy(z, ids, logps, tail).sum().backward()
    q, p = z.detach().softmax(-1), torch.zeros_like(z).scatter(-1, ids, logps.exp())
    P, Q, in_T = p.sum(-1, keepdim=True), (q * (p > 0)).sum(-1, keepdim=True), p > 0
    expected = P * q - p if tail == "drop" else torch.where(in_T, q - p, q * (1 - (1 - P) / (1 - Q)))
    torch.testing.assert_close(z.grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sharpness", [1, 3, 30, 300])  # from flat to a teacher whose top K holds all mass to rounding
def test_equal_student_and_teacher_give_no_bucket_gradient_and_the_paper_loss_sharpens(sharpness):
    z = (sharpness * torch.linspace(0, 1, 50).repeat(3, 1)).requires_grad_()
    top = z.detach().log_softmax(-1).topk(5)
    fm.topk_cross_entropy(z, top.indices, top.values, "bucket").sum().backward()
    assert z.grad.abs().max() < 3e-7
    assert fm.topk_stats(z.detach(), top.indices, top.values)[:, 1].abs().max() < 1e-6  # KL zero, never NaN
    z.grad = None
    fm.topk_cross_entropy(z, top.indices, top.values, "drop").sum().backward()
    p = z.detach().softmax(-1)
    P, on_T = top.values.exp().sum(-1, keepdim=True), torch.zeros_like(p).scatter(-1, top.indices, 1.)
    torch.testing.assert_close(z.grad, P * p - p * on_T, rtol=1e-4, atol=1e-6)


def test_a_student_too_sure_of_the_top_k_is_still_pulled_back():
    """1 - Q = 3e-8 is below the tail's floor of 1e-7: a hard clamp there would cut the gradient and leave the student stuck."""
    z = torch.zeros(1, 11).index_fill_(1, torch.tensor([0]), 19.6).requires_grad_()
    fm.topk_cross_entropy(z, torch.tensor([[0]]), torch.tensor([[.9]]).log(), "bucket").sum().backward()
    assert z.grad[0, 1:].sum() < -.01  # raises the other ten


def test_k_equal_to_the_vocabulary_is_full_cross_entropy_and_a_larger_k_is_cut():
    hidden, weight = torch.randn(4, 8), torch.randn(11, 8)
    ids, logps = fm.teacher_topk(hidden + 1, weight, k=25)
    assert ids.shape == (4, 11)
    p = ((hidden + 1) @ weight.T).softmax(-1)
    full = -(p * (hidden @ weight.T).log_softmax(-1)).sum(-1)
    for tail in ("drop", "bucket"):
        torch.testing.assert_close(fm.linear_topk_cross_entropy(hidden, weight, ids, logps, tail), full, rtol=1e-5, atol=1e-5)


def test_teacher_log_probabilities_are_those_of_the_full_vocabulary():
    hidden, weight = torch.randn(9, 8), torch.randn(30, 8)
    ids, logps = fm.teacher_topk(hidden, weight, k=3, chunk=4)
    full = (hidden @ weight.T).log_softmax(-1)
    torch.testing.assert_close(logps, full.sort(-1, descending=True).values[:, :3])
    torch.testing.assert_close(full.gather(-1, ids), logps)
    assert logps.dtype == torch.float32 and fm.teacher_topk(hidden.bfloat16(), weight.bfloat16(), 3)[1].dtype == torch.float32


@pytest.mark.parametrize("tail", ["drop", "bucket", "reverse"])
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_the_chunked_head_equals_the_plain_one_and_never_holds_all_logits(tail, chunk, monkeypatch):
    g = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(20, 8, generator=g, requires_grad=True), torch.randn(40, 8, generator=g)
    _, ids, logps = random_topk(n=20)
    upstream = torch.rand(20, generator=g)  # rows weighted differently, as by an advantage
    plain = fm.topk_cross_entropy(hidden @ weight.T, ids, logps, tail)
    expected, = torch.autograd.grad((plain * upstream).sum(), hidden)
    heights, linear = [], F.linear
    monkeypatch.setattr(F, "linear", lambda x, w: heights.append(len(x)) or linear(x, w))
    loss, stats = fm.linear_topk_cross_entropy(hidden, weight, ids, logps, tail, chunk, with_stats=True)
    (loss * upstream).sum().backward()
    assert max(heights) <= chunk and sum(heights) == 20  # one head product per row, also counting the backward pass
    assert_close([loss, hidden.grad, stats], [plain, expected, fm.topk_stats((hidden @ weight.T).detach(), ids, logps)], 1e-5)
    assert not stats.requires_grad
    assert fm.linear_topk_cross_entropy(hidden[:0], weight, ids[:0], logps[:0], tail).shape == (0,)


def test_a_bf16_head_agrees_with_fp32_within_its_precision():
    g = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(20, 8, generator=g), torch.randn(40, 8, generator=g)
    _, ids, logps = random_topk(n=20)
    losses, grads = [], []
    for dtype in (torch.float32, torch.bfloat16):
        h = hidden.detach().to(dtype).requires_grad_()
        losses.append(fm.linear_topk_cross_entropy(h, weight.to(dtype), ids, logps, "bucket"))
        losses[-1].sum().backward()
        grads.append(h.grad.float())
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=.03, atol=.05)
    assert F.cosine_similarity(grads[0].flatten(), grads[1].flatten(), dim=0) > .999


def test_a_head_that_is_trained_gets_its_gradient_too():
    hidden, weight = torch.randn(6, 8), torch.randn(40, 8, requires_grad=True)
    _, ids, logps = random_topk()
    expected, = torch.autograd.grad(fm.topk_cross_entropy(hidden @ weight.T, ids, logps).sum(), weight)
    loss, stats = fm.linear_topk_cross_entropy(hidden, weight, ids, logps, with_stats=True)
    loss.sum().backward()
    torch.testing.assert_close(weight.grad, expected)
    assert stats.shape == (6, len(fm.STATS)) == (6, 5)


def test_entropy_is_that_of_the_whole_vocabulary_at_the_sampled_tokens(policy):
    prompts, _, completions, sampled = batch()
    rollouts = [Rollout(Theorem("t", "theorem t : True"), *row) for row in zip(prompts, completions, sampled)]
    expected = 0
    with torch.no_grad():
        for x, y, s in zip(prompts, completions, sampled):
            expected += torch.distributions.Categorical(logits=plain_logits(policy, x, y)[s]).entropy().sum().item()
    assert total_entropy(policy, rollouts, "student") == pytest.approx(expected, rel=1e-5)


def test_an_unknown_tail_is_refused():
    with pytest.raises(ValueError, match="drop"):
        fm.topk_cross_entropy(*random_topk(), tail="renormalise")


def test_ema_retains_alpha_of_the_teacher():
    mu, theta = [torch.tensor([1., 2.])], [torch.tensor([3., 0.])]
    fm.ema_update_(mu, theta, alpha=1)
    assert mu[0].tolist() == [1, 2]
    fm.ema_update_(mu, theta, alpha=.9)
    assert mu[0].tolist() == pytest.approx([1.2, 1.8])  # .9 * 1 + .1 * 3
    for _ in range(4):
        fm.ema_update_(mu, theta, alpha=.9)
    assert mu[0].tolist() == pytest.approx([3 - 2 * .9**5, 2 * .9**5])  # five updates towards a student that stands still
    fm.ema_update_(mu, theta, alpha=0)
    assert mu[0].tolist() == [3, 0]
    with pytest.raises(ValueError, match="float32"):
        fm.ema_update_([torch.zeros(2, dtype=torch.bfloat16)], theta, .9)
    with pytest.raises(ValueError):
        fm.ema_update_(mu * 2, theta, .9)


def test_averaging_a_and_b_apart_errs_by_their_covariance_only():
    """EMA(B) EMA(A) - EMA(BA) = -Cov(B, A) under the averaging weights; with A shared and still, it is zero."""
    g = torch.Generator().manual_seed(0)
    A, B = torch.randn(6, 2, 5, generator=g), torch.randn(6, 4, 2, generator=g)  # six students, the first is also the teacher's start
    weights = torch.tensor([.9**5] + [.1 * .9**(5 - i) for i in range(1, 6)])
    for still in (True, False):
        As = A[:1].expand_as(A) if still else A
        a, b, ab = As[0].clone(), B[0].clone(), B[0] @ As[0]
        for i in range(1, 6):
            fm.ema_update_([a, b, ab], [As[i], B[i], B[i] @ As[i]], .9)
        mean = lambda x: (weights[:, None, None] * x).sum(0)
        covariance = mean((B - mean(B)) @ (As - mean(As)))
        torch.testing.assert_close(b @ a - ab, -covariance, rtol=1e-4, atol=1e-5)
        assert still == ((b @ a - ab).abs().max() < 1e-5)


def test_group_advantages_by_hand():
    rewards = torch.tensor([[1., 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    # mean .2; std with n - 1: sqrt((.64 + 4 * .04) / 4) = .447214
    expected = [.8 / .447314, *[-.2 / .447314] * 4]
    assert fm.group_advantages(rewards, True)[0].tolist() == pytest.approx(expected, abs=1e-4)
    assert fm.group_advantages(rewards, False)[0].tolist() == pytest.approx([.8, -.2, -.2, -.2, -.2])
    assert fm.group_advantages(rewards, True)[1:].abs().max() == 0
    assert fm.group_advantages(rewards[:, :1], True).tolist() == [[0], [0], [0]]  # nothing to compare with: never NaN


# ----------------------------------------------------------------------------------------------------------------------
# 2. Alignment and padding
# ----------------------------------------------------------------------------------------------------------------------
def test_the_padding_example_of_the_docstring():
    ids, flags = fm.pad_batch([[7, 8], [9]], [[1, 2], [3]], [[True, True], [True]])
    assert ids.tolist() == [[7, 8, 1, 2], [9, 3, 0, 0]]
    assert flags.tolist() == [[False, False, True, True], [False, True, False, False]]
    assert fm.pad_batch([[7, 8]], [[]], [[]])[1].sum() == 0  # an empty completion predicts nothing
    assert fm.pad_batch([[7]], [[1, 2]], [[True, False]])[1].tolist() == [[False, True, False]]  # what a tool printed


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batches_give_the_states_of_single_rows(folders, family):
    policy = fm.Policy(folders[family], rank=4)
    shake(policy, "student")
    prompts, _, completions, _ = batch()
    prompts[1][1], completions[2][1] = 0, 0  # the pad id inside a row is a token like any other
    with torch.no_grad():
        expected = torch.cat([plain_logits(policy, p, c) for p, c in zip(prompts, completions)])
        flags = [[True] * len(c) for c in completions]
        hidden, ids = policy.hidden(prompts, completions, flags)
        together = hidden @ policy.head.T
        with_a_long_row = policy.hidden(prompts + [[5] * 40], completions + [[6] * 20], flags + [[True] * 20])[0] @ policy.head.T
    assert ids.tolist() == sum(completions, [])
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(with_a_long_row[:len(expected)], expected, rtol=1e-4, atol=1e-4)


def plain_fd(policy, prompts, teacher_prompts, completions, sampled, k, tail):
    """The definition, row by row with autograd through full logits. Returns loss, kl, entropy per sampled token, and gradients."""
    loss, kl, entropy, n = 0, 0, 0, sum(map(sum, sampled))
    for x, tx, y, s in zip(prompts, teacher_prompts, completions, sampled):
        with torch.no_grad(), policy.act_as("teacher"):
            p = plain_logits(policy, tx, y)[s].softmax(-1)
        q = plain_logits(policy, x, y)[s].softmax(-1)
        for p_t, q_t in zip(p, q):
            top = p_t.topk(k).indices
            rest_p, rest_q = 1 - p_t[top].sum(), 1 - q_t[top].sum()
            cross = -(p_t[top] * q_t[top].log()).sum() - rest_p * rest_q.log()
            kl += (cross + (p_t[top] * p_t[top].log()).sum() + rest_p * rest_p.log()).item() / n
            entropy += -(q_t * q_t.log()).sum().item() / n
            loss = loss + (cross if tail == "bucket" else cross + rest_p * rest_q.log()) / n
    loss.backward()
    return loss.item(), kl, entropy, take_grads(policy)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tail", ["drop", "bucket"])
def test_the_distillation_gradient_equals_the_definition(folders, family, tail):
    policy = fm.Policy(folders[family], rank=4)
    shake(policy, "student", 0)
    shake(policy, "teacher", 1)
    data = batch()
    loss, kl, entropy, grads = plain_fd(policy, *data, 5, tail)
    metrics = fm.fd_backward(policy, *data, top_k=5, tail=tail, micro_tokens=40)
    assert_close(take_grads(policy), grads, 2e-4)
    assert (metrics["loss"], metrics["kl"], metrics["entropy"]) == pytest.approx((loss, kl, entropy), rel=1e-3, abs=1e-4)
    assert metrics["tokens"] == sum(map(sum, data[3]))
    assert 0 < metrics["student_mass"] < 1 and 0 < metrics["teacher_mass"] < 1 and 0 <= metrics["overlap"] <= 1
    assert all(type(v) in (float, int) for v in metrics.values())


def test_a_teacher_read_one_token_off_has_a_larger_kl(policy):
    """With the same tensors on both sides and only the prompt different in length, KL is smallest when both read the same token."""
    shake(policy, "student")
    fm.ema_update_(policy.teacher, policy.roles["student"], 0)
    g = torch.Generator().manual_seed(0)
    prompt, y = torch.randint(1, 257, (4,), generator=g).tolist(), torch.randint(1, 257, (20,), generator=g).tolist()
    with torch.no_grad():
        p, q = (policy.hidden([x], [y], [[True] * 20])[0] for x in (prompt, [9] + prompt))
        kl = {shift: fm.topk_stats((q @ policy.head.T).roll(shift, 0)[2:-2],
                                   *(x[2:-2] for x in fm.teacher_topk(p, policy.head, 25)))[:, 1].mean().item() for shift in (-1, 0, 1)}
    assert kl[0] < .5 * min(kl[-1], kl[1]), kl


def test_without_feedback_and_with_equal_weights_there_is_nothing_to_learn(policy):
    shake(policy, "student")
    fm.ema_update_(policy.teacher, policy.roles["student"], 0)
    prompts, _, completions, sampled = batch()
    metrics = fm.fd_backward(policy, prompts, prompts, completions, sampled, tail="drop")
    drop = max(g.abs().max() for g in take_grads(policy))
    assert abs(metrics["kl"]) < 1e-6 and metrics["overlap"] == 1 and metrics["teacher_mass"] == pytest.approx(metrics["student_mass"])
    fm.fd_backward(policy, prompts, prompts, completions, sampled, tail="bucket")
    assert max(g.abs().max() for g in take_grads(policy)) < 1e-5 < 1e-3 < drop  # "drop" sharpens even now


def test_gradients_and_metrics_do_not_depend_on_the_micro_batches(policy):
    policy.model.double()  # rounded to 32 bits, these weights lose a thousandth on some CPUs
    shake(policy, "student")
    freeze_reference(policy)
    shake(policy, "student", 5)
    prompts, teacher_prompts, completions, sampled = batch(rows=4)
    advantages = torch.tensor([1., -.5, .25, 2.])
    runs = {"fd": lambda m: fm.fd_backward(policy, prompts, teacher_prompts, completions, sampled, micro_tokens=m),
            "grpo": lambda m: fm.grpo_backward(policy, prompts, completions, sampled, advantages, 0.1, m),
            "sft": lambda m: sft_backward(policy, prompts, completions, [[True] * len(c) for c in completions], m)}
    for run in runs.values():
        whole, grads = run(10_000), take_grads(policy)
        for micro_tokens in (1, 40, 80):  # one row at a time, two, three
            assert run(micro_tokens) == pytest.approx(whole, rel=1e-3, abs=1e-4)
            assert_close(take_grads(policy), grads)


def test_micro_batches_keep_to_the_budget_and_leave_out_what_was_not_sampled(policy):
    prompts, completions = [[1] * n for n in (4, 8, 1, 6, 29, 2)], [[i] for i in range(6)]
    batches = fm.micro_batches(16, prompts, completions, [[True]] * 5 + [[False]], list("abcdef"))
    # lengths 5, 9, 2, 7, 30 in order of length: 2 x 5 fits; 3 x 7 and 2 x 9 do not; 30 stands alone
    assert [names for *_, names in batches] == [("c", "a"), ("d",), ("b",), ("e",)]
    assert batches[0][0] == ([1], [1] * 4) and batches[0][1] == ([2], [0])
    hidden, ids = policy.hidden([[2], [1]], [[8], [5, 6, 7]], [[True], [True, False, True]])
    assert ids.tolist() == [8, 5, 7] and hidden.shape == (3, 32)


def test_tool_output_is_seen_but_not_trained_on(policy):
    prompts, completions, advantages = [[5, 6]], [[10, 11, 12, 13]], [1.]
    run = lambda ys, mask: fm.grpo_backward(policy, prompts, ys, mask, advantages, 0)["tokens"]
    shake(policy, "student")
    only_last = [[False, False, False, True]]
    assert run(completions, only_last) == 1
    last = take_grads(policy)
    run([[10, 99, 12, 13]], only_last)  # other tool output before it: other gradient
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(take_grads(policy), last))
    logits = plain_logits(policy, prompts[0], completions[0])
    (-logits.log_softmax(-1)[3, 13]).backward()
    assert_close(last, take_grads(policy), 1e-4)


def test_a_batch_without_sampled_tokens_gives_zeros(policy):
    for completions, sampled in (([], []), ([[]], [[]]), ([[4, 5]], [[False, False]])):
        prompts = [[3]] * len(completions)
        for metrics in (fm.fd_backward(policy, prompts, prompts, completions, sampled),
                        fm.grpo_backward(policy, prompts, completions, sampled, [1.] * len(prompts))):
            assert set(metrics.values()) == {0}
    assert set(sft_backward(policy, [[3]], [[]], [[]]).values()) == {0}
    assert all(p.grad is None for p in policy.student)
    fm.fd_backward(policy, [[3], [3]], [[3], [3]], [[], [7, 0]], [[], [True, True]])  # an empty row beside a full one
    assert all(p.grad.isfinite().all() for p in policy.student)


def test_rows_longer_than_the_model_are_refused(policy):
    with pytest.raises(ValueError, match="64.*--max-new-tokens"):
        fm.fd_backward(policy, [[1]], [[1] * 60], [[2] * 5], [[True] * 5])  # the student would fit, the teacher does not
    prompts, completions, sampled = [[1], [1] * 60], [[2] * 5] * 2, [[True] * 5] * 2
    for backward in (lambda: fm.fd_backward(policy, prompts, prompts, completions, sampled, micro_tokens=10),
                     lambda: fm.grpo_backward(policy, prompts, completions, sampled, [1.0, 1.0], micro_tokens=10)):
        policy.model.zero_grad(set_to_none=True)
        with pytest.raises(ValueError, match="64.*--max-new-tokens"):
            backward()  # the first row would fit
        assert all(p.grad is None for p in policy.student)


# ----------------------------------------------------------------------------------------------------------------------
# 3. Policy gradient and supervised loss
# ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kl_coef", [0, 0.7])
def test_grpo_is_reinforce_with_k3_to_the_frozen_student(policy, kl_coef):
    shake(policy, "student", 0)
    freeze_reference(policy)
    shake(policy, "student", 1, .1)
    prompts, _, completions, sampled = ([rows[i] for i in (2, 0, 4, 1, 3)] for rows in batch())  # not in order of length
    advantages, loss, kl, n = torch.tensor([1., -1, .5, 0, 2]), 0, 0, sum(map(sum, sampled))
    for x, y, s, a in zip(prompts, completions, sampled, advantages):
        pick = torch.tensor(y)[:, None]
        with torch.no_grad(), policy.act_as("reference"):
            ref = plain_logits(policy, x, y).log_softmax(-1).gather(-1, pick)[s]
        logp = plain_logits(policy, x, y).log_softmax(-1).gather(-1, pick)[s]
        k3 = (ref - logp).exp() - (ref - logp) - 1
        loss, kl = loss + (kl_coef * k3 - a * logp).sum() / n, kl + k3.sum().item() / n
    loss.backward()
    expected = take_grads(policy)
    metrics = fm.grpo_backward(policy, prompts, completions, sampled, advantages, kl_coef, micro_tokens=40)
    assert_close(take_grads(policy), expected, 2e-4)
    assert metrics["kl_ref"] == pytest.approx(kl, rel=1e-3) and kl > .01
    value = kl_coef * kl - sum(a * sum(s) for a, s in zip(advantages.tolist(), sampled)) / n  # the ratio is 1
    assert metrics["loss"] == pytest.approx(value, rel=1e-3)


def test_the_kl_reference_is_the_base_until_a_student_is_frozen(policy):
    shake(policy, "student")
    prompts, _, completions, sampled = batch()
    run = lambda: fm.grpo_backward(policy, prompts, completions, sampled, [0.] * 5, 1)["kl_ref"]
    assert run() > .01
    freeze_reference(policy)
    assert run() == pytest.approx(0, abs=1e-6)  # GRPO over FD starts at its own reference
    shake(policy, "student", 1)
    assert run() > .01  # and the reference does not follow


def test_supervised_loss_is_the_mean_over_all_tokens_and_trains_the_stop_token(folders):
    policy = fm.Policy(folders["qwen2"], rank=4)
    prompts, _, completions, _ = batch()
    nll = torch.cat([-plain_logits(policy, x, y).log_softmax(-1).gather(-1, torch.tensor(y)[:, None]) for x, y in zip(prompts, completions)])
    nll.mean().backward()
    expected = take_grads(policy)
    assert sft_backward(policy, prompts, completions, [[True] * len(c) for c in completions], 40)["loss"] == pytest.approx(nll.mean().item(), rel=1e-4)
    assert_close(take_grads(policy), expected, 1e-4)
    prompt, metrics = [5, 6, 7], None
    for _ in range(30):  # pad == eos == 0: the model must still learn to stop
        metrics = sft_backward(policy, [prompt] * 2, [[8, 0], [8, 9, 0]], [[True] * 2, [True] * 3])
        with torch.no_grad():
            for p, g in zip(policy.student, take_grads(policy)):
                p -= .2 * g
    assert metrics["tokens"] == 5
    assert fm.sample(policy, [prompt + [8, 9]], 3, temperature=0) == [([0], True)]


# ----------------------------------------------------------------------------------------------------------------------
# 4. Policy: adapters, roles, files
# ----------------------------------------------------------------------------------------------------------------------
def targets(policy):
    return [n.removesuffix(".lora_A.weight") for n in runs.trained_names(policy) if n.endswith("lora_A.weight")]


def frozen_state(policy):
    return {n: t.clone() for n, t in policy.model.state_dict().items() if "lora_" not in n}


def step(policy, lr=.1):
    prompts, teacher_prompts, completions, sampled = batch()
    fm.fd_backward(policy, prompts, teacher_prompts, completions, sampled)
    with torch.no_grad():
        for p, g in zip(policy.student, take_grads(policy)):
            p -= lr * g


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_but_the_head_gets_an_adapter_that_starts_as_nothing(folders, family):
    policy = fm.Policy(folders[family], rank=4)
    assert len(targets(policy)) == 14 and len(policy.student) == 28  # 7 in each of 2 layers
    base = FAMILIES[family][1].from_pretrained(folders[family])
    ids = torch.tensor([[3, 4, 5]])
    for who in ("student", "teacher", "base", "reference"):
        with policy.act_as(who), torch.no_grad():
            assert torch.equal(policy.model(ids).logits, base(ids).logits)
    assert all(torch.equal(t, s) and not t.requires_grad and t.dtype == torch.float32 for t, s in zip(policy.teacher, policy.student))
    assert any(t.abs().max() > 0 for t in policy.teacher)  # a copy of the student, A included, not zeros


def test_b_moves_at_the_first_step_and_a_at_the_second_and_nothing_else_ever(policy):
    before, base, teacher = [p.detach().clone() for p in policy.student], frozen_state(policy), copy.deepcopy(policy.teacher)
    moved = lambda: {n.split(".")[-2] for n, p, q in zip(runs.trained_names(policy), policy.student, before) if not torch.equal(p, q)}
    still = lambda: {n.split(".")[-2] for n, p, q in zip(runs.trained_names(policy), policy.student, before) if torch.equal(p, q)}
    step(policy)
    assert (moved(), still()) == ({"lora_B"}, {"lora_A"})  # B = 0, so A has no gradient yet
    step(policy)
    assert (moved(), still()) == ({"lora_A", "lora_B"}, set())
    assert all(torch.equal(t, base[n]) for n, t in frozen_state(policy).items())
    assert all(torch.equal(t, b) for t, b in zip(policy.teacher, teacher))
    assert all(p.grad is None for n, p in policy.model.named_parameters() if "lora_" not in n)
    fm.ema_update_(policy.teacher, policy.student, .9)
    assert_close(policy.teacher, [.9 * b + .1 * s.detach() for b, s in zip(teacher, policy.student)], 1e-6)


def test_roles_are_separate_and_come_back_after_an_error(policy):
    shake(policy, "student", 0)
    shake(policy, "teacher", 1)
    logits = lambda: policy.model(torch.tensor([[3, 4, 5]])).logits.detach()
    student = logits()
    with pytest.raises(RuntimeError):
        with policy.act_as("teacher"):
            teacher = logits()
            with policy.act_as("base"):
                base = logits()
            assert torch.equal(logits(), teacher)
            raise RuntimeError
    assert torch.equal(logits(), student) and policy.active == "student"
    assert not torch.allclose(student, teacher) and not torch.allclose(student, base) and not torch.allclose(teacher, base)
    with pytest.raises(KeyError):
        with policy.act_as("professor"):
            pass
    assert torch.equal(logits(), student)


def test_gradient_checkpointing_changes_no_gradient_and_recomputes_as_the_student(policy):
    shake(policy, "student", 0)
    shake(policy, "teacher", 1)
    calls = []
    blocks = policy.model.base_model.layers
    blocks[0].self_attn.register_forward_hook(lambda *_: calls.append(policy.active))
    fm.fd_backward(policy, *batch())
    plain, plain_calls = take_grads(policy), calls[:]
    calls.clear()
    policy.body = cuda.Recomputing(policy.model)
    fm.fd_backward(policy, *batch())
    assert_close(take_grads(policy), plain, 1e-6)
    assert plain_calls == ["teacher", "student"] and calls == ["teacher", "student", "student"]
    assert not any(m.training for m in blocks) and len(fm.sample(policy, [[3]], 4)[0][0]) > 0


def test_adapters_load_in_peft_with_the_same_logits(policy, folders, tmp_path):
    from peft import PeftModel
    shake(policy, "student", 0)
    shake(policy, "teacher", 1)
    ids = torch.tensor([[3, 4, 5, 6]])
    for who in ("student", "teacher"):
        runs.save_adapters(policy, tmp_path / who, who)
        theirs = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folders["llama"]), tmp_path / who)
        with policy.act_as(who), torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, policy.model(ids).logits, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "student" / "adapter_config.json").read_text())["r"] == 4


def test_peft_adapters_load_here_with_the_same_logits(policy, folders, tmp_path):
    from peft import LoraConfig, get_peft_model
    config = LoraConfig(r=4, lora_alpha=fm.LORA_ALPHA, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    theirs = get_peft_model(LlamaForCausalLM.from_pretrained(folders["llama"]), config)
    theirs.save_pretrained(tmp_path)
    load_adapters(policy, tmp_path)
    ids = torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(policy.model(ids).logits, theirs.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [4, 0])
def test_saved_roles_come_back_bit_for_bit_into_the_same_tensors(folders, tmp_path, rank):
    policy, other = fm.Policy(folders["llama"], rank=rank), fm.Policy(folders["llama"], rank=rank)
    tensors = [p.data_ptr() for p in other.student]
    for seed, who in enumerate(("student", "teacher")):
        shake(policy, who, seed)
        runs.save_adapters(policy, tmp_path / who, who)
        load_adapters(other, tmp_path / who, who)
        assert all(torch.equal(a, b) for a, b in zip(policy.roles[who], other.roles[who], strict=True))
    assert [p.data_ptr() for p in other.student] == tensors
    with torch.no_grad():
        assert torch.equal(policy.hidden([[3, 4]], [[5]], [[True]])[0], other.hidden([[3, 4]], [[5]], [[True]])[0])
    with pytest.raises(ValueError, match="--lora-rank"):
        load_adapters(fm.Policy(folders["llama"], rank=2), tmp_path / "student")
    with pytest.raises(ValueError, match="missing"):
        load_adapters(other, tmp_path / "nowhere")


def test_rank_zero_trains_every_weight_against_a_teacher_of_its_own(folders, tmp_path):
    policy = fm.Policy(folders["qwen2"], rank=0)
    assert len(policy.student) == len(list(policy.model.parameters()))
    before = [p.detach().clone() for p in policy.student]
    data = batch()
    _, _, _, grads = plain_fd(policy, *data, 5, "bucket")
    fm.fd_backward(policy, *data, top_k=5, tail="bucket", micro_tokens=40)
    assert_close(take_grads(policy), grads, 2e-4)
    step(policy, 1e-3)
    assert all(not torch.equal(p, b) for n, p, b in zip(runs.trained_names(policy), policy.student, before))
    for who in ("teacher", "base"):
        assert all(torch.equal(t, b) for t, b in zip(policy.roles[who], before))
    runs.save_adapters(policy, tmp_path)
    assert torch.equal(fm.Policy(str(tmp_path), rank=4).head, policy.head)  # what SFT writes is a model to start from


def test_four_bit_weights_train_their_adapters_and_stay_bit_identical(folders):
    from bitsandbytes.functional import dequantize_4bit
    policy = fm.Policy(folders["llama"], rank=4, quantize="nf4")
    assert {type(policy.model.get_submodule(n).base).__name__ for n in targets(policy)} == {"Linear4bit"}
    assert policy.head.dtype == torch.float32  # the head is not quantised
    policy.model.eval()
    before, logits = frozen_state(policy), policy.model(torch.tensor([[3, 4, 5]])).logits.detach()
    plain = fm.Policy(folders["llama"], rank=4)
    assert not torch.allclose(plain.model(torch.tensor([[3, 4, 5]])).logits, logits)  # NF4 rounds
    for name in targets(policy):  # the same model, its rounded weights written out
        weight = policy.model.get_submodule(name).base.weight
        plain.model.get_submodule(name).base.weight.data = dequantize_4bit(weight.data, weight.quant_state)
    torch.testing.assert_close(plain.model(torch.tensor([[3, 4, 5]])).logits, logits, rtol=1e-3, atol=1e-3)
    start = [p.detach().clone() for p in policy.student]
    for _ in range(2):
        fm.sample(policy, [[3, 4], [5]], 5)  # decoding first: bitsandbytes may repack an eval-mode weight without gradient
        step(policy)
    assert all(not torch.equal(p, s) for p, s in zip(policy.student, start))
    after = frozen_state(policy)
    assert after.keys() == before.keys() and all(torch.equal(after[n], t) for n, t in before.items())
    with policy.act_as("base"), torch.no_grad():
        assert torch.equal(policy.model(torch.tensor([[3, 4, 5]])).logits, logits)
    data = batch()
    _, kl, _, grads = plain_fd(policy, *data, 5, "bucket")
    assert fm.fd_backward(policy, *data, top_k=5, tail="bucket")["kl"] == pytest.approx(kl, rel=1e-2, abs=1e-4)
    assert_close(take_grads(policy), grads, 1e-3)


def test_the_same_seed_gives_the_same_adapters_and_another_seed_others(folders):
    first, same, other = (fm.Policy(folders["llama"], rank=4, seed=s).student for s in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, same))
    assert not torch.equal(first[0], other[0])


def test_models_and_settings_that_cannot_work_are_refused_in_one_line(tmp_path):
    assert provers.resolve("deepseek-prover-1.5b")[0] == "deepseek-ai/DeepSeek-Prover-V1.5-SFT"
    assert provers.resolve("owner/name-1.5B")[0] == "owner/name-1.5B"
    for call in (lambda: provers.resolve("gpt-17"), lambda: provers.resolve("./no/such/folder"),
                 lambda: provers.load(str(tmp_path)), lambda: provers.load("owner/no-such-model-here"),
                 lambda: provers.load("tiny", quantize="int3"), lambda: provers.load("tiny", rank=-1),
                 lambda: provers.load("tiny", rank=0, quantize="nf4")):
        with pytest.raises(ValueError) as error:
            call()
        assert "\n" not in str(error.value) and len(str(error.value)) > 20


# ----------------------------------------------------------------------------------------------------------------------
# 5. Sampling
# ----------------------------------------------------------------------------------------------------------------------
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17], [18, 19, 20, 21]]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decoding_with_a_cache_equals_full_passes_row_by_row(folders, family):
    policy = fm.Policy(folders[family], rank=4)
    shake(policy, "student")
    policy.stop_ids = {n for n in range(260) if n % 7 == 0}  # rows finish at different times
    outputs = fm.sample(policy, PROMPTS, 20, temperature=0, batch_size=4)
    for prompt, (completion, finished) in zip(PROMPTS, outputs):
        expected = []
        while len(expected) < 20 and not (expected and expected[-1] in policy.stop_ids):
            with torch.no_grad():
                expected.append(policy.model(torch.tensor([prompt + expected])).logits[0, -1].argmax().item())
        assert completion == expected and finished == (expected[-1] in policy.stop_ids)
    assert len({len(c) for c, _ in outputs}) > 1


def test_positions_count_from_each_rows_first_token(policy):
    """A rotary model cannot tell when all positions of a row are shifted, so this looks at what it is given."""
    seen = []
    note = lambda _, args, kwargs: seen.append({name: x.clone() for name, x in kwargs.items() if isinstance(x, torch.Tensor)})
    policy.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    policy.stop_ids = set()
    fm.sample(policy, PROMPTS, 3)
    rows = sorted(PROMPTS, key=len)
    read, *later = seen
    assert "position_ids" not in read and "attention_mask" not in read  # each from 0 on, and causal
    assert [ids[:len(row)].tolist() for ids, row in zip(read["input_ids"], rows)] == rows and len(later) == 2
    for t, given in enumerate(later):  # one new token per row, which sees all before it and nothing behind
        positions, open_columns = given["position_ids"][:, 0], (given["attention_mask"] == 0).sum(-1).flatten()
        assert positions.tolist() == [len(p) + t for p in rows] == (open_columns - 1).tolist()


def test_every_id_of_the_generation_config_stops_and_is_kept(tmp_path):
    policy = fm.Policy(write_model(tmp_path, eos_token_id=[77, 78]), rank=1)
    assert policy.stop_ids == {0, 77, 78}  # and the tokenizer's own
    outputs = fm.sample(policy, [[5]] * 1000, 8, temperature=1e6, generator=torch.Generator().manual_seed(0))  # uniform over 260 ids
    assert {c[-1] for c, done in outputs if done} == {0, 77, 78}
    for completion, finished in outputs:
        assert finished == (completion[-1] in policy.stop_ids) and not set(completion[:-1]) & policy.stop_ids
        assert finished or len(completion) == 8


def test_prompt_and_completion_never_exceed_the_positions_of_the_model(policy):
    policy.stop_ids = set()
    outputs = fm.sample(policy, [[5] * 60, [5], [5] * 63], 100)
    assert [len(c) for c, _ in outputs] == [4, 63, 1] and not any(done for _, done in outputs)
    for bad in ([[5] * 64], [[5], []]):
        with pytest.raises(ValueError, match="1 to 63"):
            fm.sample(policy, bad, 5)
    assert fm.sample(policy, [], 5) == [] and fm.sample(policy, [[5]], 0) == [([], False)]


def test_sampled_frequencies_are_the_softmax(policy):
    n = 20_000
    with torch.no_grad():
        logits = plain_logits(policy, [5, 6], [7])[0]
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for temperature in (1, .5):
        p = (logits.double() / temperature).softmax(-1)
        tokens = fm.pick_token(logits.expand(n, -1), uniforms, temperature)
        share = torch.bincount(tokens, minlength=260) / n
        # Token by token five standard errors, and three draws: a token of 1e-6 that is drawn once is many errors off.
        assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 3 / n).all()


def test_a_token_of_zero_probability_is_never_drawn():
    logits = torch.full((2, 4), -math.inf)
    logits[:, 2] = 0
    assert fm.pick_token(logits, torch.tensor([0., 1 - 2**-53], dtype=torch.float64)).tolist() == [2, 2]


def test_sampling_is_seeded_and_rows_do_not_disturb_each_other(policy):
    policy.stop_ids = set(range(0, 260, 5))  # rows finish at different times
    run = lambda prompts, seed, **kw: fm.sample(policy, prompts, 12, generator=torch.Generator().manual_seed(seed), **kw)
    whole = run(PROMPTS, 0)
    assert whole == run(PROMPTS, 0) and whole != run(PROMPTS, 1)
    assert len({len(c) for c, _ in whole}) > 1
    assert whole == run(PROMPTS, 0, batch_size=2)  # nor does the batch they happen to share
    assert whole[:2] == run(PROMPTS[:2], 0)


def test_sampling_speaks_as_the_active_role_and_leaves_autograd_alone(policy):
    shake(policy, "teacher", 3, 1.)
    student = fm.sample(policy, PROMPTS, 10, temperature=0)
    with policy.act_as("teacher"):
        teacher = fm.sample(policy, PROMPTS, 10, temperature=0)
    assert teacher != student == fm.sample(policy, PROMPTS, 10, temperature=0)
    step(policy)


# ----------------------------------------------------------------------------------------------------------------------
# 6. It learns
# ----------------------------------------------------------------------------------------------------------------------
def test_with_constant_feedback_and_a_frozen_teacher_the_kl_falls_and_the_student_moves(tmp_path):
    """The paper's figure 7 in small: the student comes to say without the feedback what the teacher says with it."""
    policy = fm.Policy(write_model(tmp_path, "qwen2", initializer_range=.12), rank=8)
    g = torch.Generator().manual_seed(0)
    prompts = [torch.randint(1, 257, (4,), generator=g).tolist() for _ in range(24)]
    read = lambda rows: [[200, 201, 202, 203] + p for p in rows]  # feedback, then the prompt
    optimizer = torch.optim.Adam(policy.student, lr=1e-2)
    kl = lambda ps, ys: fm.fd_backward(policy, ps, read(ps), ys, [[True] * len(y) for y in ys], tail="bucket")["kl"]
    held_out = [y for y, _ in fm.sample(policy, prompts[16:], 6, generator=g)]
    before, history = kl(prompts[16:], held_out), []
    for _ in range(40):
        optimizer.zero_grad()
        history.append(kl(prompts[:16], [y for y, _ in fm.sample(policy, prompts[:16], 6, generator=g)]))
        optimizer.step()
    assert history[-1] < .15 * history[0], history
    after = kl(prompts[16:], held_out)  # the same completions, after prompts that were never trained on
    assert after < .2 * before, (before, after)
