"""What settings of curation and of shards call by name: every source, kind of text and language must be there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lmcore.curate.language_codes import is_known, nearest
from lmcore.documents import KINDS
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.recipe import Recipe

SHORTEST_NEAR = 0.5  # difflib ratio from which a misspelt name is worth a suggestion
_LANGUAGE_FIELDS = ("lang", "source_lang", "target_lang")  # of sources, some of which have none of them


def check_names(recipe: Recipe) -> None:
    """Raise UserError when a setting names a source that the recipe does not have, no kind of text, or a language that
    no text could be in."""
    known = [source.name for source in recipe.sources]
    mix, classifier, terms = recipe.curate.mix, recipe.compare.classifier, recipe.evaluate.terms
    places: dict[str, tuple[Iterable[str], Sequence[str], str]] = {
        "curate.duplicates.trusted": (recipe.curate.duplicates.trusted, known, "source"),
        "curate.split.sources": ([name for name, side in recipe.curate.split.sources.items() if side], known, "source"),
        "curate.mix.sources": (mix.sources, known, "source"),
        "curate.mix.kinds": (mix.kinds, KINDS, "kind of text"),
        "tokens.only_roles_of": (recipe.tokens.only_roles_of, known, "source"),
        "compare.reference.sources": (recipe.compare.reference.sources, known, "source"),
        "compare.classifier.good": (classifier.good, known, "source"),
        "compare.classifier.bad": (classifier.bad, known, "source"),
        "evaluate.terms.domain": (terms.domain if terms else (), known, "source"),
        "evaluate.terms.general": (terms.general if terms else (), known, "source"),
        **{f"evaluate.genres.{genre}": (names, known, "source") for genre, names in recipe.evaluate.genres.items()},
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
    _check_languages(recipe)


def _check_languages(recipe: Recipe) -> None:
    """Limits for a language that nothing knows would be passed over in silence."""
    declared = [
        tag for source in recipe.sources for name in _LANGUAGE_FIELDS if (tag := str(getattr(source, name, "") or ""))
    ]
    for lang in recipe.curate.rules.per_language:
        if not is_known(lang, declared):
            near = nearest(lang, declared)
            raise UserError(
                f"curate.rules.per_language names {lang!r}, and there is no such language",
                (f"did you mean {near}? " if near else "")
                + "write the shortest ISO 639 code (hu), with the script where it is not the usual one (sr-Latn); "
                "a code of your own counts when a source declares it as its `lang`",
            )
