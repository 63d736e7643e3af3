"""eval.py --endpoint: a model behind HTTP, played by a real server of the standard library.

Its proofs are judged by real Lean.
"""

import json
import math
import re
import socket
import threading

import pytest

import eval as evaluation
from extras import served
from feedback import make_feedback
from lean_env import LeanEnv, Theorem
from tests.servers import Local, Quiet

PROOFS = {
    "a": "by\n  intro h\n  exact h",
    "b": "by\n  intro h k\n  exact h",
    "c": "by\n  intro h\n  exact h.left",
    "d": "by\n  intro h\n  exact Or.inl h",
}
THEOREMS = [
    Theorem(name, f"theorem {name} {rest}", None, PROOFS[name])
    for name, rest in {
        "a": "(p : Prop) : p → p",
        "b": "(p q : Prop) : p → q → p",
        "c": "(p q : Prop) : p ∧ q → p",
        "d": "(p q : Prop) : p → p ∨ q",
    }.items()
]


class Server(Local):
    """answer(path, body) -> (status, JSON or text). Keeps what was asked."""

    def __init__(self, answer):
        self.asked, lock = [], threading.Lock()

        class Handler(Quiet):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.asked.append((handler.path, body))
                status, reply = answer(handler.path, body)
                data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                handler.reply(data, status)

        super().__init__(Handler)


def completion(text, finish="stop", tokens=7):
    return 200, {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "finish_reason": finish}],
        "usage": {"completion_tokens": tokens},
    }


def chat(text, finish="stop", tokens=7):
    return 200, {
        "object": "chat.completion",
        "usage": {"completion_tokens": tokens},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
            }
        ],
    }


def name_of(body):
    """Which theorem the prompt is about; "" for the first request, which only tries the server."""
    text = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
    return next(iter(re.findall(r"theorem (\w)\b", text)), "")


@pytest.fixture(autouse=True)
def no_proxy_and_no_key(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def env():
    return LeanEnv()


def connect(server, style, **options):
    return served.connect(
        server.url, "prover", style, 50, **{"timeout": 5.0, "backoff": 0.01, **options}
    )


def test_raw_and_chat_models_are_asked_in_their_format_and_judged_by_lean(env):
    raw = {
        "": "",
        "a": "  intro h\n  exact h",
        "b": "  intro h k\n  exact k",
        "c": "  intro h\n  exact h.left\n",
        "d": "  sorry",
    }
    with Server(lambda path, body: completion(raw[name_of(body)])) as server:
        rollouts = connect(server, "fence")(None, env, THEOREMS, 50, None)
        assert [r.verdict.status for r in rollouts] == ["proved", "rejected", "proved", "cheat"]
    assert {path for path, _ in server.asked} == {"/v1/completions"} and len(server.asked) == 5
    body = next(body for _, body in server.asked if name_of(body) == "a")
    assert (
        body["prompt"]
        == "Complete the following Lean 4 code:\n\n```lean4\ntheorem a (p : Prop) : p → p := by\n"
    )
    assert body | {"prompt": ""} == {
        "prompt": "",
        "model": "prover",
        "stream": False,
        "max_tokens": 50,
        "stop": ["```"],
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    answer = "<think>```lean4\nby simp\n```</think>\nSo:\n```lean4\n{} := {}\n```"
    whole = {t.name: answer.format(t.statement, t.proof) for t in THEOREMS}
    with Server(
        lambda path, body: chat(whole.get(name_of(body)))
    ) as server:  # null for the first, as of a cut thought
        assert [
            r.verdict.status for r in connect(server, "auto")(None, env, THEOREMS, 50, None)
        ] == ["proved"] * 4
    assert {path for path, _ in server.asked} == {
        "/v1/chat/completions"
    } and "stop" not in server.asked[-1][1]


def test_a_request_that_failed_is_left_out_and_never_counted_as_wrong(env):
    def answer(path, body):
        name = name_of(body)
        if name in ("b", "d"):
            return (
                (400, {"error": {"message": "too long"}})
                if name == "b"
                else completion("  exact h", "abort")
            )
        return (
            completion("  exact h", "length", tokens=11)
            if name == "c"
            else completion("  intro h\n  exact h", tokens=10)
        )

    with Server(answer) as server:
        result = evaluation.evaluate(None, env, THEOREMS, samples=2, attempt=connect(server, "plain"))
    # of 4 theorems x 2 attempts 4 failed; a is proved twice, c never
    assert result["left_out"] == 4 and result["pass@1"] == 0.5 and result["pass@2"] == 0.5
    assert (
        result["length"] == 10.5
        and result["cut"] == 0.5
        and math.isnan(result["entropy"])
        and result["tactics"] == 2
    )


def test_a_server_that_tells_no_token_counts_leaves_length_and_cut_unknown(env):
    with Server(
        lambda path, body: (
            200,
            {"choices": [{"text": "  intro h\n  exact h", "finish_reason": "stop"}]},
        )
    ) as server:
        result = evaluation.evaluate(None, env, THEOREMS[:1], attempt=connect(server, "plain"))
    assert (
        result["pass@1"] == 1.0
        and result["left_out"] == 0
        and math.isnan(result["length"])
        and math.isnan(result["cut"])
    )


def test_what_counts_with_feedback_is_the_attempt_that_has_read_it(env):
    def answer(path, body):
        told = "/- 1. Use `intro h`" in body.get("prompt", "")
        return completion("  intro h\n  exact h" if told else "  exact k")

    with Server(answer) as server:
        roll_out, source = connect(server, "plain"), make_feedback(
            "const:1. Use `intro h` </s> -/."
        )
        assert evaluation.evaluate(None, env, THEOREMS[:1], source=source, attempt=roll_out)["pass@1"] == 1.0
        assert evaluation.evaluate(None, env, THEOREMS[:1], attempt=roll_out)["pass@1"] == 0.0
    told = next(body["prompt"] for _, body in server.asked if "Use" in body["prompt"])
    assert (
        "</s>" not in told and told.count("-/") == 1
    )  # no tokenizer is at hand, so whatever may be a special token is broken up


def test_a_model_trained_on_raw_completions_is_known_by_its_name():
    with Server(
        lambda path, body: completion("") if path.endswith("/v1/completions") else chat("")
    ) as server:
        for name in (
            "deepseek-ai/DeepSeek-Prover-V1.5-RL",
            "deepseek-prover-1.5b",
            "Goedel-LM/Goedel-Prover-SFT",
            "Goedel-LM/Goedel-Prover-V2-8B",
        ):
            served.connect(server.url + "/v1/", name, "auto", 50)
    assert [path for path, _ in server.asked] == ["/v1/completions"] * 3 + [
        "/v1/chat/completions"
    ]


def test_a_server_that_cannot_be_reached_or_lacks_the_model_is_told_in_one_line_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SystemExit) as error:
        served.connect(url, "prover", "chat", 50, backoff=0.01)
    assert (
        url in str(error.value)
        and "Does the server run" in str(error.value)
        and "\n" not in str(error.value)
    )
    with Server(
        lambda path, body: (404, {"error": {"message": "The model `prover` does not exist."}})
    ) as server:
        with pytest.raises(SystemExit, match="prover at .*HTTP 404.*does not exist"):
            connect(server, "chat")
    assert len(server.asked) == 1
    for bad in ("localhost:8000", "ftp://host", "http://me:hunter2@host/v1"):
        with pytest.raises(ValueError, match="--endpoint: write http://HOST:PORT/v1") as error:
            served.connect(bad, "prover", "chat", 50)
        assert "hunter2" not in str(error.value)


def test_a_server_that_fails_on_most_requests_stops_the_evaluation(env):
    with Server(lambda path, body: (400, "no") if name_of(body) else completion("")) as server:
        roll_out = connect(server, "plain", max_parallel=2)
        with pytest.raises(SystemExit, match="HTTP 400"):
            roll_out(None, env, THEOREMS * 10, 50, None)
    assert len(server.asked) < 20


def test_the_command_prints_the_table_and_writes_eval_json(tmp_path, capsys):
    data = tmp_path / "some.jsonl"
    data.write_text(
        "".join(json.dumps({"name": t.name, "statement": t.statement}) + "\n" for t in THEOREMS)
    )
    with Server(
        lambda path, body: chat("```lean4\n" + PROOFS.get(name_of(body), "") + "\n```")
    ) as server:
        evaluation.main(
            evaluation.Config(
                model="prover",
                endpoint=server.url,
                data=str(data),
                samples=2,
                out=str(tmp_path / "out"),
            )
        )
    assert [body["max_tokens"] for _, body in server.asked[:2]] == [1, 2048] and len(
        server.asked
    ) == 9
    printed = capsys.readouterr().out
    assert (
        re.search(r"^prover +1\.000 +1\.000 .* nan ", printed, re.MULTILINE)
        and f"{server.url}/v1, prompt style chat" in printed
    )
    assert json.loads((tmp_path / "out" / "eval.json").read_text())["prover"]["pass@2"] == 1.0
    with pytest.raises(ValueError, match="--endpoint URL --model NAME"):
        evaluation.main(evaluation.Config(endpoint="http://localhost:1"))
