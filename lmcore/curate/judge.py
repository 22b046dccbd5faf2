"""What the rules and formulas say of texts, from their columns: the one place where signals become a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.params import CurateParams
from lmcore.curate.rules import apply_rules
from lmcore.curate.score import scores
from lmcore.curate.signals import SIGNALS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """The verdict on N texts."""

    quality: Floats  # (N,) 0 to 100
    complexity: Floats  # (N,) 0 to 100
    rule: NDArray[np.int32]  # (N,) index into Judge.rules, KEPT where none failed
    value: Floats  # (N,) what the rule measured; NaN where none failed
    threshold: Floats


class Judge:
    """The rules and formulas of a recipe; counts what it drops."""

    def __init__(self, params: CurateParams) -> None:
        self._params = params
        self.salt = params.split.salt
        self._rules = params.rules.active()
        self.rules = [rule.name for rule in self._rules]
        self.columns = sorted(SIGNALS)

    def __call__(self, signals: Mapping[str, Floats], kinds: pa.ChunkedArray, langs: pa.ChunkedArray) -> Judged:
        """Judge N texts by their signals, kinds and languages."""
        columns = dict(signals) | scores(signals, self._params.score)
        verdicts = apply_rules(self._rules, columns, kinds.to_pylist(), langs.to_pylist())
        return Judged(
            columns["quality"],
            columns["complexity"],
            verdicts.rule.astype(np.int32),
            verdicts.value,
            verdicts.threshold,
        )
