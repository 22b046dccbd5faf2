"""Which texts may not be kept: the tombstones of a store, as collection and curation ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.collect.links import canonical_url
from lmcore.curate.exact import words_hash
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
        """Whether a page that is known under these URLs is forgotten, however they are spelled."""
        return bool(self.urls) and any(map(self._named, names))

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
        records = pa.array(sorted(self.records), pa.string())
        found = pc.is_in(table["record_id"], records)
        for name in {"url", "page_of_origin"} & set(table.column_names) if self.urls else ():
            named = map(self._named, table[name].to_pylist())
            found = pc.or_(found, pa.chunked_array([pa.array(named, pa.bool_())]))
        if "parent_record" in table.column_names:  # made of a forgotten one: a translation, a template
            found = pc.or_(found, pc.fill_null(pc.is_in(table["parent_record"], records), False))
        return found

    def _named(self, url: str) -> bool:
        if url in self._spellings:
            return True
        return _host(url) in self._hosts and not self._spellings.isdisjoint(spellings(url))

    @cached_property
    def _spellings(self) -> frozenset[str]:
        return frozenset(spelled for url in self.urls for spelled in spellings(url))

    @cached_property
    def _hosts(self) -> frozenset[str]:
        """Of other hosts no URL is spelled out, which takes long."""
        return frozenset({"", *map(_host, self._spellings)})


def spellings(url: str) -> frozenset[str]:
    """A URL as it is and in its canonical spelling: wikis and feeds keep theirs. What stands behind # stays, since it
    names one text of a file or feed."""
    page, mark, part = url.partition("#")
    return frozenset({url, f"{canonical_url(page) or page}{mark}{part}"})


def _host(url: str) -> str:
    """The host of a URL, roughly; "" where that is not to be seen without reading it whole."""
    parts = url.split("/", 3)
    host = parts[2].partition(":")[0].lower() if len(parts) > 2 else ""
    return host if host.isascii() and "%" not in host else ""


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
