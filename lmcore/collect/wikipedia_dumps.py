"""Dumps of wikis as a source: which files, each read from where an earlier run stopped, what became of the pages."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lmcore.collect.charset import clean
from lmcore.collect.fetched import FETCHED, PASSING, Fetcher, check_contact, own_sites
from lmcore.collect.files import DELAY, DOWNLOAD_SECONDS, Found, find_files
from lmcore.collect.http import Response
from lmcore.collect.params import CollectRuntime
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.unpack import Unreadable
from lmcore.collect.wikipedia import Wiki, WikipediaSource, is_dump, is_index
from lmcore.collect.wikipedia_dump import Dump, Place, RawPage
from lmcore.collect.wikipedia_pages import TAKEN_DOWN, finished, log_row, record_of
from lmcore.collect.wikipedia_select import Known, known_pages
from lmcore.collect.wikipedia_store import PAGES, Page, Pages
from lmcore.collect.wikitext_workers import Workers
from lmcore.documents import FORGOTTEN
from lmcore.progress import Report
from storage.digest import digest_json
from storage.errors import RunError

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

BLOCK = 200  # pages that are kept together: what a kill costs
PASSED = 20_000  # pages that are only counted, after which it is noted where we are
_SILENT = frozenset({"ok", "redirect", "namespace", "short", "no_text", "disambiguation", "unchanged"})  # counted only


class WikiDumps:
    """Reads the dumps of a source; has the methods of `records.Gathered`."""

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
        self._downloads: dict[str, tuple[Response, Path]] = {}
        self._files: list[dict[str, Any]] = []  # rows of the log
        self._kept: dict[str, int] = {}  # dumps that stay as they were, with their pages
        self._stays: set[str] = set()  # records
        self._counts: Counter[str] = Counter()
        self._old: dict[str, dict[int, Known]] = {}

    def run(self) -> None:
        """Download what is named by URL, and read. Raises RunError when nothing matches or a server is gone."""
        self._fetch()
        found = find_files(self._params) if any(path not in self._params.urls for path in self._params.paths) else []
        found += [
            Found(url, path, None if response.outcome in ("ok", "unchanged") else (response.outcome, response.reason))
            for url, (response, path) in self._downloads.items()
        ]
        if not found:
            raise RunError(
                f"source {self._params.name}: no dump matches {', '.join(self._params.paths)} in {self._params.base}",
                "check `paths`: dumps are named like huwiki-20261101-pages-articles.xml.bz2 (.xml, .xml.bz2, .xml.gz)",
            )
        for file in sorted(found, key=lambda file: file.locator):
            self._dump(file)
        self._pages.mark_duplicates()

    def close(self) -> None:
        """Close the file of pages; everything in it stays."""
        self._pages.close()

    def discard(self) -> None:
        """Forget what was read and downloaded."""
        self._pages.discard()
        shutil.rmtree(self._work / "downloads", ignore_errors=True)
        for path in self._work.glob(f"{FETCHED}*"):
            path.unlink()

    def records(self) -> Iterator[Record | Kept]:
        """The pages of dumps that have not changed since the edition before, then the others, by dump and place."""
        stays = self._stays | {page.meta["record"] for page in self._pages.pages("unchanged")}
        if stays:
            yield Kept(records=frozenset(stays))
        for page in self._pages.pages("ok"):
            yield record_of(page, self._params.license == "unknown")

    def responses(self) -> Iterator[Response]:
        """What servers said of dumps, which are not kept themselves."""
        return (response for response, _ in self._downloads.values() if response.outcome in ("ok", "unchanged"))

    def log(self) -> Iterator[dict[str, Any]]:
        """A row a dump, then one for each page that could not be read; the other pages are counted."""
        yield from self._files
        for page in self._pages.pages():
            if page.outcome not in _SILENT:
                yield log_row(page.url, page.outcome, page.reason, revision=page.revision)

    def counts(self) -> dict[str, Any]:
        """Pages by outcome, and dumps that are not whole by theirs."""
        pages = self._pages.outcomes() + self._counts
        if self._kept:
            pages["unchanged"] += sum(self._kept.values())
        dumps: Counter[str] = Counter(row["outcome"] for row in self._files)
        outcomes = pages + Counter({name: count for name, count in dumps.items() if name not in _SILENT})
        return {
            "pages": sum(pages.values()),
            "outcomes": dict(sorted(outcomes.items())),
            "dumps": dict(sorted(dumps.items())),
        }

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to look at."""
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.counts()["outcomes"].items()) or "no page"
        reasons = [row["reason"] for row in self.log() if row["reason"]]
        return (
            f"source {self._params.name}: no page of {len(self._files)} dumps gave a record: {told}"
            + (f" (first reason: {reasons[0]})" if reasons else ""),
            "check `paths`, `namespaces` and `min_chars`",
        )

    def _fetch(self) -> None:
        urls = self._params.urls
        if not urls:
            return
        check_contact(urls, self._runtime)
        settings = {"timeout": DOWNLOAD_SECONDS, "max_bytes": self._params.max_bytes, "delay": DELAY}
        sites = own_sites(urls)
        with Fetcher.open(
            self._work, self._params, self._runtime, self._before, self._report, private_sites=sites, **settings
        ) as fetcher:
            for done, url in enumerate(urls):
                self._report(done, len(urls), f"{done} of {len(urls)} downloads")
                response, path = fetcher.download(url)
                if response.outcome in PASSING:
                    raise RunError(
                        f"source {self._params.name}: {url} could not be had ({response.outcome}: {response.reason})",
                        "see that the host is up and run the same command again; it goes on from what has come",
                    )
                self._downloads[url] = response, path

    def _dump(self, file: Found) -> None:
        """Read one dump to its end, or to where it breaks off."""
        started = time.monotonic()
        response = self._downloads[file.locator][0] if file.locator in self._downloads else None
        name = PurePosixPath(unquote(urlsplit(file.locator).path)).name
        outcome, reason, size = "ok", "", 0
        if is_index(name):
            outcome, reason = "companion", "the index of a multistream dump is not needed"
        elif response and response.outcome == "unchanged":
            outcome, size = "unchanged", response.size
            self._keep(file.locator)
        else:
            try:
                if file.refusal:
                    raise Unreadable(*file.refusal)
                if not is_dump(name):
                    raise Unreadable("unknown_format", f"{name} is not named like a dump (.xml, .xml.bz2, .xml.gz)")
                size = _size(file.path, self._params.max_bytes)
                self._through(file, name)
            except Unreadable as error:
                outcome, reason = error.outcome, error.reason
        row = log_row(file.locator, outcome, reason, size=size, seconds=round(time.monotonic() - started, 3))
        if response:
            row |= {"final_url": response.final_url, "status": response.status, "tries": response.tries}
            row |= {"etag": response.etag, "last_modified": response.last_modified}
        self._files.append(row)

    def _through(self, file: Found, name: str) -> None:
        """The pages of a dump from where an earlier run stopped, kept block by block."""
        facts = file.path.stat()
        made = [facts.st_size, facts.st_mtime_ns]
        state = self._pages.state(file.locator)
        if state and state["made"] != made:
            self._pages.forget(file.locator)  # another file than the run before read
            state = {}
        counted: Counter[str] = Counter(state.get("counts", {}))
        end = Unreadable(*state["end"]) if state.get("end") else None
        if not state.get("done"):
            suffix = os.path.splitext(name.lower())[1].removeprefix(".")
            place = Place(**state["place"]) if state else None
            dump = Dump(file.path, suffix if suffix in ("bz2", "gz") else "", place)
            end = self._blocks(dump, file.locator, name, made, counted)
        self._counts.update(counted)
        if end:
            raise end

    def _blocks(self, dump: Dump, locator: str, name: str, made: list[int], counted: Counter[str]) -> Unreadable | None:
        """Read to the end of a dump; what is wrong with it when it has no proper one."""
        wanted = self._params.max_pages - self._pages.count()
        pages = dump.pages()
        done, end = wanted <= 0, None
        with contextlib.ExitStack() as stack:
            workers: Workers | None = None
            while not done:
                block: list[RawPage] = []
                try:
                    for seen, raw in enumerate(pages, 1):
                        if why := self._passed(raw):
                            counted[why] += 1
                        else:
                            block.append(raw)
                        if len(block) == min(BLOCK, wanted) or seen == PASSED:
                            break
                    else:
                        done = True
                except Unreadable as error:
                    done, end = True, error
                wanted -= len(block)
                done = done or wanted <= 0
                wiki = dump.wiki()
                workers = workers or stack.enter_context(Workers(self._workers, wiki.names))
                found = workers.read(self._wanted(raw, wiki, locator) for raw in block)
                state = {"made": made, "place": asdict(dump.place), "counts": counted, "done": done}
                state["end"] = [end.outcome, end.reason] if end else None
                self._pages.add(
                    [finished(page, said, self._params, self._forgotten) for page, said in found], locator, state
                )
                self._report(dump.place.number, None, f"{dump.place.number:,} pages of {name}")
        return end

    @property
    def _workers(self) -> int:
        return min(self._runtime.concurrency, len(os.sched_getaffinity(0)))

    def _passed(self, raw: RawPage) -> str:
        """Why a page is only counted; "" for one that is read."""
        if raw.namespace not in self._params.namespaces:
            return "namespace"
        return "redirect" if raw.redirect else ""

    def _wanted(self, raw: RawPage, wiki: Wiki, file: str) -> tuple[Page, str | None]:
        """A page, with its wikitext where that is to be read."""
        title = clean(raw.title)
        page = Page(raw.number, wiki.url(title), title=title, lang=wiki.lang, revision=raw.revision)
        if self._forgotten and self._forgotten.page(page.url):
            page.outcome, page.reason, page.title = FORGOTTEN, TAKEN_DOWN, ""
            return page, None
        old = self._known(wiki).get(raw.page)
        if old and (old.url, old.revision) == (page.url, raw.revision):
            page.outcome, page.meta = "unchanged", {"record": old.record}
            return page, None
        page.meta = {
            "extractor": "mwparserfromhell",
            "pageid": raw.page,
            "revid": int(raw.revision) if raw.revision.isascii() and raw.revision.isdigit() else 0,
            "timestamp": clean(raw.timestamp),
            "license": wiki.license,
            "dump": file,
        }
        if raw.model != "wikitext":
            page.outcome, page.reason = "no_text", f"no wikitext but {clean(raw.model)[:40]}"
        elif not title:
            page.outcome, page.reason = "bad_title", "a page without title"
        return page, raw.text if page.outcome == "ok" else None

    def _known(self, wiki: Wiki) -> dict[int, Known]:
        """What the edition before has of this wiki, where its texts were made by these settings."""
        if wiki.prefix not in self._old:
            self._old[wiki.prefix] = known_pages(self._before, wiki.prefix) if self._before.same_settings else {}
        return self._old[wiki.prefix]

    def _keep(self, url: str) -> None:
        """The records that the edition before has of an unchanged dump stay."""
        rows = self._before.records(all_needed=True)  # the dump was not sent again
        found = [row["record_id"] for row in rows if row["meta"].get("dump") == url]
        self._stays.update(found)
        self._kept[url] = len(found)


def _size(path: Path, most: int) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Unreadable.of(error) from error
    if not path.is_file():
        raise Unreadable("unreadable", "not a plain file")
    if size > most:
        raise Unreadable("too_large", f"{size:,} bytes, more than {most:,}")
    return size
