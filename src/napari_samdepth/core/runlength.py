"""Masks as run lengths, as COCO keeps them (its API's `maskApi.c`): down column after column, and packed into text."""

from __future__ import annotations

import numpy as np

from napari_samdepth.core.candidates import Patch


def run_lengths(patch: Patch, shape: tuple[int, int]) -> list[int]:
    """Return the lengths of runs outside and inside the mask in turn, down column after column, read in its box."""
    padded = np.zeros((patch.mask.shape[1], patch.mask.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = patch.mask.T
    cols, steps = np.nonzero(np.diff(padded, axis=1))
    ends = (cols + patch.origin[1]) * shape[0] + steps + patch.origin[0]
    # a run that goes on at the top of the next column ends and begins at the same place
    kept = np.ones(len(ends), dtype=bool)
    joined = np.flatnonzero(ends[1:] == ends[:-1])
    kept[joined] = kept[joined + 1] = False
    marks = np.concatenate([[0], ends[kept], [shape[0] * shape[1]]])
    counts: list[int] = np.diff(marks).tolist()
    return counts if len(counts) == 1 or counts[-1] else counts[:-1]


def compressed(counts: list[int]) -> str:
    """Return run lengths as COCO writes them: differences to the last run of the same kind, five bits a character."""
    out = []
    for at, count in enumerate(counts):
        rest = count - counts[at - 2] if at > 2 else count
        more = True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)
            out.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(out)
