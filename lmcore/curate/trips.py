"""What every rule does by itself: how many texts fail it, though the first failing rule names the drop.

Tables of shards add up to the table of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from lmcore.curate.labels import Labels, coded
from lmcore.curate.rules import Floats, Rule, Verdicts, each_rule

TRIPS = pa.schema(
    [
        pa.field("rule", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("looked_at", pa.int64(), nullable=False),  # records the rule is for and whose signal is known
        pa.field("failed", pa.int64(), nullable=False),  # those it would drop if it were alone
        pa.field("failed_only_here", pa.int64(), nullable=False),  # those no other rule would drop
        pa.field("dropped", pa.int64(), nullable=False),  # those whose drop it names
    ]
)
"""One row a rule, language and kind with anything looked at; rules in order, languages and kinds sorted."""

_COUNTS = ("looked_at", "failed", "failed_only_here", "dropped")
_EXAMPLES = 3


def trips(
    rules: Sequence[Rule], columns: Mapping[str, Floats], kinds: Labels, langs: Labels, verdicts: Verdicts
) -> pa.Table:
    """The TRIPS of N records and the `verdicts` that `apply_rules` gave of the same ones."""
    kind, lang = coded(kinds), coded(langs)
    group = lang.codes * max(len(kind.values), 1) + kind.codes  # (N,)
    groups = len(lang.values) * len(kind.values)
    alone = verdicts.failures == 1
    rows: list[tuple[str, str, str, int, int, int, int]] = []
    for checked in each_rule(rules, columns, kind, lang):
        named = verdicts.rule == checked.index
        counts = np.stack(
            [
                np.bincount(group[mask], minlength=groups)
                for mask in (checked.looked, checked.failed, named & alone, named)
            ],
            axis=1,
        )
        for place in np.flatnonzero(counts[:, 0]):
            which, what = divmod(int(place), len(kind.values))
            looked, failed, only, dropped = counts[place].tolist()
            rows.append(
                (rules[checked.index].name, lang.values[which], kind.values[what], looked, failed, only, dropped)
            )
    return _table(rows)


def add_trips(tables: Sequence[pa.Table], rules: Sequence[Rule]) -> pa.Table:
    """The TRIPS of several shards as that of all of them."""
    whole = pa.concat_tables([TRIPS.empty_table(), *tables])
    summed = whole.group_by(["rule", "lang", "kind"]).aggregate([(name, "sum") for name in _COUNTS])
    place = {rule.name: index for index, rule in enumerate(rules)}
    rows = sorted(summed.to_pylist(), key=lambda row: (place[row["rule"]], row["lang"], row["kind"]))
    return _table([(row["rule"], row["lang"], row["kind"], *(row[f"{name}_sum"] for name in _COUNTS)) for row in rows])


def _table(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    return pa.table(
        {name: [row[place] for row in rows] for place, name in enumerate(TRIPS.names)},
        schema=TRIPS,
    )
