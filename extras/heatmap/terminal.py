"""The view for a terminal: a line of signs per moment under each line of an attempt."""

import math

from extras.heatmap.layout import FACTORS, level, show_token, verdict_of, visible

ANSI = {
    -4: "97;48;5;130",
    -3: "30;48;5;208",
    -2: "30;48;5;215",
    -1: "30;48;5;223",
    1: "30;48;5;195",
    2: "30;48;5;117",
    3: "30;48;5;74",
    4: "97;48;5;25",
}
SIGNS = {-4: "▼", -3: "▼", -2: "-", -1: "-", 0: " ", 1: "+", 2: "+", 3: "▲", 4: "▲"}


def as_text(look: dict, colour: bool = False) -> str:
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


def text_line(attempt, views, number: int, cells: list, colour: bool) -> list[str]:
    """A line of the attempt, its signs, and the messages that point into it.

    It is coloured by the first moment. A message has a caret at the place it points to.
    """
    levels = {view: [level_in(attempt, view, token) for _, token, _ in cells] for view in views}
    text = ""
    for (part, _, _), n in zip(cells, levels[next(iter(views))]):
        text += f"\033[{ANSI[n]}m{part}\033[0m" if colour and n else part
    out = [f"{number:5} | {text}"]

    for view in views:
        signs = ""
        for (part, _, _), n in zip(cells, levels[view]):
            signs += SIGNS[n] * len(part)
        if signs.rstrip():
            out.append(f"{view:>5} | {signs.rstrip()}")

    column = 0
    for part, _, marks in cells:
        margin = "      | " + " " * column
        for n in marks:
            message = attempt["messages"][n]
            first, *rest = visible(message["data"]).split("\n")
            out.append(f"{margin}^ {visible(message['severity'])}: {first}")
            out += [f"{margin}  {line}" for line in rest]
        column += len(part)
    return out


def level_in(attempt, view, token) -> int:
    """The class of a cell's token; 0 where the cell is in none."""
    return 0 if token is None else level(attempt["tokens"][token][view]["d"])


def top_fives(token, view) -> list[str]:
    """A token's number in a view, and what student and teacher would have written."""
    d = token[view]["d"]
    out = ["", f"  {view:5} {SIGNS[level(d)]} {d:+.2f}  {show_token(token['text'])}"]
    for role in ("student", "teacher"):
        said = token[view][role]
        top = "".join(f"  {show_token(text)} {p:.3f}" for text, p in said["top"])
        out.append(f"    {role:8}{top}   (this token: {math.exp(said['logp']):.2g})")
    return out
