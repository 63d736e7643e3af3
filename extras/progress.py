"""What a run writes as it goes: its logs, what both models thought, kept adapters, checkpoints."""

import torch

import fd_mini
from extras import ranks, runs
from extras.prompts import prompt_for
from extras.track import tracker


class Progress:
    """How many steps of a run are `done`, and how many of these are `saved`."""

    def __init__(self, cfg, out, policy, optimizer, done):
        self.cfg, self.out, self.policy, self.optimizer = cfg, out, policy, optimizer
        self.done = self.saved = done
        self.track = tracker(cfg, out)

    def save(self):
        """Save what is done -> its last step, or 0 where nothing was saved by this process."""
        if self.done > self.saved:
            runs.save_checkpoint(self.out, self.policy, self.optimizer, self.done)
            self.saved = self.done
        return self.saved

    def log(self, step, metrics, rollouts):
        """A step's line in the log, and eight of its attempts, before its models have moved."""
        if not ranks.FIRST:
            return
        runs.append(self.out / "log.jsonl", {"step": step, **metrics})
        rows = [runs.record(step, rollout) | self.thoughts(rollout) for rollout in rollouts[:8]]
        runs.append(self.out / "rollouts.jsonl", *rows)
        if self.cfg.keep_every and step % self.cfg.keep_every == 0:
            runs.keep(self.out, self.policy, step)
        self.track("train", step, metrics)

    def validated(self, step, result):
        """A line in valid.jsonl; a resumed run validates again."""
        runs.keep_lines(self.out / "valid.jsonl", step - 1)
        runs.append(self.out / "valid.jsonl", {"step": step, **result})
        self.track("valid", step, result)

    @torch.no_grad()
    def thoughts(self, rollout):
        """log p of every token of an attempt with feedback, to both models, as the loss saw it;
        None for what a tool printed."""
        if rollout.feedback is None:
            return {}
        told = prompt_for(
            self.policy, rollout.theorem, rollout.feedback, self.cfg.max_new_tokens
        )
        logps = {}
        for role, prompt in zip(runs.BOTH, (rollout.prompt_ids, told)):
            row = ([prompt], [rollout.completion_ids], [rollout.sampled])
            with self.policy.act_as(role):
                nll, _ = fd_mini.sampled_nll(self.policy, *row)  # [N]
            said = iter((-nll).tolist())
            logps[role] = [round(next(said), 3) if own else None for own in rollout.sampled]
        return {"logps": logps}
