"""How far is a run from its base, and how likely does it write the reference proofs?

    python -m experiments.measure out/fd --out out/fd/measure

writes eval.json there. kl_base: KL(base ‖ student) a token in nats, estimated on an attempt of the
base at each theorem. p_reference: the mean probability of the reference proof, where all theorems
have one: what one draw hits, at least. right_but_for_names: the share of the student's attempts,
one at each theorem, that Lean accepts once outdated names are replaced by current ones
(toy/tutor.py): its mathematics, whatever its language. A model that no run has trained is its own
base.
"""

import json
from pathlib import Path

import torch
import tyro

import fd_mini
from data import load_theorems
from eval import roll_out, seeded
from extras import provers, runs
from extras.prompts import completion_of, prompt_for
from extras.stops import in_one_line
from lean_env import LeanEnv
from toy.tutor import NAME, OUTDATED

LONGEST = 80  # attempt, in tokens


def with_current_names(proof):
    return NAME.sub(lambda name: OUTDATED.get(name[0], name[0]), proof)


@torch.no_grad()
def log_probabilities(policy, role, prompts, completions):
    """Of whole completions, in nats: [B]"""
    sums = []
    with policy.act_as(role):
        for prompt, ids in zip(prompts, completions):
            nll, _ = fd_mini.sampled_nll(policy, [prompt], [ids], [[True] * len(ids)])
            sums.append(-nll.sum())
    return torch.stack(sums)


def main(
    run: tyro.conf.Positional[str] = "",
    model: str = "tiny",
    data: str = "toy",
    split: str = "test",
    seed: int = 0,
    out: Path = Path("out/measure"),
):
    policy = runs.load_run(run, "student", "auto")[0] if run else provers.load(model)
    theorems = load_theorems(data, split)
    prompts = [prompt_for(policy, theorem, None, LONGEST) for theorem in theorems]

    with policy.act_as("base"):
        samples = fd_mini.sample(policy, prompts, LONGEST, generator=seeded(seed))
    drawn = [ids for ids, _ in samples]
    base, student = (log_probabilities(policy, role, prompts, drawn) for role in ("base", "student"))
    result = {"kl_base": (base - student).sum().item() / sum(map(len, drawn))}
    if all(theorem.proof for theorem in theorems):
        references = [completion_of(policy, theorem) for theorem in theorems]
        likely = log_probabilities(policy, "student", prompts, references).exp()
        result["p_reference"] = likely.mean().item()

    env = LeanEnv()
    attempts = roll_out(policy, env, theorems, LONGEST, seeded(seed))
    verdicts = env.check([(r.theorem, with_current_names(r.proof)) for r in attempts])
    right = sum(verdict.status == "proved" for verdict in verdicts)
    result["right_but_for_names"] = right / len(theorems)

    out.mkdir(parents=True, exist_ok=True)
    (out / "eval.json").write_text(json.dumps({run or model: result}))
    print(result)


if __name__ == "__main__":
    with in_one_line("measure.py"):
        tyro.cli(main, description=__doc__)
