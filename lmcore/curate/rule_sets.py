"""The packaged rules: rows of data in `rulesets/*.yaml`, a file a set, each row with its source."""

from __future__ import annotations

import csv
import difflib
import functools
import importlib.resources
import re
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from lmcore.config import Settings
from lmcore.curate.names import SCORES, SIGNALS
from lmcore.documents import KINDS

SETS: dict[str, str] = {
    "house": "the default: made for a corpus of one's own choice, in Latin, Ethiopic and CJK scripts",
    "gopher_quality": "Gopher's rules on words, symbols and stop words",
    "gopher_repetition": "Gopher's rules on repeated lines, paragraphs and runs of words",
    "c4": "C4's rules on sentences, brackets and policy texts",
    "fineweb": "what FineWeb adds to Gopher and C4, for English",
    "fineweb2": "FineWeb-2's rules, with limits a language",
    "privacy": "texts that hold much of other people's data",
}
"""Name and meaning of every packaged set."""

LANGUAGE_KEY = r"^[a-z]{2,3}(-[A-Z][a-z]{3})?$"
"""How limits name a language: its shortest ISO 639 code, with the script where it is not the usual one (sr-Latn)."""

_NONE = "-"


class Rule(Settings):
    """One row of a set; what the columns mean is told on top of `rulesets/house.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    signal: str
    keep: Literal[">=", "<="]
    limit: float | None
    kinds: tuple[str, ...] = KINDS
    langs: tuple[str, ...] = ()
    skip_langs: tuple[str, ...] = ()
    per_language: dict[str, float | None] = Field(default={})
    source: str

    @model_validator(mode="after")
    def _known_names(self) -> Rule:
        if self.signal not in (*SIGNALS, *SCORES):
            raise ValueError(f"rule {self.name}: unknown signal {self.signal}")
        if not set(self.kinds) <= set(KINDS):
            raise ValueError(f"rule {self.name}: unknown kind in {self.kinds}")
        for lang in self.per_language:
            if not re.match(LANGUAGE_KEY, lang):
                raise ValueError(f"rule {self.name}: {lang} is no language code such as hu or sr-Latn")
        return self

    @property
    def on(self) -> bool:
        """Whether there is any limit that a text could fail."""
        return self.limit is not None or any(limit is not None for limit in self.per_language.values())

    def limit_of(self, tag: str) -> float | None:
        """The limit for texts of the BCP 47 language `tag`, None where the rule is not for them.

        A limit given for the language (first with script, then without) comes before `langs`, `skip_langs` and `limit`.
        """
        keys = language_keys(tag)
        for key in keys:
            if key in self.per_language:
                return self.per_language[key]
        if (self.langs and keys[-1] not in self.langs) or keys[-1] in self.skip_langs:
            return None
        return self.limit


def language_keys(tag: str) -> tuple[str, ...]:
    """What a BCP 47 tag is called in limits, the nearest name first: "zh-hant-TW" gives zh-Hant, zh."""
    language, *rest = tag.replace("_", "-").split("-")
    language = language.lower()
    script = next((part.title() for part in rest if len(part) == 4 and part.isalpha()), None)
    return (f"{language}-{script}", language) if script else (language,)


@functools.cache
def rule_set(name: str) -> tuple[Rule, ...]:
    """The rules of a packaged set, in order. Raises KeyError for a name not in SETS."""
    SETS[name]
    rows: list[dict[str, Any]] = yaml.safe_load(_packaged(f"{name}.yaml"))
    rules = []
    for row in rows:
        if "table" in row:
            row["per_language"] = row.get("per_language", {}) | _table(row.pop("table"))[row["name"]]
        rules.append(Rule.model_validate(row))
    assert len({rule.name for rule in rules}) == len(rules), f"two rules of one name in set {name}"
    return tuple(rules)


def packaged_rules(sets: tuple[str, ...] = ("house",)) -> tuple[Rule, ...]:
    """The rules of some packaged sets, in the order of the sets."""
    return tuple(rule for name in sets for rule in rule_set(name))


def unknown_rule(name: str, sets: tuple[str, ...]) -> str | None:
    """What to tell about a name that is no rule of `sets`, with the nearest one; None where it is."""
    known = [rule.name for rule in packaged_rules(sets)]
    if name in known:
        return None
    for other in SETS:
        if other not in sets and any(rule.name == name for rule in rule_set(other)):
            return f"rule {name!r} belongs to the set {other}, which is not in curate.rules.sets"
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"the rules are {', '.join(known)}"
    return f"unknown rule {name!r}; {hint}"


@functools.cache
def _table(name: str) -> dict[str, dict[str, float]]:
    """A tab-separated table of limits, as rule name to language to limit; "-" is none."""
    limits: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(_packaged(name).splitlines(), delimiter="\t"):
        for rule, limit in row.items():
            if rule not in ("lang", "config") and limit != _NONE:
                limits.setdefault(rule, {})[row["lang"]] = float(limit)
    return limits


def _packaged(file: str) -> str:
    return importlib.resources.files("lmcore.curate").joinpath("rulesets", file).read_text(encoding="utf-8")
