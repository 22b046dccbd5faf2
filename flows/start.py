"""Where a training starts, and what a model has learnt before: the chain of models behind a warm start.

`train: {init_from: champion}` names a model that moves. The edition's record says who was champion when it was begun;
here that record becomes artifacts: the model whose weights are the first ones, and the vocabulary that its ids mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from flows.plan import Plan
from lmcore.models.config import DecoderConfig
from lmcore.recipe import Recipe
from storage.errors import RunError, UserError
from storage.store import Artifact, ArtifactDamaged, Store

ANEW = "--set train.init_from=scratch"


@dataclass(frozen=True)
class WarmStart:
    """A released model to go on from: its name (NAME@NUMBER), its train artifact, its vocabulary."""

    release: str
    model: Artifact
    tokenizer: Artifact


def warm_start(store: Store, plan: Plan, recipe: Recipe, tell: Callable[[str], None]) -> WarmStart | None:
    """The model that the plan's edition starts from; None, and a line to `tell`, when training begins from scratch.

    Raises RunError when that model or its vocabulary is lost or damaged, UserError when the recipe asks for another
    shape or vocabulary than it has.
    """
    if recipe.train.init_from == "scratch":
        return None
    name, edition = recipe.name, plan.edition
    if edition.start is None:
        tell(f"edition {edition.name} was begun without a champion of {name}: training begins from scratch")
        return None
    release = f"{name}@{edition.start.release}"
    model = _found(store, "train", edition.start.model_key, edition.start.model_digest, f"{release}, the champion")
    entry = next(entry for entry in model.manifest.provenance.inputs if entry.stage == "tokenizer")
    tokenizer = _found(store, "tokenizer", entry.key, entry.digest, f"the vocabulary of {release}")

    shape = DecoderConfig.model_validate(model.manifest.provenance.params["model"])
    if shape.resolved() != recipe.model.resolved():
        _refuse(release, "model", recipe.model.key_values(), shape.key_values())
    cut = tokenizer.manifest.provenance.params
    if cut != recipe.tokenizer.key_values():
        _refuse(release, "tokenizer", recipe.tokenizer.key_values(), cut)
    if any(corpus.digest != then for corpus, then in _lessons(store, model, lambda _: None)):
        tell(f"{release} has learnt texts that were taken out of the store since; begin anew without them: {ANEW}")
    return WarmStart(release, model, tokenizer)


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


def _lessons(store: Store, model: Artifact, tell: Callable[[str], None]) -> Iterator[tuple[Artifact, str]]:
    """The corpus that a model was trained on and the digest it had then, and so on along what it started from."""
    last: Artifact | None = model
    while last is not None:
        tokens, _ = _input(store, last, "tokens", tell)
        corpus, then = _input(store, tokens, "curate", tell) if tokens else (None, "")
        if corpus:
            yield corpus, then
        last, _ = _input(store, last, "train", tell)


def _found(store: Store, stage: str, key: str, digest: str, what: str) -> Artifact:
    """An artifact as it was recorded. Raises RunError that says what has become of it."""
    try:
        found = store.find(stage, key)
        problem = "is not in the store any more" if found is None else "was built again and is not the same one"
    except ArtifactDamaged as damage:
        found, problem = None, f"is damaged ({damage.fault_found})"
    if found is None or digest not in found.digests:
        raise RunError(
            f"train.init_from is champion, and {what} ({stage}/{key[:12]}) {problem}",
            f"restore it from a backup (`collect-train verify` says what it sets aside), or begin anew: {ANEW}",
        )
    return found


def _refuse(release: str, section: str, asked: dict[str, Any], has: dict[str, Any]) -> NoReturn:
    """Raises UserError naming every setting of a section that differs from the champion's."""
    names = [name for name in asked | has if asked.get(name) != has.get(name)]
    wanted = ", ".join(f"{section}.{name} {json.dumps(asked.get(name))}" for name in names)
    given = ", ".join(json.dumps(has.get(name)) for name in names)
    settings = " ".join(f"--set {section}.{name}={json.dumps(has.get(name))}" for name in names)
    raise UserError(
        f"train.init_from is champion, but the recipe asks for {wanted} and {release} has {given}",
        f"keep what it has ({settings}), or begin anew: {ANEW}",
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
