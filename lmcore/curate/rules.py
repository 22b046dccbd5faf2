"""The rules that drop a text: rows of data in `rules.yaml`, applied to whole columns of signals.

A rule compares one signal with one limit. The first rule that fails, in the order of the file, names the drop,
and the decision keeps what was measured and the limit.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from lmcore.config import Params, Settings
from lmcore.curate.score import SCORES
from lmcore.curate.signals import SIGNALS
from lmcore.documents import KINDS

KEPT = -1


class Rule(Settings):
    """One row of `rules.yaml`; its columns are explained there."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    signal: str
    keep: Literal[">=", "<="]
    limit: float | None
    kinds: tuple[str, ...] = KINDS
    skip_langs: tuple[str, ...] = ()
    source: str

    @model_validator(mode="after")
    def _known_names(self) -> Rule:
        if self.signal not in (*SIGNALS, *SCORES):
            raise ValueError(f"rule {self.name}: unknown signal {self.signal}")
        if not set(self.kinds) <= set(KINDS):
            raise ValueError(f"rule {self.name}: unknown kind in {self.kinds}")
        return self


@functools.cache
def packaged_rules() -> tuple[Rule, ...]:
    """The rows of `rules.yaml`, in order."""
    text = importlib.resources.files("lmcore.curate").joinpath("rules.yaml").read_text(encoding="utf-8")
    rules = tuple(Rule.model_validate(row) for row in yaml.safe_load(text))
    assert len({rule.name for rule in rules}) == len(rules), "two rules of one name"
    return rules


class RulesParams(Params):
    """Changes to the packaged rules."""

    limits: dict[str, float] = Field(
        default={}, description="Rule name to limit, in place of the packaged one; switches on a rule that is off."
    )
    off: tuple[str, ...] = Field(default=(), description="Names of rules not to apply.")

    @field_validator("limits", "off")
    @classmethod
    def _known_rules(cls, value: dict[str, float] | tuple[str, ...]) -> dict[str, float] | tuple[str, ...]:
        known = [rule.name for rule in packaged_rules()]
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"the rules are {', '.join(known)}"
                raise ValueError(f"unknown rule {name!r}; {hint}")
        return value

    @model_validator(mode="after")
    def _one_wish_a_rule(self) -> RulesParams:
        both = sorted(set(self.limits) & set(self.off))
        if both:
            raise ValueError(f"rule {both[0]} has a limit and is switched off; choose one")
        return self

    def active(self) -> list[Rule]:
        """The rules to apply, in order, each with its limit."""
        changed = [
            rule.model_copy(update={"limit": self.limits.get(rule.name, rule.limit)}) for rule in packaged_rules()
        ]
        return [rule for rule in changed if rule.limit is not None and rule.name not in self.off]


@dataclass(frozen=True)
class Verdicts:
    """For each of N texts the first rule that failed; `value` and `threshold` are NaN where none did."""

    rule: NDArray[np.int64]  # (N,) index into the rules given, KEPT where none failed
    value: NDArray[np.float64]  # (N,) what the rule measured
    threshold: NDArray[np.float64]  # (N,)


def apply_rules(
    rules: Sequence[Rule],
    columns: Mapping[str, NDArray[np.float64]],
    kinds: Sequence[str],
    langs: Sequence[str],
) -> Verdicts:
    """Judge N texts by their signals and scores (`columns`), kinds and BCP 47 languages, each of length N."""
    count = len(kinds)
    kind = np.array(kinds, dtype=object)
    lang = np.array([tag.split("-", 1)[0].lower() for tag in langs], dtype=object)
    verdicts = Verdicts(np.full(count, KEPT), np.full(count, np.nan), np.full(count, np.nan))
    for index, rule in enumerate(rules):
        assert rule.limit is not None
        values = columns[rule.signal]
        passed = values >= rule.limit if rule.keep == ">=" else values <= rule.limit
        meant = np.isin(kind, rule.kinds) & ~np.isin(lang, rule.skip_langs)
        failed = ~passed & meant & (verdicts.rule == KEPT)
        verdicts.rule[failed] = index
        verdicts.value[failed] = values[failed]
        verdicts.threshold[failed] = rule.limit
    return verdicts
