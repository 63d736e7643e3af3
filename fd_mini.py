"""Feedback Distillation (arXiv 2605.30861), the method: losses, policy, sampling, backward passes.

    for each theorem x:   y ~ student(. | x)               sample()
                          F = feedback(y)                  feedback.py
                          p = teacher(. | x, F, y_<t)      teacher_topk(), for every token of y
                          loss = -sum_t sum_{a in top K} p(a) log student(a | x, y_<t)
                                                           topk_cross_entropy()
    every 5 steps:        teacher <- 0.9 teacher + 0.1 student
                                                           ema_update_()

The teacher is an average of the student's past, with one more text to read. Three chapters
follow: losses, the policy, sampling and the backward passes. The sum over t becomes a mean over
all sampled tokens of a batch; the paper writes a sum.

Shapes: N sampled tokens of all rows of a batch, one after another; V vocabulary, D width, K kept
entries, c rows of a chunk, B rows of a batch, T columns, G attempts in a group. Losses and
log-probabilities are in nats.
"""

import contextlib
from collections import Counter
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

TINY = Path(__file__).resolve().parent / "toy" / "tiny"
LORA_ALPHA = 32  # LoRA is scaled by LORA_ALPHA / rank
STATS = "entropy kl student_mass teacher_mass overlap".split()  # see topk_stats


# ---- 1. Losses: pure functions of tensors ----------------------------------------------------


def log_tail(logps):
    """The log-probability of all tokens that are not listed: log(1 - sum_k exp(logps_k)).

    logps [N, K] -> [N]. It is taken by expm1, because 1 - P cancels when P is near 1. Where
    rounding brings P above 1 - 1e-7, a detached offset moves it back: a clamp would zero the
    gradient there.
    """
    log_mass = logps.logsumexp(-1)  # [N], log P
    # How far log P lies above -1e-7, else 0.
    excess = (log_mass + 1e-7).clamp(min=0).detach()  # [N]
    return (-torch.expm1(log_mass - excess)).log()


def drop_tail(logp, logq):
    """The paper's loss, -sum_k p_k log q_k: not renormalised, not clamped, no other tokens.

    With P the teacher's mass on its top K, the gradient for the logits is P q - p (p is zero
    outside the top K). At q == p it is not zero: where P < 1 it sharpens the student.
    """
    return -(logp.exp() * logq).sum(-1)


def cross_entropy(logp, logq):
    """The same with one bucket for all other tokens, so that its gradient is zero at q == p."""
    return drop_tail(logp, logq) - log_tail(logp).exp() * log_tail(logq)


def kl_divergence(logp, logq):
    """KL(p || q) over the K tokens and the bucket: at most the KL over the vocabulary."""
    return cross_entropy(logp, logq) - cross_entropy(logp, logp)


def reverse_kl(logp, logq):
    """KL(student || teacher): punishes tokens that the teacher would not write, and not the lack
    of others that it would."""
    return kl_divergence(logq, logp)


# Each takes the teacher's logp and the student's logq, [N, K], and gives [N]. Only "drop" is the
# paper's. The names are those of train.py's --tail.
LOSSES = {"drop": drop_tail, "bucket": cross_entropy, "reverse": reverse_kl}


def topk_cross_entropy(student_logits, teacher_ids, teacher_logps, tail="drop"):
    """The student's loss at N tokens, on the K tokens that the teacher finds likeliest there.

    student_logits [N, V], teacher_ids [N, K] int64, teacher_logps [N, K] -> loss [N], fp32.
    Both sides are log-probabilities over the full vocabulary. `tail` names one of LOSSES:
    what is done about the tokens outside the K. ValueError for any other name.
    """
    if tail not in LOSSES:
        raise ValueError(f"tail must be one of {', '.join(LOSSES)}, not {tail!r}")

    # The softmax is taken in fp32, whatever the logits were computed in.
    logq = student_logits.float().log_softmax(-1)  # [N, V]
    return LOSSES[tail](teacher_logps, logq.gather(-1, teacher_ids))


def topk_stats(logits, teacher_ids, teacher_logps):
    """What the log shows of each token: logits [N, V] of the student -> [N, 5], see STATS.

    entropy is the student's, over the full vocabulary. kl is KL(teacher || student) over the K
    tokens and the bucket. The masses are what each gives to the teacher's top K, and overlap is
    the share of those K that are in the student's top K, too.
    """
    logq_all = logits.log_softmax(-1)  # [N, V]
    logq = logq_all.gather(-1, teacher_ids)  # [N, K]
    entropy = -(logq_all.exp() * logq_all).sum(-1)  # [N]
    kl = kl_divergence(teacher_logps, logq)  # [N]
    student_mass = logq.exp().sum(-1)  # [N]
    teacher_mass = teacher_logps.exp().sum(-1)  # [N]

    # [N, 1], the log-probability of the student's K-th best token.
    kth = logq_all.topk(teacher_ids.shape[-1]).values[:, -1:]
    overlap = (logq >= kth).float().mean(-1)  # [N]
    return torch.stack([entropy, kl, student_mass, teacher_mass, overlap], -1)


def linear_topk_cross_entropy(
    hidden, weight, teacher_ids, teacher_logps, tail="drop", chunk=256, with_stats=False
):
    """topk_cross_entropy(hidden @ weight.T, ...) without holding [N, V], while the head is frozen.

    hidden [N, D], weight [V, D] -> loss [N]; with_stats: (loss, topk_stats). A token's loss
    depends on its own hidden state only. So the backward pass through the head is run here,
    chunk by chunk: the gradient of the loss for the chunk's hidden states [c, D] is kept, its
    logits are let go (about 20 c V bytes at the peak, nothing computed twice), and loss.backward()
    later multiplies what is kept by the incoming gradient. A head that trains (rank 0) is left
    to autograd, which keeps all logits.
    """
    at_once = (
        torch.is_grad_enabled() and hidden.requires_grad and not weight.requires_grad
    )
    losses, grads, stats = [], [], []
    chunks = zip(
        hidden.split(chunk), teacher_ids.split(chunk), teacher_logps.split(chunk)
    )
    for h, ids, logps in chunks:
        if at_once:
            h = h.detach().requires_grad_()
        logits = F.linear(h, weight).float()  # [c, V]
        loss = topk_cross_entropy(logits, ids, logps, tail)  # [c]
        if at_once:
            grads += torch.autograd.grad(loss.sum(), h)  # a tuple of one, [c, D]
            loss = loss.detach()
        losses.append(loss)
        if with_stats:
            stats.append(topk_stats(logits.detach(), ids, logps))

    loss = torch.cat(losses)
    if at_once:
        loss = loss + zero_with_gradient(hidden, torch.cat(grads))
    return (loss, torch.cat(stats)) if with_stats else loss


def zero_with_gradient(hidden, grads):
    """Zeros [N]. Their gradient for hidden [N, D] is `grads` [N, D], which is known already."""
    return ((hidden - hidden.detach()) * grads).sum(-1)


@torch.no_grad()
def teacher_topk(hidden, weight, k, chunk=256):
    """The teacher's K likeliest tokens: hidden [N, D], weight [V, D] -> ids, logps [N, K].

    The log-probabilities are those of the full vocabulary: exp(logps).sum(-1) is the teacher's
    mass on its top K. K is at most V.
    """
    tops = []
    for h in hidden.split(chunk):
        logp = F.linear(h, weight).float().log_softmax(-1)  # [c, V]
        tops.append(logp.topk(min(k, len(weight))))
    logps, ids = zip(*tops)
    return torch.cat(ids), torch.cat(logps)


@torch.no_grad()
def ema_update_(teacher_params, student_params, alpha):
    """mu <- alpha mu + (1 - alpha) theta, in place, for lists of tensors.

    alpha is what the teacher keeps (paper: 0.9): 1 freezes mu, 0 copies theta. LoRA's A and B
    are averaged separately, which is not quite the average of B A. ValueError unless mu is fp32:
    in bf16 a step below half an ulp is lost and the teacher stands still.
    """
    for mu, theta in zip(teacher_params, student_params, strict=True):
        if mu.dtype != torch.float32:
            raise ValueError(
                f"the EMA teacher must be float32, not {mu.dtype}, or small updates are lost"
            )
        mu.mul_(alpha).add_(theta, alpha=1 - alpha)


def group_advantages(rewards, normalize_std=True):
    """GRPO's advantages, a reward minus its group's mean: rewards [B, G] -> [B, G].

    normalize_std: divided by the group's std (n - 1) + 1e-4; without it this is Dr. GRPO.
    A group of one and a group of equal rewards get zeros.
    """
    advantages = rewards - rewards.mean(1, keepdim=True)
    if normalize_std:
        std = rewards.std(1, keepdim=True).nan_to_num()  # [B, 1]; of one reward it is nan
        advantages /= std + 1e-4
    return advantages


# ---- 2. The policy: one frozen base, several roles -------------------------------------------


class LoRALinear(nn.Module):
    """base(x) + scale B A x. A [r, in] and B [out, r] are fp32, and used in x's precision."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base.train()
        self.scale = LORA_ALPHA / rank
        # A starts kaiming-uniform, as in PEFT. B starts at zero: training starts at the base.
        options = dict(bias=False, device=base.weight.device)
        self.lora_A = nn.Linear(base.in_features, rank, **options)
        self.lora_B = nn.Linear(rank, base.out_features, **options)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        low = self.scale * F.linear(x, self.lora_A.weight.to(x.dtype))  # [..., r]
        return self.base(x) + F.linear(low, self.lora_B.weight.to(x.dtype))  # [..., out]

    def train(self, mode=True):
        # Never eval: there bitsandbytes' CPU kernel repacks a weight and loses its gradient.
        return self


class Policy:
    """One model that can act as four roles.

    student    what is trained
    teacher    the student's exponential moving average
    base       the model as it was loaded
    reference  where GRPO's KL is measured from: the base, or a copy of some student

    rank > 0: the base is frozen and every linear layer but the head gets LoRA; a role is a list
    of adapters. rank 0: all weights train, in fp32; a role is a full copy of them.

    model is "tiny" or a folder. The base is in 4 bits for quantize "nf4", else in bf16 on CUDA
    and fp32 on a CPU. extras/provers.py knows models by other names, decides what "auto" means,
    and refuses what cannot work.
    """

    graphs = None  # on CUDA, slots that replay a decoding step: extras/cuda.py
    bar = iter  # on a terminal, what shows the steps of decoding: extras/provers.py
    style = "plain"  # of prompts: feedback.py
    tools = False  # may attempts call tools? extras/tool_mode.py

    def __init__(self, model="tiny", rank=32, quantize="auto", seed=0):
        self.name = str(TINY) if model == "tiny" else model
        self.rank = rank
        self.four_bit = quantize == "nf4"
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            # By its number: threads read the weights, and have a current card of their own.
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.load_base()
        self.add_adapters(seed)
        self.make_roles()

    def load_base(self):
        """The model, its tokenizer, its head [V, D] and the ids that end a completion."""
        adapters_on_gpu = self.device.type == "cuda" and self.rank > 0
        # Weights that train are fp32.
        dtype = torch.bfloat16 if adapters_on_gpu else torch.float32
        nf4 = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        # As it comes it is in eval mode: no dropout in any role. What its files lacked is in
        # self.loading: extras/provers.py refuses that.
        self.model, self.loading = AutoModelForCausalLM.from_pretrained(
            self.name,
            dtype=dtype,
            device_map=self.device,
            quantization_config=nf4 if self.four_bit else None,
            output_loading_info=True,
        )
        # The model without its head; on CUDA extras/cuda.py adds gradient checkpointing.
        self.body = self.model.base_model
        self.head = self.model.get_output_embeddings().weight
        self.max_positions = self.model.config.get_text_config().max_position_embeddings

        self.tokenizer = AutoTokenizer.from_pretrained(self.name)
        # None, an id, or a list of them (Qwen has two).
        eos = self.model.generation_config.eos_token_id
        eos = eos if isinstance(eos, list) else [eos]
        self.stop_ids = {*eos, self.tokenizer.eos_token_id} - {None}

    def add_adapters(self, seed):
        """Freezes the base and puts LoRA on every linear layer but the head."""
        if self.rank == 0:
            return
        self.model.requires_grad_(False)
        torch.manual_seed(seed)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.Linear) and module.weight is not self.head:
                self.model.set_submodule(name, LoRALinear(module, self.rank))

    def make_roles(self):
        """The tensors of every role, as lists in the order of the trained parameters.

        self.student are the parameters themselves. act_as() swaps their data: inside
        act_as("teacher") they hold the teacher's.
        """
        self.student = [p for p in self.model.parameters() if p.requires_grad]
        self.teacher = [p.detach().clone() for p in self.student]
        if self.rank == 0:
            base = [p.clone() for p in self.teacher]
        else:
            # With B = 0 the adapters do nothing. One stored zero is viewed in every shape.
            base = [p.new_zeros(()).expand_as(p) for p in self.student]
        self.roles = dict(
            student=[p.data for p in self.student],
            teacher=self.teacher,
            base=base,
            reference=base,
        )
        self.active = "student"

    @contextlib.contextmanager
    def act_as(self, role):
        """`with policy.act_as(role):` the model is that role.

        Forward and backward belong in one such block. Backward uses the tensors that it finds
        (gradient checkpointing even computes with them), and nothing would notice others.
        """
        before = self.active
        try:
            self.point_to(role)
            yield
        finally:
            self.point_to(before)

    def point_to(self, role):
        """A pointer, not a copy: name, gradient and optimiser state stay with the parameter."""
        self.active = role
        for parameter, tensor in zip(self.student, self.roles[role]):
            parameter.data = tensor

    def merged(self):
        """`with policy.merged():` passes without gradients are faster. No role may change there."""
        from extras.merging import merged

        return merged(self)

    def rollout_batch(self, *_):
        """(tokens of the longest prompt, new tokens, rows that wait) -> how many slots there are
        for these rows. On CUDA extras/memory.py knows."""
        return 64

    def hidden(self, prompts, completions, sampled):
        """The final hidden states that predict the sampled tokens, and these tokens.

        prompts, completions: B lists of ids; sampled: B lists of bools -> [N, D], [N].
        ValueError for a row that is longer than the model's positions.
        """
        ids, flags = pad_batch(prompts, completions, sampled, self.device)
        if ids.shape[1] > self.max_positions:
            raise ValueError(
                f"{ids.shape[1]} tokens > {self.max_positions} positions: "
                "lower --max-new-tokens or cut the feedback"
            )
        # The token in column t is predicted in column t - 1, and the last is never fed. Column 0
        # belongs to the prompt, so both selections below have the same tokens in the same order.
        # No mask: padding comes after a row's own tokens, which do not look ahead.
        out = self.body(input_ids=ids[:, :-1], use_cache=False)
        return out.last_hidden_state[flags[:, 1:]], ids[flags]


def pad_batch(prompts, completions, sampled, device="cpu"):
    """Right-padded ids, and which of these tokens were sampled: [B, T] each.

    prompts [[7, 8], [9]], completions [[1, 2], [3]], all of them sampled, give

        ids  [[7, 8, 1, 2], [9, 3, 0, 0]]        flags  [[F, F, T, T], [F, T, F, F]]

    What a tool printed (sampled False) is read by the model, and no loss touches it. The flags
    come from lengths: `ids != pad` would lose the stop token where that is the padding, too.
    """
    ids, flags = [], []
    for prompt, completion, was_sampled in zip(
        prompts, completions, sampled, strict=True
    ):
        ids.append(torch.tensor(prompt + completion))
        flags.append(torch.tensor([False] * len(prompt) + was_sampled))
    pad = nn.utils.rnn.pad_sequence
    return [pad(rows, batch_first=True).to(device) for rows in (ids, flags)]


# ---- 3. Sampling, and the backward passes ----------------------------------------------------


@torch.no_grad()  # not inference_mode: autograd refuses its tensors later
def sample(
    policy,
    prompts,
    max_new_tokens,
    temperature=1.0,
    generator=None,
    batch_size=None,
    stop=None,
    uniforms=None,
):
    """Completions of B prompts (lists of ids) by the active role: [(ids, finished)], in order.

    A finished completion ends with a stop id; others were cut by max_new_tokens, by the model's
    positions or by stop(row, ids) -> bool, at a tool call. Temperature 0 is greedy. A row's random
    numbers, uniforms [B, max_new_tokens] or of a CPU generator, do not depend on the rows beside
    it. batch_size: rows decoded at a time, each in a slot. ValueError for a prompt that is empty
    or too long.
    """
    lengths = list(map(len, prompts))
    if not all(0 < length < policy.max_positions for length in lengths):
        raise ValueError(f"prompts must have 1 to {policy.max_positions - 1} tokens")
    if uniforms is None:
        uniforms = torch.rand(
            len(prompts), max_new_tokens, generator=generator, dtype=torch.float64
        )
    completions = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lengths.__getitem__)
    if uniforms.numel():
        size = batch_size or policy.rollout_batch(
            max(lengths), max_new_tokens, len(prompts)
        )
        with policy.merged():
            decode(policy, prompts, completions, order, size, uniforms, temperature, stop)
    return [(ids, not policy.stop_ids.isdisjoint(ids[-1:])) for ids in completions]


def decode(
    policy, prompts, completions, waiting, size, uniforms, temperature, stop
):
    """Appends tokens to completions[row] until the rows that are waiting have all ended.

    Up to `size` rows are written at a time, each in a slot of its own. When one ends, the next
    prompt takes its slot: no row waits for a longer one. uniforms: [all rows, max_new_tokens].
    """
    from extras.slots import Slots

    live = waiting[-size:]  # slot -> its row
    del waiting[-size:]
    most = uniforms.shape[1]
    columns = len(prompts[live[-1]]) + most
    slots = (policy.graphs or Slots)(policy.model.base_model, len(live), columns)

    # So many steps if all rows run to their end.
    steps = iter(policy.bar(range(len(prompts) * most // len(live))))
    unread = range(len(live))  # slots whose prompts are new
    while live:
        next(steps, None)
        fed = unread or range(len(live))
        rows = [live[slot] for slot in fed]
        texts = [prompts[row] + completions[row] for row in rows]
        hidden = slots.read(fed, texts) if unread else slots.step(texts)  # [B, D]

        logits = F.linear(hidden, policy.head).float()  # [B, V]
        u = uniforms[rows, [len(completions[row]) for row in rows]]  # [B]
        tokens = pick_token(logits, u.to(policy.device), temperature)  # [B]
        ended = []
        for slot, row, token in zip(fed, rows, tokens.tolist()):
            completions[row].append(token)
            room = min(most, policy.max_positions - len(prompts[row]))
            is_over = has_ended(policy, completions[row], room)
            if is_over or stop and stop(row, completions[row]):
                ended.append(slot)

        unread = ended[: len(waiting)]
        for slot in unread:
            live[slot] = waiting.pop()
        # When none is waiting, the last row moves to the slot that is free.
        for slot in reversed(ended[len(unread) :]):
            slots.move(len(live) - 1, slot)
            live[slot] = live[-1]
            live.pop()


def has_ended(policy, completion, room):
    """Did this row end with its newest token: a stop id, or no room for more?"""
    return completion[-1] in policy.stop_ids or len(completion) >= room


def pick_token(logits, uniforms, temperature=1.0):
    """One token a row, by inverting the cumulative distribution.

    logits [B, V] fp32, uniforms [B] in [0, 1) -> [B]. Nothing is cut off: at temperature 1 what
    is sampled is the policy. In double: float sums over V swallow rare tokens.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cdf = (logits.double() / temperature).softmax(-1).cumsum(-1)  # [B, V]
    u = uniforms[:, None] * cdf[:, -1:]  # [B, 1]
    # The first token with cdf > u: never one of probability zero.
    return torch.searchsorted(cdf, u, right=True).squeeze(-1)


def micro_batches(micro_tokens, prompts, completions, sampled, *more):
    """The lists, cut into groups of rows of similar length: [[prompts, ...], ...].

    Rows x longest <= micro_tokens in each; a row longer than that stands alone. A row of which
    nothing was sampled is left out. `more`: lists of anything else, with one entry a row.
    """
    rows = zip(prompts, completions, sampled, *more, strict=True)
    groups = []
    for row in sorted((row for row in rows if any(row[2])), key=row_length):
        # This row is the longest so far: its group is padded to its length.
        if not groups or (len(groups[-1]) + 1) * row_length(row) > micro_tokens:
            groups.append([])
        groups[-1].append(row)
    return [list(zip(*group)) for group in groups]


def row_length(row):
    """Tokens of a (prompt, completion, ...)."""
    return len(row[0]) + len(row[1])


# Each backward pass adds to the gradients of policy.student and returns means over the sampled
# tokens. The loss is divided by the WHOLE batch's count of sampled tokens, so that no split
# into micro-batches changes the gradient but by rounding. No role changes between a forward and
# its backward.
# The student's pass comes last: a row that is too long is a ValueError before any gradient.


def fd_backward(
    policy,
    prompts,
    teacher_prompts,
    completions,
    sampled,
    top_k=25,
    tail="drop",
    micro_tokens=4096,
):
    """The paper's gradient. At each token the student sampled, it is drawn towards what the
    teacher, who has read the feedback, expects there.

    prompts, teacher_prompts, completions: B lists of ids; sampled: B lists of bools, False for
    what a tool printed. top_k 25 and "drop" are the paper's.
    """
    count = sum(map(sum, sampled))
    totals = Counter()
    # Grouped by the teacher's prompts, which hold the feedback and are the longer ones.
    batches = micro_batches(
        micro_tokens, teacher_prompts, completions, sampled, prompts
    )
    with torch.no_grad(), policy.act_as("teacher"), policy.merged():
        tops = []  # of each batch ids, logps [N, K]
        for teacher_rows, completion_rows, flags, _ in batches:
            hidden, _ = policy.hidden(teacher_rows, completion_rows, flags)  # [N, D]
            tops.append(teacher_topk(hidden, policy.head, top_k))

    # Same completions, same flags: row n is the same token to teacher and student.
    for (_, completion_rows, flags, student_rows), top in zip(batches, tops):
        with policy.act_as("student"):
            hidden, _ = policy.hidden(student_rows, completion_rows, flags)  # [N, D]
            # [N] and [N, 5]
            loss, stats = linear_topk_cross_entropy(
                hidden, policy.head, *top, tail, with_stats=True
            )
            (loss.sum() / count).backward()

        # A Counter's update adds.
        totals.update(dict(zip(STATS, stats.sum(0).tolist())), loss=loss.sum().item())
    return means(totals, count)


def means(totals, count):
    """Sums over the sampled tokens -> {name: mean, ..., "tokens": their count}."""
    return {name: total / count for name, total in totals.items()} | {"tokens": count}


def sampled_nll(policy, prompts, completions, sampled):
    """-log p of each sampled token [N], and the entropy there [N], by the active role."""
    hidden, ids = policy.hidden(prompts, completions, sampled)  # [N, D], [N]
    ids = ids[:, None]  # [N, 1]
    # A teacher who is certain of this token: K = 1, log 1 = 0.
    log_one = torch.zeros_like(ids, dtype=torch.float32)
    nll, stats = linear_topk_cross_entropy(
        hidden, policy.head, ids, log_one, with_stats=True
    )
    return nll, stats[:, 0]  # the first of STATS


def grpo_backward(
    policy, prompts, completions, sampled, advantages, kl_coef=0.001, micro_tokens=4096
):
    """GRPO's gradient: one advantage per completion ([B]), and a KL penalty to the reference.

    One inner step is taken on the policy's own samples, so the ratio exp(logp - sg(logp)) is 1,
    its gradient is REINFORCE's, and clipping never acts. The penalty is k3 = exp(d) - d - 1
    with d = log ref - log student. Its expectation is KL(student || ref); its gradient, as it is
    used here, is in expectation that of KL(ref || student). verl and TRL do the same.
    """
    count = sum(map(sum, sampled))
    totals = Counter()
    batches = micro_batches(micro_tokens, prompts, completions, sampled, advantages)
    with torch.no_grad(), policy.act_as("reference"), policy.merged():
        # [N] of each batch, which is prompts, completions, flags
        references = [sampled_nll(policy, *batch)[0] for *batch, _ in batches]

    for (*batch, gains), reference_nll in zip(batches, references):
        with policy.act_as("student"):
            nll, entropy = sampled_nll(policy, *batch)  # [N] each
            advantage = nll.new_tensor(
                [gain for gain, row in zip(gains, batch[-1]) for flag in row if flag]
            )  # [N]
            ratio = (nll.detach() - nll).exp()
            d = (nll - reference_nll).clamp(-20, 20)
            k3 = d.exp() - d - 1
            loss = (kl_coef * k3 - advantage * ratio).sum()
            (loss / count).backward()

        totals.update(
            loss=loss.item(), kl_ref=k3.sum().item(), entropy=entropy.sum().item()
        )
    return means(totals, count)
