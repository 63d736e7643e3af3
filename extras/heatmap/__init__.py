"""The heat map: the attempts at one problem of a run, token by token (the paper's figure 1).

    python eval.py --show out/fd --problem toy_513         # a page: out/fd/heatmap_toy_513.html
    python eval.py --show out/fd --problem toy_513 --text  # the same view in the terminal

The number behind a colour is

    d_t = log p_teacher(y_t | x, F, y_<t) - log p_student(y_t | x, y_<t)    in nats:

what the feedback F makes of the token that was written. All of it is computed from
rollouts.jsonl and the checkpoint (models.py); the page holds everything it shows (layout.py,
terminal.py, page.py).

What the files cannot tell: a run keeps its last adapters only, so nobody can say what student
and teacher thought at step 7 of an attempt of step 7. Two moments are known for certain and the
page offers both, for the attempts of all steps: "end", the adapters of the checkpoint, and
"start", the base with and without the feedback (student = teacher = base when training starts).
"""

import os
import re
import sys
from pathlib import Path

from extras.heatmap.layout import visible
from extras.heatmap.models import attempts_at, examine
from extras.heatmap.page import as_page
from extras.heatmap.terminal import as_text
from extras.runs import load_run, refuse_unwritable, replace_text, restore

SILENCE = (
    "none: this attempt is not in the distillation loss, and the teacher reads the same prompt "
    "as the student"
)


def main(cfg):
    """`python eval.py --show DIR`: writes the page, or prints the view with cfg.text. ->
    everything that is shown."""
    policy, config = load_run(cfg.show, "student", cfg.quantize)
    problem, rows, names = attempts_at(cfg.show, cfg.problem)
    out = cfg.out or cfg.show
    refuse_unwritable(out)
    step = restore(cfg.show, policy)["step"]

    views = views_of(config, step)
    look = {
        "problem": problem,
        "folder": cfg.show,
        "views": views,
        "attempts": [examine(policy, config, views, row) for row in rows],
        "note": note(step, views),
        "silence": SILENCE,
    }

    print(names)
    if cfg.text:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(as_text(look, colour))
        return look

    name = re.sub(r"[^\w.-]+", "_", problem)[:80]
    page = Path(out) / f"heatmap_{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_text(page, as_page(look))
    print(f"{page} written: {len(rows)} attempts at {visible(problem)}")
    return look | {"page": page}


def views_of(config, step):
    """The moments the files speak for, and their labels."""
    views = {"end": f"end: student and teacher after step {step}"}
    if not config.get("init"):  # where an --init run starts is not in its folder
        views["start"] = "start: the base, without and with the feedback"
    return views


def note(step, views):
    """What must be known to read the colours."""
    start = ""
    if "start" in views:
        start = ", or (start) the base without and with the feedback"
    return (
        "A run keeps only its last adapters: the colours of every attempt, of whatever step, "
        f"compare the student and the teacher saved after step {step}{start}. The teacher is a "
        "slow average of the student: where it lags behind, a sign can tell of that and not of "
        "the feedback."
    )
