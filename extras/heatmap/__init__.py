"""The heat map: the attempts at one problem of a run, token by token (the paper's figure 1).

    python eval.py --show out/fd --problem toy_513         # a page: out/fd/heatmap_toy_513.html
    python eval.py --show out/fd --problem toy_513 --text  # the same view in the terminal

The number behind a colour is

    d_t = p_teacher(y_t | x, F, y_<t) - p_student(y_t | x, y_<t):

what the feedback F makes of the token that was written. It is what pulls at that token: minus the
gradient of the paper's loss for its logit, but for what lies outside the top K. Where both models
find a token unlikely there is no colour, whatever their ratio.

The step of an attempt is shown as it was: a run records both log-probabilities when it takes its
loss. What the models say at other steps comes from adapters: those that the run has kept
(train.py --keep-every), those of its checkpoint, and at step 1 the base. All is computed here
(models.py); the page holds everything it shows (layout.py, page.py).
"""

import os
import re
import sys
from pathlib import Path

from extras.heatmap.layout import visible
from extras.heatmap.models import attempts_at, examine
from extras.heatmap.page import render
from extras.runs import load_run, refuse_unwritable, replace_text, restore

SILENCE = (
    "none: this attempt is not in the distillation loss, and the teacher reads the same prompt "
    "as the student"
)


def main(cfg):
    """`python eval.py --show DIR`: writes the page, or prints the view with cfg.text. ->
    everything that is shown."""
    policy, config = load_run(cfg.show, "student", cfg.quantize)
    problem, rows, problems = attempts_at(cfg.show, cfg.problem)
    out = cfg.out or cfg.show
    refuse_unwritable(out)
    state = restore(cfg.show, policy)

    look = {
        "problem": problem,
        "folder": cfg.show,
        "done": state["step"],
        "attempts": examine(policy, config, state, rows),
        "silence": SILENCE,
    }

    print(problems)
    if cfg.text:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(render("terminal.txt", look, colour=colour))
        return look

    name = re.sub(r"[^\w.-]+", "_", problem)[:80]
    page = Path(out) / f"heatmap_{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_text(page, render("page.html", look))
    print(f"{page} written: {len(look['attempts'])} of {len(rows)} attempts at {visible(problem)}")
    return look | {"page": page}
