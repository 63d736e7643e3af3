"""The heat map of a real run: two steps of the shipped prover, and real Lean.

Its numbers are computed a second time by other means.
"""

import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval as evaluation
import train
from extras import runs
from extras.heatmap import layout, models, page as pages, terminal
from feedback import build_prompt
from lean_env import Theorem

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "toy" / "tiny"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps that both attempt the same eight theorems.

    The student is far enough from its teacher to tell them apart.
    """
    folder = tmp_path_factory.mktemp("heat")
    (folder / "eight.jsonl").write_text(
        "".join((ROOT / "toy" / "train.jsonl").read_text().splitlines(True)[:8])
    )
    return train.train(
        train.Config(
            out=str(folder / "run"),
            data=str(folder / "eight.jsonl"),
            steps=2,
            prompts_per_step=8,
            max_new_tokens=32,
            eval_every=0,
            lora_rank=4,
            lr=1e-2,
            warmup=0,
            ema_alpha=0.5,
            ema_every=2,
        )
    )


def show(folder, problem="", **kwargs):
    return evaluation.main(evaluation.Config(show=str(folder), problem=problem, **kwargs))


def rows_of(folder):
    return [
        json.loads(line) for line in (Path(folder) / "rollouts.jsonl").read_text().splitlines()
    ]


def copy_of(run, folder, *rows):
    """The run with other attempts in its rollouts.jsonl."""
    shutil.copytree(run, folder)
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Page(HTMLParser):
    """Elements, scripts, and per attempt {token: [its text, its classes]}."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attempts, self.spans, self.scripts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.attempts += [{}] if tag == "section" else []
        self.scripts += [""] * (tag == "script")
        self.spans += [dict(attrs)] if tag == "span" else []

    def handle_endtag(self, tag):
        self.spans = self.spans[:-1] if tag == "span" else self.spans

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        token = next((span for span in reversed(self.spans) if "data-t" in span), None)
        if token:
            self.attempts[-1].setdefault(int(token["data-t"]), ["", token["class"]])[0] += data


def second_opinion(folder, role, prompt, completion):
    """[T, V] log-probabilities of the completion's places.

    By transformers and PEFT in one plain forward pass.
    """
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    model = (
        PeftModel.from_pretrained(model, folder / "ckpt" / role) if role != "base" else model
    )
    with torch.no_grad():
        logits = model.eval()(torch.tensor([prompt + completion])).logits[0]  # [P + T, V]
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


def test_colours_are_the_log_ratio_of_a_direct_forward_pass_and_the_top_five_are_its_largest(
    run,
):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    row = rows_of(run)[-1]
    look = show(run, row["name"])
    assert [a["step"] for a in look["attempts"]] == [1, 2] and list(look["views"]) == [
        "end",
        "start",
    ]
    attempt, ids = look["attempts"][-1], row["completion_ids"]
    told = tokenizer(f"/- {row['feedback']} -/\n{row['statement']} := by\n")["input_ids"]
    moved = 0.0
    for view, roles in {"end": ("student", "teacher"), "start": ("base", "base")}.items():
        logps = [
            second_opinion(run, role, prompt, ids)
            for role, prompt in zip(roles, (row["prompt_ids"], told))
        ]  # [T, V] each
        for t, token in enumerate(attempt["tokens"]):
            assert token[view]["d"] == pytest.approx(
                (logps[1][t, ids[t]] - logps[0][t, ids[t]]).item(), abs=2e-4
            )
            moved = max(moved, abs(token[view]["d"] - token["end"]["d"]))
            for role, logp in zip(("student", "teacher"), logps):
                top = logp[t].exp().topk(5)
                assert [p for _, p in token[view][role]["top"]] == pytest.approx(
                    top.values.tolist(), abs=1e-4
                )
                assert token[view][role]["top"][0][0] == tokenizer.decode(
                    [top.indices[0].item()]
                )
    assert moved > 0.1  # the two moments are not the same pair of models


def test_the_page_holds_every_token_in_order_with_its_colour_and_its_numbers(run):
    look = show(run, rows_of(run)[0]["name"])
    page = Page(look["page"].read_text())
    data = json.loads(page.scripts[0])
    assert len(page.attempts) == len(data) == len(look["attempts"]) == 2
    for row, cells, tokens in zip(look["attempts"], page.attempts, data):
        assert len(cells) == len(tokens) == len(row["completion_ids"])
        assert (
            "".join(cells[t][0] for t in sorted(cells)).replace("⏎", "\n").removesuffix("<eos>")
            == row["text"]
        )
        for t, token in enumerate(tokens):
            for view in ("end", "start"):
                d = token[view]["d"]
                assert d == pytest.approx(
                    token[view]["teacher"]["logp"] - token[view]["student"]["logp"], abs=1e-5
                )
                stronger = [f for f in (1.1, 2, 5, 20) if math.exp(abs(d)) >= f]
                assert f"{view}{len(stronger) * (1 if d > 0 else -1)}" in cells[t][1].split()
    assert "after step 2" in look["note"] and look["note"] in look["page"].read_text()


def test_the_page_needs_nothing_but_itself(run):
    text = show(run)["page"].read_text()
    assert not re.search(r"https?://|//[a-z]|@import|url\(|fetch\(|XMLHttp", text)
    page = Page(text)
    assert not [
        tag
        for tag, attrs in page.tags
        if {"src", "href", "srcset", "action"} & attrs.keys()
        or tag in ("link", "img", "iframe")
    ]
    policy = next(
        attrs["content"]
        for tag, attrs in page.tags
        if tag == "meta" and "content" in attrs and "default-src" in attrs["content"]
    )
    assert policy.startswith("default-src 'none'")
    assert "@media print" in text and "print-color-adjust" in text


def test_the_keyboard_reaches_every_token_with_one_stop_of_the_tab_key(run):
    page = Page(show(run)["page"].read_text())
    stops = [
        (int(attrs["data-t"]), attrs["tabindex"])
        for tag, attrs in page.tags
        if "tabindex" in attrs
    ]
    assert stops == [
        (t, "0" if t == 0 else "-1") for cells in page.attempts for t in sorted(cells)
    ]
    assert (
        sum(attrs.get("type") == "radio" for tag, attrs in page.tags) == 4
    )  # two attempts, two moments: arrows walk in them by themselves


def test_a_class_is_a_sign_and_a_factor_of_the_legend(run):
    for factor, strength in {
        1.05: 0,
        1.15: 1,
        1.95: 1,
        2.05: 2,
        4.9: 2,
        5.1: 3,
        19: 3,
        21: 4,
        1e9: 4,
    }.items():
        assert (
            layout.level(math.log(factor)) == strength
            and layout.level(-math.log(factor)) == -strength
        )
    legend = re.search(
        r'<div class="legend">(.*?)</div>', show(run)["page"].read_text(), re.DOTALL
    )[1]
    assert (
        re.sub(r"<[^>]*>", " ", legend).split()
        == "teacher finds it less likely ≥20× 5× 2× 1.1× same 1.1× 2× 5× ≥20× more likely".split()
    )


def test_strength_and_sign_can_be_told_without_colour(run):
    page = show(run)["page"].read_text()
    rules = dict(re.findall(r"\.end \.end(-?\d), \.start \.start\1 \{(.*?)\}", page, re.DOTALL))
    widths = {
        int(n): re.search(r"border-(top|bottom): (\d)px", rule).groups()
        for n, rule in rules.items()
    }
    assert {n: side for n, (side, _) in widths.items()} == {
        n: "top" if n > 0 else "bottom" for n in (-4, -3, -2, -1, 1, 2, 3, 4)
    }
    assert [int(widths[n][1]) for n in (1, 2, 3, 4)] == sorted(
        {int(widths[n][1]) for n in (-1, -2, -3, -4)}
    )

    def luminance(colour):  # WCAG 2.1
        values = [
            int(c * (2 if len(colour) == 4 else 1), 16) / 255
            for c in re.findall("." * (len(colour) // 3), colour[1:])
        ]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for rule in rules.values():
        back, ink = (
            luminance(re.search(rf"(?:^|\s){name}: (#\w+)", rule)[1])
            for name in ("background", "color")
        )
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) >= 4.5


def test_leans_messages_stand_at_the_line_and_column_that_lean_named(run):
    seen = 0
    for name in {row["name"] for row in rows_of(run)}:
        for attempt in show(run, name, text=True)["attempts"]:
            for number, cells in enumerate(attempt["lines"], 1):
                column = 0
                for text, _, marks in cells:
                    for n in marks:
                        assert (number, column) == (
                            attempt["messages"][n]["line"],
                            attempt["messages"][n]["column"],
                        )
                        seen += 1
                    column += len(text)
            marks = sorted(
                n for cells in attempt["lines"] for _, _, numbers in cells for n in numbers
            )
            assert marks == list(range(len(attempt["messages"])))
    assert seen > 5


def test_a_message_about_a_chat_answer_points_into_the_proof_inside_it():
    statement = "theorem t (p : Prop) : p → p"
    proof = "by\n  intro h\n  foo h"
    answer = f"I use foo.\n```lean4\n{statement} := {proof}\n```\nDone: foo."
    shown = f"{statement} := by\n{answer}"
    offset = layout.place(
        {"statement": statement, "text": answer, "chat": True}, {"line": 3, "column": 2}
    )  # in "... := by\n  intro h\n  foo h"
    assert shown[offset:].startswith("foo h\n```") and shown[:offset].endswith("intro h\n  ")
    assert layout.place({"statement": statement, "text": answer}, {"line": 1, "column": 0}) == 0
    late = layout.place(
        {"statement": statement, "text": "  exact (\n"}, {"line": 9, "column": 0}
    )  # beyond the end: still shown
    assert any(
        marks == [0]
        for line in layout.lay_out(f"{statement} := by\n", ["  exact (\n"], [late])
        for _, _, marks in line
    )


def test_the_worked_example_of_lay_out():
    assert layout.lay_out("a\n", ["b\n ", "c"], [3]) == [
        [["a", None, []]],
        [["b", 0, []], ["⏎", 0, [0]]],
        [[" ", 0, []], ["c", 1, []]],
    ]


def test_tokens_that_split_a_character_join_to_the_text():
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    ids = tokenizer.encode("  exact ⟨🦆, h⟩", add_special_tokens=False)
    parts = layout.pieces(tokenizer, ids)
    assert (
        len(parts) == len(ids) and "".join(parts) == tokenizer.decode(ids) == "  exact ⟨🦆, h⟩"
    )
    assert (
        "" in parts and "🦆" in "".join(parts) and not any("\ufffd" in part for part in parts)
    )
    cut = layout.pieces(
        tokenizer, ids[: parts.index("🦆")]
    )  # an attempt that was cut inside the character
    assert "".join(cut) == tokenizer.decode(ids[: parts.index("🦆")])


def test_hostile_text_stays_text(run, tmp_path, capsys):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    tokenizer, row = AutoTokenizer.from_pretrained(TINY), rows_of(run)[0]
    text = f"  exact {evil}\x1b[31m\u202e\n"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    hostile = row | {
        "name": f"../../{evil}\x1b]0;owned\x07",
        "text": text,
        "completion_ids": ids,
        "finished": False,
        "feedback": f"{evil}\x1b[2J",
        "status": "cheat",
        "messages": [{"severity": evil, "line": 2, "column": 3, "data": f"{evil}\x1b[2J"}],
    }
    hostile["statement"] = f"theorem t : {evil}\x1b[2J = 0"
    hostile["prompt_ids"] = tokenizer(hostile["statement"] + " := by\n")["input_ids"]
    folder = copy_of(run, tmp_path / "run", hostile)
    look = show(folder)
    assert look["page"].parent == folder
    page = Page(look["page"].read_text())
    assert [tag for tag, _ in page.tags].count("script") == 2 and "img" not in dict(page.tags)
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    shown = "".join(cell[0] for _, cell in sorted(page.attempts[0].items())).replace(
        "▯", ""
    )  # a token inside a character
    assert shown == text.replace("\x1b", "␛").replace("\u202e", "\ufffd").replace("\n", "⏎")
    look["attempts"][0]["tokens"][0][
        "text"
    ] = evil  # a vocabulary with such a token: it must not end the script that holds it
    page = Page(pages.as_page(look))
    assert [tag for tag, _ in page.tags].count("script") == 2 and json.loads(page.scripts[0])[
        0
    ][0]["text"] == evil
    show(folder, text=True)
    printed = capsys.readouterr().out
    assert (
        not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", printed)
        and "cut by the length limit" in printed
        and "✗ cheat" in printed
    )


def test_the_terminal_shows_the_same_attempts_signs_and_numbers(run, capsys):
    name = rows_of(run)[0]["name"]
    look = show(run, name, text=True)
    printed = capsys.readouterr().out
    assert "page" not in look and "\033" not in printed  # colours are for terminals
    assert [int(n) for n in re.findall(r"^=== step (\d+)", printed, re.M)] == [1, 2]
    attempt = look["attempts"][0]
    for line in (
        attempt["text"].split("\n")
        + attempt["feedback"].split("\n")
        + [m["data"].split("\n")[0] for m in attempt["messages"]]
    ):
        assert line in printed
    strong = [
        (view, token)
        for view in ("end", "start")
        for token in attempt["tokens"]
        if abs(token[view]["d"]) >= math.log(2)
    ]
    assert strong
    for view, token in strong:
        d = token[view]["d"]
        sign = "+" if d > 0 else "-"
        if abs(d) > math.log(5):
            sign = "▲" if d > 0 else "▼"
        assert f"{view:5} {sign} {d:+.2f}" in printed
    assert "\033[" in terminal.as_text(look, colour=True)
    assert re.sub(
        r"\033\[[\d;]*m", "", terminal.as_text(look, colour=True)
    ) == terminal.as_text(look)


def test_without_a_name_the_first_problem_of_the_last_step_is_shown_and_the_others_are_named(
    run, capsys
):
    rows = rows_of(run)
    look = show(run)
    assert look["problem"] == [row["name"] for row in rows if row["step"] == 2][0]
    printed = capsys.readouterr().out
    assert all(row["name"] in printed for row in rows) and str(look["page"]) in printed


def test_an_attempt_without_feedback_is_shown_as_one_that_taught_nothing(run, tmp_path):
    row = rows_of(run)[0] | {"feedback": None, "status": "timeout", "messages": []}
    look = show(copy_of(run, tmp_path / "run", row))
    assert all(
        token["start"]["d"] == pytest.approx(0, abs=1e-6)
        for token in look["attempts"][0]["tokens"]
    )  # one model, one prompt
    assert (
        look["silence"] in look["page"].read_text()
        and "Lean itself failed" in look["page"].read_text()
    )


def test_the_prompts_are_rebuilt_with_the_header_that_was_recorded_or_not_at_all(run, tmp_path):
    row, policy = rows_of(run)[0], runs.load_run(str(run), "student", "none")[0]
    theorem = Theorem(row["name"], row["statement"], "open Nat")
    row |= {"header": "open Nat", "prompt_ids": build_prompt(policy.tokenizer, theorem, None)}
    config = json.loads((run / "config.json").read_text())
    theirs = models.prompts_of(policy, config, row)[1]
    assert policy.tokenizer.decode(theirs).startswith("open Nat\n/- 1. ")
    assert len(show(copy_of(run, tmp_path / "run", row))["attempts"]) == 1
    for other in ({"header": "open List"}, {"prompt_ids": row["prompt_ids"][1:]}):
        with pytest.raises(ValueError, match="prompt cannot be rebuilt"):
            models.prompts_of(policy, config, row | other)


def test_a_run_that_started_from_another_offers_only_the_moment_it_knows(run, tmp_path):
    folder = copy_of(run, tmp_path / "run", rows_of(run)[0])
    config = json.loads((folder / "config.json").read_text()) | {"init": "out/fd"}
    (folder / "config.json").write_text(json.dumps(config))
    look = show(folder)
    assert list(look["views"]) == ["end"] and 'value="start"' not in look["page"].read_text()


def test_a_wrong_name_and_a_missing_run_get_one_line_that_helps(run, tmp_path):
    with pytest.raises(ValueError) as error:
        show(run, "no_such_problem")
    assert "\n" not in str(error.value) and all(
        row["name"] in str(error.value) for row in rows_of(run)
    )
    with pytest.raises(
        ValueError, match="holds no run with a checkpoint. Train one: python train.py --out"
    ) as error:
        show(tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="holds no attempt: train with --algo fd or grpo"):
        show(copy_of(run, tmp_path / "sft"))


def test_the_script_prints_that_line_last_and_never_loads_the_heat_map_unasked(run):
    process = subprocess.run(
        [sys.executable, "eval.py", "--show", str(run), "--problem", "nope"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("eval.py: --problem nope: ")
    command = "import sys, train, eval; print(sorted({'extras.heatmap', 'matplotlib'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert loaded.stdout == "[]\n"
