"""A store of three editions, two corpora, a chain of two models and a stranger, copied for each test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import store_of_texts as shop

from storage.parquet import read_parquet
from storage.store import STAGES, Artifact, Store


@dataclass(frozen=True)
class Shelf:
    """The store, where its texts come from, and its artifacts by name."""

    store: Store
    texts: Path
    keys: dict[str, tuple[str, str]]

    def __getattr__(self, name: str) -> Artifact:
        return Artifact(*self.keys[name], str(self.store.root))

    def numbers(self, corpus: str, split: str) -> list[int]:
        """Which texts a split of a corpus holds."""
        urls = [
            url
            for path in sorted((getattr(self, corpus).path / split).glob("*.parquet"))
            for url in read_parquet(path, ["url"])["url"].to_pylist()
        ]
        return sorted(int(url[5:7]) for url in urls if url[5:7].isdigit())

    def digests(self) -> dict[str, str]:
        return {f"{a.stage}/{a.key}": a.digest for a in self.store.readable(*STAGES)}


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    store = Store(folder / "store")
    texts = shop.write_texts(folder / "texts", range(14))
    one = shop.collected(store, texts, "one", finished="2026-01-01T00:00:01+00:00")
    (texts / "05.txt").write_text(shop.text_of(5) + "\nA line that was added later to the fifth of these texts.")
    shop.write_texts(texts, [14])
    two = shop.collected(store, texts, "two", one, finished="2026-01-02T00:00:01+00:00")
    three = shop.collected(store, texts, "three", two, finished="2026-01-03T00:00:01+00:00")
    first, third = shop.corpus(store, one), shop.corpus(store, three)
    words = shop.vocabulary(store, first)
    first_tokens, third_tokens = shop.tokens(store, first, words), shop.tokens(store, third, words)
    old = shop.model(store, first_tokens, words, "old")
    new = shop.model(store, third_tokens, words, "new", start=old)
    judged = shop.evaluation(store, old, first)
    exported = shop.export(store, old, judged)
    shop.released(store, "tiny", old, exported)

    elsewhere = shop.write_texts(folder / "elsewhere", range(40, 48))
    strange = shop.collected(store, elsewhere, "one", name="other")
    strange_corpus = shop.corpus(store, strange)
    strange_words = shop.vocabulary(store, strange_corpus)
    strange_tokens = shop.tokens(store, strange_corpus, strange_words)
    stranger = shop.model(store, strange_tokens, strange_words, "stranger")

    measures = {
        name: shop.measured(store, artifact)
        for name, artifact in (("first_measured", one), ("second_measured", two), ("strange_measured", strange))
    }
    artifacts = {
        "one": one, "two": two, "three": three, "first": first, "third": third, "words": words,
        "first_tokens": first_tokens, "third_tokens": third_tokens, "old": old, "new": new, "judged": judged,
        "exported": exported, "strange": strange, "strange_corpus": strange_corpus, "strange_words": strange_words,
        "strange_tokens": strange_tokens, "stranger": stranger, **measures,
    }  # fmt: skip
    return Shelf(store, texts, {name: (a.stage, a.key) for name, a in artifacts.items()})


@pytest.fixture
def shelf(original, tmp_path):
    root = shutil.copytree(original.store.root, tmp_path / "store")
    return Shelf(Store(root), original.texts, original.keys)
