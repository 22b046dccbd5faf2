"""Where a training starts, and what a model has learnt before: the chain of models behind a warm start.

`train: {init_from: champion}` names a model that moves. The edition's record says who was champion when it was begun,
and the plan what another name meant; here that becomes artifacts: the model whose weights are the first ones, and the
vocabulary that its ids mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from flows.plan import Given, Plan, Start
from lmcore.models.families import parse_config
from lmcore.models.fit import misfits
from lmcore.recipe import Recipe
from lmcore.train.params import LOSSY_KINDS
from storage.errors import RunError, UserError
from storage.manifest import InputEntry
from storage.store import Artifact, ArtifactDamaged, Store

ANEW = "--set train.init_from=scratch"
_RESTORE = "restore it from a backup (`collect-train verify` says what it sets aside), or"


@dataclass(frozen=True)
class WarmStart:
    """A model to go on from: its name (NAME@NUMBER of a release), its train artifact, its vocabulary.

    No vocabulary where the recipe has one of its own for it (`train.grow_vocabulary`).
    """

    release: str
    model: Artifact
    tokenizer: Artifact | None


def warm_start(store: Store, plan: Plan, recipe: Recipe, tell: Callable[[str], None]) -> WarmStart | None:
    """The model that the plan starts from; None, and a line to `tell`, when training begins from scratch.

    Raises RunError when that model or its vocabulary is lost or damaged, UserError when the recipe asks for another
    shape or vocabulary than it has.
    """
    asked = recipe.train.init_from
    if asked == "scratch":
        return None
    name, edition = recipe.name, plan.edition
    if asked == "champion":
        if edition.start is None:
            tell(f"edition {edition.name} was begun without a champion of {name}: training begins from scratch")
            return None
        release, what = f"{name}@{edition.start.release}", f"{name}@{edition.start.release}, the champion"
        given: Given | Start = edition.start
    else:
        assert plan.start is not None, "resolved when the plan was made"
        given, release, what = plan.start, plan.start.name, plan.start.name
    model = _start(store, "train", given.model_key, given.model_digest, asked, what)
    shape = parse_config(model.manifest.provenance.params["model"])
    if wrong := misfits(shape, recipe.model, grow=recipe.train.grow):
        _refuse(asked, release, "model", wrong, recipe.model.model_dump(mode="json"), shape.model_dump(mode="json"))
    if recipe.train.grow_vocabulary:
        _check_spelling(store, model, release, asked)
        tell(f"the vocabulary is the recipe's own: tokens that {release} does not have begin as the mean of its pieces")
    tokenizer = None if recipe.train.grow_vocabulary else _vocabulary(store, model, recipe, release, what, tell)
    if any(corpus.digest != then for corpus, then in _lessons(store, model, lambda _: None)):
        tell(f"{release} has learnt texts that were taken out of the store since; begin anew without them: {ANEW}")
    return WarmStart(release, model, tokenizer)


def _made_of(model: Artifact, stage: str) -> InputEntry | None:
    """The record of what a model was made of at a stage; None when it was made of nothing there."""
    return next((entry for entry in model.manifest.provenance.inputs if entry.stage == stage), None)


def _check_spelling(store: Store, model: Artifact, release: str, asked: str) -> None:
    """Raise UserError, before anything is built, when the start's vocabulary cannot spell another one."""
    entry = _made_of(model, "tokenizer")
    found = store.find("tokenizer", entry.key) if entry else None
    kind = found.manifest.provenance.params.get("kind") if found else None
    if kind in LOSSY_KINDS:
        raise UserError(
            f"train.init_from is {asked}, and the vocabulary of {release} is of kind {kind}, which cannot spell the "
            "tokens of another",
            "leave train.grow_vocabulary out and use its vocabulary, or start from another model",
        )


def _vocabulary(
    store: Store, model: Artifact, recipe: Recipe, release: str, what: str, tell: Callable[[str], None]
) -> Artifact:
    """The vocabulary that a model's ids mean, which the recipe must ask for. Raises as `warm_start` does."""
    asked = recipe.train.init_from
    entry = _made_of(model, "tokenizer")
    if entry is None:
        raise RunError(f"{what} does not say what vocabulary it has", "start from another model")
    tokenizer = _start(store, "tokenizer", entry.key, entry.digest, asked, f"the vocabulary of {release}")
    cut, wanted = tokenizer.manifest.provenance.params, recipe.tokenizer.key_values()
    if "imported" in cut:  # nobody knows how it was learnt
        tell(f"the vocabulary is that of {release}; the recipe's `tokenizer` has no part in it")
    elif cut != wanted:
        _refuse(asked, release, "tokenizer", [n for n in wanted | cut if wanted.get(n) != cut.get(n)], wanted, cut)
    return tokenizer


def has_learnt(model: Artifact, tokens: Artifact, recipe: Recipe) -> bool:
    """Whether `model` was trained on exactly these tokens as the recipe says, whatever it started from."""
    made = model.manifest.provenance
    learnt = {entry.digest for entry in made.inputs if entry.stage == "tokens"}
    return tokens.digest in learnt and made.params == recipe.training.key_values()


def learnt_before(store: Store, model: Artifact, corpus: Artifact, tell: Callable[[str], None]) -> list[Artifact]:
    """The curated corpora that `model` and those it started from were trained on, without `corpus`, by digest.

    `tell` hears which are no longer in the store: whether a model has met a text there cannot be said any more.
    """
    found = {learnt.digest: learnt for learnt, _ in _lessons(store, model, tell)}
    return [found[digest] for digest in sorted(found.keys() - {corpus.digest})]


def started_from(store: Store, model: Artifact, tell: Callable[[str], None]) -> list[Artifact]:
    """The model that `model` started from; none, and a line to `tell`, for one that began with random weights.

    Raises RunError when the store does not have that model any more.
    """
    entry = _made_of(model, "train")
    if entry is None:
        tell(
            "evaluate.before: this model began with random weights, so there is none before it to measure; "
            "evaluate.untrained measures these"
        )
        return []
    what = f"evaluate.before: what train/{model.key[:12]} started from"
    mend = f"{_RESTORE} leave it out: --set evaluate.before=false"
    return [_found(store, "train", entry.key, entry.digest, what, mend)]


def _lessons(store: Store, model: Artifact, tell: Callable[[str], None]) -> Iterator[tuple[Artifact, str]]:
    """The corpus that a model was trained on and the digest it had then, and so on along what it started from."""
    last: Artifact | None = model
    while last is not None:
        tokens, _ = _input(store, last, "tokens", tell)
        corpus, then = _input(store, tokens, "curate", tell) if tokens else (None, "")
        if corpus:
            yield corpus, then
        last, _ = _input(store, last, "train", tell)


def _start(store: Store, stage: str, key: str, digest: str, asked: str, what: str) -> Artifact:
    """What training starts from, as it was recorded. Raises RunError that says what has become of it."""
    named = f"train.init_from is {asked}, and {what} ({stage}/{key[:12]})"
    return _found(store, stage, key, digest, named, f"{_RESTORE} begin anew: {ANEW}")


def _found(store: Store, stage: str, key: str, digest: str, what: str, mend: str) -> Artifact:
    """An artifact as it was recorded. Raises RunError that says what has become of `what`."""
    try:
        found = store.find(stage, key)
        problem = "is not in the store any more" if found is None else "was built again and is not the same one"
    except ArtifactDamaged as damage:
        found, problem = None, f"is damaged ({damage.fault_found})"
    if found is None or digest not in found.digests:
        raise RunError(f"{what} {problem}", mend)
    return found


def _refuse(
    init_from: str, release: str, section: str, names: list[str], asked: dict[str, Any], has: dict[str, Any]
) -> NoReturn:
    """Raises UserError naming those settings of a section that differ from the start's."""
    wanted = ", ".join(f"{section}.{name} {json.dumps(asked.get(name))}" for name in names)
    given = ", ".join(json.dumps(has.get(name)) for name in names)
    settings = " ".join(f"--set {section}.{name}={json.dumps(has.get(name))}" for name in names)
    grown = ", grow it (--set train.grow_vocabulary=true)" if section == "tokenizer" else ""
    raise UserError(
        f"train.init_from is {init_from}, but the recipe asks for {wanted} and {release} has {given}",
        f"keep what it has ({settings}){grown}, or begin anew: {ANEW}",
    )


def _input(store: Store, artifact: Artifact, stage: str, tell: Callable[[str], None]) -> tuple[Artifact | None, str]:
    """What `artifact` was built from at a stage, when it was and the store still has it, and the digest it had then."""
    for entry in artifact.manifest.provenance.inputs:
        if entry.stage == stage:
            try:
                found = store.find(stage, entry.key)
            except ArtifactDamaged:
                found = None
            if found is not None and entry.digest in found.digests:
                return found, entry.digest
            tell(
                f"{stage}/{entry.key[:12]}, which {artifact.stage}/{artifact.key[:12]} was built from, is not in the "
                "store any more: held-out texts that were learnt there cannot be told from others"
            )
    return None, ""
