"""Templates: runs of words that many other texts have too, as in pages filled from a database.

A run is six words, or twelve Chinese or Japanese characters. Counters of a fixed number hold in how many texts each
run stands; a run's counter is chosen by its hash. Numbers count as equal ("population 1,204" is "population 7"), and
case does not matter. Runs that fall on one counter add up: measured, shares are then off by .004 on average with two
texts a counter and by .023 with four (benchmarks/RESULTS.md). A corpus with more than three (above 800 million words
for 2^28 counters) keeps a sample of the runs, chosen by hash, so that all texts keep the same ones. Sampling is the
last resort: a template of a dozen runs may lose all of them, in every text.

The caller gives one text of each group of copies: copies of one text are duplicates, not a template.

Legend: T texts, G runs of words, C counters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.pieces import PIECE_CHARS, pieces, shares
from lmcore.curate.words import Hashes, Integers, Split, gram_hashes, mixed, run_starts, split
from lmcore.curate.words_tables import ALONE
from storage.errors import RunError
from storage.parquet import ROWS_PER_GROUP, batches, parquet_facts, stream_parquet

RUN = 6  # words
CJK_RUN = 12  # in a text mostly of characters that are words by themselves: about six words of their languages
OTHERS = 10  # other texts with a run that make it a template
_LOAD = 3  # runs a counter that `for_words` allows
_FULL = 255
_SAVED = 1 << 20  # counters looked at together when they are saved
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")

COUNTS = pa.schema(
    [pa.field("gap", pa.uint32(), nullable=False), pa.field("texts", pa.uint8(), nullable=False)],
)
"""Counters that are not zero: how far each lies behind the one before (the first: behind -1), and its texts."""


class TemplateCounts:
    """In how many texts each run of words stands, in 2^bits bytes; equal for any order and cut of the texts."""

    def __init__(self, *, bits: int = 28, thinning: int = 0) -> None:
        """`bits` (10 to 30) of the number of counters; one run in 2^thinning is counted."""
        if not 10 <= bits <= 30 or not 0 <= thinning <= 30:
            raise ValueError("bits must be 10 to 30 and thinning 0 to 30")
        self.bits = bits
        self.thinning = thinning
        self._counters = np.zeros(1 << bits, np.uint8)  # (C,)

    @classmethod
    def for_words(cls, n_words: int, *, bits: int = 28) -> TemplateCounts:
        """Counters for texts of `n_words` words in all, thinned to three runs a counter."""
        thinning = 0
        while n_words > _LOAD * (1 << bits) * (1 << thinning):
            thinning += 1
        return cls(bits=bits, thinning=thinning)

    def add(self, texts: Sequence[str]) -> None:
        """Count the runs of T normalised texts, each run once a text."""
        for owner, counters in self._uses([text for text in texts if len(text) <= PIECE_CHARS]):
            self._count(owner, counters)
        for text in texts:
            if len(text) > PIECE_CHARS:  # its pieces come in several batches, and what they share counts once
                parts = [np.unique(counters.astype(np.uint32)) for _, counters in self._uses([text])]
                self._raise(np.unique(np.concatenate(parts)), np.int64(1))

    def merge(self, other: TemplateCounts) -> None:
        """Add the counts of other texts. Where the two are thinned differently, only runs kept by both are sound."""
        if other.bits != self.bits:
            raise ValueError(f"counters of {other.bits} bits cannot be added to {self.bits} bits")
        self.thinning = max(self.thinning, other.thinning)
        filled = np.flatnonzero(other._counters)
        self._raise(filled, other._counters[filled].astype(np.int64))

    def share(self, texts: Sequence[str], *, added: bool = True) -> NDArray[np.float64]:
        """Share of the runs of each of T texts that at least OTHERS other texts have: (T,); 0 without words.

        `added` says whether the texts are among those counted (or an equal text is).
        """
        needed = OTHERS + (1 if added else 0)
        templates, total = np.zeros(len(texts)), np.zeros(len(texts))
        for hashes, owner in self._kept(texts):
            total += np.bincount(owner, minlength=len(texts))
            often = self._counters[self._counter(hashes)] >= needed
            templates += np.bincount(owner[often], minlength=len(texts))
        return shares(templates, total)

    @property
    def mean(self) -> float:
        """Texts a counter, on average. Above three, runs of few texts begin to pass for templates."""
        return float(self._counters.mean())

    def save(self, file: Path) -> None:
        """Write the counters that are not zero; equal counts give equal bytes."""
        facts = {"bits": str(self.bits), "thinning": str(self.thinning)}
        stream_parquet(file, COUNTS.with_metadata(facts), self._filled())

    @classmethod
    def load(cls, file: Path) -> TemplateCounts:
        """Read what `save` wrote. Raises RunError for anything else."""
        try:
            facts = parquet_facts(file).metadata or {}
            counts = cls(bits=int(facts[b"bits"]), thinning=int(facts[b"thinning"]))
            last = -1
            for batch in batches(file, COUNTS.names, ROWS_PER_GROUP):
                filled = last + np.cumsum(batch["gap"].to_numpy().astype(np.int64))
                counts._counters[filled] = batch["texts"].to_numpy()
                last = filled[-1]
        except (KeyError, ValueError, IndexError) as error:
            raise RunError(f"{file} holds no counts of templates", "run `collect-train verify`, then again") from error
        return counts

    def _filled(self) -> Iterator[pa.Table]:
        """COUNTS, some MiB at a time."""
        last = -1
        for low in range(0, len(self._counters), _SAVED):
            filled = np.flatnonzero(self._counters[low : low + _SAVED]) + low
            if len(filled):
                gaps = np.diff(filled, prepend=last).astype(np.uint32)
                yield pa.table({"gap": gaps, "texts": self._counters[filled]}, schema=COUNTS)
                last = filled[-1]

    def _uses(self, texts: Sequence[str]) -> Iterator[tuple[Integers, Integers]]:
        """Batches of runs that are counted: whose each is, and its counter."""
        for hashes, owner in self._kept(texts):
            yield owner, self._counter(hashes)

    def _count(self, owner: Integers, counters: Integers) -> None:
        """One more for every counter of every owner, however often it has it."""
        pairs = np.sort((owner << self.bits) | counters)
        ordered = np.sort(pairs[run_starts(pairs)] & ((1 << self.bits) - 1))
        first = np.flatnonzero(run_starts(ordered))
        self._raise(ordered[first], np.diff(np.append(first, len(ordered))))

    def _kept(self, texts: Sequence[str]) -> Iterator[tuple[Hashes, Integers]]:
        """Hash and text of every run that is counted; the pieces of a long text are taken as texts of their own."""
        for owners, batch in pieces(texts):
            found = split([_NUMBER.sub("0", piece) for piece in batch])
            sizes = _run_sizes(found, len(batch))
            owner, hashes = _short_texts(found, sizes)
            for size in (RUN, CJK_RUN):
                if (sizes == size).any():
                    first, runs = gram_hashes(found, size)
                    text = found.word_text[first]
                    of_size = sizes[text] == size
                    owner = np.concatenate((owner, text[of_size]))
                    hashes = np.concatenate((hashes, runs[of_size]))
            kept = (hashes >> np.uint64(32)) & np.uint64((1 << self.thinning) - 1) == 0
            yield hashes[kept], owners[owner[kept]]

    def _counter(self, hashes: Hashes) -> Integers:
        return (hashes & np.uint64((1 << self.bits) - 1)).astype(np.int64)

    def _raise(self, counters: NDArray[np.unsignedinteger | np.signedinteger], by: Integers | np.int64) -> None:
        self._counters[counters] = np.minimum(self._counters[counters] + by, _FULL)


def _run_sizes(found: Split, count: int) -> Integers:
    """Words that a run has in each of T texts: (T,)."""
    alone = (found.flags[found.word_start] & ALONE) != 0
    n_words = np.bincount(found.word_text, minlength=count)
    return np.where(2 * np.bincount(found.word_text[alone], minlength=count) > n_words, CJK_RUN, RUN)


def _short_texts(found: Split, sizes: Integers) -> tuple[Integers, Hashes]:
    """Texts with words, but fewer than a run has, and one hash of all their words in order."""
    n_words = np.bincount(found.word_text, minlength=len(sizes))
    short = np.flatnonzero((n_words > 0) & (n_words < sizes))
    first = np.searchsorted(found.word_text, short)
    total = np.zeros(len(short), np.uint64)
    for place in range(CJK_RUN - 1):
        inside = place < n_words[short]
        total[inside] = mixed(total[inside] + found.word_hash[first[inside] + place])
    return short, total
