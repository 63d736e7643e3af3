"""What a name given to --model means, and where its files come from: a hub on this machine, a cache made on the spot, neither."""
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from transformers import LlamaConfig

from extras import provers

HERE = Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
LOAD = """
import gc, sys
gc.disable()  # as train.py does while it imports libraries: that is quicker
from extras import provers
for model in sys.argv[1:]:
    try:
        policy = provers.load(model, rank=2)
        print("LOADED", policy.name, policy.style, len(policy.student))
    except ValueError as error:
        print("REFUSED", error)
"""


@pytest.fixture
def closed():
    """The address of a port where nobody answers."""
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def load(models, cache, endpoint, **more):
    """(last line, all of stdout) of a fresh process that loads one model after the other: the hub's address is read when
    huggingface_hub is imported."""
    env = os.environ | {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(HERE)} | more
    done = subprocess.run([sys.executable, "-c", LOAD, *models.split()], env=env, cwd=cache, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1], done.stdout


def tiny_files(template=None):
    """{name: bytes} of a repository: the tiny prover, with a chat template where one is given."""
    files = {path.name: path.read_bytes() for path in (HERE / "toy" / "tiny").iterdir() if path.is_file()}
    if template:
        files["tokenizer_config.json"] = json.dumps(json.loads(files["tokenizer_config.json"]) | {"chat_template": template}).encode()
    return files


def put(cache, hub_id, files, commit=COMMIT):
    """A repository as a download leaves it in the hub's cache folder."""
    repo = cache / "hub" / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    for name, content in files.items():
        (repo / "snapshots" / commit / name).write_bytes(content)


class Hub(BaseHTTPRequestHandler):
    """The three answers of the hub's protocol that a download needs: what main is, which files there are, and a file."""
    repos, asked = {}, []

    def do_GET(self, body=True):
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        files = self.repos.get("/".join(parts[2:4] if parts[0] == "api" else parts[:2]), {})
        content, headers = b"", {}
        if parts == [""]:
            pass  # somebody asks whether anybody is there
        elif not files:
            headers["X-Error-Code"] = "RepoNotFound"
        elif parts[0] == "api" and "tree" in parts:
            content = json.dumps([{"type": "file", "path": name, "size": len(data), "oid": COMMIT} for name, data in files.items()]).encode()
        elif parts[0] == "api":
            content = json.dumps({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}).encode()
        else:
            content, headers = files[parts[-1]], {"X-Repo-Commit": COMMIT, "ETag": f'"{parts[-1]}"'}
        self.send_response(404 if "X-Error-Code" in headers else 200)
        for key, value in (headers | {"Content-Length": str(len(content)), "Content-Type": "application/json"}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_HEAD(self):
        self.do_GET(body=False)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.repos, Hub.asked = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_alias_says_what_it_is():
    hub_id, revision, style, billions, meaning = provers.resolve("deepseek-prover-1.5b")
    assert (hub_id, style) == ("deepseek-ai/DeepSeek-Prover-V1.5-SFT", "fence") and 6.5 < billions < 7.5
    assert "1.5 is the version, the model has 7B parameters" in meaning
    for name, (hub_id, revision, style, billions, meaning) in provers.ALIASES.items():
        assert hub_id.count("/") == 1 and style in ("fence", "chat") and 1 < billions < 10 and name in meaning
        assert revision == "main" or len(bytes.fromhex(revision)) == 20
    assert provers.resolve("owner/name-1.5B")[:3] == ("owner/name-1.5B", "main", None)
    for name in ("gpt-17", "./no/such/folder", "/no/such", "owner/"):
        with pytest.raises(ValueError, match="unknown model .*: use tiny, .*qwen3-8b.* a local folder, or a hub id owner/name"):
            provers.resolve(name)


def test_where_the_hub_does_not_answer_the_cache_does_and_what_it_lacks_is_refused_without_minutes_of_retries(tmp_path, closed):
    put(tmp_path, "some/prover", tiny_files())
    put(tmp_path, "some/chat", tiny_files(TEMPLATE))
    revision = provers.ALIASES["kimina-prover-1.5b"][1]
    put(tmp_path, "AI-MO/Kimina-Prover-Preview-Distill-1.5B", tiny_files(), revision)  # no template: an alias knows its style
    put(tmp_path, "half/there", {name: data for name, data in tiny_files().items() if name != "model.safetensors"})
    put(tmp_path, "other/revision", tiny_files())
    lacking = {"some/other": "some/other @ main", "half/there": "half/there @ main", "kimina-prover-1.7b": "AI-MO/Kimina-Prover-RL-1.7B @ main"}
    # In one process: it is given up after 100 s.
    _, out = load(f"{' '.join(lacking)} some/prover some/chat kimina-prover-1.5b", tmp_path, closed)
    refused = [line for line in out.splitlines() if line.startswith("REFUSED")]
    assert refused == [f"REFUSED cannot load {model!r}: {closed} does not answer and the local cache does not hold {which}. "
                       "Connect once, or give --model the folder of a download." for model, which in lacking.items()]
    assert "model: some/prover @ main · prompt style fence · from the local cache" in out
    assert "\nLOADED some/prover fence " in out and "\nLOADED some/chat chat " in out
    assert f"Distill-1.5B @ {revision} · prompt style chat" in out and "\n  kimina-prover-1.5b is distilled from" in out
    assert out.splitlines()[-1].startswith("LOADED AI-MO/Kimina-Prover-Preview-Distill-1.5B chat ")


def test_the_hub_is_asked_first_and_gives_only_what_is_needed(tmp_path, hub, closed):
    Hub.repos["some/prover"] = tiny_files(TEMPLATE) | {"pytorch_model.bin": b"the same weights again", "figure.png": b"png"}
    last, out = load("some/prover some/other", tmp_path, hub, HF_HUB_DISABLE_XET="1")
    assert "model: some/prover @ main · prompt style chat · from the hub" in out and "\nLOADED some/prover chat " in out
    assert last.startswith("REFUSED cannot load 'some/other' (some/other @ main): ")
    fetched = {path.rpartition("/")[2] for path in Hub.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched and not fetched & {"pytorch_model.bin", "figure.png"}
    assert "from the local cache" in load("some/prover", tmp_path, closed)[1]  # and now it is in the cache


def test_a_large_model_of_the_hub_is_refused_before_its_weights_are_asked_for(tmp_path, hub, closed, capsys):
    config = LlamaConfig(vocab_size=102400, hidden_size=4096, intermediate_size=11008, num_hidden_layers=30, num_attention_heads=32)
    config.save_pretrained(tmp_path / "config")
    Hub.repos["some/large"] = tiny_files() | {"config.json": (tmp_path / "config" / "config.json").read_bytes()}
    assert "REFUSED some/large needs a CUDA device" in load("some/large", tmp_path, hub)[0]
    assert not any("safetensors" in path for path in Hub.asked if "/resolve/" in path)
    for name in ("deepseek-prover-1.5b", "qwen3-8b", "qwen3.5-9b"):  # known to be large: nobody is asked
        with pytest.raises(ValueError, match=r"\dB parameters\) needs a CUDA device.*GiB in NF4.*: python train.py$"):
            provers.find(name, on_gpu=False)
        assert f"\n  {name} is " in capsys.readouterr().out  # what the name means comes first


def test_a_folder_is_prompted_by_its_template_or_as_the_tiny_prover_is(tmp_path, capsys):
    for template, style in ((TEMPLATE, "chat"), (None, "plain")):
        for name, content in tiny_files(template).items():
            (tmp_path / name).write_bytes(content)
        assert provers.load(str(tmp_path), rank=2).style == style
        assert capsys.readouterr().out == f"model: {tmp_path} · prompt style {style}\n"
    assert provers.load("tiny", rank=2).style == "plain" and not capsys.readouterr().out  # nothing more than before


def test_what_cannot_be_loaded_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(provers.TOY, "tiny-tools", tmp_path / "toy" / "tiny_tools")  # a checkout without it
    (tmp_path / "empty").mkdir()
    shutil.copytree(HERE / "toy" / "tiny", tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "from-the-future"}')
    shutil.copytree(HERE / "toy" / "tiny", tmp_path / "torn")
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "no_tokenizer").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(HERE / "toy" / "tiny" / name, tmp_path / "no_tokenizer")
    for model in ("tiny-tools", *(str(tmp_path / name) for name in ("empty", "odd", "torn", "no_tokenizer"))):
        with pytest.raises(ValueError, match=f"^cannot load '{model}'") as error:
            provers.load(model)
        assert "\n" not in str(error.value)
