"""Editions: a collection made again later keeps only what is new, and points at the rest.

An unchanged record (same record_id: same source, locator and text) of the parent edition becomes a row in
references.parquet naming the artifact and file that physically hold it, never another reference. When a
chain would reach MAX_DEPTH editions everything is copied, so that no edition needs a long tail of others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.documents import DOCUMENT, read_documents
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

MAX_DEPTH = 30
REFERENCES = "references.parquet"
EDITION = "edition.json"
REFERENCE = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("artifact_digest", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
    ]
)

Locate = Callable[[str], Path]
Place = tuple[str, str]  # (artifact digest, file in it)


def document_files(folder: Path) -> list[Path]:
    """The document files of a collected artifact, in order."""
    return sorted((folder / "documents").glob("*.parquet"))


def read_edition(folder: Path) -> dict[str, Any]:
    """edition.json of a collected artifact. Raises RunError when it is missing or damaged."""
    path = folder / EDITION
    try:
        edition = json.loads(path.read_text())
        return {
            "edition": str(edition["edition"]),
            "source": str(edition["source"]),
            "parent": edition["parent"],
            "depth": int(edition["depth"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"cannot read {path}: {error}",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error


def places(folder: Path, digest: str) -> dict[str, Place]:
    """Where each record of an edition physically lies: record_id to (artifact digest, file)."""
    found: dict[str, Place] = {}
    for path in document_files(folder):
        for record in read_parquet(path, ["record_id"])["record_id"].to_pylist():
            found[record] = (digest, f"documents/{path.name}")
    for row in read_parquet(folder / REFERENCES).to_pylist():
        found[row["record_id"]] = (row["artifact_digest"], row["file"])
    return found


def own_records(folder: Path) -> pa.ChunkedArray:
    """The record ids of the documents that an edition holds itself."""
    columns = (read_parquet(path, ["record_id"])["record_id"] for path in document_files(folder))
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())


def referred_records(folder: Path) -> dict[str, pa.ChunkedArray]:
    """The record ids that an edition refers to, by the content digest of the artifact that holds them."""
    table = read_parquet(folder / REFERENCES, ["record_id", "artifact_digest"])
    digests = sorted(pc.unique(table["artifact_digest"]).to_pylist())
    return {digest: table["record_id"].filter(pc.equal(table["artifact_digest"], digest)) for digest in digests}


def write_references(path: Path, references: dict[str, Place]) -> None:
    """Write references.parquet, sorted by record_id; it may have no rows."""
    rows = [
        {"record_id": record, "artifact_digest": place[0], "file": place[1]}
        for record, place in sorted(references.items())
    ]
    write_parquet(path, pa.Table.from_pylist(rows, schema=REFERENCE))


def load_edition(folder: Path, locate: Locate) -> pa.Table:
    """All DOCUMENT rows of an edition, its own first, then those it refers to, sorted by record_id.

    `locate` gives the folder of another artifact by its content digest. Raises RunError when a file is damaged
    or an artifact referred to no longer holds a record.
    """
    tables = [read_documents(path) for path in document_files(folder)]
    wanted: defaultdict[Place, list[str]] = defaultdict(list)
    for row in read_parquet(folder / REFERENCES).to_pylist():
        wanted[row["artifact_digest"], row["file"]].append(row["record_id"])
    referred = []
    for (digest, file), records in sorted(wanted.items()):
        path = inside(locate(digest), file)
        table = read_documents(path)
        table = table.filter(pc.is_in(table["record_id"], pa.array(records)))
        if table.num_rows != len(records):
            raise RunError(
                f"{folder} refers to {len(records)} records in {path}, which holds {table.num_rows} of them",
                "run `collect-train verify`, then collect again with --edition new",
            )
        referred.append(table)
    if referred:
        tables.append(pa.concat_tables(referred).sort_by("record_id"))
    return pa.concat_tables(tables) if tables else DOCUMENT.empty_table()


def inside(folder: Path, file: str) -> Path:
    """A file of an artifact, and nothing outside of it: references may have been tampered with."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"a reference leads out of {folder}: {file}", "run `collect-train verify`")
    return path
