"""The places of a store where texts lie, one by one: finished artifacts, damaged ones, and unfinished work."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lmcore.collect.editions import document_files
from lmcore.collect.web import FRONTIER
from storage.errors import RunError
from storage.parquet import batches
from storage.store import Store

_CURATED = ("record_id", "source", "url", "title", "text", "lang", "page_of_origin")
_COLLECTED = (*_CURATED, "parent_record", "meta")


@dataclass(frozen=True)
class Place:
    """A folder of Parquet files with texts, or the SQLite file of a crawl.

    `kind`: collect, curate (an artifact, finished or set aside), measured (of an unfinished curation) or crawl.
    `damaged`: why it cannot be read, for what is no finished artifact.
    """

    kind: str
    path: Path
    damaged: str | None = None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Its texts, some at a time; pages of a crawl have no record id yet. Raises RunError for a damaged file."""
        if self.kind == "crawl":
            yield from _pages(self.path)
            return
        wanted = list(columns or (_COLLECTED if self.kind == "collect" else _CURATED))
        for path in self.files():
            for batch in batches(path, wanted):
                yield pa.Table.from_batches([batch])

    def files(self) -> list[Path]:
        """Its Parquet files with texts, in order."""
        if self.kind == "collect":
            return document_files(self.path)
        return sorted(self.path.glob("*.parquet" if self.kind == "measured" else "*/[0-9]*.parquet"))


def places_of_texts(store: Store) -> list[Place]:
    """Every place where texts lie as texts; what is neither finished nor readable is marked so."""
    finished = [Place(artifact.stage, artifact.path) for artifact in store.readable("collect", "curate")]
    others = [
        *(Place(kind, path) for kind in ("collect", "curate") for path in sorted(store.root.glob(f".aside/{kind}-*"))),
        *(Place("measured", path) for path in sorted(store.root.glob(".work/curate-*/measured"))),
        *(Place("crawl", path) for path in sorted(store.root.glob(f".work/collect-*/{FRONTIER}"))),
    ]
    return [*finished, *(_judged(place) for place in others)]


def _judged(place: Place) -> Place:
    try:
        for _ in place.batches():
            pass
    except RunError as error:
        return Place(place.kind, place.path, error.what)
    return place


def _pages(path: Path) -> Iterator[pa.Table]:
    """The pages of a crawl whose text has been read, and those that are only named."""
    query = "select final_name, name, title, text from page where text != '' or length(body) > 0 order by name"
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            rows = base.execute(query)
            while found := rows.fetchmany(500):
                columns = list(zip(*found, strict=True))
                yield pa.table(
                    {
                        "record_id": [""] * len(found),
                        "source": [""] * len(found),
                        "url": [url or name for url, name, _, _ in found],
                        "title": columns[2],
                        "text": columns[3],
                        "lang": [""] * len(found),
                        "page_of_origin": columns[1],
                    },
                    schema=pa.schema([(name, pa.string()) for name in _CURATED]),
                )
    except sqlite3.Error as error:
        raise RunError(
            f"cannot read the crawl {path}: {error}", "remove it: the crawl starts from its seeds"
        ) from error
