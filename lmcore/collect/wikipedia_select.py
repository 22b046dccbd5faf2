"""Which pages of a wiki a source means: by title, category, chance, all of them, or what has changed of late."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lmcore.collect.responses import Before
from lmcore.collect.wikipedia import Wiki, WikipediaSource
from lmcore.collect.wikipedia_api import ROWS, Api, notes, page_id, title_batches

OVERLAP = datetime.timedelta(minutes=10)  # before the last edition: databases that answered it may have been behind
DRAWS = 4  # questions for random pages in a row that bring nothing new before we stop: a small wiki has no more


@dataclass(frozen=True)
class Known:
    """A page of the edition before."""

    record: str
    url: str
    revision: str


class Selection:
    """The pages by id, in the order they were found; `lost` says of titles and categories why they give none."""

    def __init__(
        self, api: Api, params: WikipediaSource, wiki: Wiki, known: dict[int, Known], since: datetime.datetime | None
    ) -> None:
        self._api = api
        self._params = params
        self._wiki = wiki
        self._known = known
        self._since = since
        self.pages: dict[int, None] = {}
        self.lost: list[tuple[str, str, str]] = []  # URL, outcome, reason
        self.cut = False  # there are more pages than max_pages
        self.changed: frozenset[int] | None = None  # pages of the edition before that may have; None: ask of all

    def find(self) -> None:
        """Ask the wiki."""
        self._take(list(self._by_title()))
        self._take(self._by_category())
        if self._params.all_pages:
            self._take(self._of_all())
        if self._params.recent_changes:
            self._take(self._recent())
        if self._params.random:
            self._take(self._random())

    def _take(self, ids: Iterable[int]) -> None:
        for page in ids:
            if page in self.pages:
                continue
            if len(self.pages) >= self._params.max_pages:
                self.cut = True
                return
            self.pages[page] = None

    def _by_title(self) -> Iterator[int]:
        questions = [{"titles": "|".join(titles), "redirects": 1} for titles in title_batches(self._params.titles)]
        for question, answers in self._api.all_answers(questions):
            leads = {str(row.get("from")): str(row.get("to")) for row in notes(answers, "normalized")}
            leads |= {str(row.get("from")): str(row.get("to")) for row in notes(answers, "redirects")}
            elsewhere = {str(row.get("title")) for row in notes(answers, "interwiki")}
            pages = {str(page.get("title")): page for page in notes(answers, "pages")}
            for title in question["titles"].split("|"):
                end, seen = title, {title}
                while (following := leads.get(end)) and following not in seen:
                    end = following
                    seen.add(end)
                page = pages.get(end, {})
                if number := page_id(page):
                    yield number
                elif title in elsewhere or end in elsewhere:
                    self._lose(title, "bad_title", "the title leads to another wiki")
                elif page.get("invalid"):
                    self._lose(title, "bad_title", str(page.get("invalidreason") or "no title of a page"))
                elif page.get("special"):
                    self._lose(title, "bad_title", "a special page, which has no text of its own")
                elif page or end == title:
                    self._lose(title, "missing", f"there is no page {end}")
                else:
                    self._lose(title, "missing", f"redirects to {end}, which is no page")

    def _by_category(self) -> Iterator[int]:
        level = [self._category(name) for name in self._params.categories]
        seen = set(level)
        for depth in range(self._params.depth + 1):
            below: list[str] = []
            for name in level:
                kinds = "page|subcat" if depth < self._params.depth else "page"
                question = {
                    "list": "categorymembers", "cmtitle": name, "cmtype": kinds, "cmprop": "ids|title|type",
                    "cmlimit": ROWS,
                }  # fmt: skip
                found = False
                for row in self._api.rows("categorymembers", [question]):
                    found = True
                    if row.get("type") == "subcat":
                        below.append(str(row.get("title")))
                    elif row.get("ns") in self._params.namespaces and page_id(row):
                        yield page_id(row)
                if not found and depth == 0:
                    self._lose(name, "missing", "no page is in this category")
            # By title: an answer is sorted by keys that a wiki may change.
            level = [name for name in sorted(set(map(self._category, below))) if name not in seen]
            seen.update(level)

    def _category(self, name: str) -> str:
        """The title of a category, under the name of the namespace that every wiki knows."""
        prefix, colon, rest = name.partition(":")
        bare = (
            rest
            if colon and " ".join(prefix.replace("_", " ").split()).lower() in self._wiki.names.categories
            else name
        )
        bare = " ".join(bare.replace("_", " ").split())
        return f"Category:{bare}"

    def _of_all(self) -> Iterator[int]:
        spaces = dict.fromkeys(self._params.namespaces)
        questions = [
            {"list": "allpages", "apnamespace": space, "apfilterredir": "nonredirects", "aplimit": ROWS}
            for space in spaces
        ]
        yield from _ids(self._api.rows("allpages", questions))

    def _recent(self) -> Iterator[int]:
        """Pages of the edition before, then those that the list of changes names, the latest first."""
        yield from self._known
        question = {
            "list": "recentchanges", "rctype": "edit|new|log", "rcprop": "ids|title|timestamp", "rclimit": ROWS,
            "rcnamespace": "|".join(map(str, dict.fromkeys(self._params.namespaces))),
        }  # fmt: skip
        reaches = False
        if self._since:
            oldest = next(self._api.rows("recentchanges", [{**question, "rcdir": "newer", "rclimit": 1}], 1), {})
            reaches = (moment_of(oldest.get("timestamp")) or _NEVER) <= self._since
            question["rcend"] = self._since.strftime("%Y-%m-%dT%H:%M:%SZ")
        titles: set[str] = set()
        ids: dict[int, None] = {}
        # What has been deleted is in the list by title only; and all of it is needed to know what has not changed.
        for row in self._api.rows("recentchanges", [question]):
            if not reaches and len(ids) > self._params.max_pages:
                break
            titles.add(str(row.get("title")))
            if row.get("type") != "log":
                ids.update(dict.fromkeys(_ids([row])))
            elif page_id(row) in self._known:
                ids[page_id(row)] = None
        if reaches:
            urls = {self._wiki.url(title) for title in titles}
            self.changed = frozenset(page for page, known in self._known.items() if page in ids or known.url in urls)
        yield from ids

    def _random(self) -> Iterator[int]:
        """Pages drawn for the edition before, as long as they are wanted, and new ones up to the number."""
        drawn = dict.fromkeys(page for page in sorted(self._known) if page not in self.pages)
        drawn = dict.fromkeys(list(drawn)[: self._params.random])
        spaces = "|".join(map(str, dict.fromkeys(self._params.namespaces)))
        batch = idle = 0
        while len(drawn) < self._params.random and idle < DRAWS:
            batch += 1  # makes the URL another one, so that a new answer is asked for
            limit = min(ROWS, self._params.random - len(drawn))
            question = {
                "list": "random", "rnnamespace": spaces, "rnfilterredir": "nonredirects", "requestid": f"draw{batch}",
                "rnlimit": limit,
            }  # fmt: skip
            before = len(drawn)
            for page in _ids(self._api.rows("random", [question], limit)):
                if page not in self.pages:
                    drawn[page] = None
            idle = 0 if len(drawn) > before else idle + 1
        yield from drawn

    def _lose(self, title: str, outcome: str, reason: str) -> None:
        self.lost.append((self._wiki.url(title), outcome, " ".join(reason.split())))


def known_pages(before: Before, prefix: str) -> dict[int, Known]:
    """The pages of a wiki that the edition before has, by id."""
    found: dict[int, Known] = {}
    for row in before.records():
        page, revision = row["meta"].get("pageid"), row["meta"].get("revid")
        if isinstance(page, int) and row["url"].startswith(prefix):
            found[page] = Known(row["record_id"], row["url"], str(revision))
    return dict(sorted(found.items()))


def time_of(site_answer: bytes | None) -> datetime.datetime | None:
    """From when on a later edition asks for changes, by what the wiki said of itself for this one."""
    try:
        general = json.loads(site_answer or b"{}")["query"]["general"]
        moment = moment_of(general["time"])
    except (ValueError, KeyError, TypeError):
        return None
    return moment - OVERLAP if moment else None


def moment_of(given: Any) -> datetime.datetime | None:
    """A time as MediaWiki writes it."""
    try:
        moment = datetime.datetime.fromisoformat(str(given))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


def _ids(rows: Iterable[dict[str, Any]]) -> Iterator[int]:
    return filter(None, map(page_id, rows))
