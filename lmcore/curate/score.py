"""Two figures from 0 to 100 for every text, computed from its signals by formulas that stand in files of their own.

A formula never changes once texts carry its figures; a better one gets a new name. Scores order texts of one language
and kind: they are no measure across languages.

Legend: T texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lmcore.curate import complexity, score_amharic, score_v1, score_v2
from lmcore.curate.formulas import Columns, Floats
from lmcore.curate.labels import Coded, Labels, coded
from lmcore.curate.names import SCORES
from lmcore.curate.rule_sets import Rule
from storage.errors import UserError

ScoreName = Literal["v1", "v2", "amharic_collector", "amharic_preprocessor"]
ComplexityName = Literal["v1", "v2", "amharic_curriculum"]


@dataclass(frozen=True)
class Formula:
    """One formula and the columns it reads; of `also` it reads what there is, and counts the rest as 0."""

    of: Callable[[Columns, Coded], Floats]
    needs: tuple[str, ...]
    also: tuple[str, ...] = ()


QUALITY: dict[str, Formula] = {
    "v1": Formula(lambda columns, _: score_v1.quality(columns), score_v1.NEEDS),
    "v2": Formula(score_v2.quality, score_v2.NEEDS, score_v2.ALSO),
    "amharic_collector": Formula(lambda columns, _: score_amharic.collector(columns), score_amharic.COLLECTOR_NEEDS),
    "amharic_preprocessor": Formula(
        lambda columns, _: score_amharic.preprocessor(columns), score_amharic.PREPROCESSOR_NEEDS
    ),
}
COMPLEXITY: dict[str, Formula] = {
    "v1": Formula(lambda columns, _: complexity.v1(columns), complexity.V1_NEEDS),
    "v2": Formula(lambda columns, _: complexity.v2(columns), complexity.V2_NEEDS),
    "amharic_curriculum": Formula(lambda columns, _: score_amharic.curriculum(columns), score_amharic.CURRICULUM_NEEDS),
}
assert set(QUALITY) == set(get_args(ScoreName))
assert set(COMPLEXITY) == set(get_args(ComplexityName))


def scores(
    columns: Mapping[str, Floats], kinds: Labels, name: ScoreName = "v2", complexity_name: ComplexityName = "v2"
) -> dict[str, Floats]:
    """`quality` and `complexity` of T texts, each (T,), 0 to 100, rounded to two digits; higher is better or harder.

    Raises UserError when a column that a formula cannot do without is missing.
    """
    kind = coded(kinds)
    values: dict[str, Floats] = {}
    for score, formula, called in zip(
        SCORES, (QUALITY[name], COMPLEXITY[complexity_name]), (name, complexity_name), strict=True
    ):
        missing = [signal for signal in formula.needs if signal not in columns]
        if missing:
            raise UserError(
                f"the {score} formula {called} needs {', '.join(missing)}, which was not measured",
                "choose another formula, or measure the collection again with these signals",
            )
        values[score] = np.round(formula.of(columns, kind).clip(0.0, 100.0), 2)
    return values


def needed(rules: Iterable[Rule], name: ScoreName = "v2", complexity_name: ComplexityName = "v2") -> set[str]:
    """The signals that judging reads: those of the rules, and those of the formulas. Some may not be computed."""
    formulas = (QUALITY[name], COMPLEXITY[complexity_name])
    of_scores = {signal for formula in formulas for signal in (*formula.needs, *formula.also)}
    return of_scores | {rule.signal for rule in rules if rule.signal not in SCORES}
