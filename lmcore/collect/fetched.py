"""What came back for every URL that a source asked for, kept as it comes: a program over `get` can be killed anywhere
and started again, since it is given the same answers up to where it was and asks for the rest.

    with Fetcher.open(work, params, runtime, before, report) as web:
        response = web.get(url)
"""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import zstandard

from lmcore.collect.database import Database
from lmcore.collect.http import Client, Permit, Response
from lmcore.collect.links import canonical_url, is_local, site_of, tidy_url
from lmcore.collect.params import CollectRuntime, Source
from lmcore.collect.responses import Before
from lmcore.progress import Report
from storage.atomic import fault
from storage.digest import digest_json
from storage.errors import RunError, UserError

FETCHED = "fetched.sqlite"
# What a server may give another answer to in a minute: a source that cannot do without stops there, and the next run
# asks again.
PASSING = frozenset(
    {"unreachable", "timeout", "truncated", "too_slow", "unavailable", "robots_unavailable", "busy", "api_error"}
)
_SCHEMA = """
create table answer (
    url text primary key,
    final_url text not null, outcome text not null, reason text not null, status integer not null,
    content_type text not null, robots_tag text not null, etag text not null, last_modified text not null,
    size integer not null, tries integer not null, seconds real not null, fetched_at text not null,
    body blob,                          -- zstd; null where there is none, or it lies in a file
    file text not null                  -- name in the folder of downloads
) without rowid;
"""
_FACTS = ["url", "final_url", "outcome", "reason", "status", "content_type", "robots_tag", "etag", "last_modified"]
_FACTS += ["size", "tries", "seconds"]


class Fetched(Database):
    """The answers, one for each URL."""

    FORMAT = 1
    SCHEMA = _SCHEMA

    def answer(self, url: str, *, body: bool = True) -> Response | None:
        """What came back for `url`; None when it was not asked for."""
        column = "body" if body else "null"
        row = self._row(f"select {', '.join(_FACTS)}, {column} from answer where url = ?", url)  # noqa: S608
        if row is None:
            return None
        *facts, packed = row
        return Response(**dict(zip(_FACTS, facts, strict=True)), body=self._unpacked(url, packed))

    def keep(self, response: Response, fetched_at: str, file: str = "") -> None:
        """Keep an answer, in the place of an earlier one for the same URL."""
        values = [getattr(response, name) for name in _FACTS]
        packed = zstandard.compress(response.body, 3) if response.body else None
        with self._transaction():
            self._db.execute(
                f"insert or replace into answer ({', '.join(_FACTS)}, fetched_at, body, file)"  # noqa: S608
                f" values ({', '.join('?' for _ in _FACTS)}, ?, ?, ?)",
                (*values, fetched_at, packed, file),
            )
        fault("collect.page-stored")

    def drop(self, url: str, outcome: str, reason: str) -> None:
        """Keep of an answer only that there was one, and this outcome."""
        with self._transaction():
            self._db.execute(
                "update answer set outcome = ?, reason = ?, body = null, etag = '', last_modified = '' where url = ?",
                (outcome, reason, url),
            )

    def responses(self) -> Iterator[Response]:
        """Every good answer, in the order of their URLs."""
        for (url,) in self._all("select url from answer where outcome in ('ok', 'unchanged') order by url"):
            response = self.answer(url)
            assert response is not None
            yield response

    def log(self) -> Iterator[dict[str, Any]]:
        """A row of the fetch log for each URL, in the order of the URLs."""
        names = "url, final_url, status, outcome, reason, tries, seconds, size, fetched_at, etag, last_modified"
        for row in self._all(f"select {names} from answer order by url"):  # noqa: S608
            facts = dict(zip(names.split(", "), row, strict=True))
            yield {**facts, "bytes": facts.pop("size")}

    def outcomes(self) -> Counter[str]:
        """Answers by outcome."""
        return Counter(dict(self._all("select outcome, count(*) from answer group by outcome order by outcome")))

    def _unpacked(self, url: str, packed: bytes | None) -> bytes:
        try:
            return zstandard.decompress(packed) if packed else b""
        except zstandard.ZstdError as error:
            raise RunError(
                f"{self.path} holds a damaged answer ({url})",
                "delete this file; the source is collected from the start",
            ) from error


class Fetcher:
    """Asks for URLs, each once per edition and work folder."""

    def __init__(self, work: Path, fetched: Fetched, client: Client, before: Before, concurrency: int) -> None:
        self._folder = work / "downloads"
        self.fetched = fetched
        self._client = client
        self._before = before
        self._concurrency = concurrency

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, work: Path, params: Source, runtime: CollectRuntime, before: Before, report: Report, **settings: Any
    ) -> Iterator[Self]:
        """A fetcher that goes on with what lies in `work`. `settings` are those of `Client`."""
        fetched = Fetched.open(work / FETCHED, digest_json(params.key_values()), report)
        client = Client(contact=runtime.contact, known_robots=fetched.robots(), **settings)
        try:
            yield cls(work, fetched, client, before, runtime.concurrency)
        finally:
            client.close()
            fetched.save_robots(client.robots.settled())
            fetched.close()

    def get(self, url: str, *, types: frozenset[str] | None = None) -> Response:
        """What comes, or came, back for `url`; a page that has not changed comes from the edition before."""
        (response,) = self.get_all([url], types=types)  # to its end: a generator that is left lying closes the client
        return response

    def need(self, url: str, what: str) -> Response:
        """The same for what the source cannot do without. Raises RunError, and asks again the next time."""
        response = self.get(url)
        if response.outcome == "ok":
            return response
        raise RunError(
            f"{what}: {url} gave nothing ({response.outcome}: {response.reason or response.status})",
            "see that the server is up and the name is right, and run the same command again; it goes on from here",
        )

    def get_all(
        self,
        urls: Sequence[str],
        *,
        types: frozenset[str] | None = None,
        permit: Permit | None = None,
        max_bytes: int | None = None,
    ) -> Iterator[Response]:
        """The answers of several URLs in their order, asked for side by side where the hosts allow it."""
        waiting: deque[tuple[str, Future[Response] | None]] = deque()
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="fetch") as pool:

            def ask(url: str) -> Future[Response] | None:
                if self._settled(url):
                    return None
                if given := self._before.given(url):
                    self.fetched.keep(given, _now())
                    return None
                known = self._before.validators(url)
                return pool.submit(self._client.fetch, url, permit, known=known, types=types, max_bytes=max_bytes)

            try:
                left = iter(dict.fromkeys(urls))
                waiting.extend((url, ask(url)) for url in islice(left, 2 * self._concurrency))
                while waiting:
                    url, future = waiting.popleft()
                    if future is not None:
                        self.fetched.keep(self._before.filled(future.result()), _now())
                    waiting.extend((url, ask(url)) for url in islice(left, 1))
                    response = self.fetched.answer(url)
                    assert response is not None
                    yield response
            except BaseException:
                self._client.close()
                raise

    def download(self, url: str, *, anew: bool = False) -> tuple[Response, Path]:
        """A large file: the answer and where it lies. "unchanged" (and no file) only for an edition of the same
        settings, whose records stay as they are; never when it is to be had `anew`."""
        path = self._folder / digest_json(url)[:32]
        answer = self.fetched.answer(url, body=False)
        settled = answer and answer.outcome not in PASSING and (answer.outcome != "ok" or path.exists())
        if answer and settled and not (anew and answer.outcome == "unchanged"):
            return answer, path
        path.parent.mkdir(parents=True, exist_ok=True)
        known = self._before.validators(url) if self._before.same_settings and not anew else None
        response = self._client.download(url, path, known=known)
        if response.outcome == "unchanged":
            response = self._before.dated(response)
        self.fetched.keep(response, _now(), path.name)
        return response, path

    def _settled(self, url: str) -> bool:
        answer = self.fetched.answer(url, body=False)
        return answer is not None and answer.outcome not in PASSING


def stand_ins(failed: Iterable[Response], before: Before, permit: Permit, room: int) -> Iterator[Response]:
    """What the edition before was sent, for those of the failed pages of which it has something.

    A page that now may not be reached by way of its old redirects has none, and at most `room` pages that nothing was
    asked for, for want of a robots.txt: the others count as asked already.
    """
    for answer in failed:
        body = before.body(answer.url)
        if body is None or (answer.outcome == "robots_unavailable" and room <= 0):
            continue
        # What the failure said of itself (its type, its ETag) is not said of the page.
        then = before.dated(replace(answer, content_type="", robots_tag="", etag="", last_modified=""))
        if canonical_url(then.final_url) != canonical_url(then.url) and permit(then.final_url):
            continue
        room -= answer.outcome == "robots_unavailable"
        reason = f"{answer.outcome}: {answer.reason}; as it was in the edition before"
        yield replace(then, outcome="ok", reason=reason, body=body, size=len(body))


def check_contact(urls: Sequence[str], runtime: CollectRuntime) -> None:
    """UserError when a public host is to be asked and nobody is named whom its owner could write to."""
    public = sorted({site_of(url) for url in urls if not is_local(url)})
    if public and not runtime.contact:
        raise UserError(
            f"fetching from {public[0]} needs a contact address in the User-Agent",
            "set `contact` in the runtime settings of collect to your e-mail address or a page about the collection",
        )


def own_sites(urls: Sequence[str]) -> frozenset[str]:
    """`host:port` of URLs that the recipe itself names: only these may be private. http and https go together."""
    sites = {site_of(tidy) for url in urls if (tidy := tidy_url(url))}
    usual = {site.removesuffix(end) for site in sites for end in (":80", ":443") if site.endswith(end)}
    return frozenset(sites | {f"{host}:{port}" for host in usual for port in (80, 443)})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
