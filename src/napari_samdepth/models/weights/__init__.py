"""Weights on disk: stored, fetched, checked, read."""
