"""`python -m tests.notebook`: runs docs/tour.py cell by cell, and writes docs/tour.ipynb with what
each cell printed and drew."""

import base64
import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import matplotlib
from matplotlib import pyplot

TOUR = Path(__file__).resolve().parent.parent / "docs" / "tour.py"


def run(text):
    """A script with `# %%` marks -> its cells as nbformat 4 has them, executed."""
    space = {"__name__": "tour"}
    cells = []
    for n, part in enumerate(re.split(r"(?m)^# %%", text)[1:]):
        head, _, source = part.partition("\n")
        cell = {"id": f"cell{n}", "metadata": {}}
        if "markdown" in head:
            source = re.sub(r"(?m)^# ?", "", source)
            cell["cell_type"] = "markdown"
        else:
            cell |= {"cell_type": "code", "execution_count": n}
            cell["outputs"] = execute(source, space)
        cell["source"] = source.strip().splitlines(True)
        cells.append(cell)
    return cells


def execute(source, space):
    """What a cell prints, and its pictures, as outputs."""
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(printed):
        exec(compile(source, TOUR.name, "exec"), space)
    printed.seek(0)

    outputs = []
    # Folders differ between machines.
    text = printed.read().replace(f"{Path.cwd()}/", "")
    text = re.sub(re.escape(tempfile.gettempdir()) + r"/\w+/", "", text)
    if text:
        lines = text.splitlines(True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png", dpi=80)
        pyplot.close(number)
        data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    return outputs


if __name__ == "__main__":
    matplotlib.use("agg")
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    notebook["cells"] = run(TOUR.read_text("utf-8"))
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    TOUR.with_suffix(".ipynb").write_text(text + "\n", "utf-8")
