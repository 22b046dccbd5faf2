"""Reading one file: unpacking it with a cap, then its text or its rows.

Formats: txt, md, html, htm, py (one item), jsonl, parquet (an item per row); each also packed as gz or zst.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import stat
import tokenize
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from lmcore.collect.charset import clean, decode
from lmcore.collect.extract import html_text
from lmcore.collect.params import FilesSource

PACKINGS = (".gz", ".zst")
PIECE = 64 * 1024
# zstandard cannot be told to stop: 4 bytes may unpack to 128 KiB, so small pieces bound what one call gives.
ZSTD_PIECE = 1024
ZSTD_WINDOW = 128 * 1024 * 1024
ROWS = 256


class Unreadable(Exception):
    """A file that gives nothing: the outcome, and the reason in one line."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(f"{outcome}: {reason}")
        self.outcome = outcome
        self.reason = reason


@dataclass(frozen=True)
class Item:
    """One text of a file: `row` counts from 1, 0 for a file that is one text. `problem` instead of a text."""

    row: int
    text: str = ""
    title: str = ""
    problem: str = ""
    lang: str = "und"
    meta: dict[str, Any] = field(default_factory=dict)


def formats_of(name: str | None = None) -> set[str]:
    """The known format of a file name as a set of one, or none; all of them without a name."""
    if name is None:
        return set(_READERS)
    stem, suffix = os.path.splitext(name.lower())
    if suffix in PACKINGS:
        suffix = os.path.splitext(stem)[1]
    return {suffix} & set(_READERS)


@contextlib.contextmanager
def open_plain(path: Path, work: Path, max_bytes: int) -> Iterator[Path]:
    """The file itself, or an unpacked copy in `work` that is removed afterwards.

    Raises Unreadable for what is no plain file, larger than `max_bytes` when unpacked, truncated or damaged.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("unreadable", "not a plain file")
        # Opened once here so that a missing permission is one outcome for all formats.
        path.open("rb").close()
    except OSError as error:
        raise Unreadable("unreadable", os.strerror(error.errno or 0)) from error
    if path.suffix.lower() not in PACKINGS:
        if facts.st_size > max_bytes:
            raise Unreadable("too_large", f"{facts.st_size:,} bytes, more than {max_bytes:,}")
        yield path
        return
    plain = work / "unpacked"
    try:
        _unpack(path, plain, max_bytes)
        yield plain
    finally:
        plain.unlink(missing_ok=True)


def read_items(name: str, plain: Path, params: FilesSource) -> Iterator[Item]:
    """The texts of an unpacked file in order. Raises Unreadable before the first one when the file is damaged."""
    (suffix,) = formats_of(name)
    return _READERS[suffix](name, plain, params)


def _unpack(path: Path, plain: Path, max_bytes: int) -> None:
    written = 0
    try:
        # Writing may fail too, and that is not the input's fault: it is let through.
        with open(plain, "wb") as target:
            pieces = _gunzip(path) if path.suffix.lower() == ".gz" else _unzstd(path)
            for piece in pieces:
                written += len(piece)
                if written > max_bytes:
                    raise Unreadable("too_large", f"more than {max_bytes:,} bytes unpacked")
                target.write(piece)
    except EOFError as error:
        raise Unreadable("truncated", f"breaks off after {written:,} unpacked bytes") from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise Unreadable("damaged", " ".join(str(error).split())) from error


def _gunzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as source:
        while piece := source.read(PIECE):
            yield piece


def _unzstd(path: Path) -> Iterator[bytes]:
    """Raises EOFError when the last frame is not complete."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = None
    with open(path, "rb") as source:
        while piece := source.read(ZSTD_PIECE):
            while piece:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    if frame is not None:
        raise EOFError


def _read_text(name: str, plain: Path, _: FilesSource) -> Iterator[Item]:
    decoded = decode(_bytes(plain))
    yield _item(name, clean(decoded.text), decoded.charset, decoded.source)


def _read_markdown(name: str, plain: Path, _: FilesSource) -> Iterator[Item]:
    decoded = decode(_bytes(plain))
    text = clean(decoded.text)
    heading = re.search(r"^#[ \t]+(.+?)[ \t]*#*$", text, re.MULTILINE)
    yield _item(heading[1] if heading else name, text, decoded.charset, decoded.source)


def _read_python(name: str, plain: Path, _: FilesSource) -> Iterator[Item]:
    data = _bytes(plain)
    try:
        # PEP 263: the file may name its own charset.
        charset, _lines = tokenize.detect_encoding(io.BytesIO(data).readline)
        yield _item(name, clean(data.decode(charset)), charset, "file")
    except (SyntaxError, UnicodeDecodeError):
        decoded = decode(data)
        yield _item(name, clean(decoded.text), decoded.charset, decoded.source)


def _read_html(name: str, plain: Path, params: FilesSource) -> Iterator[Item]:
    decoded = decode(_bytes(plain), html=True)
    title, text, extractor = html_text(clean(decoded.text), params.min_chars)
    yield _item(title or name, text, decoded.charset, decoded.source, extractor)


def _read_jsonl(_: str, plain: Path, params: FilesSource) -> Iterator[Item]:
    try:
        with open(plain, "rb") as file:
            yield from _json_rows(file, params)
    except OSError as error:
        raise Unreadable("unreadable", os.strerror(error.errno or 0)) from error


def _json_rows(file: BinaryIO, params: FilesSource) -> Iterator[Item]:
    for row, line in enumerate(file, 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            yield Item(row, problem="not UTF-8")
        except (ValueError, RecursionError):
            yield Item(row, problem="not JSON")
        else:
            if not isinstance(value, dict):
                yield Item(row, problem="not a JSON object")
            else:
                yield _row_item(row, value.get(params.text_field), value.get(params.title_field), params)


def _read_parquet(_: str, plain: Path, params: FilesSource) -> Iterator[Item]:
    columns = [params.text_field]
    try:
        with pq.ParquetFile(plain, memory_map=True) as file:
            names = file.schema_arrow.names
            if params.text_field not in names:
                raise Unreadable("no_text_field", f"no column {params.text_field}; there are {', '.join(names[:20])}")
            size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
            if size > params.max_bytes:
                raise Unreadable("too_large", f"{size:,} bytes unpacked, more than {params.max_bytes:,}")
            if params.title_field in names and params.title_field != params.text_field:
                columns.append(params.title_field)
            for _batch in file.iter_batches(ROWS, columns=columns):
                pass  # a damaged file is to give nothing, not its first half
            row = 0
            for batch in file.iter_batches(ROWS, columns=columns):
                titles = batch.column(1).to_pylist() if len(columns) == 2 else [None] * batch.num_rows
                for text, title in zip(batch.column(0).to_pylist(), titles, strict=True):
                    row += 1
                    yield _row_item(row, text, title, params)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        # Without the path: reasons are the same wherever the source lies.
        text = (str(error).replace(str(plain), plain.name).splitlines() or ["not Parquet"])[0]
        raise Unreadable("damaged", text[:300]) from error


def _row_item(row: int, text: Any, title: Any, params: FilesSource) -> Item:
    if text is None:
        return Item(row, problem=f"no {params.text_field}")
    if not isinstance(text, str):
        return Item(row, problem=f"{params.text_field} is not a string")
    return Item(row, clean(text), clean(title) if isinstance(title, str) else "", meta={"extractor": "as is"})


def _item(title: str, text: str, charset: str, charset_source: str, extractor: str = "as is") -> Item:
    meta = {"charset": charset, "charset_source": charset_source, "extractor": extractor}
    return Item(0, text.strip("\n"), clean(title), meta=meta)


def _bytes(plain: Path) -> bytes:
    try:
        return plain.read_bytes()
    except OSError as error:
        raise Unreadable("unreadable", os.strerror(error.errno or 0)) from error


_READERS: dict[str, Callable[[str, Path, FilesSource], Iterator[Item]]] = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".py": _read_python,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
