"""The pages of a wiki as they were read, in a file of the work folder: a run that was killed goes on from there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import zstandard

from lmcore.collect.database import Database
from storage.atomic import fault
from storage.errors import RunError

PAGES = "pages.sqlite"
_SCHEMA = """
create table page (
    file text not null,                 -- the dump; "" for pages of a site
    number integer not null,            -- of the page in the wiki, or its place in the dump
    url text not null,
    outcome text not null,
    reason text not null,
    facts blob not null,                -- zstd of JSON
    raw blob,                           -- zstd; what the wiki sent for this page
    primary key (file, number)
) without rowid;
create index page_url on page (url);
create table point (file text primary key, state text not null);
"""


@dataclass
class Page:
    """A page and what became of it; `text` is there when `outcome` is "ok"."""

    number: int
    url: str
    outcome: str = "ok"
    reason: str = ""
    title: str = ""
    text: str = ""
    lang: str = "und"
    tags: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    revision: str = ""
    moment: str = ""  # when it was fetched; "" in dumps
    raw: bytes | None = None
    file: str = ""


_FACTS = ("title", "text", "lang", "tags", "meta", "revision", "moment")


class Pages(Database):
    """The pages, and for each dump how far it was read."""

    FORMAT = 1
    SCHEMA = _SCHEMA

    def add(self, pages: Iterable[Page], file: str = "", state: dict[str, Any] | None = None) -> None:
        """Keep pages, and with them where to go on in a dump, or neither."""
        rows = []
        for page in pages:
            values = asdict(page)
            facts = _packed(json.dumps({name: values[name] for name in _FACTS}).encode("ascii"))
            raw = None if page.raw is None else _packed(page.raw)
            rows.append((file, page.number, page.url, page.outcome, page.reason, facts, raw))
        with self._transaction():
            self._db.executemany("insert or replace into page values (?, ?, ?, ?, ?, ?, ?)", rows)
            if state is not None:
                self._db.execute("insert or replace into point values (?, ?)", (file, json.dumps(state)))
        fault("wikipedia.pages-stored")

    def state(self, file: str) -> dict[str, Any]:
        """Where to go on in a dump; empty for the beginning."""
        row = self._row("select state from point where file = ?", file)
        found: dict[str, Any] = json.loads(row[0]) if row else {}
        return found

    def numbers(self, file: str = "") -> set[int]:
        """Numbers of the pages that are there."""
        return set(self._column("select number from page where file = ?", file))

    def count(self) -> int:
        """How many pages there are."""
        return int(self._one("select count(*) from page"))

    def forget(self, file: str) -> None:
        """Forget a dump and its pages."""
        with self._transaction():
            for table in ("page", "point"):
                self._db.execute(f"delete from {table} where file = ?", (file,))  # noqa: S608

    def retain(self, numbers: Iterable[int]) -> None:
        """Forget the pages of a site that are not among these."""
        strange = self.numbers() - set(numbers)
        with self._transaction():
            self._db.executemany("delete from page where file = '' and number = ?", [(page,) for page in strange])

    def mark_duplicates(self) -> None:
        """Of pages at one URL, as in dumps that overlap, the first stays."""
        with self._transaction():
            self._db.execute(
                "update page set outcome = 'duplicate', reason = 'the page is in another dump or place too'"
                " where outcome in ('ok', 'unchanged') and exists"
                " (select 1 from page as other where other.url = page.url and other.outcome in ('ok', 'unchanged')"
                " and (other.file, other.number) < (page.file, page.number))"
            )

    def pages(self, outcome: str | None = None, *, raw: bool = False) -> Iterator[Page]:
        """The pages in order, all or those of an outcome."""
        where = "" if outcome is None else " where outcome = ?"
        query = f"select file, number, url, outcome, reason, facts, {'raw' if raw else 'null'} from page{where}"  # noqa: S608
        for file, number, url, found, reason, facts, sent in self._all(
            f"{query} order by file, number", *([] if outcome is None else [outcome])
        ):
            known = json.loads(self._unpacked(facts))
            body = None if sent is None else self._unpacked(sent)
            yield Page(number=number, url=url, outcome=found, reason=reason, raw=body, file=file, **known)

    def outcomes(self) -> Counter[str]:
        """Pages by outcome."""
        return Counter(dict(self._all("select outcome, count(*) from page group by outcome order by outcome")))

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            return zstandard.decompress(packed)
        except zstandard.ZstdError as error:
            raise RunError(
                f"{self.path} holds a damaged page", "delete this file; the source is collected from the start"
            ) from error


def _packed(data: bytes) -> bytes:
    return zstandard.compress(data, 3)
