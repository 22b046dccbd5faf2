"""Feeds: what they tell of that the edition before does not have, with the articles behind it.

A feed is a window on what is new. An entry that the edition before has, and that its feed does not call updated, is
kept without asking for anything; so is what has left the window.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lmcore.collect.extract import Page, read_page
from lmcore.collect.feed_entries import Entry, Feed, read_feed
from lmcore.collect.feed_params import FeedSource
from lmcore.collect.fetched import FETCHED, PASSING, Fetcher, check_contact, own_sites
from lmcore.collect.http import PAGE_TYPES, Response
from lmcore.collect.links import canonical_url
from lmcore.collect.params import CollectRuntime
from lmcore.collect.presets import preset_of
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.tokens import Tokens
from lmcore.collect.unpack import Unreadable
from lmcore.documents import FORGOTTEN
from lmcore.progress import Report

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

_NOT_ASKED = "outside"


@dataclass(frozen=True)
class _Known:
    """A record of the edition before, and the entry that it was made of."""

    record: str
    url: str
    feed: str
    id: str
    version: str


@dataclass(frozen=True)
class _Wanted:
    """An entry that is to become a record; `old` is the record it would take the place of."""

    feed: str
    url: str  # of the record
    entry: Entry
    old: str = ""


class FeedReading:
    """Reads the feeds of a source; a program over `Fetcher`, so it goes on wherever it was killed."""

    def __init__(
        self,
        work: Path,
        params: FeedSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        forgotten: Forgotten | None,
        tokens: Tokens,
    ) -> None:
        self._work = work
        self._params = params
        self._runtime = runtime
        self._report = report
        self._before = before
        self._forgotten = forgotten
        self._tokens = tokens
        self._stack = contextlib.ExitStack()
        self._fetcher: Fetcher | None = None
        self._known = [known for known in _known(before) if known.feed in params.urls]
        # Something is still to be had from then: it may stand on a page of a feed that has nothing new before it.
        self._owed = any(row["outcome"] in PASSING for row in before.log())
        self._wanted: dict[str, _Wanted] = {}
        self._outcomes: dict[str, tuple[str, str]] = {}  # of URLs, where it is not the one of the answer
        self._refused: dict[str, tuple[str, str]] = {}  # records that nothing was asked for
        self._pages: dict[str, str] = {}  # pages of feeds, and the feed that each is of
        self._unfinished: set[str] = set()  # feeds with an entry that is to be had another time
        self._counts: Counter[str] = Counter()

    def run(self) -> None:
        """Ask for the feeds, then for the articles. Raises UserError for public feeds without a contact."""
        params = self._params
        check_contact(params.urls, self._runtime)
        own = own_sites([*params.urls, *(f"http://{host}/" for host in params.allow_hosts)])
        self._fetcher = self._stack.enter_context(
            Fetcher.open(
                self._work,
                params,
                self._runtime,
                self._before,
                self._report,
                private_sites=own,
                delay=params.delay,
                timeout=params.timeout,
                max_bytes=params.max_bytes,
                retries=params.retries,
                tokens=self._tokens,
            )
        )
        seen: set[str] = set()
        for done, feed in enumerate(params.urls):
            self._report(done, len(params.urls), f"{done} of {len(params.urls)} feeds")
            seen |= self._read_feed(self._fetcher, feed)
        self._counts["left"] = len({known.url for known in self._known} - seen)
        articles = [] if params.follow == "summary" else [url for url in self._wanted if self._may_ask(url)]
        answers = self._fetcher.get_all(articles, types=PAGE_TYPES, permit=self._permit)
        for done, response in enumerate(answers, 1):
            wanted = self._wanted[response.url]
            if response.outcome in PASSING:
                self._unfinished.add(wanted.feed)
            elif response.outcome == "ok" and self._is_forgotten(response):
                self._fetcher.fetched.drop(response.url, FORGOTTEN, "its text is that of a page that was forgotten")
            self._report(done, len(articles), f"{done} of {len(articles)} articles")

    def records(self) -> Iterator[Record | Kept]:
        """What is kept of the edition before, then what is new, ordered by URL."""
        made = {url: record for url, wanted in self._wanted.items() if (record := self._record(wanted)) is not None}
        gone = {self._wanted[url].old for url in made}
        yield Kept(records=frozenset(known.record for known in self._known if known.url not in gone | made.keys()))
        yield from (made[url] for url in sorted(made))

    def responses(self) -> Iterator[Response]:
        """What came back for the articles, and that there were answers for the feeds (their texts are records).

        A feed with an entry that is still to be had loses its validators: next time it is to be sent whole.
        """
        assert self._fetcher is not None
        for response in self._fetcher.fetched.responses():
            if self._pages.get(response.url) in self._unfinished:
                response = replace(response, etag="", last_modified="")
            yield response

    def log(self) -> Iterator[dict[str, Any]]:
        """A row per URL that was asked for, then one per entry that nothing was asked for."""
        assert self._fetcher is not None
        for row in self._fetcher.fetched.log():
            outcome, reason = self._outcomes.get(row["url"], (row["outcome"], row["reason"]))
            yield row | {"outcome": outcome, "reason": reason}
        facts = {"status": 0, "tries": 0, "seconds": 0.0, "bytes": 0, "fetched_at": "", "etag": "", "last_modified": ""}
        for url, (outcome, reason) in sorted(self._refused.items()):
            yield {"url": url, "final_url": url, "outcome": outcome, "reason": reason, **facts}

    def counts(self) -> dict[str, Any]:
        """URLs by outcome; entries: new or updated, known, left (the window of their feed), repeated."""
        outcomes = Counter(row["outcome"] for row in self.log())
        return {"outcomes": dict(sorted(outcomes.items())), "entries": dict(sorted(self._counts.items()))}

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to look at."""
        rows = list(self.log())
        counts = Counter(row["outcome"] for row in rows)
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        reason = next((f" (first reason: {row['url']}: {row['reason']})" for row in rows if row["reason"]), "")
        mend = "open the feed in a browser; check `feeds`, `follow` and `min_chars`"
        if counts[_NOT_ASKED]:
            mend = "add the hosts that the articles lie on to `allow_hosts`, or set `follow: summary`"
        return f"source {self._params.name}: no entry gave a record: {told}{reason}", mend

    def close(self) -> None:
        """Let go of the answers; they stay in the work folder."""
        self._stack.close()

    def discard(self) -> None:
        """Forget all answers, so that the next run asks anew."""
        self.close()
        for path in self._work.glob(f"{FETCHED}*"):
            path.unlink()
        for path in self._work.glob("downloads/*"):
            path.unlink()

    def _read_feed(self, fetcher: Fetcher, feed: str) -> set[str]:
        """Sort the entries of a feed into known and wanted; gives the known records that it still tells of."""
        by_id = {known.id: known for known in self._known if known.feed == feed}
        by_url = {known.url: known for known in self._known}
        seen: set[str] = set()
        left = self._params.max_entries
        ids: set[str] = set()
        url, asked = feed, set[str]()
        while url and url not in asked and len(asked) < self._params.max_pages:
            asked.add(url)
            response, path = fetcher.download(url)
            self._pages.setdefault(url, feed)
            page = self._parsed(response, path)
            if response.outcome in PASSING or (page and page.cut):
                self._unfinished.add(feed)
            if page is None:
                return seen | {known.url for known in by_id.values()}
            self._counts["repeated"] += page.repeated
            fresh = 0
            for entry in page.entries[:left]:
                left -= 1
                record = entry.url or f"{feed}#{quote(entry.id)}"
                if entry.id in ids or record in self._wanted:
                    self._counts["repeated"] += 1
                    continue
                ids.add(entry.id)
                known = by_id.get(entry.id) or by_url.get(record)
                as_before = known and (known.version == entry.version or known.feed != feed)
                if known and as_before and self._before.same_settings:
                    seen.add(known.url)
                    self._counts["known"] += 1
                    continue
                fresh += 1
                seen |= {known.url} if known else set()
                self._counts["new"] += 1
                self._want(_Wanted(feed, record, entry, known.url if known else ""))
            url = page.next_url if (fresh or self._owed) and left and self._permit(page.next_url) is None else ""
        return seen

    def _parsed(self, response: Response, path: Path) -> Feed | None:
        """What a feed says; None when nothing can be told, or nothing has changed."""
        if response.outcome != "ok":
            return None
        try:
            page = read_feed(path.read_bytes(), response.final_url, response.content_type, self._params.lang)
        except Unreadable as error:
            self._outcomes[response.url] = error.outcome, error.reason
            return None
        if page.problem:
            self._outcomes[response.url] = ("truncated" if page.cut else "ok"), page.problem
        return page

    def _want(self, wanted: _Wanted) -> None:
        if self._forgotten and self._forgotten.page(wanted.url, canonical_url(wanted.url) or ""):
            self._refused[wanted.url] = FORGOTTEN, "taken down by collect-train forget"
            return
        self._wanted[wanted.url] = wanted

    def _may_ask(self, url: str) -> bool:
        """Whether the article of a wanted record is asked for; where not, the log says why if that costs the record."""
        refusal = self._permit(url) if self._wanted[url].entry.url else ("no_link", "an entry without a link")
        if refusal and self._params.follow == "article":
            self._refused[url] = refusal
        return refusal is None

    def _permit(self, url: str) -> tuple[str, str] | None:
        if urlsplit(url).netloc in self._params.hosts:
            return None
        return _NOT_ASKED, f"{urlsplit(url).netloc} is neither a feed's host nor in allow_hosts"

    def _is_forgotten(self, response: Response) -> bool:
        if not self._forgotten:
            return False
        named = self._forgotten.page(canonical_url(response.final_url) or "")
        return named or self._forgotten.text(self._page(response).text)

    def _page(self, answer: Response) -> Page:
        """What stands on the page of an article."""
        return read_page(
            answer.body,
            answer.final_url,
            answer.content_type,
            answer.robots_tag,
            min_chars=self._params.min_chars,
            preset=preset_of(answer.final_url, own=self._params.presets),
        )

    def _record(self, wanted: _Wanted) -> Record | None:
        """The record of an entry; None when there is no text to be had, and the log says why."""
        entry, follow = wanted.entry, self._params.follow
        about = {"feed": wanted.feed, "id": entry.id, "version": entry.version}
        title, text, lang, date, meta = entry.title, entry.text, entry.lang, entry.date, {"extractor": "feed"}
        assert self._fetcher is not None
        answer = None if follow == "summary" else self._fetcher.fetched.answer(wanted.url)
        owed = answer is not None and answer.outcome in PASSING
        if answer is not None and answer.outcome == "ok":
            page = self._page(answer)
            if not page.index:
                self._outcomes[wanted.url] = "noindex", "the page asks robots not to store it"
                return None
            if len(page.text) >= self._params.min_chars or follow == "article":
                title, text, lang = title or page.title, page.text, page.lang or lang
                date = date or page.date
                meta = {"charset": page.charset, "charset_source": page.charset_source, "extractor": page.extractor}
        elif follow == "article" or (answer is not None and answer.outcome == FORGOTTEN):
            return None
        elif owed:
            if wanted.old:
                return None  # better the article as it was than the feed's few words on it
            about["version"] = ""  # the feed's own text for now; the article is asked for again next time
        if len(text) < self._params.min_chars and owed:
            return None
        if len(text) < self._params.min_chars:
            told = (
                "short" if text else "no_text",
                f"{len(text)} characters of text, fewer than {self._params.min_chars}",
            )
            (self._refused if answer is None else self._outcomes)[wanted.url] = told
            return None
        given = {"date": date, "rights": entry.rights}
        return Record(
            wanted.url,
            title,
            text,
            page_of_origin=wanted.url,
            lang=lang,
            tags={"categories": "; ".join(entry.categories)} if entry.categories else {},
            meta={**meta, **{name: value for name, value in given.items() if value}, "entry": about},
        )


def _known(before: Before) -> Iterator[_Known]:
    """The records of the edition before that were made of entries."""
    for row in before.records(all_needed=True):  # what has left its feed is to be had nowhere else
        about = row["meta"].get("entry")
        if isinstance(about, dict):
            yield _Known(row["record_id"], row["url"], about["feed"], about["id"], about["version"])
