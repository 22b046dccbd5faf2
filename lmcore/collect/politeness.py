"""When a host may be asked again, and what its robots.txt permits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from protego import Protego

from lmcore.collect.charset import decode

AGENT = "collect-train"
ROBOTS_BYTES = 512 * 1024  # RFC 9309 section 2.5 asks for at least 500 KiB; the rest is not read
MAX_CRAWL_DELAY = 300.0  # a host that asks for longer pauses is left alone rather than disobeyed


class Stopped(Exception):
    """The crawl is being taken down; waiting makes no sense any more."""


class HostClock:
    """One clock per host: at most one request at a time and a pause after it, when there is a delay.

    Without a delay requests to a host run side by side; a pause asked for by the server holds them all.
    """

    def __init__(self) -> None:
        self._free_at: defaultdict[str, float] = defaultdict(float)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stop = threading.Event()

    @contextlib.contextmanager
    def turn(self, site: str, delay: float) -> Iterator[None]:
        """Wait for this host's turn, and start its clock again afterwards. Raises Stopped after `stop`."""
        with self._locks[site] if delay > 0 else contextlib.nullcontext():
            self.wait(self._free_at[site] - time.monotonic())
            try:
                yield
            finally:
                self._free_at[site] = max(self._free_at[site], time.monotonic() + delay)

    def pause(self, site: str, seconds: float) -> None:
        """Leave a host alone for a while: it said so."""
        self._free_at[site] = max(self._free_at[site], time.monotonic() + seconds)

    def wait(self, seconds: float) -> None:
        """Sleep unless the crawl stops. Raises Stopped."""
        if self._stop.wait(seconds) if seconds > 0 else self._stop.is_set():
            raise Stopped

    def stop(self) -> None:
        """Wake every waiter; nothing is sent any more."""
        self._stop.set()


@dataclass(frozen=True)
class Rules:
    """What robots.txt of one host says. `refusal` is "" or the outcome for all its pages, with a reason."""

    text: str = ""
    refusal: str = ""
    reason: str = ""


class Robots:
    """robots.txt of every host, fetched once and kept.

    4xx: everything is allowed; 5xx, 429 or no answer after the usual tries: nothing is (RFC 9309 section 2.3.1).
    """

    def __init__(self, fetch: Callable[[str], Rules], known: dict[str, Rules]) -> None:
        self._fetch = fetch
        self.known = {origin: rules for origin, rules in known.items() if not rules.refusal}
        self._parsed: dict[str, Protego] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def settled(self) -> dict[str, Rules]:
        """What may be carried over to the next run, by origin: a host that failed to say is asked again."""
        return {origin: rules for origin, rules in list(self.known.items()) if not rules.refusal}

    def refusal(self, url: str) -> tuple[str, str] | None:
        """(outcome, reason) when this page may not be fetched, None when it may. May fetch robots.txt first."""
        rules = self._load(url)
        if rules.refusal:
            return rules.refusal, rules.reason
        parsed = self._parse(url, rules)
        if not parsed.can_fetch(url, AGENT):
            return "robots_denied", "robots.txt forbids it"
        asked = self._asked_delay(parsed)
        if asked > MAX_CRAWL_DELAY:
            return "robots_denied", f"robots.txt asks for {asked:g} s between requests"
        return None

    def delay(self, url: str) -> float:
        """Seconds between requests that a host whose robots.txt is known asks for; 0 when it asks for nothing."""
        rules = self.known.get(_origin(url))
        return self._asked_delay(self._parse(url, rules)) if rules and not rules.refusal else 0.0

    def sitemaps(self, url: str) -> list[str]:
        """The sitemaps that robots.txt of a page's host names, as it writes them. May fetch robots.txt first."""
        rules = self._load(url)
        return [] if rules.refusal else list(self._parse(url, rules).sitemaps)

    def _load(self, url: str) -> Rules:
        origin = _origin(url)
        with self._locks[origin]:
            if origin not in self.known:
                self.known[origin] = self._fetch(f"{origin}/robots.txt")
            return self.known[origin]

    def _parse(self, url: str, rules: Rules) -> Protego:
        origin = _origin(url)
        if origin not in self._parsed:
            self._parsed[origin] = Protego.parse(rules.text)
        return self._parsed[origin]

    @staticmethod
    def _asked_delay(parsed: Protego) -> float:
        rate = parsed.request_rate(AGENT)
        return max(parsed.crawl_delay(AGENT) or 0.0, rate.seconds / rate.requests if rate and rate.requests else 0.0)


def rules_of(status: int, body: bytes, failure: str, reason: str) -> Rules:
    """What the answer to a request for robots.txt means."""
    if failure not in ("", "http_error", "unavailable"):
        return Rules(refusal="robots_unavailable", reason=f"robots.txt: {reason or failure}")
    if status >= 500 or status == 429:
        return Rules(refusal="robots_unavailable", reason=f"robots.txt was answered with status {status}")
    return Rules(text=decode(body).text) if status // 100 == 2 else Rules()


def _origin(url: str) -> str:
    return f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
