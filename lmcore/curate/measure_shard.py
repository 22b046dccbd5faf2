"""One shard measured: what a process of `measure` does, again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.curate.bands import write_bands
from lmcore.curate.boilerplate import line_table
from lmcore.curate.measured import measure
from lmcore.curate.minhash import band_keys
from lmcore.curate.params import MeasureParams
from lmcore.curate.processes import serve
from storage.parquet import read_parquet, replace_parquet

ROWS_PER_GROUP = 250  # near-duplicates are verified by reading single texts: a group is what is decompressed for one


def answer(job: dict[str, Any]) -> int:
    """Measure the shard that a job names and remove it; gives its rows. Raises RunError for an unreadable one."""
    path, out = Path(job["shard"]), Path(job["out"])
    documents = read_parquet(path)
    table = measure(documents, MeasureParams.model_validate_json(job["params"]))
    name = f"{job['number']:05d}.parquet"
    keys = band_keys(table["text"].to_pylist())
    write_bands(out / "bands" / name, table["words_hash"].to_pylist(), keys)
    replace_parquet(out / "lines" / name, line_table(table["text"].to_pylist()))
    replace_parquet(out / "measured" / name, table, ROWS_PER_GROUP)  # the last: a shard with this file is done
    path.unlink()
    return int(documents.num_rows)


if __name__ == "__main__":
    serve(answer)
