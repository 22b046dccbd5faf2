"""Rows of a curated table, for tests that train on texts of their own."""

from __future__ import annotations


def row(record, text):
    """A curated document."""
    return {
        "record_id": record, "text_id": record, "text": text, "n_bytes": len(text.encode()), "source": "made",
        "url": f"file:{record}", "title": "", "kind": "prose", "lang": "en", "license": "CC0-1.0", "synthetic": True,
        "page_of_origin": record, "turns": None, "quality": 50.0, "complexity": 50.0, "cluster_id": record,
        "cluster_size": 1,
    }  # fmt: skip
