"""`python -m docs.tour`: the tour of docs/tour.ipynb as a script, in under a minute. It runs the
notebook's cells and prints their words; `python -m tests.notebook` writes its outputs anew."""

import json
from pathlib import Path

import matplotlib

NOTEBOOK = Path(__file__).with_name("tour.ipynb")


def main():
    matplotlib.use("agg")
    space = {"__name__": "tour"}
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            exec(compile(source, NOTEBOOK.name, "exec"), space)
        else:
            print(f"\n{source}\n")


if __name__ == "__main__":
    main()
