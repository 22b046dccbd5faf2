"""How many lines a training text has, how many of them are different, how many words, and tasks of which kinds.

A line is blank when it holds nothing but white space; blank lines are counted and else left out. Lines are the same
when they are to the byte (as for `sort -u`); of each different one 16 bytes are held, of each different word 8.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from lmcore.curate.signals_marks import LABELS
from lmcore.curate.words import split

MIN_EXAMPLES, MIN_UNIQUE, VOCABULARY = 20_000, 0.6, (8_000, 32_768)
PLAIN = "plain text"
_BATCH = 20_000  # lines whose words are looked at together
_LONGEST = 1 << 20  # characters of a line that are looked at for words at once
_SYSTEM = re.compile(r"\s*<(?:\|)?system(?:\|)?>\s*(.{0,60}?)(?:[.:\n]|</|<\||$)", re.IGNORECASE)
_TURN = re.compile(r"\s*<(?:\|)?(user|human|assistant)(?:\|)?>", re.IGNORECASE)


@dataclass
class LineStats:
    """What has been counted so far."""

    total: int = 0
    non_empty: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    _seen: set[bytes] = field(default_factory=set)
    _held: list[str] = field(default_factory=list)
    _words: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    _fresh: list[NDArray[np.uint64]] = field(default_factory=list)  # words that are not merged yet
    _chars: int = 0

    @property
    def unique(self) -> int:
        """Different lines that are not blank."""
        return len(self._seen)

    @property
    def share(self) -> float:
        """Of the lines that are not blank, how many are different; 0 without lines."""
        return self.unique / self.non_empty if self.non_empty else 0.0

    @property
    def words(self) -> int:
        """Different words, without regard to case."""
        self._look()
        self._merge()
        return len(self._words)

    def add(self, lines: Iterable[str], task: str = "") -> None:
        """Count lines; `task` is what the text that they are of is for, without one each line tells itself."""
        for line in lines:
            self.total += 1
            if not line.strip():
                continue
            self.non_empty += 1
            self._seen.add(xxhash.xxh3_128_digest(line.encode("utf-8", "surrogateescape")))
            if not task:
                self.tasks[task_of(line)] += 1
            self._held.append(line)
            self._chars += len(line)
            if len(self._held) >= _BATCH or self._chars >= _LONGEST:
                self._look()
        if task:
            self.tasks[task] += 1

    def _look(self) -> None:
        if self._held:
            found = split([line.encode("utf-8", "replace").decode() for line in self._held]).word_hash
            self._fresh.append(np.unique(found))
            self._held, self._chars = [], 0
            if sum(map(len, self._fresh)) > max(1 << 20, len(self._words)):  # so that merging stays linear
                self._merge()

    def _merge(self) -> None:
        self._words = np.unique(np.concatenate([self._words, *self._fresh]))
        self._fresh = []


@dataclass(frozen=True)
class Check:
    """One of the three things a good training text has."""

    name: str
    value: str
    wanted: str
    good: bool


def verdict(stats: LineStats, vocabulary: int) -> tuple[Check, ...]:
    """Examples, unique share, vocabulary, against what a good training text has (LAi's TRAINING.md)."""
    low, high = VOCABULARY
    return (
        Check("examples", f"{stats.non_empty:,}", f"{MIN_EXAMPLES:,} or more", stats.non_empty >= MIN_EXAMPLES),
        Check("unique", f"{stats.share:.1%}", f"{MIN_UNIQUE:.0%} or more", stats.share >= MIN_UNIQUE),
        Check("vocabulary", f"{vocabulary:,}", f"{low:,} to {high:,}", low <= vocabulary <= high),
    )


def text_lines(text: str) -> Iterator[str]:
    """The lines of a text that are not blank: what `export --format text` writes of it, one by one."""
    return (line for line in text.split("\n") if line.strip())


def task_of(line: str) -> str:
    """What a line of a training text is an example of, by the label, the tag or the system prompt it begins with."""
    if found := _SYSTEM.match(line):
        return f"system: {found[1].strip() or 'empty'}"
    if found := _TURN.match(line):
        return found[1].lower()
    if found := _label().match(line):
        return found[1].lower()
    return PLAIN


@functools.cache
def _label() -> re.Pattern[str]:
    names = "|".join(re.escape(label) for label in sorted(LABELS, key=len, reverse=True))
    return re.compile(rf"[\s#*\[(]*({names})\s*[\])*]*\s*[:：]", re.IGNORECASE)
