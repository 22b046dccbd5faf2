"""What every rule does by itself: how many texts fail it, though the first failing rule names the drop.

Tables of shards add up to the table of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.labels import Labels, coded
from lmcore.curate.rules import KEPT, Floats, Rule, Verdicts, each_rule
from storage.errors import RunError

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


@dataclass(frozen=True)
class Example:
    """One text that a rule dropped."""

    row: int  # among the records judged
    value: float
    threshold: float


@dataclass(frozen=True)
class Culprit:
    """The rule that named most drops."""

    rule: Rule
    dropped: int
    records: int
    examples: tuple[Example, ...]  # at most three, the first ones

    def __str__(self) -> str:
        return f"{self.rule.name} ({self.rule.signal} {self.rule.keep} limit): {self.dropped:,} of {self.records:,}"


def culprit(rules: Sequence[Rule], verdicts: Verdicts) -> Culprit | None:
    """The rule that dropped most of the N records (the first among equals); None when no rule dropped any."""
    dropped: NDArray[np.int64] = np.bincount(verdicts.rule[verdicts.rule != KEPT], minlength=len(rules))
    if not dropped.any():
        return None
    index = int(np.argmax(dropped))
    rows = np.flatnonzero(verdicts.rule == index)[:_EXAMPLES]
    examples = tuple(Example(int(row), float(verdicts.value[row]), float(verdicts.threshold[row])) for row in rows)
    return Culprit(rules[index], int(dropped[index]), len(verdicts.rule), examples)


def nothing_left(found: Culprit, urls: Sequence[str]) -> RunError:
    """The error of a run whose rules dropped everything. `urls` are those of `found.examples`, fit to be shown."""
    rule = found.rule
    shown = "; ".join(
        f"{url} has {rule.signal} {_number(example.value)}, the limit is {_number(example.threshold)}"
        for url, example in zip(urls, found.examples, strict=True)
    )
    return RunError(
        f"the rules drop all {found.records:,} records; {rule.name} drops most, {found.dropped:,}: {shown}",
        f"loosen it (curate.rules.limits: {{{rule.name}: …}}) or switch it off (curate.rules.off: [{rule.name}]); "
        "the limits can be changed without measuring anything again",
    )


def _number(value: float) -> str:
    return f"{int(value):,}" if value.is_integer() else f"{value:,.4g}"
