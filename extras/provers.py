"""Real provers: what a name given to --model means, and where its weights come from.

`load(name)` is how every script makes its policy. The tiny provers and folders need no hub.
Revisions are commits of the hub's repositories, so that a run means the same weights next year.
They were read in public records of other people's runs, not on the hub itself; "main" where no
record was found.
"""

import logging
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import requests
import torch
import torch.nn.functional as F
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HTTPError
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from extras import cuda, memory, ranks
from fd_mini import TINY, Policy

# name: (hub id, revision, prompt style, billions of parameters, what it is)
ALIASES = {
    "deepseek-prover-1.5b": (
        "deepseek-ai/DeepSeek-Prover-V1.5-SFT",
        "e9a6e6fbb67620d4e9c4944bc51ff7c435af12da",
        "fence",
        6.9,
        "deepseek-prover-1.5b is DeepSeek-Prover-V1.5: 1.5 is the version, the model has 7B parameters",
    ),
    "kimina-prover-1.5b": (
        "AI-MO/Kimina-Prover-Preview-Distill-1.5B",
        "737ff8442bdd883bf18c9b76f46f8e63d03949d1",
        "chat",
        1.5,
        "kimina-prover-1.5b is distilled from Kimina-Prover-Preview 72B; it thinks before it writes a Lean block",
    ),
    "kimina-prover-1.7b": (
        "AI-MO/Kimina-Prover-RL-1.7B",
        "main",
        "chat",
        1.7,
        "kimina-prover-1.7b is Qwen3-1.7B, distilled and then trained with RL",
    ),
    "qwen3-8b": (
        "Qwen/Qwen3-8B",
        "b968826d9c46dd6066d109eabc6255188de91218",
        "chat",
        8.2,
        "qwen3-8b is one of the paper's two models",
    ),
    "qwen3.5-9b": (
        "Qwen/Qwen3.5-9B",
        "c202236235762e1c871ad0ccb60c8ee5ba337b9a",
        "chat",
        9.0,
        "qwen3.5-9b is one of the paper's two models",
    ),
}


# What the formulas of fd_mini describe.
WANTED = (
    "wanted is a decoder-only model with max_position_embeddings and a plain linear head, "
    "such as Llama, Qwen or DeepSeek-Prover"
)
# Nats that rounding may cost. Scales, caps and biases of real models cost 0.03 and more.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.002}
# Loggers that give advice, about faster kernels. What is wrong with a model's files others say.
TALKERS = ("bitsandbytes.backends.cpu.ops", "transformers.models")

TOY = {"tiny": TINY, "tiny-tools": TINY.with_name("tiny_tools")}


def check(rank, quantize):
    if quantize not in ("auto", "nf4", "none"):
        raise ValueError(f"quantize must be auto, nf4 or none, not {quantize}")
    if rank < 0 or (quantize == "nf4" and rank == 0):
        raise ValueError(f"rank={rank}, quantize={quantize}: nf4 needs a rank above 0")


def load(model, rank=32, quantize="auto", seed=0):
    """The policy of a prover by its name: tiny, tiny-tools, an alias, a hub id or a folder.

    quantize "auto": NF4 above about 4 billion parameters on CUDA. ValueError, in one line, for
    whatever cannot be loaded.
    """
    check(rank, quantize)
    on_gpu = torch.cuda.is_available()
    if not on_gpu and cuda.has_card():
        print(f"on the CPU: {cuda.why_none()}", flush=True)
    name, style, folder, large = find(model, on_gpu)
    if quantize == "auto" and large and rank > 0:
        quantize = "nf4"
    for talker in TALKERS:
        logging.getLogger(talker).setLevel(logging.ERROR)
    disable_progress_bar()  # of reading weights; downloads keep theirs
    try:
        policy = Policy(folder, rank, quantize, seed)
        refuse_unfit(policy)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models of other kinds fail in many ways
        reason, *_ = [*str(error).strip().splitlines(), type(error).__name__]
        if isinstance(error, (AttributeError, TypeError)):
            reason += f"; {WANTED}"
        raise ValueError(f"cannot load {model!r} ({name}): {reason}") from error
    finally:
        enable_progress_bar()

    policy.name = name
    policy.style = style
    policy.max_positions = positions(policy.model.config.get_text_config())
    # On the first process's terminal. None: no terminal, no bar.
    hidden = None if ranks.FIRST else True
    policy.bar = partial(tqdm, desc="tokens", leave=False, disable=hidden)
    if on_gpu:
        cuda.prepare(policy)
        memory.share_what_is_free(policy)
    return policy


def refuse_unfit(policy):
    """ValueError for a model with random weights, or that the formulas of fd_mini do not fit."""
    missing = sorted(policy.loading["missing_keys"])
    if missing:
        raise ValueError(
            f"its files lack {len(missing)} of its tensors, such as {missing[0]}, which would be "
            "random: get the whole model"
        )
    if not policy.student:
        raise ValueError(
            "it has no nn.Linear layer that adapters could be put on: train all of it "
            f"(--lora-rank 0) or take another; {WANTED}"
        )
    error = head_error(policy)
    if not error < TOLERANCE[policy.head.dtype]:
        raise ValueError(
            "its predictions are not those of its last hidden states and its head (the KL "
            f"between them is {error:.3g} nats): it scales or caps its logits or adds a bias, "
            f"which losses and sampling would leave out; {WANTED}"
        )


@torch.no_grad()
def head_error(policy):
    """The largest KL, over a few tokens, from what the model predicts to what is sampled."""
    text = "theorem t (p q : Prop) (h : p ∧ q) : q := by\n  exact"
    ids = policy.tokenizer(text, return_tensors="pt").input_ids.to(policy.device)
    logits = policy.model(input_ids=ids, use_cache=False).logits  # [1, T, V]
    out = policy.model.base_model(input_ids=ids, use_cache=False)
    ours = F.linear(out.last_hidden_state, policy.head)  # [1, T, V]
    logp, logq = (x.float().log_softmax(-1) for x in (logits, ours))
    return F.kl_div(logq, logp, log_target=True, reduction="none").sum(-1).max().item()


def resolve(name):
    """An alias or a hub id "owner/name" -> (hub id, revision, style, billions, meaning).

    Style and billions of parameters are None where they are not known. ValueError for others.
    """
    if name in ALIASES:
        return ALIASES[name]
    if name.count("/") == 1 and name[0].isalnum() and name[-1] != "/":
        return name, "main", None, None, "a model of the hub, at its newest revision"
    raise ValueError(
        f"unknown model {name!r}: use tiny, {', '.join(ALIASES)}, a local folder, "
        "or a hub id owner/name"
    )


def too_large(name, nf4, bf16):
    """The line for a large model without a GPU; nf4, bf16: bytes of its weights.

    The 6 GiB beside them are the memory plan's for 7B to 9B, rank 32 and 4096 tokens:
    adapters, optimiser and teacher 1.5, CUDA 1.6, activations 2, head 0.5 to 1.2.
    """
    return (
        f"{name} needs a CUDA device, and {cuda.why_none()}: its weights take about "
        f"{nf4 / 2**30:.0f} GiB in NF4 ({bf16 / 2**30:.0f} in bf16), training about 6 GiB more, "
        "and sampling fills what is left of a 24 GB card. On a CPU: python train.py"
    )


def read(kind, folder):
    """AutoConfig or AutoTokenizer of a folder. OSError, in one line, for what they refuse."""
    try:
        return kind.from_pretrained(folder)
    except Exception as error:  # a broken file ends in any of many ways
        said = str(error).strip() or type(error).__name__
        raise OSError(said.splitlines()[0]) from error


def check_size(name, folder, on_gpu):
    """Has it more than about 4 billion parameters (those of the layers)? From its config alone.

    Such a model is NF4 on CUDA; without CUDA it is refused: ValueError.
    """
    config = read(AutoConfig, folder)
    is_encoder = getattr(config, "is_encoder_decoder", False)
    config = config.get_text_config()
    if is_encoder or not getattr(config, "max_position_embeddings", None):
        raise ValueError(f"{name} is a {config.model_type} model; {WANTED}")
    large = is_large(config)
    if large and not on_gpu:
        sizes = [memory.weights(config, form) for form in ("nf4", "bf16")]
        raise ValueError(too_large(name, *sizes))
    return large


def positions(config):
    """How many tokens a text may have.

    Under longrope (Phi-3 and 4 with long contexts) a batch in which one row passes the original
    length has all its rows turned another way: no row may pass it.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return min(config.max_position_embeddings, rope["original_max_position_embeddings"])
    return config.max_position_embeddings


def is_large(config):
    return 12 * config.num_hidden_layers * config.hidden_size**2 > 4e9


def has_template(folder):
    """Does this model's tokenizer have a chat template?"""
    return bool(read(AutoTokenizer, folder).chat_template)


def hub_answers():
    """One short request in place of transformers' retries, which take minutes a file."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        return requests.head(constants.ENDPOINT, timeout=10).status_code < 500
    except requests.RequestException:
        return False


def reader(model):
    """What prompts of a policy are made with, without its weights."""
    _, style, folder, _ = find(model, torch.cuda.is_available(), weights=False)
    config = read(AutoConfig, folder).get_text_config()
    return SimpleNamespace(
        style=style,
        tokenizer=read(AutoTokenizer, folder),
        max_positions=positions(config),
    )


def find(name, on_gpu, weights=True):
    """A name or a folder -> (hub id or folder, prompt style, folder with the files, is it large?).

    A folder is prompted by its chat template or, without one, as the tiny prover is. Files come
    from the hub when it answers, from the local cache otherwise; what is taken is printed
    before the weights. ValueError in one line, before anything large is moved. Without `weights`
    nothing large is moved, and what is taken is not printed yet.
    """
    if name in TOY:
        folder = str(TOY[name])
        return folder, "plain", folder, False
    if Path(name).is_dir():
        return find_folder(name, on_gpu, weights)
    hub_id, revision, style, billions, meaning = resolve(name)
    if billions and billions > 4 and not on_gpu:
        print(f"model: {hub_id} @ {revision} · prompt style {style}\n  {meaning}")
        # NF4 with embeddings and head in bf16 comes to about 0.8 bytes a parameter.
        told = f"{hub_id} ({billions}B parameters)"
        raise ValueError(too_large(told, 0.8e9 * billions, 2e9 * billions))

    online = hub_answers()
    fetch = dict(revision=revision, local_files_only=not online)
    try:
        small = ["*.json", "*.jinja", "*.txt", "*.model"]
        folder = snapshot_download(hub_id, allow_patterns=small, **fetch)
        large = check_size(hub_id, folder, on_gpu)
        if not style:
            style = "chat" if has_template(folder) else "fence"
        if weights:
            source = "from the hub" if online else "from the local cache"
            print(
                f"model: {hub_id} @ {revision} · prompt style {style} · {source}\n  {meaning}"
            )
            folder = fetch_weights(hub_id, fetch)
        return hub_id, style, folder, large
    except (OSError, HTTPError) as error:  # missing files; a connection that broke
        if online:
            reason = str(error).strip().splitlines()[0]
            message = f"cannot load {name!r} ({hub_id} @ {revision}): {reason}"
        else:
            hub = os.environ.get("HF_ENDPOINT", "the hub")
            message = (
                f"cannot load {name!r}: {hub} does not answer and the local cache does not hold "
                f"{hub_id} @ {revision}. Connect once, or give --model the folder of a download."
            )
        raise ValueError(message) from error


def find_folder(name, on_gpu, weights):
    """find() for a local folder."""
    try:
        large = check_size(name, name, on_gpu)
        style = "chat" if has_template(name) else "plain"
    except OSError as error:
        raise ValueError(f"cannot load {name!r}: {error}") from error
    if weights:
        print(f"model: {name} · prompt style {style}", flush=True)
    return name, style, name, large


def fetch_weights(hub_id, fetch):
    """The folder of a model's weights; the older format only where there is no other."""
    for kind in ("*.safetensors", "pytorch_model*.bin"):
        folder = snapshot_download(hub_id, allow_patterns=[kind], **fetch)
        if any(Path(folder).glob(kind)):
            return folder
    raise OSError("its weights are not there")
