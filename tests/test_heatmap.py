"""The heat map of a real run: two steps of the shipped prover, and real Lean.

Its numbers are computed a second time by other means.
"""

import functools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval as evaluation
import fd_mini
import train
from extras import runs
from extras.heatmap import layout, models, page as pages
from feedback import build_prompt
from lean_env import Theorem
from tests import programs

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
            keep_every=2,
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


@functools.cache
def peft_model(adapters):
    """The base, or with adapters, as transformers and PEFT load it."""
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapters) if adapters else model


def second_opinion(adapters, prompt, completion):
    """[T, V] log-probabilities of the completion's places, in one plain forward pass."""
    model = peft_model(adapters)
    with torch.no_grad():
        logits = model.eval()(torch.tensor([prompt + completion])).logits[0]  # [P + T, V]
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


def models_of(run, step):
    """The folders of student and teacher that make the attempts of a step of the fixture's run."""
    folder = {1: None, 2: run / "kept" / "2", 3: run / "ckpt"}[step]
    return [folder and folder / role for role in ("student", "teacher")]


def told_of(row):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    return tokenizer(f"/- {row['feedback']} -/\n{row['statement']} := by\n")["input_ids"]


def test_what_a_run_records_is_what_the_models_that_made_the_attempt_make_of_it(run):
    apart = 0.0
    for row in (rows_of(run)[0], rows_of(run)[-1]):
        ids = row["completion_ids"]
        prompts = (row["prompt_ids"], told_of(row))
        for role, prompt, adapters in zip(("student", "teacher"), prompts, models_of(run, row["step"])):
            logp = second_opinion(adapters, prompt, ids)[range(len(ids)), ids]
            assert row["logps"][role] == pytest.approx(logp.tolist(), abs=2e-3)
            later = second_opinion(run / "ckpt" / role, prompt, ids)[range(len(ids)), ids]
            apart = max(apart, (logp - later).abs().max().item())
    assert apart > 0.1  # the models have moved since


def test_colours_are_the_differences_of_a_direct_forward_pass_and_the_top_five_are_its_largest(
    run,
):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    row = rows_of(run)[-1]
    look = show(run, row["name"])
    assert [a["step"] for a in look["attempts"]] == [a["own"] for a in look["attempts"]] == [1, 2]
    attempt, ids = look["attempts"][-1], row["completion_ids"]
    assert sorted(attempt["tokens"][0]["said"]) == [1, 2, 3]  # base, kept, checkpoint
    moved = 0.0
    for step in (1, 2, 3):
        prompts = (row["prompt_ids"], told_of(row))
        ps = [
            second_opinion(adapters, prompt, ids).exp()
            for adapters, prompt in zip(models_of(run, step), prompts)
        ]  # [T, V] each
        for t, token in enumerate(attempt["tokens"]):
            if step == attempt["own"]:
                d = (ps[1][t, ids[t]] - ps[0][t, ids[t]]).item()
                assert token["d"] == pytest.approx(d, abs=2e-4)
            for said, p in zip(token["said"][step], ps):
                top = p[t].topk(5)
                listed = [value for value in top.values.tolist() if value >= 0.00101]
                assert [value for _, value in said["top"]][: len(listed)] == pytest.approx(listed, abs=1e-4)
                assert said["top"][0][0] == tokenizer.decode([top.indices[0].item()])
                assert said["p"] == pytest.approx(p[t, ids[t]].item(), abs=1e-4)
            d = token["said"][step][1]["p"] - token["said"][step][0]["p"]
            moved = max(moved, abs(token["d"] - d))
    assert moved > 0.05  # the steps are not the same pair of models


def test_the_difference_is_minus_the_gradient_of_the_papers_loss_at_the_token_that_was_written():
    logits = torch.randn(1, 6, requires_grad=True)
    p = torch.randn(1, 6).softmax(-1)
    ids = torch.arange(6)[None]  # all of the vocabulary: nothing lies outside the top K
    fd_mini.topk_cross_entropy(logits, ids, p.log()).sum().backward()
    assert torch.allclose(p - logits.softmax(-1), -logits.grad, atol=1e-6)


def test_a_step_that_was_not_kept_has_its_recorded_colours_and_the_page_begins_with_one_that_was(run, tmp_path):
    rows = rows_of(run)
    folder = copy_of(run, tmp_path / "run", *rows)
    shutil.rmtree(folder / "kept")
    first = max(rows[:8], key=models.difference)  # at step 1 the base is known
    look = show(folder)
    assert look["problem"] == first["name"] and '"0" checked' in look["page"].read_text()
    look = show(folder, rows[-1]["name"])
    attempt = look["attempts"][-1]
    assert attempt["own"] == 2 and sorted(attempt["tokens"][0]["said"]) == [1, 2, 3]
    for token, q, p in zip(attempt["tokens"], *rows[-1]["logps"].values()):
        assert token["d"] == pytest.approx(math.exp(p) - math.exp(q), abs=1e-3)
        assert token["said"][2][0]["top"] == [] and token["said"][3][0]["top"]

    old = [row | {"logps": {}} for row in rows]  # of a version that recorded nothing
    look = show(copy_of(folder, tmp_path / "old", *old), rows[-1]["name"])
    assert [a["own"] for a in look["attempts"]] == [1, 3]


def test_tokens_that_a_tool_printed_have_no_colour_at_any_step(run, tmp_path):
    row = rows_of(run)[-1]
    logps = {role: [None, None, *numbers[2:]] for role, numbers in row["logps"].items()}
    look = show(copy_of(run, tmp_path / "run", row | {"logps": logps}))
    tokens = look["attempts"][0]["tokens"]
    assert [token["said"] for token in tokens[:2]] == [{}, {}] and tokens[2]["said"]
    page = Page(look["page"].read_text())
    assert [page.attempts[0][t][1] for t in (0, 1)] == ["t p0"] * 2
    whole = models.difference(row)
    lost = sum(abs(math.exp(p) - math.exp(q)) for q, p in list(zip(*row["logps"].values()))[:2])
    assert models.difference(row | {"logps": logps}) == pytest.approx(whole - lost)


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
            student, teacher = token["said"][str(row["own"])]
            d = teacher["p"] - student["p"]
            assert d == pytest.approx(row["tokens"][t]["d"])
            stronger = [cut for cut in (0.02, 0.1, 0.3, 0.6) if abs(d) >= cut]
            assert f"p{len(stronger) * (1 if d > 0 else -1)}" in cells[t][1].split()
    assert "how the loss pulls at it" in look["page"].read_text()


def test_a_page_stays_below_two_megabytes(run, tmp_path):
    row = rows_of(run)[0]
    long = row | {"prompt_ids": row["prompt_ids"], "completion_ids": row["completion_ids"][:-1] * 60, "logps": {}}
    long["completion_ids"] = long["completion_ids"][:400]
    look = show(copy_of(run, tmp_path / "run", *[long] * 40))
    said = [token["said"] for attempt in look["attempts"] for token in attempt["tokens"]]
    assert sum(map(len, said)) <= models.MOST and len(look["attempts"]) == 15
    assert look["page"].stat().st_size < 2e6
    assert models.spread([1, 2, 3, 4, 5], 2) == [2, 5] and models.spread([1, 2, 3], 0) == [3]
    assert models.spread([1, 2, 3], 3) == [1, 2, 3]


def test_the_list_of_problems_says_what_was_proved_and_how_far_the_models_were_apart(run, tmp_path, capsys):
    one, other = rows_of(run)[:2]
    sure = {"student": [math.log(0.9)], "teacher": [math.log(0.1)]}
    rows = [one | {"status": "proved", "logps": {}}, other | {"step": 2, "logps": sure}, one | {"step": 3, "logps": {}}]
    show(copy_of(run, tmp_path / "run", *rows), text=True)
    lines = capsys.readouterr().out.splitlines()[1:3]
    assert [line.split() for line in lines] == [
        ["0.80", other["name"], "✗", "from", "step", "2"],
        ["0.00", one["name"], "✓✗", "from", "step", "1"],
    ]


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
    kinds = [attrs.get("type") for tag, attrs in page.tags]
    # Arrows walk in the two attempts and on the slider by themselves.
    assert kinds.count("radio") == 2 and kinds.count("range") == 1


def test_a_class_is_a_sign_and_a_difference_of_the_legend(run):
    for d, strength in {0.0199: 0, 0.021: 1, 0.099: 1, 0.11: 2, 0.29: 2, 0.31: 3, 0.59: 3, 0.61: 4, 1: 4}.items():
        assert layout.level(d) == strength and layout.level(-d) == -strength
    # Two tiny numbers, whatever their ratio, are no colour.
    assert layout.level(0.015 - 0.005) == 0
    legend = re.search(
        r'<div class="legend">(.*?)</div>', show(run)["page"].read_text(), re.DOTALL
    )[1]
    assert (
        re.sub(r"<[^>]*>", " ", legend).split()
        == "p teacher − p student −0.6 −0.3 −0.1 −0.02 0 +0.02 +0.1 +0.3 +0.6".split()
    )


def test_strength_and_sign_can_be_told_without_colour_and_text_can_be_read_in_the_dark(run):
    page = show(run)["page"].read_text()
    light, dark = page.split("@media screen and (prefers-color-scheme: dark)")
    rules = [dict(re.findall(r"^ *\.p(-?\d) \{(.*?)\}", part, re.M)) for part in (light, dark)]
    assert rules[0].keys() == rules[1].keys() == {str(n) for n in (-4, -3, -2, -1, 1, 2, 3, 4)}
    for n, rule in rules[0].items():
        side, width = re.search(r"border-(top|bottom): (\d)px", rule).groups()
        assert (side, int(width)) == ("top" if int(n) > 0 else "bottom", abs(int(n)) + 1)

    def luminance(colour):  # WCAG 2.1
        values = [
            int(c * (2 if len(colour) == 4 else 1), 16) / 255
            for c in re.findall("." * (len(colour) // 3), colour[1:])
        ]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for rule in [*rules[0].values(), *rules[1].values()]:
        back, ink = (
            luminance(re.search(rf"(?:^|\s){name}: (#\w+)", rule)[1])
            for name in ("background", "color")
        )
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) >= 4.5, rule


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
    # A vocabulary with such a token: it must not end the script that holds it.
    look["attempts"][0]["tokens"][0]["text"] = evil
    page = Page(pages.render("page.html", look))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert json.loads(page.scripts[0])[0][0]["text"] == evil
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
    strong = [token for token in attempt["tokens"] if abs(token["d"]) >= 0.1]
    assert strong
    for token in strong:
        sign = "+" if token["d"] > 0 else "-"
        if abs(token["d"]) >= 0.3:
            sign = "▲" if token["d"] > 0 else "▼"
        assert f"  {sign} {token['d']:+.2f}  " in printed
        for role, said in zip(("student", "teacher"), token["said"][attempt["own"]]):
            assert f"    {role} {said['p']:.3f}   of" in printed
    colourful = pages.render("terminal.txt", look, colour=True)
    assert "\033[" in colourful
    assert re.sub(r"\033\[[\d;]*m", "", colourful) == pages.render("terminal.txt", look)


def test_every_sign_stands_below_its_token(run):
    look = show(run, rows_of(run)[0]["name"], text=True)
    printed = pages.render("terminal.txt", look).split("=== step ")[1].splitlines()[1:]
    attempt = look["attempts"][0]
    at = 0
    for number, cells in enumerate(attempt["lines"], 1):
        text = "".join(text for text, _, _ in cells)
        at = printed.index(f"{number:5} | {text}", at)
        signs = ""
        for shown, t, _ in cells:
            d = 0 if t is None else attempt["tokens"][t]["d"]
            sign = "▲" if abs(d) >= 0.3 else "+" if abs(d) >= 0.02 else " "
            signs += (sign if d > 0 else {"▲": "▼", "+": "-"}.get(sign, " ")) * len(shown)
        if signs.strip():
            assert printed[at + 1] == f"      | {signs.rstrip()}"
        for text, _, marks in cells:
            for n in marks:
                assert f"^ {attempt['messages'][n]['severity']}: " in "\n".join(printed[at:])


def test_without_a_name_the_problem_with_the_largest_differences_is_shown_and_the_others_are_named(
    run, capsys
):
    rows = rows_of(run)
    look = show(run)
    assert look["problem"] == max(rows, key=models.difference)["name"]
    printed = capsys.readouterr().out
    assert all(row["name"] in printed for row in rows) and str(look["page"]) in printed


def test_an_attempt_without_feedback_is_shown_as_one_that_taught_nothing(run, tmp_path):
    row = rows_of(run)[0] | {"feedback": None, "status": "timeout", "messages": [], "logps": {}}
    look = show(copy_of(run, tmp_path / "run", row))
    assert all(token["d"] == 0 for token in look["attempts"][0]["tokens"])  # one model, one prompt
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


def test_a_run_that_started_from_another_offers_only_the_steps_it_knows(run, tmp_path):
    folder = copy_of(run, tmp_path / "run", rows_of(run)[-1])
    config = json.loads((folder / "config.json").read_text()) | {"init": "out/fd"}
    (folder / "config.json").write_text(json.dumps(config))
    look = show(folder)
    assert sorted(look["attempts"][0]["tokens"][0]["said"]) == [2, 3]


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
    process = programs.run("eval.py", "--show", run, "--problem", "nope")
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("eval.py: --problem nope: ")
    command = "import sys, train, eval; print(sorted({'extras.heatmap', 'matplotlib'} & set(sys.modules)))"
    assert programs.run("-c", command).stdout == "[]\n"
