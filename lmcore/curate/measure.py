"""Stage `measure`: every collected text normalised and measured once, by what the text alone tells.

Takes one collected artifact and measures the texts that it holds itself; those that it refers to were measured with
the edition that holds them. So a night measures what is new and nothing else, and other limits measure nothing.

Layout of `work/out`: measured/*.parquet (MEASURED), bands/*.parquet (row by row what near-duplicates are found by),
lines/*.parquet (how many texts have a line), forgotten.parquet (what may not come back), stats.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.collect.editions import document_files
from lmcore.curate import measure_shard
from lmcore.curate.language import require_known
from lmcore.curate.measured import bounds, text_bytes
from lmcore.curate.params import MeasureParams, MeasureRuntime
from lmcore.curate.privacy import blank_all
from lmcore.curate.processes import in_processes
from lmcore.documents import DOCUMENT, validate
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.parquet import batches, read_parquet, write_parquet

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

SHARD_BYTES = 8 << 20  # of raw text: fixed, since it settles which file a text is in
FORGOTTEN_ROW = pa.schema([*(DOCUMENT.field(name) for name in ("record_id", "source", "url")), ("bytes", pa.int64())])


def measure_collected(
    work: Path,
    collected: Path,
    *,
    params: MeasureParams,
    runtime: MeasureRuntime,
    report: Report,
    forgotten: Forgotten | None = None,
) -> dict[str, Any]:
    """Measure the texts of the collected artifact `collected` into `work/out` and give the figures for the summary.

    Finished shards are not measured again. The result depends neither on how many processes work nor on where it was
    interrupted. What is `forgotten` is left out, should the collection still hold it. Raises RunError for an
    unreadable or invalid input, UserError for an expected language that is never found.
    """
    require_known(params.language)
    out = work / "out"
    pending = work / "pending"
    gone = [FORGOTTEN_ROW.empty_table()]
    total = sum(read_parquet(path, ["record_id"]).num_rows for path in document_files(collected))
    figures = {"records": 0, "bytes": 0, "shards": 0}

    def jobs() -> Iterator[dict[str, Any]]:
        for number, shard in enumerate(_shards(collected)):
            if forgotten:
                meant = forgotten.rows(shard)
                gone.append(_facts(shard.filter(meant)))
                shard = shard.filter(pc.invert(meant))
            figures["records"] += shard.num_rows
            figures["bytes"] += int(text_bytes(shard).sum())
            figures["shards"] += 1
            if not _is_measured(out, number):
                path = pending / f"{number:05d}.parquet"
                write_parquet(path, shard)
                yield {"shard": str(path), "out": str(out), "number": number, "params": params.model_dump_json()}

    done = 0
    with closing(in_processes(measure_shard, jobs(), runtime.workers)) as answers:  # ends the processes, come what may
        for rows in answers:
            fault("measure.shard")
            done += rows
            report(done, total, f"measured {done:,} of {total:,} records")
    with disk_errors(out):
        for leftover in pending.glob("*"):
            leftover.unlink()
    write_parquet(out / "forgotten.parquet", pa.concat_tables(gone).sort_by("record_id"))
    write_json(out / "stats.json", figures)
    return {"records": figures["records"], "bytes": figures["bytes"]}


def measured_files(folder: Path) -> list[Path]:
    """The files of MEASURED rows of a measure artifact, in order."""
    return sorted((folder / "measured").glob("*.parquet"))


def bands_file(measured: Path) -> Path:
    """The file of band keys beside a measured file, row by row the same texts."""
    return measured.parent.parent / "bands" / measured.name


def lines_file(measured: Path) -> Path:
    """The file that says which lines the texts of a measured file have."""
    return measured.parent.parent / "lines" / measured.name


def _shards(collected: Path) -> Iterator[pa.Table]:
    """The artifact's own DOCUMENT rows in their order, some MiB of text at a time."""
    for path in document_files(collected):
        held: list[pa.Table] = []
        size = 0
        for batch in batches(path, rows=256):
            table = validate(pa.Table.from_batches([batch]), DOCUMENT, str(path))
            held.append(table)
            size += int(text_bytes(table).sum())
            if size >= 2 * SHARD_BYTES:
                *whole, rest = _cut(pa.concat_tables(held))
                yield from whole
                held, size = [rest], int(text_bytes(rest).sum())
        if held:
            yield from _cut(pa.concat_tables(held))


def _cut(table: pa.Table) -> list[pa.Table]:
    return [table.slice(start, rows) for start, rows in bounds(text_bytes(table), SHARD_BYTES)]


def _facts(documents: pa.Table) -> pa.Table:
    columns = {name: documents[name] for name in ("record_id", "source")}
    urls = pa.array(blank_all(documents["url"].to_pylist()), pa.string())
    return pa.table({**columns, "url": urls, "bytes": text_bytes(documents)}, schema=FORGOTTEN_ROW)


def _is_measured(out: Path, number: int) -> bool:
    return (out / "measured" / f"{number:05d}.parquet").exists()  # the last of a shard's files
