"""The texts of a corpus on disk: files of some MiB, each sorted by record id, in a memory that hangs on no corpus.

Texts lie in measured files source by source. They are first sorted into buckets by record id, which is a digest, so
that buckets are equally large and a file holds texts of all sources; then every bucket becomes one file. Both steps
go on after a kill where they were.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from numpy.typing import NDArray

from lmcore.curate.cleaned import Layers
from lmcore.curate.decide import Decided
from lmcore.curate.ids import Ids, hexes, places
from lmcore.curate.measured import bounds
from lmcore.curate.parent import SAME, Parent, link
from lmcore.curate.records import Records
from lmcore.documents import CURATED, SPLITS, validate
from lmcore.freed import give_back
from storage.atomic import disk_errors, fault
from storage.parquet import (
    ROWS_PER_GROUP,
    batches,
    parquet_facts,
    replace_groups,
    take_rows,
    write_parquet,
)

FILE_BYTES = 64 << 20  # of text in one file, about
GROUP_BYTES = 8 << 20
"""Of text in one row group, about: a text that has more is one by itself. Row groups are held whole."""
_ROWS_TOGETHER = 256  # put in place at once
_TAKEN = [
    *("record_id", "text_id", "text", "n_bytes", "source", "url", "title", "kind", "lang", "license", "synthetic"),
    *("page_of_origin", "turns"),
]


@dataclass(frozen=True)
class Plan:
    """Which texts are written and which files of the corpus before are taken over."""

    new: NDArray[np.bool_]  # (N,) records whose text is written now
    old: dict[Path, NDArray[np.bytes_]]  # files of the parent and the ids that stay in them, sorted
    batch: int  # how many corpora this one stands on


def plan_files(records: Records, decided: Decided, parent: Parent | None) -> Plan:
    """What can be taken over from `parent`: rows that would be written just as they are there."""
    kept = decided.kept
    if parent is None:
        return Plan(kept.copy(), {}, 0)
    where = places(records.ids, parent.ids)
    there = np.flatnonzero(kept & (where >= 0))
    at = where[there]
    now = {"cluster_size": decided.cluster_size}
    now |= {name: getattr(records, name) for name in SAME if name not in now}
    same = parent.split[at] == decided.split[there]
    for name in SAME:
        same &= parent.columns[name][at] == now[name][there]
    new = kept.copy()
    new[there[same]] = False
    stays = at[same]
    old = {}
    for number, path in enumerate(parent.files):
        held = parent.ids[stays[parent.file[stays] == number]]
        if len(held):
            old[path] = np.sort(held)
    return Plan(new, old, parent.about["batch"] + 1)


def write_splits(
    work: Path,
    files: Sequence[Path],
    records: Records,
    decided: Decided,
    plan: Plan,
    cleaned: Layers,
    often: NDArray[np.int64] | None,
) -> None:
    """Write `out/SPLIT/BATCH-NUMBER.parquet` (CURATED); a split without texts has one empty file.

    `files` are the measured files that `records` tells of, `cleaned` has what became of texts that lost something,
    `often` is how many times each record is learnt from, None for once.
    """
    out, sorted_ = work / "out", work / "sorted"
    for old, stays in plan.old.items():
        _take_over(old, out / old.parent.name / old.name, stays)
    buckets = {index: _buckets(records, decided, plan, index) for index in range(len(SPLITS))}
    for number, path in enumerate(files):
        mine = np.flatnonzero(plan.new & (records.file == number))
        done = sorted_ / f"{number:05d}.done"
        if done.exists() or not len(mine):
            continue
        with disk_errors(done), ExitStack() as files_open:
            done.parent.mkdir(parents=True, exist_ok=True)
            writers = {
                index: files_open.enter_context(pa.ipc.new_file(str(sorted_ / f"{number:05d}-{index}.arrow"), CURATED))
                for index in np.unique(decided.split[mine]).tolist()
            }
            for some, table in _curated(path, number, records, decided, cleaned, often, mine):
                for index, writer in writers.items():
                    if (of_split := decided.split[some] == index).any():
                        writer.write_table(table.filter(pa.array(of_split)).combine_chunks())
        with disk_errors(done):
            done.touch()
        give_back()
        fault("curate.sorted")
    for index, name in enumerate(SPLITS):
        members = np.flatnonzero(plan.new & (decided.split == index))
        for bucket in range(buckets[index]):
            path = out / name / f"{plan.batch:03d}-{bucket:05d}.parquet"
            if not path.exists():
                low, high = np.searchsorted(records.ids[members], _bounds(buckets[index])[bucket : bucket + 2])
                if low < high:
                    groups = _groups(sorted_, index, records, members, int(low), int(high))
                    where = f"{name}/{path.name}"
                    checked = map(partial(validate, schema=CURATED, where=where), groups)  # holds none of them
                    replace_groups(path, CURATED, checked)
                give_back()
                fault("curate.file")
        if not any((out / name).glob("*.parquet")):
            write_parquet(out / name / "000-00000.parquet", validate(CURATED.empty_table(), CURATED))
    shutil.rmtree(sorted_, ignore_errors=True)


def _take_over(old: Path, new: Path, stays: NDArray[np.bytes_]) -> None:
    if new.exists():
        return
    facts = parquet_facts(old)
    if facts.num_rows == len(stays):
        link(old, new)
    else:
        wanted, schema = hexes(stays), facts.schema.to_arrow_schema()
        tables = (pa.Table.from_batches([batch]) for batch in batches(old))
        left = (table.filter(pc.is_in(table["record_id"], wanted)) for table in tables)
        replace_groups(new, schema, _regrouped(schema, left))


def _regrouped(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of CURATED `tables`, cut into row groups as `_groups` cuts them."""
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        groups = list(bounds(held["n_bytes"].to_numpy(), GROUP_BYTES, ROWS_PER_GROUP))
        for first, rows in groups[:-1]:
            yield held.slice(first, rows).combine_chunks()
        if groups:
            held = held.slice(groups[-1][0]).combine_chunks()
    if held.num_rows:
        yield held


def _buckets(records: Records, decided: Decided, plan: Plan, split: int) -> int:
    size = int(records.n_bytes[plan.new & (decided.split == split)].sum())
    return max(1, math.ceil(size / FILE_BYTES))


def _bounds(count: int) -> Ids:
    """(count + 1,) the lowest record id of each of `count` buckets, and one that is greater than all."""
    lowest = [((number << 128) // count).to_bytes(16, "big") for number in range(count)]
    return np.array([*lowest, b"\xff" * 17])


def _groups(
    folder: Path, split: int, records: Records, members: NDArray[np.int64], low: int, high: int
) -> Iterator[pa.Table]:
    """Members `low` to `high` of a split, sorted by record id, a row group of at most GROUP_BYTES at a time.

    `members` are all records that are written to that split, in order. The files in `folder` have theirs in order, too,
    so what is wanted of one of them is always what follows; only the texts of one row group are in memory.
    """
    done = np.bincount(records.file[members[:low]], minlength=int(records.file.max()) + 1)
    for first, count in bounds(records.n_bytes[members[low:high]], GROUP_BYTES, ROWS_PER_GROUP):
        files = records.file[members[low + first : low + first + count]]
        tables = []
        for number, rows in zip(*(array.tolist() for array in np.unique(files, return_counts=True)), strict=True):
            with pa.memory_map(str(folder / f"{number:05d}-{split}.arrow")) as source:
                some = pa.array(np.arange(done[number], done[number] + rows))
                tables.append(pa.ipc.open_file(source).read_all().take(some))  # a copy: the map can go
            done[number] += rows
        place = np.empty(len(files), np.int64)  # of each row in what the files gave one after the other
        place[np.argsort(files, kind="stable")] = np.arange(len(files))
        whole = pa.concat_tables(tables).combine_chunks()
        tables.clear()
        yield whole.take(pa.array(place)).combine_chunks()
        del whole


def _curated(
    path: Path,
    number: int,
    records: Records,
    decided: Decided,
    cleaned: Layers,
    often: NDArray[np.int64] | None,
    mine: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """The records `mine` of one measured file by and by, and CURATED rows of them."""
    become = cleaned.become(number, mine, records.row[mine])
    taken = take_rows(path, records.row[mine], _TAKEN)  # by record id, as `records` is
    for first in range(0, len(mine), _ROWS_TOGETHER):
        some = mine[first : first + _ROWS_TOGETHER]
        rows = become.put(taken.slice(first, len(some)), first)
        times = np.ones(len(some), np.int64) if often is None else often[some]
        columns = {name: rows[name] for name in _TAKEN} | {
            "quality": pa.array(records.quality[some]),
            "complexity": pa.array(records.complexity[some]),
            "cluster_id": rows["record_id"],
            "cluster_size": pa.array(decided.cluster_size[some], pa.int64()),
            "repeats": pa.array(times, mask=times == 1),
        }
        yield some, pa.table({name: columns[name] for name in CURATED.names}, schema=CURATED)
