"""How a split becomes rows of T inputs and one more target: four packings.

- "windows": the ring is cut, from an offset, into windows that follow each other; a document goes on in another row.
- "stride": windows that begin every `stride` tokens, always at the same places, so that they may overlap.
- "best_fit": every row begins with a begin mark and holds whole documents, the longest first each put where it leaves
  the least room (best fit decreasing; Ding et al., "Fewer Truncations Improve Language Modeling", 2024). Only what is
  longer than a row is cut; its rest goes on in another row behind a begin mark of its own. No text is lost; room that
  is left is filled up and does not count.
- "texts": a document a row, as LAi's trainer has it; only what is longer than a row is cut, as in "best_fit". A batch
  is as wide as its longest row needs: T, or a half, a quarter and so on of it.

Letters: B rows, T inputs, R = T + 1 tokens of a row, N tokens of the stream.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lmcore.tokens.params import Packing, check_stride
from lmcore.tokens.stream import TokenStream
from storage.errors import RunError

Ints = npt.NDArray[np.int64]
NO_DOCUMENT = -1  # document of what fills a row up


@dataclass(frozen=True, eq=False)
class Read:
    """Rows as they were read."""

    tokens: Ints  # (B, R)
    counts: npt.NDArray[np.bool_]  # (B, T): whether the target, tokens[:, 1:], is to be learnt
    documents: npt.NDArray[np.int32]  # (B, T): of the inputs


class Rows(Protocol):
    """The rows of a stream under one packing."""

    n_rows: int

    def read(self, numbers: Ints, offset: int) -> Read:
        """Rows `numbers`, 0 to n_rows - 1. `offset` moves where windows are cut."""

    def describe(self) -> str:
        """The rows in words."""


def make_rows(stream: TokenStream, context: int, packing: Packing, stride: int | None) -> Rows:
    """The rows of `stream`. `stride` None is half the context.

    Raises RunError when the stream does not fill one row, UserError for a stride that leaves text out.
    """
    if packing == "texts" and stream.n_tokens:
        return BestFit(stream, context, alone=True)
    if stream.n_tokens < context + 1:
        raise RunError(
            f"{stream.name} has {stream.n_tokens:,} tokens, one window of context {context:,} needs {context + 1:,}",
            "collect more text, give this split a larger share, or set a shorter context",
        )
    if packing == "best_fit":
        return BestFit(stream, context)
    if packing == "windows":
        return Windows(stream, context, context, ring=True)
    stride = max(1, context // 2) if stride is None else stride
    check_stride(stride, context)
    return Windows(stream, context, stride, ring=False)


def narrowed(read: Read) -> Read:
    """Rows without columns at their end that fill up all of them: T, T / 2, T / 4 ... wide, whole parts only."""
    width = wide = read.counts.shape[1]
    needed = 1 + int(np.flatnonzero((read.counts | (read.documents != NO_DOCUMENT)).any(axis=0))[-1])
    while wide % 2 == 0 and wide // 2 >= needed:
        wide //= 2
    if wide == width:
        return read
    return Read(read.tokens[:, : wide + 1], read.counts[:, :wide], read.documents[:, :wide])


class Windows:
    """Windows every `stride` tokens: of the whole ring from an offset on, or of the line from its first token."""

    def __init__(self, stream: TokenStream, context: int, stride: int, *, ring: bool) -> None:
        self._stream, self._context, self._stride, self._ring = stream, context, stride, ring
        self.n_rows = stream.n_tokens // stride if ring else (stream.n_tokens - context - 1) // stride + 1

    def read(self, numbers: Ints, offset: int) -> Read:
        """See Rows."""
        starts = numbers * self._stride + (offset if self._ring else 0)
        tokens = np.stack([self._stream.read(int(start), self._context + 1) for start in starts])
        counts = np.stack([self._stream.learnt(int(start) + 1, self._context) for start in starts])
        return Read(tokens, counts, self._stream.document_at(starts[:, None] + np.arange(self._context)))

    def describe(self) -> str:
        """See Rows."""
        return f"{self.n_rows:,} windows of {self._context:,} tokens, one every {self._stride:,}"


class BestFit:
    """Whole documents, packed, or each `alone`. The plan is 13 bytes for each document, or part of one, and no more."""

    def __init__(self, stream: TokenStream, context: int, *, alone: bool = False) -> None:
        self._stream, self._row = stream, context + 1
        starts, lengths, marked, self.n_cut = _cut(stream.starts, stream.lengths, self._row)
        row = np.arange(len(lengths)) if alone else best_fit(lengths, self._row)
        order = np.argsort(row, kind="stable")
        self._starts, self._lengths, self._marked = starts[order], lengths[order], marked[order]
        self.n_rows = int(row.max()) + 1
        self._first: Ints = np.searchsorted(row[order], np.arange(self.n_rows + 1))
        self.filling = 1 - int(lengths.sum()) / (self.n_rows * self._row)  # share of all tokens that fills rows up

    def read(self, numbers: Ints, offset: int) -> Read:
        """See Rows."""
        del offset  # rows are the same in every epoch
        tokens = np.full((len(numbers), self._row), self._stream.bos_id, dtype=np.int64)
        learnt = np.zeros((len(numbers), self._row), dtype=bool)
        documents = np.full((len(numbers), self._row), NO_DOCUMENT, dtype=np.int32)
        for line, number in enumerate(numbers):
            at = 0
            for piece in range(self._first[number], self._first[number + 1]):
                stop, start = at + int(self._lengths[piece]), int(self._starts[piece])
                marked = int(self._marked[piece])
                learnt[line, at] = True  # a begin mark is the end of the document before it
                tokens[line, at + marked : stop] = self._stream.read(start, stop - at - marked)
                learnt[line, at + marked : stop] = self._stream.learnt(start, stop - at - marked)
                documents[line, at:stop] = self._stream.document_at(np.array([start]))
                at = stop
            if at < self._row:
                learnt[line, at] = True  # and so is the first that fills up: only a whole document leaves room
        return Read(tokens, learnt[:, 1:], documents[:, :-1])

    def describe(self) -> str:
        """See Rows."""
        return (
            f"{self.n_rows:,} rows of {self._row:,} tokens, packed from {self._stream.n_documents:,} documents "
            f"({self.n_cut:,} longer than a row and cut); {self.filling:.1%} fills rows up, no text is lost"
        )


def _cut(starts: Ints, lengths: Ints, row: int) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.bool_], int]:
    """Documents in pieces that fit a row: start, tokens in the row, whether a begin mark is put before it; cut ones."""
    more = np.maximum(0, -(-(lengths - row) // (row - 1)))  # pieces after the first, one token less each for the mark
    document = np.repeat(np.arange(len(lengths)), more + 1)
    number = np.arange(len(document)) - np.repeat(np.cumsum(more + 1) - (more + 1), more + 1)  # within its document
    before = np.where(number > 0, row + (number - 1) * (row - 1), 0)  # tokens of the document before the piece
    marked = number > 0
    sizes = np.minimum(lengths[document] - before + marked, row)
    return starts[document] + before, sizes.astype(np.int32), marked, int((more > 0).sum())


def best_fit(lengths: npt.NDArray[np.integer], row: int) -> npt.NDArray[np.int32]:
    """The row of each piece of these `lengths`, 1 to `row`: best fit decreasing, pieces of equal length in order.

    Pieces of one length go together: into rows with equally much room r each takes r // length of them before another
    row would fit better. So the work is that of the different lengths, not of the pieces.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    found = np.empty(len(lengths), dtype=np.int32)
    room: dict[int, list[npt.NDArray[np.int32]]] = {}  # rows by the room they have
    spaces: list[int] = []  # its keys, sorted
    n_rows = at = 0

    def put(space: int, rows: npt.NDArray[np.int32]) -> None:
        if space and len(rows):
            if space not in room:
                insort(spaces, space)
            room.setdefault(space, []).append(rows)

    for size, left in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while left:
            place = bisect_left(spaces, size)
            if place < len(spaces):
                space = spaces.pop(place)
                rows = np.concatenate(room.pop(space))
            else:
                space = row
                rows = np.arange(n_rows, n_rows - (-left // (row // size)), dtype=np.int32)
                n_rows += len(rows)
            each = space // size
            used = rows[: -(-left // each)]
            taken = min(left, each * len(used))
            found[order[at : at + taken]] = np.repeat(used, each)[:taken]
            whole, rest = divmod(taken, each)
            put(space, rows[len(used) :])
            put(space - each * size, used[:whole])
            put(space - rest * size, used[whole:])
            at += taken
            left -= taken
    return found
