"""Text from a model: one sampler, one cached engine, and `load`, which finds a model and puts it to use."""
