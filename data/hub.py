"""Sets on the Hugging Face hub: where they lie, and Lean-Workbook's own ways."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import hf_hub_download

from data.formats import key

# OWNER/NAME@COMMIT:FILE, where `{split}` is valid or test. No hash could be found for
# proofnet's: it is whatever `main` is on the day; which commit that was is printed, to be
# pinned with hub:...
SETS = {
    "minif2f": "Tonic/MiniF2F@3a5dceb842b916345a4d7bb7dc4c4c1dbd4b98aa:minif2f.jsonl",
    "lean-workbook": "internlm/Lean-Workbook@2e066e310b2c6d2c27616927ae131f82901c8f1c"
    ":lean_workbook.json",
    "proofnet": "UDACA/proofnet-lean4@main:proofnet/{split}.jsonl",
}
# Lean-Workbook's statements come without a header; provers were trained with this one
# (DeepSeek-Prover-V1.5, Goedel).
WORKBOOK_HEADER = """import Mathlib
import Aesop

set_option maxHeartbeats 400000

open BigOperators Real Nat Topology Rat"""


def find(name, split):
    """The file of a set, downloaded where needed, or of a path. ValueError, one line."""
    if name in SETS or name.startswith("hub:"):
        spec = SETS.get(name, name.removeprefix("hub:"))
        return download(name, spec.format(split="test" if split == "test" else "valid"))

    path = Path(name)
    if not path.is_file():
        names = ", ".join(f"`{known}`" for known in SETS)
        raise ValueError(
            f"--data {name}: there is no file {path}. "
            f"Give `toy`, {names} or the path of a jsonl file."
        )
    return path


def download(name, spec):
    """The file that "OWNER/NAME@COMMIT:FILE" names, from the hub or its cache. ValueError, one
    line, when it cannot be had."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w./-]+):(.+)", spec)
    if not match:
        example = f"hub:{SETS['minif2f']}"
        raise ValueError(
            f"--data {name}: write hub:OWNER/NAME@COMMIT:FILE, for example {example}"
        )
    repo, commit, file = match.groups()
    if not file.endswith((".json", ".jsonl")):
        raise ValueError(
            f"--data {name}: only .json and .jsonl files can be read, {file} is neither"
        )

    try:
        path = Path(hf_hub_download(repo, file, repo_type="dataset", revision=commit))
    except Exception as error:  # no network, no such file: the hub's classes differ by version
        raise ValueError(
            f"--data {name}: {repo} ({file} at {commit}) is not in the hub's cache and cannot be "
            f"downloaded ({type(error).__name__}). Run it once with a network, "
            "or give the path of a jsonl file."
        ) from None

    if not re.fullmatch("[0-9a-f]{40}", commit):
        today = path.parts[path.parts.index("snapshots") + 1]
        print(f"{name}: {repo} at {commit}, which is {today} today; pin it with hub:...")
    return path


def workbook_split(entries, split, held_out=256):
    """Lean-Workbook has no train and test of its own. Ours: the statements with a published
    proof, each once; by a hash of the problem in words, so that two readings of one problem
    stay together, the first 256 problems are test, 256 more valid. entries: [(row, theorem),
    ...].
    """
    once = {key(theorem.statement): (row, theorem) for row, theorem in entries if theorem.proof}
    problems = {}
    for row, theorem in once.values():
        words = row.get("natural_language_statement") or theorem.name
        digest = hashlib.sha256(words.encode()).hexdigest()
        problems.setdefault(digest, []).append(theorem)

    order = sorted(problems)
    parts = {
        "test": order[:held_out],
        "valid": order[held_out : 2 * held_out],
        "train": order[2 * held_out :],
    }
    return [theorem for digest in parts[split] for theorem in problems[digest]]
