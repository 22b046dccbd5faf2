"""Files that quote: which of a store do, and how each kind is rid of its quotes.

Weights and vocabularies are not looked at: what they learnt cannot be taken out of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lmcore.forget.quotes import Quotes
from storage.atomic import disk_errors, write_bytes, write_json
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet
from storage.store import STAGES, Store
from storage.tombstones import FILE as TOMBSTONES

QUOTING_STAGES = ("train", "evaluate", "export", "release")
_LEARNT = (".safetensors", ".gguf", ".bin", ".pt")  # weights
_VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt")
_SQLITE = b"SQLite format 3\0"
_PIECE = 2**22  # bytes of a file that is blotted in place; pieces overlap
_OVERLAP = 2**16


def searched_files(store: Store) -> Iterator[tuple[Path, str]]:
    """Every file that is no text's own place but may quote one, with the artifact folder it is in, or ""."""
    for artifact in store.readable(*QUOTING_STAGES):
        manifest = artifact.manifest
        for name in sorted(manifest.content.files | manifest.provenance.files):
            if may_quote(artifact.path / name):
                yield artifact.path / name, str(artifact.path)
    apart = {*STAGES, ".work", ".aside", ".gone", ".locks"}
    for entry in sorted(store.root.iterdir()):
        if entry.name not in apart and entry.name != TOMBSTONES and not entry.is_symlink():
            files = [entry] if entry.is_file() else sorted(path for path in entry.rglob("*") if path.is_file())
            for path in files:
                if may_quote(path) and not path.is_symlink():
                    yield path, ""


def may_quote(path: Path) -> bool:
    """Whether a file is neither weights nor a vocabulary."""
    return path.suffix not in _LEARNT and path.name not in _VOCABULARY


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def does_quote(path: Path, quotes: Quotes) -> bool:
    """Whether a file quotes. Raises RunError for a damaged Parquet file."""
    if path.suffix == ".parquet":
        return any(_blotted_column(column, quotes) is not None for column in _string_columns(read_parquet(path)))
    with open(path, "rb") as file:
        return any(quotes.blotted_bytes(piece) is not None for _, piece in _pieces(file))


def write_blotted(path: Path, target: Path, quotes: Quotes) -> None:
    """Write a file of an artifact without its quotes to `target`."""
    if path.suffix == ".parquet":
        table = read_parquet(path)
        for place, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                column = _blotted_column(table[field.name], quotes)
                table = table if column is None else table.set_column(place, field, column)
        write_parquet(target, table)
        return
    blotted = quotes.blotted_bytes(path.read_bytes())
    assert blotted is not None, path
    if path.name == "reference.json":
        write_json(target, _without_ids(json.loads(path.read_bytes()), json.loads(blotted)))
    else:
        write_bytes(target, blotted)


def blot_in_place(path: Path, quotes: Quotes) -> None:
    """Overwrite the quotes in a file that is in no manifest. Killed in the midst it has fewer quotes than before."""
    if is_database(path):
        _blot_database(path, quotes)
        return
    with disk_errors(path), open(path, "r+b") as file:
        for place, piece in _pieces(file):
            if blotted := quotes.blotted_bytes(piece):
                file.seek(place)
                file.write(blotted)
                file.flush()
        os.fsync(file.fileno())


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The bytes of a file in pieces that overlap: a quote at the end of one is whole in the next."""
    place = 0
    while True:
        file.seek(place)
        piece = file.read(_PIECE + _OVERLAP)
        yield place, piece
        place += _PIECE
        if len(piece) <= _PIECE:
            break


def _string_columns(table: pa.Table) -> Iterator[pa.ChunkedArray]:
    return (table[field.name] for field in table.schema if pa.types.is_string(field.type))


def _blotted_column(column: pa.ChunkedArray, quotes: Quotes) -> pa.ChunkedArray | None:
    values = column.to_pylist()
    if quotes.blotted("\n".join(value or "" for value in values)) is None:  # a quote over two cells is none, below
        return None
    blotted = [value and quotes.blotted(value) for value in values]
    if not any(blotted):
        return None
    return pa.chunked_array([pa.array([new or old for new, old in zip(blotted, values, strict=True)], column.type)])


def _without_ids(old: dict[str, list[dict[str, object]]], new: dict[str, list[dict[str, object]]]) -> object:
    """The reference of an export; where a continuation was blotted, its token ids go too."""
    for before, after in zip(old["prompts"], new["prompts"], strict=True):
        if before["greedy_text"] != after["greedy_text"]:
            after["greedy"] = []
    return new


def _blot_database(path: Path, quotes: Quotes) -> None:
    """Blot every text of an SQLite database and write it anew, so that no page that was freed keeps one."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
            for (table,) in base.execute("select name from sqlite_master where type = 'table'").fetchall():
                columns = [row[1] for row in base.execute(f'pragma table_info("{table}")')]
                for column in columns:
                    query = f'select rowid, "{column}" from "{table}" where typeof("{column}") = \'text\''  # noqa: S608
                    for row, text in base.execute(query).fetchall():
                        if blotted := quotes.blotted(text):
                            base.execute(f'update "{table}" set "{column}" = ? where rowid = ?', (blotted, row))  # noqa: S608
            base.execute("vacuum")
            base.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.Error as error:
        raise RunError(
            f"cannot take quotes out of the database {path}: {error}",
            "stop what uses it and run the same command again; or remove it: it holds history only",
        ) from error
