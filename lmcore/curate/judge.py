"""What the rules and formulas say of texts, from their columns: the one place where signals become a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.labels import Labels
from lmcore.curate.licences import allowed
from lmcore.curate.measured import MEASURED_SIGNALS
from lmcore.curate.params import CompareParams, CurateParams
from lmcore.curate.rules import KEPT, apply_rules, check_computed
from lmcore.curate.score import needed, scores
from lmcore.curate.trips import add_trips, trips

Floats = NDArray[np.float64]
LICENCE = "licence"


@dataclass(frozen=True)
class Judged:
    """The verdict on N texts."""

    quality: Floats  # (N,) 0 to 100
    complexity: Floats  # (N,) 0 to 100
    rule: NDArray[np.int32]  # (N,) index into Judge.names, KEPT where none failed
    value: Floats  # (N,) what the rule measured; NaN where none failed
    threshold: Floats


class Judge:
    """The rules and formulas of a recipe; counts what every rule does."""

    def __init__(self, params: CurateParams, compared: CompareParams) -> None:
        """Raises UserError for a limit on a signal that the recipe does not compute."""
        self._params = params
        self._rules = params.rules.active()
        self._tables: list[pa.Table] = []
        wanted = needed(self._rules, params.score, params.complexity)
        beside = compared.computed
        check_computed(params.rules, {*MEASURED_SIGNALS, *beside}, _HOW)
        self.salt = params.split.salt
        self.names = [*(rule.name for rule in self._rules), LICENCE]
        self.measured = sorted(wanted & set(MEASURED_SIGNALS))
        self.beside = sorted(wanted & set(beside))

    def __call__(
        self, signals: Mapping[str, Floats], kinds: Labels, langs: Labels, licences: pa.ChunkedArray
    ) -> Judged:
        """Judge N texts by their signals, kinds, languages and licences."""
        columns = dict(signals) | scores(signals, kinds, self._params.score, self._params.complexity)
        verdicts = apply_rules(self._rules, columns, kinds, langs)
        self._tables.append(trips(self._rules, columns, kinds, langs, verdicts))
        rule = verdicts.rule.astype(np.int32)
        rule[(rule == KEPT) & ~allowed(licences.to_pylist(), self._params.licences)] = len(self._rules)
        return Judged(columns["quality"], columns["complexity"], rule, verdicts.value, verdicts.threshold)

    @property
    def trips(self) -> pa.Table:
        """What every rule did on all texts judged so far."""
        return add_trips(self._tables, self._rules)


_HOW = {
    "reference_bits": "name reference texts (compare.reference.sources)",
    "classifier_quality": "give labelled texts (compare.classifier)",
}
