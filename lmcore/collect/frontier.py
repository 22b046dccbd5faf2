"""The crawl's memory: which pages there are, how far each has come, and what came back. One SQLite file.

A page is `waiting`, then `stored` (its response is on disk), then `done` (its text and links are too). Each
step is one transaction, so kill -9 loses at most the responses in flight and never asks twice for a stored
one. Levels (all pages of one depth) are opened as a whole: what is crawled never depends on arrival order.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from lmcore.collect.frontier_pages import FrontierPages
from lmcore.collect.http import Response
from lmcore.collect.links import canonical_url, site_of
from storage.atomic import fault
from storage.digest import canonical_json

BEYOND = "beyond"  # no outcome of a page: the limit on pages left it out
_SEEN_LINKS = 50_000  # links remembered as kept already: most pages of a site repeat its menu


@dataclass(frozen=True)
class NewPage:
    """A page to be added to a level; with an outcome it is done, with BEYOND it is none."""

    name: str
    url: str
    outcome: str = ""
    reason: str = ""
    lastmod: str = ""


class Names:
    """Which pages a crawl knows, for all threads: a connection of its own that only reads."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()

    def known(self, name: str, depth: int) -> bool:
        """Whether it is a page, or where a redirect of a page above `depth` led to."""
        query = "select exists (select 1 from page where name = ?1 or (final_name = ?1 and depth < ?2))"
        with self._lock:
            return bool(self._db.execute(query, (name, depth)).fetchone()[0])

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()


class Frontier(FrontierPages):
    """The pages of a crawl by level."""

    def __init__(self, path: Path, settings: str) -> None:
        super().__init__(path, settings)
        self._seen: set[str] = set()
        self._names = Names(path)

    def close(self) -> None:
        """Close the file; everything in it stays."""
        self._names.close()
        super().close()

    @property
    def names(self) -> Names:
        """Which pages there are, for other threads."""
        return self._names

    def opened(self) -> int:
        """How many levels are open: the next one to open has this depth."""
        return int(self._one("select count(*) from level"))

    def open_level(self, depth: int, pages: Iterable[NewPage]) -> bool:
        """Add the pages of a level; one that has an outcome is done at once, "beyond" ones are only counted.

        False, and no level, when there are none. `pages` may be made from `candidates` while they are added.
        """
        beyond = added = 0
        with self._transaction():
            for page in pages:
                if page.outcome == BEYOND:
                    beyond += 1
                    continue
                added += 1
                self._db.execute(
                    "insert into page (name, url, site, depth, state, outcome, reason, final_name, lastmod)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        page.name,
                        page.url,
                        site_of(page.url),
                        depth,
                        "done" if page.outcome else "waiting",
                        page.outcome,
                        page.reason,
                        page.name,
                        page.lastmod,
                    ),
                )
            if added:
                self._db.execute("insert into level values (?, ?)", (depth, beyond))
                self._db.execute("delete from link")
        self._seen.clear()
        fault("collect.level-opened")
        return added > 0

    def candidates(self, depth: int) -> Iterator[tuple[str, str, str]]:
        """(name, url, lastmod) of the links of the newest level to pages not yet known, in the order of name and URL.

        A name can come several times, with another URL each.
        """
        return self._all(
            "select name, url, lastmod from link where not exists (select 1 from page where page.name = link.name)"
            " and not exists (select 1 from page where page.final_name = link.name and page.depth < ?)"
            " order by name, url",
            depth,
        )

    def add_links(self, links: Iterable[tuple[str, str]]) -> None:
        """Keep links with their `lastmod` that came from elsewhere than a page."""
        with self._transaction():
            self._link(links)

    def sites(self, depth: int) -> list[str]:
        """Sites of a level that have pages still to be fetched."""
        return self._column("select distinct site from page where depth = ? and state = 'waiting' order by site", depth)

    def waiting(self, depth: int, site: str, after: str, most: int, before: str | None = None) -> list[tuple[str, str]]:
        """(name, URL) of the next pages of a site still to be fetched, in canonical order; none from `before` on."""
        query = "select name, url from page where depth = ? and site = ? and state = 'waiting' and name > ?"
        if before is None:
            return list(self._all(f"{query} order by name limit ?", depth, site, after, most))
        return list(self._all(f"{query} and name < ? order by name limit ?", depth, site, after, before, most))

    def bytes_above(self, depth: int) -> int:
        """Bytes of the pages of all levels above `depth`."""
        return int(self._one("select coalesce(sum(bytes), 0) from page where depth < ?", depth))

    def bytes_of(self, depth: int) -> int:
        """Bytes of a level's pages so far."""
        return int(self._one("select coalesce(sum(bytes), 0) from page where depth = ?", depth))

    def first_over(self, depth: int, most: int) -> tuple[str, int] | None:
        """The first page of a level, in canonical order, with which the level's pages so far are more than `most`,
        and the bytes of the pages before it."""
        row = self._row(
            "select name, total - bytes from"
            " (select name, bytes, sum(bytes) over (order by name) as total from page where depth = ?)"
            " where total > ? order by name limit 1",
            depth,
            most,
        )
        return (row[0], row[1]) if row else None

    def before(self, depth: int, name: str) -> tuple[str, int] | None:
        """The last page of a level before `name` that has bytes, and how many; None when there is none."""
        row = self._row(
            "select name, bytes from page where depth = ? and name < ? and bytes > 0 order by name desc limit 1",
            depth,
            name,
        )
        return (row[0], row[1]) if row else None

    def cut(self, depth: int, name: str, outcome: str, reason: str) -> None:
        """Leave out the pages of a level from `name` on, whatever came of them."""
        with self._transaction():
            self._db.execute(
                "update page set state = 'done', outcome = ?, reason = ?, bytes = 0, body = null, title = '',"
                " text = '', meta = '{}', canonical = '', final_name = name, etag = '' where depth = ? and name >= ?"
                " and outcome not in ('robots_denied', 'robots_unavailable')",
                (outcome, reason, depth, name),
            )

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
                " fetched_at = ?, bytes = ?, body = x'' where name = ?",
                (
                    outcome,
                    final_name,
                    response.status,
                    response.tries,
                    response.seconds,
                    fetched_at,
                    len(response.body),
                    name,
                ),
            )
            self._link((link, "") for link in links)

    def response(self, name: str) -> tuple[bytes, str, str, str]:
        """(body, final URL, content type, robots tag) of a stored page. Raises RunError when its bytes are damaged."""
        body, final_name, content_type, robots_tag = self._row(
            "select body, final_name, content_type, robots_tag from page where name = ?", name
        )
        return self._unpacked(name, body), final_name, content_type, robots_tag

    def _link(self, links: Iterable[tuple[str, str]]) -> None:
        rows = []
        for url, lastmod in links:
            if url in self._seen and not lastmod:
                continue
            self._seen.add(url)
            name = canonical_url(url)
            if name:
                rows.append((name, url, lastmod))
        if rows:
            self._db.executemany(
                "insert into link values (?, ?, ?) on conflict do update set lastmod = max(lastmod, excluded.lastmod)",
                rows,
            )
        if len(self._seen) > _SEEN_LINKS:
            self._seen.clear()

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
        canonical: str = "",
        drop: bool = False,
    ) -> None:
        """Keep what was read from a stored page; `drop`: but not what it was read from.

        Without a `reason` the one stays that was stored with it.
        """
        with self._transaction():
            if drop:
                self._db.execute("update page set body = x'', etag = '' where name = ?", (name,))
            self._db.execute(
                "update page set state = 'done', outcome = ?, reason = coalesce(nullif(?, ''), reason), title = ?,"
                " text = ?, meta = ?, canonical = ? where name = ?",
                (outcome, reason, title, text, canonical_json(meta), canonical, name),
            )
            self._link((link, "") for link in links)
        fault("collect.page-done")

    def reopen(self, names: Iterable[str]) -> None:
        """Let failed pages wait again."""
        with self._transaction():
            self._db.executemany(
                "update page set state = 'waiting', outcome = '' where name = ?", [(n,) for n in names]
            )
