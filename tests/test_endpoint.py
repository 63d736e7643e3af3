"""extras/endpoint.py against what servers really send: a server of the standard library in a thread, which may break every rule."""
import json
import math
import multiprocessing
import os
import socket
import threading
import time

import pytest
import torch
import torch.distributed as dist

import train
from extras import ranks, runs, served
from extras.endpoint import Endpoint
from feedback import build_prompt, clean_answer, instruction, make_feedback, prompt_text
from lean_env import LeanEnv, Rollout, Theorem, Verdict
from tests.servers import Local, Quiet

ID = Theorem("a", "theorem a (p : Prop) : p → p", None, "by\n  intro h\n  exact h")


def rollout(text="  exact k", **fields):
    return Rollout(ID, [], [], [], Verdict("rejected"), None, True, text, **fields)


class Server(Local):
    """answer(handler, number, body) writes to the handler's connection, or returns what a JSON reply holds, or (status, that)."""

    def __init__(self, answer, port=0):
        self.asked, self.headers, lock = [], [], threading.Lock()

        class Handler(Quiet):
            protocol_version = "HTTP/1.1"  # keeps its connections where the client wants to

            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    number = len(self.asked)
                    self.asked.append(body)
                    self.headers.append(dict(handler.headers))
                try:
                    reply = answer(handler, number, body)
                    if reply is None:
                        handler.close_connection = True
                        return
                    status, reply = reply if isinstance(reply, tuple) else (200, reply)
                    handler.reply(reply if isinstance(reply, bytes) else json.dumps(reply).encode(), status)
                except OSError:
                    pass  # the client did not wait

        super().__init__(Handler, port)


def reply(content, reason="stop", tokens=7, **message):
    """In all three formats at once."""
    return {"message": {"content": content, **message}, "done_reason": reason, "eval_count": tokens,
            "choices": [{"message": {"content": content, **message}, "finish_reason": reason}], "usage": {"completion_tokens": tokens}}


@pytest.fixture(autouse=True)
def no_proxy_and_no_key(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def source(server, kind="openai", **options):
    return make_feedback(f"{kind}:m@{server.url}", **{"timeout": 5.0, "backoff": 0.01, **options})


def chat(server, **options):
    return served.connect(server.url, "m", "chat", 50, **{"timeout": 5.0, "backoff": 0.01, **options})


def ask(server, *texts, kind="openai", **options):
    """The answers as they come, and the last failure."""
    endpoint = Endpoint(kind, "m", server.url, lambda answer: answer, **{"timeout": 5.0, "backoff": 0.01, **options})
    return endpoint(list(texts) or ["x"]), endpoint.trouble


@pytest.fixture(scope="module")
def env():
    return LeanEnv()


# --- what a reply may hold


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_an_answer_that_stands_in_the_thinking_is_a_failure_with_a_name_and_no_wrong_proof(env, capsys, name):
    proof = f"```lean4\n{ID.statement} := {ID.proof}\n```"
    with Server(lambda *_: reply(None, **{name: proof})) as server:
        attempt = chat(server)
        (one,) = attempt(None, env, [ID], 50, None)
        assert one.verdict.status == "crash" and one.completion_ids == []
        assert "1 of 1 requests to m failed: empty `content` after 7 tokens; if it stands in `reasoning_content`" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="no answer from m at .*empty `content` after 7 tokens"):
            attempt(None, env, [ID] * 8, 50, None)


def test_an_attempt_that_was_cut_while_it_thought_is_an_attempt_and_said_to_be_one(env, capsys):
    with Server(lambda *_: reply(None, "length", 50, reasoning_content="hm")) as server:
        (one,) = chat(server)(None, env, [ID], 50, None)
    assert one.verdict.status == "rejected" and not one.finished and len(one.completion_ids) == 50
    assert "1 of 1 answers were empty or cut while thinking" in capsys.readouterr().out


def test_content_in_parts_is_the_text_of_its_parts(env):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "```lean4\n"},
             {"type": "text", "text": f"{ID.statement} := {ID.proof}\n```"}]
    with Server(lambda *_: reply(parts)) as server:
        (one,) = chat(server)(None, env, [ID], 50, None)
        assert one.verdict.status == "proved" and one.text.startswith("```lean4\ntheorem")


@pytest.mark.parametrize("tokens, count", [
    (None, 0), (7.0, 7), (-3, 0), ("7", 0), ([7], 0), (10**12, 0), (10**8, 50), (math.nan, 0), (math.inf, 0), (int("9" * 400), 0)])
def test_counts_of_tokens_that_are_none_are_unknown_and_none_is_above_the_limit(env, tokens, count):
    with Server(lambda *_: reply("no proof", tokens=tokens)) as server:
        (one,) = chat(server)(None, env, [ID], 50, None)
    assert one.verdict.status == "rejected" and len(one.completion_ids) == len(one.sampled) == count


SHAPES = [None, 0, True, "", "x", [], {}, [None], [[]], ["x"], [{}], {"content": 3}, {"text": 3}, {"message": None}, {"content": [3]},
          {"content": [{"type": "text"}]}, {"content": {"text": "x"}}, {"content": [{"type": "text", "text": 3}]}]


def test_any_json_ends_as_an_answer_or_as_a_failure_with_a_name():
    replies = [*SHAPES]
    for shape in SHAPES:
        replies += [{"choices": shape}, {"message": shape}, {"choices": [shape]}, {"choices": [{"message": shape}]},
                    reply("x") | {"usage": shape, "eval_count": shape}, reply(shape), reply("x", shape)]
    data = [json.dumps(one).encode() for one in replies]
    data += [b"", b"\x00", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"NaN"]
    for kind in ("openai", "ollama", "raw"):
        with Server(lambda handler, number, body: data[int(body.get("prompt") or body["messages"][0]["content"])]) as server:
            endpoint = Endpoint(kind, "m", server.url, lambda answer: answer, timeout=5.0, backoff=0.01)
            endpoint.choices = endpoint.choices[:1]
            for number in range(len(data)):
                (answer,) = endpoint([str(number)], least=10**6)
                assert type(answer.text) is str and type(answer.tokens) is int if answer else "HTTP 200" in endpoint.trouble
        assert len(server.asked) == len(data)  # none is asked for twice


@pytest.mark.parametrize("reason", ["stop", "eos", "end_turn", "eos_token", "", None, "stop_sequence", "COMPLETE", 3, {"type": "stop"}, "missing"])
def test_whatever_ends_an_answer_normally_makes_it_finished(env, reason):
    whole = reply(f"```lean4\n{ID.statement} := {ID.proof}\n```", reason)
    if reason == "missing":
        del whole["choices"][0]["finish_reason"]
    with Server(lambda *_: whole) as server:
        (one,) = chat(server)(None, env, [ID], 50, None)
        assert one.verdict.status == "proved" and one.finished
        assert source(server).write([rollout()])[0].endswith("```")


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_an_answer_cut_by_a_limit_is_not_finished_and_its_last_item_not_used(env, reason):
    with Server(lambda *_: reply("1. Use `a`.\n2. Use", reason)) as server:
        assert not chat(server)(None, env, [ID], 50, None)[0].finished
        for kind in ("openai", "ollama"):
            assert source(server, kind).write([rollout()]) == ["1. Use `a`."]


@pytest.mark.parametrize("reason", ["abort", "content_filter", "error", "SAFETY"])
def test_a_server_that_gives_up_is_named_as_that_and_not_as_a_server_that_does_not_run(reason):
    with Server(lambda *_: reply("1. Use `a`.", reason)) as server, pytest.raises(SystemExit) as error:
        source(server).ping()
    assert f"the server gave up ({reason.lower()})" in str(error.value) and "Does the server run" not in str(error.value)


def test_an_answer_that_thinking_used_up_is_told_as_that():
    with Server(lambda *_: reply("", "length", 1024, thinking="hm")) as server:
        told = source(server, "ollama")
        told.ping()  # a ping wants no advice: any answer will do, a short one at that
        assert server.asked[0]["options"]["num_predict"] == 16
        assert told.write([rollout()]) == [None] and server.asked[1]["options"]["num_predict"] == 1024
    trouble = told.endpoint.trouble
    assert "cut at 1024 tokens, before any advice" in trouble and "ollama-think:MODEL" in trouble
    assert "Does the server run" not in trouble


# --- text


@pytest.mark.parametrize("text", ["\u200b\u200d\ufeff", "\x00\x00", "```", "```lean4\n```", "\u2060\n```\n\u3164", "---", "1.", "\ud83d", "\x1b[", "…", "\U000e0041"])
def test_what_nobody_can_read_is_no_feedback(text):
    assert clean_answer(text) is None
    with Server(lambda *_: reply(text)) as server:
        told = source(server)
        assert told.write([rollout()]) == [None] and told.failures == 1 and "without a word" in told.endpoint.trouble


def test_no_half_character_no_control_code_and_no_invisible_one_is_left_in_the_advice():
    text = "1. Use \ud83d `a`\x1b[2J\x9b2J\r\n\x00\u200b2.\u202e Use\u2028`∀`.\tNo\ufeff more \U0001f600."
    with Server(lambda *_: reply(text)) as server:
        assert source(server).write([rollout()]) == ["1. Use  `a`[2J2J\n2. Use`∀`.\tNo more \U0001f600."]


def test_an_attempt_keeps_its_place_where_a_control_code_stood(env, capsys):
    with Server(lambda *_: reply("```lean4\ntheorem a (p : Prop) : p → p := by\n  intro h\x1b[31m\n  exact h -- \ud800\n```")) as server:
        (one,) = chat(server)(None, env, [ID], 50, None)
    assert one.text.count("\ufffd") == 2 and "\x1b" not in one.text and one.verdict.status == "rejected"


def test_what_a_server_says_reaches_the_terminal_without_control_codes_and_without_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    with Server(lambda *_: (404, b"\x1b]0;owned\x07\x9b no sk-secret-1234 \xff\x00 here")) as server, pytest.raises(SystemExit) as error:
        source(server).ping()
    message = str(error.value)
    assert "HTTP 404" in message and "here" in message and "Does the server run" in message
    assert message.isprintable() and "sk-secret" not in message
    with Server(lambda *_: reply("1. Use sk-secret-1234.")) as server:
        assert source(server).write([rollout()]) == ["1. Use ***."]


def test_text_that_repeats_without_end_is_read_in_linear_time_and_cut():
    """Each of these took a quadratic pattern minutes to days."""
    for text in ("\n" * 10**6, "1. a" + "\n" * 10**6 + "2. b", "1. a" + " \n" * 400_000 + "x", "`" * 10**6 + "a"):
        for cut in (False, True):
            told = clean_answer(text, cut)
            assert told is None or len(told) <= 4000
    assert clean_answer("1. a" + "\n" * 10**6 + "2. b", cut=True) == "1. a"
    assert len(clean_answer("word " * 10**6)) <= 4000
    assert prompt_text(ID, "`" * 10**6, "chat").count("```") == 2

    class Words:  # a tokenizer of characters
        chat_template, eos_token_id, added_tokens_decoder = None, -1, {}

        def __call__(self, text, **_):
            return {"input_ids": list(map(ord, text))}
    assert len(build_prompt(Words(), ID, "a" + "\n" * 10**6)) == len(build_prompt(Words(), ID, "a"))


def test_no_more_is_read_than_an_answer_can_be_long():
    def flood(handler, *_):
        handler.send_response(200)
        handler.end_headers()
        for sent in range(200):
            flood.sent = sent
            handler.wfile.write(b" " * 10**6)
    with Server(flood) as server:
        (answer,), trouble = ask(server)
        assert answer is None and trouble
    assert flood.sent < 30


# --- time


def test_a_dripping_answer_ends_with_the_time_of_an_answer_and_dripping_headers_with_that_of_a_question():
    def drip_body(handler, *_):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(600):
            handler.wfile.write(b" ")
            time.sleep(0.02)

    def drip_headers(handler, *_):
        for _ in range(600):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.02)

    for drip in (drip_body, drip_headers):
        with Server(drip) as server:
            start = time.monotonic()
            (answer,), trouble = ask(server, timeout=0.3)
            assert answer is None and ("no answer in time (0.3 s)" in trouble or "hangs" in trouble)
            assert time.monotonic() - start < 5 and len(server.asked) <= 2


def test_a_pause_longer_than_a_question_may_take_is_not_waited_for_and_is_named():
    with Server(lambda handler, *_: handler.reply(b"later", 429, **{"Retry-After": "3600"})) as server:
        start = time.monotonic()
        (answer,), trouble = ask(server)
    assert answer is None and "HTTP 429 later (it wants a pause of 3600 s)" in trouble
    assert time.monotonic() - start < 4 and len(server.asked) == 1


def test_an_outage_is_waited_for_and_what_comes_after_it_is_used():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = make_feedback(f"openai:m@http://127.0.0.1:{port}", timeout=20.0, backoff=0.05)
    texts = []
    asking = threading.Thread(target=lambda: texts.extend(told.write([rollout()] * 9)))
    asking.start()
    time.sleep(0.7)  # four tries by now
    with Server(lambda *_: reply("1. Use `a`."), port):
        asking.join(30)
    assert texts == ["1. Use `a`."] * 9


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_gets_nine_tries(status):
    with Server(lambda *_: (status, b"busy")) as server:
        assert ask(server, backoff=0.001)[0] == [None]
    assert len(server.asked) == 9


def test_a_long_wait_is_told(capsys):
    waits = []

    class Result:  # what a pool returns: the clock is turned, not waited for
        def get(self, seconds):
            waits.append(seconds)
            raise multiprocessing.TimeoutError
    endpoint = Endpoint("openai", "m", "http://h", None, timeout=100.0)
    assert "hangs" in str(endpoint.wait(Result()))
    assert waits == [30, 60, 111] and sum(waits) == 2 * 100 + 1
    assert capsys.readouterr().out.count("waiting for m at http://h/chat/completions") == 3


# --- connections, keys, fields


def test_a_second_reply_on_a_connection_belongs_to_nobody():
    def twice(handler, number, body):
        text = body["messages"][0]["content"]
        handler.reply(json.dumps(reply(text)).encode())
        time.sleep(0.05)  # the next question is on its way
        handler.reply(json.dumps(reply(f"another's, not {text}")).encode())
        handler.close_connection = False  # it would go on

    with Server(twice) as server:
        texts = [f"question {i}" for i in range(20)]
        answers, _ = ask(server, *texts, max_parallel=1)
        assert [answer.text for answer in answers] == texts


def test_a_password_in_netrc_is_not_sent_and_a_proxy_of_the_environment_is_used(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\ndefault login me password hunter2\n")
    os.chmod(netrc, 0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Server(lambda *_: reply("1. Use `a`.")) as server:
        for key in ("", "sk-secret-1234"):
            monkeypatch.setenv("OPENAI_API_KEY", key)
            for kind in ("openai", "ollama"):
                assert source(server, kind).write([rollout()]) == ["1. Use `a`."]
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("http_proxy", server.url)
        assert make_feedback("ollama:m@http://elsewhere.invalid").write([rollout()]) == ["1. Use `a`."]
    sent = [headers.get("Authorization") for headers in server.headers]
    assert sent == [None, None, "Bearer sk-secret-1234", None, None]


def strict(*refused):
    """A server that refuses fields, as `transformers serve` does."""
    def answer(handler, number, body):
        unexpected = set(refused) & body.keys()
        return (422, {"detail": f"Unexpected fields in the request: {unexpected}"}) if unexpected else reply("1. Use `a`.")
    return answer


def test_fields_that_a_server_refuses_are_left_out_and_that_is_said_once(env, capsys):
    with Server(strict("top_k", "min_p", "repetition_penalty")) as server:
        chat(server)(None, env, [ID] * 3, 50, None)
    said = capsys.readouterr().out
    assert said.count(" refused ") == 1 and all(name in said for name in ("top_k", "min_p", "repetition_penalty"))
    assert len(server.asked) == 5  # two to find out
    for body in server.asked[1:]:
        assert body.keys() == {"model", "stream", "temperature", "top_p", "max_tokens", "messages"}
    assert [body["max_tokens"] for body in server.asked] == [1, 1, 50, 50, 50]


def test_a_model_that_wants_another_name_for_the_limit_gets_it():
    with Server(strict("chat_template_kwargs", "max_tokens")) as server:
        told = source(server)
        told.ping()
        assert told.write([rollout()]) == ["1. Use `a`."]
    assert server.asked[-1].keys() == {"model", "stream", "messages", "max_completion_tokens"} and len(server.asked) == 4


def test_a_refusal_after_a_first_answer_is_a_failure_of_its_question_alone(capsys):
    with Server(lambda handler, number, body: (400, b"too long") if number == 1 else reply("1. Use `a`.")) as server:
        assert source(server, max_parallel=1).write([rollout()] * 3) == ["1. Use `a`.", None, "1. Use `a`."]
    assert [len(body) for body in server.asked] == [5] * 3  # nothing is left out
    assert "1 of 3 requests to m failed: HTTP 400 too long" in capsys.readouterr().out.replace("(", "")


def test_advice_is_bounded_and_thinks_only_where_it_is_asked_to():
    with Server(lambda *_: reply("1. Use `a`.")) as server:
        for kind in ("openai", "openai-think", "ollama", "ollama-think"):
            assert source(server, kind).write([rollout("x" * 20_000)]) == ["1. Use `a`."]
    plain, thinks, local, local_thinks = server.asked
    assert plain["max_tokens"] == 1024 and plain["chat_template_kwargs"] == {"enable_thinking": False}
    assert thinks["max_tokens"] == 8192 and thinks["chat_template_kwargs"] == {"enable_thinking": True}
    assert (local["think"], local["options"]["num_predict"]) == (False, 1024) and "max_tokens" not in local
    assert (local_thinks["think"], local_thinks["options"]["num_predict"]) == (True, 8192)
    assert local_thinks["options"]["num_ctx"] >= 20_000 // 2 + 8192


# --- a step of training


def test_a_step_without_any_feedback_stops_the_run_and_one_with_some_counts_its_tokens(tmp_path):
    small = dict(prompts_per_step=2, eval_every=0, lora_rank=4, max_new_tokens=16, steps=3)

    def answer(handler, number, body):  # the ping, then a step of two
        return reply("1. Use `a`.", tokens=5) if number < 2 else reply("\u200b")
    with Server(answer) as server:
        out = str(tmp_path / "run")
        with pytest.raises(RuntimeError, match="0 of 2 attempts of step 2.*does not count.*saved: --resume"):
            train.train(train.Config(feedback=f"openai:m@{server.url}", out=out, **small))
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert line["step"] == 1 and line["feedback"] == 0.5 and line["feedback_tokens"] == 5 + 7
    assert (tmp_path / "run" / "ckpt" / "state.pt").is_file()


def one_of_two(rank, folder, url):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks.RANK, ranks.WORLD = rank, 2  # as torchrun tells them
    told = make_feedback(f"openai:m@{url}", timeout=5.0, backoff=0.01)
    ends = []
    for step, texts in enumerate((["good", "bad"], ["bad", "good"][rank:rank + 1] * 8, ["bad"])):
        try:
            ends.append(runs.tell(told, [rollout(text) for text in texts], step))
        except RuntimeError as error:
            ends.append(str(error))
    torch.save(ends, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_stop_together_when_one_has_given_up_or_nobody_got_feedback(tmp_path):
    def answer(handler, number, body):
        return (404, b"no") if "# Attempt\nbad" in body["messages"][0]["content"] else reply("1. Use `a`.", tokens=5)
    with Server(answer) as server:
        torch.multiprocessing.start_processes(one_of_two, (tmp_path, server.url), nprocs=2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first[0] == second[0] == {"feedback": 0.5, "feedback_tokens": 10}
    assert "feedback for only 8 of 16 attempts of step 1: no answer from m" in first[1]  # it gave up
    assert "feedback for only 8 of 16 attempts of step 1. The step" in second[1]  # and stops the other
    assert all("feedback for only 0 of 2 attempts of step 2" in ends[2] for ends in (first, second))


def test_self_outside_of_training_says_who_has_it():
    with pytest.raises(ValueError, match="self needs a policy in training, which train.py alone has"):
        make_feedback("self")


def test_the_request_says_what_lines_count_in_for_a_term_and_for_a_file():
    for one in (rollout(), rollout(file="import Mathlib\n", conversation="...")):
        assert "# Lean's output (line 1 starts the theorem or, of a whole file, the file)" in instruction(one)
