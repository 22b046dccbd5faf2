"""Which lines stand in many texts, counted over the line tables of all shards in a memory that is given.

The hashes of lines are cut into slices of equal width, as many as it takes for the rows of the new tables in one slice
to fit; the slices are counted one after the other. A table is sorted by hash, so of each file only the row groups are
read that hold the slice, and every row group is read about once in all.

Legend: N rows of line tables, H boilerplate lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.boilerplate import LINES, MIN_DOCUMENTS
from lmcore.curate.words import Hashes, run_starts
from storage.parquet import parquet_facts, read_between

_ROW_BYTES = 80  # a row held, put together with the others and sorted: 40; and there may be twice the rows
_LEAST_BYTES = 1 << 16

Texts = NDArray[np.uint32]


def boilerplate_lines(
    new: Sequence[Path], known: Sequence[Path], *, min_documents: int = MIN_DOCUMENTS, memory_mb: int
) -> Hashes:
    """Lines of the `new` tables that stand in at least `min_documents` different texts of all tables: (H,) sorted.

    `new` and `known` are Parquet files of LINES. About `memory_mb` are used, beside eight bytes a line that is found.
    Raises RunError where a file cannot be read.
    """
    rows = sum(parquet_facts(file).num_rows for file in new)
    most = max(_LEAST_BYTES, memory_mb << 20) // _ROW_BYTES
    slices = max(1, -(-rows // most))
    edges = [(number << 64) // slices for number in range(slices + 1)]
    found = [_often(new, known, low, high - 1, min_documents, most) for low, high in itertools.pairwise(edges) if rows]
    return np.concatenate([np.zeros(0, np.uint64), *found])


def _often(new: Sequence[Path], known: Sequence[Path], low: int, last: int, least: int, most: int) -> Hashes:
    """The lines with hashes from `low` to `last`."""
    counted = _Counted(least, most)
    for file in new:
        counted.add(*_rows(file, low, last))
    if known:
        open_ = counted.open_lines()
        for file in known:
            line, text = _rows(file, low, last)
            wanted = _among(line, open_)
            counted.add(line[wanted], text[wanted])
    return counted.found()


def _rows(file: Path, low: int, last: int) -> tuple[Hashes, Texts]:
    """Lines and texts of the rows whose line lies from `low` to `last`."""
    table = read_between(file, LINES.names[0], low, last, LINES.names)
    line, text = (table[name].to_numpy() for name in LINES.names)
    inside = (line >= np.uint64(low)) & (line <= np.uint64(last))
    return line[inside], text[inside]


class _Counted:
    """Rows of line tables, of which only those are held whose line has not been seen in enough texts."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self._lines: list[Hashes] = [np.zeros(0, np.uint64)]
        self._texts: list[Texts] = [np.zeros(0, np.uint32)]
        self._held = 0
        self._found: list[Hashes] = [np.zeros(0, np.uint64)]

    def add(self, line: Hashes, text: Texts) -> None:
        """Count (N,) rows in."""
        self._lines.append(line)
        self._texts.append(text)
        self._held += len(line)
        if self._held > 2 * self._most:  # more of the known lie here than of the new
            self._settle()
            self._most = max(self._most, self._held)

    def open_lines(self) -> Hashes:
        """The different lines that have not been found to stand in enough texts, sorted."""
        return np.unique(np.concatenate(self._lines))

    def found(self) -> Hashes:
        """The lines that stand in enough texts, sorted."""
        self._settle()
        return np.unique(np.concatenate(self._found))

    def _settle(self) -> None:
        """Take out the lines that are known to stand in enough texts."""
        line, text = np.concatenate(self._lines), np.concatenate(self._texts)
        self._lines, self._texts = [], []
        # The first look is the cheap one: most lines stand in one text, and only the rest is compared text by text.
        several = _among(line, _repeated(np.sort(line), self._least))
        order = np.flatnonzero(several)
        order = order[np.lexsort((text[order], line[order]))]
        order = order[run_starts(line[order]) | run_starts(text[order])]
        enough = _repeated(line[order], self._least)
        left = np.concatenate((np.flatnonzero(~several), order[~_among(line[order], enough)]))
        self._found.append(enough)
        self._lines, self._texts, self._held = [line[left]], [text[left]], len(left)


def _repeated(ranked: Hashes, least: int) -> Hashes:
    """The different values of a sorted array that stand in it at least so often."""
    first = np.flatnonzero(run_starts(ranked))
    return ranked[first[np.diff(np.append(first, len(ranked))) >= least]]


def _among(line: Hashes, lines: Hashes) -> NDArray[np.bool_]:
    """Which are among the sorted `lines`."""
    if not len(lines):
        return np.zeros(len(line), bool)
    found: NDArray[np.bool_] = lines[np.minimum(np.searchsorted(lines, line), len(lines) - 1)] == line
    return found
