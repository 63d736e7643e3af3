"""What a run writes as it goes: its logs, what both models thought, kept adapters, checkpoints."""

import torch

import fd_mini
from extras import ranks, runs
from extras.prompts import prompt_for
from extras.track import tracker


class Progress:
    """How many steps of a run are `done`, and how many of these are `saved`."""

    def __init__(self, cfg, out, policy, optimizer, done):
        self.cfg, self.out = cfg, out
        self.policy, self.optimizer = policy, optimizer
        self.done = self.saved = done
        self.send = tracker(cfg, out)

    def save(self):
        """Save what is done -> its last step, or 0 where nothing was saved by this process."""
        if self.done > self.saved:
            runs.save_checkpoint(self.out, self.policy, self.optimizer, self.done)
            self.saved = self.done
        return self.saved

    def log(self, step, metrics, rollouts):
        """A step's line in the log, and eight of its attempts, while the models that made them
        have not moved."""
        if not ranks.FIRST:
            return
        self.line("log", step, metrics)
        for rollout in rollouts[:8]:
            row = runs.record(step, rollout)
            if rollout.feedback is not None:
                row["logps"] = {role: self.logps(rollout, role) for role in runs.BOTH}
            runs.append(self.out / "rollouts.jsonl", row)
        if self.cfg.keep_every and step % self.cfg.keep_every == 0:
            runs.keep(self.out, self.policy, step)

    def validated(self, step, result):
        """A line in valid.jsonl; a resumed run validates again."""
        runs.keep_lines(self.out / "valid.jsonl", step - 1)
        self.line("valid", step, result)

    def line(self, name, step, numbers):
        """Numbers of a step: in NAME.jsonl, and to --track as "NAME/number"."""
        runs.append(self.out / f"{name}.jsonl", {"step": step, **numbers})
        if self.send:
            single = [item for item in numbers.items() if not isinstance(item[1], list)]
            self.send({f"{name}/{key}": value for key, value in single}, step)

    @torch.no_grad()
    def logps(self, rollout, role):
        """log p of every token of an attempt as the loss saw it; None for what a tool printed."""
        prompt = rollout.prompt_ids
        if role == "teacher":
            prompt = prompt_for(
                self.policy, rollout.theorem, rollout.feedback, self.cfg.max_new_tokens
            )
        with self.policy.act_as(role):
            nll, _ = fd_mini.sampled_nll(
                self.policy, [prompt], [rollout.completion_ids], [rollout.sampled]
            )
        said = iter(nll.neg().tolist())
        return [round(next(said), 3) if own else None for own in rollout.sampled]
