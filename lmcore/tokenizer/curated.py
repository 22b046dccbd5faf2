"""The texts of a curated artifact, split by split, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lmcore.documents import CURATED, read_documents
from storage.errors import RunError
from storage.parquet import read_parquet


def split_files(curated: Path, split: str) -> list[Path]:
    """The Parquet files of a split in order; none when the split is empty."""
    return sorted((curated / split).glob("*.parquet"))


def repeated(table: pa.Table) -> pa.Table:
    """Rows of a file, each as often as its column `repeats` says it is learnt from (null: once), one after another."""
    if table["repeats"].null_count == table.num_rows:
        return table
    often = pc.fill_null(table["repeats"], 1).to_numpy()
    return table.take(np.repeat(np.arange(table.num_rows), often))


def file_sizes(curated: Path, split: str) -> list[tuple[Path, npt.NDArray[np.int64]]]:
    """Each file of a split with the UTF-8 bytes of its documents as `repeated`. Raises RunError naming a file."""
    files = split_files(curated, split)
    tables = (repeated(read_parquet(path, ["n_bytes", "repeats"])) for path in files)
    return [(path, table["n_bytes"].to_numpy().astype(np.int64)) for path, table in zip(files, tables, strict=True)]


def split_sizes(curated: Path, split: str) -> npt.NDArray[np.int64]:
    """UTF-8 bytes of every document of a split, in order. Raises RunError naming a file."""
    sizes = (read_parquet(path, ["n_bytes"])["n_bytes"].to_numpy() for path in split_files(curated, split))
    return np.concatenate([np.zeros(0, dtype=np.int64), *sizes])


def split_rows(curated: Path, split: str) -> Iterator[dict[str, str]]:
    """`record_id`, `lang`, `source`, `kind` and `text` of every document of a split in order, one file in memory.

    Raises RunError naming a file that is not valid.
    """
    for path in split_files(curated, split):
        table = read_documents(path, CURATED).select(["record_id", "lang", "source", "kind", "text"])
        for batch in table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()


def language_sizes(curated: Path, split: str) -> dict[str, int]:
    """UTF-8 bytes of a split by language, sorted. Raises RunError naming a file."""
    tables = [read_parquet(path, ["lang", "n_bytes"]) for path in split_files(curated, split)]
    if not tables:
        return {}
    summed = pa.concat_tables(tables).group_by("lang").aggregate([("n_bytes", "sum")]).to_pylist()
    return dict(sorted((row["lang"], row["n_bytes_sum"]) for row in summed))


def language_weights(sizes: Mapping[str, int], weights: Mapping[str, float], alpha: float) -> dict[str, float]:
    """How often the text of each language is learnt from: `weights`, or shares of text to the power of `alpha`.

    With `alpha` the largest language counts once. Raises RunError for a weight of a language that `sizes` has not.
    """
    if unknown := sorted(weights.keys() - sizes.keys()):
        raise RunError(
            f"tokenizer.weights names {unknown[0]}, a language the training text does not have: "
            f"it has {', '.join(sizes) or 'none'}",
            "name languages as the sources do, or take the weight out",
        )
    largest = max(sizes.values(), default=0)
    if alpha == 1:
        return {language: weights.get(language, 1.0) for language in sizes}
    return {language: round((largest / n) ** (1 - alpha), 6) if n else 1.0 for language, n in sizes.items()}


def copies(record_id: str, weight: float) -> int:
    """How often a document is taken to make its language count `weight` times.

    The whole part always, and once more in that share of the documents that the fraction says, chosen by record id: so
    the order of the documents does not matter.
    """
    whole = int(weight)
    return whole + (int(record_id[:12], 16) / 16**12 < weight - whole)
