"""Which corpus a person means: a recipe's newest, the store's newest, a curate artifact or what was made of one."""

from __future__ import annotations

from flows.plan import newest_corpus, read_editions
from lmcore.recipe import load_recipe, packaged_recipes
from storage.errors import UserError
from storage.store import Artifact, Store


def corpus_of(store: Store, name: str) -> Artifact:
    """The curate artifact that `name` means: a recipe, an artifact, or without a name the newest.

    Raises UserError when there is none.
    """
    if name in packaged_recipes() or name.endswith((".yaml", ".yml")):
        recipe = load_recipe(name, [])
        editions = read_editions(store.root / "editions" / f"{recipe.name}.json")
        found = newest_corpus(store, recipe, [edition.name for edition in editions])
        if found is None:
            raise UserError(
                f"{store.root} has no corpus of the recipe {recipe.name}",
                f"make it: `collect-train run {name} --until curate`",
            )
        return Artifact("curate", found.key, str(store.root))
    if not name and not any(True for _ in store.readable("curate")):
        raise UserError(f"{store.root} has no corpus", "make one: `collect-train run RECIPE --until curate`")
    artifact = store.resolve(name or "curate")
    pending, seen = [artifact], set()
    for at in pending:  # grows while it is walked: the nearest first
        if at.stage == "curate":
            return at
        for entry in at.manifest.provenance.inputs:
            source = Artifact(entry.stage, entry.key, str(store.root))
            if source.path.exists() and entry.key not in seen:
                seen.add(entry.key)
                pending.append(source)
    raise UserError(
        f"{artifact.stage}/{artifact.key[:12]} is no corpus and was made of none",
        "name a recipe, `curate` (the newest corpus) or curate/KEY",
    )
