# %% [markdown]
# # A tour of Feedback Distillation in one theorem
#
# A theorem, an attempt, Lean's verdict, the tutor's words, and what they do to one token. Every
# number is computed by the five scripts. As a script: `python -m docs.tour`, under a minute.

# %% [markdown]
# ## 1. A theorem, an attempt, a verdict
# The tiny prover knows the mathematics and writes Lean 3. It is asked once; real Lean answers.

# %%
import tempfile

import torch
import torch.nn.functional as F
from matplotlib import pyplot

import eval as evaluation
import fd_mini
import train
from data import load_theorems
from extras import runs
from feedback import build_prompt, make_feedback
from lean_env import LeanEnv

torch.manual_seed(0)
policy = fd_mini.Policy("tiny")
env = LeanEnv(lean="wheel")
theorem = load_theorems("toy", "valid")[1]
(attempt,) = evaluation.roll_out(policy, env, [theorem], 80, torch.Generator().manual_seed(1))
print(theorem.statement, ":= by")
print(attempt.text)
print("Lean:", attempt.verdict.status)
print(attempt.verdict.messages)

# %% [markdown]
# ## 2. The tutor's words, and both prompts
# The tutor has read the attempt and Lean's answer. Its orders stand in the teacher's prompt; the
# student never sees them. Both prompts end in the same text.

# %%
(feedback,) = make_feedback("tutor").write([attempt])
student_prompt = build_prompt(policy.tokenizer, theorem)
teacher_prompt = build_prompt(policy.tokenizer, theorem, feedback)
print("--- the student reads")
print(policy.tokenizer.decode(student_prompt))
print("--- the teacher reads")
print(policy.tokenizer.decode(teacher_prompt))

# %% [markdown]
# ## 3. Two distributions at one token
# Student and teacher are asked about each token that the student wrote. Shown is the one at which
# they differ most.


# %%
def states(role, prompt):
    """What a role's last layer makes of the attempt's T tokens: [T, D]."""
    with torch.no_grad(), policy.act_as(role):
        row = [prompt], [attempt.completion_ids], [attempt.sampled]
        hidden, _ = policy.hidden(*row)
        return hidden


def expected(role, prompt, t):
    """The role's distribution at token t: [V]."""
    return F.linear(states(role, prompt)[t], policy.head).softmax(-1)


ids, logps = fd_mini.teacher_topk(states("teacher", teacher_prompt), policy.head, 25)  # [T, 25]
logits = F.linear(states("student", student_prompt), policy.head)  # [T, V]
kl = fd_mini.topk_stats(logits, ids, logps)[:, 1]  # [T], the second of STATS
t = kl.argmax().item()
print("behind", repr(policy.tokenizer.decode(attempt.completion_ids[:t])))

p = expected("teacher", teacher_prompt, t)
q = expected("student", student_prompt, t)
best = p.topk(4).indices
COLOURS = {
    "teacher": "tab:blue",
    "teacher, later": "tab:cyan",
    "student": "tab:orange",
    "student, later": "tab:red",
    "gradient": "tab:grey",
}


def show(bars):
    """Probabilities of the teacher's four best tokens, {whose: [V]}, printed and drawn."""
    words = [repr(policy.tokenizer.decode([token])) for token in best]
    _, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    left = torch.arange(4)
    for name, probabilities in bars.items():
        heights = probabilities[best].tolist()
        axes.bar(left, heights, 0.2, label=name, color=COLOURS[name])
        left = left + 0.25
        print(name, "|", *[f"{word} {height:.4f}" for word, height in zip(words, heights)])
    axes.set_xticks(torch.arange(4), words)
    axes.legend()


show({"teacher": p, "student": q})

# %% [markdown]
# ## 4. The loss at that token, and its gradient
# The paper's loss on the teacher's top 25 is $-\sum_a p_a \log q_a$. Its gradient on the student's
# logits is $P q - p$ ($P$: the teacher's mass on these 25; $p$ is zero elsewhere). Autograd agrees.

# %%
here = logits[[t]].requires_grad_()  # [1, V], a copy
loss = fd_mini.topk_cross_entropy(here, ids[[t]], logps[[t]])
loss.sum().backward()

kept = torch.zeros_like(p).scatter(0, ids[t], logps[t].exp())  # [V], p on the top 25
formula = kept.sum() * q - kept
difference = (here.grad[0] - formula).abs().max()
print(f"loss {loss.item():.4f} nats, P {kept.sum():.4f}")
print(f"autograd and P q - p differ by less than 1e-5: {difference < 1e-5}")
show({"gradient": formula})

# %% [markdown]
# ## 5. One step, and the same token again
# The gradient of all the attempt's tokens, one step of AdamW, and the teacher's first EMA update.

# %%
optimizer = torch.optim.AdamW(policy.student, lr=1e-3, weight_decay=0.0)
metrics = fd_mini.fd_backward(
    policy,
    [student_prompt],
    [teacher_prompt],
    [attempt.completion_ids],
    [attempt.sampled],
)
optimizer.step()
fd_mini.ema_update_(policy.teacher, policy.student, alpha=0.9)
for name, value in metrics.items():
    print(f"{name} {value:.4f}")

after = expected("student", student_prompt, t)
later = expected("teacher", teacher_prompt, t)
show({"student": q, "student, later": after, "teacher, later": later})

# %% [markdown]
# ## 6. Twenty steps
# The loop of train.py, 32 theorems a step, and attempts at 128 validation theorems before and after.

# %%
with tempfile.TemporaryDirectory() as folder:
    flags = dict(steps=20, prompts_per_step=32, eval_every=0, lean="wheel")
    out = train.train(train.Config(out=f"{folder}/run", **flags))
    trained, _ = runs.load_run(out, "student", "none")
theorems = load_theorems("toy", "valid")[:128]
for name, prover in (("before", fd_mini.Policy("tiny")), ("after", trained)):
    result = evaluation.evaluate(prover, env, theorems, max_new_tokens=80)
    print(f"{name}: pass@1 {result['pass@1']:.3f}")
    print(f"        entropy {result['entropy']:.3f}")
