"""Depth networks of transformers."""
