"""One annotation session per viewer: what the panels show, the models' lane, history, and the layers."""
