"""Rows of a curated table, for tests that train on texts of their own, and the tokens of such texts."""

from __future__ import annotations

from lmcore.documents import CURATED, make_table
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.parquet import write_parquet


def row(record, text):
    """A curated document."""
    return {
        "record_id": record, "text_id": record, "text": text, "n_bytes": len(text.encode()), "source": "made",
        "url": f"file:{record}", "title": "", "kind": "prose", "lang": "en", "license": "CC0-1.0", "synthetic": True,
        "page_of_origin": record, "turns": None, "quality": 50.0, "complexity": 50.0, "cluster_id": record,
        "cluster_size": 1,
    }  # fmt: skip


def make_data(root, splits, **tokenizer):
    """Folders of tokens and of a tokenizer, made of the texts of each split by the rooms that make them."""
    for split, texts in splits.items():
        rows = [row(f"{len(split):016d}{n:016d}", text) for n, text in enumerate(texts)]
        write_parquet(root / "curated" / split / "00000.parquet", make_table(rows, CURATED))
    one = {"runtime": TokenizerRuntime(workers=1), "report": silent}
    train_tokenizer(root / "a", root / "curated", params=TokenizerParams(**tokenizer), **one)
    folders = root / "b", root / "curated", root / "a" / "out"
    make_tokens(*folders, params=TokensParams(), runtime=TokensRuntime(workers=1), report=silent)
    return {"tokens": str(root / "b" / "out"), "tokenizer": str(root / "a" / "out")}
