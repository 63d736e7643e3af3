"""An evaluation's attempts, kept as they are judged: one that was interrupted goes on.

OUT/attempts.jsonl gets a line for every call of what makes attempts or writes feedback, under a
digest of all that the call depends on: subject, weights, theorems, seed, flags, Lean. The same
command later takes from it what is there and ends as if it had never stopped. When the table has
been written, the lines of this evaluation go. `--samples` may grow: it is in no digest.
"""

import fcntl
import hashlib
import json
import os
import re
from dataclasses import fields
from functools import partial
from pathlib import Path

import extras
from extras import runs
from extras.neighbour import advisor
from lean_env import Rollout, Verdict

# Flags of eval.py that no attempt depends on; which run it is, its weights say.
FREE = "runs out samples show problem text".split()


class Kept:
    """The attempts in cfg.out that the same evaluation may use; a lock keeps others away.

    cfg: eval.py's, after `place`. lean: in words, as LeanEnv.describe() puts it.
    """

    def __init__(self, cfg, lean):
        self.path = Path(cfg.out) / "attempts.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another evaluation is at work in {cfg.out}") from None
        self.rows = {row.get("call"): row.get("value") for row in runs.read_lines(self.path)}
        if self.rows:
            self.file.write("\n")  # behind a line that was torn

        flags = {name: value for name, value in vars(cfg).items() if name not in FREE}
        self.about = [flags, lean]
        self.used = set()
        extras.interrupted = (
            f"interrupted: what was judged is kept in {self.path}, the same command goes on"
        )
        self.source = advisor(cfg.feedback)

    def of(self, subject, roll_out, role):
        """(attempt, source) for eval.evaluate, which make only what is not kept. One subject at
        a time."""
        self.make = subject.attempt or roll_out
        self.subject = [*self.about, subject.label]
        if subject.policy:
            self.subject.append(weights(subject.policy, role))
        return self.attempt, self.source and self

    def attempt(self, policy, env, theorems, max_new_tokens, generator, *others):
        """As eval.roll_out; a call is told from others by its generator's seed."""
        about = [*self.subject, repr(theorems), max_new_tokens, generator.initial_seed()]
        self.call = hashlib.sha256(json.dumps(about).encode()).hexdigest()

        def make():
            job = (policy, env, theorems, max_new_tokens, generator, *others)
            return [row_of(rollout) for rollout in self.make(*job)]

        rows = self.recall(self.call, make)
        return [rollout_of(theorem, row) for theorem, row in zip(theorems, rows)]

    def write(self, rollouts):
        """As Feedback.write, about the last attempts."""
        return self.recall(f"{self.call} told", partial(self.source.write, rollouts))

    def recall(self, call, make):
        """The value that is kept under this name; where there is none, what make() returns."""
        self.used.add(call)
        if call not in self.rows:
            value = make()
            self.file.write(json.dumps({"call": call, "value": value}) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.rows[call] = value
        return self.rows[call]

    def finish(self):
        """The evaluation is done: its lines go, those of others stay."""
        rows = [row for row in runs.read_lines(self.path) if row.get("call") not in self.used]
        if rows:
            runs.replace_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        else:
            self.path.unlink()
        self.file.close()


def row_of(rollout):
    """A rollout as JSON, without its theorem and without what tool mode adds."""
    row = {field.name: getattr(rollout, field.name) for field in fields(Rollout)[1:]}
    return row | {"verdict": vars(rollout.verdict)}


def rollout_of(theorem, row):
    """The rollout that a row was made of."""
    return Rollout(theorem, **row | {"verdict": Verdict(**row["verdict"])})


def weights(policy, role):
    """A digest of a policy's base and of its adapters for this role."""
    digest = hashlib.sha256(runs.base_digest(policy).encode())
    for tensor in policy.roles[role]:
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def place(cfg):
    """Fill in --out, and see that eval.json can be written there: ValueError, in one line.

    Where a run's folder has an evaluation of another kind, a folder in it gets this one.
    """
    out = Path(cfg.out or (cfg.runs[0] if cfg.runs else "out/base"))
    if is_of_another_kind(out / "eval.json", cfg):
        words = f"{cfg.split} {cfg.data}{suffix(cfg)}"
        named = out / re.sub(r"\W+", "-", words).strip("-")
        if cfg.out:
            raise ValueError(
                f"{out / 'eval.json'} is of another kind of evaluation (data, split, teacher or "
                f"feedback): give another --out, {named} perhaps"
            )
        out = named
    runs.refuse_unwritable(out)
    cfg.out = str(out)


def is_of_another_kind(path, cfg):
    """Was this eval.json made with other data, another split, feedback or another role?"""
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    for label, row in rows.items():
        told = re.search(r"( \+ .*)?( \(teacher\))?$", label)[0]
        kind = (row.get("data", "toy"), row.get("split", "test"), told)
        if kind != (cfg.data, cfg.split, suffix(cfg)):
            return True
    return False


def suffix(cfg):
    """What is added to a subject's name in the table."""
    told = f" + {cfg.feedback}" if cfg.feedback else ""
    return told + (" (teacher)" if cfg.who == "teacher" else "")
