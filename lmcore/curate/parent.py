"""The corpus before this one: what stood in it keeps its place and its side, and is not written again.

A corpus is whole by itself. Files whose texts stand as they are become links to the same bytes (on a file system
without links, copies), so a night costs what is new.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.facts import FACTS, facts
from lmcore.curate.ids import Ids, heads, ids
from lmcore.curate.sides import Sides
from lmcore.documents import SPLITS
from storage.atomic import disk_errors, fsync_path
from storage.errors import RunError
from storage.parquet import read_parquet

ABOUT = "provenance/corpus.json"  # no part of the content: an unchanged corpus is the same one
MAX_BATCHES = 30  # from which on everything is written anew, into few files
# what makes a row the same as before
SAME = ("text_id", "n_bytes", "quality", "complexity", "cluster_size", "facts")
_READ = ["record_id", *FACTS, *(name for name in SAME if name != "facts")]


def read_about(folder: Path) -> dict[str, Any]:
    """What a curated artifact says of how it was made. Raises RunError when it is missing or damaged."""
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {
            "measures": [str(key) for key in about["measures"]],
            "compares": [str(key) for key in about["compares"]],
            "batch": int(about["batch"]),
            "settings": str(about["settings"]),
            "salt": str(about["salt"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"cannot read {path}: {error}",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error


@dataclass(frozen=True)
class Parent:
    """M texts of an earlier corpus, sorted by record id."""

    folder: Path
    about: dict[str, Any]
    ids: Ids  # (M,)
    split: NDArray[np.int8]  # (M,) index into SPLITS
    file: NDArray[np.int32]  # (M,) index into files
    columns: dict[str, NDArray[Any]]  # SAME, each (M,)
    files: list[Path]
    sides: Sides  # of this and all corpora before


def read_parent(folder: Path) -> Parent:
    """What an earlier corpus keeps. Raises RunError naming a damaged file."""
    files: list[Path] = []
    parts: list[dict[str, NDArray[Any]]] = []
    for index, split in enumerate(SPLITS):
        for path in sorted((folder / split).glob("*.parquet")):
            table = read_parquet(path, _READ)
            parts.append(
                {
                    "ids": ids(table["record_id"]),
                    "split": np.full(table.num_rows, index, np.int8),
                    "file": np.full(table.num_rows, len(files), np.int32),
                    **{name: _array(table, name) for name in SAME if name != "facts"},
                    "facts": facts(table),
                }
            )
            files.append(path)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["ids"], kind="stable")
    joined = {name: array[order] for name, array in joined.items()}
    return Parent(
        folder=folder,
        about=read_about(folder),
        sides=Sides.read(folder),
        columns={name: joined.pop(name) for name in SAME},
        files=files,
        **joined,
    )


def link(old: Path, new: Path) -> None:
    """Make `new` the same file as `old`, or a copy where the file system has no links."""
    with disk_errors(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        try:
            os.link(old, new)
        except OSError:
            part = new.with_name(f".{new.name}.part")
            shutil.copyfile(old, part)
            fsync_path(part)
            os.replace(part, new)  # a resumed run can trust whatever is there


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    column = table[name]
    return heads(column) if name == "text_id" else column.to_numpy()
