"""torch, devices and threads."""
