"""Errors whose message is a sentence for the user, and the one that means that the user wants no result any more."""

from __future__ import annotations


class UserError(Exception):
    """Something cannot be done as asked; the message is one sentence that says what is wrong and what to do.

    Whatever else is raised is a fault of the program's.
    """


class ModelError(UserError):
    """A model cannot be loaded or run."""


class LayerError(UserError, ValueError):
    """A layer cannot be used as asked."""


class Cancelled(Exception):
    """Raised by a report of progress when the user no longer wants the result."""
