"""A MediaWiki on loopback, as far as its api.php answers questions: real HTTP, the real limits, the real errors.

    with WikiServer() as wiki:
        page = wiki.put("Alma", "The '''apple''' is a fruit.", categories=["Fruit"])
        wiki.api                              # URL of its api.php
        wiki.texts[page]                      # how often the text of the page was sent

Written after https://www.mediawiki.org/wiki/API:Query and the help pages of the modules (MediaWiki 1.43). What it knows
is what a reader needs: siteinfo, info, pageprops, categories, revisions, extracts, categorymembers, allpages, random,
recentchanges. Time stands still but for `put`, `delete`, `move` and `wait`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

NAMESPACES = {0: "", 1: "Vita", 2: "Szerkesztő", 6: "Fájl", 10: "Sablon", 14: "Kategória"}
CANONICAL = {0: "", 1: "Talk", 2: "User", 6: "File", 10: "Template", 14: "Category"}
START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
MAX_VALUES = 50


@dataclass
class WikiPage:
    number: int
    title: str
    text: str
    revision: int
    timestamp: str
    categories: list[str] = field(default_factory=list)
    redirect: str | None = None
    disambiguation: bool = False
    model: str = "wikitext"

    @property
    def namespace(self) -> int:
        return namespace_of(self.title)


class WikiServer:
    """The server. `lagging` answers to come are maxlag errors, `broken` are sent as they are; `requests` holds the
    parameters of every question."""

    def __init__(self, *, port: int = 0, seed: int = 1, latency: float = 0.0, extracts: bool = True):
        self.pages: dict[int, WikiPage] = {}
        self.changes: list[dict] = []
        self.requests: list[dict[str, str]] = []
        self.texts: Counter[int] = Counter()
        self.lagging = 0
        self.broken: list[bytes | tuple[int, bytes]] = []
        self.extracts = extracts
        self.mangle: Callable[[dict], object] = lambda answer: answer
        self.latency = latency
        self.categories_per_answer = 500
        self.chars_per_answer = 1_000_000
        self.rows_per_answer = 500
        self.rights = "https://creativecommons.org/licenses/by-sa/4.0/"
        self.now = START
        self.robots = "User-agent: *\nDisallow: /w/\n"  # as Wikimedia's
        self._random = random.Random(seed)
        self._numbers = iter(range(1, 10**9))
        self._revisions = iter(range(1000, 10**9))
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.wiki = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/w/api.php"

    def __enter__(self) -> WikiServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, title: str, text: str, **facts) -> int:
        """A new page, or a new revision of one."""
        with self._lock:
            self.wait(1)
            page = self._of(title)
            kind = "edit" if page else "new"
            number = page.number if page else next(self._numbers)
            self.pages[number] = WikiPage(number, title, text, next(self._revisions), stamp(self.now), **facts)
            self._change(kind, title, number)
            return number

    def delete(self, title: str) -> None:
        with self._lock:
            self.wait(1)
            del self.pages[self._of(title).number]
            self._change("log", title, 0, logtype="delete", logaction="delete")

    def move(self, title: str, new: str) -> None:
        with self._lock:
            self.wait(1)
            page = self._of(title)
            page.title, page.revision, page.timestamp = new, next(self._revisions), stamp(self.now)
            self._change("log", title, page.number, logtype="move", logaction="move")

    def wait(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)

    def page_url(self, title: str) -> str:
        return f"{self.url}/wiki/" + quote(title.replace(" ", "_"), safe=";@$!*(),/~:")

    def asked(self, **wanted: str) -> list[dict[str, str]]:
        """The questions so far that have these parameters."""
        return [asked for asked in self.requests if all(asked.get(name) == value for name, value in wanted.items())]

    def _change(self, kind: str, title: str, number: int, **more) -> None:
        self.changes.append(
            {
                "type": kind, "ns": namespace_of(title), "title": title, "pageid": number, "rcid": len(self.changes),
                "timestamp": stamp(self.now), **more,
            }
        )  # fmt: skip

    def _of(self, title: str) -> WikiPage | None:
        return next((page for page in self.pages.values() if page.title == title), None)

    def answer(self, asked: dict[str, str]) -> dict:
        """What the API says. Raises ApiError."""
        with self._lock:
            self.requests.append(asked)
            if self.lagging and "maxlag" in asked:
                self.lagging -= 1
                raise ApiError("maxlag", "Waiting for 10.64.16.7: 7.25 seconds lagged.", host="10.64.16.7", lag=7.25)
            if asked.get("action") != "query":
                raise ApiError("badvalue", f'Unrecognized value for parameter "action": {asked.get("action")}.')
            if asked.get("formatversion") != "2":
                raise ApiError("badvalue", "this server knows formatversion 2 only")
            answer: dict = {"batchcomplete": True, "query": {}}
            if asked.get("meta") == "siteinfo":
                answer["query"] |= self._siteinfo()
            if "list" in asked:
                self._list(asked, answer)
            if "titles" in asked or "pageids" in asked:
                self._about(asked, answer)
            if "continue" in answer:
                answer.pop("batchcomplete" if "prop" in asked else "", None)
            return answer

    def _siteinfo(self) -> dict:
        spaces = {
            str(number): {"id": number, "name": name, "canonical": CANONICAL[number]}
            for number, name in NAMESPACES.items()
        }
        return {
            "general": {
                "sitename": "Próba", "lang": "hu", "server": self.url, "articlepath": "/wiki/$1",
                "time": stamp(self.now), "generator": "MediaWiki 1.43.0",
            },
            "rightsinfo": {"url": self.rights, "text": "Creative Commons"},
            "namespaces": spaces,
            "namespacealiases": [{"id": 6, "alias": "Kép"}],
            "extensions": [{"type": "other", "name": "TextExtracts"}] if self.extracts else [{"name": "Cite"}],
        }  # fmt: skip

    def _list(self, asked: dict[str, str], answer: dict) -> None:
        name = asked["list"]
        prefix = {"categorymembers": "cm", "allpages": "ap", "random": "rn", "recentchanges": "rc"}[name]
        limit = min(int(asked.get(f"{prefix}limit", 10)), self.rows_per_answer)
        found = {
            "categorymembers": self._categorymembers, "allpages": self._allpages,
            "random": self._random_pages, "recentchanges": self._recentchanges,
        }  # fmt: skip
        rows = found[name](asked)
        begin = int(asked.get(f"{prefix}continue", "0").partition("|")[0] or 0) if name != "random" else 0
        answer["query"][name] = rows[begin : begin + limit]
        if name == "random":
            answer["continue"] = {"rncontinue": f"{self._random.random():.12f}|0|0|0", "continue": "-||"}
        elif len(rows) > begin + limit:
            answer["continue"] = {f"{prefix}continue": f"{begin + limit}|x", "continue": "-||"}

    def _categorymembers(self, asked: dict[str, str]) -> list[dict]:
        wanted = asked["cmtitle"].partition(":")[2]
        kinds = asked.get("cmtype", "page|subcat|file").split("|")
        rows = []
        for page in sorted(self.pages.values(), key=lambda page: page.title):
            kind = "subcat" if page.namespace == 14 else "file" if page.namespace == 6 else "page"
            if wanted in page.categories and kind in kinds:
                rows.append({"pageid": page.number, "ns": page.namespace, "title": page.title, "type": kind})
        return rows

    def _allpages(self, asked: dict[str, str]) -> list[dict]:
        rows = sorted(self.pages.values(), key=lambda page: page.title)
        only = asked.get("apfilterredir") == "nonredirects"
        return [
            {"pageid": page.number, "ns": page.namespace, "title": page.title}
            for page in rows
            if page.namespace == int(asked.get("apnamespace", 0)) and not (only and page.redirect)
        ]

    def _random_pages(self, asked: dict[str, str]) -> list[dict]:
        spaces = set(map(int, asked.get("rnnamespace", "0").split("|")))
        pages = [page for page in self.pages.values() if page.namespace in spaces and not page.redirect]
        drawn = self._random.sample(pages, min(len(pages), int(asked.get("rnlimit", 1)), self.rows_per_answer))
        return [{"id": page.number, "ns": page.namespace, "title": page.title} for page in drawn]

    def _recentchanges(self, asked: dict[str, str]) -> list[dict]:
        kinds, spaces = asked["rctype"].split("|"), set(map(int, asked["rcnamespace"].split("|")))
        rows = [row for row in self.changes if row["type"] in kinds and row["ns"] in spaces]
        newer = asked.get("rcdir") == "newer"
        low, high = ("rcstart", "rcend") if newer else ("rcend", "rcstart")
        rows = [row for row in rows if asked.get(low, "") <= row["timestamp"] <= asked.get(high, "9")]
        return rows if newer else rows[::-1]

    def _about(self, asked: dict[str, str], answer: dict) -> None:
        given = (asked.get("pageids") or asked["titles"]).split("|")
        if len(given) > MAX_VALUES:
            raise ApiError(
                "toomanyvalues", f'Too many values supplied for parameter "titles". The limit is {MAX_VALUES}.'
            )
        query = answer["query"]
        found: list[dict] = []
        for value in given:
            page = self.pages.get(int(value)) if "pageids" in asked else self._by_title(value, asked, query)
            if isinstance(page, dict):
                found.append(page)
            elif page is None:
                found.append({"pageid": int(value), "missing": True})
            elif not any(row.get("pageid") == page.number for row in found):
                found.append({"pageid": page.number, "ns": page.namespace, "title": page.title})
        query["pages"] = found = [row for row in found if row]
        self._props(asked, answer, [row for row in found if "missing" not in row and "invalid" not in row])

    def _by_title(self, title: str, asked: dict[str, str], query: dict) -> WikiPage | dict:
        tidy = " ".join(title.replace("_", " ").split())
        tidy = tidy[:1].upper() + tidy[1:]
        if re.search(r"[<>\[\]{}|#]", title):
            return {
                "title": title,
                "invalid": True,
                "invalidreason": "The requested page title contains invalid characters.",
            }
        if re.match("(en|de):", title):
            query.setdefault("interwiki", []).append({"title": title, "iw": title[:2]})
            return {}
        if tidy != title:
            query.setdefault("normalized", []).append({"fromencoded": False, "from": title, "to": tidy})
        page, seen = self._of(tidy), set()
        while page and page.redirect and "redirects" in asked and page.title not in seen:
            seen.add(page.title)
            query.setdefault("redirects", []).append({"from": page.title, "to": page.redirect})
            tidy, page = page.redirect, self._of(page.redirect)
        if page and page.redirect and "redirects" in asked:
            return {}  # in a circle
        return page or {"ns": namespace_of(tidy), "title": tidy, "missing": True}

    def _props(self, asked: dict[str, str], answer: dict, rows: list[dict]) -> None:
        props = asked.get("prop", "").split("|") if asked.get("prop") else []
        further: dict = {}
        again = "continue" in asked
        for row in rows:
            page = self.pages[row["pageid"]]
            if "info" in props and not again:
                row |= {
                    "contentmodel": page.model, "pagelanguage": "hu", "touched": stamp(self.now),
                    "lastrevid": page.revision, "length": len(page.text), "fullurl": self.page_url(page.title),
                }  # fmt: skip
                if page.redirect:
                    row["redirect"] = True
            if "pageprops" in props and page.disambiguation and not again:
                row["pageprops"] = {"disambiguation": ""}
        if "categories" in props and (not again or "clcontinue" in asked):
            self._categories(asked, rows, further)
        if "revisions" in props and (not again or "rvcontinue" in asked):
            self._revision(asked, rows, further)
        if "extracts" in props and self.extracts and (not again or "excontinue" in asked):
            self._extract(asked, rows, further)
        if further:
            answer["continue"] = {**further, "continue": "||"}

    def _categories(self, asked: dict[str, str], rows: list[dict], further: dict) -> None:
        limit = min(self.categories_per_answer, 10 if asked.get("cllimit") != "max" else 500)
        all_ = [
            (row, name)
            for row in rows
            for name in self.pages[row["pageid"]].categories
            if not ("!hidden" in asked.get("clshow", "") and name.startswith("Hidden"))
        ]
        begin = int(asked.get("clcontinue", "0|").partition("|")[0])
        for row, name in all_[begin : begin + limit]:
            row.setdefault("categories", []).append({"ns": 14, "title": f"Kategória:{name}"})
        if len(all_) > begin + limit:
            further["clcontinue"] = f"{begin + limit}|x"

    def _revision(self, asked: dict[str, str], rows: list[dict], further: dict) -> None:
        wanted, sent = asked.get("rvprop", "ids|timestamp").split("|"), 0
        begin = int(asked.get("rvcontinue", "0").partition("|")[0])
        for index, row in enumerate(rows[begin:], begin):
            page = self.pages[row["pageid"]]
            revision: dict = {"revid": page.revision, "parentid": 0, "timestamp": page.timestamp}
            if "content" in wanted:
                sent += len(page.text)
                if sent > self.chars_per_answer and index > begin:
                    further["rvcontinue"] = f"{index}|x"
                    return
                revision["slots"] = {"main": {"contentmodel": page.model, "content": page.text}}
                self.texts[page.number] += 1
            row["revisions"] = [revision]

    def _extract(self, asked: dict[str, str], rows: list[dict], further: dict) -> None:
        limit = 20 if "exintro" in asked else 1
        begin = int(asked.get("excontinue", 0))
        for row in rows[begin : begin + limit]:
            page = self.pages[row["pageid"]]
            row["extract"] = plainly(page.text.partition("\n==")[0] if "exintro" in asked else page.text)
            self.texts[page.number] += 1
        if len(rows) > begin + limit:
            further["excontinue"] = begin + limit


class ApiError(Exception):
    def __init__(self, code: str, info: str, **more) -> None:
        super().__init__(code)
        self.code = code
        self.body = {"error": {"code": code, "info": info, **more, "docref": "See https://example.org/api.php"}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    wiki: WikiServer

    def handle_error(self, request, client_address):
        pass  # clients are killed on purpose here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self):
        wiki = self.server.wiki
        if wiki.latency:
            threading.Event().wait(wiki.latency)
        parts = urlsplit(self.path)
        headers: dict[str, str] = {}
        if parts.path == "/robots.txt":
            status, body, kind = 200, wiki.robots.encode(), "text/plain"
        elif parts.path != "/w/api.php":
            status, body, kind = 404, b"<html>no such page</html>", "text/html"
        elif wiki.broken:
            given = wiki.broken.pop(0)
            status, body = given if isinstance(given, tuple) else (200, given)
            kind = "application/json"
        else:
            status, kind = 200, "application/json; charset=utf-8"
            try:
                answer = wiki.answer(dict(parse_qsl(parts.query, keep_blank_values=True)))
            except ApiError as error:
                answer = error.body
                headers["MediaWiki-API-Error"] = error.code
                if error.code == "maxlag":
                    headers |= {"Retry-After": "0", "X-Database-Lag": "7"}
            answer = wiki.mangle(answer)
            body = json.dumps(answer, ensure_ascii=False).encode()
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            headers |= {"Content-Type": kind, "Content-Length": str(len(body))}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def namespace_of(title: str) -> int:
    prefix = title.partition(":")[0] if ":" in title else ""
    for names in (NAMESPACES, CANONICAL):
        for number, name in names.items():
            if name and name == prefix:
                return number
    return 0


def plainly(wikitext: str) -> str:
    """What TextExtracts would make of the little wikitext that tests use."""
    text = re.sub(r"\{\{[^{}]*\}\}|<ref>.*?</ref>|\[\[Kategória:[^\]]*\]\]", "", wikitext)
    text = re.sub(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1", text)
    return text.replace("'''", "").replace("''", "").strip()


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
