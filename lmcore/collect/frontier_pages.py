"""What can be asked of a crawl's memory: its pages, what came back for them, and how far it has come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import zstandard

from lmcore.collect.database import Database
from lmcore.collect.http import Response
from storage.errors import RunError

_SCHEMA = """
create table level (depth integer primary key, beyond integer not null);
create table page (
    name text primary key,              -- canonical URL
    url text not null,                  -- as linked: what is asked for
    site text not null,                 -- host:port
    depth integer not null,
    state text not null check (state in ('waiting', 'stored', 'done')),
    outcome text not null default '',
    reason text not null default '',
    final_name text not null default '',  -- canonical URL after redirects
    canonical text not null default '',   -- canonical URL that the page gives for itself
    lastmod text not null default '',     -- what a sitemap says of it
    status integer not null default 0,
    tries integer not null default 0,
    seconds real not null default 0,
    fetched_at text not null default '',
    content_type text not null default '',
    robots_tag text not null default '',
    etag text not null default '',
    last_modified text not null default '',
    bytes integer not null default 0,
    title text not null default '',
    text text not null default '',
    meta text not null default '{}',
    body blob                           -- zstd
);
create index page_order on page (depth, name, bytes);
create index page_final on page (final_name);
create index page_canonical on page (canonical) where canonical != '';
create index page_waiting on page (depth, site, name) where state = 'waiting';
create table link (                     -- where the pages of the newest level point to
    name text not null, url text not null, lastmod text not null, primary key (name, url)
) without rowid;
create table agreement (name text primary key, site text not null, f1 real not null) without rowid;
"""


@dataclass(frozen=True)
class Row:
    """One page of the frontier, without its body."""

    name: str
    url: str
    depth: int
    state: str
    outcome: str
    reason: str
    final_name: str
    status: int
    tries: int
    seconds: float
    fetched_at: str
    etag: str
    last_modified: str
    bytes: int
    title: str
    text: str
    meta: str  # JSON
    lastmod: str


class FrontierPages(Database):
    """The pages of a crawl, in canonical order: (depth, name)."""

    FORMAT = 2
    SCHEMA = _SCHEMA

    def seed_ends(self) -> list[str]:
        """Where the seeds that were fetched led to."""
        return self._column("select final_name from page where depth = 0 and body is not null")

    def asked(self) -> int:
        """Pages that count against the limit: asked for or waiting to be."""
        return int(self._one("select count(*) from page where outcome not in ('robots_denied', 'robots_unavailable')"))

    def progress(self) -> tuple[int, int, int]:
        """(pages done or stored, all pages, failed pages)."""
        done, total, failed = self._row(
            "select coalesce(sum(state != 'waiting'), 0), count(*), coalesce(sum(state = 'done' and body is null), 0)"
            " from page"
        )
        return done, total, failed

    def beyond(self) -> int:
        """Pages the limit on pages left out."""
        return int(self._one("select coalesce(sum(beyond), 0) from level"))

    def outcomes(self) -> dict[str, int]:
        """Pages by outcome."""
        return dict(self._all("select outcome, count(*) from page group by outcome order by outcome"))

    def why_not(self) -> str:
        """The first reason of a page without record, in canonical order; "" when there is none."""
        row = self._row("select reason from page where reason != '' and outcome != 'ok' order by depth, name limit 1")
        return row[0] if row else ""

    def mark_duplicates(self) -> None:
        """Of several pages that are one, keep one.

        Pages that redirect to one place: the first in canonical order. Pages that name another as their canonical
        address: that one, where it gave a record and does not itself name another; else the first that names it.
        """
        first = "(other.depth, other.name) < (page.depth, page.name)"
        names_another = "page.canonical != '' and page.canonical != page.final_name"
        for reason, condition in (
            ("the same page as ' || final_name", f"other.final_name = page.final_name and {first}"),
            (
                "its canonical address is ' || canonical",
                f"{names_another} and other.final_name = page.canonical and other.canonical in ('', other.final_name)",
            ),
            (
                "its canonical address, as that of an earlier page, is ' || canonical",
                f"{names_another} and other.canonical = page.canonical and other.canonical != other.final_name"
                f" and {first}",
            ),
        ):
            with self._transaction():
                self._db.execute(
                    f"update page set outcome = 'duplicate', reason = '{reason} where outcome = 'ok' and exists"  # noqa: S608
                    f" (select 1 from page as other where other.outcome = 'ok' and {condition})"
                )

    def records(self) -> int:
        """How many pages gave a text."""
        return int(self._one("select count(*) from page where outcome = 'ok'"))

    def sample(self, most: int) -> list[str]:
        """Names of some pages with a text, drawn by the digest of their names, that are not compared yet."""
        self._db.create_function("draw", 1, _draw, deterministic=True)
        return self._column(
            "select name from (select name from page where outcome = 'ok' order by draw(name) limit ?)"
            " where name not in (select name from agreement) order by name",
            most,
        )

    def text(self, name: str) -> str:
        """What was read from a page."""
        return str(self._one("select text from page where name = ?", name))

    def agree(self, name: str, f1: float) -> None:
        """Note how far two extractors agree on a page."""
        with self._transaction():
            self._db.execute("insert or replace into agreement values (?, ?, ?)", (name, urlsplit(name).netloc, f1))

    def agreement(self) -> dict[str, dict[str, float]]:
        """By host: how many pages two extractors were compared on, mean and lowest F1."""
        rows = self._all(
            "select site, count(*), sum(f1) / count(*), min(f1) from agreement group by site order by site"
        )
        return {site: {"pages": n, "f1": round(mean, 4), "lowest": round(least, 4)} for site, n, mean, least in rows}

    def failed(self, depth: int, outcomes: Iterable[str]) -> Iterator[Response]:
        """What came of the pages of a level that ended so, in canonical order; they may be changed meanwhile."""
        query = (
            "select name, url, final_name, outcome, reason, status, tries, seconds from page"
            " where depth = ? and name > ? and state = 'done' and outcome in (select value from json_each(?))"
            " order by name limit 1"
        )
        name, wanted = "", json.dumps(sorted(outcomes))
        while row := self._row(query, depth, name, wanted):
            name, url, final_name, outcome, reason, status, tries, seconds = row
            yield Response(url, final_name, outcome, reason, status, tries=tries, seconds=seconds)

    def log(self) -> Iterator[dict[str, Any]]:
        """One row of the fetch log per page, in canonical order."""
        for page in self.pages(texts=False):
            yield {
                "url": page.url,
                "final_url": page.final_name,
                "status": page.status,
                "outcome": page.outcome,
                "reason": page.reason,
                "tries": page.tries,
                "seconds": page.seconds,
                "bytes": page.bytes,
                "fetched_at": page.fetched_at,
                "etag": page.etag,
                "last_modified": page.last_modified,
            }

    def pages(self, *, texts: bool = True) -> Iterator[Row]:
        """All pages in canonical order: (depth, name); without `texts` the text column is left empty."""
        columns = ", ".join(name if texts or name != "text" else "''" for name in Row.__annotations__)
        for row in self._all(f"select {columns} from page order by depth, name"):  # noqa: S608 - names of a dataclass
            yield Row(*row)

    def responses(self) -> Iterator[Response]:
        """What came back for every page whose body is kept, in canonical order."""
        names = "url, final_name, status, content_type, robots_tag, etag, last_modified, bytes, body, name"
        query = f"select {names} from page where length(body) > 0 order by depth, name"  # noqa: S608
        for url, final_url, status, content_type, robots_tag, etag, last_modified, size, body, name in self._all(query):
            yield Response(
                url=url,
                final_url=final_url,
                outcome="ok",
                status=status,
                content_type=content_type,
                robots_tag=robots_tag,
                etag=etag,
                last_modified=last_modified,
                body=self._unpacked(name, body),
                size=size,
            )

    def _unpacked(self, name: str, body: bytes) -> bytes:
        try:
            return zstandard.decompress(body)
        except zstandard.ZstdError as error:
            raise RunError(
                f"{self.path} holds a damaged page ({name})", "delete this file; the crawl starts again from its seeds"
            ) from error


def _draw(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
