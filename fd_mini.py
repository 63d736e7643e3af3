"""Feedback Distillation: one policy that samples proofs, and a teacher that is the same policy with feedback in its prompt.

    for each theorem x:  y ~ student(. | x)                 sample()             one attempt, token ids, never re-tokenised
                         F = feedback(y)                    feedback.py          what a reader of the attempt tells its author
                         p = teacher(. | x, F, y_<t)        teacher_topk()       the same weights, averaged, and one more text
                         loss = -sum_t sum_{a in topK(p)} p(a) log student(a | x, y_<t)            topk_cross_entropy()
    every 5 steps:       teacher <- alpha teacher + (1 - alpha) student                            ema_update_()

Read it from top to bottom: 1. losses, pure functions of tensors; 2. the policy, a frozen base with LoRA student and teacher;
3. sampling; 4. three functions that leave gradients in policy.student: fd_backward, grpo_backward, sft_backward.
Shapes: N tokens of a batch in a row without padding, V vocabulary, D width, K kept entries, c chunk, B rows, T length, G group.
"""
import contextlib
import json
import math
import re
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.modeling_layers import GradientCheckpointingLayer

ALIASES = {
    "tiny": str(Path(__file__).resolve().parent / "data" / "tiny"),
    "deepseek-prover-1.5b": "deepseek-ai/DeepSeek-Prover-V1.5-SFT",  # its 1.5 is a version: the model has 7B parameters
    "kimina-prover-1.5b": "AI-MO/Kimina-Prover-Preview-Distill-1.5B",
    "kimina-prover-1.7b": "AI-MO/Kimina-Prover-RL-1.7B",
    "qwen3-8b": "Qwen/Qwen3-8B",  # the paper's two models
    "qwen3.5-9b": "Qwen/Qwen3.5-9B",
}


# ---------------------------------------------------------------------------------------------------------------------
# 1. Losses: pure functions
# ---------------------------------------------------------------------------------------------------------------------
def log_tail(logps):
    """log(1 - sum_k exp(logps_k)), the log-probability of all tokens outside the K: logps [N, K] -> [N].

    By expm1, because 1 - P cancels. Rounding can bring P to 1: the tail is held at 1e-7 by a shift that autograd takes for a
    constant, so that equal student and teacher still have equal tails and no gradient."""
    lse = logps.logsumexp(-1)  # [N]
    return (-torch.expm1(lse - (lse + 1e-7).clamp(min=0).detach())).log()


def topk_cross_entropy(student_logits, teacher_ids, teacher_logps, tail="drop"):
    """Cross-entropy of the student under the teacher's top K, i.e. forward KL(teacher || student) up to a constant.

    student_logits [N, V], teacher_ids [N, K] int64, teacher_logps [N, K] over the full vocabulary -> loss [N], nats, fp32.
    "drop": the paper's, -sum_k p_k log q_k, not renormalised, not clamped. Its gradient for the logits is P q - p 1_T with P the
    teacher's mass on its top K, T: not zero at q == p, it sharpens what has P < 1. "bucket" (ours) adds one bucket for all
    other tokens, -(1-P) log(1-Q), which makes the gradient zero at q == p. Raises ValueError for any other tail."""
    if tail not in ("drop", "bucket"):
        raise ValueError(f"tail must be drop (the paper's) or bucket, not {tail!r}")
    logits = student_logits.float()  # upcast before the logsumexp: bf16 log-probabilities have 2 to 3 digits
    logq = logits.gather(-1, teacher_ids) - logits.logsumexp(-1, keepdim=True)  # [N, K]
    loss = -(teacher_logps.exp() * logq).sum(-1)  # [N]
    return loss if tail == "drop" else loss - log_tail(teacher_logps).exp() * log_tail(logq)


def topk_stats(logits, teacher_ids, teacher_logps):
    """What to watch beside the loss: [N, 4] = entropy, kl, student_mass, overlap. logits [N, V] fp32.

    entropy: the student's, all of V, nats. kl: KL over the K + 1 buckets, >= 0 and at most the full KL. student_mass: Q, the
    student's probability of the teacher's top K. overlap: the share of them that is in the student's own top K."""
    logq_all = logits.log_softmax(-1)  # [N, V]
    logq = logits.gather(-1, teacher_ids) - logits.logsumexp(-1, keepdim=True)  # [N, K]
    p_tail, q_tail = log_tail(teacher_logps), log_tail(logq)  # [N]
    kl = (teacher_logps.exp() * (teacher_logps - logq)).sum(-1) + p_tail.exp() * (p_tail - q_tail)
    kth = logits.topk(teacher_ids.shape[-1]).values[:, -1:]  # [N, 1] the student's K-th largest logit
    overlap = (logits.gather(-1, teacher_ids) >= kth).float().mean(-1)
    return torch.stack([-(logq_all.exp() * logq_all).sum(-1), kl, logq.exp().sum(-1), overlap], -1)


class _LinearTopK(torch.autograd.Function):
    """Head, then topk_cross_entropy, a chunk of rows at a time. Rows are independent and the head is frozen: each chunk's gradient
    for `hidden` is taken in the forward pass; [N, D] is kept, [N, V] never exists and nothing is computed twice."""

    @staticmethod
    def forward(ctx, hidden, weight, ids, logps, tail, chunk, with_stats):
        losses, stats, grads, wanted = [], [], [], ctx.needs_input_grad[0]
        for h, i, p in zip(hidden.split(chunk), ids.split(chunk), logps.split(chunk)):
            h = h.detach().requires_grad_(wanted)  # [c, D]
            with torch.set_grad_enabled(wanted):
                logits = F.linear(h, weight).float()  # [c, V], the only place where V appears
                loss = topk_cross_entropy(logits, i, p, tail)  # [c]
                grads += torch.autograd.grad(loss.sum(), h) if wanted else []
            losses.append(loss.detach())
            stats.append(topk_stats(logits.detach(), i, p) if with_stats else logits.new_zeros(len(h), 4))
        ctx.grad = torch.cat(grads) if wanted else None  # [N, D]
        losses, stats = torch.cat(losses), torch.cat(stats)
        ctx.mark_non_differentiable(stats)
        return losses, stats

    @staticmethod
    def backward(ctx, grad_loss, _):
        return (grad_loss[:, None] * ctx.grad).to(ctx.grad.dtype), None, None, None, None, None, None


def linear_topk_cross_entropy(hidden, weight, teacher_ids, teacher_logps, tail="drop", chunk=256, with_stats=False):
    """topk_cross_entropy(hidden @ weight.T, ...) without ever holding [N, V]: hidden [N, D], weight [V, D] -> loss [N].

    Same value, same gradient for `hidden`; about 14 chunk V bytes at the peak. with_stats: (loss, topk_stats [N, 4]). A head that
    is trained itself (rank 0, the tiny prover's warm-up) takes the plain composition, which does hold [N, V]."""
    if weight.requires_grad and torch.is_grad_enabled():
        logits = F.linear(hidden, weight).float()  # [N, V]
        loss, stats = topk_cross_entropy(logits, teacher_ids, teacher_logps, tail), logits.new_zeros(len(hidden), 4)
        stats = topk_stats(logits.detach(), teacher_ids, teacher_logps) if with_stats else stats
    else:
        loss, stats = _LinearTopK.apply(hidden, weight, teacher_ids, teacher_logps, tail, chunk, with_stats)
    return (loss, stats) if with_stats else loss


@torch.no_grad()
def teacher_topk(hidden, weight, k, chunk=256):
    """The teacher's K most likely tokens: hidden [N, D], weight [V, D] -> ids [N, K] int64, logps [N, K] fp32.

    Log-probabilities of the full vocabulary: exp(logps).sum(-1) is the teacher's mass on its top K. K is V at most."""
    logits = (F.linear(h, weight).float() for h in hidden.split(chunk))  # each [c, V]
    parts = [(z.topk(min(k, len(weight))), z.logsumexp(-1, keepdim=True)) for z in logits]
    return torch.cat([top.indices for top, _ in parts]), torch.cat([top.values - lse for top, lse in parts])


@torch.no_grad()
def chunked_entropy(hidden, weight, chunk=256):
    """Entropy of the next-token distribution, all of V, fp32, nats: hidden [N, D], weight [V, D] -> [N]."""
    logq = (F.linear(h, weight).float().log_softmax(-1) for h in hidden.split(chunk))  # each [c, V]
    return torch.cat([-(z.exp() * z).sum(-1) for z in logq])


@torch.no_grad()
def ema_update_(teacher_params, student_params, alpha):
    """mu <- alpha mu + (1 - alpha) theta in place. alpha is the RETENTION (paper: 0.9): 1 freezes mu, 0 copies the student.

    ValueError unless mu is fp32: in bf16 a step below half an ulp is lost, and the teacher would stand still."""
    for mu, theta in zip(teacher_params, student_params, strict=True):
        if mu.dtype != torch.float32:
            raise ValueError(f"the EMA teacher must be float32, not {mu.dtype}, or small updates are lost")
        mu.mul_(alpha).add_(theta, alpha=1 - alpha)


def group_advantages(rewards, normalize_std=True):
    """GRPO: reward minus its group's mean. rewards [B, G] -> [B, G]; a group of equal rewards gives zeros.

    normalize_std: divided by (std + 1e-4), std with n - 1; without it, Dr. GRPO. ValueError when G is 1."""
    if rewards.shape[1] < 2:
        raise ValueError("GRPO compares attempts at one theorem: --group-size must be at least 2")
    advantages = rewards - rewards.mean(1, keepdim=True)
    return advantages / (rewards.std(1, keepdim=True) + 1e-4) if normalize_std else advantages


# ---------------------------------------------------------------------------------------------------------------------
# 2. Policy: one base, several roles
# ---------------------------------------------------------------------------------------------------------------------
def resolve_model(name):
    """An alias, an existing local folder or a hub id "owner/name" -> what from_pretrained wants; else ValueError."""
    if name in ALIASES or Path(name).is_dir() or re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        return ALIASES.get(name, name)
    raise ValueError(f"unknown model {name!r}: use one of {', '.join(ALIASES)}, a local folder, or a hub id owner/name")


class LoRALinear(nn.Module):
    """base(x) + scale B A x, with scale = lora_alpha / rank and A [r, in], B [out, r] in fp32, computed in x's precision.

    As in PEFT: A is kaiming-uniform, B zero, so that training starts exactly at the base."""

    def __init__(self, base, rank, scale, generator):
        super().__init__()
        self.base, self.scale = base.train(), scale
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.lora_B.weight)
        self.lora_A.to(base.weight.device), self.lora_B.to(base.weight.device)

    def forward(self, x):
        low = self.scale * F.linear(x, self.lora_A.weight.to(x.dtype))  # [..., r]
        return self.base(x) + F.linear(low, self.lora_B.weight.to(x.dtype))  # [..., out]

    def train(self, mode=True):
        """Always in training mode, which only matters to bitsandbytes: on CPUs with AVX512-BF16 its Linear4bit in eval mode
        repacks the weight in place, rounds the scales and has no gradient any more."""
        return self


class Policy:
    """One base model that plays "student" (trained), "teacher" (the student's EMA), "base" (before training) and "reference"
    (a frozen student, for GRPO's KL; the base until freeze_reference). Student and teacher start equal.

    rank > 0: the base is frozen (NF4 above 4B parameters on CUDA or when asked for, else bf16 on CUDA, fp32 on a CPU) and every
    linear layer but the head gets LoRA; a role is a set of adapter tensors. rank 0: all weights are trained, a role is a full
    copy. `student`, `teacher`: a role's tensors, in one fixed order; `stop_ids`: every id that ends a completion.
    Raises ValueError, in one line, for a model that cannot be had or settings that cannot work."""

    def __init__(self, model="tiny", rank=32, lora_alpha=32, quantize="auto", seed=0, device="auto"):
        if quantize not in ("auto", "nf4", "none") or rank < (1 if quantize == "nf4" else 0):
            raise ValueError(f"quantize={quantize}, rank={rank}: quantize is auto, nf4 or none, and nf4 needs a rank of 1 or more")
        self.name, self.rank, self.lora_alpha = resolve_model(model), rank, lora_alpha
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        on_card = self.device.type == "cuda"
        dtype = torch.bfloat16 if on_card and rank > 0 else torch.float32  # weights in training need fp32, see ema_update_
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.name)
            with torch.device("meta"):  # a model without weights, to count them
                empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.name))
            large = on_card and rank > 0 and sum(p.numel() for p in empty.parameters()) > 4e9
            nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
            nf4 = nf4 if quantize == "nf4" or (quantize == "auto" and large) else None
            self.model = AutoModelForCausalLM.from_pretrained(self.name, dtype=dtype, device_map={"": self.device},
                                                              quantization_config=nf4)
        except OSError as error:
            raise ValueError(f"cannot load {model!r} ({self.name}): {str(error).splitlines()[0]}") from error
        self.model.requires_grad_(rank == 0).eval()  # eval: no dropout in any role
        generator = torch.Generator().manual_seed(seed)
        self.targets = [name for name, m in self.model.named_modules() if isinstance(m, nn.Linear)
                        and m is not self.model.get_output_embeddings() and rank > 0]
        for name in self.targets:  # Linear4bit is a Linear too
            layer = LoRALinear(self.model.get_submodule(name), rank, lora_alpha / max(rank, 1), generator)
            self.model.set_submodule(name, layer)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.names, self.student = list(trained), list(trained.values())
        self.teacher = [p.detach().clone() for p in self.student]  # a copy, not zeros: A and B that both climb from 0 lag
        # the base role is B = 0: an expanded zero takes no memory
        base = [torch.zeros((), device=p.device).expand(p.shape) if rank > 0 else p.detach().clone() for p in self.student]
        self.roles = {"student": [p.data for p in self.student], "teacher": self.teacher, "base": base, "reference": base}
        eos = self.model.generation_config.eos_token_id  # None, an id, or a list of ids: Qwen has two
        self.stop_ids = {*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id} - {None}
        self.max_positions = self.model.config.get_text_config().max_position_embeddings
        self.checkpointing, self.active = on_card, "student"  # checkpointing: activations are recomputed in backward
        # without re-entry: a re-entrant checkpoint behind frozen embeddings returns no gradient
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.blocks = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]

    @contextlib.contextmanager
    def act_as(self, who):
        """Inside `with policy.act_as(who):` the model is that role. A backward pass must end inside the block that its forward pass
        began in: a checkpoint recomputes with the role that is active during backward, and nothing would notice."""
        if who not in self.roles:
            raise ValueError(f"unknown role {who!r}: use one of {', '.join(self.roles)}")
        before = self.active
        try:
            self._activate(who)
            yield
        finally:
            self._activate(before)

    def _activate(self, who):
        self.active = who
        for p, tensor in zip(self.student, self.roles[who]):
            p.data = tensor  # a pointer, not a copy; optimiser, gradients and names stay with p

    @property
    def head(self):
        """Output embeddings [V, D]. V may exceed the tokenizer: the unused rows are the same for student and teacher."""
        return self.model.get_output_embeddings().weight

    def hidden(self, prompts, completions):
        """Final hidden states that predict each completion token, [sum_T, D], rows one after the other without padding.

        prompts, completions: B lists of ids each. Raises ValueError when a row exceeds the model's positions."""
        longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        if longest > self.max_positions:
            raise ValueError(f"prompt and completion take {longest} tokens, the model has {self.max_positions}: lower "
                             "--max-new-tokens or shorten the feedback")
        ids, mask, positions, predicts = (x.to(self.device) for x in pad_batch(prompts, completions))  # [B, T] each
        for block in self.blocks:  # the flag of the block alone: .train() would turn dropout on inside it
            block.training = self.checkpointing and torch.is_grad_enabled()
        out = self.model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        for block in self.blocks:  # a checkpointing block keeps no KV cache: sampling would become quadratic
            block.training = False
        return out.last_hidden_state[predicts]  # [B, T, D] -> [sum_T, D]

    def update_teacher(self, alpha):
        """One EMA update. Count optimiser steps, not micro-batches; skip it when the gradients were not finite."""
        ema_update_(self.teacher, self.roles["student"], alpha)

    def freeze_reference(self):
        """Keeps the student as it is now as "reference": GRPO over FD stays close to the FD checkpoint, not to the base."""
        self.roles["reference"] = [tensor.clone() for tensor in self.roles["student"]]

    def save(self, folder, who="student"):
        """Writes a role: an adapter in PEFT's file format or, at rank 0, a whole model with its tokenizer."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self.rank == 0:
            with self.act_as(who):
                return self.model.save_pretrained(folder), self.tokenizer.save_pretrained(folder)
        tensors = {f"base_model.model.{name}": t.contiguous() for name, t in zip(self.names, self.roles[who])}
        save_file(tensors, Path(folder) / "adapter_model.safetensors")
        config = dict(peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path=self.name, r=self.rank, bias="none",
                      lora_alpha=self.lora_alpha, lora_dropout=0.0, inference_mode=True, target_modules=self.targets)
        (Path(folder) / "adapter_config.json").write_text(json.dumps(config, indent=2))

    @torch.no_grad()
    def load(self, folder, who="student"):
        """Reads what save() wrote, in place, so that an optimiser keeps its tensors. ValueError when it does not fit."""
        path = Path(folder) / ("adapter_model.safetensors" if self.rank else "model.safetensors")
        saved = {name.removeprefix("base_model.model."): t for name, t in load_file(path).items()} if path.is_file() else {}
        if {name: t.shape for name, t in saved.items()} != {name: p.shape for name, p in zip(self.names, self.student)}:
            raise ValueError(f"{path} is missing or does not fit: use the --model and --lora-rank of the run that wrote it")
        for name, tensor in zip(self.names, self.roles[who]):
            tensor.copy_(saved[name])


def pad_batch(prompts, completions):
    """Right-padded ids, attention mask, positions, and which positions predict a completion token, [B, T] each.

    Position P-1+t predicts completion token t, so the last token is never fed. prompts [[7, 8], [9]], completions [[1, 2], [3]]:
        ids [[7, 8, 1], [9, 0, 0]]  mask [[1, 1, 1], [1, 0, 0]]  positions [[0, 1, 2]] * 2  predicts [[F, T, T], [T, F, F]]
    and hidden[predicts] predicts 1, 2, 3. All from lengths: `ids != pad` would lose the stop token where pad == eos."""
    rows = [p + c[:-1] for p, c in zip(prompts, completions)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    length, start, count = (torch.tensor([len(x) for x in xs])[:, None] for xs in (rows, prompts, completions))  # [B, 1]
    positions = torch.arange(width).expand_as(ids)
    predicts = (positions >= start - 1) & (positions < start - 1 + count)
    return ids, (positions < length).long(), positions, predicts


# ---------------------------------------------------------------------------------------------------------------------
# 3. Sampling
# ---------------------------------------------------------------------------------------------------------------------
@torch.no_grad()  # not inference_mode, whose tensors autograd refuses later
def sample(policy, prompts, max_new_tokens, temperature=1.0, top_p=1.0, top_k=0, generator=None, batch_size=64):
    """Completions of `prompts` (lists of ids) by the active role: [(completion_ids, finished)], in the order of the prompts.

    A finished completion ends with its stop id; the others were cut by max_new_tokens or by the model's positions. temperature 0
    is greedy. Each row has its own random numbers (CPU generator), so that its luck does not depend on the rows beside it.
    Raises ValueError for an empty prompt or one that leaves no room."""
    lengths = [len(p) for p in prompts]
    if not all(0 < n < policy.max_positions for n in lengths):
        raise ValueError(f"a prompt has {max(lengths)} tokens (shortest: {min(lengths)}); allowed: 1 to {policy.max_positions - 1}")
    uniforms = torch.rand(len(prompts), max_new_tokens, generator=generator, dtype=torch.float64)  # [N, T]
    order = sorted(range(len(prompts)), key=lengths.__getitem__)  # similar lengths share a batch: little padding
    outputs = [None] * len(prompts)
    for i in range(0, len(order), batch_size):
        rows = order[i:i + batch_size]
        completions = _decode(policy, [prompts[r] for r in rows], uniforms[rows].to(policy.device), temperature, top_p, top_k)
        for row, completion in zip(rows, completions):
            outputs[row] = completion, completion[-1:] != [] and completion[-1] in policy.stop_ids
    return outputs


def _decode(policy, prompts, uniforms, temperature, top_p, top_k):
    """One batch, padded on the left so that the next token of every row stands in one column. uniforms [B, T]."""
    width, device = max(map(len, prompts)), policy.device
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)  # [B, T]
    positions = torch.arange(width, device=device) - torch.tensor([[width - len(p)] for p in prompts], device=device)  # [B, T]
    mask, positions = (positions >= 0).long(), positions.clamp(min=0)  # padding has negative positions
    completions, live, cache = [[] for _ in prompts], list(range(len(prompts))), None  # live: cache row -> prompt
    for t in range(uniforms.shape[1]):
        out = policy.model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                                      use_cache=True)
        cache, logits = out.past_key_values, F.linear(out.last_hidden_state[:, -1], policy.head).float()  # [B, V]
        tokens = pick(logits, uniforms[live, t], temperature, top_p, top_k)  # [B]
        for row, token in zip(live, tokens.tolist()):
            completions[row].append(token)
        keep = [j for j, row in enumerate(live) if completions[row][-1] not in policy.stop_ids
                and len(prompts[row]) + t + 1 < policy.max_positions]
        if not keep:
            break
        if len(keep) < len(live):  # drop finished rows, in the cache too
            index = torch.tensor(keep, device=device)
            cache.reorder_cache(index)  # index_select along the batch; every kind of cache layer has it
            tokens, mask, positions, live = tokens[index], mask[index], positions[index], [live[j] for j in keep]
        ids, mask, positions = tokens[:, None], F.pad(mask, (0, 1), value=1), positions[:, -1:] + 1  # [B, 1], [B, T+1], [B, 1]
    return completions


def pick(logits, uniforms, temperature, top_p, top_k):
    """One token per row, by inverting the cumulative distribution: logits [B, V] fp32, uniforms [B] in [0, 1) -> [B]."""
    if temperature == 0:
        return logits.argmax(-1)
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -math.inf)
    probs = (logits.double() / temperature).softmax(-1)  # double: summing 150k floats is off by more than rare tokens weigh
    if top_p < 1:
        ordered, index = probs.sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p  # keeps the fewest tokens that reach top_p, one at least
        probs = probs.scatter(-1, index, ordered.masked_fill(outside, 0))
    cdf = probs.cumsum(-1)  # [B, V], ends below 1 after top_p
    return torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True).squeeze(-1)  # first cdf > u: never p = 0


# ---------------------------------------------------------------------------------------------------------------------
# 4. Backward passes: add gradients to policy.student, return metrics
# ---------------------------------------------------------------------------------------------------------------------
def micro_batches(lengths, sampled, micro_tokens):
    """Row numbers in groups of similar length, rows x longest <= micro_tokens (a longer row stands alone); and the number of
    sampled tokens in all of them, the one normaliser of every loss. Rows without a sampled token are left out."""
    batches = []
    for i in sorted((i for i in range(len(lengths)) if any(sampled[i])), key=lengths.__getitem__):  # the newest is the longest
        if not batches or (len(batches[-1]) + 1) * lengths[i] > micro_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches, sum(map(sum, sampled))


def passes(policy, prompts, completions, sampled, batches):
    """Per micro-batch, for its sampled tokens alone: hidden states [N, D], token ids [N], number of the row they are in [N]."""
    for rows in batches:
        kept = torch.tensor([s for i in rows for s in sampled[i]], dtype=torch.bool, device=policy.device)  # [sum_T]
        ids = torch.tensor([(t, i) for i in rows for t in completions[i]], device=policy.device)  # [sum_T, 2]
        hidden = policy.hidden([prompts[i] for i in rows], [completions[i] for i in rows])  # [sum_T, D]
        yield hidden[kept], ids[kept, 0], ids[kept, 1]


def token_nll(policy, hidden, ids):
    """-log student(token), the top-K loss with K = 1 and p = 1, and the entropy: hidden [N, D], ids [N] -> [N], [N]."""
    one = torch.zeros(len(ids), 1, device=ids.device)  # log 1
    loss, stats = linear_topk_cross_entropy(hidden, policy.head, ids[:, None], one, with_stats=True)
    return loss, stats[:, 0]


def fd_backward(policy, prompts, teacher_prompts, completions, sampled, top_k=25, tail="drop", micro_tokens=4096):
    """The paper's gradient: at each token that the student sampled, towards what the teacher, who has read the feedback, expects.

    prompts, teacher_prompts, completions: B lists of ids; sampled: B lists of bools, False for tool output: both models see it, no
    loss. Loss per sampled token of the WHOLE batch, so the split into micro-batches cannot matter. ValueError as in hidden()."""
    lengths = [max(len(p), len(q)) + len(c) for p, q, c in zip(prompts, teacher_prompts, completions, strict=True)]
    batches, count = micro_batches(lengths, sampled, micro_tokens)
    with torch.no_grad(), policy.act_as("teacher"):  # all teacher passes first: roles never change between forward and backward
        targets = [teacher_topk(hidden, policy.head, top_k)  # the same ids after another prompt: never re-tokenised
                   for hidden, _, _ in passes(policy, teacher_prompts, completions, sampled, batches)]
    sums = torch.zeros(6, device=policy.device)
    with policy.act_as("student"):
        for (hidden, _, _), (ids, logps) in zip(passes(policy, prompts, completions, sampled, batches), targets):
            loss, stats = linear_topk_cross_entropy(hidden, policy.head, ids, logps, tail, with_stats=True)  # [N], [N, 4]
            (loss.sum() / count).backward()
            sums += torch.stack([loss.detach().sum(), logps.exp().sum(), *stats.sum(0)])
    names = ("loss", "teacher_mass", "entropy", "kl", "student_mass", "overlap")
    return dict(zip(names, (sums / max(count, 1)).tolist()), tokens=count)


def grpo_backward(policy, prompts, completions, sampled, advantages, kl_coef=0.001, micro_tokens=4096):
    """Policy gradient with one advantage per completion ([B], see group_advantages) and a KL penalty to the "reference" role.

    On-policy, one inner step: the ratio exp(logp - sg(logp)) is 1 and its gradient REINFORCE's; clipping would never act.
    k3 = exp(d) - d - 1, d = logp_ref - logp: an unbiased VALUE of KL(student || ref), but its direct gradient is, in expectation,
    that of the forward KL(ref || student), q - p_ref (also verl's and TRL's choice). Token mean over the whole batch."""
    batches, count = micro_batches([len(p) + len(c) for p, c in zip(prompts, completions, strict=True)], sampled, micro_tokens)
    advantages = torch.as_tensor(advantages, dtype=torch.float32, device=policy.device)  # [B]
    with torch.no_grad(), policy.act_as("reference"):
        reference = [-token_nll(policy, hidden, ids)[0] for hidden, ids, _ in passes(policy, prompts, completions, sampled, batches)]
    sums = torch.zeros(3, device=policy.device)
    with policy.act_as("student"):
        for (hidden, ids, owner), ref in zip(passes(policy, prompts, completions, sampled, batches), reference):
            nll, entropy = token_nll(policy, hidden, ids)  # [N]
            ratio = (nll.detach() - nll).exp()  # [N], ones
            d = (ref + nll).clamp(-20, 20)
            k3 = d.exp() - d - 1
            loss = (kl_coef * k3 - advantages[owner] * ratio).sum()
            (loss / count).backward()
            sums += torch.stack([loss.detach(), k3.detach().sum(), entropy.sum()])
    return dict(zip(("loss", "kl_ref", "entropy"), (sums / max(count, 1)).tolist()), tokens=count)


def sft_backward(policy, prompts, completions, micro_tokens=4096):
    """Cross-entropy of given completions (they should end with a stop id), per token of the whole batch."""
    sampled = [[True] * len(c) for c in completions]
    batches, count = micro_batches([len(p) + len(c) for p, c in zip(prompts, completions, strict=True)], sampled, micro_tokens)
    sums = torch.zeros(2, device=policy.device)
    with policy.act_as("student"):
        for hidden, ids, _ in passes(policy, prompts, completions, sampled, batches):
            nll, entropy = token_nll(policy, hidden, ids)
            (nll.sum() / count).backward()
            sums += torch.stack([nll.detach().sum(), entropy.sum()])
    return dict(zip(("loss", "entropy"), (sums / max(count, 1)).tolist()), tokens=count)
