"""Choosing and cleaning, again until they agree: when a text that stays loses too much, its copies are asked again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.carried import still_lost
from lmcore.curate.choose import Pairs
from lmcore.curate.clean import BOILERPLATE, CONTAMINATED, HITS, REPEATED
from lmcore.curate.cleaned import Layers, Measured
from lmcore.curate.cleaning import Cleaning
from lmcore.curate.compare import read_pairs
from lmcore.curate.decide import NOBODY, Decided, Drop, decide
from lmcore.curate.mix import weights
from lmcore.curate.params import CompareParams, CurateParams, CurateRuntime
from lmcore.curate.parent import Parent
from lmcore.curate.records import Records
from lmcore.progress import Report
from storage.parquet import write_parquet

SETS = "evaluation_sets.parquet"  # how many items of each set the training texts were compared with
_LOSSES = (CONTAMINATED, REPEATED, BOILERPLATE)


def decide_and_clean(
    work: Path,
    files: Sequence[Path],
    compared: Sequence[Path],
    records: Records,
    rules: Sequence[str],
    *,
    params: CurateParams,
    comparing: CompareParams,
    runtime: CurateRuntime,
    known: Parent | None,
    reusable: Parent | None,
    report: Report,
) -> tuple[Decided, Layers, Pairs, Measured]:
    """The verdict on every record, what became of the texts, which of them are alike, and what `records` said before.

    `records` is told the texts' new sizes and digests. `known` is the corpus before, `reusable` the same where it was
    made with the same settings. Leaves `out/contamination.parquet` and `out/evaluation_sets.parquet`.
    """
    pairs = Pairs.of(*(read_pairs(folder) for folder in compared))
    weight = weights(params.mix, records.names, records.source, records.kind)
    cleaning = Cleaning(work, files, compared, records, params, reusable, runtime.memory_mib, report)
    gone: list[Drop] = []
    hits: list[pa.Table] = []
    while True:
        decided = decide(
            records,
            pairs,
            rules,
            splitting=params.split,
            trusted=params.duplicates.trusted,
            parent=known,
            files=files,
            min_jaccard=comparing.min_jaccard,
            memory_mib=runtime.memory_mib,
            weights=weight,
            gone=gone,
        )
        if not gone:
            gone, told = still_lost(records, decided, reusable, params)
            if gone:
                hits.append(told)
                continue
        cleaning.again(decided)
        lost = _lost(decided)
        if not lost:
            break
        gone += lost
        hits.append(cleaning.hits(np.concatenate([drop.records for drop in lost])))
        cleaning.forget()
    hits.append(cleaning.hits())
    keys = [("set", "ascending"), ("item", "ascending"), ("record_id", "ascending")]
    write_parquet(work / "out" / HITS, pa.concat_tables(hits).sort_by(keys))
    write_parquet(work / "out" / SETS, cleaning.item_counts())
    return decided, cleaning.layers, pairs, cleaning.measured


def _lost(decided: Decided) -> list[Drop]:
    """The texts that cleaning dropped and that others were dropped as copies of, by rule."""
    copied = np.unique(decided.other[~decided.kept & (decided.other != NOBODY)])
    found = []
    for rule in _LOSSES:
        if rule in decided.rules:
            which: NDArray[np.int64] = copied[decided.rule[copied] == decided.rules.index(rule)]
            for limit in np.unique(decided.threshold[which]):
                some = which[decided.threshold[which] == limit]
                found.append(Drop(rule, some, decided.value[some], float(limit)))
    return found
