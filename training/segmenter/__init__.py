"""How the weights of the built-in segmenter were made: `python -m training.segmenter --help`."""
