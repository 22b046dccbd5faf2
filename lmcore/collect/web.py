"""A web crawl: level by level from the seeds, every level in URL order, every page at most once.

What is kept depends on the site and the settings, never on which response came first: a level's pages are
fixed before any of them is fetched, and the next level is fixed when all of them are done.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lmcore.collect.extract import Page, read_page
from lmcore.collect.fetched import check_contact, own_sites
from lmcore.collect.frontier import Frontier
from lmcore.collect.http import Client, Response
from lmcore.collect.links import canonical_url, site_of, tidy_url
from lmcore.collect.local_site import PydocSite
from lmcore.collect.params import PYDOC_SITE, CollectRuntime, WebSource
from lmcore.collect.politeness import Robots
from lmcore.collect.presets import preset_of
from lmcore.collect.records import Record
from lmcore.collect.responses import Before
from lmcore.documents import FORGOTTEN
from lmcore.progress import Report
from storage.digest import digest_json
from storage.errors import RunError

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

FRONTIER = "frontier.sqlite"
# A seed's host that fails this often in a row has gone away: better to stop and go on later than to write
# every page off as failed.
GIVE_UP_AFTER = 20
_GONE = frozenset({"unreachable", "timeout"})


class WebCrawl:
    """A crawl in the folder `work`: `run` does it or continues it, the rest hands over what it gathered."""

    def __init__(
        self,
        work: Path,
        params: WebSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        forgotten: Forgotten | None = None,
    ) -> None:
        self._params = params
        self._before = before
        self._forgotten = forgotten
        self._runtime = runtime
        self._report = report
        self._area = _Area(params)
        self._blank = [re.compile(pattern) for pattern in params.blank]
        self._frontier = Frontier.open(work / FRONTIER, digest_json(params.key_values()), report)
        self._unread = deque(self._frontier.stored())
        self._gone: dict[str, list[str]] = {}  # pages of a host that got no answer
        self._in_a_row: Counter[str] = Counter()
        self._done = self._total = self._failed = 0

    def run(self) -> None:
        """Crawl until nothing is left to do. Raises UserError for a public crawl without contact, RunError when
        a seed's host goes away (what was fetched is kept, the next run continues)."""
        check_contact(list(self._area.seeds.values()), self._runtime)
        with contextlib.ExitStack() as stack:
            routes = {}
            if self._params.serve == "pydoc":
                site = stack.enter_context(PydocSite())
                routes[urlsplit(PYDOC_SITE).netloc] = site.address
            client = Client(
                contact=self._runtime.contact,
                delay=self._params.delay,
                timeout=self._params.timeout,
                max_bytes=self._params.max_bytes,
                retries=self._params.retries,
                private_sites=own_sites(list(self._area.seeds.values())),
                routes=routes,
                known_robots=self._frontier.robots(),
            )
            stack.callback(client.close)
            self._finish_level(client)
            while self._open_level(client.robots):
                self._finish_level(client)

    def records(self) -> Iterator[Record]:
        """One record per page with enough text, in the order of (depth, URL)."""
        self._frontier.mark_duplicates()
        for page in self._frontier.pages():
            if page.outcome == "ok":
                yield _record(page.final_name, page.title, page.text, page.meta)

    def log(self) -> Iterator[dict[str, Any]]:
        """One row per page, in the order of (depth, URL)."""
        for page in self._frontier.pages(texts=False):
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

    def responses(self) -> Iterator[Response]:
        """What came back for every page that is not forgotten, in the order of (depth, URL)."""
        return self._frontier.responses()

    def counts(self) -> dict[str, Any]:
        """Pages by outcome, levels opened, and pages left out by max_pages."""
        outcomes = self._frontier.outcomes()
        return {
            "pages": sum(outcomes.values()),
            "outcomes": outcomes,
            "levels": self._frontier.opened(),
            "pages_beyond_limit": self._frontier.beyond(),
        }

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to try for the commonest of them."""
        outcomes = self._frontier.outcomes()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        reasons = [page.reason for page in self._frontier.pages(texts=False) if page.reason]
        first = f" (first reason: {reasons[0]})" if reasons else ""
        commonest = max(outcomes, key=lambda outcome: outcomes[outcome])
        return (
            f"source {self._params.name}: no page of {sum(outcomes.values())} gave a record: {counts}{first}",
            _MENDS.get(
                commonest, f"open {min(self._area.seeds.values())} in a browser; check `seeds`, `allow` and `deny`"
            ),
        )

    def discard(self) -> None:
        """Remove the frontier: a crawl that found nothing is worth nothing, and must not be continued."""
        self._frontier.discard()

    def close(self) -> None:
        """Close the frontier; everything in it stays."""
        self._frontier.close()

    def _open_level(self, robots: Robots) -> bool:
        """Fix the pages of the next level; False when there is none."""
        depth = self._frontier.opened()
        left = self._params.max_pages - self._frontier.asked()
        if depth > self._params.max_depth or left <= 0:
            return False
        self._area.widen(self._frontier.seed_ends())
        names = self._area.seeds if depth == 0 else self._found(depth)
        pages: list[tuple[str, str, str, str]] = []
        beyond = 0
        for name in sorted(names):
            if left <= 0:
                beyond += 1
                continue
            refused = robots.refusal(names[name])
            pages.append((name, names[name], *(refused or ("", ""))))
            left -= refused is None
        if not pages:
            return False
        self._frontier.save_robots(robots.known)
        self._frontier.open_level(depth, pages, beyond)
        return True

    def _found(self, depth: int) -> dict[str, str]:
        """Name and URL of the pages linked from the level above and not yet known."""
        known = self._frontier.known(depth)
        names: dict[str, str] = {}
        for url in self._frontier.links(depth - 1):
            name = canonical_url(url)
            if name and name not in known and self._area.has(url):
                names[name] = min(url, names.get(name, url))
        return names

    def _finish_level(self, client: Client) -> None:
        """Fetch and read what still waits in the newest level."""
        depth = self._frontier.opened() - 1
        known = self._frontier.known(depth)
        self._area.widen(self._frontier.seed_ends() if depth > 0 else [])

        def permit(url: str) -> tuple[str, str] | None:
            name = canonical_url(url)
            if name in known:
                return "duplicate", f"redirects to {name}, which is in this crawl"
            if depth == 0 or self._area.has(url):
                return None
            return "redirect_refused", f"redirects out of the crawl's area to {url}"

        queue = _HostQueue(self._frontier.waiting(depth), 1 if self._params.delay > 0 else self._runtime.concurrency)
        self._done, self._total, self._failed = self._frontier.progress()
        running: dict[Future[Response], str] = {}
        with ThreadPoolExecutor(self._runtime.concurrency, thread_name_prefix="fetch") as pool:
            try:
                while True:
                    while len(running) < self._runtime.concurrency and (url := queue.take()):
                        asked_by = self._before.validators(url)
                        running[pool.submit(client.fetch, url, permit, known=asked_by)] = url
                    # A page is read while the workers are out for the next ones.
                    if self._unread:
                        self._read(self._unread.popleft())
                        if not any(future.done() for future in running):
                            continue
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                        url = running.pop(future)
                        queue.release(url)
                        self._store(url, future.result())
                        self._report(
                            self._done, self._total, f"{self._done} of {self._total} pages, {self._failed} failed"
                        )
            except BaseException:
                client.close()
                raise
            finally:
                self._frontier.save_robots(client.robots.known)

    def _store(self, url: str, response: Response) -> None:
        """Keep a response; a good one is to be read next, one that has not changed as it was before."""
        response = self._before.filled(response)
        name = canonical_url(url)
        final_name = canonical_url(response.final_url)
        assert name is not None
        assert final_name is not None
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._done += 1
        if response.outcome == "ok" and self._forgotten and self._forgotten.page(name, final_name):
            page = self._page(response.body, final_name, response.content_type, response.robots_tag)
            self._frontier.pass_through(name, response, final_name, now, FORGOTTEN, page.links)
            self._watch(name, site_of(url), response)
            return
        self._frontier.store(name, response, final_name, now)
        if response.outcome == "ok":
            self._unread.append(name)
        else:
            self._failed += 1
        self._watch(name, site_of(url), response)

    def _watch(self, name: str, site: str, response: Response) -> None:
        """Stop when a seed's host has gone away; all its pages without an answer will be tried again."""
        if response.outcome not in _GONE:
            self._in_a_row[site] = 0
            return
        self._in_a_row[site] += 1
        gone = self._gone.setdefault(site, [])
        gone.append(name)
        if self._in_a_row[site] >= GIVE_UP_AFTER and self._area.holds_host(response.url):
            self._frontier.reopen(gone)
            raise RunError(
                f"source {self._params.name}: {site} stopped answering after {self._done} of {self._total} pages"
                f" ({GIVE_UP_AFTER} failures in a row, the last: {response.reason})",
                "see that the host is up and run the same command again; it continues where it stopped",
            )

    def _page(self, body: bytes, url: str, content_type: str, robots_tag: str) -> Page:
        preset = preset_of(url, self._params.preset, self._params.presets)
        return read_page(body, url, content_type, robots_tag, min_chars=self._params.min_chars, preset=preset)

    def _read(self, name: str) -> None:
        """Take title, text and links from a stored page."""
        body, final_name, content_type, robots_tag = self._frontier.response(name)
        page = self._page(body, final_name, content_type, robots_tag)
        text, title = page.text, page.title
        for pattern in self._blank:
            text, title = pattern.sub("", text), pattern.sub("", title)
        outcome, reason = "ok", ""
        if not page.index:
            outcome, reason = "noindex", "the page asks robots not to store it"
        elif not text.strip():
            outcome, reason = "no_text", "no readable text"
        elif len(text) < self._params.min_chars:
            outcome, reason = "short", f"{len(text)} characters of text, fewer than {self._params.min_chars}"
        elif self._forgotten and self._forgotten.text(text):
            outcome, reason = FORGOTTEN, "its text is that of a page that was forgotten"
        meta = {
            "charset": page.charset,
            "charset_source": page.charset_source,
            "extractor": page.extractor,
            **({"lang": page.lang} if page.lang else {}),
        }
        title, text, meta = (title, text, meta) if outcome == "ok" else ("", "", {})
        self._frontier.finish(name, outcome, reason, page.links, title, text, meta, drop=outcome == FORGOTTEN)


class _Area:
    """Which URLs belong to the crawl."""

    def __init__(self, params: WebSource) -> None:
        tidy = {canonical_url(seed): tidy_url(seed) for seed in params.start}
        self.seeds = {name: url for name, url in tidy.items() if name and url}
        self._hosts = {_host(url) for url in self.seeds.values()}
        self._allow = [re.compile(pattern) for pattern in params.allow]
        self._deny = [re.compile(pattern) for pattern in params.deny]

    def widen(self, urls: list[str]) -> None:
        """Add the hosts that seeds were redirected to: example.org often means www.example.org."""
        self._hosts |= {_host(url) for url in urls}

    def holds_host(self, url: str) -> bool:
        """Whether `url` is on a seed's host."""
        return _host(url) in self._hosts

    def has(self, url: str) -> bool:
        """Whether a link to `url` is followed."""
        if any(pattern.search(url) for pattern in self._deny):
            return False
        return any(pattern.search(url) for pattern in self._allow) if self._allow else self.holds_host(url)


def _host(url: str) -> str:
    """Host, with the port where it is not the usual one."""
    return urlsplit(url).netloc


class _HostQueue:
    """URLs by host, so that a slow host keeps nobody waiting but itself."""

    def __init__(self, urls: list[str], side_by_side: int) -> None:
        self._limit = side_by_side
        self._queues: dict[str, deque[str]] = {}
        self._busy: dict[str, int] = {}
        for url in urls:
            self._queues.setdefault(site_of(url), deque()).append(url)

    def take(self) -> str | None:
        """The next URL of a host that may be asked now; hosts take turns."""
        for site in list(self._queues):
            if self._busy.get(site, 0) >= self._limit:
                continue
            queue = self._queues.pop(site)
            url = queue.popleft()
            if queue:
                self._queues[site] = queue
            self._busy[site] = self._busy.get(site, 0) + 1
            return url
        return None

    def release(self, url: str) -> None:
        """A request is over."""
        self._busy[site_of(url)] -= 1


def _record(url: str, title: str, text: str, meta: str) -> Record:
    facts = json.loads(meta)
    return Record(url, title, text, page_of_origin=url, lang=facts.pop("lang", "und"), meta=facts)


_MENDS = {
    "unreachable": "see that the host is up and the name is right; try the seed with curl",
    "timeout": "the host is too slow or down; raise `timeout` or try again later",
    "too_slow": "raise `timeout` in the source's settings",
    "robots_denied": "the site's robots.txt forbids it; choose another site or ask its owner",
    "robots_unavailable": "the site fails to say what robots may do; try again later",
    "short": "lower `min_chars`, or raise `max_depth` so that pages with text are reached",
    "no_text": "raise `max_depth` so that pages with text are reached",
    "private_address": "only hosts named in `seeds` may be private; add the host there if you mean it",
}
