"""How good a model is on text it has never seen, and what simpler methods reach on the same bytes."""
