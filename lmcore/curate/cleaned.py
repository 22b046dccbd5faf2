"""What rounds of cleaning leave on disk: a layer for each round, in it files of what was cleaned then.

A layer has up to three files beside a measured file, of the records of it that were cleaned in that round. What was
found out about a record is in the layer of the last round that cleaned it; what earlier ones say of it counts no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.clean import BOILERPLATE, CHANGED, CONTAMINATED, REPEATED
from lmcore.curate.decide import Decided
from lmcore.curate.decontaminate import CONTAMINATION
from lmcore.curate.ids import Ids, heads, ids, places
from lmcore.curate.overlap import Hashes, Integers
from lmcore.curate.params import CurateParams
from lmcore.curate.records import Records
from storage.parquet import batches, read_parquet, replace_parquet

SAME_LEFT = "exact_duplicate"
NEVER = -1


@dataclass(frozen=True)
class Layers:
    """Where it is told what has become of N records."""

    folder: Path
    layer: NDArray[np.int16]  # (N,) the round in which each was cleaned last, NEVER for one that never was

    def done(self, layer: int, number: int) -> bool:
        """Whether a measured file was cleaned in that round."""
        return self._file(layer, number, "changed").exists()

    def write(self, layer: int, number: int, changed: pa.Table, hits: pa.Table, hanging: pa.Table) -> None:
        """What `Cleaner.run` says of a measured file. Raises StorageError."""
        replace_parquet(self._file(layer, number, "hits"), hits)
        replace_parquet(self._file(layer, number, "hanging"), hanging)
        replace_parquet(self._file(layer, number, "changed"), changed)  # the last: with it the file is done

    def changed(
        self, number: int, mine: Integers, rows: NDArray[np.int32], columns: Sequence[str]
    ) -> tuple[Integers, pa.Table]:
        """Which of the records `mine`, in `rows` of a measured file, have lost something, and CHANGED rows of them."""
        found = [pa.schema([CHANGED.field(name) for name in columns]).empty_table()]
        at = [np.zeros(0, np.int64)]
        layers = self.layer[mine]
        for layer in np.unique(layers[layers != NEVER]).tolist():
            of_layer = np.flatnonzero(layers == layer)
            of_layer = of_layer[np.argsort(rows[of_layer])]
            table = read_parquet(self._file(layer, number, "changed"), ["row", *columns])
            place = places(table["row"].to_numpy(), rows[of_layer])
            at.append(of_layer[place[place >= 0]])
            found.append(table.select(columns).filter(pa.array(place >= 0)))
        return np.concatenate(at), pa.concat_tables(found)

    def become(self, number: int, mine: Integers, rows: NDArray[np.int32]) -> Become:
        """What the records `mine`, in `rows` of a measured file, have become."""
        at, changed = self.changed(number, mine, rows, ["text", "turns", "text_id", "n_bytes"])
        order = np.argsort(at)
        return Become(at[order], changed.take(pa.array(order)))

    def hits(self, wanted: NDArray[np.bool_], records: Records) -> pa.Table:
        """CONTAMINATION rows of the records that are wanted (N,)."""
        found = [CONTAMINATION.empty_table()]
        for layer, _, path in self._files("hits"):
            table = read_parquet(path)
            if table.num_rows:
                record = places(ids(table["record_id"]), records.ids)
                found.append(table.filter(pa.array(wanted[record] & (self.layer[record] == layer))))
        return pa.concat_tables(found)

    def hanging_on(self, windows: Hashes, records: Records) -> Integers:
        """The records that hang on one of these `windows`, which ascend; of earlier layers too, where they may not."""
        found = [np.zeros(0, np.int64)]
        for _, number, path in self._files("hanging"):
            rows = []
            for batch in batches(path, rows=1 << 20):
                row, window = (column.to_numpy() for column in batch.columns)
                rows.append(row[places(window, windows) >= 0])
            if rows:
                mine = np.flatnonzero(records.file == number)
                mine = mine[np.argsort(records.row[mine])]
                found.append(mine[np.searchsorted(records.row[mine], np.unique(np.concatenate(rows)))])
        return np.unique(np.concatenate(found))

    def _file(self, layer: int, number: int, what: str) -> Path:
        return self.folder / f"{layer:03d}" / f"{number:05d}-{what}.parquet"

    def _files(self, what: str) -> Iterator[tuple[int, int, Path]]:
        """Round, number of the measured file and path of every file of a kind."""
        for layer in range(int(self.layer.max(initial=NEVER)) + 1):
            for path in sorted((self.folder / f"{layer:03d}").glob(f"[0-9]*-{what}.parquet")):
                yield layer, int(path.name.split("-")[0]), path


@dataclass(frozen=True)
class Become:
    """What some of N records have become."""

    at: Integers  # which of them, ascending
    rows: pa.Table

    def put(self, table: pa.Table, first: int) -> pa.Table:
        """`table`, the records from `first` on, with what they have become in their place."""
        low, high = np.searchsorted(self.at, (first, first + table.num_rows)).tolist()
        if low == high:
            return table
        take = np.arange(table.num_rows)
        take[self.at[low:high] - first] = table.num_rows + np.arange(high - low)
        for name in self.rows.column_names:
            place, field = table.schema.get_field_index(name), table.schema.field(name)
            changed = self.rows[name].slice(low, high - low).cast(field.type)
            both = pa.concat_arrays([*table[name].chunks, *changed.chunks])
            table = table.set_column(place, field, both.take(pa.array(take)))
        return table


@dataclass(frozen=True)
class Measured:
    """What records said before they were told what their texts have become."""

    place: Integers
    text_id: NDArray[np.uint64]
    words: NDArray[np.bytes_]
    n_bytes: NDArray[np.int32]

    @classmethod
    def nothing(cls) -> Measured:
        """No record was told anything."""
        none = np.zeros(0, np.int64)
        return cls(none, np.zeros(0, np.uint64), np.zeros(0, "S16"), np.zeros(0, np.int32))

    def words_of(self, records: Records) -> Ids:
        """What the records said of their words."""
        words = records.words.copy()
        words[self.place] = self.words
        return words

    def restore(self, records: Records) -> None:
        """Let them say it again."""
        for name in ("text_id", "words", "n_bytes"):
            getattr(records, name)[self.place] = getattr(self, name)


def tell(layers: Layers, files: int, records: Records, decided: Decided, params: CurateParams) -> Measured:
    """Tell `records` what the texts that are kept have become, and drop those of which too little is left.

    `decided` is told the drops. Gives what stood in `records` before.
    """
    limits = {
        CONTAMINATED: params.decontaminate.min_left_words,
        REPEATED: params.substrings.min_left_words,
        BOILERPLATE: params.boilerplate.min_left_words,
    }
    every = [np.zeros(0, np.int64)]
    before: list[Measured] = []
    kept = decided.kept
    for number in range(files):
        mine = np.flatnonzero(kept & (records.file == number))
        columns = ["text_id", "words_hash", "n_bytes", "n_words", "rule", "whole"]
        at, table = layers.changed(number, mine, records.row[mine], columns)
        if not len(at):
            continue
        place = mine[at]
        before.append(Measured(place, records.text_id[place], records.words[place], records.n_bytes[place]))
        records.text_id[place], records.words[place] = heads(table["text_id"]), ids(table["words_hash"])
        records.n_bytes[place] = table["n_bytes"].to_numpy()
        left, rules = table["n_words"].to_numpy(), np.array(table["rule"].to_pylist(), object)
        for rule, limit in limits.items():
            short = (rules == rule) & ((left < limit) | ~table["whole"].to_numpy())
            decided.drop(rule, place[short], left[short].astype(np.float64), limit)
        every.append(place)
    changed = np.sort(np.concatenate(every))
    if len(changed):
        _drop_copies(changed, records, decided)
    before.append(Measured.nothing())
    names = ("place", "text_id", "words", "n_bytes")
    return Measured(*(np.concatenate([getattr(part, name) for part in before]) for name in names))


def _drop_copies(changed: Integers, records: Records, decided: Decided) -> None:
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
