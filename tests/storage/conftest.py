"""A store, and a chain of artifacts in it."""

import pytest
from store_made import published

from storage.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def chain(store):
    """collect -> curate -> tokenizer -> tokens (from both), and a stranger."""
    collect = published(store, "collect", "c0", pure=False)
    curate = published(store, "curate", "d0", inputs=[collect])
    tokenizer = published(store, "tokenizer", "e0", inputs=[curate])
    tokens = published(store, "tokens", "f0", inputs=[curate, tokenizer])
    published(store, "collect", "c1")
    return collect, curate, tokenizer, tokens
