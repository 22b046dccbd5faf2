"""The rule that keeps Params and Runtime apart, proven on every field there is, now and later."""

import copy
import json
import types
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field, ValidationError

from lmcore.config import Params, Runtime, added_later
from lmcore.curate.rules import packaged_rules
from lmcore.recipe import Recipe, RuntimeSettings
from lmcore.release import ReleaseRuntime
from storage.digest import canonical_json
from storage.store import STAGES
from tasks.collect import CollectParams

RECIPE = {
    "name": "mine",
    "sources": [
        {"name": "docs", "kind": "web", "seeds": ["http://example.org/"]},
        {"name": "notes", "kind": "files", "paths": ["*.txt"]},
    ],
    "train": {"steps": 10, "stages": [{"share": 1.0}]},
    "expect": [
        {"metric": "parameters", "range": [1.0, 2.0], "source": "line 1", "differences": [{"set": ["train.lr=0.1"]}]}
    ],
    "document_epoch": {"tokens": 1000, "source": "line 2"},
}
SECTIONS = {  # section of the recipe: the stage whose key it enters
    "sources": "collect",
    "measure": "measure",
    "compare": "compare",
    "curate": "curate",
    "tokenizer": "tokenizer",
    "tokens": "tokens",
    "model": "train",
    "train": "train",
    "evaluate": "evaluate",
    "export": "export",
    "release": "release",
}
NO_STAGE = {"name", "description", "timezone", "runtime", "resources", "target", "expect", "document_epoch"}
HOW_OFTEN = {"sources.0.target", "sources.1.target"}  # how many rounds of collecting there are, each with its own key
NAMES_AN_INPUT = {"train.init_from"}  # moves; what it means when the flow resolves it is in the key by its digest
ONE_VALUE = {  # fields that can have one value only today
    "sources.0.kind",
    "sources.1.kind",
    "model.family",
    "train.stages.0.share",  # of one stage
    "train.stages.0.replay",
}
TOGETHER = {  # what has to change with a field to keep the recipe valid
    "train.continues": {"train.init_from": "champion"},
    "train.lora": {"train.init_from": "champion"},
    "train.grow": {"train.init_from": "champion"},
    "train.grow_vocabulary": {"train.init_from": "champion"},
    "tokenizer.cross_words": {"tokenizer.kind": "char_bpe"},
    "tokenizer.chat_tags": {"tokenizer.kind": "char_bpe"},
    "tokenizer.order": {"tokenizer.kind": "words"},
    "train.stride": {"train.packing": "stride"},
    "train.promote.patience": {
        "train.stages": [{"name": "a", "share": 0.5, "complexity": None}, {"name": "b", "share": 0.5}]
    },
    "train.mixture_by": {"train.mixture": {"a": 1.0}},
    "train.tokens": {"train.steps": None},
    "train.epochs": {"train.steps": None},
    "train.minutes": {"train.steps": None},
    "document_epoch.sequences": {"document_epoch.tokens": None},
    "expect.0.compare": {"expect.0.reason": "another vocabulary"},
    "expect.0.reason": {"expect.0.compare": False},
    "compare.classifier.good": {"compare.classifier.bad": ["other"]},
    "compare.classifier.bad": {"compare.classifier.good": ["other"]},
}
WORDS = ("x", "Europe/Budapest", "hu", "http://other.org/", "a.txt", "article", "HU", "MIT", packaged_rules()[-1].name)
WORDS += ("vocab_size", "end")  # of a claim


def keys(recipe):
    """The key values of every stage, as the flow hands them to the steps."""
    params = {
        "collect": [CollectParams(source=source.untargeted(), edition="e") for source in recipe.sources],
        "measure": [recipe.measure],
        "compare": [recipe.compare],
        "curate": [recipe.curate],
        "tokenizer": [recipe.tokenizer],
        "tokens": [recipe.tokens],
        "train": [recipe.training],
        "evaluate": [recipe.evaluate],
        "export": [recipe.export],
        "release": [recipe.release],
    }
    assert tuple(params) == STAGES
    return {stage: canonical_json([p.key_values() for p in given]) for stage, given in params.items()}


def candidates(annotation, now):
    """Plausible other values for a field of this type that is `now` (as JSON)."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from candidates(arguments[0], now)
    elif origin is Literal:
        yield from (value for value in arguments if value != now)
    elif origin in (Union, types.UnionType):
        if type(None) in arguments and now is not None:
            yield None
        for argument in arguments:
            if argument is not type(None):
                yield from candidates(argument, now)
    elif origin is tuple:
        items = list(now or [])
        if not items and arguments[-1] is not Ellipsis:  # bounds, the lower first
            numbers = [value for value in candidates(arguments[0], None) if isinstance(value, (int, float))]
            yield sorted(value for value in numbers if value > 0)[: len(arguments)]
        for item in candidates(arguments[0], items[0] if items else None):
            yield [item, *items[1:]]
            yield [*items, item]
        yield items[:-1]
        yield items[::-1]
    elif origin is dict:
        yield {packaged_rules()[0].name: 7.0}
        yield {"example.org": "a-token"}
        yield {"docs": "val"}
        yield {"hu": {packaged_rules()[0].name: 7.0}}
        yield {"prose": ["docs"]}
    elif annotation is bool:
        yield not now
    elif annotation in (int, float):
        steps = (1, -1, 7, 1000) if annotation is int else (0.01, -0.01, 1.0, 7.0)
        yield from ((now or 0) + step for step in steps)
        yield from ((now or 0) * 2, (now or 0) // 2 if annotation is int else (now or 0) / 2)
    elif annotation is str:
        yield from ((now or "") + word for word in WORDS)
        yield from WORDS
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        needed = {name: field for name, field in annotation.model_fields.items() if field.is_required()}
        yield {name: next(candidates(field.annotation, None)) for name, field in needed.items()}
    else:
        raise AssertionError(f"teach this test about {annotation}")


def fields(model, values, place=""):
    """(place, annotation, value) of every field below a model, down to the plain ones."""
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), f"{place}{name}"
        if isinstance(value, BaseModel):
            yield from fields(value, values, f"{here}.")
        elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
            for number, item in enumerate(value):
                yield from fields(item, values, f"{here}.{number}.")
        else:
            annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            yield here, annotation, _at(values, here)


def _at(values, place):
    for key in place.split("."):
        values = values[int(key) if isinstance(values, list) else key]
    return values


def _set(values, place, value):
    way, _, last = place.rpartition(".")
    target = _at(values, way) if way else values
    target[last] = value


def variants(recipe):
    """(place, a valid recipe with only this field changed) for every field; None where no other value exists."""
    values = recipe.model_dump(mode="json")
    for place, annotation, now in fields(recipe, values):
        for value in candidates(annotation, now):
            other = copy.deepcopy(values)
            _set(other, place, value)
            for partner, needed in TOGETHER.get(place, {}).items():
                _set(other, partner, needed)
            try:
                changed = Recipe.model_validate(other)
            except ValidationError:
                continue
            if _at(changed.model_dump(mode="json"), place) != now:
                yield place, changed
                break
        else:
            yield place, None


@pytest.fixture(scope="module")
def recipe():
    return Recipe.model_validate(RECIPE)


@pytest.fixture(scope="module")
def every_change(recipe):
    """Every field of a recipe with a recipe in which it is another."""
    return dict(variants(recipe))


def test_every_field_of_a_recipe_can_be_changed_here(recipe, every_change):
    assert {place for place, changed in every_change.items() if changed is None} == ONE_VALUE, (
        "give this test a way to change the field, or list it"
    )
    assert len(every_change) > 100
    bare = {
        name for name in SECTIONS if hasattr(given := getattr(recipe, name), "key_values") and not given.key_values()
    }
    assert {place.partition(".")[0] for place in every_change} | bare == set(SECTIONS) | NO_STAGE
    assert set(Recipe.model_fields) == set(SECTIONS) | NO_STAGE, "say which stage the new section belongs to"


def test_no_field_of_a_runtime_changes_any_key(recipe, every_change):
    before = keys(recipe)
    places = [place for place in every_change if place.startswith("runtime.")]
    named = {
        ".".join(("runtime", stage, name))
        for stage, field in RuntimeSettings.model_fields.items()
        for name in field.annotation.model_fields
    }
    assert set(places) == named, "every field of every Runtime was changed"
    for place in places:
        assert keys(every_change[place]) == before, f"{place} is Runtime and must not change a key"


def test_every_field_of_params_changes_the_key_of_its_stage_and_no_other(recipe, every_change):
    before = keys(recipe)
    for place, changed in every_change.items():
        section = place.partition(".")[0]
        if changed is None or section in NO_STAGE:
            continue
        after = keys(changed)
        different = {stage for stage in STAGES if after[stage] != before[stage]}
        assert different == (set() if place in NAMES_AN_INPUT | HOW_OFTEN else {SECTIONS[section]}), place


def test_claims_change_no_key(recipe, every_change):
    claims = [place for place in every_change if place.startswith(("expect.", "document_epoch."))]
    assert len(claims) == 9 + 4
    for place in claims:
        assert keys(every_change[place]) == keys(recipe), place


def test_names_and_descriptions_change_no_key(recipe, every_change):
    for place in ("name", "description", "timezone", "target"):
        assert keys(every_change[place]) == keys(recipe), place


def test_one_source_does_not_touch_the_key_of_another(recipe, every_change):
    before = json.loads(keys(recipe)["collect"])
    for place, changed in every_change.items():
        if changed is not None and place.startswith("sources.") and place not in HOW_OFTEN:
            number = int(place.split(".")[1])
            after = json.loads(keys(changed)["collect"])
            assert [a == b for a, b in zip(after, before, strict=True)] == [number != 0, number != 1], place


def test_an_edition_is_in_the_key_of_its_collections(recipe):
    first, second = (CollectParams(source=recipe.sources[0], edition=edition).key_values() for edition in ("a", "b"))
    assert first != second


def test_no_field_is_params_and_runtime_of_one_stage(recipe):
    runtimes = {stage: field.annotation for stage, field in RuntimeSettings.model_fields.items()}
    runtimes["release"] = ReleaseRuntime
    assert set(runtimes) == set(STAGES)
    for section, stage in SECTIONS.items():
        value = getattr(recipe, section)
        for params in value if isinstance(value, tuple) else (value,):
            assert isinstance(params, Params)
            assert issubclass(runtimes[stage], Runtime)
            assert not set(_names(type(params))) & set(_names(runtimes[stage])), stage


def _names(model):
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation)


def test_every_model_below_params_is_params(recipe):
    def check(model, place):
        for name, value in model:
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, BaseModel):
                    assert isinstance(item, Params), f"{place}.{name}: its added_later fields would be lost"
                    check(item, f"{place}.{name}")

    for section in SECTIONS:
        value = getattr(recipe, section)
        for number, params in enumerate(value if isinstance(value, tuple) else (value,)):
            check(params, f"{section}.{number}")


# what enters a key


class Inner(Params):
    width: int = 3
    later: bool = added_later(False, description="Came in the second year.")


class Outer(Params):
    name: str = "é"
    rate: float = 1
    nothing: int | None = None
    pair: tuple[float, float] = (0.9, 1)
    table: dict[str, float] = Field(default={})
    inner: Inner = Inner()
    several: tuple[Inner, ...] = (Inner(), Inner(width=4, later=True))
    mode: Literal["old", "new"] = added_later("old", description="Came in the third year.")
    more: tuple[str, ...] = added_later((), description="Came in the fourth year.")


def test_the_values_of_a_key_do_not_change_over_the_years():
    assert canonical_json(Outer().key_values()) == (
        '{"inner":{"width":3},"name":"é","nothing":null,"pair":[0.9,1.0],"rate":1.0,'
        '"several":[{"width":3},{"later":true,"width":4}],"table":{}}'
    )
    changed = Outer(mode="new", more=("a",), table={"b": 1, "a": 2}, inner=Inner(later=True), nothing=0)
    assert canonical_json(changed.key_values()) == (
        '{"inner":{"later":true,"width":3},"mode":"new","more":["a"],"name":"é","nothing":0,"pair":[0.9,1.0],'
        '"rate":1.0,"several":[{"width":3},{"later":true,"width":4}],"table":{"a":2.0,"b":1.0}}'
    )


def test_a_field_added_later_renames_nothing_that_was_built_before():
    class Before(Params):
        width: int = 3

    class After(Params):
        width: int = 3
        depth: int = added_later(1, ge=1, description="New.")

    assert After().key_values() == Before().key_values() == After(depth=1).key_values()
    assert After(depth=2).key_values() == {"width": 3, "depth": 2}
    with pytest.raises(ValidationError):
        After(depth=0)


@pytest.mark.parametrize("kind", [Params, Runtime])
def test_settings_are_strict_and_frozen(kind):
    class Made(kind):
        width: int = 3
        rate: float = 0.5

    with pytest.raises(ValidationError, match="extra_forbidden"):
        Made(wdith=4)
    with pytest.raises(ValidationError, match="frozen"):
        Made().width = 4
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="finite_number"):
            Made(rate=wrong)
