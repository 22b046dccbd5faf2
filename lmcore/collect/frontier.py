"""The crawl's memory: which pages there are, how far each has come, and what came back. One SQLite file.

A page is `waiting`, then `stored` (its response is on disk), then `done` (its text and links are too). Each
step is one transaction, so kill -9 loses at most the responses in flight and never asks twice for a stored
one. Levels (all pages of one depth) are opened as a whole: what is crawled never depends on arrival order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zstandard

from lmcore.collect.database import Database
from lmcore.collect.http import Response
from storage.atomic import fault
from storage.digest import canonical_json
from storage.errors import RunError

_SCHEMA = """
create table level (depth integer primary key, beyond integer not null);
create table page (
    name text primary key,              -- canonical URL
    url text not null,                  -- as linked: what is asked for
    depth integer not null,
    state text not null check (state in ('waiting', 'stored', 'done')),
    outcome text not null default '',
    reason text not null default '',
    final_name text not null default '',  -- canonical URL after redirects
    status integer not null default 0,
    tries integer not null default 0,
    seconds real not null default 0,
    fetched_at text not null default '',
    content_type text not null default '',
    robots_tag text not null default '',
    etag text not null default '',
    last_modified text not null default '',
    bytes integer not null default 0,
    body blob,                          -- zstd
    links text not null default '[]',   -- JSON list of followed URLs
    title text not null default '',
    text text not null default '',
    meta text not null default '{}'
) without rowid;
create index page_order on page (depth, name);
create index page_final on page (final_name);
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


class Frontier(Database):
    """The pages of a crawl by level."""

    FORMAT = 1
    SCHEMA = _SCHEMA

    def opened(self) -> int:
        """How many levels are open: the next one to open has this depth."""
        return int(self._one("select count(*) from level"))

    def open_level(self, depth: int, pages: Iterable[tuple[str, str, str, str]], beyond: int) -> None:
        """Add the pages of a level: (name, url, outcome, reason); one with an outcome is done at once.

        `beyond`: how many pages the limit on pages left out.
        """
        with self._transaction():
            self._db.executemany(
                "insert into page (name, url, depth, state, outcome, reason, final_name) values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (name, url, depth, "done" if outcome else "waiting", outcome, reason, name)
                    for name, url, outcome, reason in pages
                ],
            )
            self._db.execute("insert into level values (?, ?)", (depth, beyond))
        fault("collect.level-opened")

    def waiting(self, depth: int) -> list[str]:
        """URLs of a level still to be fetched, in canonical order."""
        return self._column("select url from page where depth = ? and state = 'waiting' order by name", depth)

    def stored(self) -> list[str]:
        """Names of pages whose response is here and not yet read."""
        return self._column("select name from page where state = 'stored' order by depth, name")

    def store(self, name: str, response: Response, final_name: str, fetched_at: str) -> None:
        """Keep what came back for a page; a failed page is done with it."""
        ok = response.outcome == "ok"
        with self._transaction():
            self._db.execute(
                "update page set state = ?, outcome = ?, reason = ?, final_name = ?, status = ?, tries = ?,"
                " seconds = ?, fetched_at = ?, content_type = ?, robots_tag = ?, etag = ?, last_modified = ?,"
                " bytes = ?, body = ? where name = ?",
                (
                    "stored" if ok else "done",
                    response.outcome,
                    response.reason,
                    final_name,
                    response.status,
                    response.tries,
                    response.seconds,
                    fetched_at,
                    response.content_type,
                    response.robots_tag,
                    response.etag,
                    response.last_modified,
                    len(response.body),
                    zstandard.compress(response.body, 3) if ok else None,
                    name,
                ),
            )
        fault("collect.page-stored")

    def pass_through(
        self, name: str, response: Response, final_name: str, fetched_at: str, outcome: str, links: list[str]
    ) -> None:
        """Note a page of which only the links are kept; it is done."""
        with self._transaction():
            self._db.execute(
                "update page set state = 'done', outcome = ?, final_name = ?, status = ?, tries = ?, seconds = ?,"
                " fetched_at = ?, bytes = ?, body = x'', links = ? where name = ?",
                (
                    outcome,
                    final_name,
                    response.status,
                    response.tries,
                    response.seconds,
                    fetched_at,
                    len(response.body),
                    json.dumps(links),
                    name,
                ),
            )

    def response(self, name: str) -> tuple[bytes, str, str, str]:
        """(body, final URL, content type, robots tag) of a stored page. Raises RunError when its bytes are damaged."""
        body, final_name, content_type, robots_tag = self._row(
            "select body, final_name, content_type, robots_tag from page where name = ?", name
        )
        return self._unpacked(name, body), final_name, content_type, robots_tag

    def _unpacked(self, name: str, body: bytes) -> bytes:
        try:
            return zstandard.decompress(body)
        except zstandard.ZstdError as error:
            raise RunError(
                f"{self.path} holds a damaged page ({name})", "delete this file; the crawl starts again from its seeds"
            ) from error

    def finish(
        self,
        name: str,
        outcome: str,
        reason: str,
        links: list[str],
        title: str,
        text: str,
        meta: dict[str, Any],
        *,
        drop: bool = False,
    ) -> None:
        """Keep what was read from a stored page; `drop`: but not what it was read from."""
        with self._transaction():
            if drop:
                self._db.execute("update page set body = x'', etag = '' where name = ?", (name,))
            self._db.execute(
                "update page set state = 'done', outcome = ?, reason = ?, links = ?, title = ?, text = ?, meta = ?"
                " where name = ?",
                (outcome, reason, json.dumps(links), title, text, canonical_json(meta), name),
            )
        fault("collect.page-done")

    def reopen(self, names: Iterable[str]) -> None:
        """Let failed pages wait again."""
        with self._transaction():
            self._db.executemany(
                "update page set state = 'waiting', outcome = '' where name = ?", [(n,) for n in names]
            )

    def links(self, depth: int) -> list[str]:
        """All URLs the pages of a level point to."""
        return sorted(
            {
                link
                for found in self._column("select links from page where depth = ?", depth)
                for link in json.loads(found)
            }
        )

    def seed_ends(self) -> list[str]:
        """Where the seeds that were fetched led to."""
        return self._column("select final_name from page where depth = 0 and body is not null")

    def known(self, depth: int) -> set[str]:
        """Names of all pages so far, and of those that redirects led to from pages above `depth`."""
        return set(self._column("select name from page union select final_name from page where depth < ?", depth))

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

    def mark_duplicates(self) -> None:
        """Of several pages that redirect to one place, keep the first in canonical order."""
        with self._transaction():
            self._db.execute(
                "update page set outcome = 'duplicate', reason = 'the same page as ' || final_name where outcome = 'ok'"
                " and exists (select 1 from page as other where other.outcome = 'ok'"
                " and other.final_name = page.final_name"
                " and (other.depth, other.name) < (page.depth, page.name))"
            )

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
