"""One schema for every kind of text, from the first byte collected to the last token trained on.

Collect writes `DOCUMENT` rows and they never change. Curation adds `CURATED` columns beside them and
writes one `DECISION` row for every record, kept or dropped, so that "why is this page gone?" is one query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import RunError
from storage.parquet import batches, read_parquet

SCHEMA_VERSION = 1
KINDS = ("prose", "dialogue", "subtitle", "pair", "instruction", "chat", "qa", "code")
SPLITS = ("train", "val", "test")
MADE = "synthetic:"  # how the page of origin of a synthetic text begins that tells of no page
FORGOTTEN = "forgotten"  # rule of a decision and outcome of a page: `collect-train forget` took the text out

_VERSION = {b"schema_version": str(SCHEMA_VERSION).encode()}
TURN = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])

DOCUMENT = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),  # 32 hex digits, see `record_id`
        pa.field("source", pa.string(), nullable=False),  # name of the source in the recipe
        pa.field("url", pa.string(), nullable=False),  # stable locator: a URL or file:RELATIVE#MEMBER
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # raw extracted text
        pa.field("kind", pa.string(), nullable=False),  # one of KINDS
        pa.field("lang", pa.string(), nullable=False),  # BCP 47, "und" when unknown
        pa.field("license", pa.string(), nullable=False),  # SPDX id or "unknown"
        pa.field("license_source", pa.string(), nullable=False),  # who says so: recipe, page, file
        pa.field("edition", pa.string(), nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("page_of_origin", pa.string(), nullable=False),  # the split is made by this
        pa.field("parent_record", pa.string(), nullable=True),
        pa.field("tags", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("turns", pa.list_(TURN), nullable=True),
        pa.field("meta", pa.string(), nullable=False),  # canonical JSON of what only this source knows
    ],
    metadata=_VERSION,
)

CURATED = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("text_id", pa.string(), nullable=False),  # digest of normalised text + normaliser version
        pa.field("text", pa.string(), nullable=False),  # normalised text: what is trained on
        pa.field("n_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of `text`
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("page_of_origin", pa.string(), nullable=False),
        pa.field("turns", pa.list_(TURN), nullable=True),
        pa.field("quality", pa.float64(), nullable=False),  # 0 to 100
        pa.field("complexity", pa.float64(), nullable=False),  # 0 to 100
        pa.field("cluster_id", pa.string(), nullable=False),  # record_id of the copy kept
        pa.field("cluster_size", pa.int64(), nullable=False),
        pa.field("repeats", pa.int64(), nullable=True),  # how often it is learnt from; null: once
    ],
    metadata=_VERSION,
)

DECISION = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),  # "kept" or "dropped"
        pa.field("rule", pa.string(), nullable=False),  # "kept", or the name of the rule that dropped it
        pa.field("value", pa.float64(), nullable=True),  # what the rule measured
        pa.field("threshold", pa.float64(), nullable=True),
        pa.field("other", pa.string(), nullable=True),  # the record it duplicates
        pa.field("split", pa.string(), nullable=True),  # train, val or test when kept
    ],
    metadata=_VERSION,
)


def record_id(source: str, locator: str, text: str) -> str:
    """32 hex digits naming a record: digest of its source, stable locator and raw text."""
    parts = hashlib.sha256()
    for part in (source, locator, text):
        encoded = part.encode("utf-8", "surrogatepass")
        parts.update(len(encoded).to_bytes(8, "big"))
        parts.update(encoded)
    return parts.hexdigest()[:32]


def make_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows to a validated table. Raises RunError when a row does not fit the schema."""
    try:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:  # the last: a lone surrogate
        raise RunError(
            f"a row does not fit the {_name(schema)} schema: {error}", "this is a fault of the stage that made the row"
        ) from error
    return validate(table, schema)


def validate(table: pa.Table, schema: pa.Schema, where: str = "table") -> pa.Table:
    """Give `table` back when it is exactly `schema` and its values are in range.

    Checks columns, types, nulls, schema version and, where present, kinds, turns, unique record ids and the 0 to
    100 scores. Raises RunError that names `where` and the first fault.
    """
    fault = _first_fault(table, schema)
    if fault:
        raise RunError(
            f"{where} is not a valid {_name(schema)} table: {fault}",
            "rebuild it: `collect-train run RECIPE --from` its stage",
        )
    return table


def read_documents(path: Path, schema: pa.Schema = DOCUMENT) -> pa.Table:
    """Read and validate one file. Raises RunError naming the file."""
    return validate(read_parquet(path), schema, str(path))


def iter_texts(files: Sequence[Path], column: str = "text") -> Iterator[str]:
    """Stream one text column over several files."""
    for path in files:
        for batch in batches(path, [column]):
            yield from batch.column(0).to_pylist()


def _name(schema: pa.Schema) -> str:
    return {id(DOCUMENT): "document", id(CURATED): "curated", id(DECISION): "decision"}.get(id(schema), "given")


def _first_fault(table: pa.Table, schema: pa.Schema) -> str | None:
    if table.schema.names != schema.names:
        missing = sorted(set(schema.names) - set(table.schema.names))
        extra = sorted(set(table.schema.names) - set(schema.names))
        return (
            f"columns differ (missing {missing}, extra {extra})" if missing or extra else "columns are in another order"
        )
    version = (table.schema.metadata or {}).get(b"schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        return f"schema_version {version}, this program reads {SCHEMA_VERSION}"
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            return f"column {field.name} is {column.type}, expected {field.type}"
        if not field.nullable and column.null_count:
            return f"column {field.name} has {column.null_count} nulls"
    names = set(schema.names)
    if "kind" in names:
        bad = pc.filter(table["kind"], pc.invert(pc.is_in(table["kind"], pa.array(KINDS))))
        if len(bad):
            return f"unknown kind {bad[0].as_py()!r}"
    for score in ("quality", "complexity"):
        if score in names and table.num_rows:
            # compared one by one: a minimum and maximum would pass over NaN
            inside = pc.and_(pc.greater_equal(table[score], 0), pc.less_equal(table[score], 100))
            if not pc.all(inside).as_py():
                return f"{score} outside 0 to 100"
    if "turns" in names:
        turns = pc.list_flatten(table["turns"])
        for part in ("role", "text"):
            if pc.struct_field(turns, part).null_count:
                return f"a turn has no {part}"
    if pc.count_distinct(table["record_id"]).as_py() != table.num_rows:
        return "record_id is not unique"
    return None
