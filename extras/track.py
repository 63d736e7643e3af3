"""--track: a run's numbers, sent to where people already look."""

from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec

from extras import ranks


def refuse_missing(kind):
    """ValueError, in one line, for a --track whose package is not here."""
    # A folder of that name, such as wandb leaves, has no origin.
    if kind and not getattr(find_spec(kind), "origin", None):
        raise ValueError(f"--track {kind} needs a package that is not here: pip install {kind}")


def tracker(cfg, out):
    """A function (numbers, step) that sends them; None without --track, and in torchrun's other
    processes. ValueError where the service cannot be used."""
    if not cfg.track or not ranks.FIRST:
        return None
    if cfg.track == "tensorboard":
        writer = import_module("torch.utils.tensorboard").SummaryWriter(out / "tensorboard")

        def send(numbers, step):
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        return send

    # These two have the same interface, and close themselves when the process ends.
    service = import_module(cfg.track)
    try:
        run = service.init(project="feedback-distillation", name=out.name, config=asdict(cfg))
    except Exception as error:
        raise ValueError(f"--track {cfg.track}: {error}") from None
    return run.log
