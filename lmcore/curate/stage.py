"""The curate stage: collected records in; train, val and test texts, a decision on every record and figures out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lmcore.collect.editions import Locate, load_edition
from lmcore.config import Params, Runtime
from lmcore.curate import duplicates, gates, output
from lmcore.curate.decide import decide
from lmcore.curate.gates import GatesParams
from lmcore.curate.measure import MEASURED, measure_all
from lmcore.curate.rules import RulesParams
from lmcore.curate.score import ScoreName
from lmcore.curate.split import SplitParams
from lmcore.documents import DOCUMENT
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.errors import RunError
from storage.parquet import read_parquet

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

_TEXT = ("text", "title", "turns")  # looked at only when texts are written
_JUDGED = [name for name in MEASURED.names if name not in _TEXT]


class CurateParams(Params):
    """What is kept, how it is scored and split, and the least a corpus must have."""

    score: ScoreName = Field(default="v1", description="Name of the formulas behind quality and complexity.")
    rules: RulesParams = Field(default=RulesParams(), description="Changes to the packaged rules.")
    split: SplitParams = Field(default=SplitParams(), description="Shares held out for validation and test.")
    gates: GatesParams = Field(default=GatesParams(), description="The least a corpus must have.")


class CurateRuntime(Runtime):
    """How the work is cut."""

    shard_mib: int = Field(default=8, ge=1, le=1024, description="MiB of raw text measured between two resume points.")


def curate(
    work: Path,
    collected: Sequence[Path],
    *,
    locate: Locate,
    params: CurateParams,
    runtime: CurateRuntime,
    report: Report,
    forgotten: Forgotten | None = None,
) -> dict[str, Any]:
    """Curate the `collected` artifact folders into `work/out` and give the figures for the summary.

    The result depends neither on the order of folders or rows nor on where shards are cut. `locate` gives the
    folder of the artifact with a content digest, for editions that refer to their parents. What is `forgotten` is
    dropped, should a collection still hold it. Raises RunError for an unreadable or invalid input and, with every
    decision already written, for a corpus that fails its gates.
    """
    gone = [DOCUMENT.empty_table()]

    def load(folder: Path) -> pa.Table:
        documents = load_edition(folder, locate)
        if not forgotten:
            return documents
        meant = forgotten.rows(documents)
        gone.append(documents.filter(meant))
        return documents.filter(pc.invert(meant))

    files = measure_all(
        work,
        collected,
        load,
        shard_bytes=runtime.shard_mib << 20,
        report=report,
    )
    fault("curate.before-decisions")
    measured = _sorted_measures(files)
    decided = decide(measured, score=params.score, rules=params.rules, splitting=params.split)
    dropped = pa.concat_tables(gone)
    decided = output.with_forgotten(decided, dropped)
    report(len(collected), len(collected), f"{int(decided.kept.sum()):,} of {measured.num_rows:,} records kept")

    out = work / "out"
    with disk_errors(out):
        if out.exists():
            shutil.rmtree(out)
    decisions = output.write_decisions(out, decided)
    checked = gates.check_gates(params.gates, output.gate_values(measured, decided))
    figures = output.statistics(measured, decided, checked)
    figures["input"]["records"] += dropped.num_rows
    figures["input"]["bytes"] += sum(len(text.encode()) for text in dropped["text"].to_pylist())
    write_json(out / "stats.json", figures)
    gates.require(checked, figures["rules"], measured.num_rows, str(decisions))
    shards = [read_parquet(file, columns=list(_TEXT)) for file in files]
    output.write_splits(out, shards, measured, decided)
    return {
        "input_documents": measured.num_rows + dropped.num_rows,
        "kept_documents": figures["kept"]["records"],
        "kept_bytes": figures["kept"]["bytes"],
        "duplicates": figures["rules"][duplicates.RULE],
        **{f"{name}_documents": split["documents"] for name, split in figures["splits"].items()},
        "train_bytes": figures["splits"]["train"]["bytes"],
        "median_quality": figures["quality"]["deciles"][5] if figures["quality"]["deciles"] else 0.0,
    }


def _sorted_measures(files: Sequence[Path]) -> pa.Table:
    """All measures without their texts, sorted by record id, with `shard` and `row` saying where the text lies.

    Raises RunError when a record came twice: one source listed twice, or two sources of one name.
    """
    tables = [MEASURED.empty_table().select(_JUDGED)]
    shard, row = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, file in enumerate(files):
        table = read_parquet(file, columns=_JUDGED)
        tables.append(table)
        shard.append(np.full(table.num_rows, number))
        row.append(np.arange(table.num_rows))
    whole = pa.concat_tables(tables).combine_chunks()
    whole = whole.append_column("shard", pa.array(np.concatenate(shard)))
    whole = whole.append_column("row", pa.array(np.concatenate(row)))
    whole = whole.take(pc.sort_indices(whole["record_id"]))
    ids = whole["record_id"].combine_chunks()
    twice = pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py() if len(ids) > 1 else -1
    if twice >= 0:
        raise RunError(
            f"record {ids[twice].as_py()} ({whole['url'][twice].as_py()}) was collected twice, "
            f"by source {whole['source'][twice].as_py()}",
            "list every source once in the recipe, and give each a name of its own",
        )
    return whole
