"""Further measurements of a model on held-out text, each asked for by a setting of `evaluate:` and off without it."""
