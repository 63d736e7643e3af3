"""A language model on the policy's card: the two take turns, or share it.

For an Ollama on this machine, or wherever it is when --tutor-card is not `turns`. It is asked for
an answer before the policy is loaded, so that an endpoint that does not work ends a run early, and
the plan sees what is left of the card.
"""

import socket
import time
from functools import partial
from urllib.parse import urlsplit

import requests
import torch

from extras.memory import GIB
from feedback import make_feedback

REQUEST = 12288  # tokens of a request to one that stays: with more it would take more of the card
# --tutor-card: what is said of it
MODES = {
    "turns": "it is unloaded after each step's feedback",
    "shared": "it stays there, and the plan has what is left",
    "cpu": "it stays off the card",
}


def advisor(spec, style=4, generate=None, mode="turns"):
    """make_feedback(), and a source that answers; None for "". SystemExit where it does not."""
    if not spec:
        return None
    source = make_feedback(spec, style, generate=generate)
    endpoint = source.endpoint
    beside = False
    if endpoint and endpoint.kind == "ollama" and torch.cuda.is_available():
        beside = mode != "turns" or is_here(urlsplit(endpoint.url).hostname)
    if beside and mode == "shared":
        # As endpoint.body() rounds it.
        endpoint.context = 1 << (REQUEST + endpoint.limit - 1).bit_length()
        endpoint.fixed = True
        endpoint.fields["keep_alive"] = -1  # for good
    if beside and mode == "cpu":
        endpoint.options["num_gpu"] = 0
    source.ping()
    if beside:
        print(f"{endpoint.model} holds {held(endpoint) / GIB:.1f} GiB of the card; {MODES[mode]}")
    if beside and mode == "turns":
        unload(endpoint)
        source.answer = partial(in_turn, endpoint, source.answer)
    return source


def is_here(host):
    """Is one of the addresses behind this name this machine's own?"""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # a name that nobody knows, or that is none
        return False
    return any(is_ours(family, address) for family, *_, address in found)


def is_ours(family, address):
    """Only at an address of its own can a machine be listening."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def in_turn(endpoint, answer, rollouts):
    torch.cuda.empty_cache()  # what torch keeps for later, the other cannot have
    try:
        return answer(rollouts)
    finally:
        unload(endpoint)


def held(endpoint):
    """Bytes of the card that the server says this model holds; 0 where it does not say."""
    names = (endpoint.model, f"{endpoint.model}:latest")
    try:
        reply = requests.get(endpoint.url.replace("/api/chat", "/api/ps"), timeout=10)
        models = reply.json()["models"]
        return sum(model["size_vram"] for model in models if model["name"] in names)
    except (requests.RequestException, ValueError, LookupError, TypeError):
        return 0


def unload(endpoint):
    """Asks for it, and waits until it is done: 10 seconds at most."""
    url = endpoint.url.replace("/api/chat", "/api/generate")
    try:
        requests.post(url, json={"model": endpoint.model, "keep_alive": 0}, timeout=10)
    except requests.RequestException as error:
        print(f"{endpoint.model} was not unloaded ({type(error).__name__})")
    for _ in range(50):
        if not held(endpoint):
            return
        time.sleep(0.2)
