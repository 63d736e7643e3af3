"""`--feedback openai:MODEL@URL` and `eval.py --endpoint URL` against real OpenAI-compatible servers with a real chat model.

`transformers serve` refuses fields that it does not know and answers one request at a time; llama.cpp's server (xllamacpp) takes
them all and calls its only model by any name.
"""
import importlib.util
import json
import math

import pytest

import eval as evaluation
from extras import endpoint, provers
from fd_mini import sample
from feedback import make_feedback
from lean_env import LeanEnv, Rollout, Theorem, Verdict
from real_parts import SMOL, free_port, python, serving

THEOREM = Theorem("t", "theorem t (p : Prop) (hp : p) : p")
TRANSFORMERS = """
import sys
from transformers.cli.transformers import main
sys.argv = ["transformers", "serve", sys.argv[1], "--host", "127.0.0.1", "--port", sys.argv[2], "--device", "cpu", "--dtype", "float32"]
main()
"""
LLAMA_CPP = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_parallel, params.n_ctx, params.n_predict = sys.argv[1], int(sys.argv[2]), 2, 4096, 256
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
time.sleep(3600)
"""


@pytest.fixture(scope="module", params=["transformers serve", "llama.cpp"])
def server(request, smol, tmp_path_factory):
    """(its address, what it calls the model)."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    url = f"http://127.0.0.1:{port}"
    if request.param == "llama.cpp":
        if not importlib.util.find_spec("xllamacpp"):
            pytest.skip("the package xllamacpp is not installed (make test-real)")
        folder, file = SMOL.gguf()
        name, argv = "smollm2", python("-c", LLAMA_CPP, folder / file, port)
    else:
        if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "openai"))):
            pytest.skip("the packages fastapi, uvicorn and openai are not installed (make test-real)")
        name, argv = smol, python("-c", TRANSFORMERS, smol, port)
    with serving(argv, f"{url}/health", log):
        yield url, name


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_greedy_answer_is_the_models_own(server, smol):
    url, name = server
    ask = make_feedback(f"openai:{name}@{url}/v1").endpoint
    ask.fields["temperature"] = 0.0
    (answer,) = ask(["Hi"])
    assert answer.startswith("Hello")
    if name == smol:  # the other has four-bit weights
        policy = provers.load(smol, rank=1)
        prompt = policy.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)
        ((ids, _),) = sample(policy, [prompt], 60, temperature=0.0)
        assert answer == policy.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_it_gives_feedback(server):
    url, name = server
    source = make_feedback(f"openai:{name}@{url}/v1", style=1)
    source.endpoint.fields["temperature"] = 0.0  # at random so small a model writes on and on, now and then
    source.ping()
    verdict = LeanEnv(lean="wheel").check([(THEOREM, "by\n  exact q")])[0]
    assert verdict.status == "rejected"
    texts = source.write([Rollout(THEOREM, [], [], [], verdict, text="  exact q"), Rollout(THEOREM, [], [], [], Verdict("crash"))])
    # What was cut before its first advice is none.
    assert (texts[0] is None or texts[0].strip()) and texts[1] is None and source.failures == (texts[0] is None)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_its_attempts_are_judged_and_counted(server, style, tmp_path, request):
    url, name = server
    (tmp_path / "data.jsonl").write_text(json.dumps({"name": THEOREM.name, "statement": THEOREM.statement, "header": ""}) + "\n")
    results = evaluation.main(evaluation.Config(model=name, endpoint=url, style=style, data=str(tmp_path / "data.jsonl"), samples=2,
                                                max_new_tokens=24, lean="wheel", out=str(tmp_path)))
    (result,) = results.values()
    assert 0 <= result["pass@1"] <= 1 and 0 < result["length"] <= 24 and math.isnan(result["entropy"])
    assert json.loads((tmp_path / "eval.json").read_text())


def test_a_model_that_it_has_not_is_one_line(server, smol):
    url, name = server
    if name != smol:
        pytest.skip("it has one model, by any name")
    with pytest.raises(SystemExit, match="no answer from no-such-model at") as error:
        make_feedback(f"openai:no-such-model@{url}/v1", backoff=0.05).ping()
    assert "\n" not in str(error.value)
