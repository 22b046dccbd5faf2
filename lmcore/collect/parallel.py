"""Translations: pairs of texts in two languages, of every format they are published in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from pydantic import Field, model_validator

from lmcore.collect.charset import clean, decode
from lmcore.collect.csv_rows import csv_rows
from lmcore.collect.items import Item, Read, read_bytes
from lmcore.collect.json_rows import JsonRow, json_lines
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.turns import conversation
from lmcore.collect.unpack import PIECE, Member, Unreadable, plain_name
from lmcore.conversation import Template, translation_task

_LANG = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"


class ParallelSource(PathsSource):
    """Translations."""

    together: ClassVar[bool] = True

    kind: Literal["parallel"] = Field(default="parallel", description="Pairs of a text and its translation.")
    text_kind: TextKind = Field(default="pair", description="What kind of text this is.")
    source_lang: str = Field(pattern=_LANG, description="Language of the one side (BCP 47); of gettext's msgid.")
    target_lang: str = Field(pattern=_LANG, description="Language of the other side.")
    directions: Literal["both", "forward", "backward"] = Field(
        default="both", description="forward: from source_lang to target_lang; both: two records a pair."
    )
    template: Template = Field(
        default="tags",
        description="How a pair is written: tags is '<system>Translate English to Hungarian.</system><user>...</user>"
        "<assistant>...</assistant>'; script is 'System: ...', 'User: ...', 'Assistant: ...' on lines.",
    )
    source_field: str = Field(
        default="",
        description="Column (of csv, tsv) or key (jsonl) of the one side; empty: source_lang, else the first.",
    )
    target_field: str = Field(default="", description="... of the other side; empty: target_lang, else the second.")

    @model_validator(mode="after")
    def _two_languages(self) -> ParallelSource:
        if self.source_lang.lower() == self.target_lang.lower():
            raise ValueError(f"source_lang and target_lang are both {self.source_lang}")
        if bool(self.source_field) != bool(self.target_field):
            raise ValueError("give both of source_field and target_field, or none")
        return self


@dataclass(frozen=True)
class Pair:
    """A text and its translation, or the `problem` there is in their place."""

    part: str | int
    source: str = ""
    target: str = ""
    problem: str = ""


def records(pairs: Iterator[Pair], params: ParallelSource, extractor: str) -> Iterator[Item]:
    """The records of pairs: one or two each, of one origin."""
    forward, backward = (params.source_lang, params.target_lang), (params.target_lang, params.source_lang)
    for pair in pairs:
        source, target = clean(pair.source).strip(), clean(pair.target).strip()
        problem = pair.problem or _problem(source, target)
        if problem:
            yield Item(pair.part, problem=problem)
            continue
        part = str(pair.part)
        if params.directions != "backward":
            yield _record(part, source, target, *forward, params, extractor)
        if params.directions != "forward":
            yield _record(part, target, source, *backward, params, extractor)


def _problem(source: str, target: str) -> str:
    if not source:
        return "no source text"
    if not target:
        return "untranslated"
    return "the same in both languages" if source == target else ""


def _record(
    part: str, given: str, wanted: str, given_lang: str, wanted_lang: str, params: ParallelSource, extractor: str
) -> Item:
    messages = [("system", translation_task(given_lang, wanted_lang)), ("user", given), ("assistant", wanted)]
    meta = {"extractor": extractor, "source_lang": given_lang, "target_lang": wanted_lang}
    name = f"{part}/{given_lang}-{wanted_lang}"
    return conversation(name, messages, params.template, meta, lang=wanted_lang, origin=part)


def is_language(code: str, wanted: str) -> bool:
    """Whether a code as files have it (en_US, EN-GB, en) is the wanted language or a variety of it."""
    tidy = code.strip().replace("_", "-").partition(".")[0].partition("@")[0].lower()
    return tidy == wanted.lower() or tidy.startswith(f"{wanted.lower()}-")


def digest(*texts: str) -> str:
    """Names an entry by what it is, 16 hex digits."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
    from lmcore.collect.parallel_gettext import read_mo, read_po
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
