"""What is taken out of texts that stay: boilerplate lines, long repeats, what held-out texts and evaluation sets say.

Only texts that lose something are written, a file of them beside each measured file; the rest stays as it was
measured. A text that the corpus before kept as it was is looked at for what is held out since, and no more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.boilerplate import without_lines
from lmcore.curate.compare import read_boilerplate
from lmcore.curate.cuts import Cut, Turn, cut, cut_turns
from lmcore.curate.decide import Decided
from lmcore.curate.decontaminate import CONTAMINATION, scan
from lmcore.curate.evaluation_sets import read_sets
from lmcore.curate.exact import words_hashes
from lmcore.curate.held_out import HeldOut, Item
from lmcore.curate.ids import ids, places
from lmcore.curate.normalise import text_id
from lmcore.curate.overlap import batched
from lmcore.curate.params import CurateParams
from lmcore.curate.parent import Parent
from lmcore.curate.records import Records
from lmcore.curate.split import TRAIN
from lmcore.curate.substrings import Repeats, long_repeats
from lmcore.curate.words import split
from lmcore.documents import DOCUMENT, SPLITS
from lmcore.freed import give_back
from lmcore.progress import Report
from storage.atomic import fault
from storage.parquet import read_parquet, replace_parquet

CONTAMINATED, REPEATED, BOILERPLATE, SAME_LEFT = "contaminated", "long_repeat", "boilerplate", "exact_duplicate"
HITS = "contamination.parquet"
INDEX = "index"  # folder of what is held out

CHANGED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # in the measured file
        pa.field("text", pa.string(), nullable=False),
        pa.field("turns", DOCUMENT.field("turns").type, nullable=True),
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("words_hash", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("n_words", pa.int64(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # what took most recently from it
        pa.field("whole", pa.bool_(), nullable=False),  # False: its turns mean nothing any more
    ]
)


@dataclass(frozen=True)
class Cleaned:
    """Where the texts that have changed are."""

    folder: Path | None

    def apply(self, number: int, rows: pa.Table, where: NDArray[np.int32]) -> pa.Table:
        """The columns of `rows` of a measured file, rows `where` of it, with the changed texts in their place."""
        if self.folder is None or not (file := self.folder / f"{number:05d}.parquet").exists():
            return rows
        changed = read_parquet(file)
        at = {row: place for place, row in enumerate(changed["row"].to_pylist())}
        take = np.array([at.get(row, -1) for row in where.tolist()])
        if not (take >= 0).any():
            return rows
        mask = pa.array(take >= 0)
        new = changed.take(pa.array(take[take >= 0]))
        for name in ("text", "turns", "text_id", "n_bytes"):
            place = rows.schema.get_field_index(name)
            column = _replaced(rows[name].combine_chunks(), mask, new[name].combine_chunks())
            rows = rows.set_column(place, rows.schema.field(name), column)
        return rows


def clean(
    folder: Path,
    files: Sequence[Path],
    compared: Sequence[Path],
    records: Records,
    decided: Decided,
    params: CurateParams,
    parent: Parent | None,
    memory_mib: int,
    report: Report,
) -> tuple[Cleaned, pa.Table]:
    """Take out of the texts that are kept what is not to be learnt, and drop those of which too little is left.

    `records` and `decided` are changed: the new size and digest of what a text has become, and the drops. Works in
    `folder` and gives CONTAMINATION rows too. `parent` is the corpus before, when it was made with the same settings.
    """
    lines = np.zeros(0, np.uint64)
    if params.boilerplate.remove:
        lines = read_boilerplate(compared)
    repeats = None
    if params.substrings.enabled:
        report(0, None, "looking for long repeats")
        repeats = _repeats(folder / "repeats", files, records, decided, params, parent, memory_mib)
    index, fresh = _held_out(folder, files, records, decided, params, parent, memory_mib)
    done = _cleaner(params, lines, repeats, index, fresh)
    if done is None:
        return Cleaned(None), CONTAMINATION.empty_table()
    give_back()
    steady = _steady(records, decided, params, parent)
    found = [folder / f"{number:05d}-hits.parquet" for number in range(len(files))]
    for number, path in enumerate(files):
        file = folder / f"{number:05d}.parquet"
        if not file.exists():
            mine = np.flatnonzero(decided.kept & (records.file == number))
            changed, told = done.run(path, records, decided, mine, steady)
            replace_parquet(found[number], told)
            replace_parquet(file, changed)
            del changed, told
            give_back()
            fault("curate.cleaned")
        report(number + 1, len(files), f"cleaned {number + 1:,} of {len(files):,} files")
    del done, repeats, index, fresh
    give_back()
    _apply(folder, files, records, decided, params)
    return Cleaned(folder), pa.concat_tables([CONTAMINATION.empty_table(), *(read_parquet(path) for path in found)])


def _steady(records: Records, decided: Decided, params: CurateParams, parent: Parent | None) -> NDArray[np.bool_]:
    """Which records stand in the corpus before just as they were measured: nothing was found in them then."""
    steady = np.zeros(len(records), bool)
    if parent is not None and params.decontaminate.remove:
        at = places(records.ids, parent.ids)
        there = at >= 0
        steady[there] = parent.columns["text_id"][at[there]] == records.text_id[there]
        steady[there] &= parent.split[at[there]] == decided.split[there]
    return steady


def _held_out(
    folder: Path,
    files: Sequence[Path],
    records: Records,
    decided: Decided,
    params: CurateParams,
    parent: Parent | None,
    memory_mib: int,
) -> tuple[HeldOut | None, HeldOut | None]:
    """The index of all that is held out, and of what is held out since the corpus before."""
    settings = params.decontaminate
    if not settings.enabled:
        return None, None
    held = decided.kept & (decided.split != TRAIN)
    was = np.zeros(len(records), bool)
    if parent is not None:
        at = places(records.ids, parent.ids)
        was[at >= 0] = parent.split[at[at >= 0]] != TRAIN

    def items(which: NDArray[np.bool_], *, sets: bool) -> Iterator[Item]:
        for number, path in enumerate(files):
            mine = np.flatnonzero(which & (records.file == number))
            if len(mine):
                table = read_parquet(path, ["record_id", "text"]).take(pa.array(records.row[mine]))
                sides = decided.split[mine].tolist()
                columns = (table["record_id"].to_pylist(), table["text"].to_pylist(), sides)
                for record, text, side in zip(*columns, strict=True):
                    yield SPLITS[side], record, text
        if sets:
            yield from read_sets(settings.evaluation_sets)

    every = HeldOut.build(items(held, sets=True), settings.size, folder / INDEX, memory_mb=memory_mib)
    since = held & ~was
    if parent is None or not settings.look_back or not since.any():
        return every, None
    return every, HeldOut.build(items(since, sets=False), settings.size, folder / "since", memory_mb=memory_mib)


def _repeats(
    folder: Path,
    files: Sequence[Path],
    records: Records,
    decided: Decided,
    params: CurateParams,
    parent: Parent | None,
    memory_mib: int,
) -> Repeats:
    """Long repeats in the training texts, numbered by their place in `records`.

    The text in which a repeat stays is one that the corpus before kept, then the one with the lowest record id.
    """

    def batches() -> Iterator[list[str]]:
        for number, path in enumerate(files):
            mine = _in_order(records, decided, number)
            if len(mine):
                yield read_parquet(path, ["text"]).take(pa.array(records.row[mine]))["text"].to_pylist()

    numbers = [np.zeros(0, np.int64), *(_in_order(records, decided, number) for number in range(len(files)))]
    given = np.concatenate(numbers)
    new = places(records.ids[given], parent.ids) < 0 if parent else np.ones(len(given), bool)
    order = np.lexsort((given, new))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    found = long_repeats(batches, params.substrings.size, folder, rank=rank, memory_mb=memory_mib)
    text = given[order][found.text]
    order = np.lexsort((found.start, text))
    return Repeats(text[order], found.start[order], found.end[order])


def _in_order(records: Records, decided: Decided, number: int) -> NDArray[np.int64]:
    mine = np.flatnonzero(decided.kept & (decided.split == TRAIN) & (records.file == number))
    return mine[np.argsort(records.row[mine])]


def _cleaner(
    params: CurateParams,
    lines: NDArray[np.uint64],
    repeats: Repeats | None,
    index: HeldOut | None,
    fresh: HeldOut | None,
) -> _Cleaner | None:
    """None where there is nothing to take out of any text."""
    if not len(lines) and (repeats is None or not len(repeats.text)) and (index is None or index.empty):
        return None
    return _Cleaner(params, lines, repeats, index, fresh)


@dataclass(frozen=True)
class _Cleaner:
    """What is to be taken out, and of which texts."""

    params: CurateParams
    lines: NDArray[np.uint64]
    repeats: Repeats | None
    index: HeldOut | None
    fresh: HeldOut | None

    def run(
        self, path: Path, records: Records, decided: Decided, mine: NDArray[np.int64], steady: NDArray[np.bool_]
    ) -> tuple[pa.Table, pa.Table]:
        """CHANGED rows of one measured file, of which `mine` are kept, and CONTAMINATION rows."""
        table = read_parquet(path, ["record_id", "text", "turns", "kind"]).take(pa.array(records.row[mine]))
        texts: list[str] = table["text"].to_pylist()
        kinds: list[str] = table["kind"].to_pylist()
        turns: list[list[Turn] | None] = table["turns"].to_pylist()
        rules = [""] * len(texts)
        whole = [True] * len(texts)
        self._lines_out(texts, kinds, turns, rules)
        self._repeats_out(texts, turns, rules, mine)
        train = decided.split[mine] == TRAIN
        told = [
            self._overlaps_out(np.flatnonzero(train & which), held_out, table, texts, kinds, turns, rules, whole)
            for which, held_out in ((~steady[mine], self.index), (steady[mine], self.fresh))
            if held_out is not None
        ]
        places = [place for place, rule in enumerate(rules) if rule]
        left = [texts[place] for place in places]
        columns = {
            "row": records.row[mine[places]].astype(np.int64),
            "text": left,
            "turns": [turns[place] for place in places],
            "text_id": [text_id(text) for text in left],
            "words_hash": words_hashes(left),
            "n_bytes": [len(text.encode()) for text in left],
            "n_words": _n_words(left),
            "rule": [rules[place] for place in places],
            "whole": [whole[place] for place in places],
        }
        return pa.table(columns, schema=CHANGED), pa.concat_tables([CONTAMINATION.empty_table(), *told])

    def _lines_out(self, texts: list[str], kinds: list[str], turns: list[list[Turn] | None], rules: list[str]) -> None:
        if not len(self.lines):
            return
        some = [place for place, kind in enumerate(kinds) if kind != "code" and turns[place] is None]
        for place, text in zip(some, without_lines([texts[place] for place in some], self.lines), strict=True):
            if text != texts[place]:
                texts[place], rules[place] = text, BOILERPLATE

    def _repeats_out(
        self, texts: list[str], turns: list[list[Turn] | None], rules: list[str], mine: NDArray[np.int64]
    ) -> None:
        if self.repeats is None:
            return
        for place, record in enumerate(mine.tolist()):
            spans = self.repeats.spans(record)
            # places are those of the measured text: one that has lost lines is let be
            if spans and turns[place] is None and not rules[place]:
                texts[place], rules[place] = cut(texts[place], spans).text, REPEATED

    def _overlaps_out(
        self,
        some: NDArray[np.int64],
        held_out: HeldOut,
        table: pa.Table,
        texts: list[str],
        kinds: list[str],
        turns: list[list[Turn] | None],
        rules: list[str],
        whole: list[bool],
    ) -> pa.Table:
        record_ids = table["record_id"].take(pa.array(some)).to_pylist()
        scanned = scan([texts[place] for place in some], record_ids, held_out, self.params.decontaminate)
        for number, made in scanned.cuts.items():
            place = int(some[number])
            if (said := turns[place]) is not None:
                left = cut_turns(_one_cut(texts[place], scanned.spans[number], made), texts[place], said, kinds[place])
                whole[place] = left is not None
                turns[place] = left or said
            texts[place], rules[place] = scanned.texts[number], CONTAMINATED
        return scanned.hits


def _one_cut(text: str, spans: Any, made: Cut) -> Cut:
    """All that was cut out of a text, in one cut: what was found after the first is cut with it."""
    again = cut(text, spans)
    return again if again.text == made.text else made


def _apply(folder: Path, files: Sequence[Path], records: Records, decided: Decided, params: CurateParams) -> None:
    """Tell `records` what its texts have become, and drop those of which too little is left."""
    limits = {
        CONTAMINATED: params.decontaminate.min_left_words,
        REPEATED: params.substrings.min_left_words,
        BOILERPLATE: params.boilerplate.min_left_words,
    }
    every = []
    for number in range(len(files)):
        columns = ["row", "text_id", "words_hash", "n_bytes", "n_words", "rule", "whole"]
        table = read_parquet(folder / f"{number:05d}.parquet", columns)
        if not table.num_rows:
            continue
        mine = np.flatnonzero(records.file == number)
        by_row = mine[np.argsort(records.row[mine])]
        place = by_row[np.searchsorted(records.row[by_row], table["row"].to_numpy())]
        records.text_id[place], records.words[place] = ids(table["text_id"]), ids(table["words_hash"])
        records.n_bytes[place] = table["n_bytes"].to_numpy()
        left, rules = table["n_words"].to_numpy(), np.array(table["rule"].to_pylist(), object)
        for rule, limit in limits.items():
            short = (rules == rule) & ((left < limit) | ~table["whole"].to_numpy())
            decided.drop(rule, place[short], left[short].astype(np.float64), limit)
        every.append(place)
    if every:
        _drop_copies(np.sort(np.concatenate(every)), records, decided)


def _drop_copies(changed: NDArray[np.int64], records: Records, decided: Decided) -> None:
    """Of changed texts that have become equal to another one, drop them."""
    changed = changed[decided.kept[changed]]
    others = decided.kept.copy()
    others[changed] = False
    there = np.flatnonzero(others)
    order = there[np.argsort(records.words[there])]
    # equal to one that is as it was, else to an earlier changed one
    at = places(records.words[changed], records.words[order])
    first: dict[bytes, int] = {}
    for record, found in zip(changed.tolist(), at.tolist(), strict=True):
        other = int(order[found]) if found >= 0 else first.setdefault(bytes(records.words[record]), record)
        if other != record:
            decided.drop(SAME_LEFT, np.array([record]), 1.0, 1.0)
            decided.other[record] = other


def _n_words(texts: Sequence[str]) -> NDArray[np.int64]:
    """(T,) words of each text."""
    counts = np.zeros(len(texts), np.int64)
    for first, last in batched(texts):
        counts[first:last] = np.diff(split(texts[first:last]).text_words)
    return counts


def _replaced(column: pa.Array, mask: pa.BooleanArray, new: pa.Array) -> pa.Array:
    """`column` with the values of `new`, one after the other, where `mask` is set; also for lists."""
    take = np.arange(len(column))
    where = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    take[where] = len(column) + np.arange(len(where))
    return pa.concat_arrays([column, new.cast(column.type)]).take(pa.array(take))


def clear(work: Path) -> None:
    """Forget what was cleaned: the corpus is written."""
    shutil.rmtree(work / "clean", ignore_errors=True)
