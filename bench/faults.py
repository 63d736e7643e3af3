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


def report(name, found, wrong):
    """Prints what a storm found -> how much of it is `wrong`, the names of lists in it."""
    print(f"{name}: {found}", flush=True)
    return sum(len(found[key]) for key in wrong)


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
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        if invocations > 0:
            found = storms.storm_of_invocations(f"{folder}/a", invocations, seed)
            wrong = "traceback silent hung wordy leaked".split()
            faults += report("invocations", found, wrong)
        if interruptions > 0:
            found = storms.storm_of_interruptions(f"{folder}/b", interruptions, seed)
            faults += report("interruptions", found, ["lost"])
        if endpoint > 0:
            found = storms.storm_of_faults(Path(folder) / "c", endpoint, seed)
            faults += report("endpoint", found, ["foreign", "lost"])
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
