"""The small models that ship with the package, and their weights."""
