"""Durations in words."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a duration in seconds as a user reads it: "0.04 s", "3.4 s", "5 s", "12 s", "2 min"."""
    if seconds < 0.095:
        return f"{max(seconds, 0.01):.2f} s"
    if seconds < 9.95:
        return f"{f'{seconds:.1f}'.removesuffix('.0')} s"
    return f"{seconds:.0f} s" if seconds < 89.5 else f"{seconds / 60:.0f} min"
