"""Further measurements of a model on held-out text, each asked for by a setting of `evaluate:` and off without it."""

UNDIVIDED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts without blanks between words, for a pattern's class
