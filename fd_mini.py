"""Feedback Distillation: a policy that samples proofs, and a teacher that is the same policy with feedback in its prompt.
    for each theorem x:  y ~ student(. | x)             sample()          one attempt, token ids, never re-tokenised
                         F = feedback(y)                feedback.py       what a reader of the attempt tells its author
                         p = teacher(. | x, F, y_<t)    teacher_topk()    the student's average, with one more text to read
                         loss = -sum_t sum_{a in topK(p)} p(a) log student(a | x, y_<t)        topk_cross_entropy()
    every 5 steps:       teacher <- alpha teacher + (1 - alpha) student                        ema_update_()
Shapes: N tokens of a batch in a row, V vocabulary, D width, K kept entries, c chunk, B rows, T length, G group."""
import contextlib
import json
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.modeling_layers import GradientCheckpointingLayer

TINY = {name: str(Path(__file__).resolve().parent / "toy" / name.replace("-", "_")) for name in ("tiny", "tiny-tools")}
# ---- 1. Losses: pure functions ------------------------------------------------------------------------------------
def log_tail(logps):
    """log(1 - sum_k exp(logps_k)), the log-probability of all other tokens: logps [N, K] -> [N]. By expm1: 1 - P cancels.
    Rounding can bring P to 1, so it is held at 1e-7 or more, by a shift that autograd takes for a constant."""
    lse = logps.logsumexp(-1)  # [N]
    return (-torch.expm1(lse - (lse + 1e-7).clamp(min=0).detach())).log()

def topk_cross_entropy(student_logits, teacher_ids, teacher_logps, tail="drop"):
    """Cross-entropy of the student under the teacher's top K: forward KL(teacher || student) and a constant.
    student_logits [N, V], teacher_ids [N, K] int64, teacher_logps [N, K] of the full vocabulary -> loss [N], nats, fp32.
    "drop": the paper's -sum_k p_k log q_k, not renormalised, not clamped. Its gradient for the logits is P q - p 1_T with
    P the teacher's mass on its top K, T: not zero at q == p, it sharpens where P < 1. "bucket" (ours) has one bucket more
    for all other tokens, -(1-P) log(1-Q): no gradient at q == p. "reverse" (ours): KL(student || teacher) over the same
    K + 1 buckets: write only what the teacher may, not all that it may. ValueError for any other tail."""
    if tail not in ("drop", "bucket", "reverse"):
        raise ValueError(f"tail must be drop (the paper's), bucket or reverse, not {tail!r}")
    logq = student_logits.float().log_softmax(-1).gather(-1, teacher_ids)  # [N, K]; upcast first: bf16 has 2 to 3 digits
    if tail == "reverse":
        q_tail, p_tail = log_tail(logq), log_tail(teacher_logps)  # [N]
        return (logq.exp() * (logq - teacher_logps)).sum(-1) + q_tail.exp() * (q_tail - p_tail)
    loss = -(teacher_logps.exp() * logq).sum(-1)  # [N]
    return loss if tail == "drop" else loss - log_tail(teacher_logps).exp() * log_tail(logq)

def topk_stats(logits, teacher_ids, teacher_logps):
    """logits [N, V] -> [N, 4], per token: the student's entropy (over V, nats), kl (over K + 1 buckets: >= 0, at most the
    full KL), student_mass (Q, on the teacher's top K), overlap (share of those K that are in the student's top K)."""
    logq_all = logits.log_softmax(-1)  # [N, V]
    logq = logq_all.gather(-1, teacher_ids)  # [N, K]
    p_tail, q_tail = log_tail(teacher_logps), log_tail(logq)  # [N]
    kl = (teacher_logps.exp() * (teacher_logps - logq)).sum(-1) + p_tail.exp() * (p_tail - q_tail)
    overlap = logq >= logq_all.topk(teacher_ids.shape[-1]).values[:, -1:]  # [N, K]
    return torch.stack([-(logq_all.exp() * logq_all).sum(-1), kl, logq.exp().sum(-1), overlap.float().mean(-1)], -1)

def linear_topk_cross_entropy(hidden, weight, teacher_ids, teacher_logps, tail="drop", chunk=256, with_stats=False):
    """topk_cross_entropy(hidden @ weight.T, ...) without holding [N, V]: hidden [N, D], weight [V, D] -> loss [N], and
    topk_stats if asked. Rows are independent and the head is frozen: each chunk's gradient for `hidden` is taken at once,
    nothing is computed twice; about 20 c V bytes at the peak. A head in training (rank 0) is left to autograd, in full."""
    at_once = torch.is_grad_enabled() and hidden.requires_grad and not weight.requires_grad
    losses, grads, stats = [], [], []
    for h, ids, logps in zip(*(x.split(chunk) for x in (hidden, teacher_ids, teacher_logps))):
        h = h.detach().requires_grad_() if at_once else h  # [c, D]
        logits = F.linear(h, weight).float()  # [c, V]
        loss = topk_cross_entropy(logits, ids, logps, tail)  # [c]
        grads += torch.autograd.grad(loss.sum(), h) if at_once else []
        losses.append(loss.detach() if at_once else loss)
        stats += [topk_stats(logits.detach(), ids, logps)] if with_stats else []
    # an exact zero, whose gradient for hidden is the one already computed
    loss = torch.cat(losses) + (((hidden - hidden.detach()) * torch.cat(grads)).sum(-1) if at_once else 0)
    return (loss, torch.cat(stats)) if with_stats else loss

@torch.no_grad()
def teacher_topk(hidden, weight, k, chunk=256):
    """The teacher's K likeliest tokens: hidden [N, D], weight [V, D] -> ids [N, min(K, V)] int64, logps fp32, of the full
    vocabulary: exp(logps).sum(-1) is the teacher's mass on its top K."""
    tops = [F.linear(h, weight).float().log_softmax(-1).topk(min(k, len(weight))) for h in hidden.split(chunk)]  # [c, V]
    return torch.cat([top.indices for top in tops]), torch.cat([top.values for top in tops])

@torch.no_grad()
def chunked_entropy(hidden, weight, chunk=256):
    """Entropy of the next-token distribution over all of V, fp32, nats: hidden [N, D], weight [V, D] -> [N]."""
    logq = (F.linear(h, weight).float().log_softmax(-1) for h in hidden.split(chunk))  # [c, V] each
    return torch.cat([-(z.exp() * z).sum(-1) for z in logq])

@torch.no_grad()
def ema_update_(teacher_params, student_params, alpha):
    """mu <- alpha mu + (1 - alpha) theta, in place. alpha is RETENTION (paper: 0.9): 1 freezes mu, 0 copies theta.
    ValueError unless mu is fp32: in bf16 a step below half an ulp is lost, and the teacher would stand still."""
    for mu, theta in zip(teacher_params, student_params, strict=True):
        if mu.dtype != torch.float32:
            raise ValueError(f"the EMA teacher must be float32, not {mu.dtype}, or small updates are lost")
        mu.mul_(alpha).add_(theta, alpha=1 - alpha)

def group_advantages(rewards, normalize_std=True):
    """GRPO: reward minus its group's mean. rewards [B, G] -> [B, G]; a group of one or of equal rewards gives zeros.
    normalize_std: divided by (std + 1e-4), std with n - 1; without it, Dr. GRPO."""
    advantages = rewards - rewards.mean(1, keepdim=True)
    return advantages / (rewards.std(1, keepdim=True).nan_to_num() + 1e-4) if normalize_std else advantages

# ---- 2. Policy: one base, several roles ---------------------------------------------------------------------------
class LoRALinear(nn.Module):
    """base(x) + scale B A x, scale = lora_alpha / rank; A [r, in] and B [out, r] are fp32, computed in x's precision."""
    def __init__(self, base, rank, scale):
        super().__init__()
        self.base, self.scale = base.train(), scale
        self.lora_A = nn.Linear(base.in_features, rank, bias=False).to(base.weight.device)  # kaiming-uniform, as in PEFT
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, device=base.weight.device)
        nn.init.zeros_(self.lora_B.weight)  # B = 0: training starts exactly at the base
    def forward(self, x):
        low = self.scale * F.linear(x, self.lora_A.weight.to(x.dtype))  # [..., r]
        return self.base(x) + F.linear(low, self.lora_B.weight.to(x.dtype))  # [..., out]
    def train(self, mode=True):
        return self  # never eval: there bitsandbytes' CPU kernel repacks a 4-bit weight and loses its gradient

class Policy:
    """One model, four roles: student (trained), teacher (its EMA), base (as loaded), reference (a frozen student, for GRPO's
    KL; the base until freeze_reference). rank > 0: the base is frozen, every linear layer but the head gets LoRA, a role is
    a set of adapters; rank 0: all weights train, a role is a full copy. NF4 above about 4B parameters on CUDA or when asked
    for, else bf16 on CUDA, fp32 on a CPU. ValueError, in one line, for what cannot work."""
    def __init__(self, model="tiny", rank=32, lora_alpha=32, quantize="auto", seed=0, device="auto"):
        if quantize not in ("auto", "nf4", "none") or rank < (quantize == "nf4"):
            raise ValueError(f"quantize={quantize}, rank={rank}: quantize must be auto, nf4 or none, and nf4 needs a rank")
        self.rank, self.lora_alpha = rank, lora_alpha
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.name, self.style, folder = TINY.get(model), "plain", TINY.get(model)  # style: of prompts, see build_prompt
        if model not in TINY:
            from extras import provers  # names of real provers, the hub, its cache, sizes that cannot work
            self.name, self.style, folder = provers.find(model, self.device.type == "cuda")
        dtype = torch.bfloat16 if self.device.type == "cuda" and rank > 0 else torch.float32  # trained weights: fp32
        try:
            config = AutoConfig.from_pretrained(folder).get_text_config()
            large = 12 * config.num_hidden_layers * config.hidden_size**2 > 4e9  # parameters of the layers, roughly
            self.four_bit = quantize == "nf4" or (quantize == "auto" and large and dtype == torch.bfloat16)
            nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
            options = dict(dtype=dtype, device_map=self.device, quantization_config=nf4 if self.four_bit else None)
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForCausalLM.from_pretrained(folder, **options)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"cannot load {model!r} ({self.name}): {str(error).splitlines()[0]}") from error
        self.model.requires_grad_(rank == 0).eval()  # eval: no dropout in any role
        self.head = self.model.get_output_embeddings().weight  # [V, D]; V may exceed the tokenizer
        self.targets = [n for n, m in self.model.named_modules() if isinstance(m, nn.Linear) and m.weight is not self.head]
        with torch.random.fork_rng([]):  # seeded on the CPU: the same adapters on any device
            torch.manual_seed(seed)
            for name in self.targets if rank else []:
                self.model.set_submodule(name, LoRALinear(self.model.get_submodule(name), rank, lora_alpha / rank))
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self.names, self.student = map(list, zip(*trained))  # in one fixed order, for every role
        self.teacher = [p.detach().clone() for p in self.student]  # a copy: A and B climbing from zero would lag
        base = [p.new_zeros(()).expand_as(p) if rank else p.detach().clone() for p in self.student]  # B = 0, no memory
        self.roles = dict(student=[p.data for p in self.student], teacher=self.teacher, base=base, reference=base)
        eos = self.model.generation_config.eos_token_id  # None, an id, or a list: Qwen has two, each ends a completion
        self.stop_ids = {*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id} - {None}
        self.max_positions, self.active = config.max_position_embeddings, "student"
        self.rollout_batch = 64  # rows decoded together; on CUDA train.py plans it
        self.graphs = self.checkpointing = self.device.type == "cuda"  # backward recomputes; re-entrant: no gradient
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.blocks = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
    @contextlib.contextmanager
    def act_as(self, who):
        """`with policy.act_as(who):` the model is that role. Forward and backward belong into one such block: a checkpoint
        recomputes with the role that is active during backward, and nothing would notice."""
        tensors, before, self.active = self.roles[who], self.active, who
        try:
            for p, tensor in zip(self.student, tensors):
                p.data = tensor  # a pointer, not a copy; names, gradients and the optimiser stay with p
            yield
        finally:
            self.active = before
            for p, tensor in zip(self.student, self.roles[before]):
                p.data = tensor
    def hidden(self, prompts, completions):
        """Final hidden states that predict each completion token, rows in order: [sum_T, D]. ValueError for a long row."""
        longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        if longest > self.max_positions:
            raise ValueError(f"{longest} tokens > {self.max_positions} positions: lower --max-new-tokens or cut the feedback")
        ids, mask, positions, predicts = (x.to(self.device) for x in pad_batch(prompts, completions))  # [B, T] each
        for block in self.blocks:  # the block's own flag: .train() would turn dropout on inside it
            block.training = self.checkpointing and torch.is_grad_enabled()
        out = self.model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        for block in self.blocks:  # a block that checkpoints keeps no KV cache: sampling would become quadratic
            block.training = False
        return out.last_hidden_state[predicts]  # [B, T, D] -> [sum_T, D]
    def update_teacher(self, alpha):
        """One EMA update. Count optimiser steps, not micro-batches; skip it when the gradients were not finite."""
        ema_update_(self.teacher, self.roles["student"], alpha)
    def freeze_reference(self):
        """Makes today's student the "reference": GRPO over FD stays close to the FD checkpoint, not to the base."""
        self.roles["reference"] = [tensor.clone() for tensor in self.roles["student"]]
    def save(self, folder, who="student"):
        """Writes a role: an adapter in PEFT's file format or, at rank 0, a whole model with its tokenizer."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self.rank == 0:
            with self.act_as(who):
                return self.model.save_pretrained(folder), self.tokenizer.save_pretrained(folder)
        tensors = {f"base_model.model.{name}": t.contiguous() for name, t in zip(self.names, self.roles[who])}
        save_file(tensors, Path(folder) / "adapter_model.safetensors")
        config = dict(peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path=self.name, r=self.rank,
                      lora_alpha=self.lora_alpha, lora_dropout=0.0, target_modules=self.targets)
        (Path(folder) / "adapter_config.json").write_text(json.dumps(config, indent=2))
    @torch.no_grad()
    def load(self, folder, who="student"):
        """Reads what save() wrote, in place: an optimiser keeps its tensors. ValueError when it does not fit."""
        path = Path(folder) / ("adapter_model.safetensors" if self.rank else "model.safetensors")
        saved = {n.removeprefix("base_model.model."): t for n, t in (load_file(path) if path.is_file() else {}).items()}
        if {n: t.shape for n, t in saved.items()} != {n: p.shape for n, p in zip(self.names, self.student)}:
            raise ValueError(f"{path} is missing or does not fit: use the --model and --lora-rank it was written with")
        for name, tensor in zip(self.names, self.roles[who]):
            tensor.copy_(saved[name])

def pad_batch(prompts, completions):
    """Right-padded ids, attention mask, positions, and which positions predict a completion token: [B, T] each.
    Position P-1+t predicts completion token t; the last is never fed. prompts [[7, 8], [9]], completions [[1, 2], [3]]:
      ids [[7, 8, 1], [9, 0, 0]]  mask [[1, 1, 1], [1, 0, 0]]  positions [[0, 1, 2]] * 2  predicts [[F, T, T], [T, F, F]]
    so hidden[predicts] predicts 1, 2, 3. All from lengths: `ids != pad` would lose the stop token where pad == eos."""
    rows = [p + c[:-1] for p, c in zip(prompts, completions)]
    ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    length, start, count = (torch.tensor([len(x) for x in xs])[:, None] for xs in (rows, prompts, completions))  # [B, 1]
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return ids, (positions < length).long(), positions, (positions >= start - 1) & (positions < start - 1 + count)

# ---- 3. Sampling --------------------------------------------------------------------------------------------------
@torch.no_grad()  # not inference_mode, whose tensors autograd refuses later
def sample(policy, prompts, max_new_tokens, temperature=1.0, generator=None, batch_size=None, stop=None):
    """Completions of B lists of ids by the active role: [(completion_ids, finished)], in order. A finished one ends with its
    stop id, others were cut by max_new_tokens or the model's positions. temperature 0 is greedy. A row's random numbers (CPU
    generator) do not depend on the rows beside it. stop(ids) -> bool ends a row too, at a tool call. ValueError for a prompt
    that is empty or too long."""
    if not all(0 < len(p) < policy.max_positions for p in prompts):
        raise ValueError(f"prompts must have 1 to {policy.max_positions - 1} tokens, not {sorted(set(map(len, prompts)))}")
    uniforms = torch.rand(len(prompts), max_new_tokens, generator=generator, dtype=torch.float64)  # [B, T]
    completions = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # similar lengths: little padding
    for i in range(0, len(order), size := batch_size or policy.rollout_batch):
        decode(policy, prompts, completions, order[i:i + size], uniforms, temperature, stop)
    return [(c, not policy.stop_ids.isdisjoint(c[-1:])) for c in completions]

def decode(policy, prompts, completions, live, uniforms, temperature, stop=None):
    """Fills completions[row] for the rows `live`: one batch, padded on the left so that next tokens share a column."""
    device, body, cache, left = policy.device, policy.model.base_model, None, dict(batch_first=True, padding_side="left")
    if policy.graphs:
        from extras.cuda import Graphs  # static cache; one launch for a step's some thousand kernels
        body = Graphs(body, max(len(prompts[row]) for row in live) + uniforms.shape[1])
    ids = nn.utils.rnn.pad_sequence([torch.tensor(prompts[row]) for row in live], **left).to(device)  # [B, T]
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(prompts[row])).long() for row in live], **left).to(device)  # [B, T]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)  # [B, T], 0 at each row's first token
    for t in range(uniforms.shape[1]):
        out = body(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, F.linear(out.last_hidden_state[:, -1], policy.head).float()  # [B, V]
        tokens = pick(logits, uniforms[live, t].to(device), temperature)  # [B]
        for row, token in zip(live, tokens.tolist()):
            completions[row].append(token)
        keep = [j for j, row in enumerate(live) if completions[row][-1] not in policy.stop_ids
                and len(prompts[row]) + t + 1 < policy.max_positions and not (stop and stop(completions[row]))]
        if not keep:
            break
        if len(keep) < len(live):  # drop finished rows, in the cache too (an index_select along the batch)
            index, live = torch.tensor(keep, device=device), [live[j] for j in keep]
            cache.reorder_cache(index)
            tokens, mask, positions = tokens[index], mask[index], positions[index]
        ids, mask, positions = tokens[:, None], F.pad(mask, (0, 1), value=1), positions[:, -1:] + 1  # mask [B, T+t+1]

def pick(logits, uniforms, temperature=1.0):
    """One token per row by inverting the cumulative distribution: logits [B, V] fp32, uniforms [B] in [0, 1) -> [B]."""
    if temperature == 0:
        return logits.argmax(-1)
    probs = (logits.double() / temperature).softmax(-1)  # double: float sums over V swallow rare tokens
    cdf = probs.cumsum(-1)  # [B, V]; nothing is cut off: what is sampled is the policy
    return torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True).squeeze(-1)  # first cdf > u: never p = 0

# ---- 4. Backward passes: add gradients to policy.student, return metrics ------------------------------------------
def micro_batches(prompts, completions, sampled, micro_tokens):
    """Row numbers grouped by length, rows x longest <= micro_tokens (a longer row alone); rows never sampled left out."""
    lengths, batches = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)], []
    for i in sorted((i for i, s in enumerate(sampled) if any(s)), key=lengths.__getitem__):  # the newest is the longest
        if not batches or (len(batches[-1]) + 1) * lengths[i] > micro_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches

def states(policy, prompts, completions, sampled, rows):
    """For the sampled tokens of these rows: the hidden states [N, D] that predict them, and their ids [N]."""
    kept = torch.tensor([s for i in rows for s in sampled[i]], dtype=torch.bool, device=policy.device)  # [sum_T]
    ids = torch.tensor([token for i in rows for token in completions[i]], device=policy.device)  # [sum_T]
    return policy.hidden([prompts[i] for i in rows], [completions[i] for i in rows])[kept], ids[kept]

def total_(x):
    """Sum of x over the processes of a torchrun, in place; x as it is in a single process."""
    if dist.is_initialized():
        dist.all_reduce(x)
    return x

def accumulate(policy, prompts, completions, sampled, batches, names, loss_fn):
    """The student's passes. loss_fn(micro-batch number, hidden, ids) -> sums over tokens, the first of them the loss; all are
    divided by the WHOLE batch's count of sampled tokens (of all processes), so that no split changes the gradient."""
    sums = torch.zeros(len(names), device=policy.device)
    count = total_(torch.tensor(sum(map(sum, sampled)), device=policy.device)).item()
    with policy.act_as("student"):
        for i, rows in enumerate(batches):
            micro = torch.stack(loss_fn(i, *states(policy, prompts, completions, sampled, rows)))
            (micro[0] / count).backward()
            sums += micro.detach()
    for p in policy.student if dist.is_initialized() else []:
        p.grad = total_(torch.zeros_like(p) if p.grad is None else p.grad)
    return dict(zip(names, (total_(sums) / max(count, 1)).tolist()), tokens=count)

def token_nll(policy, hidden, ids):
    """-log student(token) [N] and topk_stats [N, 4]: the loss for a teacher with K = 1 who is certain of the token."""
    certain = torch.zeros(len(ids), 1, device=ids.device)  # log 1
    return linear_topk_cross_entropy(hidden, policy.head, ids[:, None], certain, with_stats=True)

def fd_backward(policy, prompts, teacher_prompts, completions, sampled, top_k=25, tail="drop", micro_tokens=4096):
    """The paper's gradient: at each token the student sampled, towards what the teacher, who read the feedback, expects.
    prompts, teacher_prompts, completions: B lists of ids. sampled: B lists of bools, False for tool output, which both
    models see and no loss touches. Returns means over sampled tokens, see topk_stats. ValueError for a long row."""
    longer = [max(pair, key=len) for pair in zip(prompts, teacher_prompts, strict=True)]
    batches = micro_batches(longer, completions, sampled, micro_tokens)
    with torch.no_grad(), policy.act_as("teacher"):  # all of them first: no role changes between forward and backward
        targets = [teacher_topk(states(policy, teacher_prompts, completions, sampled, rows)[0], policy.head, top_k)
                   for rows in batches]  # (ids, logps), [N, K] each
    def loss_fn(i, hidden, _):
        loss, stats = linear_topk_cross_entropy(hidden, policy.head, *targets[i], tail, with_stats=True)  # [N], [N, 4]
        return loss.sum(), targets[i][1].exp().sum(), *stats.sum(0)
    names = ("loss", "teacher_mass", "entropy", "kl", "student_mass", "overlap")
    return accumulate(policy, prompts, completions, sampled, batches, names, loss_fn)

def sft_backward(policy, prompts, completions, micro_tokens=4096, sampled=None):
    """Cross-entropy of given completions (that end with a stop id), per token of the whole batch; sampled as in fd_backward."""
    sampled = sampled or [[True] * len(c) for c in completions]
    def loss_fn(_, hidden, ids):
        nll, stats = token_nll(policy, hidden, ids)
        return nll.sum(), stats[:, 0].sum()
    batches = micro_batches(prompts, completions, sampled, micro_tokens)
    return accumulate(policy, prompts, completions, sampled, batches, ("loss", "entropy"), loss_fn)

def grpo_backward(policy, prompts, completions, sampled, advantages, kl_coef=0.001, micro_tokens=4096):
    """Policy gradient with one advantage per completion ([B], see group_advantages), and a KL penalty to "reference". One
    inner step on the policy's own samples: ratio exp(logp - sg(logp)) is 1, its gradient REINFORCE's, clipping never acts.
    k3 = exp(d) - d - 1, d = log ref - log student: an unbiased VALUE of KL(student || ref), but its direct gradient is, in
    expectation, that of the forward KL(ref || student), q - p_ref; verl and TRL do the same."""
    batches = micro_batches(prompts, completions, sampled, micro_tokens)
    with torch.no_grad(), policy.act_as("reference"):
        reference = [-token_nll(policy, *states(policy, prompts, completions, sampled, rows))[0] for rows in batches]
    def loss_fn(i, hidden, ids):
        nll, stats = token_nll(policy, hidden, ids)  # [N], [N, 4]
        advantage = nll.new_tensor([float(advantages[row]) for row in batches[i] for s in sampled[row] if s])  # [N]
        d = (reference[i] + nll).clamp(-20, 20)
        k3, ratio = d.exp() - d - 1, (nll.detach() - nll).exp()
        return (kl_coef * k3 - advantage * ratio).sum(), k3.sum(), stats[:, 0].sum()
    return accumulate(policy, prompts, completions, sampled, batches, ("loss", "kl_ref", "entropy"), loss_fn)
