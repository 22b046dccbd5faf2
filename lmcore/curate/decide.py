"""Second half of curation: one verdict for every record, from the measured columns alone.

The order is: rules, synthetic texts of held-out pages, exact duplicates among what is left, split. The table comes
sorted by record id, so nothing here can depend on how the records came in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate import duplicates, split
from lmcore.curate.rules import KEPT, RulesParams, apply_rules
from lmcore.curate.score import ScoreName, scores
from lmcore.curate.signals import SIGNALS
from lmcore.curate.split import SplitParams
from lmcore.documents import DECISION, MADE, SPLITS

EXACT = 1.0  # the share of words two exact duplicates have in common: value and threshold of their decision


@dataclass(frozen=True)
class Decided:
    """The verdict on each of N records, in the order of the table given."""

    decisions: pa.Table  # (N,) DECISION
    rules: tuple[str, ...]  # every rule that was applied, in order
    kept: NDArray[np.bool_]  # (N,)
    split: NDArray[np.int64]  # (N,) index into SPLITS; meaningful where kept
    quality: NDArray[np.float64]  # (N,)
    complexity: NDArray[np.float64]  # (N,)
    cluster_size: NDArray[np.int64]  # (N,) 0 where a rule dropped the text before duplicates were looked for


def decide(measured: pa.Table, *, score: ScoreName, rules: RulesParams, splitting: SplitParams) -> Decided:
    """Judge MEASURED rows (text and turns may be absent), sorted by record id."""
    columns = {name: measured[name].to_numpy() for name in SIGNALS}
    columns |= scores(columns, measured["kind"], score, "v1")
    synthetic = measured["synthetic"].to_numpy()
    count = measured.num_rows

    active = rules.active()
    verdicts = apply_rules(active, columns, measured["kind"], measured["lang"])
    names = [*(rule.name for rule in active), split.RULE, duplicates.RULE]
    rule, value, threshold = verdicts.rule.copy(), verdicts.value.copy(), verdicts.threshold.copy()

    position = split.positions(measured["page_of_origin"].to_pylist(), splitting.salt)
    side = split.splits(position, splitting)
    # Held-out text must be written by people; put into training, it would tell of its held-out page. What tells of no
    # page at all is for training.
    of_no_page = pc.starts_with(measured["page_of_origin"], MADE).to_numpy(zero_copy_only=False)
    side[synthetic & of_no_page] = split.TRAIN
    told = (rule == KEPT) & synthetic & (side != split.TRAIN)
    rule[told] = names.index(split.RULE)
    value[told] = position[told]
    threshold[told] = splitting.test + splitting.val

    left = np.flatnonzero(rule == KEPT)
    rows = measured.select(["words_hash", "url", "record_id"]).take(left)
    clusters = duplicates.exact_clusters(
        rows["words_hash"],
        synthetic=synthetic[left],
        quality=columns["quality"][left],
        n_chars=columns["n_chars"][left],
        urls=rows["url"],
        record_ids=rows["record_id"],
    )
    cluster_size = np.zeros(count, np.int64)
    cluster_size[left] = clusters.size
    best = np.full(count, -1)
    best[left] = left[clusters.best]
    copy = (best >= 0) & (best != np.arange(count))
    rule[copy] = names.index(duplicates.RULE)
    value[copy] = threshold[copy] = EXACT

    kept = rule == KEPT
    record_ids = np.array(measured["record_id"].to_pylist(), dtype=object)
    labels = np.array([*names, "kept"], dtype=object)  # KEPT is the last index
    decisions = pa.table(
        {
            "record_id": measured["record_id"],
            "source": measured["source"],
            "url": measured["url"],
            "verdict": pa.array(np.where(kept, "kept", "dropped").tolist(), pa.string()),
            "rule": pa.array(labels[rule], pa.string()),
            "value": pa.array(value, mask=kept),
            "threshold": pa.array(threshold, mask=kept),
            "other": pa.array(record_ids[best], pa.string(), mask=~copy),
            "split": pa.array(np.array(SPLITS, dtype=object)[side], pa.string(), mask=~kept),
        },
        schema=DECISION,
    )
    return Decided(
        decisions=decisions,
        rules=tuple(names),
        kept=kept,
        split=side,
        quality=columns["quality"],
        complexity=columns["complexity"],
        cluster_size=cluster_size,
    )
