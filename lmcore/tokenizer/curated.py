"""The texts of a curated artifact, split by split, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmcore.documents import CURATED, read_documents
from storage.parquet import read_parquet


def split_files(curated: Path, split: str) -> list[Path]:
    """The Parquet files of a split in order; none when the split is empty."""
    return sorted((curated / split).glob("*.parquet"))


def file_sizes(curated: Path, split: str) -> list[tuple[Path, npt.NDArray[np.int64]]]:
    """Each file of a split with the UTF-8 bytes of its documents, the texts unread. Raises RunError naming a file."""
    files = split_files(curated, split)
    return [(path, read_parquet(path, ["n_bytes"])["n_bytes"].to_numpy().astype(np.int64)) for path in files]


def split_sizes(curated: Path, split: str) -> npt.NDArray[np.int64]:
    """UTF-8 bytes of every document of a split, in order. Raises RunError naming a file."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *(sizes for _, sizes in file_sizes(curated, split))])


def split_texts(curated: Path, split: str) -> Iterator[str]:
    """Every text of a split in order, one file in memory at a time. Raises RunError naming a file that is not valid."""
    for path in split_files(curated, split):
        yield from (text.as_py() for text in read_documents(path, CURATED)["text"])
