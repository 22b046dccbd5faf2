"""From collections to the corpus: what is measured, what is compared with what, and which corpus it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.built import Built
from flows.plan import Edition, earlier_editions, newest_corpus
from flows.stages import Range
from lmcore.collect.editions import referred_records
from lmcore.curate.parent import MAX_BATCHES, read_about
from lmcore.recipe import Recipe
from storage.digest import digest_file
from storage.errors import RunError
from storage.store import Artifact, ArtifactDamaged, Store
from tasks.compare import compare
from tasks.curate import curate
from tasks.measure import measure
from tasks.progress import say
from tasks.step import keep


def build_corpus(built: Built, recipe: Recipe, collected: Sequence[Artifact], wanted: Range) -> Artifact:
    """The curated corpus of these editions, built as far as it is missing."""
    store = built.store
    mode = wanted.mode("measure")
    measures: list[Artifact] = []
    for origin, name in _origins(store, collected):
        settings: dict[str, Any] = {"params": recipe.measure, "runtime": recipe.runtime.measure}
        # that of an edition before is taken without a word, unless it has to be made
        key = measure.key({"collected": origin}, recipe.measure)
        found = None if origin in collected else _found(store, "measure", key)
        measures.append(found or measure(store, origin, mode=mode, label=f"measure {name}", **settings))
    built.add(*measures)

    mode = wanted.mode("compare")
    parent = _parent(store, recipe, built.plan.edition)
    measures, compares = _compared(store, recipe, measures, parent, mode)
    built.add(*compares)

    mode = wanted.mode("curate")
    corpus = curate(
        store,
        list(collected),
        measures,
        compares,
        [parent] if parent else [],
        params=recipe.curate,
        runtime=recipe.runtime.curate,
        mode=mode,
    )
    built.add(corpus)
    return corpus


def with_digests(recipe: Recipe) -> Recipe:
    """The recipe with the digests of the files that its settings name: other bytes, other artifacts.

    Raises RunError for a file that is not there.
    """
    decontaminate, classifier = recipe.curate.decontaminate, recipe.compare.classifier
    sets = tuple(
        given.model_copy(update={"digest": _digest(given.path, f"the evaluation set {given.name}")})
        for given in decontaminate.evaluation_sets
    )
    curated = recipe.curate.model_copy(
        update={"decontaminate": decontaminate.model_copy(update={"evaluation_sets": sets})}
    )
    if not classifier.labelled:
        return recipe.model_copy(update={"curate": curated})
    digest = _digest(classifier.labelled, "compare.classifier.labelled")
    learnt = classifier.model_copy(update={"digest": digest})
    compared = recipe.compare.model_copy(update={"classifier": learnt})
    return recipe.model_copy(update={"curate": curated, "compare": compared})


def _digest(path: str, what: str) -> str:
    try:
        return digest_file(Path(path))
    except OSError as error:
        raise RunError(f"{what}, {path}, cannot be read: {error.strerror}", "give the path of a file") from error


def _origins(store: Store, collected: Sequence[Artifact]) -> list[tuple[Artifact, str]]:
    """Every artifact that holds texts of these editions, and the name of its source; each edition's own first."""
    found: dict[str, tuple[Artifact, str]] = {}
    for edition in collected:
        name = edition.manifest.provenance.params["source"]["name"]
        found.setdefault(edition.key, (edition, name))
        for digest in referred_records(edition.local()):
            origin = store.by_digest(digest, "collect")
            found.setdefault(origin.key, (origin, name))
    return list(found.values())


def _found(store: Store, stage: str, key: str) -> Artifact | None:
    """An artifact; None when it is not there or damaged, which its step mends."""
    try:
        return store.find(stage, key)
    except ArtifactDamaged:
        return None


def _parent(store: Store, recipe: Recipe, edition: Edition) -> Artifact | None:
    """The corpus that the edition goes on from; where it is lost, the newest one before it, and a line to the user."""
    corpus = edition.corpus
    if corpus is None:
        return None
    try:
        found = store.find("curate", corpus.key)
        if found is not None and corpus.digest in found.digests:
            return found
        problem = "is not in the store any more"
    except RunError as error:
        problem = f"cannot be read ({error.what})"
    told = f"  the corpus before, curate/{corpus.key[:12]}, {problem}"
    if older := newest_corpus(store, recipe, earlier_editions(store, recipe, edition.name)):
        say(f"{told}: curate/{older.key[:12]} takes its place", "yellow")
        return _found(store, "curate", older.key)
    say(f"{told}: which text stands on which side is decided anew", "yellow")
    return None


def _compared(
    store: Store, recipe: Recipe, measures: list[Artifact], parent: Artifact | None, mode: Any
) -> tuple[list[Artifact], list[Artifact]]:
    """The measures, those compared before first, and the comparisons that tell of every pair of their texts."""
    empty = [measure for measure in measures if not measure.metrics["records"]]  # a night without news
    known, earlier = _known(store, recipe, measures, parent)
    new = sorted((m for m in measures if m not in known and m not in empty), key=lambda m: m.key)
    if not new and earlier:
        return [*known, *empty], [*earlier[:-1], keep(earlier[-1], "there is nothing new to compare")]
    settings: dict[str, Any] = {"params": recipe.compare, "runtime": recipe.runtime.compare, "mode": mode}
    return [*known, *new, *empty], [*earlier, compare(store, new, known, earlier, **settings)]


def _known(
    store: Store, recipe: Recipe, measures: list[Artifact], parent: Artifact | None
) -> tuple[list[Artifact], list[Artifact]]:
    """Which measures were compared with each other before, and by what; nothing where it must be done anew."""
    if parent is None:
        return [], []
    about = read_about(parent.local())
    earlier = [_found(store, "compare", key) for key in about["compares"]]
    whole = [artifact for artifact in earlier if artifact is not None]
    if len(whole) < len(earlier) or len(whole) >= MAX_BATCHES:
        return [], []
    made = [artifact.manifest.provenance for artifact in whole]
    if older := sorted({m.stage_version for m in made} - {compare.version}):
        told = f"  compare: built by version {older[0]}, this is version {compare.version}: all texts are compared anew"
        say(told, "yellow")
    if any((m.stage_version, m.params) != (compare.version, recipe.compare.key_values()) for m in made):
        return [], []
    by_key = {artifact.key: artifact for artifact in measures}
    known = [by_key[key] for key in about["measures"] if key in by_key and by_key[key].metrics["records"]]
    return (known, whole) if known else ([], [])
