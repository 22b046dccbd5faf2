"""Pages of a wiki, asked for by its API: all of them once, and in later editions those that have changed.

The wiki is asked which pages there are, then for the revision of each, fifty at a time, then for the texts of those
that the edition before does not have in that revision.
"""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcore.collect.charset import clean
from lmcore.collect.fetched import FETCHED, Fetcher, check_contact, own_sites
from lmcore.collect.http import Response
from lmcore.collect.links import tidy_url
from lmcore.collect.params import CollectRuntime
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.wikipedia import Wiki, WikipediaSource, language
from lmcore.collect.wikipedia_api import MAX_BYTES, TITLES, Api, batches, judge, listed, mapping, page_id
from lmcore.collect.wikipedia_select import Known, Selection, known_pages, time_of
from lmcore.collect.wikipedia_store import PAGES, Page, Pages
from lmcore.collect.wikitext import Plain, Unparsable, intro, tidy
from lmcore.collect.wikitext_workers import Workers
from lmcore.documents import FORGOTTEN
from lmcore.progress import Report
from storage.digest import canonical_json, digest_json
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

INTROS = 20  # extracts in an answer, at most (TextExtracts' exlimit); of whole pages one
AT_ONCE = 200  # pages that are read before they are kept
_SHORT = frozenset({"short", "no_text", "disambiguation"})  # what stays so as long as the page is as it was
TAKEN_DOWN = "taken down by collect-train forget"


class WikiReading:
    """Reads the pages of a site; has the methods of `records.Gathered`."""

    def __init__(
        self,
        work: Path,
        params: WikipediaSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        forgotten: Forgotten | None = None,
    ) -> None:
        self._work = work
        self._params = params
        self._runtime = runtime
        self._report = report
        self._before = before
        self._forgotten = forgotten
        self._pages = Pages.open(work / PAGES, digest_json(params.key_values()), report)
        self._kept: dict[int, tuple[Known, str]] = {}  # pages that stay, each with its outcome
        self._rest: list[tuple[str, str, str]] = []  # URL, outcome, reason of what is no page, or none any more
        self._site: Response | None = None
        self._cut = False

    def run(self) -> None:
        """Ask the wiki and read what it sends. Raises RunError when it cannot be had; the next run goes on."""
        api_url = self._params.api
        check_contact([api_url], self._runtime)
        settings = {
            "timeout": self._params.timeout,
            "max_bytes": MAX_BYTES,
            "delay": self._params.delay,
            "retries": self._params.retries,
            "private_sites": own_sites([api_url]),
            "judge": judge,
        }
        with Fetcher.open(self._work, self._params, self._runtime, self._before, self._report, **settings) as fetcher:
            api = Api(fetcher, api_url, self._params.maxlag, self._params.name)
            wiki, facts = api.wiki()
            self._check_extractor(facts)
            self._site = fetcher.get(api.site_url(), types=None)
            known = known_pages(self._before, wiki.prefix)
            since = time_of(self._before.body(api.site_url())) if self._before.same_settings else None
            selection = Selection(api, self._params, wiki, known, since)
            self._report(0, None, "asks which pages there are")
            selection.find()
            self._cut = selection.cut
            self._rest += selection.lost
            changed = self._of_old(selection, known)
            self._read(api, wiki, self._revisions(api, wiki, changed, known))
            self._pages.mark_duplicates()

    def close(self) -> None:
        """Close the file of pages; everything in it stays."""
        self._pages.close()

    def discard(self) -> None:
        """Forget what was asked and read."""
        self._pages.discard()
        for path in self._work.glob(f"{FETCHED}*"):
            path.unlink()

    def records(self) -> Iterator[Record | Kept]:
        """The pages that have not changed since the edition before, then the others by their ids."""
        stays = frozenset(known.record for known, outcome in self._kept.values() if outcome == "unchanged")
        if stays:
            yield Kept(records=stays)
        for page in self._pages.pages("ok"):
            yield record_of(page, self._license)

    def responses(self) -> Iterator[Response]:
        """What the wiki said of itself, and what it sent for each page: an answer holds many, and each is to be had,
        and forgotten, alone."""
        if self._site:
            yield self._site
        for page in self._pages.pages("ok", raw=True):
            if page.raw is not None and not (self._forgotten and self._forgotten.text(page.text)):
                yield Response(
                    page.url, page.url, "ok", content_type="application/json", body=page.raw, size=len(page.raw)
                )

    def log(self) -> Iterator[dict[str, Any]]:
        """A row a page: those that stay, those that were read, and what is no page (any more)."""
        for known, outcome in self._kept.values():
            yield log_row(known.url, outcome, "", revision=known.revision)
        for page in self._pages.pages():
            yield log_row(
                page.url, page.outcome, page.reason, size=len(page.text.encode()), revision=page.revision,
                moment=page.moment, status=200, tries=1,
            )  # fmt: skip
        for url, outcome, reason in self._rest:
            yield log_row(url, outcome, reason, status=200, tries=1)

    def counts(self) -> dict[str, Any]:
        """Pages by outcome, and whether there are more than `max_pages`."""
        outcomes = self._pages.outcomes()
        outcomes.update(outcome for _, outcome in self._kept.values())
        outcomes.update(outcome for _, outcome, _ in self._rest)
        return {
            "pages": sum(outcomes.values()),
            "outcomes": dict(sorted(outcomes.items())),
            "cut_by_max_pages": self._cut,
        }

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to look at."""
        counts: Counter[str] = Counter(self.counts()["outcomes"])
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no page was found"
        reasons = [row["reason"] for row in self.log() if row["reason"]]
        return (
            f"source {self._params.name}: no page of {self._params.api} gave a record: {told}"
            + (f" (first reason: {reasons[0]})" if reasons else ""),
            "check `titles`, `categories` (as they are named in that wiki), `namespaces` and `min_chars`",
        )

    @property
    def _license(self) -> bool:
        """Whether records name the licence that the wiki names: not against the recipe."""
        return self._params.license == "unknown"

    @property
    def _extracts(self) -> bool:
        return self._params.extractor != "wikitext"

    def _check_extractor(self, facts: dict[str, Any]) -> None:
        extensions = facts.get("extensions")
        names = (
            {str(row.get("name")) for row in extensions if isinstance(row, dict)}
            if isinstance(extensions, list)
            else {}
        )
        if self._extracts and names and "TextExtracts" not in names:
            raise UserError(
                f"source {self._params.name}: {self._params.api} makes no plain text (it has no TextExtracts)",
                "set `extractor: wikitext`: the wikitext of its pages is then read here",
            )

    def _of_old(self, selection: Selection, known: dict[int, Known]) -> list[int]:
        """Pages whose revisions are to be asked for, by id; pages that stay or are meant no more are noted."""
        for page, old in known.items():
            if page not in selection.pages:
                self._rest.append((old.url, "removed", "no longer among the pages that the source chooses"))
        if not self._before.same_settings or selection.changed is None:
            return sorted(selection.pages)
        ask = []
        for page in sorted(selection.pages):
            if page in known and page not in selection.changed:
                self._kept[page] = known[page], "unchanged"
            else:
                ask.append(page)
        return ask

    def _revisions(self, api: Api, wiki: Wiki, ids: list[int], known: dict[int, Known]) -> list[int]:
        """Of these pages those whose texts are to be asked for; what becomes of the others is noted."""
        short = self._short_before() if self._before.same_settings else {}
        wanted: list[int] = []
        asked = {"prop": "info|pageprops", "inprop": "url", "ppprop": "disambiguation"}
        questions = [{**asked, "pageids": batch} for batch in batches(ids)]
        for done, (_, pages) in enumerate(api.pages(questions)):
            self._report(done * TITLES, len(ids), f"{done * TITLES} of {len(ids)} pages looked up")
            for page in pages:
                number, url = page_id(page), _url(page, wiki)
                revision = str(page.get("lastrevid"))
                old = known.get(number)
                if old and (page.get("missing") or old.url != url):
                    why = "deleted since the edition before" if page.get("missing") else f"moved to {url}"
                    self._rest.append((old.url, "removed", why))
                if page.get("missing") or not number:
                    if not old:
                        self._rest.append((url, "missing", "deleted while the source was collected"))
                elif self._forgotten and self._forgotten.page(url):
                    self._rest.append((url, FORGOTTEN, TAKEN_DOWN))
                elif page.get("redirect"):
                    self._rest.append((url, "redirect", "the page only leads to another"))
                elif page.get("ns") not in self._params.namespaces:
                    self._rest.append((url, "namespace", f"in namespace {page.get('ns')}"))
                elif _is_disambiguation(page) and self._params.disambiguation == "drop":
                    self._rest.append((url, "disambiguation", "a page that points to others of like name"))
                elif self._before.same_settings and old and (old.url, old.revision) == (url, revision):
                    self._kept[number] = old, "unchanged"
                elif url in short and short[url][0] == revision:
                    self._kept[number] = Known("", url, revision), short[url][1]
                else:
                    wanted.append(number)
        return wanted

    def _short_before(self) -> dict[str, tuple[str, str]]:
        """Revision and outcome of pages that gave no record in the edition before, by URL."""
        rows = self._before.log()
        stays = _SHORT | {FORGOTTEN} if self._forgotten else _SHORT
        return {row["url"]: (row["etag"], row["outcome"]) for row in rows if row["outcome"] in stays and row["etag"]}

    def _read(self, api: Api, wiki: Wiki, ids: list[int]) -> None:
        """Ask for the texts of these pages, read and keep them; those that are kept already are not read again."""
        size = (INTROS if self._params.intro else 1) if self._extracts else TITLES
        self._pages.retain(ids)  # others were asked for before answers were lost
        have = self._pages.numbers()
        left = [ids[at : at + size] for at in range(0, len(ids), size)]
        left = [numbers for numbers in left if not have.issuperset(numbers)]
        done = len(ids) - sum(map(len, left))
        count = min(self._runtime.concurrency, len(os.sched_getaffinity(0)))
        with Workers(count, wiki.names) as workers:
            found = workers.read(self._texts(api, wiki, left))
            while some := list(islice(found, AT_ONCE if not self._extracts else TITLES)):
                self._pages.add(finished(page, said, self._params, self._forgotten) for page, said in some)
                done += len(some)
                self._report(done, len(ids), f"{done} of {len(ids)} pages read")

    def _texts(self, api: Api, wiki: Wiki, left: list[list[int]]) -> Iterator[tuple[Page, str | None]]:
        """Pages, each with its wikitext where that is to be read here."""
        common: dict[str, Any] = {
            "inprop": "url",
            "ppprop": "disambiguation",
            "clshow": "!hidden",
            "cllimit": "max",
            "rvslots": "main",
        }
        if self._extracts:
            common |= {"prop": "info|pageprops|categories|revisions|extracts", "rvprop": "ids|timestamp"}
            common |= {"explaintext": 1, "exlimit": "max"} | ({"exintro": 1} if self._params.intro else {})
        else:
            common |= {"prop": "info|pageprops|categories|revisions", "rvprop": "ids|timestamp|content"}
        questions = [{**common, "pageids": "|".join(map(str, numbers))} for numbers in left]
        moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for (_, pages), numbers in zip(api.pages(questions), left, strict=True):
            there = {page_id(page): page for page in pages}
            for number in numbers:
                yield self._sent(number, there.get(number, {"missing": True}), wiki, moment)

    def _sent(self, number: int, sent: dict[str, Any], wiki: Wiki, moment: str) -> tuple[Page, str | None]:
        title = clean(str(sent.get("title") or ""))
        page = Page(number, _url(sent, wiki), title=title, moment=moment)
        revision = next(map(mapping, listed(sent.get("revisions"))), {})
        if sent.get("missing") or not revision:
            page.outcome, page.reason = "missing", "deleted while the source was collected"
            return page, None
        page.revision = str(revision.get("revid"))
        page.lang = language(sent.get("pagelanguage")) if sent.get("pagelanguage") else wiki.lang
        page.raw = canonical_json(sent).encode("utf-8", "surrogatepass")
        rows = map(mapping, listed(sent.get("categories")))
        categories = [name for row in rows if (name := clean(str(row.get("title"))).partition(":")[2])]
        page.tags = {"categories": "|".join(dict.fromkeys(categories))} if categories else {}
        if _is_disambiguation(sent):
            page.tags["disambiguation"] = "yes"
        page.meta = {
            "extractor": "extracts" if self._extracts else "mwparserfromhell",
            "pageid": number,
            "revid": revision["revid"] if isinstance(revision.get("revid"), int) else 0,
            "timestamp": clean(str(revision.get("timestamp") or "")),
            "license": wiki.license,
        }
        if self._extracts:
            page.text = str(sent.get("extract") or "")
            return page, None
        slot = mapping(mapping(revision.get("slots")).get("main"))
        content = slot.get("content")
        if slot.get("contentmodel", "wikitext") != "wikitext" or not isinstance(content, str):
            page.outcome, page.reason = "no_text", f"no wikitext but {clean(str(slot.get('contentmodel')))[:40]}"
            return page, None
        return page, content


def finished(
    page: Page, said: Plain | Unparsable | None, params: WikipediaSource, forgotten: Forgotten | None = None
) -> Page:
    """A page with its text, or with what is wrong with it; of one that is forgotten nothing but its URL stays."""
    if isinstance(said, Unparsable):
        page.outcome, page.reason = "unparsable", str(said)
    elif isinstance(said, Plain):
        page.text = said.text
        if "categories" not in page.tags and said.categories:
            page.tags["categories"] = "|".join(map(clean, said.categories))
        if said.disambiguation:
            page.tags["disambiguation"] = "yes"
    if page.outcome == "ok":
        page.text = clean(page.text if said else tidy(page.text))
        if params.intro:
            page.text = intro(page.text)
        if params.disambiguation == "drop" and "disambiguation" in page.tags:
            page.outcome, page.reason = "disambiguation", "a page that points to others of like name"
        elif not page.text.strip():
            page.outcome, page.reason = "no_text", "no text on it"
        elif len(page.text) < params.min_chars:
            page.outcome = "short"
            page.reason = f"{len(page.text)} characters of text, fewer than {params.min_chars}"
    if forgotten and (forgotten.page(page.url) or forgotten.text(page.text)):
        page.outcome, page.reason, page.title, page.tags, page.meta = FORGOTTEN, TAKEN_DOWN, "", {}, {}
    if page.outcome != "ok":
        page.text, page.raw = "", None
    return page


def record_of(page: Page, with_license: bool) -> Record:
    """The record of a page; its licence is the wiki's, unless the recipe names one."""
    meta = dict(page.meta)
    license_ = meta.pop("license", "")
    return Record(
        page.url,
        page.title,
        page.text,
        page_of_origin=page.url,
        lang=page.lang,
        license=license_ if with_license else "",
        tags=page.tags,
        meta=meta,
    )


def log_row(
    url: str,
    outcome: str,
    reason: str,
    *,
    size: int = 0,
    revision: str = "",
    moment: str = "",
    status: int = 0,
    tries: int = 0,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """A row of the fetch log; `etag` is the revision of the page."""
    return {
        "url": url,
        "final_url": url,
        "status": status,
        "outcome": outcome,
        "reason": reason,
        "tries": tries,
        "seconds": seconds,
        "bytes": size,
        "fetched_at": moment or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "etag": revision,
        "last_modified": "",
    }


def _is_disambiguation(page: dict[str, Any]) -> bool:
    return "disambiguation" in mapping(page.get("pageprops"))


def _url(page: dict[str, Any], wiki: Wiki) -> str:
    given = page.get("fullurl")
    return (tidy_url(given) if isinstance(given, str) else None) or wiki.url_of(page.get("title"), page_id(page))
