"""The commands that the pages show, run: small, in an order in which one finds what another has made."""

import re
import shutil
from pathlib import Path

import tyro

import eval as evaluation
import train
from tests.test_house import ALL_PAGES, commands_of

ROOT = Path(__file__).resolve().parent.parent
# What cannot run here: other provers, a server, a Lake project; and what stands for something else.
ELSEWHERE = re.compile(r"deepseek|ollama|openai|http|[A-Z]{4}")
TRAIN = "--steps 1 --prompts-per-step 2 --eval-every 0 --lora-rank 4 --max-new-tokens 24".split()
EVAL = "--samples 1 --data few.jsonl --split test".split()


def shown():
    """(script, flags) of every page, each once; what others need comes before them."""
    found = {(script, " ".join(flags)) for page in ALL_PAGES for script, flags in commands_of(page)}
    found = [command for command in found if not ELSEWHERE.search(command[1])]

    def place(command):
        script, flags = command
        return script != "train", "--init" in flags, flags not in ("", "--resume"), flags

    return sorted(found, key=place)


def test_every_command_of_the_pages_that_can_run_here_runs(tmp_path, monkeypatch, capsys):
    few = (ROOT / "toy" / "test.jsonl").read_text().splitlines(True)[:2]
    (tmp_path / "few.jsonl").write_text("".join(few))
    (tmp_path / "hints.py").write_text("def first_line(rollout):\n    return 'Write `intro`.'\n")
    monkeypatch.chdir(tmp_path)
    done = []
    for script, flags in shown():
        words = flags.split()
        if "out/after" in words:  # the page's run with another loss
            shutil.copytree("out/before", "out/after", dirs_exist_ok=True)
        if script == "train":
            train.main([*words, *TRAIN])
        else:
            small = EVAL if {"--show", "--watch"}.isdisjoint(words) else []
            evaluation.main(tyro.cli(evaluation.Config, args=[*words, *small]))
        done.append(script)
    assert done.count("train") >= 9 and done.count("eval") >= 6, shown()
    assert {"fd", "grpo", "grpo_over_fd"} <= {path.name for path in Path("out").iterdir()}
