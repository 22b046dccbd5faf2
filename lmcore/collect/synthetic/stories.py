"""Stories: a plot told of drawn persons, places and things, in either language, and questions that they answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from lmcore.collect.synthetic import english, hungarian
from lmcore.collect.synthetic.phrases import Phrase, Place, sentence
from lmcore.collect.synthetic.sentences import Draw, fitting
from lmcore.collect.synthetic.words import names, nouns_of
from lmcore.strict_yaml import load_yaml

_SLOT = re.compile(r"\{(\w+)((?:\.\w+)*)\}")
_PRONOUNS = ("he", "him", "his", "He", "Him", "His")


@dataclass(frozen=True)
class Story:
    """A story in one language, and the meaning it was told from."""

    lang: str
    title: str
    sentences: tuple[str, ...]
    cast: Mapping[str, Phrase]
    plot: Mapping[str, Any]

    @property
    def text(self) -> str:
        """On one line."""
        return " ".join(self.sentences)

    def questions(self) -> list[tuple[str, str]]:
        """Questions about it with their answers, which it tells."""
        return [(self._said(asked), self._said(answer)) for asked, answer in self.plot["ask"][self.lang]]

    def _said(self, template: str) -> str:
        return sentence(filled(template, self.cast, self.lang), "")


def draw_story(draw: Draw, lang: str) -> Story:
    """A story."""
    plot = draw.one(plots())
    persons = draw.some(names(), 2)
    cast = {"A": Phrase(persons[0]), "B": Phrase(persons[1])}
    for name, classes in plot["cast"].items():
        taken = {phrase.noun for phrase in cast.values()}
        choices = nouns_of(frozenset(classes.split()))
        noun = draw.one([noun for noun in choices if noun not in taken and (name != "X" or noun.his)])
        said = [adjective for adjective in fitting(noun) if adjective.hu not in ("törött", "üres")]
        cast[name] = Phrase(noun, "the", (draw.one(said),) if said and name not in "PQ" else ())
    told = [sentence(filled(draw.one(wordings), cast, lang), "") for wordings in plot[lang]]
    return Story(lang, sentence(filled(plot["title"][lang], cast, lang), ""), tuple(told), cast, plot)


@cache
def plots() -> tuple[dict[str, Any], ...]:
    """The plots, as they are packaged."""
    text = (resources.files(__package__) / "stories.yaml").read_text(encoding="utf-8")
    return tuple(load_yaml(text, "stories.yaml"))


def filled(template: str, cast: Mapping[str, Phrase], lang: str) -> str:
    """A template with its slots filled (see stories.yaml). Raises KeyError for a slot that nobody plays."""
    write: Callable[[Phrase, list[str]], str] = _hungarian if lang == "hu" else _english

    def slot(found: re.Match[str]) -> str:
        phrase, way = cast[found[1].upper()], [part for part in found[2].split(".") if part]
        if found[1].islower():
            phrase = replace(phrase, adjectives=())
        wanted = [part for part in way if part != "cap"]
        said = write(phrase, wanted)
        return sentence(said, "") if "cap" in way else said

    return _SLOT.sub(slot, template)


def _hungarian(phrase: Phrase, way: list[str]) -> str:
    if way and way[-1] in ("at", "to", "from"):
        return Place(phrase, way[-1]).hu()  # type: ignore[arg-type]
    case = way[-1] if way and way[-1] in hungarian.CASES else "nom"
    if "pack" in way:  # food to take along: several, or some
        return replace(phrase, determiner="a", count=1 if phrase.noun.mass else 0).hu(case)
    if "his" in way:
        owned = replace(phrase, determiner="owner", owner=None).hu(case)
        return owned if "bare" in way else f"{hungarian.article(owned)} {owned}"
    return replace(phrase, determiner=_determiner(way)).hu(case)


def _english(phrase: Phrase, way: list[str]) -> str:
    last = way[-1] if way else ""
    if last in ("at", "to", "from"):
        return Place(phrase, last).en()  # type: ignore[arg-type]
    if last in _PRONOUNS:
        return english.pronoun(phrase.noun.gender, last)
    if last == "poss":
        return english.possessive(phrase.en())
    if last == "pack":
        return replace(phrase, determiner="a", count=1 if phrase.noun.mass else 0).en()
    return replace(phrase, determiner=_determiner(way)).en()


def _determiner(way: list[str]) -> Any:
    return next((part for part in way if part in ("the", "a")), "none")
