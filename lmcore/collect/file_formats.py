"""One plain file of the kind `files`: its text (txt, md, html, htm, py) or its rows (jsonl, csv, tsv, parquet)."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from lmcore.collect.charset import clean, decode
from lmcore.collect.csv_rows import table
from lmcore.collect.extract import html_text
from lmcore.collect.items import Item, Read, read_bytes
from lmcore.collect.json_rows import json_lines
from lmcore.collect.params import FilesSource
from lmcore.collect.parquet_rows import batches, opened_parquet
from lmcore.collect.unpack import Member, Unreadable, plain_name


def _read_text(member: Member, _: FilesSource) -> Iterator[Item]:
    decoded = decode(read_bytes(member.path))
    yield _item(member.name, clean(decoded.text), decoded.charset, decoded.source)


def _read_markdown(member: Member, _: FilesSource) -> Iterator[Item]:
    decoded = decode(read_bytes(member.path))
    text = clean(decoded.text)
    heading = re.search(r"^#[ \t]+(.+?)[ \t]*#*$", text, re.MULTILINE)
    yield _item(heading[1] if heading else member.name, text, decoded.charset, decoded.source)


def _read_python(member: Member, _: FilesSource) -> Iterator[Item]:
    data = read_bytes(member.path)
    try:
        # PEP 263: the file may name its own charset.
        charset, _lines = tokenize.detect_encoding(io.BytesIO(data).readline)
        yield _item(member.name, clean(data.decode(charset)), charset, "file")
    except (SyntaxError, UnicodeDecodeError):
        decoded = decode(data)
        yield _item(member.name, clean(decoded.text), decoded.charset, decoded.source)


def _read_html(member: Member, params: FilesSource) -> Iterator[Item]:
    decoded = decode(read_bytes(member.path), html=True)
    title, text, extractor = html_text(clean(decoded.text), params.min_chars)
    yield _item(title or member.name, text, decoded.charset, decoded.source, extractor)


def _read_jsonl(member: Member, params: FilesSource) -> Iterator[Item]:
    for row, value, problem in json_lines(member):
        if problem:
            yield Item(row, problem=problem)
        else:
            yield _row_item(row, value.get(params.text_field), value.get(params.title_field), params)


def _read_table(member: Member, params: FilesSource) -> Iterator[Item]:
    decoded = decode(read_bytes(member.path), lang=params.lang)
    about = {"charset": decoded.charset, "charset_source": decoded.source, "extractor": "as is"}
    suffix = PurePosixPath(plain_name(member.name.lower())).suffix
    names, rows = table(clean(decoded.text), suffix, params.text_field)
    place = names.index(params.text_field)
    title_place = names.index(params.title_field) if params.title_field in names else None
    for number, (row, problem) in enumerate(rows, 2):  # the names are row 1
        if problem:
            yield Item(number, problem=problem)
        elif len(row) > len(names):
            yield Item(number, problem="more fields than names")
        elif place < len(row):
            title = row[title_place] if title_place is not None and title_place < len(row) else ""
            yield Item(number, row[place], title.strip(), meta=about)
        elif row:
            yield Item(number, problem=f"no {params.text_field}")


def _read_parquet(member: Member, params: FilesSource) -> Iterator[Item]:
    columns = [params.text_field]
    with opened_parquet(member, params.max_bytes) as file:
        names = file.schema_arrow.names
        if params.text_field not in names:
            raise Unreadable("no_text_field", f"no column {params.text_field}; there are {', '.join(names[:20])}")
        if params.title_field in names and params.title_field != params.text_field:
            columns.append(params.title_field)
        for _batch in batches(file, params.max_bytes, columns):
            pass  # a damaged file is to give nothing, not its first half
        row = 0
        for batch in batches(file, params.max_bytes, columns):
            titles = batch.column(1).to_pylist() if len(columns) == 2 else [None] * batch.num_rows
            for text, title in zip(batch.column(0).to_pylist(), titles, strict=True):
                row += 1
                yield _row_item(row, text, title, params)


def _row_item(row: int, text: Any, title: Any, params: FilesSource) -> Item:
    if text is None:
        return Item(row, problem=f"no {params.text_field}")
    if not isinstance(text, str):
        return Item(row, problem=f"{params.text_field} is not a string")
    return Item(row, clean(text), clean(title) if isinstance(title, str) else "", meta={"extractor": "as is"})


def _item(title: str, text: str, charset: str, charset_source: str, extractor: str = "as is") -> Item:
    meta = {"charset": charset, "charset_source": charset_source, "extractor": extractor}
    return Item("", text.strip("\n"), clean(title), meta=meta)


FORMATS: Mapping[str, Read] = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".py": _read_python,
    ".jsonl": _read_jsonl,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
}
