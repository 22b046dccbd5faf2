"""Collecting: from a source's settings to documents with provenance, over the web or from files on disk."""
