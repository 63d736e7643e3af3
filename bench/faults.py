"""What survives a seeded storm: bad invocations, interruptions of every kind, an endpoint that fails.

    python -m bench.faults [--invocations 400] [--interruptions 200] [--endpoint 5000] [--seed 0]

The storms themselves are tests/storms.py, which `make test` runs with small numbers. Prints a
line for each and what went wrong; exits 1 when anything did. About half an hour on 2 idle cores;
0 leaves a storm out.
"""

import sys
import tempfile
from pathlib import Path

import torch
import tyro

from bench.common import machine
from tests import storms


def main(
    invocations: int = 400,
    interruptions: int = 200,
    endpoint: int = 5000,
    seed: int = 0,
):
    """Three storms.

    Args:
        invocations: wrong command lines, each of which must end in a line and a code above 0.
        interruptions: of runs, each of which must end as if there had been none.
        endpoint: failures of a server; no sample may train on one.
        seed: of all that is drawn.
    """
    torch.set_num_threads(1)
    print(machine("transformers"))
    table = {
        "invocations": (storms.storm_of_invocations, invocations),
        "interruptions": (storms.storm_of_interruptions, interruptions),
        "endpoint": (storms.storm_of_faults, endpoint),
    }
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (storm, count) in table.items():
            if count > 0:
                found = storm(Path(folder) / name, count, seed)
                print(f"{name}: {found}", flush=True)
                # What went wrong is in lists.
                lists = [value for value in found.values() if isinstance(value, list)]
                faults += sum(map(len, lists))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
