"""What is different between two editions of a source: records added, changed, removed and unchanged, by their URLs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.collect.editions import REFERENCES, Locate, document_files, inside
from lmcore.documents import DOCUMENT
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

REMOVED = "removed.parquet"
NAMES = pa.schema([DOCUMENT.field("record_id"), DOCUMENT.field("url")])
REMOVED_SCHEMA = pa.schema([*NAMES, pa.field("reason", pa.string(), nullable=False)])
NOT_FOUND = "not found any more"


@dataclass(frozen=True)
class Changes:
    """URLs by what became of their records, each list sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: int


def names_of(folder: Path, locate: Locate, missing: Callable[[RunError], None] | None = None) -> pa.Table:
    """Id and URL of every record of an edition, those it refers to with them.

    Raises RunError when a file is damaged or missing; one of an edition referred to is told to `missing` if given,
    and its records left out.
    """
    tables = [read_parquet(path, NAMES.names) for path in document_files(folder)]
    references = read_parquet(folder / REFERENCES)
    for place in references.group_by(["artifact_digest", "file"]).aggregate([]).to_pylist():
        of_file = pc.and_(
            pc.equal(references["artifact_digest"], place["artifact_digest"]),
            pc.equal(references["file"], place["file"]),
        )
        try:
            table = read_parquet(inside(locate(place["artifact_digest"]), place["file"]), NAMES.names)
        except RunError as error:
            if missing is None:
                raise
            missing(error)
            continue
        tables.append(table.filter(pc.is_in(table["record_id"], references.filter(of_file)["record_id"])))
    return pa.concat_tables([table.cast(NAMES) for table in tables]) if tables else NAMES.empty_table()


def compare(old: pa.Table, new: pa.Table) -> Changes:
    """What became of the records of `old` (as `names_of` gives them) in `new`."""
    known = pc.is_in(new["record_id"], old["record_id"])
    there = pc.is_in(new["url"], old["url"])
    gone = pc.invert(pc.is_in(old["url"], new["url"]))
    return Changes(
        added=_urls(new.filter(pc.invert(there))),
        changed=_urls(new.filter(pc.and_(there, pc.invert(known)))),
        removed=_urls(old.filter(gone)),
        unchanged=pc.sum(known).as_py() or 0,
    )


def write_removed(path: Path, old: pa.Table, new: pa.Table, reasons: Mapping[str, str]) -> None:
    """Write the records of `old` whose URLs `new` lacks, sorted by URL, with the reason by the URL of their page or
    file. The file is written also when there is none."""
    gone = old.filter(pc.invert(pc.is_in(old["url"], new["url"]))).sort_by("url")
    told = [reasons.get(url) or reasons.get(url.partition("#")[0]) or NOT_FOUND for url in gone["url"].to_pylist()]
    write_parquet(
        path, gone.append_column(REMOVED_SCHEMA.field("reason"), pa.array(told, pa.string())).cast(REMOVED_SCHEMA)
    )


def _urls(table: pa.Table) -> list[str]:
    return sorted(set(table["url"].to_pylist()))
