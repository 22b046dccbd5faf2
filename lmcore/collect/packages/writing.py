"""Files of a set: packed JSON lines, or a packed tar of texts; the same rows give the same bytes."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lmcore.collect.kinds import NAMES, reader
from lmcore.collect.packages.sets import Set
from lmcore.collect.packages.texts import Row
from lmcore.collect.params import PathsSource, Source
from lmcore.collect.unpack import opened
from lmcore.samples import Listed
from storage.atomic import write_bytes
from storage.digest import digest_file
from storage.errors import RunError

_MAX_BYTES = 1_000_000_000


def write(path: Path, rows: Iterable[Row], preset: int) -> None:
    """Write rows as the file's name says. `preset` is xz's."""
    if path.name.endswith(".jsonl.xz"):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    else:
        data = _tar(rows)
    write_bytes(path, lzma.compress(data, preset=preset))


def read(path: Path) -> Iterator[Row]:
    """The rows of a file that `write` wrote."""
    data = lzma.decompress(path.read_bytes())
    if path.name.endswith(".jsonl.xz"):
        yield from map(json.loads, data.decode().splitlines())
        return
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for entry in archive:
            source = archive.extractfile(entry)
            assert source is not None, "only plain files are written"
            yield {"name": entry.name, "text": source.read().decode()}


def _tar(rows: Iterable[Row]) -> bytes:
    """A tar whose members have no owner and no time."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:", format=tarfile.USTAR_FORMAT) as archive:
        for row in sorted(rows, key=lambda row: str(row["name"])):
            data = row["text"].encode()
            entry = tarfile.TarInfo(row["name"])
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def described(each: Set, path: Path, packages: str, work: Path) -> Listed:
    """The row of a table for a file that was written: counted as its kind of source reads it.

    Raises RunError when that gives no record.
    """
    row = Listed(
        each.name, path.name, each.reads, each.kind, each.languages, 0, 0, path.stat().st_size,
        each.licence, each.licence_source, packages, digest_file(path),
    )  # fmt: skip
    records, size = _counted(path, row, work)
    if not records:
        raise RunError(f"set {each.name}: nothing could be read of it", "its packages may have changed: report it")
    return Listed(**{**vars(row), "records": records, "bytes": size})


def _counted(path: Path, row: Listed, work: Path) -> tuple[int, int]:
    """(records, UTF-8 bytes of their text)."""
    kind: type[Source] = NAMES[row.reads]
    assert issubclass(kind, PathsSource), "sets are files"
    params = kind(name="sample", paths=(path.name,), **row.settings())
    records = size = 0
    with opened(path, path.name, work, _MAX_BYTES, lambda name: reader(params, name) is not None) as members:
        for member in members:
            read_member = reader(params, member.name)
            assert read_member is not None
            for item in read_member(member, params):
                if not item.problem and item.text.strip() and len(item.text) >= params.min_chars:
                    records += 1
                    size += len(item.text.encode())
    return records, size
