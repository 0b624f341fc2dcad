"""Masks of everything in an image."""
