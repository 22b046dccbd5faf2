"""The recipe: one YAML file that says where text comes from, what is kept, how it is cut, learnt and judged.

Precedence, weakest first: defaults < `extends` < the recipe < `--set`. Reading is strict: an unknown key is an
error that names the nearest valid one, a wrong type an error that names the place.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, ValidationError, field_validator

from lmcore.collect.kinds import NUMBERS, SourceParams
from lmcore.collect.params import CollectRuntime
from lmcore.collect.target import Target
from lmcore.config import Settings
from lmcore.curate.params import (
    CompareParams,
    CompareRuntime,
    CurateParams,
    CurateRuntime,
    MeasureParams,
    MeasureRuntime,
)
from lmcore.evaluate.params import EvaluateParams, EvaluateRuntime
from lmcore.evaluate.probes.settings import check_probes
from lmcore.expect.amount import DocumentEpoch
from lmcore.expect.rows import Expectation
from lmcore.export.architectures import stock_architecture
from lmcore.export.params import ExportParams, ExportRuntime
from lmcore.models.config import DecoderConfig
from lmcore.models.families import FAMILIES, ModelSection, adaptable
from lmcore.recipe_names import check_names
from lmcore.recipe_overrides import apply_override, is_other_family
from lmcore.recipe_paths import resolve_paths
from lmcore.release import ReleaseParams
from lmcore.strict_yaml import load_yaml
from lmcore.tokenizer.params import TokenizerParams, TokenizerRuntime
from lmcore.tokens.params import TokensParams, TokensRuntime, check_stages
from lmcore.train.params import (
    HORIZONS,
    TrainParams,
    TrainRuntime,
    TrainSection,
    TrainSettings,
    check_processes,
    check_vocabulary,
)
from storage.errors import UserError

MAX_EXTENDS = 8
# What is read, into which line of releases, as whom, who is told which token, and what is claimed of it.
OWNED = (
    *("name", "extends", "expect", "document_epoch", "sources", "train.init_from"),
    *("runtime.collect.contact", "runtime.collect.tokens"),
    *(f"compare.classifier.{name}" for name in ("labelled", "digest", "text_field", "label_field")),
    "curate.decontaminate.evaluation_sets",
)
SHORTEST_NEAR = 0.5  # difflib ratio from which a misspelt key is worth a suggestion
SURELY_NEAR = 0.8  # and from which it is a slip of the pen rather than a key of another section


class RuntimeSettings(Settings):
    """Per stage, what changes how the work is done and never what it leaves."""

    collect: CollectRuntime = Field(default_factory=CollectRuntime, description="Runtime of collect.")
    measure: MeasureRuntime = Field(default_factory=MeasureRuntime, description="Runtime of measure.")
    compare: CompareRuntime = Field(default_factory=CompareRuntime, description="Runtime of compare.")
    curate: CurateRuntime = Field(default_factory=CurateRuntime, description="Runtime of curate.")
    tokenizer: TokenizerRuntime = Field(default_factory=TokenizerRuntime, description="Runtime of tokenizer.")
    tokens: TokensRuntime = Field(default_factory=TokensRuntime, description="Runtime of tokens.")
    train: TrainRuntime = Field(default_factory=TrainRuntime, description="Runtime of train.")
    evaluate: EvaluateRuntime = Field(default_factory=EvaluateRuntime, description="Runtime of evaluate.")
    export: ExportRuntime = Field(default_factory=ExportRuntime, description="Runtime of export.")


class StageResources(Settings):
    """Where a stage runs."""

    work_pool: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Prefect work pool that does this stage, by a deployment named like it; empty: where the run is.",
    )


class Resources(Settings):
    """Which stages run elsewhere. How much of a machine a run may use is the work pool's to say."""

    train: StageResources = Field(default_factory=StageResources, description="Where training runs.")


class Recipe(Settings):
    """Everything one run needs to know."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Names the recipe's editions and releases.")
    description: str = Field(default="", description="One line for people.")
    timezone: str = Field(default="UTC", description="Time zone that an edition's date is taken in.")
    sources: tuple[SourceParams, ...] = Field(min_length=1, description="Where text comes from.")
    target: Target | None = Field(
        default=None, description="How many unique texts are wanted of all sources that have no target of their own."
    )
    measure: MeasureParams = Field(default_factory=MeasureParams, description="How texts are spelled and measured.")
    compare: CompareParams = Field(default_factory=CompareParams, description="Which texts are alike.")
    curate: CurateParams = Field(default_factory=CurateParams, description="What is kept, how scored and split.")
    tokenizer: TokenizerParams = Field(default_factory=TokenizerParams, description="The vocabulary.")
    tokens: TokensParams = Field(default_factory=TokensParams, description="The token shards.")
    model: ModelSection = Field(default_factory=DecoderConfig, description="The shape of the network.")
    train: TrainSection = Field(description="How long and by what means it learns.")
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams, description="How it is judged.")
    export: ExportParams = Field(default_factory=ExportParams, description="What it is exported to.")
    release: ReleaseParams = Field(default_factory=ReleaseParams, description="When it becomes champion.")
    expect: tuple[Expectation, ...] = Field(
        default=(), description="What a document says that a run will show; told beside what is measured."
    )
    document_epoch: DocumentEpoch | None = Field(
        default=None, description="How much text an epoch has in the document; `params --step` projects its time."
    )
    runtime: RuntimeSettings = Field(default_factory=RuntimeSettings, description="How the work is done.")
    resources: Resources = Field(default_factory=Resources, description="Where the work is done.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # the last: a folder of zones, such as Europe
            raise ValueError(f"{name!r} is no time zone, write it as in Europe/Budapest") from error
        return name

    @field_validator("sources")
    @classmethod
    def _named_once(cls, sources: tuple[SourceParams, ...]) -> tuple[SourceParams, ...]:
        names = [source.name for source in sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two sources are called {', '.join(sorted(twice))}")
        for source in sources:
            for name in source.articles_of:
                if name not in names:
                    raise ValueError(f"source {source.name} is made from {name}, and there is no such source")
                if sources[names.index(name)].kind == "synthetic":
                    raise ValueError(f"source {source.name} is made from {name}, which is synthetic itself")
        return sources

    @property
    def waves(self) -> list[list[SourceParams]]:
        """The sources in the order they are collected in: first those that are made of nothing collected."""
        parts = [[source for source in self.sources if bool(source.articles_of) is made] for made in (False, True)]
        return [part for part in parts if part]

    @property
    def training(self) -> TrainParams:
        """The Params of the train stage: `train` and `model` together."""
        return TrainParams(**{name: getattr(self.train, name) for name in TrainSettings.model_fields}, model=self.model)


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the program, by name."""
    folder = Path(str(resources.files("lmcore") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe or a file, with `a.b=value` overrides. Raises UserError for anything wrong in it."""
    values = _read(_locate(name_or_path, None), ())
    for override in overrides:
        apply_override(values, override)
    resolve_paths(values, Path.cwd())
    return parse_recipe(values, name_or_path)


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A Recipe from plain values. Raises UserError that names the place and the nearest valid key."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(values), strict=True)  # strict: "16" and true are no numbers
    except ValidationError as error:
        raise _explained(error, where) from error
    try:  # told now, not when the stage is reached
        check_names(recipe)
        check_processes(recipe.train, recipe.runtime.train.processes)
        check_stages(recipe.train, recipe.model.context)
        check_vocabulary(recipe.train, recipe.tokenizer.kind)
        check_probes(recipe.evaluate, [source.name for source in recipe.sources], recipe.model.context)
        check_claims(recipe)
        if recipe.train.lora:
            adaptable(recipe.model)
        if recipe.export.hf:
            stock_architecture(recipe.model)
    except UserError as error:
        raise UserError(f"{where}: {error.what}", error.mend) from error
    return recipe


def counted_as(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with other settings, to be counted and not run. Raises UserError as `load_recipe` does."""
    values = recipe.model_dump(mode="json") | {"expect": []}
    values["export"]["hf"] = False  # a shape that nothing stock loads is counted as well
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, recipe.name)


def check_claims(recipe: Recipe) -> None:
    """Raise UserError for a claim about a stage that is not there, or with a difference that cannot be."""
    for number, row in enumerate(recipe.expect):
        if row.at.kind == "after stage N" and row.at.number > len(recipe.train.stages):
            told = f"there is no stage {row.at.number}: train.stages has {len(recipe.train.stages)}"
            raise UserError(f"expect.{number}.when: {told}", "count from 1")
        if not row.differences:
            continue
        try:
            counted_as(recipe, [setting for difference in row.differences for setting in difference.set])
        except UserError as error:
            raise UserError(f"expect.{number}.differences: {error.what}", error.mend) from error


def check_settings(overrides: Sequence[str]) -> None:
    """Raise UserError when an override changes what the recipe reads or stands for.

    For overrides by whoever may start a run on a machine of somebody else. Of a source they may set the numbers.
    """
    for override in overrides:
        place, _, value = override.partition("=")
        way = place.split(".")
        if place == "train.init_from" and value in ("scratch", "champion"):
            continue
        if way[0] == "sources" and len(way) == 3 and way[2] in NUMBERS:
            continue
        if any(f"{place}.".startswith(f"{owned}.") or f"{owned}.".startswith(f"{place}.") for owned in OWNED):
            raise UserError(
                f"set: {place} cannot be changed for one run: the recipe says what is read, and in whose name",
                "write a recipe with `extends` into the worker's folder of recipes (COLLECT_TRAIN_RECIPES)",
            )


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "collect-train recipe"
    schema["properties"]["extends"] = {"type": "string", "description": "A packaged recipe or a file to start from."}
    schema["required"] = []  # an extended recipe may leave everything to its base
    model = schema["properties"]["model"]
    model["anyOf"] = model.pop("oneOf")  # the family may be the base's, and some settings are of several
    return schema


def _locate(name: str, beside: Path | None) -> Path:
    packaged = packaged_recipes()
    if name in packaged:
        return packaged[name]
    with contextlib.suppress(OSError, RuntimeError):  # a name too long for a file, a ~user that does not exist
        path = (beside or Path()) / Path(name).expanduser()
        if path.is_file():
            return Path(os.path.abspath(path))  # not resolved: a link's neighbours are meant
    near = difflib.get_close_matches(name, packaged, 1, SHORTEST_NEAR)
    known = f"packaged recipes: {', '.join(packaged)}; or give the path of a YAML file"
    raise UserError(f"there is no recipe {name!r}", f"did you mean {near[0]}? {known}" if near else known)


def _read(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path in chain:
        told = " > ".join(p.name for p in (*chain, path))
        raise UserError(f"{path} extends itself: {told}", "break the circle of `extends`")
    if len(chain) >= MAX_EXTENDS:
        raise UserError(f"{path} is the end of a chain of {len(chain)} `extends`", f"use at most {MAX_EXTENDS}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the recipe {path}: {error}", "give a readable UTF-8 YAML file") from error
    values = load_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a recipe", "a recipe is a mapping with name, sources, train and more")
    resolve_paths(values, path.parent)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise UserError(f"{path}: extends must be the name of a recipe or a path", "write it as text")
    below = _read(_locate(base, path.parent), (*chain, path))
    train, train_below = values.get("train"), below.get("train")
    if isinstance(train, dict) and isinstance(train_below, dict) and any(train.get(name) for name in HORIZONS):
        for name in HORIZONS:
            train_below.pop(name, None)  # a new training budget replaces the old one
    model, model_below = values.get("model"), below.get("model")
    if isinstance(model, dict) and isinstance(model_below, dict) and is_other_family(model, model_below):
        below["model"] = {}  # nor do the settings of one family suit another
    return _merged(below, values)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _explained(error: ValidationError, where: str) -> UserError:
    """The first fault, in words; unknown keys first, since they often cause the others."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first = faults[0]
    tags = ("web", "files", *(FAMILIES if first["loc"][:1] == ("model",) else ()))
    place = ".".join(str(part) for part in first["loc"] if part not in tags) or "recipe"
    if first["type"] == "extra_forbidden":
        return UserError(f"{where}: unknown key {place}", _right_key(first["loc"], place))
    if first["type"].startswith("union_tag") and first["loc"] == ("model",):
        return UserError(f"{where}: there is no such model.family", f"write family: one of {', '.join(FAMILIES)}")
    if first["type"].startswith("union_tag"):
        kinds = ", ".join(model.model_fields["kind"].default for model in _at(first["loc"]))
        return UserError(f"{where}: {place} needs a kind", f"write kind: one of {kinds}")
    if first["type"] == "missing":
        return UserError(
            f"{where}: {place} is missing", f"add it: {_description(first['loc']) or 'see docs/recipes.md'}"
        )
    given = first.get("input")
    shown = (
        ""
        if isinstance(given, (dict, list, tuple, BaseModel))
        else f", got {json.dumps(given, default=str, ensure_ascii=False)}"
    )
    message = first["msg"].removeprefix("Value error, ")
    return UserError(f"{where}: {place}: {message}{shown}", _description(first["loc"]) or "see docs/recipes.md")


def _right_key(loc: Sequence[int | str], place: str) -> str:
    """Where an unknown key was meant to go: a slip of the pen, another section, something like it, or the list."""
    valid = sorted(_keys_at(loc[:-1]))
    name = str(loc[-1])
    if surely := difflib.get_close_matches(name, valid, 1, SURELY_NEAR):
        return f"did you mean {surely[0]}?"
    elsewhere = {path for path in _all_keys(Recipe, "") if path.rpartition(".")[2] == name}
    if elsewhere:
        level = min(path.count(".") for path in elsewhere)  # what every recipe has before a part of an option
        shared = {p: len(set(p.split(".")) & set(place.split("."))) for p in elsewhere if p.count(".") == level}
        return f"it belongs at {' or '.join(sorted(p for p in shared if shared[p] == max(shared.values())))}"
    near = difflib.get_close_matches(name, valid, 1, SHORTEST_NEAR)
    return f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models(argument)


def _children(models: list[type[BaseModel]], key: str) -> list[type[BaseModel]]:
    return [
        child for model in models if key in model.model_fields for child in _models(model.model_fields[key].annotation)
    ]


def _at(loc: Sequence[int | str]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [Recipe]
    for part in loc:
        if isinstance(part, int):
            continue
        tagged = [m for m in models for tag in ("kind", "family") if _default(m, tag) == part]
        models = tagged or _children(models, part)
    return models


def _default(model: type[BaseModel], name: str) -> Any:
    return model.model_fields[name].default if name in model.model_fields else None


def _keys_at(loc: Sequence[int | str]) -> set[str]:
    keys = {name for model in _at(loc) for name in model.model_fields}
    return keys | {"extends"} if not loc else keys


def _all_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for child in _models(field.annotation):
            yield from _all_keys(child, f"{prefix}{name}.")


def _description(loc: Sequence[int | str]) -> str | None:
    for model in _at(loc[:-1]) if loc else []:
        if loc[-1] in model.model_fields:
            return model.model_fields[str(loc[-1])].description
    return None
