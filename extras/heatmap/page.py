"""The page: one HTML file that needs nothing else.

Its frame is the Jinja template page.html, which escapes whatever a model, a data file or Lean
has written; its style and its script are style.css and script.js beside this file.
"""

import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from extras.heatmap.layout import FACTORS, level, show_token, verdict_of, visible

HERE = Path(__file__).resolve().parent


def as_page(look):
    """The text of the page for everything that main() has gathered."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "token": show_token}
    for helper in (level, verdict_of, runs, marks_of, strongest):
        environment.globals[helper.__name__] = helper

    data = json.dumps([attempt["tokens"] for attempt in look["attempts"]])
    data = data.replace("<", "\\u003c")  # a token `</script>` must not end the script
    return environment.get_template("page.html").render(
        look,
        FACTORS=FACTORS,
        labels=labels(look["attempts"]),
        data=Markup(data),
        style=beside("style.css"),
        script=beside("script.js"),
    )


def beside(name):
    return Markup((HERE / name).read_text(encoding="utf-8"))


def labels(attempts):
    """The step of each attempt, with a number where a step has several."""
    steps = [attempt["step"] for attempt in attempts]
    names = [f"step {step}" for step in steps]
    if len(set(steps)) < len(steps):
        for i, step in enumerate(steps):
            names[i] += f" ({steps[:i].count(step) + 1})"
    return names


def runs(cells):
    """The cells of a line, those of one token together: [(token or None, cells), ...]."""
    return [(t, list(group)) for t, group in groupby(cells, key=itemgetter(1))]


def marks_of(cells):
    """Numbers of the messages that point into a line."""
    return [n for _, _, marks in cells for n in marks]


def strongest(tokens, view):
    """The coloured tokens, at most twelve, the strongest first: paper has no hovering."""
    coloured = [token for token in tokens if level(token[view]["d"])]
    return sorted(coloured, key=lambda token: -abs(token[view]["d"]))[:12]
