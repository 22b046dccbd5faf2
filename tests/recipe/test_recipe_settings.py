"""What whoever may start a run on another's machine cannot change of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from lmcore.collect.kinds import NUMBERS
from lmcore.recipe import OWNED, Recipe, check_settings
from storage.errors import UserError

HARMLESS = {  # texts that are no path, address, pattern of addresses, command, or name of whose it is
    "description",
    "timezone",
    "target.tiers",
    "curate.rules.limits",
    "curate.rules.off",
    "curate.rules.sets",
    "curate.rules.per_language",
    "curate.split.salt",
    "curate.split.sources",  # names of sources
    "curate.duplicates.trusted",  # names of sources
    "curate.mix.sources",
    "curate.mix.kinds",
    "curate.licences.allow",
    "measure.language.expected",
    "measure.privacy.regions",
    "compare.reference.sources",  # names of sources
    "compare.classifier.good",
    "compare.classifier.bad",
    "tokenizer.weights",
    "tokens.learn_roles",
    "tokens.only_roles_of",  # names of sources
    "train.mixture",
    "train.stages.name",  # letters and digits, as a folder beside the model
    "train.stages.mixture",
    "train.stages.complexity",  # a number, or q and a share
    "train.prompts",
    "evaluate.prompts",
    "evaluate.sampling.stop",
    "evaluate.genres",  # names of sources, and of groups of them
    "evaluate.terms.words",
    "evaluate.terms.domain",  # names of sources
    "evaluate.terms.general",
    "export.name",
    "export.prompts",
    "resources.train.work_pool",
}


@pytest.mark.parametrize(
    "override",
    [
        'sources=[{"name": "own", "kind": "files", "base": "/tmp/secret", "paths": ["private.txt"]}]',
        'sources.0={"name": "own", "kind": "files", "paths": ["/etc/passwd"]}',
        "sources.0.kind=files",
        "sources.0.base=/etc",
        "sources.0.paths=[passwd]",
        "sources.0.paths.0=/etc/passwd",
        "sources.0.seeds=[http://169.254.169.254/]",
        "sources.0.seeds.0=http://localhost:5432/",
        "sources.0.serve=pydoc",
        "sources.0.allow=[.*]",
        "sources.0.deny=[]",
        "sources.0.blank=[(a+)+$]",
        "sources.0.text_field=password",
        "sources.0.max_pages.0=1",
        "sources.max_pages=1",
        "name=another",
        "extends=/etc/passwd",
        "runtime.collect.contact=someone@example.org",
        "runtime.collect.tokens={evil.example.org: hf-token}",
        "runtime.collect.tokens.huggingface=aws-token",
        "runtime.collect={contact: someone@example.org}",
        "runtime={collect: {contact: someone@example.org}}",
    ],
)
def test_what_is_read_and_as_whom_is_the_recipes(override):
    place = override.partition("=")[0]
    with pytest.raises(UserError) as error:
        check_settings(["train.steps=1", override])
    assert error.value.what.startswith(f"set: {place} cannot be changed for one run")
    assert "COLLECT_TRAIN_RECIPES" in error.value.mend


@pytest.mark.parametrize(
    "override",
    ["sources.0.max_pages=150", "sources.12.delay=2.5", "train.lr=0.002", "curate.gates.min_documents=5",
     "runtime.collect.concurrency=2", "runtime.train={threads: 1}", "export.name=a model", "names=x", "=", "nonsense"],
)  # fmt: skip
def test_the_rest_is_left_to_the_recipe_to_judge(override):
    check_settings([override])


def test_numbers_of_sources():
    assert {"max_pages", "max_bytes", "max_depth", "delay", "min_chars"} <= NUMBERS
    assert "gap" not in NUMBERS, "where a scene ends is what is read, not how much"


def test_every_text_of_a_recipe_is_judged():
    """A new setting that holds text is the owner's, or has to be named above."""
    texts = {place for place, annotation in fields(Recipe, "") if holds_text(annotation)}
    free = {place for place in texts if not any(f"{place}.".startswith(f"{owned}.") for owned in OWNED)}
    assert free == HARMLESS


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field.annotation
        for below in models(field.annotation):
            yield from fields(below, f"{prefix}{name}.")


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models(argument)


def holds_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return False
    return annotation in (str, Any, object) or any(holds_text(argument) for argument in get_args(annotation))
