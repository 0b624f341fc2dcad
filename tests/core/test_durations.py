"""Durations as a user reads them."""

from __future__ import annotations

import pytest

from napari_samdepth.core.durations import in_words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0001, "0.01 s"),
        (0.042, "0.04 s"),
        (0.0949, "0.09 s"),
        (0.096, "0.1 s"),
        (0.1, "0.1 s"),
        (3.44, "3.4 s"),
        (5.0, "5 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (89.4, "89 s"),
        (89.6, "1 min"),
        (200, "3 min"),
    ],
)
def test_durations_have_two_digits_that_matter(seconds: float, said: str) -> None:
    assert in_words(seconds) == said
