"""--track: a run's numbers, sent to where people already look."""

import importlib
import importlib.util
import sys
from dataclasses import asdict

from extras import ranks

KINDS = ("tensorboard", "wandb", "trackio")


def refuse_missing(kind):
    """ValueError, in one line, for a --track that is unknown or whose package is not here."""
    if kind and kind not in KINDS:
        raise ValueError(f"--track must be one of {', '.join(KINDS)}, not {kind}")
    # A folder of that name, such as wandb leaves, has no origin.
    if kind and not getattr(importlib.util.find_spec(kind), "origin", None):
        raise ValueError(f"--track {kind} needs a package that is not here: pip install {kind}")


def tracker(cfg, out):
    """A function (part, step, numbers) that sends what is a number as "part/name".

    Nothing is sent without --track, nor by torchrun's other processes. ValueError where the
    service cannot be used. When it fails later, a line says so, and the run goes on without it.
    """
    if not cfg.track or not ranks.FIRST:
        return ignore
    try:
        send = tensorboard(out) if cfg.track == "tensorboard" else service(cfg, out)
    except Exception as error:
        raise ValueError(f"--track {cfg.track}: {error}") from None
    broken = []

    def track(part, step, numbers):
        shown = {}
        for name, value in numbers.items():
            if isinstance(value, (int, float)):
                shown[f"{part}/{name}"] = value
        try:
            if not broken:
                send(shown, step)
        except Exception as error:
            broken.append(error)
            print(f"--track {cfg.track} failed, the run goes on without: {error}", file=sys.stderr)

    return track


def ignore(part, step, numbers):
    """Without --track."""


def tensorboard(out):
    """Event files in OUT/tensorboard: tensorboard --logdir out."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(out / "tensorboard")

    def send(numbers, step):
        for name, value in numbers.items():
            writer.add_scalar(name.replace("@", "_at_"), value, step)
        writer.flush()

    return send


def service(cfg, out):
    """wandb or trackio, which have the same interface. They close themselves when the run ends."""
    run = importlib.import_module(cfg.track).init(
        project="feedback-distillation", name=str(out), config=asdict(cfg)
    )

    def send(numbers, step):
        run.log(numbers, step=step)

    return send
