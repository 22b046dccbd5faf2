"""A model of the family MU with its kind of vocabulary, random and small, a train artifact's folder of it, and streams
of tokens as long as MU's.
"""

from __future__ import annotations

import json

import pyarrow as pa
import torch

from lmcore.models import MuConfig, build
from lmcore.models.io import save_model
from lmcore.tokenizer.word_bpe import WordBPE
from lmcore.tokens.shards import DOCUMENTS
from storage.parquet import write_parquet

TEXTS = ["The quick brown fox jumps over a lazy dog.", "Once upon a time, in the beginning, a king was old."]


def mu_tokenizer(vocab_size=90):
    return WordBPE.train(lambda: TEXTS * 5, vocab_size=vocab_size, min_frequency=2, max_token_length=20)


def mu_model(vocab_size, **options):
    """Every weight random, with logits some units apart."""
    shape = {"n_layers": 2, "matrix": (4, 4), "n_heads": 4, "context": 32} | options
    model = build(MuConfig(**shape), vocab_size, 1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def mu_folder(folder, tokenizer, **options):
    """A folder laid out like a train artifact."""
    save_model(folder, mu_model(tokenizer.vocab_size, **options))
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder


def mu_stream(folder, split, n_tokens):
    """A folder of tokens: a split of one document of so many, all of them 0, in a file without blocks on the disk."""
    part = folder / split
    part.mkdir()
    with open(part / "00000.bin", "wb") as file:
        file.truncate(2 * n_tokens)
    row = {"record_id": "r", "shard": 0, "offset": 0, "n_tokens": n_tokens, "n_bytes": n_tokens, "complexity": 50.0}
    row |= {"source": 0, "lang": 0, "kind": 0}
    write_parquet(part / "documents.parquet", pa.Table.from_pylist([row], schema=DOCUMENTS))
    facts = {"shards": [n_tokens], "tokens": n_tokens, "documents": 1, "bytes": n_tokens}
    meta = {"dtype": "uint16", "vocab_size": 50_000, "bos_id": 2, "splits": {split: facts}}
    meta |= {"sources": ["made"], "langs": ["en"], "kinds": ["prose"]}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder
