"""Translations: pairs of texts in two languages, of every format they are published in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from lmcore.collect.charset import clean, decode
from lmcore.collect.csv_rows import csv_rows
from lmcore.collect.items import Item, Read, read_bytes
from lmcore.collect.json_rows import JsonRow, json_lines
from lmcore.collect.pairs import Pair, ParallelSource, is_language, records
from lmcore.collect.unpack import PIECE, Member, Unreadable, plain_name


def _read_moses(member: Member, params: ParallelSource) -> Iterator[Item]:
    """Two files with as many lines each, NAME.SOURCE and NAME.TARGET, as OPUS has them."""
    yield from records(_lines(member.path, _beside(member, params.target_lang)), params, "moses")


def _read_other_side(member: Member, params: ParallelSource) -> Iterator[Item]:
    _beside(member, params.source_lang)
    yield from ()
    raise Unreadable("companion", f"read with the file in {params.source_lang}")


def _beside(member: Member, lang: str) -> Path:
    name = f"{plain_name(member.name).rpartition('.')[0]}.{lang}"
    path = member.beside(name)
    if path is None:
        raise Unreadable("no_pair", f"there is no {name} beside it (in the same folder, archive or place of a server)")
    return path


def _lines(one: Path, other: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(open(path, "rb")) for path in (one, other)]
            counts = [_count_lines(file) for file in files]
            if counts[0] != counts[1]:
                raise Unreadable("damaged", f"{counts[0]:,} lines and {counts[1]:,} in the other language")
            for row, lines in enumerate(zip_longest(*files, fillvalue=b""), 1):
                try:
                    texts = [line.decode("utf-8-sig" if row == 1 else "utf-8") for line in lines]
                except UnicodeDecodeError:
                    yield Pair(row, problem="not UTF-8")
                else:
                    yield Pair(row, *texts)
        except OSError as error:
            raise Unreadable.of(error) from error


def _count_lines(file: BinaryIO) -> int:
    lines, last = 0, b"\n"
    while piece := file.read(PIECE):
        lines, last = lines + piece.count(b"\n"), piece
    file.seek(0)
    return lines + (not last.endswith(b"\n"))


def _read_tsv(member: Member, params: ParallelSource) -> Iterator[Item]:
    text = _decoded(member, params)
    rows = (line.split("\t") for line in text.split("\n"))
    yield from records(_table(((row, "") for row in rows), params), params, "tsv")


def _read_csv(member: Member, params: ParallelSource) -> Iterator[Item]:
    yield from records(_table(csv_rows(_decoded(member, params)), params), params, "csv")


def _decoded(member: Member, params: ParallelSource) -> str:
    hint = params.source_lang if is_language(params.target_lang, "en") else params.target_lang
    return clean(decode(read_bytes(member.path), lang=hint).text)


def _table(rows: Iterator[tuple[list[str], str]], params: ParallelSource) -> Iterator[Pair]:
    """Pairs of a table; its first row names the columns if the names that are looked for are in it."""
    wanted = (params.source_field or params.source_lang, params.target_field or params.target_lang)
    places = (0, 1)
    for number, (row, problem) in enumerate(rows, 1):
        if number == 1:
            names = [name.strip().lower() for name in row]
            if all(name.lower() in names for name in wanted):
                places = (names.index(wanted[0].lower()), names.index(wanted[1].lower()))
                continue
            if params.source_field:
                raise Unreadable("no_text_field", f"no columns {wanted[0]} and {wanted[1]} in its first row")
        if problem:
            yield Pair(number, problem=problem)
        elif len(row) > max(places):
            yield Pair(number, row[places[0]], row[places[1]])
        elif any(cell.strip() for cell in row):
            yield Pair(number, problem="too few columns")


def _read_jsonl(member: Member, params: ParallelSource) -> Iterator[Item]:
    yield from records(row_pairs(json_lines(member), params), params, "jsonl")


def row_pairs(rows: Iterator[JsonRow], params: ParallelSource) -> Iterator[Pair]:
    """Pairs of rows with a key for each side, or with {"translation": {"en": ..., "hu": ...}} as on Hugging Face."""
    for row, value, problem in rows:
        nested = value.get("translation")
        found = nested if isinstance(nested, dict) and not params.source_field else value
        source = found.get(params.source_field or params.source_lang)
        target = found.get(params.target_field or params.target_lang)
        if problem or not isinstance(source, str) or not isinstance(target, str):
            yield Pair(row, problem=problem or "no text of both languages")
        else:
            yield Pair(row, source, target)


def formats(params: ParallelSource) -> Mapping[str, Read]:
    """The readers, by suffix; those of Moses' files are the languages."""
    from lmcore.collect.parallel_gettext import read_mo, read_po  # with their libraries, which a recipe does without
    from lmcore.collect.parallel_tmx import read_tmx

    return {
        f".{params.source_lang.lower()}": _read_moses,
        f".{params.target_lang.lower()}": _read_other_side,
        ".tmx": read_tmx,
        ".tsv": _read_tsv,
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".po": read_po,
        ".mo": read_mo,
    }
