"""The index of texts that must not be trained on: which windows of words they have, and which items have them.

It is a folder. `grams` (uint64, ascending) and `items` (uint32) are rows of (hash of a window, number of an item; see
`postings`), `filter.npy` has two bits for every window, `short-*.npy` what is known of items shorter than a window and
`items.parquet` the items' names. Building it takes a few MiB, plus the filter and the names; so does reading: the
filter is held, the rows lie on disk and are looked up only for windows that pass the filter. Of items that stay, a
window has at most twice MOST_ITEMS rows, of items that may come or go one for each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.hash_filter import make_filter, passing
from lmcore.curate.normalise import normalise
from lmcore.curate.overlap import SLICE_CHARS, Grams, Hashes, Integers, Size, Tokens, pieces
from lmcore.curate.postings import Postings, PostingsWriter, ahead
from lmcore.curate.words import run_starts
from storage.atomic import disk_errors, write_json
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

VERSION = 3
SHORT_WORDS = 5
"""A text shorter than a window is looked for as a whole when it has that many words."""
MOST_ITEMS = 64
"""Of the items that count and share one window, the first so many are named: more have a template in common."""

ITEM = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("n_grams", pa.int64(), nullable=False),  # windows of it; 0 for one too short to be looked for
    ]
)

ITEM_NAMES = pa.schema([ITEM.field("set"), ITEM.field("item")])

Item = tuple[str, str, str]  # name of the set, id within it, text

_BATCH = 1 << 20  # characters that are held before they are looked at


COUNT = pa.schema([ITEM.field("set"), pa.field("items", pa.int64(), nullable=False)])


@dataclass(frozen=True)
class HeldOut:
    """The index, opened. Several processes may have it open at once."""

    folder: Path
    size: Size
    items: pa.Table  # ITEM
    _filter: Hashes
    _postings: Postings
    _anchors: Hashes  # (S,) ascending: what items shorter than a window begin with
    _lengths: Integers  # (S,) how many tokens they have
    _anchor_filter: Hashes
    _counts: NDArray[np.bool_]  # (I,) which items are held out now; the others are as if they were not there
    _may_change: NDArray[np.bool_]  # (I,) those of which that may be another time

    @classmethod
    def build(
        cls,
        items: Iterable[Item],
        size: Size,
        folder: Path,
        *,
        memory_mb: int = 256,
        stays: Sequence[int] | NDArray[np.int8] = (),
    ) -> HeldOut:
        """Write the index of `items` to `folder`, which is emptied first, and open it.

        The texts of one item follow each other (a question and its answers are texts of their own). The order of the
        items decides only which ones are named where more than MOST_ITEMS share a window.

        `stays` says of the first items how `of` may let them count: MAY_CHANGE, one time and not another; STAYS, always
        but where only a part counts, and then none of these does; ALWAYS. The others STAY. Raises StorageError.
        """
        with disk_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        building = _Building(folder, size, memory_mb << 20, np.asarray(stays, np.int8))
        for texts, owners in _texts(items, building.names):
            building.add(texts, owners)
        building.finish()
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> HeldOut:
        """Raises RunError for an index that is not there, damaged or of another version."""
        try:
            about = json.loads((folder / "about.json").read_text())
            if about["version"] != VERSION:
                raise ValueError(f"version {about['version']}, this program reads {VERSION}")
            items = read_parquet(folder / "items.parquet")
            return cls(
                folder,
                Size(about["words"], about["chars"]),
                items,
                np.load(folder / "filter.npy"),
                Postings.open(folder),
                np.load(folder / "short-anchors.npy"),
                np.load(folder / "short-lengths.npy"),
                np.load(folder / "short-filter.npy"),
                np.ones(items.num_rows, bool),
                np.zeros(items.num_rows, bool),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"cannot read the index of held-out texts {folder}: {error}", "build it again from these texts"
            ) from error

    def of(self, counts: NDArray[np.bool_], may_change: NDArray[np.bool_]) -> HeldOut:
        """The same index, of which only some items count (I,), and those may change (I,) of which that may be so.

        They count as `stays` said when the index was built.
        """
        return replace(self, _counts=counts, _may_change=may_change)

    @property
    def empty(self) -> bool:
        """Whether no item has a window, be it one that counts or not."""
        return not len(self._postings)

    def item_counts(self) -> pa.Table:
        """COUNT rows: how many different items that count each set has, by name of the set."""
        counted = self.items.filter(pa.array(self._counts)).group_by("set").aggregate([("item", "count_distinct")])
        counted = counted.sort_by("set")
        return pa.table([counted["set"], counted["item_count_distinct"]], schema=COUNT)

    def windows_between(self, other: HeldOut) -> Hashes:
        """The different windows, ascending, of the items that count here and not in `other`, or the other way round."""
        changed = self._counts != other._counts
        return self._postings.hashes_of(changed) if changed.any() else np.zeros(0, np.uint64)

    def windows(self, tokens: Tokens) -> tuple[Integers, Integers, Hashes]:
        """First token, end and hash of those runs of `tokens` that may be in the index, as the filter has it."""
        grams = Grams(tokens)
        found = grams.windows(self.size, self.size.weight)
        start = np.flatnonzero(passing(self._filter, found.hash))
        start = start[grams.inside(start, found.end[start])]
        end, hashes = found.end[start], found.hash[start]
        if len(self._anchors):
            more_start, more_end = self._shorter(grams, len(tokens.hash))
            start, end = np.concatenate((start, more_start)), np.concatenate((end, more_end))
            hashes = np.concatenate((hashes, grams.of(more_start, more_end)))
        return start, end, hashes

    def find(self, hashes: Hashes) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """Which of `hashes` are windows of which items, and which of them hang on items that may change.

        The first two are pairs of (place in `hashes`, number of the item), in order; the last is one flag a hash.
        """
        distinct, back = np.unique(hashes, return_inverse=True)
        places, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        hangs = np.zeros(len(distinct), bool)
        for place, number in self._postings.rows(distinct):
            counts = self._counts[number]
            told = ahead(place, counts) < MOST_ITEMS  # what stands behind the last that is named changes nothing
            hangs[place[told & self._may_change[number]]] = True
            places.append(place[told & counts])
            numbers.append(number[told & counts])
        place, number = np.concatenate(places), np.concatenate(numbers)
        # from the distinct ones back to all
        count = np.bincount(place, minlength=len(distinct))
        first = np.cumsum(count) - count
        every = np.repeat(np.arange(len(hashes)), count[back])
        within = np.arange(len(every)) - np.repeat(np.cumsum(count[back]) - count[back], count[back])
        return every, number[first[back[every]] + within], hangs[back]

    def _shorter(self, grams: Grams, n_tokens: int) -> tuple[Integers, Integers]:
        """The runs that begin as an item shorter than a window does, and have as many tokens."""
        found = grams.windows(self.size, _short_weight(self.size))
        start = np.flatnonzero(passing(self._anchor_filter, found.hash))
        first = np.searchsorted(self._anchors, found.hash[start], side="left")
        count = np.searchsorted(self._anchors, found.hash[start], side="right") - first
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        length = self._lengths[np.repeat(first, count) + within]
        start = np.repeat(start, count)
        end = start + length
        inside = end <= n_tokens
        start, end = start[inside], end[inside]
        inside = grams.inside(start, end)
        return start[inside], end[inside]


class _Building:
    """What becomes the index."""

    def __init__(self, folder: Path, size: Size, memory: int, stays: NDArray[np.int8]) -> None:
        self._folder, self._size, self._memory = folder, size, memory
        self.names = _Names()
        self._postings = PostingsWriter(folder, memory, MOST_ITEMS, stays)
        self._anchors: list[Hashes] = []
        self._lengths: list[Integers] = []

    def add(self, texts: Sequence[str], owners: NDArray[np.uint32]) -> None:
        """The windows of `texts`; `owners` (T,) are the numbers of their items."""
        for first, tokens in pieces(texts, self._size):
            grams = Grams(tokens)
            found = grams.windows(self._size, self._size.weight)
            start = np.flatnonzero(grams.inside(np.arange(len(found.end)), found.end))
            self._take(found.hash[start], owners[first + tokens.text_of(start)])
            weights = tokens.weight(self._size)
            short = (weights >= _short_weight(self._size)) & (weights < self._size.weight)
            if short.any() and len(texts[first]) <= SLICE_CHARS:  # a slice of a text is no text
                self._add_short(tokens, grams, np.flatnonzero(short), owners[first:])

    def finish(self) -> None:
        """Write what is left, the filter and the names."""
        postings, runs = self._postings.finish()
        anchors = np.concatenate([np.zeros(0, np.uint64), *self._anchors])
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        order = np.lexsort((lengths, anchors))
        anchors, lengths = anchors[order], lengths[order]
        kept = run_starts(anchors) | run_starts(lengths)
        about = {"version": VERSION, "words": self._size.words, "chars": self._size.chars, "runs": runs}
        with disk_errors(self._folder):
            np.save(self._folder / "short-anchors.npy", anchors[kept])
            np.save(self._folder / "short-lengths.npy", lengths[kept])
            np.save(self._folder / "short-filter.npy", make_filter([anchors[kept]], int(kept.sum()), self._memory))
            np.save(self._folder / "filter.npy", make_filter(postings.hashes(), len(postings), self._memory))
        write_parquet(self._folder / "items.parquet", self.names.table())
        write_json(self._folder / "about.json", about)

    def _add_short(self, tokens: Tokens, grams: Grams, texts: Integers, owners: NDArray[np.uint32]) -> None:
        start, end = tokens.bounds[texts], tokens.bounds[texts + 1]
        self._take(grams.of(start, end), owners[texts])
        self._anchors.append(grams.windows(self._size, _short_weight(self._size)).hash[start])
        self._lengths.append(end - start)

    def _take(self, hashes: Hashes, owners: NDArray[np.uint32]) -> None:
        self.names.count(owners)
        self._postings.add(hashes, owners)


class _Names:
    """The items in the order in which they came, packed."""

    def __init__(self) -> None:
        self._packed: list[pa.RecordBatch] = []
        self._sets: list[str] = []
        self._ids: list[str] = []
        self._count = np.zeros(1024, np.int64)
        self._total = 0

    def number(self, set_name: str, item: str) -> int:
        """The number of that item, a new one unless it is the last."""
        if not self._sets or self._ids[-1] != item or self._sets[-1] != set_name:
            if len(self._sets) == 10_000:
                self._pack(9_999)
            self._sets.append(set_name)
            self._ids.append(item)
            self._total += 1
        return self._total - 1

    def count(self, owners: NDArray[np.uint32]) -> None:
        """So many windows more, by the numbers of their items."""
        if self._total > len(self._count):
            self._count = np.concatenate((self._count, np.zeros(self._total, np.int64)))
        if len(owners):
            low = int(owners.min())
            found = np.bincount(owners - low)
            self._count[low : low + len(found)] += found

    def table(self) -> pa.Table:
        """ITEM rows."""
        self._pack(len(self._sets))
        names = pa.Table.from_batches(self._packed, ITEM_NAMES)
        return names.append_column(ITEM.field("n_grams"), pa.array(self._count[: self._total])).cast(ITEM)

    def _pack(self, rows: int) -> None:
        self._packed.append(pa.record_batch([self._sets[:rows], self._ids[:rows]], schema=ITEM_NAMES))
        self._sets, self._ids = self._sets[rows:], self._ids[rows:]


def _texts(items: Iterable[Item], names: _Names) -> Iterator[tuple[list[str], NDArray[np.uint32]]]:
    texts: list[str] = []
    owners: list[int] = []
    held = 0
    for set_name, item, text in items:
        texts.append(normalise(text))
        owners.append(names.number(set_name, item))
        held += len(text) + 1
        if held > _BATCH:
            yield texts, np.array(owners, np.uint32)
            texts, owners, held = [], [], 0
    yield texts, np.array(owners, np.uint32)


def _short_weight(size: Size) -> int:
    return min(SHORT_WORDS, size.words) * size.chars
