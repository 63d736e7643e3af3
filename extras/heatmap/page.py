"""The page: one HTML file that needs nothing else.

Every text from a model, a data file or Lean goes through html.escape or JSON. The page's frame
with its legend, its style and its script are page.html, style.css and script.js beside this
file.
"""

import html
import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from string import Template

from extras.heatmap.layout import level, show_token, verdict_of, visible

HERE = Path(__file__).resolve().parent


def as_page(look):
    """The text of the page for everything that main() has gathered."""
    attempts = look["attempts"]
    steps = [attempt["step"] for attempt in attempts]
    several = len(set(steps)) < len(steps)  # a group: several attempts in a step

    buttons, sections = "", ""
    for number, attempt in enumerate(attempts):
        label = escape(f"step {steps[number]}")
        if several:
            label += f" ({steps[:number].count(steps[number]) + 1})"
        verdict = verdict_of(attempt)
        mark = f'<b title="{escape(verdict)}">{verdict[0]}</b>'
        buttons += button("step", number, f"{label} {mark}", chosen=number == 0)
        sections += section(look, attempt, label, chosen=number == 0)

    moments = ""
    for view, label in look["views"].items():
        moments += button("view", view, escape(label), chosen=view == "end")

    data = json.dumps([attempt["tokens"] for attempt in attempts])
    data = data.replace("<", "\\u003c")  # a token `</script>` must not end the script
    return Template(beside("page.html")).substitute(
        title=escape(look["problem"]),
        folder=escape(look["folder"]),
        statement=escape(attempts[0]["statement"]),
        note=escape(look["note"]),
        steps=buttons,
        moments=moments,
        attempts=sections,
        data=data,
        style=beside("style.css"),
        script=beside("script.js"),
    )


def beside(name):
    return (HERE / name).read_text(encoding="utf-8")


def escape(text):
    return html.escape(visible(text))


def button(name, value, content, chosen):
    checked = " checked" if chosen else ""
    radio = f'<input type="radio" name="{name}" value="{value}"{checked}>'
    return f"<label>{radio}{content}</label>"


def section(look, attempt, label, chosen):
    """An attempt: verdict, lines, feedback, and the tables that paper has for hovering."""
    feedback = f"<em>{escape(look['silence'])}</em>"
    if attempt["feedback"] is not None:
        feedback = escape(attempt["feedback"])
    tables = "".join(paper_table(attempt["tokens"], view) for view in look["views"])
    return (
        f'<section class="attempt{" chosen" if chosen else ""}" aria-label="{label}">'
        f'<h2>{label} · Lean: <span class="verdict">{escape(verdict_of(attempt))}</span></h2>'
        f'<div class="code">{code(attempt, look["views"])}</div>'
        f"<h3>Feedback, read by the teacher only</h3><blockquote>{feedback}</blockquote>"
        f"{tables}</section>"
    )


def code(attempt, views):
    """The attempt's lines; under each, boxes for the messages that point into it."""
    out = ""
    last = None  # the token whose element came last
    for number, cells in enumerate(attempt["lines"], 1):
        spans, boxes = "", ""
        # One element a token and line, whatever points into it.
        for t, group in groupby(cells, key=itemgetter(1)):
            inner = ""
            for text, _, marks in group:
                for n in marks:
                    inner += arrow(n + 1)
                    boxes += message_box(n + 1, attempt["messages"][n])
                inner += html.escape(text)
            if t is not None:
                token = attempt["tokens"][t]
                inner = token_span(token, views, t, inner, focus=t != last)
            spans += inner
            last = t
        out += f'<div class="line"><i>{number}</i><code>{spans}</code></div>{boxes}'
    return out


def token_span(token, views, t, inner, focus):
    """A token's element. Tab stops at the first token, arrows go on from there."""
    classes = "".join(f" {view}{level(token[view]['d'])}" for view in views)
    tabindex = ""
    if focus:
        tabindex = f' tabindex="{0 if t == 0 else -1}"'
    return f'<span class="t{classes}" data-t="{t}"{tabindex}>{inner}</span>'


def arrow(number):
    """Where a message points: CSS draws its number below the line."""
    label = f"message {number} points here"
    return f'<span class="at" data-n="{number}" role="img" aria-label="{label}"></span>'


def message_box(number, message):
    return (
        f'<div class="message"><b>{number} {escape(message["severity"])}</b> '
        f'line {message["line"]}, column {message["column"]}'
        f'<pre>{escape(message["data"])}</pre></div>'
    )


def paper_table(tokens, view):
    """The coloured tokens, at most twelve, the strongest first, with both top fives."""
    coloured = [token for token in tokens if level(token[view]["d"])]
    coloured.sort(key=lambda token: -abs(token[view]["d"]))
    if not coloured:
        return ""

    rows = ""
    for token in coloured[:12]:
        said = token[view]
        rows += (
            f"<tr><td><code>{escape(show_token(token['text']))}</code></td>"
            f"<td>{said['d']:+.2f}</td><td>{top_five(said['student'])}</td>"
            f"<td>{top_five(said['teacher'])}</td></tr>"
        )
    return (
        f'<table class="paper {view}-only"><caption>Where they differ most</caption>'
        "<tr><th>token</th><th>log p<sub>T</sub> − log p<sub>S</sub></th>"
        f"<th>student's top five</th><th>teacher's top five</th></tr>{rows}</table>"
    )


def top_five(said):
    cells = [
        f"<code>{escape(show_token(text))}</code>&nbsp;{p:.3f}"
        for text, p in said["top"]
    ]
    return ", ".join(cells)
