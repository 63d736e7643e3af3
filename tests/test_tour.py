"""docs/tour.ipynb runs, and shows what its cells do today."""
import json
import re
from pathlib import Path

import matplotlib

from tests import notebook

COMMITTED = json.loads(notebook.TOUR.read_text("utf-8"))


def printed(cell):
    """What a cell printed, with numbers of two digits, on which machines agree, and no seconds."""
    text = "".join(line for output in cell.get("outputs", []) for line in output.get("text", []))
    text = re.sub(r"[\d.]+ s \(.*\)", "", text)
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]) + 0.0:.2f}".replace("-0.00", "0.00"), text)


def test_the_tour_runs_and_its_notebook_shows_what_it_prints_and_draws():
    matplotlib.use("agg")
    cells = notebook.run(COMMITTED["cells"])
    kinds = lambda cell: [output["output_type"] for output in cell.get("outputs", [])]  # noqa: E731
    assert list(map(kinds, cells)) == list(map(kinds, COMMITTED["cells"]))
    *first, twenty_steps = [cell for cell in cells if cell["cell_type"] == "code"]
    *shown, _ = [cell for cell in COMMITTED["cells"] if cell["cell_type"] == "code"]
    assert list(map(printed, first)) == list(map(printed, shown))
    before, after = map(float, re.findall(r"pass@1 ([\d.]+)", printed(twenty_steps)))
    assert before < 0.1 and after > before + 0.3


def test_the_notebook_is_one_that_readers_of_notebooks_take():
    assert (COMMITTED["nbformat"], COMMITTED["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in COMMITTED["cells"]}) == len(COMMITTED["cells"]) > 10
    for cell in COMMITTED["cells"]:
        assert cell["cell_type"] in ("code", "markdown") and all(isinstance(line, str) for line in cell["source"])
    text = json.dumps(COMMITTED)
    assert "Traceback" not in text and str(Path.home()) not in text and "/tmp/" not in text
