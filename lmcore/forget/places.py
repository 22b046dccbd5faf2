"""The places of a store where texts lie, one by one: finished artifacts, damaged ones, and unfinished work."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import zstandard

from lmcore.collect.editions import document_files
from lmcore.collect.web import FRONTIER
from lmcore.collect.wikipedia_store import PAGES
from storage.errors import RunError
from storage.parquet import batches
from storage.store import Store

_CURATED = ("record_id", "source", "url", "title", "text", "lang", "page_of_origin")
_STAGES = ("collect", "measure", "curate")
_COLLECTED = (*_CURATED, "parent_record", "meta")


@dataclass(frozen=True)
class Place:
    """A folder of Parquet files with texts, or the SQLite file of a crawl or a wiki.

    `kind`: collect, measure, curate (an artifact, finished or set aside, or one that is being measured) or crawl.
    `damaged`: why it cannot be read, for what is no finished artifact.
    """

    kind: str
    path: Path
    damaged: str | None = None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Its texts, some at a time; pages of a crawl have no record id yet. Raises RunError for a damaged file."""
        if self.kind == "crawl":
            yield from _pages_of_wiki(self.path) if self.path.name == PAGES else _pages(self.path)
            return
        wanted = list(columns or (_COLLECTED if self.kind == "collect" else _CURATED))
        for path in self.files():
            for batch in batches(path, wanted):
                yield pa.Table.from_batches([batch])

    def files(self) -> list[Path]:
        """Its Parquet files with texts, in order."""
        if self.kind == "collect":
            return document_files(self.path)
        return sorted(self.path.glob("measured/[0-9]*.parquet" if self.kind == "measure" else "*/[0-9]*.parquet"))


def places_of_texts(store: Store) -> list[Place]:
    """Every place where texts lie as texts; what is neither finished nor readable is marked so."""
    finished = [Place(artifact.stage, artifact.path) for artifact in store.readable(*_STAGES)]
    others = [
        *(Place(kind, path) for kind in _STAGES for path in sorted(store.root.glob(f".aside/{kind}-*"))),
        *(Place("measure", path) for path in sorted(store.root.glob(".work/measure-*/out"))),
        *(
            Place("crawl", path)
            for name in (FRONTIER, PAGES)
            for path in sorted(store.root.glob(f".work/collect-*/{name}"))
        ),
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
                yield _table([(url or name, title, text, name) for url, name, title, text in found])
    except sqlite3.Error as error:
        raise RunError(
            f"cannot read the crawl {path}: {error}", "remove it: the crawl starts from its seeds"
        ) from error


def _pages_of_wiki(path: Path) -> Iterator[pa.Table]:
    """The pages of an unfinished collection of a wiki."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            rows = base.execute("select url, facts from page where outcome = 'ok' order by file, number")
            while some := rows.fetchmany(500):
                read = [(url, json.loads(zstandard.decompress(facts))) for url, facts in some]
                yield _table([(url, facts["title"], facts["text"], url) for url, facts in read])
    except (sqlite3.Error, zstandard.ZstdError, ValueError) as error:
        raise RunError(f"cannot read the pages {path}: {error}", "remove it: they are asked for again") from error


def _table(rows: list[tuple[str, str, str, str]]) -> pa.Table:
    """URL, title, text and page of origin of texts that have no record id yet."""
    schema = pa.schema([(name, pa.string()) for name in _CURATED])
    given = [dict(zip(("url", "title", "text", "page_of_origin"), row, strict=True)) for row in rows]
    return pa.Table.from_pylist([dict.fromkeys(_CURATED, "") | row for row in given], schema=schema)
