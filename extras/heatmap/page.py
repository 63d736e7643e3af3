"""The page: one HTML file that needs nothing else.

Every text from a model, a data file or Lean goes through html.escape or JSON. The page's frame,
its style and its script are page.html, style.css and script.js beside this file.
"""

import html
import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from string import Template

from extras.heatmap.layout import FACTORS, level, show_token, verdict_of, visible

HERE = Path(__file__).resolve().parent

# Class: (background, ink). Orange and blue differ for every kind of colour vision. Text on each
# background has a contrast of at least 4.5.
HEAT = {
    -4: ("#a63603", "#fff"),
    -3: ("#f28a3c", "#000"),
    -2: ("#fdbe85", "#000"),
    -1: ("#feedde", "#000"),
    1: ("#e3eefa", "#000"),
    2: ("#a6cdee", "#000"),
    3: ("#5aa2d8", "#000"),
    4: ("#08519c", "#fff"),
}


def as_page(look: dict) -> str:
    """The text of the page for everything that main() has gathered."""
    attempts = look["attempts"]
    sections = []
    for number, label in enumerate(labels_of(attempts)):
        sections.append(section(look, number, label))

    data = json.dumps([attempt["tokens"] for attempt in attempts])
    frame = Template((HERE / "page.html").read_text(encoding="utf-8"))
    return frame.substitute(
        title=escape(look["problem"]),
        folder=escape(look["folder"]),
        statement=escape(attempts[0]["statement"]),
        note=escape(look["note"]),
        steps=step_buttons(attempts),
        moments=moment_buttons(look["views"]),
        legend=legend(),
        attempts="".join(sections),
        data=data.replace("<", "\\u003c"),  # a token `</script>` must not end the script
        style=(HERE / "style.css").read_text(encoding="utf-8") + heat_rules(look["views"]),
        script=(HERE / "script.js").read_text(encoding="utf-8"),
    )


def escape(text: str) -> str:
    return html.escape(visible(text))


# ---- what can be chosen
def labels_of(attempts: list[dict]) -> list[str]:
    """ "step 7", or in a group, with several attempts in a step, "step 7 (2)"."""
    steps = [attempt["step"] for attempt in attempts]
    labels = []
    for number, step in enumerate(steps):
        label = f"step {step}"
        if len(set(steps)) < len(steps):
            label += f" ({steps[:number].count(step) + 1})"
        labels.append(label)
    return labels


def step_buttons(attempts: list[dict]) -> str:
    """A button per attempt, with the mark of its verdict."""
    buttons = ""
    for number, (attempt, label) in enumerate(zip(attempts, labels_of(attempts))):
        verdict = html.escape(verdict_of(attempt))
        mark = html.escape(verdict_of(attempt)[0])
        content = f'{html.escape(label)} <b title="{verdict}">{mark}</b>'
        buttons += button("step", number, number == 0, content)
    return buttons


def moment_buttons(views: dict) -> str:
    buttons = ""
    for view, label in views.items():
        buttons += button("view", view, view == "end", html.escape(label))
    return buttons


def button(name, value, chosen: bool, content: str) -> str:
    checked = " checked" if chosen else ""
    radio = f'<input type="radio" name="{name}" value="{value}"{checked}>'
    return f"<label>{radio}{content}</label>"


# ---- an attempt
def section(look: dict, number: int, label: str) -> str:
    """Attempt `number`: verdict, lines, feedback, and the tables that paper has for hovering."""
    attempt = look["attempts"][number]
    chosen = " chosen" if number == 0 else ""
    label = html.escape(label)
    verdict = html.escape(verdict_of(attempt))
    if attempt["feedback"] is None:
        feedback = f"<em>{html.escape(look['silence'])}</em>"
    else:
        feedback = escape(attempt["feedback"])
    tables = "".join(paper_table(attempt, view) for view in look["views"])
    return (
        f'<section class="attempt{chosen}" aria-label="{label}">'
        f'<h2>{label} · Lean: <span class="verdict">{verdict}</span></h2>'
        f'<div class="code">{code(attempt, look["views"])}</div>'
        f"<h3>Feedback, read by the teacher only</h3><blockquote>{feedback}</blockquote>"
        f"{tables}</section>"
    )


def code(attempt: dict, views) -> str:
    """The attempt's lines; under each, boxes for the messages that point into it."""
    out = ""
    last = None  # the token whose element came last
    for number, cells in enumerate(attempt["lines"], 1):
        spans = ""
        # One element a token and line, whatever points into it.
        for t, group in groupby(cells, key=itemgetter(1)):
            inner = "".join(arrows(marks) + html.escape(text) for text, _, marks in group)
            if t is None:
                spans += inner
            else:
                spans += token_span(attempt, views, t, inner, focus=t != last)
            last = t
        out += f'<div class="line"><i>{number}</i><code>{spans}</code></div>'

        for _, _, marks in cells:
            for n in marks:
                out += message_box(attempt["messages"][n], n + 1)
    return out


def token_span(attempt: dict, views, t: int, inner: str, focus: bool) -> str:
    """A token's element. Tab stops at the first token, arrows go on from there."""
    classes = ""
    for view in views:
        classes += f" {view}{level(attempt['tokens'][t][view]['d'])}"
    tabindex = ""
    if focus:
        tabindex = f' tabindex="{0 if t == 0 else -1}"'
    return f'<span class="t{classes}" data-t="{t}"{tabindex}>{inner}</span>'


def arrows(marks: list[int]) -> str:
    """Where messages point: numbers that CSS draws below the line."""
    out = ""
    for n in marks:
        label = f"message {n + 1} points here"
        out += f'<span class="at" data-n="{n + 1}" role="img" aria-label="{label}"></span>'
    return out


def message_box(message: dict, number: int) -> str:
    return (
        f'<div class="message"><b>{number} {escape(message["severity"])}</b> '
        f'line {message["line"]}, column {message["column"]}'
        f'<pre>{escape(message["data"])}</pre></div>'
    )


def paper_table(attempt: dict, view: str) -> str:
    """The coloured tokens, at most twelve, the strongest first, with both top fives."""

    def strength(token):
        return abs(token[view]["d"])

    coloured = [token for token in attempt["tokens"] if level(token[view]["d"])]
    if not coloured:
        return ""

    rows = ""
    for token in sorted(coloured, key=strength, reverse=True)[:12]:
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


def top_five(said: dict) -> str:
    cells = [f"<code>{escape(show_token(text))}</code>&nbsp;{p:.3f}" for text, p in said["top"]]
    return ", ".join(cells)


# ---- colours
def legend() -> str:
    """The nine classes, from "the teacher would not have written it" to "the student"."""
    cells = ""
    for n in range(-4, 5):
        text = "same"
        if n != 0:
            text = f"{FACTORS[abs(n) - 1]}×"
        if abs(n) == 4:
            text = f"≥{text}"
        cells += f'<span class="end{n} start{n}">{text}</span>'
    low, high = "<em>teacher finds it less likely</em>", "<em>more likely</em>"
    return f'<div class="legend">{low}{cells}{high}</div>'


def heat_rules(views) -> str:
    """CSS: `<main class="end">` colours `.end-3`, `<main class="start">` colours `.start-3`.

    A bar says the same without colour: below the token for less, above for more, and the thicker
    the stronger. A white gap keeps it apart from a dark token on grey paper.
    """
    rules = []
    for view in views:
        for n, (background, ink) in HEAT.items():
            side, bar = ("bottom", "#7f2704") if n < 0 else ("top", "#08306b")
            rules.append(
                f".{view} .{view}{n}{{background:{background};color:{ink};"
                f"padding-{side}:2px;background-clip:content-box;"
                f"border-{side}:{abs(n) + 1}px solid {bar}}}"
            )
    return "\n".join(rules)
