"""Samples: small real texts that come with the program, each under a licence under which it may be passed on.

A recipe names one in the `paths` of a source as `samples:NAME`. `collect-train data` fetches the larger set of the same
name; where that is, the same recipe reads it instead, and the run says which of the two it read. Both folders have a
table, SOURCES.tsv, of what is in them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lmcore.collect.params import PathsSource, Source
from storage.errors import UserError

FOLDER = Path(__file__).parent
TABLE = "SOURCES.tsv"
PREFIX = "samples:"
VARIABLE = "COLLECT_TRAIN_DATA"  # folder of what `collect-train data` fetched
NONE = "none"  # its value for: the samples, whatever was fetched


@dataclass(frozen=True)
class Listed:
    """One row of a table: what a file holds and on what terms."""

    name: str
    file: str
    reads: str  # the kind of source that reads it
    kind: str  # of text
    languages: str  # BCP 47, with a blank between those of pairs
    records: int  # that this kind of source gives
    bytes: int  # of text in them, UTF-8
    packed: int  # bytes of the file
    licence: str  # SPDX expression
    licence_source: str  # where it says so
    packages: str  # client:NAME=VERSION, with a blank between
    sha256: str  # of the file

    def settings(self) -> dict[str, Any]:
        """What a source that reads it is told besides its name and where it lies."""
        given: dict[str, Any] = {"kind": self.reads, "license": self.licence, "text_kind": self.kind}
        if self.reads == "parallel":
            given["source_lang"], given["target_lang"] = self.languages.split()
        else:
            given["lang"] = self.languages
        return given


def listed(folder: Path) -> dict[str, Listed]:
    """The table of a folder, by name. Raises UserError when it cannot be read or is none."""
    path = folder / TABLE
    names = [field.name for field in fields(Listed)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
        if not lines or lines[0].split("\t") != names:
            raise ValueError("other columns")
        numbers = ("records", "bytes", "packed")
        found = [Listed(**{n: int(v) if n in numbers else v for n, v in row.items()}) for row in rows]  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no table of samples ({error})", f"name another folder in {VARIABLE}, or write {VARIABLE}={NONE}"
        ) from error
    return {row.name: row for row in found}


def table(rows: Iterable[Listed]) -> str:
    """The text of a table, ordered by name."""
    lines = ["\t".join(field.name for field in fields(Listed))]
    lines += ["\t".join(str(value) for value in asdict(row).values()) for row in sorted(rows, key=lambda r: r.name)]
    return "\n".join(lines) + "\n"


def named_folder() -> Path:
    """Where `collect-train data` puts its sets: the folder that COLLECT_TRAIN_DATA names, else ./data."""
    named = os.environ.get(VARIABLE, "")
    return Path("data" if named in ("", NONE) else named).expanduser().absolute()


def data_folder() -> Path | None:
    """Where fetched sets lie; None when there are none, or the variable says `none`.

    Raises UserError when the variable names a folder that has none.
    """
    named = os.environ.get(VARIABLE, "")
    if named == NONE:
        return None
    folder = named_folder()
    if (folder / TABLE).is_file():
        return folder
    if named:
        raise UserError(
            f"{VARIABLE} names {folder}, and there is no {TABLE} in it",
            f"fetch the sets with `collect-train data --to {folder}`, or write {VARIABLE}={NONE} for the samples",
        )
    return None


def resolve(source: dict[str, Any]) -> None:
    """Put the files in the place of `samples:NAME` in the paths of a source, and say its licence and language.

    All of a source's samples are read from one folder: the fetched sets if every one of them was fetched, else those
    that came with the program. Raises UserError for an unknown name, a file that is gone, or paths of two sorts.
    """
    paths = source.get("paths")
    if not isinstance(paths, list) or not any(_is_sample(path) for path in paths):
        return
    where = f"source {source.get('name', '')}"
    if not all(_is_sample(path) for path in paths) or "base" in source:
        raise UserError(f"{where} reads samples and other files", "make two sources of it; samples need no `base`")
    names = [path.removeprefix(PREFIX).strip() for path in paths]
    shipped, folder = listed(FOLDER), data_folder()
    fetched = listed(folder) if folder else {}
    known = {**shipped, **fetched}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{where}: there is no sample {name!r}", f"{hint}there are {', '.join(sorted(known))}")
    if folder is None or not all(name in fetched for name in names):
        folder, fetched = FOLDER, shipped
    if missing := [name for name in names if name not in fetched]:
        raise UserError(f"{where}: {', '.join(missing)} did not come with the program", "run `collect-train data`")
    rows = [fetched[name] for name in names]
    for row in rows:
        if not (folder / row.file).is_file():
            raise UserError(f"{where}: {folder / row.file} is gone", "run `collect-train data` again")
    source["base"], source["paths"] = str(folder), [row.file for row in rows]
    if len({row.licence for row in rows}) == 1:
        source.setdefault("license", rows[0].licence)
    if len({row.languages for row in rows}) == 1 and " " not in rows[0].languages:
        source.setdefault("lang", rows[0].languages)


def readings(sources: Sequence[Source]) -> Iterator[str]:
    """One line for each source that reads samples or what was fetched in their place: which file it is."""
    tables: dict[Path, dict[str, Listed]] = {FOLDER: listed(FOLDER)}
    with contextlib.suppress(UserError):  # a folder of that name that has nothing to do with samples
        tables[named_folder()] = listed(named_folder())
    for source in sources:
        if not isinstance(source, PathsSource):
            continue
        base = Path(source.base)
        by_file = {row.file: row for row in tables.get(base, {}).values()}
        for row in (by_file[path] for path in source.paths if path in by_file):
            size = f"{row.records:,} records, {row.bytes / 1e6:.1f} MB, {row.licence}"
            if base == FOLDER:
                yield f"source {source.name} reads the sample {row.name} ({size}); `collect-train data` fetches more"
            else:
                yield f"source {source.name} reads {row.name} as fetched into {base} ({size})"


def _is_sample(path: Any) -> bool:
    return isinstance(path, str) and path.startswith(PREFIX)
