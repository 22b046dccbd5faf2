"""Which hash stands in which items: rows (hash, item) on disk, sorted in a fixed memory and looked up piece by piece.

Rows are collected up to some MiB, sorted and written as a run; then the runs are merged, one range of hashes after the
other, into one. Looking up maps only that range of the file which it is about, and lets go of it. Neither building
nor looking up holds more when there are more rows, but all rows of one hash at once: they are at most twice `most`
for the items that stay, and one for every item that may change and has the hash. The latter have no bound, since any
of them may be the only one that counts another time.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import run_starts
from storage.atomic import disk_errors

Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]
_Value = TypeVar("_Value", bound=np.generic)

_RUN_BYTES = 12 << 20  # a run is not larger, however much may be held: sorting more at once is no faster
_BYTES_A_ROW = 48  # while rows are sorted: both columns, their order, both columns in order
_RANGES = 4096  # of hashes, by their first bits
_MOST_MAPS = 64  # pieces of the file that are looked at one after the other
_PIECE = 1 << 18  # rows read at once
_FEW = 1 << 16  # so many rows are looked at in one


@dataclass(frozen=True)
class Postings:
    """R rows in a folder, ascending by hash and item, none twice."""

    folder: Path
    bounds: Integers  # (_RANGES + 1,) first row of each range of hashes, and R

    @classmethod
    def open(cls, folder: Path) -> Postings:
        """Raises OSError or ValueError for what is not there or damaged."""
        found = cls(folder, np.load(folder / "bounds.npy"))
        rows = int(found.bounds[-1])
        for name, width in (("grams", 8), ("items", 4)):
            if (size := (folder / name).stat().st_size) != rows * width:
                raise ValueError(f"{name} has {size:,} bytes instead of {rows * width:,}")
        return found

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def hashes(self) -> Iterator[Hashes]:
        """The hashes of all rows, piece by piece."""
        for first in range(0, len(self), _PIECE):
            yield np.fromfile(self.folder / "grams", np.uint64, min(_PIECE, len(self) - first), offset=8 * first)

    def rows(self, wanted: Hashes) -> Iterator[tuple[Integers, Integers]]:
        """The items of distinct ascending hashes: (place in `wanted`, item), in order, all of one hash in one piece."""
        maps = _MOST_MAPS if len(self) > _FEW else 1
        bounds = self.bounds[:: _RANGES // maps].tolist()
        cuts = [*np.searchsorted(wanted, _range_starts(maps)).tolist(), len(wanted)]
        with open(self.folder / "grams", "rb") as grams_file, open(self.folder / "items", "rb") as items_file:
            for (low, high), (first, last) in zip(itertools.pairwise(cuts), itertools.pairwise(bounds), strict=True):
                if low == high or first == last:
                    continue
                grams = _mapped(grams_file, np.uint64, first, last)
                at = np.searchsorted(grams, wanted[low:high])
                hit = np.flatnonzero(grams[np.minimum(at, len(grams) - 1)] == wanted[low:high])
                if not len(hit):
                    continue
                at = at[hit]
                count = np.searchsorted(grams, wanted[low:high][hit], side="right") - at
                items = _mapped(items_file, np.uint32, first, last)
                for some in _together(count):
                    within = np.arange(count[some].sum()) - np.repeat(np.cumsum(count[some]) - count[some], count[some])
                    number = items[np.repeat(at[some], count[some]) + within].astype(np.int64)
                    yield np.repeat(low + hit[some], count[some]), number

    def hashes_of(self, items: NDArray[np.bool_]) -> Hashes:
        """The different hashes of those items, ascending."""
        found = [np.zeros(0, np.uint64)]
        for number, hashes in enumerate(self.hashes()):
            at = 4 * number * _PIECE
            found.append(hashes[items[np.fromfile(self.folder / "items", np.uint32, len(hashes), offset=at)]])
        return np.unique(np.concatenate(found))


MAY_CHANGE, STAYS, ALWAYS = 0, 1, 2
"""An item may count one time and not another; it counts, but where only a part does, of which is none of these; it
counts whatever else does."""


class PostingsWriter:
    """Takes rows in any order, and lets go of those that can never be among the first `most` of their hash to count.

    They are the rows behind `most` others that count whenever they may: behind those of items that ALWAYS count and,
    where the row's own item STAYS, of other items that do.
    """

    def __init__(self, folder: Path, memory: int, most: int, stays: NDArray[np.int8]) -> None:
        """Writes to `folder`, which is there, and holds about `memory` bytes, and no more than some MiB.

        `stays` (J,) is MAY_CHANGE, STAYS or ALWAYS for each of the first J items; the others STAY. More is held where a
        range of hashes, one of 4096, has more rows than fit; it is no more than all rows of that range.
        """
        self._folder, self._memory = folder, min(memory, _RUN_BYTES)
        self._most, self._stays = most, np.append(stays, np.int8(STAYS))
        self._grams: list[Hashes] = []
        self._items: list[NDArray[np.uint32]] = []
        self._held = 0
        self._runs: list[Integers] = []  # the bounds of each

    def add(self, hashes: Hashes, items: NDArray[np.uint32]) -> None:
        """So many rows more. Raises StorageError."""
        self._grams.append(hashes)
        self._items.append(items)
        self._held += len(hashes)
        if self._held * _BYTES_A_ROW > self._memory:
            self._flush()

    def finish(self) -> tuple[Postings, int]:
        """All rows in order, and how many runs they were merged from. Raises StorageError."""
        self._flush()
        counts = np.zeros(_RANGES, np.int64)
        with (
            disk_errors(self._folder),
            open(self._folder / "grams", "wb") as grams_file,
            open(self._folder / "items", "wb") as items_file,
        ):
            for low, high in self._ranges():
                grams, items = self._first(*_sorted(*self._read(low, high)))
                counts += _counts(grams)
                grams.tofile(grams_file)
                items.tofile(items_file)
            np.save(self._folder / "bounds.npy", np.concatenate(([0], np.cumsum(counts))))
            for path in self._folder.glob("run-*"):
                path.unlink()
        return Postings.open(self._folder), len(self._runs)

    def _flush(self) -> None:
        if not self._held:
            return
        grams, items = np.concatenate(self._grams), np.concatenate(self._items)
        self._grams, self._items, self._held = [], [], 0
        grams, items = self._first(*_sorted(grams, items))
        with disk_errors(self._folder):
            grams.tofile(self._folder / f"run-{len(self._runs)}.grams")
            items.tofile(self._folder / f"run-{len(self._runs)}.items")
        self._runs.append(np.concatenate(([0], np.cumsum(_counts(grams)))))

    def _first(self, grams: Hashes, items: NDArray[np.uint32]) -> tuple[Hashes, NDArray[np.uint32]]:
        """Those of rows in order that may be among the first to count; the same of a part as of all."""
        stays = self._stays[np.minimum(items, len(self._stays) - 1)]
        kept = ahead(grams, stays == ALWAYS) < self._most
        kept &= (stays != STAYS) | (ahead(grams, stays != MAY_CHANGE) < self._most)
        return grams[kept], items[kept]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Ranges of hashes, as many in a row as may be held together; nothing where there are no rows."""
        if not self._runs:
            return
        most = max(1, self._memory // _BYTES_A_ROW)
        bounds = np.sum(self._runs, axis=0)
        low = 0
        while low < _RANGES:
            high = max(low + 1, int(np.searchsorted(bounds, bounds[low] + most, side="right")) - 1)
            yield low, min(high, _RANGES)
            low = high

    def _read(self, low: int, high: int) -> tuple[Hashes, NDArray[np.uint32]]:
        grams, items = [], []
        for number, bounds in enumerate(self._runs):
            first, count = int(bounds[low]), int(bounds[high] - bounds[low])
            if count:
                run = self._folder / f"run-{number}"
                grams.append(np.fromfile(run.with_suffix(".grams"), np.uint64, count, offset=8 * first))
                items.append(np.fromfile(run.with_suffix(".items"), np.uint32, count, offset=4 * first))
        return np.concatenate([np.zeros(0, np.uint64), *grams]), np.concatenate([np.zeros(0, np.uint32), *items])


def _sorted(grams: Hashes, items: NDArray[np.uint32]) -> tuple[Hashes, NDArray[np.uint32]]:
    """Ascending, and none twice."""
    order = np.lexsort((items, grams))
    grams, items = grams[order], items[order]
    kept = run_starts(grams) | run_starts(items)
    return grams[kept], items[kept]


def ahead(groups: NDArray[Any], counts: NDArray[np.bool_]) -> Integers:
    """How many that count stand before each one in its group; those of a group follow each other."""
    if not len(groups):
        return np.zeros(0, np.int64)
    before: Integers = np.cumsum(counts) - counts
    first = np.flatnonzero(run_starts(groups))
    return before - np.repeat(before[first], np.diff(np.append(first, len(groups))))


def _mapped(file: BinaryIO, dtype: type[_Value], first: int, last: int) -> NDArray[_Value]:
    """Values `first` to `last` of a file, at least one; np.memmap looks for links in its path each time, slowly."""
    width = np.dtype(dtype).itemsize
    before = width * first % mmap.ALLOCATIONGRANULARITY
    size = before + width * (last - first)
    found = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, offset=width * first - before)
    return np.frombuffer(found, dtype, last - first, before)


def _together(count: Integers) -> Iterator[slice]:
    """Which of hashes with so many rows are read together."""
    upto = np.cumsum(count)
    first = 0
    while first < len(count):
        most = (upto[first - 1] if first else 0) + _PIECE
        last = max(first + 1, int(np.searchsorted(upto, most, side="right")))
        yield slice(first, last)
        first = last


def _range_starts(count: int) -> Hashes:
    """The lowest hash of each of `count` ranges, a power of two."""
    return (
        np.arange(count, dtype=np.uint64) << np.uint64(64 - (count - 1).bit_length())
        if count > 1
        else np.zeros(1, np.uint64)
    )


def _counts(grams: Hashes) -> Integers:
    """(_RANGES,) how many of these ascending hashes are in each range."""
    return np.diff(np.append(np.searchsorted(grams, _range_starts(_RANGES)), len(grams)))
