"""A web crawl: level by level from the seeds, every level in URL order, every page at most once.

What is kept depends on the site and the settings, never on which response came first: a level's pages are
fixed before any of them is fetched, and the next level is fixed when all of them are done.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lmcore.collect.crawl_order import Area, Budget, HostQueue
from lmcore.collect.extract import Page, read_page, second_text
from lmcore.collect.fetched import PASSING, check_contact, own_sites, stand_ins
from lmcore.collect.frontier import BEYOND, Frontier, NewPage
from lmcore.collect.frontier_pages import Row
from lmcore.collect.http import Client, Permit, Response
from lmcore.collect.links import canonical_url, site_of
from lmcore.collect.local_site import PydocSite
from lmcore.collect.params import PYDOC_SITE, CollectRuntime, WebSource
from lmcore.collect.politeness import Robots
from lmcore.collect.presets import preset_of
from lmcore.collect.records import Record
from lmcore.collect.responses import Before
from lmcore.collect.score import score
from lmcore.collect.sitemaps import Sitemaps
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
LAST_ANSWERS = 5.0  # seconds that pages on their way are waited for when a host has gone away
MAX_UNREAD = 64  # responses held while they wait to be read; the others are asked for later
LEAST_AUDIT = 5  # pages that a second extractor reads, in a crawl of few
OVER_BUDGET = "over_budget"
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
        self._area = Area(params)
        self._blank = [re.compile(pattern) for pattern in params.blank]
        self._frontier = Frontier.open(work / FRONTIER, digest_json(params.key_values()), report)
        self._unread: deque[tuple[str, Response | None]] = deque((name, None) for name in self._frontier.stored())
        self._sitemaps = Sitemaps(work, params, before, report) if params.sitemaps else None
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
            while self._open_level(client):
                self._finish_level(client)
        self._frontier.mark_duplicates()
        self._compare()

    def records(self) -> Iterator[Record]:
        """One record per page with enough text, in the order of (depth, URL)."""
        for page in self._frontier.pages():
            if page.outcome == "ok":
                yield _record(page)

    def log(self) -> Iterator[dict[str, Any]]:
        """One row per page, in the order of (depth, URL)."""
        yield from self._frontier.log()
        if self._sitemaps:
            yield from self._sitemaps.log()

    def responses(self) -> Iterator[Response]:
        """What came back for every page that is not forgotten, in the order of (depth, URL), and for sitemaps."""
        yield from self._frontier.responses()
        if self._sitemaps:
            yield from self._sitemaps.responses()

    def counts(self) -> dict[str, Any]:
        """Pages by outcome, levels opened, pages left out by max_pages, agreement of two extractors by host."""
        outcomes = self._frontier.outcomes()
        agreement = self._frontier.agreement()
        return {
            "pages": sum(outcomes.values()),
            "outcomes": outcomes,
            "levels": self._frontier.opened(),
            "pages_beyond_limit": self._frontier.beyond(),
            **({"sitemaps": self._sitemaps.counts()} if self._sitemaps else {}),
            **({"agreement": agreement} if agreement else {}),
        }

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to try for the commonest of them."""
        outcomes = self._frontier.outcomes()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        reason = self._frontier.why_not()
        first = f" (first reason: {reason})" if reason else ""
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
        if self._sitemaps:
            self._sitemaps.discard()

    def close(self) -> None:
        """Close the frontier; everything in it stays."""
        self._frontier.close()
        if self._sitemaps:
            self._sitemaps.close()

    def _open_level(self, client: Client) -> bool:
        """Fix the pages of the next level; False when there is none."""
        depth = self._frontier.opened()
        left = self._params.max_pages - self._frontier.asked()
        if depth > self._params.max_depth or left <= 0 or OVER_BUDGET in self._frontier.outcomes():
            return False
        self._area.widen(self._frontier.seed_ends())
        if depth == 1 and self._sitemaps:
            for links in self._sitemaps.links(client, self._runtime.concurrency, self._area.origins()):
                self._frontier.add_links((url, lastmod) for url, lastmod in links if self._area.has(url))
        opened = self._frontier.open_level(depth, self._new_pages(depth, left, client.robots))
        self._frontier.save_robots(client.robots.settled())
        return opened

    def _new_pages(self, depth: int, left: int, robots: Robots) -> Iterator[NewPage]:
        """The pages of the next level in canonical order; those after `left` of them have the outcome BEYOND."""
        for name, url, lastmod in self._area.first_pages() if depth == 0 else self._found(depth):
            if left <= 0:
                yield NewPage(name, url, BEYOND)
                continue
            outcome, reason = robots.refusal(url) or ("", "")
            yield NewPage(name, url, outcome, reason, lastmod)
            left -= not outcome

    def _found(self, depth: int) -> Iterator[tuple[str, str, str]]:
        """Name, URL and lastmod of the pages linked from the level above and not yet known, each name once."""
        newest = ""
        for name, url, lastmod in self._frontier.candidates(depth):
            if name != newest and self._area.has(url):
                newest = name
                yield name, url, lastmod

    def _finish_level(self, client: Client) -> None:
        """Fetch and read what still waits in the newest level."""
        depth = self._frontier.opened() - 1
        self._area.widen(self._frontier.seed_ends() if depth > 0 else [])
        names = self._frontier.names

        def permit(url: str) -> tuple[str, str] | None:
            name = canonical_url(url)
            if name and names.known(name, depth):
                return "duplicate", f"redirects to {name}, which is in this crawl"
            if depth == 0 or self._area.has(url):
                return None
            return "redirect_refused", f"redirects out of the crawl's area to {url}"

        side_by_side = 1 if self._params.delay > 0 else self._runtime.concurrency
        queue = HostQueue(self._frontier, depth, side_by_side)
        budget = Budget(self._frontier, depth, self._params.max_total_bytes)
        self._done, self._total, self._failed = self._frontier.progress()
        running: dict[Future[Response], tuple[str, str]] = {}
        with ThreadPoolExecutor(self._runtime.concurrency, thread_name_prefix="fetch") as pool:
            try:
                while True:
                    while (
                        len(running) < self._runtime.concurrency
                        and len(self._unread) < MAX_UNREAD
                        and (page := queue.take(budget.cut))
                    ):
                        name, url = page
                        if given := self._before.given(url):
                            queue.release(url)
                            budget.spend(name, self._store(url, given))
                            continue
                        asked_by = self._before.validators(url)
                        running[pool.submit(client.fetch, url, permit, known=asked_by)] = page
                    # A page is read while the workers are out for the next ones.
                    if self._unread:
                        self._read(*self._unread.popleft())
                        if not any(future.done() for future in running):
                            continue
                    if not running:
                        if self._unread:
                            continue
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                        name, url = running.pop(future)
                        queue.release(url)
                        budget.spend(name, self._store(url, future.result()))
                        self._report(
                            self._done, self._total, f"{self._done} of {self._total} pages, {self._failed} failed"
                        )
            except RunError:  # what is on its way was asked for already: nobody is to be asked for it twice
                for future in wait(running, timeout=LAST_ANSWERS)[0]:
                    if (response := future.result()).outcome == "ok":
                        self._keep(running[future][1], self._before.filled(response))
                client.close()
                raise
            except BaseException:
                client.close()
                raise
            finally:
                self._frontier.save_robots(client.robots.settled())
        self._stand_in(depth, permit, budget)
        self._gone.clear()  # a level that is done stays so, whatever becomes of its hosts
        if budget.cut:
            self._frontier.cut(depth, budget.cut, OVER_BUDGET, "max_total_bytes was used up by the pages before")

    def _stand_in(self, depth: int, permit: Permit, budget: Budget) -> None:
        """Take the pages of a level that failed in passing as the edition before has them, links and all.

        Only when the whole level has been asked for: until then its host may turn out to have gone away.
        """
        failed = self._frontier.failed(depth, PASSING)
        room = self._params.max_pages - self._frontier.asked()
        for response in stand_ins(failed, self._before, permit, room):
            name = canonical_url(response.url) or ""
            if budget.cut and name >= budget.cut:
                break
            budget.spend(name, self._keep(response.url, response))
            while self._unread:
                self._read(*self._unread.popleft())

    def _store(self, url: str, response: Response) -> int:
        """Keep a response; a good one is to be read next, one that has not changed as it was before. Gives its size."""
        response = self._before.filled(response)
        self._done += 1
        self._failed += response.outcome != "ok"
        size = self._keep(url, response)
        self._watch(canonical_url(url) or "", site_of(url), response)
        return size

    def _keep(self, url: str, response: Response) -> int:
        """Keep a response, as links only where the page is forgotten. Gives its size."""
        name = canonical_url(url)
        final_name = canonical_url(response.final_url)
        assert name is not None
        assert final_name is not None
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        if response.outcome == "ok" and self._forgotten and self._forgotten.page(name, final_name):
            page = self._page(response.body, final_name, response.content_type, response.robots_tag)
            self._frontier.pass_through(name, response, final_name, now, FORGOTTEN, page.links)
            return len(response.body)
        self._frontier.store(name, response, final_name, now)
        if response.outcome == "ok":
            self._unread.append((name, replace(response, final_url=final_name)))
        return len(response.body)

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
        return read_page(
            body,
            url,
            content_type,
            robots_tag,
            min_chars=self._params.min_chars,
            preset=preset,
            extractor=self._params.extractor,
        )

    def _blanked(self, text: str) -> str:
        for pattern in self._blank:
            text = pattern.sub("", text)
        return text

    def _read(self, name: str, response: Response | None) -> None:
        """Take title, text and links from a stored page; without `response` from what the frontier has of it."""
        if response is None:
            body, final_name, content_type, robots_tag = self._frontier.response(name)
        else:
            body, final_name = response.body, response.final_url
            content_type, robots_tag = response.content_type, response.robots_tag
        page = self._page(body, final_name, content_type, robots_tag)
        text, title = self._blanked(page.text), self._blanked(page.title)
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
            **{key: value for key in ("lang", "date", "canonical") if (value := getattr(page, key))},
        }
        title, text, meta = (title, text, meta) if outcome == "ok" else ("", "", {})
        links = page.links
        if page.index and page.canonical and page.canonical != final_name:
            links = [*links, page.canonical]
        self._frontier.finish(
            name, outcome, reason, links, title, text, meta, canonical=page.canonical, drop=outcome == FORGOTTEN
        )

    def _compare(self) -> None:
        """Read a sample of the pages by a second extractor, and note how far the two agree."""
        if not self._params.audit:
            return
        pages = self._frontier.records()
        for name in self._frontier.sample(max(math.ceil(self._params.audit * pages), min(LEAST_AUDIT, pages))):
            body, final_name, content_type, robots_tag = self._frontier.response(name)
            page = self._page(body, final_name, content_type, robots_tag)
            second = second_text(page, body, final_name, content_type)
            if second is not None:
                self._frontier.agree(name, score(self._blanked(second), self._frontier.text(name)).f1)


def _record(page: Row) -> Record:
    facts = json.loads(page.meta)
    lang = facts.pop("lang", "und")
    if page.lastmod:
        facts["lastmod"] = page.lastmod
    return Record(page.final_name, page.title, page.text, page_of_origin=page.final_name, lang=lang, meta=facts)


_MENDS = {
    "unreachable": "see that the host is up and the name is right; try the seed with curl",
    "timeout": "the host is too slow or down; raise `timeout` or try again later",
    "too_slow": "raise `timeout` in the source's settings",
    "robots_denied": "the site's robots.txt forbids it; choose another site or ask its owner",
    "robots_unavailable": "the site fails to say what robots may do; try again later",
    "short": "lower `min_chars`, or raise `max_depth` so that pages with text are reached",
    "no_text": "raise `max_depth` so that pages with text are reached",
    "unavailable": "the server says no for now; try again later",
    "private_address": "only hosts named in `seeds` may be private; add the host there if you mean it",
}
