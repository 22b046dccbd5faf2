"""Training text wherever it lies, as lines: text, JSON lines, Parquet, folders of them; and vocabulary files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmcore.collect.json_rows import json_lines
from lmcore.collect.parquet_rows import batches, opened_parquet
from lmcore.collect.unpack import Member, Unreadable
from lmcore.curate.line_stats import LineStats, text_lines
from lmcore.documents import KINDS
from lmcore.tokenizer.vocab_files import read_vocab_bin
from storage.errors import RunError, UserError

_ROWS = (".jsonl", ".ndjson", ".parquet")
_TEXTS = (".txt", ".text", ".md")
SUFFIXES = (*_TEXTS, *_ROWS)
_FIELDS = ("text", "content")
_ANY_SIZE = 1 << 62


def count_files(path: Path, stats: LineStats) -> int:
    """Count the lines of a file, or of all files of a folder that have one of SUFFIXES; gives the number of files.

    A file of another suffix is read as text when it is named itself. Of rows the text is `text` or `content`, else all
    that is text in them. Raises UserError for a path that holds nothing of these, RunError naming a damaged file.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        problem = "has no file of " + ", ".join(SUFFIXES) if path.is_dir() else "is no file"
        raise UserError(f"{path} {problem}", "name a file of text or rows, a folder of them, or an artifact")
    for file in files:
        try:
            if file.suffix.lower() in _ROWS:
                for row in _rows(file):
                    stats.add(text_lines(_text(row)), _task(row))
            else:
                stats.add(_lines(file))
        except (Unreadable, OSError) as error:
            reason = error.reason if isinstance(error, Unreadable) else str(error.strerror or error)
            raise RunError(f"cannot read {file}: {reason}", "mend the file or leave it out") from error
    return len(files)


def vocabulary_size(path: Path) -> int:
    """Tokens in a vocabulary: tokenizer.json or {token: id} (.json), vocab.bin, or one a line (any other).

    Raises UserError for a file that is not there or is none.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".bin":
            return len(read_vocab_bin(content)[0])
        if path.suffix == ".json":
            found = json.loads(content)
            model = found.get("model", found)
            tokens = model.get("vocab", model)
            names = set(tokens) if isinstance(tokens, dict) else {token[0] for token in tokens}
            return len(names | {token["content"] for token in found.get("added_tokens", ())})
        return sum(1 for line in content.split(b"\n") if line.strip())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path} is no vocabulary: {reason}", "give a tokenizer.json, vocab.bin, or a file of one token a line"
        ) from error


def _lines(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for line in file:
            yield line.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    member = Member(path.name, path)
    if path.suffix.lower() != ".parquet":
        for row, value, problem in json_lines(member):
            if problem:
                raise Unreadable("damaged", f"row {row} is {problem}")
            yield value
        return
    with opened_parquet(member, _ANY_SIZE) as file:
        wanted = _wanted(file)
        for batch in batches(file, _ANY_SIZE, wanted):
            yield from batch.to_pylist()


def _wanted(file: pq.ParquetFile) -> list[str] | None:
    """The columns that are looked at; None for all."""
    names = file.schema_arrow.names
    text = next((name for name in _FIELDS if name in names), None)
    return None if text is None else [text, *(name for name in ("kind", "task") if name in names)]


def _text(row: dict[str, Any]) -> str:
    for name in _FIELDS:
        if isinstance(row.get(name), str):
            return str(row[name])
    return "\n".join(_strings({name: value for name, value in row.items() if name not in ("kind", "task")}))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _strings(entry)


def _task(row: dict[str, Any]) -> str:
    """What a row is for: what it says itself, else what its fields tell; empty when its lines have to tell."""
    for name in ("kind", "task"):
        if isinstance(row.get(name), str) and (name == "task" or row[name] in KINDS):
            return str(row[name])
    names = {name.lower() for name in row}
    for task, fields in (("instruction", {"instruction"}), ("qa", {"question"}), ("chat", {"messages"})):
        if fields <= names:
            return task
    return "chat" if "conversations" in names else ""
