"""Stage `curate`: measured and compared records in; train, val and test texts, a decision on every record out.

Layout of `work/out`: train/, val/, test/ (CURATED), decisions.parquet, stats.json,
provenance/corpus.json (what it was made of).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmcore.curate import gates
from lmcore.curate.beside import Beside
from lmcore.curate.choose import Pairs
from lmcore.curate.compare import read_pairs
from lmcore.curate.decide import EXACT, HELD_OUT, NEAR, decide
from lmcore.curate.figures import gate_values, statistics, write_decisions
from lmcore.curate.ids import Ids, ids
from lmcore.curate.judge import Judge
from lmcore.curate.measure import FORGOTTEN_ROW, measured_files
from lmcore.curate.params import CurateParams, CurateRuntime
from lmcore.curate.parent import ABOUT, MAX_BATCHES, read_about, read_parent
from lmcore.curate.records import Part, read_records
from lmcore.curate.write import plan_files, write_splits
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.digest import digest_json
from storage.parquet import read_parquet


def curate(
    work: Path,
    parts: Sequence[Part],
    compared: Sequence[Path],
    parent: Path | None,
    *,
    about: dict[str, Any],
    params: CurateParams,
    runtime: CurateRuntime,  # noqa: ARG001 - every stage is given one
    report: Report,
    min_jaccard: float,
) -> dict[str, Any]:
    """Curate the records that `parts` want into `work/out` and give the figures for the summary.

    `compared` are all comparisons among the parts, oldest first; `parent` is the corpus before this one. `about` says
    by which keys measures and comparisons are known, and the digest of the settings they were made with. Raises
    RunError for an unreadable or invalid input and, with every decision already written, for a corpus that fails its
    gates.
    """
    out = work / "out"
    files = [(path, part.wanted) for part in parts for path in measured_files(part.folder)]
    paths = [path for path, _ in files]
    forgotten = _forgotten(parts)
    judge = Judge(params)
    records = read_records(files, Beside(compared, judge.columns), judge)
    report(1, 4, f"judged {len(records):,} records by {len(judge.rules)} rules")

    before = _same_deal(parent, params)
    settings = digest_json({**about, "curate": params.key_values(), "measures": None, "compares": None})
    whole = None if before is None else read_parent(before, params.split.salt)
    decided = decide(
        records,
        _pairs(compared),
        judge.rules,
        splitting=params.split,
        trusted=params.duplicates.trusted,
        min_jaccard=min_jaccard,
        parent=whole,
    )
    report(2, 4, f"{int(decided.kept.sum()):,} of {len(records):,} records kept")
    fault("curate.before-decisions")

    checked = gates.check_gates(params.gates, gate_values(records, decided))
    figures = statistics(records, decided, checked, forgotten)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_decisions(out / "decisions.parquet", paths, records, decided, forgotten)
    write_json(out / "stats.json", figures)
    gates.require(checked, figures["rules"], len(records), str(out / "decisions.parquet"))
    report(3, 4, f"{int(decided.kept.sum()):,} of {len(records):,} records kept")

    reusable = whole is not None and whole.about["settings"] == settings and whole.about["batch"] + 1 < MAX_BATCHES
    plan = plan_files(records, decided, whole if reusable else None)
    write_splits(work, paths, records, decided, plan)
    report(4, 4, f"{int(plan.new.sum()):,} texts written")
    write_json(out / ABOUT, {**about, "settings": settings, "batch": plan.batch, "salt": params.split.salt})
    return {
        "input_documents": figures["input"]["records"],
        "kept_documents": figures["kept"]["records"],
        "kept_bytes": figures["kept"]["bytes"],
        "duplicates": sum(figures["rules"].get(rule, 0) for rule in (EXACT, NEAR, HELD_OUT)),
        **{f"{name}_documents": split["documents"] for name, split in figures["splits"].items()},
        "train_bytes": figures["splits"]["train"]["bytes"],
        "new_documents": int(plan.new.sum()),
        "median_quality": figures["quality"]["deciles"][5] if figures["quality"]["deciles"] else 0.0,
    }


def _same_deal(parent: Path | None, params: CurateParams) -> Path | None:
    """The corpus before, unless another salt deals all pages anew."""
    return parent if parent and read_about(parent)["salt"] == params.split.salt else None


def _forgotten(parts: Sequence[Part]) -> pa.Table:
    """The records that are wanted and were left out, because they are forgotten."""
    found = [FORGOTTEN_ROW.empty_table()]
    for part in parts:
        table = read_parquet(part.folder / "forgotten.parquet")
        found.append(table.filter(pa.array(np.isin(ids(table["record_id"]), part.wanted))))
    return pa.concat_tables(found)


def _pairs(compared: Sequence[Path]) -> Pairs:
    tables = [read_pairs(folder) for folder in compared]

    def joined(name: str) -> Ids:
        return np.concatenate([np.zeros(0, "S16"), *(ids(table[name]) for table in tables)])

    shared = np.concatenate([np.zeros(0), *(table["jaccard"].to_numpy() for table in tables)])
    return Pairs(joined("a"), joined("b"), shared)

