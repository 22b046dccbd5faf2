"""The one HTTP client: polite, bounded, and honest about what came back.

    answer = Client(...).fetch(url)     # never raises on what a server does
    answer.outcome                      # "ok", or why there is no page (the list is in docs/collect.md)
    Client(...).download(url, path)     # the same for a large file, which goes on where it broke off

Retries, backoff and jitter decide when a page is asked for again, never what is kept.
"""

from __future__ import annotations

import contextlib
import email.utils
import importlib.metadata
import random
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from lmcore.collect.extract import HTML_TYPES, PLAIN_TYPES
from lmcore.collect.links import canonical_url, site_of, tidy_url
from lmcore.collect.part import PartFile
from lmcore.collect.politeness import AGENT, ROBOTS_BYTES, HostClock, Robots, Rules, rules_of
from lmcore.collect.tokens import NO_TOKENS, Tokens
from lmcore.collect.transport import Answer, Transport

PAGE_TYPES = HTML_TYPES | PLAIN_TYPES
MAX_REDIRECTS = 10
BACKOFF = 0.5  # seconds before the first new try, doubled for each further one
MAX_WAIT = 60.0  # seconds; no Retry-After and no backoff is obeyed for longer
RETRY_STATUS = frozenset({408, 425, 429})
RETRY_FAILURES = frozenset({"unreachable", "timeout", "truncated", "busy"})

# Held while a host is asked: by name of the host.
Gate = Callable[[str], contextlib.AbstractContextManager[None]]
GATE: ContextVar[Gate] = ContextVar("GATE", default=lambda _: contextlib.nullcontext())
"""What clients made here hold while they ask a host: nothing, unless who runs several of them says otherwise."""

# (outcome, reason) when a redirect may not be followed to this URL, None when it may.
Permit = Callable[[str], tuple[str, str] | None]
# (outcome, reason) when an answer of a service is not what was asked for; "busy" is asked again.
Judge = Callable[[Answer], tuple[str, str] | None]


@dataclass(frozen=True)
class Response:
    """The end of one page's story: `body` is there when `outcome` is "ok"."""

    url: str
    final_url: str
    outcome: str
    reason: str = ""
    status: int = 0
    content_type: str = ""
    robots_tag: str = ""
    etag: str = ""
    last_modified: str = ""
    body: bytes = b""
    size: int = 0  # of the body, decompressed; it may lie in a file
    tries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Validators:
    """What a server said by which to ask it later whether a page has changed (RFC 9110 section 8.8)."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """For a request that wants no body of an unchanged page."""
        both = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in both.items() if value}


@dataclass(frozen=True)
class _Wanted:
    """What is asked for, and where its body goes: into the answer, or into a file."""

    max_bytes: int
    types: frozenset[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    part: PartFile | None = None
    cut: bool = False

    def ask(self, transport: Transport, url: str, timeout: float) -> Answer:
        """One request."""
        if self.part is not None:
            return self.part.ask(transport, url, self.headers, timeout, self.max_bytes)
        return transport.get(
            url, timeout=timeout, max_bytes=self.max_bytes, types=self.types, cut=self.cut, headers=self.headers
        )


class Client:
    """Fetches pages of the hosts it is told about and of any public host.

    `private_sites`: `host:port` that may be private (the recipe's own seeds). `routes`: stable host names that
    stand for a server whose port changes; each gives the real `host:port` when asked, once per try.
    `known_robots` carries robots.txt over from an interrupted crawl. `tokens` are told only to the hosts they are for,
    whoever redirects where.

    `judge` makes it the client of a service for programs: robots.txt, which is for crawlers, is not asked there.
    """

    def __init__(
        self,
        *,
        contact: str = "",
        delay: float = 0.0,
        timeout: float = 60.0,
        max_bytes: int = 5_000_000,
        retries: int = 3,
        private_sites: frozenset[str] = frozenset(),
        routes: dict[str, Callable[[], str]] | None = None,
        known_robots: dict[str, Rules] | None = None,
        tokens: Tokens = NO_TOKENS,
        judge: Judge | None = None,
    ) -> None:
        self._judge = judge
        self._transport = Transport(user_agent(contact), private_sites)
        self._delay = delay
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._retries = retries
        self._routes = routes or {}
        self._tokens = tokens
        self._clock = HostClock()
        self._gate = GATE.get()
        self.robots = Robots(self._fetch_robots, {} if known_robots is None else known_robots)

    def fetch(
        self,
        url: str,
        permit: Permit | None = None,
        *,
        known: Validators | None = None,
        types: frozenset[str] | None = PAGE_TYPES,
        max_bytes: int | None = None,
    ) -> Response:
        """GET a page, following redirects that `permit` and robots.txt allow. Raises Stopped after `close`.

        A page that has not changed since it was `known` has the outcome "unchanged" and no body. `max_bytes`: another
        cap than the client's.
        """
        return self._get(
            url, permit, _Wanted(max_bytes or self._max_bytes, types, headers=known.headers() if known else {})
        )

    def download(self, url: str, path: Path, *, known: Validators | None = None) -> Response:
        """GET a large file into `path`, whatever its type, going on from what an earlier try left beside it.

        The file is there only when the outcome is "ok". Raises Stopped after `close`.
        """
        part = PartFile(path)
        headers = known.headers() if known else {}
        response = self._get(url, None, _Wanted(self._max_bytes, headers=headers, part=part))
        return replace(response, size=part.done()) if response.outcome == "ok" else response

    def _get(self, url: str, permit: Permit | None, wanted: _Wanted) -> Response:
        started = time.monotonic()
        refused = None if self._judge else self.robots.refusal(url)
        if refused:
            return Response(url, url, *refused)
        response = self._tokens.blanked(self._follow(url, permit, wanted, robots=self._judge is None))
        return replace(response, seconds=round(time.monotonic() - started, 3))

    def close(self) -> None:
        """Send nothing more: requests under way are cut off, workers that wait are woken and raise Stopped."""
        self._clock.stop()
        self._transport.close()

    def _fetch_robots(self, url: str) -> Rules:
        found = self._follow(url, None, _Wanted(ROBOTS_BYTES, cut=True), robots=False)
        return rules_of(found.status, found.body, "" if found.outcome == "ok" else found.outcome, found.reason)

    def _follow(self, url: str, permit: Permit | None, wanted: _Wanted, *, robots: bool) -> Response:
        current, visited, tries = url, {canonical_url(url)}, 0
        while True:
            answer, used = self._try(current, wanted)
            tries += used
            target = answer.headers.get("location") if answer.status in (301, 302, 303, 307, 308) else None
            if not target:
                return _finish(url, current, answer, tries)
            following = tidy_url(_as_utf8(target), current)
            refused = self._refuse_redirect(following, visited, permit, robots)
            if refused:
                return Response(url, current, *refused, status=answer.status, tries=tries)
            assert following is not None
            visited.add(canonical_url(following))
            current = following

    def _refuse_redirect(
        self, target: str | None, visited: set[str | None], permit: Permit | None, robots: bool
    ) -> tuple[str, str] | None:
        if target is None:
            return "redirect_refused", "redirects to something that is no http URL"
        if canonical_url(target) in visited:
            return "redirect_loop", f"redirects in a circle to {target}"
        if len(visited) > MAX_REDIRECTS:
            return "redirect_loop", f"more than {MAX_REDIRECTS} redirects"
        return (permit(target) if permit else None) or (self.robots.refusal(target) if robots else None)

    def _try(self, url: str, wanted: _Wanted) -> tuple[Answer, int]:
        """One URL without redirects: the last answer, and how many requests it took."""
        site = site_of(url)
        wanted = replace(wanted, headers={**wanted.headers, **self._tokens.headers(url)})
        for tried in range(1, self._retries + 2):
            real = self._route(url)
            pause = max(self._delay, self.robots.delay(url))
            with self._gate(urlsplit(url).hostname or ""), self._clock.turn(site, pause):
                answer = wanted.ask(self._transport, real, self._timeout)
            if real != url and answer.status == 200 and not answer.failure and b"</html>" not in answer.body[-64:]:
                # pydoc sends no length: a page it died over would pass for a whole one.
                answer = replace(answer, body=b"", failure="truncated", reason="the page has no end")
            if self._judge and not answer.failure and answer.status // 100 != 3 and (said := self._judge(answer)):
                answer = replace(answer, body=b"", size=0, failure=said[0], reason=said[1])
            again = answer.failure in RETRY_FAILURES or _may_pass(answer.status)
            if not again or tried > self._retries:
                break
            asked = retry_after(answer.headers.get("retry-after"))
            if asked is None:
                backoff = min(BACKOFF * 2 ** (tried - 1), MAX_WAIT)
                self._clock.wait(backoff * (1 + random.random() / 2))  # noqa: S311 - spreads load, hides nothing
            else:
                self._clock.pause(site, min(asked, MAX_WAIT))
        return answer, tried

    def _route(self, url: str) -> str:
        parts = urlsplit(url)
        route = self._routes.get(parts.netloc)
        if route is None:
            return url
        real = route()
        self._transport.permit_private(real)
        return urlunsplit(("http", real, parts.path, parts.query, ""))


def user_agent(contact: str) -> str:
    """Who we are, and whom to write to when we do harm."""
    try:
        version = importlib.metadata.version("collect-train")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"{AGENT}/{version} (+{contact})" if contact else f"{AGENT}/{version}"


def retry_after(value: str | None) -> float | None:
    """Seconds a Retry-After header asks for, in both its forms (RFC 9110 section 10.2.3); None when there is none."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():  # "²" is a digit too, and no number
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _as_utf8(header: str) -> str:
    """A header that holds raw UTF-8, as Location often does, undoing http.client's Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _may_pass(status: int) -> bool:
    """Whether a status says that another answer may come later (RFC 9110 sections 15.5 and 15.6, RFC 6585)."""
    return status in RETRY_STATUS or status >= 500


def _finish(url: str, final_url: str, answer: Answer, tries: int) -> Response:
    outcome, reason = answer.failure or "ok", answer.reason
    if outcome == "ok" and answer.status == 304:
        outcome = "unchanged"
    elif outcome == "ok" and answer.status // 100 != 2:
        outcome = "unavailable" if _may_pass(answer.status) else "http_error"
        reason = f"status {answer.status}"
    return Response(
        url=url,
        final_url=final_url,
        outcome=outcome,
        reason=reason,
        status=answer.status,
        content_type=answer.headers.get("content-type", ""),
        robots_tag=answer.headers.get("x-robots-tag", ""),
        etag=answer.headers.get("etag", ""),
        last_modified=answer.headers.get("last-modified", ""),
        body=answer.body if outcome == "ok" else b"",
        size=answer.size if outcome == "ok" else 0,
        tries=tries,
    )
