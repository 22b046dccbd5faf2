"""Overrides of a recipe's values: `a.b.0.c=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmcore.strict_yaml import load_yaml
from lmcore.train.params import HORIZONS
from storage.errors import UserError


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `a.b.0.c=VALUE`; the value is YAML. A new training budget replaces the old one."""
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise UserError(f"--set {override!r} is not of the form a.b=value", "for example --set train.minutes=1")
    if place == "extends":
        raise UserError("--set cannot change extends: the recipe is read before", "name the other recipe instead")
    value = load_yaml(text, f"--set {place}: {text!r}")
    *way, last = place.split(".")
    target: Any = values
    for number, key in enumerate(way):
        if isinstance(target, list):
            target = target[_index(target, key, place)]
        else:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
        if not isinstance(target, (dict, list)):
            raise UserError(
                f"--set {place}: {'.'.join(way[: number + 1])} is a value, not a section", "set it as a whole"
            )
    if isinstance(target, list):
        target[_index(target, last, place)] = value
        return
    if way == ["train"] and last in HORIZONS and value is not None:
        for other in HORIZONS:
            target.pop(other, None)
    if way == ["model"] and is_other_family({last: value}, target):
        target.clear()
    target[last] = value


def is_other_family(model: Mapping[str, Any], below: Mapping[str, Any]) -> bool:
    """Whether settings of a model name another family than those that they are put on."""
    return "family" in model and model["family"] != below.get("family", "decoder")


def _index(target: list[Any], key: str, place: str) -> int:
    if not key.isdecimal() or int(key) >= len(target):
        raise UserError(f"--set {place}: {key!r} is no index of a list of {len(target)}", "count from 0")
    return int(key)
