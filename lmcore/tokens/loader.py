"""Batches from token shards, each one a pure function of the seed and the step.

B rows of T inputs and one more target. Nothing is remembered between steps: a resumed run asks for the next step
and gets what the uninterrupted one would have got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lmcore.tokens.batch import TokenBatch
from lmcore.tokens.packing import Packing, Read, make_rows
from lmcore.tokens.permutation import ROUNDS, permute
from lmcore.tokens.stream import TokenStream
from storage.errors import RunError


class Loader:
    """Training batches: every row of the split once an epoch, in an order that only the seed decides.

    What the rows are is the packing's matter (see `packing`). With "windows", an epoch cuts the ring of N tokens, from
    an offset of its own, into N // T windows of T inputs that do not overlap; fewer than T tokens are left out, others
    each time. Every epoch visits all rows in an order of its own. Rows are numbered through all epochs: step s takes
    the next `batch * world` of them, and of these rank r the r-th `batch`, so that the same rows are trained on however
    they are divided. A step may begin the next epoch.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        batch: int,
        context: int,
        seed: int,
        tokenizer_bytes: npt.NDArray[np.integer] | None,
        rank: int = 0,
        world: int = 1,
        packing: Packing = "windows",
        stride: int | None = None,
        source: str | None = None,
    ) -> None:
        """Open `split` of a tokens artifact for batches of `batch` x `context` on this rank of `world`.

        `tokenizer_bytes` is `tokenizer.byte_length` of every id; without it `n_bytes` is 0 in every batch. With
        `source` only what that source gave is read. Raises RunError when the split is shorter than one window, a file
        is damaged, or the tokenizer is another one; UserError for a source or a stride that does not fit.
        """
        assert min(batch, context) > 0
        assert 0 <= rank < world
        self._stream = TokenStream(folder, split, source)
        self._rows = make_rows(self._stream, context, packing, stride)
        _same_tokenizer(self._stream, tokenizer_bytes)
        self._bytes = tokenizer_bytes
        self._batch, self._seed, self._rank, self._world = batch, seed, rank, world
        self.n_tokens = self._stream.n_tokens
        self.n_bytes = self._stream.n_bytes
        self.n_rows = self._rows.n_rows
        self.steps_per_epoch = -(-self.n_rows // (batch * world))  # the last may already begin the next epoch

    def batch(self, step: int) -> TokenBatch:
        """The batch of step `step`, counted from 0. Shapes (batch, context)."""
        assert step >= 0
        first = (step * self._world + self._rank) * self._batch
        return self.rows(np.arange(first, first + self._batch))

    def rows(self, numbers: npt.NDArray[np.int64]) -> TokenBatch:
        """The rows of these numbers (B,), counted through all epochs. Shapes (B, context)."""
        epochs, places = numbers // self.n_rows, numbers % self.n_rows
        order = np.argsort(epochs, kind="stable")  # to read an epoch's rows together
        parts = []
        for epoch in np.unique(epochs):
            offset, keys = self._draw(int(epoch))
            parts.append(self._rows.read(permute(places[order[epochs[order] == epoch]], self.n_rows, keys), offset))
        back = np.argsort(order, kind="stable")
        joined = (
            np.concatenate(part)[back] for part in zip(*((p.tokens, p.counts, p.documents) for p in parts), strict=True)
        )
        return _make(Read(*joined), self._bytes)

    def describe(self) -> str:
        """What the rows are, in words."""
        return self._rows.describe()

    def _draw(self, epoch: int) -> tuple[int, npt.NDArray[np.uint64]]:
        """An epoch's offset into the ring and the keys of its permutation."""
        drawn = np.frombuffer(
            hashlib.shake_256(f"loader {self._seed} {epoch}".encode()).digest(8 * (ROUNDS + 1)), dtype="<u8"
        )
        return int(drawn[0]) % self.n_tokens, drawn[1:]


def sequential(
    folder: Path,
    split: str,
    batch: int,
    context: int,
    *,
    tokenizer_bytes: npt.NDArray[np.integer] | None = None,
    source: str | None = None,
) -> Iterator[TokenBatch]:
    """The whole split, or what `source` gave to it, once and in order: every token but the first is a target once.

    Batches have up to `batch` rows of `context`; the end of the last row is filled up with `loss_mask` False.
    Raises RunError like Loader, but a split of two tokens is enough.
    """
    assert min(batch, context) > 0
    stream = TokenStream(folder, split, source)
    if stream.n_tokens < 2:
        raise RunError(
            f"{stream.name} has {stream.n_tokens} tokens, and no target",
            "collect more text, or give this split a larger share",
        )
    _same_tokenizer(stream, tokenizer_bytes)
    n_targets = stream.n_tokens - 1
    for first in range(0, n_targets, batch * context):
        starts = np.arange(first, min(first + batch * context, n_targets), context)
        rows = np.full((len(starts), context + 1), stream.bos_id, dtype=np.int64)
        learnt = np.zeros((len(starts), context), dtype=bool)
        for row, some, start in zip(rows, learnt, starts, strict=True):
            real = min(context, n_targets - int(start)) + 1
            row[:real] = stream.read(int(start), real)
            some[: real - 1] = stream.learnt(int(start) + 1, real - 1)
        yield _make(Read(rows, learnt, stream.document_at(starts[:, None] + np.arange(context))), tokenizer_bytes)


def _same_tokenizer(stream: TokenStream, tokenizer_bytes: npt.NDArray[np.integer] | None) -> None:
    if tokenizer_bytes is not None and len(tokenizer_bytes) != stream.vocab_size:
        raise RunError(
            f"{stream.name} was made with {stream.vocab_size:,} tokens, this tokenizer has {len(tokenizer_bytes):,}",
            "use the tokenizer the tokens were made with, or make the tokens again",
        )


def _make(read: Read, tokenizer_bytes: npt.NDArray[np.integer] | None) -> TokenBatch:
    """Rows as a batch."""
    targets = read.tokens[:, 1:]
    n_bytes = np.zeros(targets.shape, dtype=np.int32)
    if tokenizer_bytes is not None:
        n_bytes = tokenizer_bytes[targets].astype(np.int32) * read.counts
    return TokenBatch(
        ids=torch.from_numpy(np.ascontiguousarray(read.tokens[:, :-1])),
        targets=torch.from_numpy(np.ascontiguousarray(targets)),
        loss_mask=torch.from_numpy(np.ascontiguousarray(read.counts)),
        doc_ids=torch.from_numpy(np.ascontiguousarray(read.documents)),
        n_bytes=torch.from_numpy(n_bytes),
    )
