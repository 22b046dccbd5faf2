"""Which texts may not be kept: the tombstones of a store, as collection and curation ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.curate.duplicates import words_hash
from lmcore.curate.normalise import normalise
from storage.tombstones import Tombstone, read_tombstones


@dataclass(frozen=True)
class Forgotten:
    """Everything that is to be forgotten. Truthy when there is anything."""

    urls: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()  # `text_digest` of each

    def __bool__(self) -> bool:
        return bool(self.urls or self.records or self.texts)

    def page(self, *names: str) -> bool:
        """Whether a page that is known under these canonical URLs is forgotten."""
        return not self.urls.isdisjoint(names)

    def record(self, record_id: str, names: Iterable[str], text: str, parent: str | None = None) -> bool:
        """Whether a record is forgotten: by its id or its parent's, by one of its `names` (URLs) or by its text."""
        return not self.records.isdisjoint({record_id, parent}) or self.page(*names) or self.text(text)

    def text(self, text: str) -> bool:
        """Whether this text is one of the forgotten, letter case and white space apart."""
        return bool(self.texts) and text_digest(text) in self.texts

    def rows(self, documents: pa.Table) -> pa.ChunkedArray:
        """Which rows of a DOCUMENT table are forgotten: by record, by URL or page of origin, or by their text."""
        found = self.named(documents)
        if self.texts:
            texts = (self.text(text) for text in documents["text"].to_pylist())
            found = pc.or_(found, pa.chunked_array([pa.array(texts, pa.bool_())]))
        return found

    def named(self, table: pa.Table) -> pa.ChunkedArray:
        """Which rows are forgotten by their record id, URL or page of origin; the text is not looked at."""
        pages, records = pa.array(sorted(self.urls), pa.string()), pa.array(sorted(self.records), pa.string())
        found = pc.is_in(table["record_id"], records)
        for name in {"url", "page_of_origin"} & set(table.column_names):
            found = pc.or_(found, pc.is_in(table[name], pages))
        if "parent_record" in table.column_names:  # made of a forgotten one: a translation, a template
            found = pc.or_(found, pc.fill_null(pc.is_in(table["parent_record"], records), False))
        return found


def text_digest(text: str) -> str:
    """32 hex digits: equal for texts whose words are equal after normalisation, whatever their case and white space.

    The same that makes exact duplicates of two texts in curation.
    """
    return words_hash(normalise(text))


def forgotten_in(root: Path) -> Forgotten:
    """What the store in `root` has forgotten. Raises RunError when its list is damaged."""
    return all_of(read_tombstones(root))


def all_of(tombstones: Iterable[Tombstone]) -> Forgotten:
    """The tombstones together."""
    found = list(tombstones)
    return Forgotten(
        urls=frozenset(url for tombstone in found for url in tombstone.urls),
        records=frozenset(record for tombstone in found for record in tombstone.records),
        texts=frozenset(text for tombstone in found for text in tombstone.texts),
    )
