"""YAML without its surprises: plain values only, numbers and truth values as YAML 1.2 reads them, no key twice.

PyYAML follows YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90, a date is no text and `1e-3` is no number.
Here `true`, `false`, `null` and decimal numbers are what they look like and everything else is text.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from storage.errors import UserError

MAX_VALUES = 100_000  # after aliases are written out; a few hundred bytes of aliases of aliases can mean billions

_TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")} | {None}


class _Loader(yaml.SafeLoader):
    """Safe YAML that knows the plain tags only and refuses a key given twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way
    yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in _PLAIN}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "this is no mapping", node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key_node.tag != f"{_TAG}merge":
                key_node.tag = f"{_TAG}str"  # 1 and true are one key to Python and two to JSON
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} stands twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), _first)  # type: ignore[no-untyped-call]


def load_yaml(text: str, where: str) -> Any:
    """The value `text` holds: None, bool, int, float, str, lists and dicts of them, no two parts shared.

    Raises UserError that names `where` and, where there is one, the line and column.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > MAX_VALUES:
                raise yaml.YAMLError(f"its aliases stand for more than {MAX_VALUES:,} values")
            value = loader.construct_document(node)  # type: ignore[no-untyped-call]
        finally:
            loader.dispose()  # type: ignore[no-untyped-call]
        return json.loads(json.dumps(value, ensure_ascii=False).encode())
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {_told(error)}", "correct it at that place") from error


def _told(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for when every alias in it is written out."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_VALUES + 1  # until it is counted: met again before that, it holds itself
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
