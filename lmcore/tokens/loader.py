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
from lmcore.tokens.permutation import ROUNDS, permute
from lmcore.tokens.stream import TokenStream
from storage.errors import RunError


class Loader:
    """Training batches: every window of the split once an epoch, in an order that only the seed decides.

    The split is a ring of N tokens. An epoch cuts it, from an offset of its own, into N // T windows of T inputs that
    do not overlap (fewer than T tokens are left out, others each time) and visits them in an order of its own.
    Windows are numbered through all epochs: step s takes the next `batch * world` of them, and of these rank r the
    r-th `batch`, so that the same rows are trained on however they are divided. A step may begin the next epoch.
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
    ) -> None:
        """Open `split` of a tokens artifact for batches of `batch` x `context` on this rank of `world`.

        `tokenizer_bytes` is `tokenizer.byte_length` of every id; without it `n_bytes` is 0 in every batch. Raises
        RunError when the split is shorter than one window, a file is damaged, or the tokenizer is another one.
        """
        assert min(batch, context) > 0
        assert 0 <= rank < world
        self._stream = TokenStream(folder, split)
        _check(self._stream, context, tokenizer_bytes)
        self._bytes = tokenizer_bytes
        self._batch, self._context, self._seed, self._rank, self._world = batch, context, seed, rank, world
        self.n_tokens = self._stream.n_tokens
        self.n_bytes = self._stream.n_bytes
        self.n_windows = self.n_tokens // context
        self.steps_per_epoch = -(-self.n_windows // (batch * world))  # the last may already begin the next epoch

    def batch(self, step: int) -> TokenBatch:
        """The batch of step `step`, counted from 0. Shapes (batch, context)."""
        assert step >= 0
        first = (step * self._world + self._rank) * self._batch
        numbers = np.arange(first, first + self._batch)
        epochs, windows = numbers // self.n_windows, numbers % self.n_windows
        starts = np.empty_like(windows)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            offset, keys = self._draw(int(epoch))
            starts[chosen] = offset + self._context * permute(windows[chosen], self.n_windows, keys)
        rows = np.stack([self._stream.read(int(start), self._context + 1) for start in starts])  # (B, T + 1)
        learnt = np.stack([self._stream.learnt(int(start) + 1, self._context) for start in starts])  # (B, T)
        return _make(self._stream, rows, starts, self._bytes, learnt)

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
    _check(stream, 1, tokenizer_bytes)
    n_targets = stream.n_tokens - 1
    for first in range(0, n_targets, batch * context):
        starts = np.arange(first, min(first + batch * context, n_targets), context)
        rows = np.full((len(starts), context + 1), stream.bos_id, dtype=np.int64)
        learnt = np.zeros((len(starts), context), dtype=bool)
        for row, some, start in zip(rows, learnt, starts, strict=True):
            real = min(context, n_targets - int(start)) + 1
            row[:real] = stream.read(int(start), real)
            some[: real - 1] = stream.learnt(int(start) + 1, real - 1)
        yield _make(stream, rows, starts, tokenizer_bytes, learnt)


def _check(stream: TokenStream, context: int, tokenizer_bytes: npt.NDArray[np.integer] | None) -> None:
    if stream.n_tokens < context + 1:
        raise RunError(
            f"{stream.name} has {stream.n_tokens:,} tokens, one window of context {context:,} needs {context + 1:,}",
            "collect more text, give this split a larger share, or set a shorter context",
        )
    if tokenizer_bytes is not None and len(tokenizer_bytes) != stream.vocab_size:
        raise RunError(
            f"{stream.name} was made with {stream.vocab_size:,} tokens, this tokenizer has {len(tokenizer_bytes):,}",
            "use the tokenizer the tokens were made with, or make the tokens again",
        )


def _make(
    stream: TokenStream,
    rows: npt.NDArray[np.int64],  # (B, T + 1)
    starts: npt.NDArray[np.int64],  # (B,)
    tokenizer_bytes: npt.NDArray[np.integer] | None,
    counts: npt.NDArray[np.bool_],  # (B, T)
) -> TokenBatch:
    """Rows of tokens that begin at `starts` as a batch, in which the targets count that `counts` says."""
    positions = starts[:, None] + np.arange(rows.shape[1] - 1)  # (B, T)
    targets = rows[:, 1:]
    n_bytes = np.zeros(targets.shape, dtype=np.int32)
    if tokenizer_bytes is not None:
        n_bytes = tokenizer_bytes[targets].astype(np.int32) * counts
    return TokenBatch(
        ids=torch.from_numpy(np.ascontiguousarray(rows[:, :-1])),
        targets=torch.from_numpy(np.ascontiguousarray(targets)),
        loss_mask=torch.from_numpy(counts),
        doc_ids=torch.from_numpy(stream.document_at(positions)),
        n_bytes=torch.from_numpy(n_bytes),
    )
