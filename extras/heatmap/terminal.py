"""The view for a terminal: a line of signs per moment under each line of an attempt."""

import math

from extras.heatmap.layout import FACTORS, level, show_token, verdict_of, visible

CLASSES = range(-4, 5)
SIGNS = dict(zip(CLASSES, "▼▼-- ++▲▲"))
# Ink and background of each class.
ORANGE = "97;48;5;130 30;48;5;208 30;48;5;215 30;48;5;223".split()
BLUE = "30;48;5;195 30;48;5;117 30;48;5;74 97;48;5;25".split()
COLOURS = dict(zip(CLASSES, [*ORANGE, None, *BLUE]))


def as_text(look, colour=False):
    """The attempts with their signs, and in place of hovering the top fives of some tokens.

    These are the tokens that one of the models finds at least twice as likely as the other.
    """
    weak, _, strong, _ = FACTORS
    out = [
        f"{visible(look['problem'])} · {look['folder']} · {len(look['attempts'])} attempts",
        look["note"],
        "",
        f"Signs: log p_teacher - log p_student.  ▼ {strong} times less likely to the teacher"
        f"   - {weak} times   + {weak} times more likely   ▲ {strong} times",
        *look["views"].values(),
    ]
    for attempt in look["attempts"]:
        out += ["", f"=== step {attempt['step']} · {verdict_of(attempt)} " + "=" * 40]
        for number, cells in enumerate(attempt["lines"], 1):
            out += text_line(attempt, look["views"], number, cells, colour)

        feedback = attempt["feedback"]
        if feedback is None:
            feedback = look["silence"]
        out += ["", "  feedback:"]
        out += [f"    {line}" for line in visible(feedback).split("\n")]

        for view in look["views"]:
            for token in attempt["tokens"]:
                if abs(level(token[view]["d"])) >= 2:
                    out += top_fives(token, view)
    return "\n".join(out)


def text_line(attempt, views, number, cells, colour):
    """A line of the attempt, its signs, and the messages that point into it.

    It is coloured by the first moment. A message has a caret at the place it points to.
    """
    painted = ""
    signs = dict.fromkeys(views, "")
    below = []
    first_view, *_ = views
    column = 0
    for text, t, marks in cells:
        levels = dict.fromkeys(views, 0)
        if t is not None:
            levels = {view: level(attempt["tokens"][t][view]["d"]) for view in views}
        for view in views:
            signs[view] += SIGNS[levels[view]] * len(text)

        ansi = COLOURS[levels[first_view]]
        painted += f"\033[{ansi}m{text}\033[0m" if colour and ansi else text

        for n in marks:
            below += message_lines(attempt["messages"][n], column)
        column += len(text)

    out = [f"{number:5} | {painted}"]
    for view in views:
        if signs[view].strip():
            out.append(f"{view:>5} | {signs[view].rstrip()}")
    return out + below


def message_lines(message, column):
    margin = "      | " + " " * column
    first, *rest = visible(message["data"]).split("\n")
    severity = visible(message["severity"])
    return [f"{margin}^ {severity}: {first}", *(f"{margin}  {line}" for line in rest)]


def top_fives(token, view):
    """A token's number in a view, and what student and teacher would have written."""
    d = token[view]["d"]
    out = ["", f"  {view:5} {SIGNS[level(d)]} {d:+.2f}  {show_token(token['text'])}"]
    for role in ("student", "teacher"):
        said = token[view][role]
        top = "".join(f"  {show_token(text)} {p:.3f}" for text, p in said["top"])
        out.append(f"    {role:8}{top}   (this token: {math.exp(said['logp']):.2g})")
    return out
