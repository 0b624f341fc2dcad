"""Numpy in, numpy out: the values that travel between the rooms and what is computed from them."""
