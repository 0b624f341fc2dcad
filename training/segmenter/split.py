"""The split of the nuclei images, by image, seeded and stratified by kind; kept in ``split.json``.

``test`` (15 %) judges and is never looked at in training; ``validation`` (8 % of the rest) serves choices.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

SPLIT_FILE = Path(__file__).with_name("split.json")
SEED = 20261122


def make_split(index: list[dict[str, object]], seed: int = SEED) -> dict[str, list[str]]:
    """Image ids as ``{"train": …, "validation": …, "test": …}`` from the data set's ``index.json`` records."""
    result: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for kind in sorted({str(record["kind"]) for record in index}):
        ids = sorted(str(record["id"]) for record in index if record["kind"] == kind)
        random.Random(f"{seed}-{kind}").shuffle(ids)
        n_test = max(2, round(0.15 * len(ids)))
        n_validation = max(1, round(0.08 * (len(ids) - n_test)))
        result["test"] += ids[:n_test]
        result["validation"] += ids[n_test : n_test + n_validation]
        result["train"] += ids[n_test + n_validation :]
    return {part: sorted(ids) for part, ids in result.items()}


def read_split() -> dict[str, list[str]]:
    """The split written down in ``split.json``."""
    split: dict[str, list[str]] = json.loads(SPLIT_FILE.read_text())
    return split


if __name__ == "__main__":
    import sys

    SPLIT_FILE.write_text(json.dumps(make_split(json.loads(Path(sys.argv[1]).read_text())), indent=0) + "\n")
