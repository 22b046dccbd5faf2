"""Check, or with --write make, the tables of docs/recipes.md: every option of a recipe, read from its models.

    python tools/recipe_docs.py [--write]

The text around the tables is written by hand; what stands between `<!-- options: NAME -->` and `<!-- end -->` is not.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lmcore.collect.kinds import NAMES
from lmcore.collect.params import Source
from lmcore.models.families import FAMILIES
from lmcore.recipe import Recipe

FILE = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
BLOCK = re.compile(r"(<!-- options: ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WORDS = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}
ENDLESS = 2**60  # a bound from here on says nothing to a person
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type and its range in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        told = [kind(argument, metadata) for argument in arguments if argument is not type(None)]
        return " or ".join([*told, "`null`"] if type(None) in arguments else told)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)}, each {kind(arguments[0])}"
    if origin is tuple:
        return f"list, each {kind(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is dict:
        return f"mapping of {kind(arguments[0])} to {kind(arguments[1])}"
    return WORDS[annotation] + span(metadata)


def span(metadata: Sequence[Any]) -> str:
    """The range that constraints allow, in words."""
    flat = [part for item in metadata for part in (getattr(item, "metadata", None) or [item])]
    found = {name: getattr(item, name) for item in flat for name in BOUNDS if getattr(item, name, None) is not None}
    if {"ge", "le"} <= found.keys():
        return f" {number(found['ge'])} to {number(found['le'])}"
    told = [f"{BOUNDS[name]} {number(limit)}" for name, limit in found.items() if limit < ENDLESS]
    return f" {' and '.join(told)}" if told else ""


def number(value: float) -> str:
    """A number as one may write it in a recipe."""
    return f"{int(value):_}" if float(value).is_integer() else f"{value:g}"


def default(value: Any) -> str:
    """What holds when the option is left out."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"`{value:_}`"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def rows(fields: Mapping[str, FieldInfo], prefix: str = "", section: BaseModel | None = None) -> Iterator[str]:
    """One table row per option, those of nested sections with their path; `section` holds the defaults, if given."""
    for name, field in fields.items():
        value = getattr(section, name) if section else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from rows(type(value).model_fields, f"{prefix}{name}.", value)
            continue
        needed = field.is_required()
        cells = (
            f"`{prefix}{name}`",
            kind(field.annotation, field.metadata),
            "required" if needed else default(value),
            field.description or "",
        )
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
        for model, mark in optional_models(field.annotation):
            yield from rows(model.model_fields, f"{prefix}{name}{mark}.")


def optional_models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """The sections that an option may be or list, each with "[]" where it is a list of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType, tuple):
        for argument in arguments:
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                yield argument, "[]" if origin is tuple else ""


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, the usual one where there are several; None for a plain option."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        usual = type(field.get_default(call_default_factory=True))
        return usual if issubclass(usual, BaseModel) else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def table(name: str) -> str:
    """The table of one section. Raises KeyError for a name that is no section."""
    shared = Source.model_fields
    if name == "recipe":
        fields = {n: f for n, f in Recipe.model_fields.items() if n != "sources" and not model_of(f)}
    elif name == "sources":
        fields = dict(shared)
    elif name.startswith("model."):
        fields = FAMILIES[name.removeprefix("model.")].model_fields
    elif name in NAMES:
        own = NAMES[name].model_fields
        fields = {n: f for n, f in own.items() if n not in shared or f.default != shared[n].default}
    else:
        section = model_of(Recipe.model_fields[name])
        assert section is not None, name
        fields = section.model_fields
    return "| option | value | default | what it does |\n|---|---|---|---|\n" + "".join(rows(fields))


def page(text: str) -> str:
    """The page with every table as it should be today."""
    return BLOCK.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", text)


def main() -> int:
    """Check or write; 1 when the page is not up to date."""
    before = FILE.read_text(encoding="utf-8")
    after = page(before)
    if "--write" in sys.argv:
        FILE.write_text(after, encoding="utf-8")
    elif after != before:
        print("docs/recipes.md is not up to date: python tools/recipe_docs.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
