"""Rows drawn from several parts of the text by weight, each a pure function of its number.

Rows are numbered through the run and go in blocks of 1,000. In every block each part has as many rows as its share, to
the thousandth, in an order that only the seed and the block decide. So the shares are exact, and where a row comes from
is computed, whatever its number is: nothing is remembered.

Letters: B rows, P parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lmcore.tokens.packing import Read, Rows
from lmcore.tokens.params import BLOCK, rows_of
from lmcore.tokens.permutation import ROUNDS, permute
from lmcore.tokens.stream import TokenStream

Ints = npt.NDArray[np.int64]


class Part:
    """The rows of one stream, all of them once an epoch, in an order of the epoch's own.

    With `cut` each of `rows` is cut into so many, which follow each other.
    """

    def __init__(self, stream: TokenStream, rows: Rows, label: str, cut: int = 1) -> None:
        """`label` holds the seed: equal labels give equal orders."""
        self.stream, self._rows, self._label, self._cut = stream, rows, label, cut
        self.n_rows = rows.n_rows * cut

    def read(self, numbers: Ints) -> Read:
        """Rows `numbers` (B,), counted through all epochs."""
        if self._cut > 1:
            wholes, back = np.unique(numbers // self._cut, return_inverse=True)
            return _pieces(self._whole(wholes), back, numbers % self._cut, self._cut)
        return self._whole(numbers)

    def _whole(self, numbers: Ints) -> Read:
        n_rows = self._rows.n_rows
        epochs, places = numbers // n_rows, numbers % n_rows
        order = np.argsort(epochs, kind="stable")  # to read an epoch's rows together
        parts = []
        for epoch in np.unique(epochs):
            drawn = draw(f"{self._label}{epoch}", ROUNDS + 1)
            offset = int(drawn[0]) % self.stream.n_tokens
            here = permute(places[order[epochs[order] == epoch]], n_rows, drawn[1:])
            parts.append(self._rows.read(here, offset))
        return joined(parts, order)

    def describe(self) -> str:
        """What the rows are, in words."""
        return self._rows.describe() + (f", each cut into {self._cut} rows" if self._cut > 1 else "")


class Shares:
    """Which part each row is drawn from."""

    def __init__(self, weights: Sequence[float], label: str) -> None:
        """Weights (P,), all above 0. Raises UserError when one is less than a thousandth of all."""
        self.counts: Ints = np.array(rows_of(weights), dtype=np.int64)  # rows of each part in a block, (P,)
        self._label = label

    def locate(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The part of rows `numbers` (B,), and how many rows were drawn from that part before."""
        if len(self.counts) == 1:
            return np.zeros_like(numbers), numbers
        part, before = np.empty_like(numbers), np.empty_like(numbers)
        for block in np.unique(numbers // BLOCK):
            here = numbers // BLOCK == block
            parts, earlier = self._block(int(block))
            part[here] = parts[numbers[here] % BLOCK]
            before[here] = block * self.counts[part[here]] + earlier[numbers[here] % BLOCK]
        return part, before

    def drawn(self, rows: int) -> Ints:
        """Rows of each part among the first `rows`, (P,)."""
        if len(self.counts) == 1:
            return np.array([rows], dtype=np.int64)
        whole, rest = divmod(rows, BLOCK)
        parts, _ = self._block(whole)
        return whole * self.counts + np.bincount(parts[:rest], minlength=len(self.counts))

    def _block(self, number: int) -> tuple[Ints, Ints]:
        return _block(f"{self._label}{number}", tuple(self.counts.tolist()))


@lru_cache(maxsize=8)  # a step reads some rows of a block, the next step the rows after them
def _block(label: str, counts: tuple[int, ...]) -> tuple[Ints, Ints]:
    """For each place in a block (BLOCK,): its part, and how many places before it have the same part."""
    places = permute(np.arange(BLOCK), BLOCK, draw(label, ROUNDS))
    parts = np.repeat(np.arange(len(counts)), counts)[places]
    by_part = np.argsort(parts, kind="stable")
    first = np.cumsum(counts) - counts
    earlier = np.empty(BLOCK, dtype=np.int64)
    earlier[by_part] = np.arange(BLOCK) - first[parts[by_part]]
    return parts, earlier


def draw(label: str, count: int) -> npt.NDArray[np.uint64]:
    """`count` random numbers that follow from `label` alone."""
    return np.frombuffer(hashlib.shake_256(label.encode()).digest(8 * count), dtype="<u8")


def _pieces(read: Read, rows: Ints, pieces: Ints, cut: int) -> Read:
    """Of these rows (B,) of `read`, the piece of each (B,), when a row has `cut` of them."""
    T = read.counts.shape[1] // cut
    inputs = (pieces * T)[:, None] + np.arange(T)  # (B, T)
    targets = (pieces * T)[:, None] + np.arange(T + 1)  # (B, T + 1): with the first input
    rows = rows[:, None]
    return Read(read.tokens[rows, targets], read.counts[rows, inputs], read.documents[rows, inputs])


def joined(parts: Sequence[Read], order: Ints) -> Read:
    """Rows that were read in parts, where row i of all was wanted as row order[i]."""
    back = np.argsort(order, kind="stable")
    tokens, counts, documents = (
        np.concatenate(some)[back] for some in zip(*((p.tokens, p.counts, p.documents) for p in parts), strict=True)
    )
    return Read(tokens, counts, documents)
