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
        kept = rollouts[:8]
        told = [rollout for rollout in kept if rollout.feedback is not None]
        logps = zip(*(self.logps(told, role) for role in runs.BOTH))
        for rollout in kept:
            row = runs.record(step, rollout)
            if rollout.feedback is not None:
                row["logps"] = dict(zip(runs.BOTH, next(logps)))
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
    def logps(self, rollouts, role):
        """Of each attempt, log p of every token as the loss saw it; None for what a tool printed."""
        prompts = [r.prompt_ids for r in rollouts]
        if role == "teacher":
            most = self.cfg.max_new_tokens
            prompts = [prompt_for(self.policy, r.theorem, r.feedback, most) for r in rollouts]
        found = [[None] * len(r.sampled) for r in rollouts]
        batches = fd_mini.micro_batches(
            self.cfg.micro_tokens,
            prompts,
            [r.completion_ids for r in rollouts],
            [r.sampled for r in rollouts],
            range(len(rollouts)),
        )
        for *batch, numbers in batches:  # batch: prompts, completions, flags
            with self.policy.act_as(role), self.policy.merged():
                nll, _ = fd_mini.sampled_nll(self.policy, *batch)
            said = iter(nll.neg().tolist())
            for i in numbers:
                own = rollouts[i].sampled
                found[i] = [round(next(said), 3) if flag else None for flag in own]
        return found
