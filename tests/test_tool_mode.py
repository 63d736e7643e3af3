"""Tool mode end to end: calls inside one generation, tool output seen and not learnt.

The verdict is on what was written.
"""

import dataclasses

import pytest
import torch

import fd_mini
from data import load_theorems
from extras import prompts, runs, tool_mode
from extras.heatmap.models import prompts_of
from feedback import make_feedback, tutor
from lean_env import LeanEnv, Rollout, Theorem, Verdict

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def env():
    return LeanEnv()


@pytest.fixture(scope="module")
def policy():
    policy = fd_mini.Policy("tiny", rank=4)
    policy.tools = True
    return policy


def scripted(policy, monkeypatch, *turns):
    """Stands in for sampling alone: row i writes turns[t][i] in turn t.

    Up to where `stop` would have stopped it.
    """
    turns, stops = iter(turns), []

    def sample(policy, prompts, room, uniforms, stop):
        out = []
        for row, text in enumerate(next(turns)):
            ids = policy.tokenizer.encode(text, add_special_tokens=False)
            end = next((n for n in range(1, len(ids) + 1) if stop(row, ids[:n])), None)
            stops.append(end is not None)
            out.append(
                (ids[:end], False)
                if end
                else ((ids + [policy.tokenizer.eos_token_id])[:room], len(ids) < room)
            )
        return out

    monkeypatch.setattr(fd_mini, "sample", sample)
    return stops


NAT = Theorem(
    "t", "theorem t (a b : Nat) : a + b = b + a", None, "by\n  exact Nat.add_comm a b"
)


def test_a_search_is_answered_with_real_lines_that_no_loss_touches(policy, env, monkeypatch):
    stops = scripted(
        policy,
        monkeypatch,
        ["#rg add_comm\ngarbage that is never sampled", "  exact Nat.add_comm b a"],
        ["  exact Nat.add_comm a b"],
    )
    one, two = tool_mode.roll_out(policy, env, [NAT, NAT], 160, torch.Generator())
    assert stops == [True, False, False]
    assert (
        one.verdict.status == "proved"
        and two.verdict.status == "rejected"
        and one.finished
        and two.finished
    )
    assert one.text == "  exact Nat.add_comm a b" and "garbage" not in one.conversation
    assert "theorem Nat.add_comm (n m : Nat) : n + m = m + n" in one.conversation

    def text(flag):
        ids = zip(one.completion_ids, one.sampled)
        return policy.tokenizer.decode([i for i, sampled in ids if sampled is flag])

    assert (
        text(True).startswith("#rg add_comm\n  exact Nat.add_comm a b")
        and text(False).startswith("-- ")
        and "#rg" not in text(False)
    )
    assert all(two.sampled) and len(one.sampled) == len(one.completion_ids) <= 160


def test_a_written_file_that_proves_the_theorem_counts_without_a_final_answer(
    policy, env, monkeypatch
):
    scripted(
        policy,
        monkeypatch,
        ["#write a.lean\n" + f"{NAT.statement} := Nat.add_comm a b\n#end\n"],
        ["#compile a.lean\n"],
        [""],
    )
    (rollout,) = tool_mode.roll_out(policy, env, [NAT], 400, torch.Generator())
    assert rollout.verdict.status == "proved", rollout.conversation
    assert (
        "wrote a.lean" in rollout.conversation
        and "It compiles and proves the theorem." in rollout.conversation
    )
    assert (
        rollout.file == f"{NAT.statement} := Nat.add_comm a b\n"
        and rollout.proof == "Nat.add_comm a b"
    )
    rollout.theorem = dataclasses.replace(
        NAT, proof=None
    )  # then the feedback is about what was proved
    assert make_feedback("lean").write([rollout]) == [
        "An example of a correct solution:\nNat.add_comm a b"
    ]
    assert "Keep `exact Nat.add_comm a b`" in tutor(rollout)


def test_a_wrong_last_word_after_a_right_file_is_not_what_feedback_praises(
    policy, env, monkeypatch
):
    scripted(
        policy,
        monkeypatch,
        ["#write a.lean\n" + f"{NAT.statement} := Nat.add_comm a b\n#end\n"],
        ["  exact Nat.add_comm b a"],
    )
    (rollout,) = tool_mode.roll_out(policy, env, [NAT], 400, torch.Generator())
    assert (
        rollout.verdict.status == "proved" and rollout.proof == "Nat.add_comm a b"
    )


def test_tool_output_and_turns_are_limited(policy, env, monkeypatch):
    scripted(policy, monkeypatch, *[["#rg add\n"]] * 3)
    (rollout,) = tool_mode.roll_out(
        policy, env, [NAT], 60, torch.Generator()
    )  # the output of the first search fills it
    assert (
        len(rollout.completion_ids) == 60
        and not rollout.finished
        and rollout.verdict.status == "rejected"
    )
    monkeypatch.setattr(tool_mode, "TURNS", 2)
    scripted(policy, monkeypatch, *[["#compile b.lean\n"]] * 3)
    (rollout,) = tool_mode.roll_out(policy, env, [NAT], 300, torch.Generator())
    assert rollout.conversation.count(
        "there is no b.lean"
    ) == 2 and rollout.conversation.endswith("#compile b.lean\n"), "the third is not run"


def test_student_and_teacher_prompts_both_tell_of_the_tools_and_lean_does_not_mind(
    policy, env, monkeypatch
):
    scripted(policy, monkeypatch, ["  exact Nat.add_comm a b"])
    (rollout,) = tool_mode.roll_out(policy, env, [NAT], 80, torch.Generator())
    assert rollout.verdict.status == "proved" and policy.tokenizer.decode(
        rollout.prompt_ids
    ).startswith(prompts.BRIEF)
    equipped = prompts.equip(NAT, policy)
    assert prompts.equip(equipped, policy) == equipped, "twice is as good as once"


@pytest.mark.parametrize("style", ["plain", "fence", "chat"])
@pytest.mark.parametrize("header", [None, "open Nat\n"])
def test_what_is_recorded_of_an_attempt_is_the_theorems_own_header(
    policy, env, monkeypatch, style, header
):
    monkeypatch.setattr(policy, "style", style)
    template = "{{ messages[0]['content'] }}"  # it cannot tell of tools itself
    monkeypatch.setattr(policy.tokenizer, "chat_template", template)
    monkeypatch.setattr(policy, "max_positions", 2000)
    scripted(policy, monkeypatch, ["  exact Nat.add_comm a b"])
    theorem = dataclasses.replace(NAT, header=header)
    (rollout,) = tool_mode.roll_out(policy, env, [theorem], 80, torch.Generator())
    prompt = policy.tokenizer.decode(rollout.prompt_ids)
    assert "rg" in prompt.replace("arg", ""), prompt
    row = runs.record(1, rollout)
    assert row["header"] == header and row["status"] == "proved"
    # The heat map makes the prompts from the row, and the teacher reads of the tools, too.
    student, teacher = prompts_of(policy, {"max_new_tokens": 80, "tools": True}, row | {"feedback": "1. Stop."})
    assert student == rollout.prompt_ids
    assert "rg" in policy.tokenizer.decode(teacher).replace("arg", "")


def test_fd_in_tool_mode_learns_only_from_what_was_sampled(policy, env, monkeypatch):
    """The gradient with tool output masked equals that of the definition.

    That is a sum over sampled tokens alone.
    """
    scripted(policy, monkeypatch, ["#rg add_comm\n"], ["  exact Nat.add_comm a b"])
    (r,) = tool_mode.roll_out(policy, env, [NAT], 160, torch.Generator())
    (told,) = make_feedback("tutor").write([r])
    teacher_prompt = prompts.prompt_for(policy, r.theorem, told)
    policy.model.zero_grad(set_to_none=True)
    metrics = fd_mini.fd_backward(
        policy, [r.prompt_ids], [teacher_prompt], [r.completion_ids], [r.sampled]
    )
    assert metrics["tokens"] == sum(r.sampled) < len(r.completion_ids)
    grads = [p.grad.clone() for p in policy.student]
    policy.model.zero_grad(set_to_none=True)
    with torch.no_grad(), policy.act_as("teacher"):
        every = [[True] * len(r.completion_ids)]
        hidden, _ = policy.hidden([teacher_prompt], [r.completion_ids], every)
        ids, logps = fd_mini.teacher_topk(hidden, policy.head, 25)
    hidden, _ = policy.hidden([r.prompt_ids], [r.completion_ids], every)
    logits = hidden @ policy.head.T  # every token, tool output included
    losses = fd_mini.topk_cross_entropy(logits, ids, logps)
    sum(loss for loss, s in zip(losses, r.sampled) if s).div(sum(r.sampled)).backward()
    for grad, p in zip(grads, policy.student):
        torch.testing.assert_close(grad, p.grad, rtol=1e-4, atol=1e-6)


def test_the_tutor_orders_a_search_where_there_is_one():
    r = Rollout(NAT, [], [], [], Verdict("rejected"), None, True, "  exact nat.add_comm a b")
    assert "write `Nat.add_comm`, not `nat.add_comm`" in tutor(r).lower().replace(
        "nat.add_comm`, not", "Nat.add_comm`, not"
    )
    r.conversation = r.text
    assert tutor(r).startswith("1. Search `add_comm`.")


def test_lemmas_beside_the_theorem_in_a_final_answer_count(policy, env, monkeypatch):
    monkeypatch.setattr(policy, "style", "chat")
    monkeypatch.setattr(
        policy.tokenizer, "chat_template", "{{ messages[0]['content'] }}{# knows tools #}"
    )
    monkeypatch.setattr(policy.tokenizer, "tools", None, raising=False)
    helper = "private theorem helper (a b : Nat) : a + b = b + a := Nat.add_comm a b"
    block = f"{helper}\n{NAT.statement} := helper a b"
    scripted(
        policy,
        monkeypatch,
        [
            f"I say:\n```lean4\n{block}\n```\n",
            f"```lean4\n{NAT.statement} := Nat.add_comm a b\n```",
            f"```lean4\n{block} + 1\n```",
        ],
    )
    one, two, three = tool_mode.roll_out(policy, env, [NAT] * 3, 400, torch.Generator())
    assert [r.verdict.status for r in (one, two, three)] == ["proved", "proved", "rejected"]
    assert one.proof == block.replace("private", " " * 7) and two.proof == "Nat.add_comm a b" and "helper" in one.text


def test_a_template_that_knows_tools_tells_of_them_to_student_and_teacher(monkeypatch):
    policy = fd_mini.Policy("tiny", rank=4)
    policy.style = "chat"
    policy.tokenizer.chat_template = (
        "{% for t in tools or [] %}<{{ t['function']['name'] }}>{% endfor %}"
        "{{ messages[0]['content'] }}"
    )
    policy.tools = True
    assert prompts.equip(NAT, policy) == NAT
    for feedback in (None, "1. Use `exact h`."):
        text = policy.tokenizer.decode(prompts.prompt_for(policy, NAT, feedback))
        assert text.replace(" ", "").startswith(
            "<lean_write_file><lean_check_file><rg_in_mathlib>"
        ), text


def test_chat_models_get_their_own_call_format(policy, monkeypatch):
    monkeypatch.setattr(policy, "style", "chat")
    monkeypatch.setattr(policy.tokenizer, "chat_template", "{{ messages[0]['content'] }}")
    assert prompts.call_style(policy) == "json"
    monkeypatch.setattr(policy.tokenizer, "chat_template", "<tool_call><function=NAME>")
    assert prompts.call_style(policy) == "xml"
    theorem = load_theorems("toy", "test")[0]
    header = prompts.equip(theorem, policy).header
    assert (
        "lean_write_file" in header
        and "<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>"
        in header
    )
    mathlib = dataclasses.replace(theorem, header="import Mathlib\nimport Aesop\nopen Nat\n")
    before, told, after = prompts.equip(mathlib, policy).header.partition("/- Tools")
    assert (
        before == "import Mathlib\nimport Aesop\n" and told and after.endswith("-/\nopen Nat\n")
    )  # a server takes leading imports only


def test_after_a_call_a_row_goes_on_as_it_would_beside_other_rows(env):
    """Its random numbers belong to places in its own completion: which rows are left when it goes on, and how far these are,
    does not matter."""
    policy = fd_mini.Policy("toy/tiny_tools", rank=4)
    policy.tools = True
    theorems = load_theorems("toy", "test")
    told = ["1. Search `add_comm`."] * 4
    beside = [None, None, *told[2:]]  # the last two do as before; the others end without a call, or elsewhere
    first = tool_mode.roll_out(policy, env, theorems[:4], 120, torch.Generator(), told)
    second = tool_mode.roll_out(policy, env, [*theorems[8:10], *theorems[2:4]], 120, torch.Generator(), beside)
    called = [r for r in first[2:] if not all(r.sampled)]
    assert called and any(r.sampled[-1] for r in called), "what it wrote after the call is compared, too"
    assert [r.completion_ids for r in first[2:]] == [r.completion_ids for r in second[2:]]
    assert [r.completion_ids for r in first[:2]] != [r.completion_ids for r in second[:2]]


def test_a_row_ends_where_it_has_no_room_though_others_have(policy, env, monkeypatch):
    asked = []

    def sample(policy, prompts, room, uniforms, stop):
        asked.append((room, [stop(row, [5] * n) for row in (0, 1) for n in (3, 12)]))
        return [([5] * 3, False), ([5] * 12, False)]

    monkeypatch.setattr(fd_mini, "sample", sample)
    rollouts = [tool_mode.Attempt(NAT, [1], [5] * used, [True] * used, uniforms=torch.rand(20)) for used in (17, 8)]
    tool_mode.sample_turn(policy, rollouts, 20, may_call=True)
    assert asked == [(12, [True, None, None, True])]
    assert [len(r.completion_ids) for r in rollouts] == [20, 20]
