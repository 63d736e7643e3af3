"""Look inside one problem of a run: its attempts token by token, as the student and the teacher see them (the paper's figure 1).

    python eval.py --show out/fd --problem toy_513         # one HTML page: out/fd/heatmap_toy_513.html
    python eval.py --show out/fd --problem toy_513 --text  # the same view in the terminal

The number behind a colour is d_t = log p_teacher(y_t | x, F, y_<t) - log p_student(y_t | x, y_<t), in nats: what the feedback F makes
of the token that was written. All of it is computed from rollouts.jsonl and the checkpoint; the page holds everything it shows.

What the files cannot tell: a run keeps its last adapters only, so nobody can say what student and teacher thought at step 7 of an
attempt of step 7. Two moments are known for certain and the page offers both, for the attempts of all steps: "end", the adapters of
the checkpoint, and "start", the base with and without the feedback (student = teacher = base when training starts).
"""
import html
import json
import math
import os
import re
import sys
import unicodedata
from collections import Counter
from itertools import groupby
from pathlib import Path

import torch

import fd_mini
from eval import load_rows, load_run
from feedback import build_prompt, extract_proof
from lean_env import Theorem

FACTORS = (1.1, 2, 5, 20)  # from here on a token is one class stronger: classes can be read off a legend, shades cannot
TOP = 5  # tokens of each model's distribution that are listed
PARTIAL, NEWLINE = "▯", "⏎"  # stand for a token that ends inside a character, and for a line's end

# --- what the models say
def attempts_at(folder: str, problem: str = "") -> tuple[str, list[dict], str]:
    """(problem, its rows of rollouts.jsonl by step, the names there are). "": the first problem of the last step. Errors: ValueError."""
    path = Path(folder) / "rollouts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(True) if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]  # a run that is writing may leave half a line
    if not rows:
        raise ValueError(f"{path} holds no attempt: train with --algo fd or grpo (sft writes none): python train.py --out {folder}")
    problem = problem or next(row["name"] for row in rows if row["step"] == rows[-1]["step"])
    counts = Counter(row["name"] for row in rows).most_common()  # the most attempts first: those show training
    names = ", ".join(f"{visible(name)} ({n})" for name, n in counts[:20]) + f" and {len(counts) - 20} more" * (len(counts) > 20)
    names = f"{len(counts)} problems (attempts): {names}".replace("\n", " ")
    if problem not in dict(counts):
        raise ValueError(f"--problem {visible(problem)}: {path} holds no attempt at it, but at {names}")
    return problem, [row for row in rows if row["name"] == problem], names

def prompts_of(policy, config: dict, row: dict) -> tuple[list[int], list[int]]:
    """(student's prompt, teacher's prompt) of an attempt, token ids. ValueError when the student's is not the one that was recorded."""
    room = policy.max_positions - config["max_new_tokens"]
    theorem = Theorem(row["name"], row["statement"])
    if build_prompt(policy.tokenizer, theorem, None, room, policy.style) != row["prompt_ids"]:  # it has a header, which only the data knows
        same = [r for r in load_rows(config["data"], "train") if (r.name, r.statement) == (row["name"], row["statement"])]
        theorem = Theorem(row["name"], row["statement"], same[0].header if same else None)
    if build_prompt(policy.tokenizer, theorem, None, room, policy.style) != row["prompt_ids"]:
        raise ValueError(f"{row['name']}: its prompt cannot be rebuilt; {config['data']} or the tokenizer changed since the run")
    return row["prompt_ids"], build_prompt(policy.tokenizer, theorem, row["feedback"], room, policy.style)

@torch.no_grad()
def ask(policy, role: str, prompt: list[int], completion: list[int]) -> tuple[list, list, list]:
    """What a role thinks of T given tokens: (log p of each [T], ids [T, TOP] and log p [T, TOP] of the likeliest at each place)."""
    with policy.act_as(role):  # the head too: it is trained when the run has no adapters
        hidden = policy.hidden([prompt], [completion])  # [T, D]
        nll, _ = fd_mini.token_nll(policy, hidden, torch.tensor(completion, device=policy.device))  # [T]
        ids, logps = fd_mini.teacher_topk(hidden, policy.head, TOP)  # [T, TOP] each
    return (-nll).tolist(), ids.tolist(), logps.tolist()

def views_of(config: dict, step: int) -> dict:
    """The moments that the files speak for: {key: (label, student's role, teacher's role)}."""
    views = {"end": (f"end: student and teacher after step {step}", "student", "teacher")}
    if not config.get("init"):  # where an --init run starts is not in its folder
        views["start"] = ("start: the base, without and with the feedback", "base", "base")
    return views

def examine(policy, config: dict, views: dict, row: dict) -> dict:
    """A row of rollouts.jsonl with everything to show: its "tokens", one dict a token with its text and per view d, both models'
    log p and top five, and its "lines" (see lay_out)."""
    student_prompt, teacher_prompt = prompts_of(policy, config, row)
    ids, decode = row["completion_ids"], policy.tokenizer.decode
    parts = pieces(policy.tokenizer, ids)
    tokens = [{"text": visible(part) or visible(decode([i]))} for part, i in zip(parts, ids)]
    for view, (_, *roles) in views.items():
        said = [ask(policy, role, prompt, ids) for role, prompt in zip(roles, (student_prompt, teacher_prompt))]
        for t, token in enumerate(tokens):
            token[view] = {who: {"logp": logps[t], "top": [[visible(decode([i])), math.exp(p)] for i, p in zip(top[t], top_logps[t])]}
                           for who, (logps, top, top_logps) in zip(("student", "teacher"), said)}
            token[view]["d"] = said[1][0][t] - said[0][0][t]
    messages = sorted(row["messages"], key=lambda message: place(row, message))  # numbered as they are met
    spots = [place(row, message) for message in messages]
    return row | {"messages": messages, "tokens": tokens, "lines": lay_out(f"{row['statement']} := by\n", parts, spots)}

# --- where things stand
def visible(text: str) -> str:
    """Control and formatting characters as something to see, one for one so that columns stay right: what a model wrote must not
    move the terminal's cursor nor turn the page around. "\\n" stays."""
    def show(c):
        hidden = unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c != "\n"
        return (chr(0x2400 + ord(c)) if ord(c) < 32 else "\ufffd") if hidden else c
    return "".join(map(show, text))

def pieces(tokenizer, ids: list[int]) -> list[str]:
    """The text that each token adds; joined they are the text of all. A token that ends inside a character adds "" and the one that
    completes it adds the character: three tokens for the three bytes of "∧" give ["", "", "∧"]."""
    found, done = [], ""
    for t in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:t], clean_up_tokenization_spaces=False)
        text = text.rstrip("\ufffd") if t < len(ids) else text  # what a decoder puts for half a character
        found.append(text[len(done):])
        done = text
    return found

def place(row: dict, message: dict) -> int:
    """Where a message points: an offset in f"{statement} := by\\n{text}". Lean read f"{statement} := {proof}" and counts lines from 1
    and columns from 0 in that; a raw completion continues the `by`, a chat answer has the proof somewhere inside."""
    proof = extract_proof(row["text"])
    lines = f"{row['statement']} := {proof}".split("\n")
    offset = sum(len(line) + 1 for line in lines[: message["line"] - 1]) + message["column"]
    body = proof.removeprefix("by\n")
    before = len(f"{row['statement']} := {proof}") - len(body)
    if offset < before:
        return offset
    inside = max(row["text"].rfind(body), 0) if "```lean" in row["text"] else 0  # of a chat answer the last block counts
    return len(f"{row['statement']} := by\n") + inside + offset - before

def lay_out(head: str, parts: list[str], spots: list[int]) -> list[list]:
    """Lines of cells [text, token or None, numbers of the messages that point at the cell's start]. A cell lies in one token and one
    line; spots are offsets in head + "".join(parts), one per message. Example: head "a\\n", parts ["b\\n ", "c"], spots [3] ->
        [[["a", None, []]],  [["b", 0, []], ["⏎", 0, [0]]],  [[" ", 0, []], ["c", 1, []]]]
    """
    lines, offset = [[]], 0
    for t, part in [(None, head), *enumerate(parts)]:
        if part == "":
            lines[-1].append([PARTIAL, t, []])
        for i, char in enumerate(part):
            here = [n for n, spot in enumerate(spots) if spot == offset]
            if i == 0 or here or not lines[-1]:
                lines[-1].append(["", t, here])
            lines[-1][-1][0] += visible(char) if char != "\n" else "" if t is None else NEWLINE
            lines += [[]] if char == "\n" else []
            offset += 1
    beyond = [n for n, spot in enumerate(spots) if spot >= offset]  # "unexpected end of input"
    lines[-1] += [["", None, beyond]] if beyond else []
    return lines if lines[-1] else lines[:-1]

def level(d: float) -> int:
    """The class of a log ratio, -4 to 4: its sign, and how many of FACTORS it reaches."""
    return sum(abs(d) >= math.log(factor) for factor in FACTORS) * (1 if d > 0 else -1)

def verdict_of(attempt: dict) -> str:
    mark = {"proved": "✓ proved", "timeout": "? timeout: Lean itself failed", "crash": "? crash: Lean itself failed"}
    cut = "" if attempt["finished"] else " · cut by the length limit"
    return mark.get(attempt["status"], f"✗ {attempt['status']}") + cut

# --- the terminal
ANSI = {-4: "97;48;5;130", -3: "30;48;5;208", -2: "30;48;5;215", -1: "30;48;5;223",
        4: "97;48;5;25", 3: "30;48;5;74", 2: "30;48;5;117", 1: "30;48;5;195"}
SIGNS = {-4: "▼", -3: "▼", -2: "-", -1: "-", 0: " ", 1: "+", 2: "+", 3: "▲", 4: "▲"}

def as_text(look: dict, colour: bool = False) -> str:
    """The view for a terminal. Under each line stands a line of signs per moment; in place of hovering, both top fives of every token
    that one of the models finds at least twice as likely as the other."""
    out = [f"{visible(look['problem'])} · {look['folder']} · {len(look['attempts'])} attempts", look["note"], "",
           f"Signs: log p_teacher - log p_student.  ▼ {FACTORS[2]} times less likely to the teacher   - {FACTORS[0]} times   "
           f"+ {FACTORS[0]} times more likely   ▲ {FACTORS[2]} times", *look["views"].values()]
    for attempt in look["attempts"]:
        out += ["", f"=== step {attempt['step']} · {verdict_of(attempt)} " + "=" * 40]
        for number, cells in enumerate(attempt["lines"], 1):
            out += text_line(look, attempt, number, cells, colour)
        feedback = attempt["feedback"] if attempt["feedback"] is not None else look["silence"]
        out += ["", "  feedback:", *(f"    {line}" for line in visible(feedback).split("\n"))]
        for view in look["views"]:
            for token in attempt["tokens"]:
                if abs(level(token[view]["d"])) >= 2:
                    out += ["", f"  {view:5} {SIGNS[level(token[view]['d'])]} {token[view]['d']:+.2f}  {show_token(token['text'])}"]
                    out += [f"    {who:8}" + "".join(f"  {show_token(text)} {p:.3f}" for text, p in token[view][who]["top"])
                            + f"   (this token: {math.exp(token[view][who]['logp']):.2g})" for who in ("student", "teacher")]
    return "\n".join(out)

def text_line(look: dict, attempt: dict, number: int, cells: list, colour: bool) -> list[str]:
    """A line of the attempt, coloured by the first moment, its signs, and the messages that point into it with a caret at the place."""
    def classes(view):
        return [0 if t is None else level(attempt["tokens"][t][view]["d"]) for _, t, _ in cells]
    paint = lambda text, n: f"\033[{ANSI[n]}m{text}\033[0m" if colour and n else text  # noqa: E731
    out = [f"{number:5} | " + "".join(paint(text, n) for (text, _, _), n in zip(cells, classes(next(iter(look["views"])))))]
    for view in look["views"]:
        signs = "".join(SIGNS[n] * len(text) for (text, _, _), n in zip(cells, classes(view))).rstrip()
        out += [f"{view:>5} | {signs}"] * bool(signs)
    column = 0
    for text, _, marks in cells:
        for n in marks:
            message = attempt["messages"][n]
            first, *rest = visible(message["data"]).split("\n")
            out += [f"      | {' ' * column}^ {visible(message['severity'])}: {first}", *(f"      | {' ' * column}  {line}" for line in rest)]
        column += len(text)
    return out

def show_token(text: str) -> str:
    """A token on its own, where spaces at its ends must be seen."""
    return text.replace("\n", NEWLINE).replace(" ", "␣")

# --- the page
def as_page(look: dict) -> str:
    """One HTML file that needs nothing else. Every text from a model, a data file or Lean goes through html.escape or JSON."""
    attempts = look["attempts"]
    several = len({a["step"] for a in attempts}) < len(attempts)  # a group: several attempts in a step
    labels = [f"step {a['step']}" + f" ({[b['step'] for b in attempts[:n]].count(a['step']) + 1})" * several for n, a in enumerate(attempts)]
    steps = "".join(f'<label><input type="radio" name="step" value="{n}"{" checked" * (n == 0)}>{html.escape(label)} '
                    f'<b title="{html.escape(verdict_of(a))}">{html.escape(verdict_of(a)[0])}</b></label>'
                    for n, (label, a) in enumerate(zip(labels, attempts)))
    moments = "".join(f'<label><input type="radio" name="view" value="{key}"{" checked" * (key == "end")}>{html.escape(label)}</label>'
                      for key, label in look["views"].items())
    data = json.dumps([a["tokens"] for a in attempts]).replace("<", "\\u003c")  # a token `</script>` must not end the script
    return PAGE.format(title=escape(look["problem"]), folder=escape(look["folder"]), statement=escape(attempts[0]["statement"]),
                       note=escape(look["note"]), steps=steps, moments=moments, legend=legend(), style=STYLE + heat_rules(look["views"]),
                       attempts="".join(map(lambda n: section(look, n, labels[n]), range(len(attempts)))), data=data, script=SCRIPT)

def escape(text: str) -> str:
    return html.escape(visible(text))

def section(look: dict, n: int, label: str) -> str:
    """Attempt n: the verdict, its lines with Lean's messages under them, the feedback, and the table that paper has for hovering."""
    attempt, first, lines = look["attempts"][n], set(), []
    for number, cells in enumerate(attempt["lines"], 1):
        spans = []
        for t, group in groupby(cells, key=lambda cell: cell[1]):  # one element a token and line, whatever points into it
            inner = "".join("".join(f'<span class="at" data-n="{m + 1}" role="img" aria-label="message {m + 1} points here"></span>' for m in marks)
                            + html.escape(text) for text, _, marks in group)
            if t is not None:
                classes = " ".join(f"{view}{level(attempt['tokens'][t][view]['d'])}" for view in look["views"])
                focus = f' tabindex="{-1 if first else 0}"' * (t not in first)  # Tab stops at the first token, arrows go on from there
                inner = f'<span class="t {classes}" data-t="{t}"{focus}>{inner}</span>'
                first.add(t)
            spans.append(inner)
        lines.append(f'<div class="line"><i>{number}</i><code>{"".join(spans)}</code></div>')
        lines += [message_box(attempt["messages"][m], m) for _, _, marks in cells for m in marks]
    told = escape(attempt["feedback"]) if attempt["feedback"] is not None else f"<em>{html.escape(look['silence'])}</em>"
    return (f'<section class="attempt{" chosen" * (n == 0)}" aria-label="{html.escape(label)}"><h2>{html.escape(label)} · Lean: '
            f'<span class="verdict">{html.escape(verdict_of(attempt))}</span></h2><div class="code">{"".join(lines)}</div>'
            f'<h3>Feedback, read by the teacher only</h3><blockquote>{told}</blockquote>'
            + "".join(paper_table(attempt, view) for view in look["views"]) + "</section>")

def message_box(message: dict, number: int) -> str:
    return (f'<div class="message"><b>{number + 1} {escape(message["severity"])}</b> line {message["line"]}, column {message["column"]}'
            f'<pre>{escape(message["data"])}</pre></div>')

def paper_table(attempt: dict, view: str) -> str:
    """The coloured tokens, at most twelve, the strongest first, with both top fives: paper has no hovering."""
    def cell(top):
        return ", ".join(f"<code>{escape(show_token(text))}</code>&nbsp;{p:.3f}" for text, p in top)
    tokens = [token for token in attempt["tokens"] if level(token[view]["d"])]
    tokens = sorted(tokens, key=lambda token: -abs(token[view]["d"]))[:12]
    rows = "".join(f"<tr><td><code>{escape(show_token(token['text']))}</code></td><td>{token[view]['d']:+.2f}</td>"
                   + "".join(f"<td>{cell(token[view][who]['top'])}</td>" for who in ("student", "teacher")) + "</tr>" for token in tokens)
    return (f'<table class="paper {view}-only"><caption>Where they differ most</caption><tr><th>token</th><th>log p<sub>T</sub> − '
            f'log p<sub>S</sub></th><th>student\'s top five</th><th>teacher\'s top five</th></tr>{rows}</table>') * bool(tokens)

def legend() -> str:
    """The nine classes, from "the teacher would not have written it" to "the student would not"."""
    def text(n):
        return "same" if n == 0 else f"{'≥' if abs(n) == 4 else ''}{FACTORS[abs(n) - 1]}×"
    cells = "".join(f'<span class="end{n} start{n}">{text(n)}</span>' for n in range(-4, 5))
    return f'<div class="legend"><em>teacher finds it less likely</em>{cells}<em>more likely</em></div>'

# Orange and blue differ for every kind of colour vision; the bar says the same without colour: below the token for less, above for
# more, and the thicker the stronger (a white gap keeps it apart from a dark token on grey paper). Text on each background has a contrast of at least 4.5.
HEAT = {-4: ("#a63603", "#fff"), -3: ("#f28a3c", "#000"), -2: ("#fdbe85", "#000"), -1: ("#feedde", "#000"),
        1: ("#e3eefa", "#000"), 2: ("#a6cdee", "#000"), 3: ("#5aa2d8", "#000"), 4: ("#08519c", "#fff")}

def heat_rules(views) -> str:
    """CSS: `<main class="end">` colours `.end-3`, `<main class="start">` colours `.start-3`."""
    rules = []
    for view in views:
        for n, (back, ink) in HEAT.items():
            side, bar = ("bottom", "#7f2704") if n < 0 else ("top", "#08306b")
            rules.append(f".{view} .{view}{n}{{background:{back};color:{ink};padding-{side}:2px;background-clip:content-box;border-{side}:{abs(n) + 1}px solid {bar}}}")
    return "\n".join(rules)

STYLE = """
:root { color-scheme: light; font: 18px/1.5 system-ui, sans-serif; color: #000; background: #fff }
* { box-sizing: border-box; print-color-adjust: exact; -webkit-print-color-adjust: exact }
body { margin: 0 auto; padding: 1rem 1.5rem; max-width: 1700px }
h1 { font-size: 1.4rem; margin: 0 } h1 small { font-weight: normal; color: #444 }
h2 { font-size: 1.15rem; margin: 0 0 .4rem } h3 { font-size: 1rem; margin: 1rem 0 .2rem }
code, pre, .statement { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
.statement { font-size: 1.1rem; margin: .4rem 0 } .note { margin: 0; color: #333; font-size: .85rem }
fieldset { border: 0; margin: 0; padding: 0 } legend { font-weight: bold; padding: 0 } .moments legend { float: left; margin-right: .7rem }
label { display: block; padding: 0 .3rem; white-space: nowrap; cursor: pointer } label:has(:checked) { background: #ddd; font-weight: bold }
label:has(:focus-visible) { outline: 3px solid #000 }
main { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr) 21rem; gap: .8rem 1.2rem; align-items: start } .key, .note { grid-column: 1 / -1 }
.steps { max-height: 70vh; overflow-y: auto } .moments label { display: inline-block; margin-right: 1rem; white-space: normal }
.legend { margin: .4rem 0 0; display: flex; flex-wrap: wrap; align-items: center } .legend em { margin: 0 .5rem }
.legend span { display: inline-block; min-width: 3.3rem; text-align: center; border-block: 5px solid transparent; background: #fff }
.attempt { display: none } .attempt.chosen { display: block }
.code { border: 1px solid #999; padding: .5rem .6rem } .line { display: flex; line-height: 2.1; font-size: 1.1rem }
.line i { flex: none; width: 2rem; color: #666; user-select: none; font-style: normal }
.t { cursor: default } .t:hover, .t.now { outline: 3px solid #000; position: relative; z-index: 1 }
.at { display: inline-block; width: 0; height: 0; position: relative; user-select: none; z-index: 2 }
.at::after { content: "▲" attr(data-n); position: absolute; top: .8em; left: 0; font: bold .75rem/1 sans-serif; color: #000; background: #fff; white-space: nowrap }
.line:has(.at) { padding-bottom: .6rem }
.message { margin: 0 0 .5rem 2rem; padding: .2rem .6rem; border-left: 5px solid #000; background: #eee; font-size: .9rem }
.message b { background: #000; color: #fff; padding: 0 .4em; border-radius: .5em } pre { margin: .1rem 0 }
blockquote { margin: 0; padding: .3rem .7rem; border: 1px solid #999; white-space: pre-wrap; overflow-wrap: anywhere }
.panel { border: 2px solid #000; padding: .6rem; position: sticky; top: 1rem; background: #fff }
.panel table { border-collapse: collapse; width: 100%; table-layout: fixed } .panel caption { text-align: left; font-weight: bold; padding-top: .5rem }
.panel td { padding: 0 .3rem; vertical-align: top } .panel td + td { width: 8.5rem } .panel .own { background: #ddd; font-weight: bold }
.panel .bar { display: inline-block; width: 4rem; height: .7rem; margin-right: .3rem; border: 1px solid #999 } .bar i { display: block; height: 100%; background: #333 } .panel .token { font-size: 1.2rem; border: 1px solid #999; padding: 0 .3rem }
.paper { display: none; border-collapse: collapse; font-size: .8rem; margin-top: 1rem } .paper td, .paper th { border: 1px solid #999; padding: .1rem .4rem; text-align: left; vertical-align: top }
.paper caption { text-align: left; font-weight: bold }
@media (max-width: 1000px) { main { display: block } .steps { max-height: 8rem; margin: .5rem 0 } .steps label { display: inline-block }
  .panel { top: auto; bottom: 0; z-index: 3; max-height: 45vh; overflow-y: auto; font-size: .85rem; margin: .5rem -1rem }
  .panel table { display: inline-table; width: 50%; font-size: .75rem } .panel td + td { width: 3.8rem } .panel .bar { display: none } }
@media print { :root { font-size: 10pt } body { padding: 0 } main { display: block } .steps, .panel { display: none }
  .moments label:not(:has(:checked)) { display: none } .moments input { display: none } .moments label:has(:checked) { background: none }
  .end .paper.end-only, .start .paper.start-only { display: table } tr, .message, blockquote { break-inside: avoid } .t.now { outline: none } }
"""

SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent), main = document.querySelector('main');
const panel = document.querySelector('.panel'), attempts = [...document.querySelectorAll('.attempt')];
const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;
function make(tag, text = '', cls = '') { const e = document.createElement(tag); e.textContent = text; e.className = cls; return e; }
const shown = text => text.replaceAll('\\n', '⏎').replaceAll(' ', '␣');
function row(text, p, own) {  // probabilities as number and as bar
  const tr = make('tr', '', own ? 'own' : ''), right = make('td'), bar = make('span', '', 'bar'), fill = make('i');
  fill.style.width = `${100 * p}%`; bar.append(fill); right.append(bar, p < .0005 ? p.toExponential(1) : p.toFixed(3));
  const left = make('td'); left.append(make('code', (own ? '▸ ' : '') + shown(text))); tr.append(left, right); return tr;
}
function table(title, token, said) {
  const t = make('table'); t.append(make('caption', title));
  for (const [text, p] of said.top) t.append(row(text, p, text === token.text));
  if (!said.top.some(([text]) => text === token.text)) t.append(row(token.text, Math.exp(said.logp), true));
  return t;
}
function look(t) {  // the panel about token t, and a frame around it in the attempt
  const section = attempts[chosen('step')], token = data[chosen('step')][t], said = token[chosen('view')], d = said.d;
  main.querySelectorAll('.now').forEach(e => e.classList.remove('now'));
  section.querySelectorAll(`[data-t="${t}"]`).forEach(e => e.classList.add('now'));
  const factor = Math.exp(Math.min(Math.abs(d), 99));
  const words = factor < 1.05 ? 'as likely to the teacher' : `${factor.toFixed(1)} times ${d > 0 ? 'more' : 'less'} likely to the teacher`;
  const head = make('div'), own = make('code', shown(token.text), 'token');
  head.append(own, ` token ${+t + 1} of ${data[chosen('step')].length}`);
  panel.replaceChildren(head, make('small', `log p_teacher − log p_student = ${(Math.round(100 * d) / 100 + 0).toFixed(2).replace('-', '−')}`), make('div', words),
    table('Student, without the feedback', token, said.student), table('Teacher, who read the feedback', token, said.teacher));
}
function strongest() {  // where the eye should go first
  const view = chosen('view'), tokens = data[chosen('step')];
  look(tokens.reduce((best, token, t) => Math.abs(token[view].d) > Math.abs(tokens[best][view].d) ? t : best, 0));
}
document.addEventListener('change', () => {
  main.className = chosen('view'); attempts.forEach((s, n) => s.classList.toggle('chosen', n == chosen('step'))); strongest();
});
for (const happens of ['mouseover', 'focusin', 'click'])
  main.addEventListener(happens, e => e.target.closest('.t') && look(e.target.closest('.t').dataset.t));
main.addEventListener('keydown', e => {  // arrows walk from token to token; in the list of steps they do so already
  const way = { ArrowRight: 1, ArrowLeft: -1 }[e.key], t = e.target.dataset.t;
  if (!way || t === undefined) return;
  const next = attempts[chosen('step')].querySelector(`[data-t="${+t + way}"][tabindex]`);
  if (next) { e.preventDefault(); next.focus(); }
});
strongest();
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}: teacher against student</title><style>{style}</style><noscript><style>.attempt {{ display: block }} .panel, .steps {{ display: none }}
.end .paper.end-only {{ display: table }}</style></noscript></head><body>
<h1>{title} <small>· what the teacher, having read the feedback, makes of each token · {folder}</small></h1>
<div class="statement">{statement}</div>
<main class="end"><div class="key"><fieldset class="moments"><legend>log p<sub>teacher</sub> − log p<sub>student</sub> at the</legend>{moments}
</fieldset>{legend}</div><fieldset class="steps"><legend>Attempts</legend>{steps}</fieldset>
<div>{attempts}</div><aside class="panel" aria-live="polite" aria-label="the token's top five"></aside><p class="note">{note}</p></main>
<script type="application/json" id="data">{data}</script><script>{script}</script></body></html>
"""

# --- the command
def main(cfg) -> dict:
    """`python eval.py --show DIR`: writes the page, or prints the view with cfg.text. -> everything that is shown."""
    policy, config = load_run(cfg.show, "student", cfg.quantize)
    problem, rows, names = attempts_at(cfg.show, cfg.problem)
    policy.load(Path(cfg.show) / "ckpt" / "teacher", "teacher")
    step = torch.load(Path(cfg.show) / "ckpt" / "state.pt", weights_only=True, mmap=True)["step"]
    views = views_of(config, step)
    look = {"problem": problem, "folder": cfg.show, "views": {key: label for key, (label, *_) in views.items()},
            "attempts": [examine(policy, config, views, row) for row in rows],
            "note": f"A run keeps only its last adapters: the colours of every attempt, of whatever step, compare the student and the teacher "
                    f"saved after step {step}" + (", or (start) the base without and with the feedback" if "start" in views else "")
                    + ". The teacher is a slow average of the student: where it lags behind, a sign can tell of that and not of the feedback.",
            "silence": "none: this attempt is not in the distillation loss, and the teacher reads the same prompt as the student"}
    print(names)
    if cfg.text:
        print(as_text(look, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
        return look
    page = Path(cfg.out or cfg.show) / ("heatmap_" + re.sub(r"[^\w.-]+", "_", problem)[:80] + ".html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(as_page(look), encoding="utf-8")
    print(f"{page} written: {len(rows)} attempts at {visible(problem)}")
    return look | {"page": page}
