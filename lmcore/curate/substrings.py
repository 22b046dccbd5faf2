"""Long repeats: a run of 50 words or more that stands again later in the corpus is cut out there; the first stays.

Lee and others 2022 ("Deduplicating training data makes language models better", section 4.1) find such runs with a
suffix array over all bytes. That array is four to eight times the corpus, so it is made for blocks of it, and a repeat
that lies in two blocks is not found. Here the same runs, in words, are found by hashes and sorting, in bounded
memory, over the whole corpus at once:

1. Of every window of 50 words, the smallest hash of the 25 half windows that begin it is a fingerprint (winnowing:
   Schleimer and others 2003). Equal windows have equal fingerprints. All fingerprints are written to disk, apart by
   their first bits; sorting one part after the other tells which occur more than once.
2. A window whose fingerprint occurs once is nowhere else. The others are written to disk with their place, apart by
   hash. Sorted by hash and place, all but the first of equal windows are later copies, and the words in them are cut.

So every window that stands earlier is found, in the same text, too, and none else (but for the odds of `overlap`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lmcore.config import Params
from lmcore.curate.cuts import Span, merged
from lmcore.curate.hash_filter import make_filter, passing
from lmcore.curate.overlap import Grams, Hashes, Integers, Size, Tokens, pieces
from lmcore.curate.words import run_starts
from storage.atomic import disk_errors

_PARTS = 64
_PLACE = np.dtype([("hash", np.uint64), ("text", np.uint32), ("start", np.uint32), ("end", np.uint32)])
_SPAN = np.dtype([("text", np.uint32), ("start", np.uint32), ("end", np.uint32)])


class SubstringParams(Params):
    """What a long repeat is."""

    enabled: bool = Field(default=False, description="Cut out of texts what stands word for word in an earlier one.")
    min_words: int = Field(default=50, ge=50, le=1000, description="Words in a row that are a repeat.")
    min_chars: int = Field(
        default=200, ge=50, le=4000, description="The same in characters, for scripts that write no spaces."
    )
    min_left_words: int = Field(default=20, ge=0, description="A text that has fewer words after a cut is dropped.")

    @property
    def size(self) -> Size:
        """How long a repeat is at least."""
        return Size(self.min_words, self.min_chars)


@dataclass(frozen=True)
class Repeats:
    """What is to be cut: R spans in code points, ascending by text and place, none touching another of its text."""

    text: Integers  # (R,) number of the text in canonical order
    start: Integers  # (R,)
    end: Integers  # (R,)

    def spans(self, text: int) -> list[Span]:
        """The spans of one text."""
        first, last = np.searchsorted(self.text, [text, text + 1])
        return list(zip(self.start[first:last].tolist(), self.end[first:last].tolist(), strict=True))


def long_repeats(
    batches: Callable[[], Iterable[Sequence[str]]],
    size: Size,
    folder: Path,
    *,
    rank: Integers | None = None,
    memory_mb: int = 256,
) -> Repeats:
    """The later copies of all windows of `size` that stand more than once in the texts.

    `batches` gives the T texts in the same order each of two times; how they are cut into batches changes nothing.
    `rank` (T,), a permutation, says which of them is the first, the second and so on in canonical order, and the
    result calls them by it; None: they come in that order. Files are written to `folder`, which is removed. Memory is
    about `memory_mb` and what is returned, so long as no 64th of the windows that stand more than once takes more.
    Raises StorageError.
    """
    memory = (memory_mb << 20) // 4
    try:
        fingerprints = _Parts(folder / "fingerprints", np.dtype(np.uint64), memory)
        texts = 0
        for found in _windows(batches(), size):
            prints = found.fingerprints()
            fingerprints.add(prints, _high(prints))
            texts = found.last_text + 1
        repeated = make_filter(map(_repeated, fingerprints.read()), fingerprints.total, memory)

        places = _Parts(folder / "places", _PLACE, memory)
        for found in _windows(batches(), size):
            place = found.places(passing(repeated, found.smallest))
            if rank is not None:
                place["text"] = rank[place["text"]]
            places.add(place, _high(place["hash"]))

        later = _Parts(folder / "later", _SPAN, memory)
        for part in places.read():
            span = _later(part)
            later.add(span, span["text"].astype(np.int64) * _PARTS // texts)
        columns = [merged(*(part[name].astype(np.int64) for name in ("text", "start", "end"))) for part in later.read()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Repeats(*(np.concatenate([part[i] for part in columns]) for i in range(3)))


@dataclass(frozen=True)
class _Windows:
    """The windows of one batch of texts that lie within one."""

    tokens: Tokens
    first_text: int
    start: Integers  # (W,) first token
    end: Integers  # (W,)
    hash: Hashes  # (W,)
    halves: Hashes  # (H,) of the half windows from every token
    smallest: Hashes  # (W,) of the half windows that begin each window
    n_halves: int  # so many begin a window

    @property
    def last_text(self) -> int:
        return self.first_text + len(self.tokens.bounds) - 2

    def fingerprints(self) -> Hashes:
        """The half windows that are the smallest one of some window, each once for every place where it stands."""
        of_window = np.zeros(len(self.halves) + self.n_halves - 1, np.uint64)
        of_window[self.start + self.n_halves - 1] = self.smallest
        # a half window is in those windows that begin at it and at the tokens before; it is no greater than theirs
        found: Hashes = self.halves[self.halves == _sliding(of_window, self.n_halves, np.maximum)]
        return found

    def places(self, wanted: NDArray[np.bool_]) -> NDArray[np.void]:
        """_PLACE rows of those windows."""
        start, end = self.start[wanted], self.end[wanted]
        found = np.zeros(len(start), _PLACE)
        found["hash"] = self.hash[wanted]
        found["text"] = self.first_text + self.tokens.text_of(start)
        found["start"] = self.tokens.start[start]
        found["end"] = self.tokens.end[end - 1]
        return found


def _windows(batches: Iterable[Sequence[str]], size: Size) -> Iterator[_Windows]:
    n_halves = min(size.words, size.chars) // 2
    # Even if all tokens weigh the most, the last half window that begins a window ends within it.
    half = size.weight - n_halves * max(size.words, size.chars)
    number = 0
    for texts in batches:
        for first, tokens in pieces(texts, size):
            grams = Grams(tokens)
            found = grams.windows(size, size.weight)
            halves = grams.windows(size, half).hash
            start = np.flatnonzero(grams.inside(np.arange(len(found.end)), found.end))
            smallest = _sliding(halves, n_halves, np.minimum)[start]
            yield _Windows(
                tokens, number + first, start, found.end[start], found.hash[start], halves, smallest, n_halves
            )
        number += len(texts)


def _sliding(values: Hashes, count: int, best: np.ufunc) -> Hashes:
    """The smallest or greatest of each `count` values in a row, in log2(count) passes."""
    if len(values) < count:
        return values[:0]
    width = 1
    while 2 * width <= count:
        values = best(values[:-width], values[width:])
        width *= 2
    found: Hashes = best(values[: len(values) - (count - width)], values[count - width :])
    return found


def _high(hashes: Hashes) -> Integers:
    """The part that each belongs to; parts ascend as hashes do."""
    return (hashes >> np.uint64(64 - _PARTS.bit_length() + 1)).astype(np.int64)


def _repeated(prints: Hashes) -> Hashes:
    prints = np.sort(prints)
    again = ~run_starts(prints)
    found: Hashes = prints[again]
    return found


def _later(places: NDArray[np.void]) -> NDArray[np.void]:
    """_SPAN rows of all but the first of equal windows."""
    places = places[np.lexsort((places["start"], places["text"], places["hash"]))]
    again = places[~run_starts(places["hash"])]
    found = np.zeros(len(again), _SPAN)
    for name in found.dtype.names or ():
        found[name] = again[name]
    return found


class _Parts:
    """Rows on disk in _PARTS files; up to `memory` bytes are held before they are written."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], memory: int) -> None:
        self._folder, self._dtype, self._memory = folder, dtype, memory
        self._held: list[tuple[NDArray[Any], Integers]] = []
        self._bytes = self.total = 0
        with disk_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def add(self, rows: NDArray[Any], part: Integers) -> None:
        """Rows and the part that each belongs to."""
        self._held.append((rows, part))
        self.total += len(rows)
        self._bytes += 3 * rows.nbytes + part.nbytes  # held, then joined and put in order
        if self._bytes > self._memory:
            self._write()

    def read(self) -> Iterator[NDArray[Any]]:
        """The rows of each part."""
        self._write()
        for number in range(_PARTS):
            path = self._folder / str(number)
            yield np.fromfile(path, self._dtype) if path.exists() else np.zeros(0, self._dtype)

    def _write(self) -> None:
        if not self._held:
            return
        rows = np.concatenate([rows for rows, _ in self._held])
        part = np.concatenate([part for _, part in self._held])
        self._held, self._bytes = [], 0
        order = np.argsort(part, kind="stable")
        rows, bounds = rows[order], np.searchsorted(part[order], np.arange(_PARTS + 1))
        for number in range(_PARTS):
            if bounds[number] < bounds[number + 1]:
                with disk_errors(self._folder), open(self._folder / str(number), "ab") as file:
                    rows[bounds[number] : bounds[number + 1]].tofile(file)
