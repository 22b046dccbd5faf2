"""Decontamination: what of the training text also stands in an evaluation set or in a held-out text, and without it.

Training text overlaps where it has a run of 13 words (or 50 characters where no spaces are written; see `overlap`)
that a held-out text has, whatever case and punctuation: the rule of GPT-3's authors (Brown and others 2020, appendix
C). Unlike them, nothing around the run is removed, and every hit names the item. A held-out text shorter than the run
is looked for as a whole when it has 5 words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lmcore.config import Params
from lmcore.curate.cuts import Cut, Span, cut, merged, union
from lmcore.curate.evaluation_sets import EvaluationSet
from lmcore.curate.held_out import HeldOut
from lmcore.curate.overlap import Integers, Size, pieces
from lmcore.curate.words import run_starts
from lmcore.documents import SPLITS

CONTAMINATION = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),  # an evaluation set's name, or what the held-out split is called
        pa.field("item", pa.string(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),  # the training text
        pa.field("n_grams", pa.int64(), nullable=False),  # windows of it that the item has, too
        pa.field("chars", pa.int64(), nullable=False),  # code points of it in those windows
    ]
)
"""One row for an item and a training text that overlap, without the words themselves."""


class DecontaminateParams(Params):
    """What counts as overlap, and what is done about it."""

    enabled: bool = Field(default=True, description="Compare training texts with held-out texts.")
    evaluation_sets: tuple[EvaluationSet, ...] = Field(default=(), description="Files besides the held-out splits.")
    n_words: int = Field(default=13, ge=2, le=200, description="Words in a row that are an overlap.")
    n_chars: int = Field(
        default=50, ge=5, le=1000, description="The same in characters, for scripts that write no spaces."
    )
    remove: bool = Field(default=True, description="Cut overlaps out of training texts; false only lists them.")
    min_left_words: int = Field(
        default=20,
        ge=0,
        description="A text that has fewer words after a cut is dropped; characters count n_words/n_chars.",
    )
    look_back: bool = Field(
        default=True, description="Compare texts that an earlier corpus kept with what is held out since, too."
    )

    @field_validator("evaluation_sets")
    @classmethod
    def _different_names(cls, value: tuple[EvaluationSet, ...]) -> tuple[EvaluationSet, ...]:
        names = [found.name for found in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two evaluation sets are called {twice[0]}; the hits could not tell which")
        if taken := sorted(set(names) & set(SPLITS)):
            raise ValueError(f"an evaluation set is called {taken[0]}, as a split is; the hits could not tell which")
        return value

    @property
    def size(self) -> Size:
        """How long an overlap is at least."""
        return Size(self.n_words, self.n_chars)


Windows = tuple[Integers, NDArray[np.uint64]]
"""Places of texts and hashes of windows that were looked for in them, in no order, some of them more than once."""

_NONE: Windows = (np.zeros(0, np.int64), np.zeros(0, np.uint64))
_ASKED = 1 << 16  # windows looked up or counted together: the index is on disk, and every look has its price


@dataclass
class Scanned:
    """What a scan found in T texts."""

    texts: list[str]  # (T,) without the overlaps, when they are to be removed
    cuts: dict[int, Cut]  # of the texts with overlaps by their place, when they are to be removed
    spans: dict[int, tuple[Span, ...]]  # the overlaps in code points of the text as it was given
    too_short: set[int]  # places of the texts that have too little left
    hits: pa.Table = field(default_factory=CONTAMINATION.empty_table)  # sorted by record, set and item
    hangs: Windows = field(default_factory=lambda: _NONE)  # on which windows of items that may change


@dataclass(frozen=True)
class _Overlaps:
    """Windows that texts and items share, as columns."""

    text: Integers
    start: Integers  # code points
    end: Integers
    item: Integers
    hangs: Windows

    def spans(self) -> dict[int, list[Span]]:
        """The union of the windows of each text that has some."""
        found: dict[int, list[Span]] = {}
        columns = (column.tolist() for column in merged(self.text, self.start, self.end))
        for text, start, end in zip(*columns, strict=True):
            found.setdefault(text, []).append((start, end))
        return found


def scan(texts: Sequence[str], record_ids: Sequence[str], held_out: HeldOut, params: DecontaminateParams) -> Scanned:
    """Find what `texts` share with what is held out and, if `params.remove`, cut it out.

    Cutting brings words together, so a cut text is looked at again until nothing is found: scanning the result finds
    nothing. What is found in a text depends on that text alone.
    """
    found = _overlaps(texts, held_out)
    spans = found.spans()
    counted, hangs = list(_counted(found)), [found.hangs]
    scanned = Scanned(list(texts), {}, {text: tuple(parts) for text, parts in spans.items()}, set())
    while params.remove and spans:
        places = sorted(spans)
        for place in places:
            scanned.cuts[place] = made = cut(texts[place], scanned.spans[place])
            scanned.texts[place] = made.text
        found = _overlaps([scanned.texts[place] for place in places], held_out)
        back = np.array(places, np.int64)
        found = replace(found, text=back[found.text], hangs=(back[found.hangs[0]], found.hangs[1]))
        counted.extend(_counted(found))
        hangs.append(found.hangs)
        spans = found.spans()
        for place, parts in spans.items():
            more = [scanned.cuts[place].original(part) for part in parts]
            scanned.spans[place] = tuple(union([*scanned.spans[place], *more]))
    scanned.hits = _hits(counted, held_out, record_ids)
    scanned.hangs = _joined(hangs)
    if scanned.cuts and params.min_left_words:
        places = sorted(scanned.cuts)
        weights = _weights([scanned.texts[place] for place in places], params.size)
        limit = params.min_left_words * params.n_chars
        scanned.too_short = {place for place, weight in zip(places, weights, strict=True) if weight < limit}
    return scanned


def _overlaps(texts: Sequence[str], held_out: HeldOut) -> _Overlaps:
    none = np.zeros(0, np.int64)
    parts = [_Overlaps(none, none, none, none, _NONE)]
    asked: list[tuple[NDArray[Any], ...]] = []  # text, start, end and hash of windows that may be held out
    for first, tokens in () if held_out.empty else pieces(texts, held_out.size):
        start, end, hashes = held_out.windows(tokens)
        asked.append((first + tokens.text_of(start), tokens.start[start], tokens.end[end - 1], hashes))
        if sum(len(hashes) for *_, hashes in asked) > _ASKED:
            parts.append(_found(asked, held_out))
            asked = []
    if asked:
        parts.append(_found(asked, held_out))
    text, start, end, item = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("text", "start", "end", "item")
    )
    return _Overlaps(text, start, end, item, _joined([part.hangs for part in parts]))


def _found(asked: Sequence[tuple[NDArray[Any], ...]], held_out: HeldOut) -> _Overlaps:
    text, start, end, hashes = (np.concatenate(column) for column in zip(*asked, strict=True))
    which, item, hangs = held_out.find(hashes)
    return _Overlaps(text[which], start[which], end[which], item, (text[hangs], hashes[hangs]))


def _joined(windows: Sequence[Windows]) -> Windows:
    text, hashes = zip(*windows, strict=True)
    return np.concatenate(text), np.concatenate(hashes)


def _counted(found: _Overlaps) -> Iterator[pa.Table]:
    """Number of windows, and of code points in them, for each text and item; some texts in a table, which ascend."""
    starts = np.flatnonzero(run_starts(found.text))
    cuts = [0, *starts[run_starts(starts // _ASKED)].tolist()[1:], len(found.text)]
    for some in itertools.starmap(slice, itertools.pairwise(cuts)):
        yield _counted_of(found.text[some], found.item[some], found.start[some], found.end[some])


def _counted_of(text: Integers, item: Integers, start: Integers, end: Integers) -> pa.Table:
    order = np.lexsort((end, start, item, text))
    text, item, start, end = text[order], item[order], start[order], end[order]
    pairs = run_starts(text) | run_starts(item)
    # windows ascend, so each adds what lies behind the end of all before it; a shift keeps pairs apart
    shift = np.cumsum(pairs) * (int(end.max(initial=0)) + 1)
    reached = np.maximum.accumulate(end + shift) - shift
    before = np.where(pairs, 0, np.concatenate(([0], reached[:-1])))
    added = np.maximum(0, reached - np.maximum(start, before))
    at = np.flatnonzero(pairs)
    counted = {
        "text": text[at],
        "number": item[at],
        "n_grams": np.diff(np.append(at, len(text))),
        "chars": np.add.reduceat(added, at) if len(at) else added,
    }
    return pa.table({name: pa.array(column, pa.int64()) for name, column in counted.items()})


def _hits(counted: Sequence[pa.Table], held_out: HeldOut, record_ids: Sequence[str]) -> pa.Table:
    rows = pa.concat_tables(counted)
    rows = rows.group_by(["text", "number"]).aggregate([("n_grams", "sum"), ("chars", "sum")])
    items = held_out.items.select(["set", "item"]).take(rows["number"])
    ids = pa.array(list(record_ids), pa.string()).take(rows["text"])
    columns = [items["set"], items["item"], ids, rows["n_grams_sum"], rows["chars_sum"]]
    found = pa.table(columns, schema=CONTAMINATION)
    return found.sort_by([("record_id", "ascending"), ("set", "ascending"), ("item", "ascending")])


def _weights(texts: Sequence[str], size: Size) -> list[int]:
    weights = [0] * len(texts)
    for first, tokens in pieces(texts, size):
        for number, weight in enumerate(tokens.weight(size).tolist()):
            weights[first + number] += weight
    return weights
