"""A sample of a stream of texts that does not depend on their order: those with the least hashes, up to a size."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import xxhash

TEXT_CHARS = 100_000  # what is taken of one text, so that one book is not the whole sample


class HashSample:
    """At most `max_chars` characters of different texts; memory of that size, whatever the stream."""

    def __init__(self, max_chars: int, *, text_chars: int = TEXT_CHARS) -> None:
        """Of one text no more than its first `text_chars` are taken."""
        self.max_chars = max_chars
        self.text_chars = text_chars
        self.seen = 0  # texts given, copies included
        self._heap: list[tuple[int, str]] = []  # greatest hash first, as its negative
        self._hashes: set[int] = set()
        self._chars = 0
        self._limit = 1 << 128  # hashes from here on are out for good

    def add(self, texts: Iterable[str]) -> None:
        """Offer texts. What stays is the longest run of least hashes that fits, of all texts ever offered."""
        for text in texts:
            self.seen += 1
            key = xxhash.xxh3_128_intdigest(text.encode())
            if key >= self._limit or key in self._hashes or not text:
                continue
            heapq.heappush(self._heap, (-key, text[: self.text_chars]))
            self._hashes.add(key)
            self._chars += min(len(text), self.text_chars)
            while self._chars > self.max_chars:
                largest, dropped = heapq.heappop(self._heap)
                self._limit = -largest
                self._hashes.remove(-largest)
                self._chars -= len(dropped)

    def texts(self) -> list[str]:
        """The sample, by hash."""
        return [text for _, text in self.items()]

    def items(self) -> list[tuple[int, str]]:
        """(hash of the whole text, what is taken of it), by hash."""
        return [(-key, text) for key, text in sorted(self._heap, reverse=True)]
