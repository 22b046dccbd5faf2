"""Passages of a forgotten text where nobody keeps texts: a model's samples, a report, a log.

A quote is a run of eight words (all words of a shorter text, four at least) that stand in a forgotten text and in no
other text that the store keeps: what many pages say, a licence or a menu, is nobody's passage. Quotes are blotted:
every letter and digit in them becomes an x, so that a file keeps its length and JSON, HTML and logs stay what they
are. Words are runs of letters and digits, compared without regard to case; JSON's and HTML's escapes are read as what
they stand for.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import Hashes, gram_hashes, split

PASSAGE = 8  # words
SHORTEST = 4  # a text of fewer words is nothing that could be recognised
_MARKUP = re.compile(r'<[^<>]{0,2000}>|&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|\w{2,31});|\\u[0-9a-fA-F]{4}|\\[nrtbf"\\/]')
_ESCAPED_OR_LETTER = re.compile(r"\\u[0-9a-fA-F]{4}|[^\W_]")
_NO_LETTER = re.compile(r"[\W_]")
_CHUNK = 2**22  # characters looked at together


@dataclass(frozen=True)
class Quotes:
    """Knows the passages of some texts by their hashes, for each length in words."""

    passages: dict[int, Hashes]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Quotes:
        """The passages of these texts."""
        by_size: dict[int, list[Hashes]] = {}
        for text in texts:
            found = split([_comparable(text)])
            size = min(PASSAGE, len(found.word_hash))
            if size >= SHORTEST:
                by_size.setdefault(size, []).append(gram_hashes(found, size)[1])
        return cls({size: np.unique(np.concatenate(hashes)) for size, hashes in by_size.items()})

    def __bool__(self) -> bool:
        return any(len(hashes) for hashes in self.passages.values())

    def without(self, texts: list[str]) -> Quotes:
        """Without the passages that stand in these texts too."""
        if not texts:
            return self
        found = split([_comparable(text) for text in texts])
        return Quotes(
            {size: np.setdiff1d(hashes, gram_hashes(found, size)[1]) for size, hashes in self.passages.items()}
        )

    def blotted(self, text: str) -> str | None:
        """`text` with its quotes blotted, None when there is none; as many UTF-8 bytes as before."""
        pieces, last = [], 0
        for start, end in self._ranges(text):
            pieces += [text[last:start], _ESCAPED_OR_LETTER.sub(_blot, text[start:end])]
            last = end
        return "".join([*pieces, text[last:]]) if pieces else None

    def blotted_bytes(self, data: bytes) -> bytes | None:
        """The same for the bytes of a text file, or any other; what is no UTF-8 is passed over."""
        found = self.blotted(data.decode("utf-8", "surrogateescape"))
        return None if found is None else found.encode("utf-8", "surrogateescape")

    def _ranges(self, text: str) -> list[tuple[int, int]]:
        """The words of quotes, as (first character, one past the last) in `text`, in order and apart."""
        words: list[tuple[int, int]] = []
        step = _CHUNK // 2  # chunks overlap: a quote at the end of one is whole in the next
        for begin in range(0, max(1, len(text)), step):
            words += [(begin + start, begin + end) for start, end in self._words(text[begin : begin + _CHUNK])]
            if begin + _CHUNK >= len(text):
                break
        ranges: list[tuple[int, int]] = []
        for start, end in sorted(words):
            if ranges and start < ranges[-1][1]:  # a word cut by the end of a chunk, then whole
                start, end = ranges[-1][0], max(end, ranges.pop()[1])
            ranges.append((start, end))
        return ranges

    def _words(self, text: str) -> list[tuple[int, int]]:
        plain, starts, ends = _plain(text)
        found = split([plain])
        counts = np.zeros(len(found.word_hash) + 1, np.int64)
        for size, hashes in self.passages.items():
            first, grams = gram_hashes(found, size)
            first = first[np.isin(grams, hashes)]
            np.add.at(counts, first, 1)
            np.add.at(counts, first + size, -1)
        words = np.flatnonzero(np.cumsum(counts)[:-1] > 0)
        return list(
            zip(starts[found.word_start[words]].tolist(), ends[found.word_end[words] - 1].tolist(), strict=True)
        )


def _plain(text: str) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """`text` without markup and escapes, and for each of its characters where it begins and ends in `text`."""
    pieces: list[str] = []
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []

    def add(piece: str, start: int, end: int) -> None:
        pieces.append(piece)
        places = np.arange(start, end) if len(piece) == end - start else np.full(len(piece), start)
        starts.append(places)
        ends.append(places + 1 if len(piece) == end - start else np.full(len(piece), end))

    last = 0
    for match in _MARKUP.finditer(text):
        add(text[last : match.start()], last, match.start())
        add(_meant(match[0]), match.start(), match.end())
        last = match.end()
    add(text[last:], last, len(text))
    return _comparable("".join(pieces)), np.concatenate(starts), np.concatenate(ends)


def _meant(markup: str) -> str:
    """The one character that an escape stands for; a space for a tag and for what is no letter."""
    if markup.startswith("&"):
        found = html.unescape(markup)
    elif markup.startswith("\\u"):
        found = chr(int(markup[2:], 16))
    else:
        found = markup[1] if markup[0] == "\\" and markup[1] in '"\\/' else " "
    return found if len(found) == 1 else " "


def _comparable(text: str) -> str:
    """`text` with spaces for all but letters and digits, and as long as it is in lower case."""
    text = _NO_LETTER.sub(" ", text).replace("\u0130", "I")
    return text if len(text.lower()) == len(text) else "".join(c if len(c.lower()) == 1 else " " for c in text)


def _blot(match: re.Match[str]) -> str:
    found = match[0]
    return "\\u0078" if len(found) > 1 else "x" * len(found.encode())
