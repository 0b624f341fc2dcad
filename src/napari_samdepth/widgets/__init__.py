"""Qt: panels that read a session's state and call the session, nothing else."""
