"""The word banks, as they are packaged: nouns, names, adjectives and verbs with their irregular forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from lmcore.collect.synthetic import english, hungarian


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun or a name. `loc` says how one is in such a place: ban, on or nál; `prep` how in English."""

    hu: str
    en: str
    classes: frozenset[str]
    marks: dict[str, str] = field(default_factory=dict)
    his: str = ""
    en_plural: str = ""
    mass: bool = False
    gender: str = ""
    prep: str = ""

    @property
    def is_name(self) -> bool:
        """Whether it is the name of a person."""
        return "name" in self.classes

    @property
    def loc(self) -> str:
        """How one is in such a place."""
        return self.marks.get("loc", "ban")


@dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective; `hu_alone` stands without a noun (kis, kicsi)."""

    hu: str
    hu_alone: str
    en: str
    classes: frozenset[str]
    hu_plural: str
    hu_more: str
    en_more: str
    opposite: str


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb with who does it (`subjects`) to whom or what (`objects`), and its frames: i intransitive, t with an
    object, m to a place, s from a place, w with somebody, n helps somebody (dative), d gives something to somebody."""

    preverb: str
    hu: str
    past3: str
    past_stem: str
    marks: dict[str, str]
    en: str
    en_past: str
    frames: frozenset[str]
    subjects: frozenset[str]
    objects: frozenset[str]


def _rows(name: str, columns: int) -> Iterator[list[str]]:
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            row = line.split("\t")
            assert len(row) == columns, f"{name}: {line!r}"
            yield row


def _marks(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (mark.partition("=") for mark in text.split(",") if mark)}


@cache
def nouns() -> tuple[Noun, ...]:
    """Every noun that is no name."""
    found = []
    for hu, en, classes, marks, his, about in _rows("nouns.tsv", 6):
        kinds = frozenset(classes.split())
        irregular = about.removeprefix("pl=") if about.startswith("pl=") else english.plural(en)
        prep = about if "place" in kinds else ""
        found.append(Noun(hu, en, kinds, _marks(marks), his, irregular, about == "mass", prep=prep))
    return tuple(found)


@cache
def names() -> tuple[Noun, ...]:
    """First names, the same in both languages."""
    return tuple(
        Noun(name, name, frozenset({"name", "person"}), gender=gender) for name, gender in _rows("names.tsv", 2)
    )


@cache
def adjectives() -> tuple[Adjective, ...]:
    """Every adjective."""
    found = []
    for hu, alone, en, classes, hu_plural, more, en_more, opposite in _rows("adjectives.tsv", 8):
        kinds = frozenset(classes.split())
        found.append(Adjective(hu, alone or hu, en, kinds, hu_plural, more, en_more, opposite))
    return tuple(found)


@cache
def verbs() -> tuple[Verb, ...]:
    """Every verb."""
    found = []
    for hu, past3, past_stem, marks, en, en_past, frames, subjects, objects in _rows("verbs.tsv", 9):
        preverb, _, base = hu.rpartition("|")
        who, what = frozenset(subjects.split()), frozenset(objects.split())
        found.append(
            Verb(preverb, base, past3, past_stem, _marks(marks), en, en_past, frozenset(frames.split()), who, what)
        )
    return tuple(found)


@cache
def nouns_of(classes: frozenset[str]) -> tuple[Noun, ...]:
    """The nouns of any of these classes."""
    return tuple(noun for noun in nouns() if noun.classes & classes)


@cache
def adjectives_of(classes: frozenset[str]) -> tuple[Adjective, ...]:
    """The adjectives that may be said of something of these classes."""
    return tuple(adjective for adjective in adjectives() if adjective.classes & classes)


@cache
def verbs_of(frame: str, subject: str) -> tuple[Verb, ...]:
    """The verbs of a frame whose subject may be a person or an animal."""
    return tuple(verb for verb in verbs() if frame in verb.frames and subject in verb.subjects)


def hungarian_plural(noun: Noun) -> str:
    """almák"""
    return hungarian.plural(noun.hu, noun.marks)
