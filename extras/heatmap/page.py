"""The two views, made by Jinja from templates beside this file.

page.html is one file that needs nothing else: its style and its script are style.css and
script.js, and whatever a model, a data file or Lean has written is escaped. terminal.txt shows
the same with a line of signs under each line of an attempt.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from extras.heatmap.layout import CUTS, level, verdict_of, visible


def render(template, look, **more):
    """The text of a view of everything that main() has gathered."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["visible"] = visible
    environment.globals |= {"level": level, "verdict_of": verdict_of, "cuts": CUTS}
    return environment.get_template(template).render(look, **more)
