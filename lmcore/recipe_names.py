"""What the settings of curation call by name: every source and kind of text must be there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lmcore.documents import KINDS
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.recipe import Recipe

SHORTEST_NEAR = 0.5  # difflib ratio from which a misspelt name is worth a suggestion


def check_names(recipe: Recipe) -> None:
    """Raise UserError when a setting of curation names a source that the recipe does not have, or no kind of text."""
    known = [source.name for source in recipe.sources]
    mix, classifier = recipe.curate.mix, recipe.compare.classifier
    places: dict[str, tuple[Iterable[str], Sequence[str], str]] = {
        "curate.duplicates.trusted": (recipe.curate.duplicates.trusted, known, "source"),
        "curate.mix.sources": (mix.sources, known, "source"),
        "curate.mix.kinds": (mix.kinds, KINDS, "kind of text"),
        "compare.reference.sources": (recipe.compare.reference.sources, known, "source"),
        "compare.classifier.good": (classifier.good, known, "source"),
        "compare.classifier.bad": (classifier.bad, known, "source"),
    }
    for place, (names, choice, what) in places.items():
        for name in names:
            if name not in choice:
                near = difflib.get_close_matches(name, choice, 1, SHORTEST_NEAR)
                told = f"the {what}s are {', '.join(choice)}" if what == "source" else f"write {', '.join(choice)}"
                raise UserError(
                    f"{place} names {name!r}, and there is no such {what}",
                    f"did you mean {near[0]}? {told}" if near else told,
                )
