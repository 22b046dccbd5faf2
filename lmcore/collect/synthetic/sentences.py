"""Draws what sentences mean: who does what fits them, or is as they may be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from lmcore.collect.synthetic import hungarian
from lmcore.collect.synthetic.phrases import Clause, Phrase, Place, Tense, Time, sentence
from lmcore.collect.synthetic.words import Adjective, Noun, Verb, adjectives_of, names, nouns_of, verbs_of

T = TypeVar("T")

_TIMES = (
    Time("minden reggel", "every morning", "present"),
    Time("minden nap", "every day", "present"),
    Time("minden este", "every evening", "present"),
    Time("minden hétvégén", "every weekend", "present"),
    Time("hétfőnként", "on Mondays", "present"),
    Time("szombatonként", "on Saturdays", "present"),
    Time("nyáron", "in summer", "present"),
    Time("télen", "in winter", "present"),
    Time("tegnap", "yesterday", "past"),
    Time("tegnap este", "yesterday evening", "past"),
    Time("tegnap reggel", "yesterday morning", "past"),
    Time("tavaly", "last year", "past"),
    Time("múlt héten", "last week", "past"),
    Time("tavaly nyáron", "last summer", "past"),
    Time("két nappal ezelőtt", "two days ago", "past"),
    Time("egy órával ezelőtt", "an hour ago", "past"),
    Time("holnap", "tomorrow", "future"),
    Time("holnap reggel", "tomorrow morning", "future"),
    Time("jövő héten", "next week", "future"),
    Time("jövőre", "next year", "future"),
)
_WALKS = ("in", "on")  # prepositions of places where one can run about or have lunch, at the river as well
_OWNED = frozenset({"thing", "toy", "cloth", "text", "animal", "vehicle", "instrument", "furniture"})
_SAID_OF = frozenset({"thing", "toy", "cloth", "text", "animal", "vehicle", "furniture", "place", "food", "plant"})
_INSIDE = ("kert", "park", "udvar", "rét", "szoba", "konyha", "iroda", "pince", "padlás", "műhely")
_ON_TOP = ("asztal", "szék", "polc", "szekrény", "ágy", "szőnyeg")


class Draw:
    """A generator of choices. Built on `random()` alone, whose values no version of Python has changed."""

    def __init__(self, *name: object) -> None:
        self._random = random.Random("/".join(map(str, name)))  # noqa: S311  nothing secret

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self._random.random() < share

    def below(self, end: int) -> int:
        """A whole number from 0 to end - 1."""
        return int(self._random.random() * end)

    def one(self, things: Sequence[T]) -> T:
        """One of them."""
        return things[self.below(len(things))]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """Different ones, in drawn order."""
        left = list(things)
        return [left.pop(self.below(len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Both:
    """One meaning in both languages."""

    hu: str
    en: str


def draw_sentence(draw: Draw) -> Both:
    """A sentence of any kind."""
    kind = draw.below(100)
    if kind < 58:
        clause = draw_clause(draw)
        return Both(sentence(clause.hu()), sentence(clause.en()))
    if kind < 66:
        clause = draw_clause(draw, negative=False)
        return Both(sentence(clause.hu_question()), sentence(clause.en_question()))
    if kind < 76:
        return _joined(draw)
    if kind < 84:
        return _described(draw)
    if kind < 90:
        return _compared(draw)
    return _there_is(draw) if kind < 95 else _has(draw)


def draw_clause(draw: Draw, *, negative: bool | None = None, subject: Phrase | None = None) -> Clause:
    """A clause in which somebody does what such a one does, to what it is done to."""
    if subject is None:
        who = "person" if draw.chance(0.8) else "animal"
        subject = I_SPEAK if who == "person" and draw.chance(0.1) else draw_subject(draw, who)
    else:
        who = "person" if "person" in subject.noun.classes else "animal"
    frame = draw.one("tttttttiiimmwwdddns" if who == "person" else "ttiiiims")
    verb = draw.one(verbs_of(frame, who))
    actor = None if subject is I_SPEAK else subject
    time = draw.one(_TIMES) if draw.chance(0.5) else None
    tense: Tense = time.tense if time else ("present" if draw.chance(0.6) else "past")
    if verb.marks.get("only") and verb.en in ("love", "know", "admire"):
        time, tense = None, "present"
    if negative is None:
        negative = draw.chance(0.12)
    taken = {actor.noun} if actor else set()
    made = Clause(verb, actor, tense, time=time, negative=negative, place_first=draw.chance(0.25))
    if frame == "i":
        return replace(made, place=_place(draw) if draw.chance(0.75) else None)
    if frame in "ms":
        way = "from" if frame == "s" else "to"
        where = _place(draw, near=True)
        return replace(made, place=Place(where.phrase, way), place_first=False)  # type: ignore[arg-type]
    if frame in "wn":
        other = draw_subject(draw, "person", taken, one=True)
        where_at = _place(draw) if frame == "w" and "m" not in verb.frames and draw.chance(0.4) else None
        return replace(made, other=other, role="with" if frame == "w" else "helps", place=where_at)
    if frame == "d":
        thing = _object(draw, verb, taken, gift=True)
        return replace(made, object=thing, other=draw_subject(draw, "person", taken, one=True), role="gives")
    thing = _object(draw, verb, taken)
    return replace(made, object=thing, place=_place(draw) if _has_room(verb, thing) and draw.chance(0.35) else None)


I_SPEAK = Phrase(Noun("én", "I", frozenset({"person"})))


def draw_subject(draw: Draw, who: str, taken: set[Noun] | None = None, *, one: bool = False) -> Phrase:
    """A person or an animal other than those `taken`; `one`: not several."""
    taken = taken or set()
    if who == "person" and draw.chance(0.55):
        return Phrase(draw.one([name for name in names() if name not in taken]))
    noun = draw.one([noun for noun in _of(who) if noun not in taken])
    adjectives = (draw.one(fitting(noun)),) if draw.chance(0.5) else ()
    kind = draw.below(10)
    if kind < 5 or one:
        return Phrase(noun, "the", adjectives)
    if kind < 7:
        return Phrase(noun, "a", adjectives)
    if kind < 8:
        return Phrase(noun, "a", adjectives, 2 + draw.below(6))
    return Phrase(noun, "the", adjectives, 0)


def _object(draw: Draw, verb: Verb, taken: set[Noun], *, gift: bool = False) -> Phrase:
    classes = verb.objects
    choices = nouns_of(classes)
    if classes == {"person"} or ("person" in classes and draw.chance(0.3)):
        return draw_subject(draw, "person", taken, one=True)
    only = verb.marks.get("only", "")
    if only == "defpl":
        choices = tuple(noun for noun in choices if not noun.mass)
    noun = draw.one([noun for noun in choices if noun not in taken])
    adjectives = (draw.one(fitting(noun)),) if fitting(noun) and draw.chance(0.5) else ()
    if only:
        return Phrase(noun, "the", adjectives, 0 if only == "defpl" else 1)
    kind = draw.below(10)
    if noun.mass or kind < 4:
        return Phrase(noun, "a" if draw.chance(0.6) else "the", adjectives)
    if kind < 6:
        return Phrase(noun, "the", adjectives)
    if kind < 7 and noun.classes & _OWNED and noun.his and not gift:
        return Phrase(noun, "owner", adjectives, owner=draw.one([name for name in names() if name not in taken]))
    if kind < 8:
        return Phrase(noun, "a", adjectives, 2 + draw.below(9))
    if kind < 9 and noun.classes & _OWNED and "pl" not in noun.marks:
        return Phrase(noun, "my", adjectives)
    return Phrase(noun, "the", adjectives, 0)


def _place(draw: Draw, *, near: bool = False) -> Place:
    """A place to be at; `near`: to go to."""
    noun = draw.one([noun for noun in _of("place") if near or noun.prep in _WALKS or noun.hu != "út"])
    adjectives = (draw.one(fitting(noun)),) if draw.chance(0.25) else ()
    return Place(Phrase(noun, "the", adjectives))


def _has_room(verb: Verb, thing: Phrase) -> bool:
    return "place" not in thing.noun.classes and verb.hu not in ("szeret", "ismer", "visel")


def _joined(draw: Draw) -> Both:
    """Two clauses of one tense."""
    first = draw_clause(draw, negative=False)
    while first.subject is None:
        first = draw_clause(draw, negative=False)
    second = draw_clause(draw, subject=draw_subject(draw, "person", {first.subject.noun}, one=True))
    second = replace(second, tense=first.tense, time=None)
    hu, en = draw.one(((", és", " and"), (", de", ", but"), (", közben", " while")))
    if en == " while" and first.tense == "future":
        hu, en = ", és", " and"
    return Both(sentence(f"{first.hu()}{hu} {second.hu()}"), sentence(f"{first.en()}{en} {second.en()}"))


def _described(draw: Draw) -> Both:
    """Something is as it may be: A ház nagy volt."""
    if draw.chance(0.4):
        subject = draw_subject(draw, "person")
    else:
        noun = draw.one([noun for noun in nouns_of(_SAID_OF) if not noun.mass and fitting(noun)])
        owned = noun.classes & _OWNED and noun.his and draw.chance(0.3)
        owner = draw.one(names()) if owned else None
        subject = Phrase(noun, "owner" if owner else "the", count=1 if owner or draw.chance(0.7) else 0, owner=owner)
    subject = Phrase(subject.noun, "the" if subject.determiner == "a" else subject.determiner, (),
                     1 if subject.count > 1 else subject.count, subject.owner)  # fmt: skip
    said = draw.one([a for a in fitting(subject.noun) if "color" not in a.classes or "person" not in a.classes])
    several, past = subject.count == 0, draw.chance(0.4)
    hu_adjective = said.hu_plural if several else said.hu_alone
    very = draw.below(3) if "color" not in said.classes and said.hu_more else 0
    hu_adjective = ("", "nagyon ", "elég ")[very] + hu_adjective
    en_adjective = ("", "very ", "quite ")[very] + said.en
    hu_words = [subject.hu(), hu_adjective] + ([("voltak" if several else "volt")] if past else [])
    en_be = ("were" if several else "was") if past else ("are" if several else "is")
    return Both(sentence(" ".join(hu_words)), sentence(f"{subject.en()} {en_be} {en_adjective}"))


def _compared(draw: Draw) -> Both:
    """Anna magasabb, mint Péter."""
    if draw.chance(0.6):
        nouns = draw.some(names(), 2)
        first, second = Phrase(nouns[0]), Phrase(nouns[1])
    else:
        noun = draw.one([noun for noun in nouns_of(_OWNED) if noun.his and _comparable(noun)])
        owners = draw.some(names(), 2)
        first, second = (Phrase(noun, "owner", owner=owner) for owner in owners)
    said = draw.one(_comparable(first.noun))
    past = draw.chance(0.3)
    hu = f"{first.hu()} {said.hu_more}{' volt' if past else ''}, mint {second.hu()}"
    return Both(sentence(hu), sentence(f"{first.en()} {'was' if past else 'is'} {said.en_more} than {second.en()}"))


def _there_is(draw: Draw) -> Both:
    """A kertben három fa van."""
    if draw.chance(0.5):
        place = draw.one([noun for noun in _of("place") if noun.hu in _INSIDE])
        case, prep = hungarian.PLACES[place.loc][0], place.prep
        thing = draw.one(nouns_of(frozenset({"animal", "furniture", "plant"} if place.prep == "in" else {"thing"})))
    else:
        place = draw.one([noun for noun in nouns_of(frozenset({"furniture"})) if noun.hu in _ON_TOP])
        case, prep = "sup", "on"
        thing = draw.one([n for n in nouns_of(frozenset({"thing", "food", "text", "toy"})) if not n.mass])
    where = Phrase(place, "the", (draw.one(fitting(place)),) if draw.chance(0.4) else ())
    adjectives = (draw.one(fitting(thing)),) if fitting(thing) and draw.chance(0.6) else ()
    count = 1 if draw.chance(0.5) else 2 + draw.below(9)
    phrase, past = Phrase(thing, "a", adjectives, count), draw.chance(0.3)
    hu = f"{where.hu(case)} {'volt' if past else 'van'} {phrase.hu()}"
    if count > 1:
        hu = f"{where.hu(case)} {phrase.hu()} {'volt' if past else 'van'}"
    be = ("were" if count > 1 else "was") if past else ("are" if count > 1 else "is")
    return Both(sentence(hu), sentence(f"there {be} {phrase.en()} {prep} {where.en()}"))


def _has(draw: Draw) -> Both:
    """Annának van egy piros kabátja."""
    who = draw_subject(draw, "person", one=True)
    thing = draw.one([noun for noun in nouns_of(_OWNED) if noun.his and not noun.mass])
    adjective = draw.one(fitting(thing)) if draw.chance(0.75) else None
    words, said = ([adjective.hu], (adjective,)) if adjective else ([], ())
    count = 1 if draw.chance(0.6) else 2 + draw.below(5)
    past = draw.chance(0.3)
    phrase = Phrase(thing, "a", said, count)
    be, number = "volt" if past else "van", "egy" if count == 1 else hungarian.NUMERALS[count]
    hu = " ".join([who.hu("dat"), be, number, *words, thing.his])
    return Both(sentence(hu), sentence(f"{who.en()} {'had' if past else 'has'} {phrase.en()}"))


@cache
def _of(kind: str) -> tuple[Noun, ...]:
    return nouns_of(frozenset({kind}))


@cache
def fitting(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that may be said of it."""
    return adjectives_of(noun.classes - {"name"})


@cache
def _comparable(noun: Noun) -> tuple[Adjective, ...]:
    return tuple(adjective for adjective in fitting(noun) if adjective.hu_more)
