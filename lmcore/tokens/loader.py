"""Batches from token shards, each one a pure function of the seed and its number.

B rows of T inputs and one more target. Nothing is remembered between steps: a resumed run asks for the next batch
and gets what the uninterrupted one would have got. In a curriculum the numbers of the batches that its stages began
with are the whole state.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lmcore.tokens.batch import TokenBatch
from lmcore.tokens.meta import OTHER
from lmcore.tokens.mixture import Part, Shares, joined
from lmcore.tokens.packing import Read, Rows, make_rows, narrowed
from lmcore.tokens.params import BLOCK, SLIP, BatchSettings, check_stages
from lmcore.tokens.stream import Pick, TokenStream
from storage.errors import RunError


class Loader:
    """Training batches: every row once an epoch, in an order that only the seed decides; mixtures; stages.

    What the rows are is the packing's matter (see `packing`). With "windows", an epoch cuts the ring of N tokens, from
    an offset of its own, into N // T windows of T inputs that do not overlap; fewer than T tokens are left out, others
    each time. Every epoch visits all rows in an order of its own. Rows are numbered through all epochs: batch n takes
    the next `batch` of them, and may begin the next epoch.

    With a mixture every part of the text has rows and epochs of its own (see `mixture`). With stages, what a batch is
    depends on its number and on the numbers of the batches that the stages began with. A part that an earlier stage
    has read goes on where that stage left it, also in a stage of another context:

    - "windows" are those of the longest context that reads the part (the least common multiple, where none divides
      the other), and a shorter stage cuts each into rows that follow each other. So every token is read once an epoch,
      but for those of a window that a stage had not ended.
    - "best_fit", "texts" and "stride" have other rows in another context. The stage begins at the same share of the
      epoch in an order of its own: within that one epoch some text comes twice and some not at all.
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
        settings: BatchSettings | None = None,
    ) -> None:
        """Open `split` of a tokens artifact for batches of `batch` x `context`.

        `tokenizer_bytes` is `tokenizer.byte_length` of every id; without it `n_bytes` is 0 in every batch. Raises
        RunError when a part is shorter than one row, a file is damaged, or the tokenizer is another one; UserError for
        settings that do not fit: a source that is not there, a complexity that no text has, a stride or a context.
        """
        assert min(batch, context) > 0
        settings = settings or BatchSettings()
        check_stages(settings, context)
        self._folder, self._split, self._seed, self._settings = folder, split, seed, settings
        self._common = self._common_contexts(context)
        self._rows: dict[tuple[str, int], tuple[TokenStream, Rows]] = {}
        self._parts: dict[tuple[str, int], Part] = {}
        self._stages = [self._course(number, batch, context) for number in range(len(settings.whole_run()))]
        self._begins = settings.begins()
        for part in self._parts.values():
            _same_tokenizer(part.stream, tokenizer_bytes)
        self._bytes = tokenizer_bytes
        self.n_tokens = self._once()
        self.longest = max(int(part.stream.lengths.max()) for part in self._parts.values())  # tokens of a document
        staged = settings.stages  # whose rows may be of other lengths, and of the same text
        self.n_rows = self.n_tokens // context if staged else sum(part.n_rows for part in self._parts.values())
        self.steps_per_epoch = -(-self.n_rows // batch)  # the last may already begin the next epoch

    def batch(self, number: int, starts: Sequence[int] = (0,)) -> TokenBatch:
        """Batch `number`, from 0, where stage s began with batch starts[s]; it is in the last of them.

        Shapes (batch, context), or those of the stage.
        """
        assert number >= starts[-1]
        n_rows = self._stages[len(starts) - 1].batch
        first = (number - starts[-1]) * n_rows
        return self.rows(np.arange(first, first + n_rows), starts)

    def rows(self, numbers: npt.NDArray[np.int64], starts: Sequence[int] = (0,)) -> TokenBatch:
        """The rows of these numbers (B,), counted through the stage. Shapes (B, context), "texts" perhaps less."""
        course = self._stages[len(starts) - 1]
        place, within = course.shares.locate(numbers)
        left_at = self._left_at(starts)
        order = np.argsort(place, kind="stable")
        reads = []
        for here in np.unique(place):
            part = self._parts[course.parts[here]]
            begun = _row_at(left_at, course.parts[here], part)
            reads.append(part.read(within[order[place[order] == here]] + begun))
        read = joined(reads, order)
        return _make(narrowed(read) if self._settings.packing == "texts" else read, self._bytes)

    def begun(
        self,
        starts: Sequence[int],
        progress: float,
        number: int,
        steps: int | None = None,
        begins: Sequence[float] = (),
    ) -> list[int]:
        """`starts`, and `number` for each stage that begins with it: at `progress`, the share of the budget used.

        `steps` are those of the whole budget; None where nobody knows. `begins` are the shares that the stages begin
        with, where they are no longer those of the settings.
        """
        now = bisect_right(begins or self._begins, progress + (SLIP / steps if steps else 0.0))
        return [*starts, *[number] * (now - len(starts))]

    def lr_factor(self, starts: Sequence[int]) -> float:
        """What the learning rates of the stage are multiplied by."""
        return self._settings.whole_run()[len(starts) - 1].lr_factor

    def describe(self) -> str:
        """What the rows are, in words; a line for each stage."""
        told = []
        for number, (stage, course) in enumerate(zip(self._settings.whole_run(), self._stages, strict=True), 1):
            shares = (course.shares.counts / BLOCK).tolist()
            parts = [
                (f"{share:.1%} " if len(shares) > 1 else "")
                + (f"{key[0]}: " if key[0] else "")
                + self._parts[key].describe()
                for key, share in zip(course.parts, shares, strict=True)
            ]
            called = f" ({stage.name})" if stage.name else ""
            name = f"stage {number}{called}, {stage.share:.1%} of the budget: " if self._settings.stages else ""
            told.append(name + "; ".join(parts))
        return "\n".join(told)

    def _course(self, number: int, batch: int, context: int) -> _Course:
        """What a stage reads; parts that an earlier one reads too are shared."""
        settings, T = self._settings, self._settings.whole_run()[number].context or context
        reads = settings.reads(number)
        parts = []
        for name, complexity in reads:
            pick = Pick(name, settings.mixture_by, complexity)
            key = str(pick), T
            parts.append(key)
            if key not in self._parts:
                longest = self._common[str(pick)] if settings.packing == "windows" else T
                label = f"{pick} {longest} " if str(pick) or context != longest else ""
                stream, rows = self._opened(pick, longest)
                self._parts[key] = Part(stream, rows, f"loader {self._seed} {label}", cut=longest // T)
        weights = list(reads.values())
        return _Course(parts, Shares(weights, f"mixture {self._seed} {parts} "), batch * (context // T))

    def _once(self) -> int:
        """Tokens of the documents that are read, each counted once."""
        streams = [part.stream for part in self._parts.values()]
        _, first = np.unique(np.concatenate([stream.documents for stream in streams]), return_index=True)
        return int(np.concatenate([stream.lengths for stream in streams])[first].sum())

    def _common_contexts(self, context: int) -> dict[str, int]:
        """The context that holds whole rows of every stage that reads a pick, by its name."""
        settings, found = self._settings, dict[str, int]()
        for number, stage in enumerate(settings.whole_run()):
            for name, complexity in settings.reads(number):
                pick = str(Pick(name, settings.mixture_by, complexity))
                found[pick] = math.lcm(found.get(pick, 1), stage.context or context)
        return found

    def _opened(self, pick: Pick, context: int) -> tuple[TokenStream, Rows]:
        """The text of a pick and its rows of `context` tokens, opened once."""
        key = str(pick), context
        if key not in self._rows:
            opened = [stream for (name, _), (stream, _) in self._rows.items() if name == key[0]]
            stream = opened[0] if opened else TokenStream(self._folder, self._split, pick)
            self._rows[key] = stream, make_rows(stream, context, self._settings.packing, self._settings.stride)
        return self._rows[key]

    def _left_at(self, starts: Sequence[int]) -> dict[str, Fraction]:
        """How many epochs of each pick are read when the last stage begins, by its name."""
        found: dict[str, Fraction] = {}
        for stage, (start, stop) in enumerate(pairwise(starts)):
            course = self._stages[stage]
            drawn = course.shares.drawn((stop - start) * course.batch).tolist()
            for key, count in zip(course.parts, drawn, strict=True):
                part = self._parts[key]
                found[key[0]] = Fraction(_row_at(found, key, part) + count, part.n_rows)
        return found


def _row_at(left_at: dict[str, Fraction], key: tuple[str, int], part: Part) -> int:
    """The first whole row of `part`, counted through its epochs, that a stage goes on with."""
    return math.ceil(left_at.get(key[0], Fraction(0)) * part.n_rows)


@dataclass(frozen=True)
class _Course:
    """What one stage reads."""

    parts: list[tuple[str, int]]
    shares: Shares
    batch: int  # rows of a step


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
    stream = TokenStream(folder, split, Pick(source))
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
            OTHER,
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
