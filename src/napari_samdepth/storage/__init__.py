"""What outlives the process: every file is written beside its place and moved into it."""
