"""Training of the built-in depth estimator: rendered scenes, labelled pictures, losses, evaluation."""
