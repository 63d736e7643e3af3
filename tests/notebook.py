"""`python -m tests.notebook`: runs the cells of docs/tour.ipynb and writes what they print and draw
into it anew."""

import base64
import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from docs.tour import NOTEBOOK as TOUR


def run(cells):
    """Cells of a notebook, executed: with new outputs."""
    space = {"__name__": "tour"}
    done = []
    for cell in cells:
        if cell["cell_type"] == "code":
            cell = cell | {"outputs": execute("".join(cell["source"]), space)}
        done.append(cell)
    return done


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
    notebook = json.loads(TOUR.read_text("utf-8"))
    notebook["cells"] = run(notebook["cells"])
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    TOUR.write_text(text + "\n", "utf-8")
