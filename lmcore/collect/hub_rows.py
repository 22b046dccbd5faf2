"""The rows of a data file of the Hub, whatever it is written in, and the texts in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lmcore.collect.charset import clean
from lmcore.collect.items import Item
from lmcore.collect.json_rows import JsonRow, json_lines, json_objects
from lmcore.collect.parquet_rows import batches, opened_parquet, row_count
from lmcore.collect.text_lines import text_lines
from lmcore.collect.unpack import Member, Unreadable, plain_name

if TYPE_CHECKING:
    from lmcore.collect.hub_params import HubSource

_HEADING = re.compile(r"^\s= ([^=].*?) = $")  # of an article; sections have more of the signs


def _parquet(member: Member, max_bytes: int) -> Iterator[JsonRow]:
    with opened_parquet(member, max_bytes) as file:
        values = (value for batch in batches(file, max_bytes) for value in batch.to_pylist())
        for row, value in enumerate(values, 1):
            yield row, value, ""


def _json(member: Member) -> Iterator[JsonRow]:
    """An array, or lines in spite of the suffix."""
    try:
        with open(member.path, "rb") as file:
            begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except OSError as error:
        raise Unreadable.of(error) from error
    return json_objects(member) if begin == b"[" else json_lines(member)


def _csv(member: Member) -> Iterator[JsonRow]:
    lines = text_lines(member)
    rows = csv.DictReader(lines, delimiter="\t" if ".tsv" in member.name.lower() else ",")
    row = 0
    while True:
        row += 1
        try:
            value = next(rows)
        except csv.Error:  # a quote that is never closed, most likely
            yield row, {}, "not CSV"
        except StopIteration:
            return
        else:
            yield row, {str(name): cell for name, cell in value.items()}, ""


def _lines(member: Member) -> Iterator[JsonRow]:
    """A file that ends in a newline has an empty row after it, as Python's split has."""
    line, row = "\n", 0
    for row, line in enumerate(text_lines(member), 1):
        yield row, {"text": line.removesuffix("\n")}, ""
    if line.endswith("\n"):
        yield row + 1, {"text": ""}, ""


_READERS: dict[str, Callable[[Member], Iterator[JsonRow]]] = {
    ".jsonl": json_lines, ".ndjson": json_lines, ".json": _json, ".csv": _csv, ".tsv": _csv, ".txt": _lines,
}  # fmt: skip
_PARQUET = ".parquet"
SUFFIXES = (_PARQUET, *_READERS)


def rows_of(member: Member, max_bytes: int) -> Iterator[JsonRow]:
    """The rows of a plain file, numbered from 1. Raises Unreadable, for Parquet of more than `max_bytes` too: other
    files' bytes are known before they are read.
    """
    name = plain_name(member.name.lower())
    if name.endswith(_PARQUET):
        return _parquet(member, max_bytes)
    return next(read for suffix, read in _READERS.items() if name.endswith(suffix))(member)


def count_rows(member: Member, max_bytes: int) -> int:
    """Rows of a plain file. Raises Unreadable."""
    if plain_name(member.name.lower()).endswith(_PARQUET):
        return row_count(member)
    return sum(1 for _ in rows_of(member, max_bytes))


def items_of(rows: Iterator[JsonRow], params: HubSource) -> Iterator[Item]:
    """The texts of rows, by the source's shape. Raises Unreadable when the first row has none of its columns."""
    from lmcore.collect import chat, pairs, parallel, qa

    if params.shape == "chat":
        return chat.conversations(rows, params.chats())
    if params.shape == "qa":
        return qa.questions(_has(rows, ["context", "question"]), params.questions())
    if params.shape == "pair":
        of = params.pairs()
        sides = [of.source_field or of.source_lang, of.target_field or of.target_lang]
        return pairs.records(parallel.row_pairs(_has(rows, sides, "translation"), of), of, "rows")
    if params.shape == "wikitext":
        return _articles(_has(rows, [params.text_field]), params.text_field)
    return (_text(*row, params) for row in _has(rows, [params.text_field]))


def _has(rows: Iterator[JsonRow], columns: list[str], instead: str = "") -> Iterator[JsonRow]:
    """The rows, when the first good one has these columns."""
    looked = False
    for row, value, problem in rows:
        if not looked and not problem:
            looked = True
            missing = [column for column in columns if column not in value]
            if missing and instead not in value:
                raise Unreadable("no_text_field", f"no column {missing[0]}; there are {', '.join(sorted(value)[:20])}")
        yield row, value, problem


def _text(row: int, value: dict[str, Any], problem: str, params: HubSource) -> Item:
    text, title = value.get(params.text_field), value.get(params.title_field)
    if problem or not isinstance(text, str):
        return Item(
            row,
            problem=problem or (f"no {params.text_field}" if text is None else f"{params.text_field} is not a string"),
        )
    return Item(row, clean(text), clean(title) if isinstance(title, str) else "", meta={"extractor": "as is"})


def _articles(rows: Iterator[JsonRow], field: str) -> Iterator[Item]:
    """The articles of WikiText, which comes line by line; named by the row of their heading."""
    first, title, lines = 0, "", list[str]()

    def article() -> Iterator[Item]:
        text = "\n".join(line.strip() for line in lines if line.strip())
        if text:
            yield Item(first, text, title, meta={"extractor": "wikitext"})

    for row, value, problem in rows:
        line = value.get(field)
        if problem or not isinstance(line, str):
            yield Item(row, problem=problem or f"no {field}")
            continue
        line = clean(line)
        heading = _HEADING.match(line.rstrip("\n"))
        if heading or not first:
            yield from article()
            first, title, lines = row, heading[1] if heading else "", []
        lines.append(line)
    yield from article()
