"""Evaluation sets as files: the texts of their items, whatever of the usual formats they are written in.

`.jsonl` (one object a line), `.json` (an array of objects), `.csv` and `.tsv` with names in the first row, `.parquet`,
and `.txt` whose items are parted by empty lines. An item is called by its row, counted from 1; every field that is
text, and every string in a list or object there, is a text of its own, so that a question is found without its answers.
A file that cannot be read whole is an error and never a shorter set: what is missing from it would be trained on.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lmcore.collect.csv_rows import DELIMITERS, csv_rows
from lmcore.collect.json_rows import json_lines, json_objects
from lmcore.collect.parquet_rows import batches, opened_parquet
from lmcore.collect.unpack import Member, Unreadable
from lmcore.config import Params
from lmcore.curate.held_out import Item
from storage.errors import RunError, UserError

_PIECE = 1 << 20
_ANY_SIZE = 1 << 62

Row = tuple[int, dict[str, Any]]


class EvaluationSet(Params):
    """A file of questions, texts or answers that a model will be evaluated on."""

    name: str = Field(min_length=1, description="What the hits call it.")
    path: str = Field(
        min_length=1, description="A .jsonl, .json, .csv, .tsv, .parquet or .txt file, relative to the recipe."
    )
    digest: str = Field(default="", description="Of the file's bytes; a run fills it in.")
    fields: tuple[str, ...] = Field(
        default=(),
        description="Columns whose text must not be trained on; a.b is the field b of a. Empty: all that are text.",
    )


def read_sets(sets: Iterable[EvaluationSet]) -> Iterator[Item]:
    """The items of all sets, in order, as `HeldOut.build` takes them; their paths lead to files as they are."""
    for one in sets:
        for item, text in read_set(Path(one.path), one.fields):
            yield one.name, item, text


def read_set(path: Path, fields: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """(item, text) of every text in those fields of every row, in the order of the file; empty texts are left out.

    A field `a.b` is the field b of the object (or of each object in the list) a; no fields are all fields. Raises
    UserError for a suffix that is none of SUFFIXES, and RunError for a file that is missing, damaged, not UTF-8 or
    empty, and for a field that is in none of its rows.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"the evaluation set {path} has the suffix {suffix or 'none'!r}",
            f"give a file of one of these: {', '.join(SUFFIXES)}",
        )
    if suffix == ".txt":
        fields = ()
    found = dict.fromkeys(fields, False)
    names: dict[str, None] = {}
    empty = True
    try:
        if not path.is_file():
            raise Unreadable("missing", "there is no such file")
        for row, value in _READERS[suffix](Member(path.name, path)):
            if len(names) < 50:
                names.update(dict.fromkeys(value))
            for field in fields or list(value):
                texts = _strings(value, field.split(".") if fields else [field])
                if fields and texts is not None:
                    found[field] = True
                for text in texts or ():
                    if text.strip():
                        empty = False
                        yield str(row), text
    except (Unreadable, OSError) as error:
        reason = error.reason if isinstance(error, Unreadable) else str(error.strerror or error)
        raise RunError(
            f"cannot read the evaluation set {path}: {reason}",
            "mend the file or its path in curate.decontaminate.evaluation_sets; nothing was compared with it",
        ) from error
    missing = [field for field, there in found.items() if not there]
    if missing and names:
        raise RunError(
            f"the evaluation set {path} has no field {missing[0]} in any row; there are {', '.join(list(names)[:20])}",
            _nearest(missing[0], list(names)),
        )
    if empty:
        raise RunError(
            f"the evaluation set {path} has no text" + (f" in {', '.join(fields)}" if fields else ""),
            "give a file with items, or take the set out of the recipe",
        )


def _strings(value: Any, path: Sequence[str]) -> list[str] | None:
    """Every string at that path; None when the path is not there."""
    if path:
        if isinstance(value, dict):
            # a name may have dots in it
            whole = ".".join(path)
            if whole in value:
                return _strings(value[whole], ())
            return _strings(value[path[0]], path[1:]) if path[0] in value else None
        if isinstance(value, list):
            parts = [found for entry in value if (found := _strings(entry, path)) is not None]
            return [text for part in parts for text in part] if parts or not value else None
        return None
    if isinstance(value, str):
        return [value]
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for entry in entries for text in _strings(entry, ()) or ()]


def _json_lines(member: Member) -> Iterator[Row]:
    return _whole(json_lines(member))


def _json(member: Member) -> Iterator[Row]:
    return _whole(json_objects(member))


def _whole(rows: Iterator[tuple[int, dict[str, Any], str]]) -> Iterator[Row]:
    for row, value, problem in rows:
        if problem:
            raise Unreadable("damaged", f"row {row} is {problem}")
        yield row, value


def _table(member: Member) -> Iterator[Row]:
    text = _utf8(member)
    tabs = member.name.lower().endswith(".tsv")
    # the one that parts the first row into most names
    delimiter = max("\t" if tabs else DELIMITERS, key=lambda tried: len(next(csv_rows(text, tried), ([], ""))[0]))
    rows = csv_rows(text, delimiter, quoted=not tabs)
    names = [name.strip() for name in next(rows, ([], ""))[0]]
    for row, (cells, problem) in enumerate(rows, 1):
        if problem:
            raise Unreadable("damaged", f"row {row} has {problem}")
        if len(cells) > len(names):
            raise Unreadable("damaged", f"row {row} has {len(cells)} fields and the first row {len(names)} names")
        yield row, dict(zip(names, cells, strict=False))


def _parquet(member: Member) -> Iterator[Row]:
    with opened_parquet(member, _ANY_SIZE) as file:
        values = (value for batch in batches(file, _ANY_SIZE) for value in batch.to_pylist())
        yield from enumerate(values, 1)


def _blocks(member: Member) -> Iterator[Row]:
    number = 0
    lines: list[str] = []
    for line in [*_utf8(member).splitlines(), ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            number += 1
            yield number, {"text": "\n".join(lines)}
            lines = []


def _utf8(member: Member) -> str:
    try:
        return member.path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Unreadable("damaged", f"not UTF-8: byte {error.start:,} in line {line:,}") from error


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else "name one of these in `fields`, or leave `fields` out for all"


_READERS: dict[str, Callable[[Member], Iterator[Row]]] = {
    ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".csv": _table, ".tsv": _table,
    ".parquet": _parquet, ".txt": _blocks,
}  # fmt: skip
SUFFIXES = tuple(_READERS)
