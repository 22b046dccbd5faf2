"""Which URLs belong to a crawl, in which order they are asked for, and where its bytes are used up."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from urllib.parse import urlsplit

from lmcore.collect.frontier import Frontier
from lmcore.collect.links import canonical_url, site_of, tidy_url
from lmcore.collect.params import WebSource

HELD_PAGES = 200  # of each host's queue in memory


class Area:
    """Which URLs belong to the crawl."""

    def __init__(self, params: WebSource) -> None:
        tidy = {canonical_url(seed): tidy_url(seed) for seed in params.start}
        self.seeds = {name: url for name, url in tidy.items() if name and url}
        self._hosts = {_host(url) for url in self.seeds.values()}
        self._origins = {_origin(url) for url in self.seeds.values()}
        self._allow = [re.compile(pattern) for pattern in params.allow]
        self._deny = [re.compile(pattern) for pattern in params.deny]

    def first_pages(self) -> Iterator[tuple[str, str, str]]:
        """Name, URL and "" of the seeds, in the order of their names."""
        yield from ((name, self.seeds[name], "") for name in sorted(self.seeds))

    def widen(self, urls: list[str]) -> None:
        """Add the hosts that seeds were redirected to: example.org often means www.example.org."""
        self._hosts |= {_host(url) for url in urls}
        self._origins |= {_origin(url) for url in urls}

    def origins(self) -> list[str]:
        """`scheme://host` of the seeds and of where they led to."""
        return sorted(self._origins)

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


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Budget:
    """Bytes of all pages together: which page of a level, in canonical order, is the first that is too many.

    As long as not all pages before are here it may still turn out to be an earlier one, never a later one: what comes
    after it need not be asked for, and what is kept depends on sizes only, not on which page came first.
    """

    def __init__(self, frontier: Frontier, depth: int, most: int) -> None:
        self._frontier = frontier
        self._depth = depth
        self._most = most - frontier.bytes_above(depth) if most else None
        self._spent = frontier.bytes_of(depth) if most else 0
        self.cut: str | None = None
        self._before = 0  # bytes of the pages before the cut
        self._look()

    def spend(self, name: str, size: int) -> None:
        """Count the bytes of a page that came."""
        self._spent += size
        if self.cut is None:
            self._look()
        elif name < self.cut:
            self._before += size
            while self._most is not None and self._before > self._most and (found := self._last_before_cut()):
                self.cut = found[0]
                self._before -= found[1]

    def _last_before_cut(self) -> tuple[str, int] | None:
        assert self.cut is not None
        return self._frontier.before(self._depth, self.cut)

    def _look(self) -> None:
        if self._most is not None and self._spent > self._most:
            found = self._frontier.first_over(self._depth, self._most)
            self.cut, self._before = found or (None, 0)


class HostQueue:
    """What waits in a level by host, so that a slow host keeps nobody waiting but itself.

    Of every host only the next few pages are held; hosts take turns.
    """

    def __init__(self, frontier: Frontier, depth: int, side_by_side: int) -> None:
        self._frontier = frontier
        self._depth = depth
        self._limit = side_by_side
        self._free = deque(frontier.sites(depth))
        self._next: dict[str, deque[tuple[str, str]]] = {}
        self._after: dict[str, str] = {}
        self._busy: Counter[str] = Counter()

    def take(self, before: str | None = None) -> tuple[str, str] | None:
        """Name and URL of the next page of a host that may be asked now; none of those from `before` on."""
        while self._free:
            site = self._free.popleft()
            page = self._page(site, before)
            if page is None:
                continue
            self._busy[site] += 1
            if self._busy[site] < self._limit:
                self._free.append(site)
            return page
        return None

    def release(self, url: str) -> None:
        """A request is over."""
        site = site_of(url)
        if self._busy[site] == self._limit:
            self._free.append(site)
        self._busy[site] -= 1

    def _page(self, site: str, before: str | None) -> tuple[str, str] | None:
        pages = self._next.setdefault(site, deque())
        if not pages:
            pages.extend(self._frontier.waiting(self._depth, site, self._after.get(site, ""), HELD_PAGES, before))
        if not pages or (before is not None and pages[0][0] >= before):
            return None
        self._after[site] = pages[0][0]
        return pages.popleft()
