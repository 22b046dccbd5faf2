"""Taking a text out of a store: what is meant, where it lies, and how each kind of file is rid of it."""
