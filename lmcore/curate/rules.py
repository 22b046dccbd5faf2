"""The rules that drop a text, applied to whole columns of signals; the rules themselves are rows of data.

A rule compares one signal with one limit, which may differ by language. The first rule that fails, in the order of the
sets and of their files, names the drop, and the decision keeps what was measured and the limit. Nothing is measured
here: other limits give other verdicts from the same columns.

Legend: N records.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from lmcore.config import Params, added_later
from lmcore.curate.labels import Coded, Labels, coded
from lmcore.curate.language_codes import nearest
from lmcore.curate.names import SCORES, SIGNALS
from lmcore.curate.rule_sets import LANGUAGE_KEY, SETS, Rule, packaged_rules, unknown_rule
from storage.errors import UserError

__all__ = ["KEPT", "Rule", "RulesParams", "Verdicts", "apply_rules", "check_computed", "each_rule", "packaged_rules"]

KEPT = -1
_DEFAULT_SETS = ("house",)

Floats = NDArray[np.float64]


class RulesParams(Params):
    """Which packaged rules are applied, and changes to them."""

    sets: tuple[str, ...] = added_later(
        _DEFAULT_SETS, description=f"Packaged sets of rules, applied in this order: {', '.join(SETS)}."
    )
    limits: dict[str, float] = Field(
        default={}, description="Rule name to limit, in place of the packaged one; switches on a rule that is off."
    )
    off: tuple[str, ...] = Field(default=(), description="Names of rules not to apply.")
    per_language: dict[str, dict[str, float | None]] = added_later(
        {},
        description="Language (hu, or sr-Latn) to rule name to limit, before every other limit; null: off there.",
    )

    @field_validator("sets")
    @classmethod
    def _known_sets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in SETS:
                near = difflib.get_close_matches(name, SETS, 1)
                hint = f"did you mean {near[0]}?" if near else f"the sets are {', '.join(SETS)}"
                raise ValueError(f"unknown rule set {name!r}; {hint}")
        if len(set(value)) < len(value):
            raise ValueError("a rule set is named twice")
        return value

    @field_validator("limits", "off")
    @classmethod
    def _known_rules(cls, value: dict[str, float] | tuple[str, ...], info: ValidationInfo) -> Any:
        _require_known(value, info)
        return value

    @field_validator("per_language")
    @classmethod
    def _known_languages(
        cls, value: dict[str, dict[str, float | None]], info: ValidationInfo
    ) -> dict[str, dict[str, float | None]]:
        for lang, limits in value.items():
            if not re.match(LANGUAGE_KEY, lang):
                near = nearest(lang)
                hint = f"did you mean {near}? " if near else ""
                raise ValueError(f"{lang!r} is no language code; {hint}write hu, or sr-Latn where the script matters")
            _require_known(limits, info)
        return value

    @model_validator(mode="after")
    def _one_wish_a_rule(self) -> RulesParams:
        wanted = set(self.limits).union(*self.per_language.values())
        both = sorted(wanted & set(self.off))
        if both:
            raise ValueError(f"rule {both[0]} has a limit and is switched off; choose one")
        return self

    def active(self) -> list[Rule]:
        """The rules to apply, in order, each with its limits.

        A limit of the recipe holds for every language the rule is for, in place of the packaged limits, those for
        single languages included; `per_language` comes before both.
        """
        changed = []
        for rule in packaged_rules(self.sets):
            if rule.name in self.limits:
                rule = rule.model_copy(update={"limit": self.limits[rule.name], "per_language": {}})
            nearer = {lang: limits[rule.name] for lang, limits in self.per_language.items() if rule.name in limits}
            if nearer:
                rule = rule.model_copy(update={"per_language": {**rule.per_language, **nearer}})
            changed.append(rule)
        return [rule for rule in changed if rule.on and rule.name not in self.off]

    def asked_for(self) -> set[str]:
        """Names of the rules that the recipe itself gives a limit."""
        given = (name for limits in self.per_language.values() for name, limit in limits.items() if limit is not None)
        return {*self.limits, *given}


def _require_known(names: Collection[str], info: ValidationInfo) -> None:
    for name in names:
        told = unknown_rule(name, info.data.get("sets", _DEFAULT_SETS))
        if told:
            raise ValueError(told)


def check_computed(params: RulesParams, computed: Collection[str], how: Mapping[str, str] | None = None) -> None:
    """Refuse a recipe whose own wishes look at signals that it does not compute, since those rules would do nothing.

    `computed` names the signals that the run has (scores need not be named); `how` says of a missing one what in the
    recipe computes it. Raises UserError for a limit of the recipe, and for a set other than the default ones none of
    whose rules could drop anything.
    """
    there = {*computed, *SCORES}
    for rule in packaged_rules(params.sets):
        if rule.name in params.asked_for() and rule.signal not in there:
            raise UserError(
                f"curate.rules gives {rule.name} a limit, and this recipe does not compute its signal "
                f"{rule.signal} ({SIGNALS[rule.signal]})",
                (how or {}).get(rule.signal, f"switch on what computes {rule.signal}") + ", or take the limit out",
            )
    for name in params.sets:
        signals = sorted({rule.signal for rule in packaged_rules((name,))})
        if name not in _DEFAULT_SETS and not there & set(signals):
            raise UserError(
                f"curate.rules.sets names {name}, and this recipe computes none of its signals: {', '.join(signals)}",
                next((how[signal] for signal in signals if how and signal in how), "switch on what computes them")
                + f", or take {name} out of the sets",
            )


@dataclass(frozen=True)
class Verdicts:
    """For each of N texts the first rule that failed; `value` and `threshold` are NaN where none did."""

    rule: NDArray[np.int64]  # (N,) index into the rules given, KEPT where none failed
    value: Floats  # (N,) what the rule measured
    threshold: Floats  # (N,) its limit for the text's language
    failures: NDArray[np.int64]  # (N,) how many rules failed


@dataclass(frozen=True)
class Checked:
    """One rule on each of N texts."""

    index: int  # of the rule among those given
    looked: NDArray[np.bool_]  # (N,) the rule is for the text's kind and language, and its signal is known
    failed: NDArray[np.bool_]  # (N,)
    values: Floats  # (N,)
    limits: Floats  # (N,) NaN where the rule is not for the text


def each_rule(rules: Sequence[Rule], columns: Mapping[str, Floats], kinds: Coded, langs: Coded) -> Iterator[Checked]:
    """Every rule by itself on N texts; a rule whose signal is no column looks at none and is passed over."""
    for index, rule in enumerate(rules):
        if rule.signal not in columns:
            continue
        values = columns[rule.signal]
        of_lang = np.array([_nan(rule.limit_of(lang)) for lang in langs.values])
        of_kind = np.array([kind in rule.kinds for kind in kinds.values], bool)
        if not len(values) or not of_kind.any() or np.isnan(of_lang).all():
            continue
        limits = of_lang[langs.codes]
        if not of_kind.all():
            limits[~of_kind[kinds.codes]] = np.nan
        looked = ~(np.isnan(limits) | np.isnan(values))
        failed = values < limits if rule.keep == ">=" else values > limits  # never true of a NaN
        yield Checked(index, looked, failed, values, limits)


def apply_rules(rules: Sequence[Rule], columns: Mapping[str, Floats], kinds: Labels, langs: Labels) -> Verdicts:
    """Judge N texts by their signals and scores (`columns`), kinds and BCP 47 languages, each of length N.

    A text passes a rule whose signal is not among the columns, or NaN. Raises ValueError for a missing kind or
    language.
    """
    count = len(kinds)
    verdicts = Verdicts(np.full(count, KEPT), np.full(count, np.nan), np.full(count, np.nan), np.zeros(count, np.int64))
    for checked in each_rule(rules, columns, coded(kinds), coded(langs)):
        verdicts.failures[checked.failed] += 1
        first = np.flatnonzero(checked.failed & (verdicts.rule == KEPT))
        verdicts.rule[first] = checked.index
        verdicts.value[first] = checked.values[first]
        verdicts.threshold[first] = checked.limits[first]
    return verdicts


def _nan(limit: float | None) -> float:
    return np.nan if limit is None else limit
