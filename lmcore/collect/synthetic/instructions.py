"""Tasks with answers that are right: computed, looked up in the word banks, or told by the story asked about."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from lmcore.collect.synthetic import hungarian
from lmcore.collect.synthetic.phrases import Phrase, sentence
from lmcore.collect.synthetic.sentences import Draw, draw_clause, draw_sentence
from lmcore.collect.synthetic.stories import Story, draw_story
from lmcore.collect.synthetic.words import Noun, adjectives, names, nouns, nouns_of
from lmcore.strict_yaml import load_yaml

_DAYS = {
    "hu": ("hétfő", "kedd", "szerda", "csütörtök", "péntek", "szombat", "vasárnap"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
_TAUGHT = {
    "ine": "-ban/-ben", "ill": "-ba/-be", "ela": "-ból/-ből", "sub": "-ra/-re", "del": "-ról/-ről",
    "ade": "-nál/-nél", "all": "-hoz/-hez/-höz", "abl": "-tól/-től", "ins": "-val/-vel", "dat": "-nak/-nek",
    "sup": "-n/-on/-en/-ön",
}  # fmt: skip
_GROUPS = ("person", "animal", "food", "cloth", "furniture", "vehicle", "place", "plant", "instrument")


@dataclass(frozen=True)
class Task:
    """A task and its answer, on one line each; `name` is the kind of task."""

    name: str
    asked: str
    answer: str


Make = Callable[[Draw, str], Task]


def draw_tasks(draw: Draw, lang: str) -> tuple[Task, Task]:
    """Two different tasks: about one story, or of one field."""
    kind = draw.below(10)
    if kind < 4:
        return _about_a_story(draw, lang)
    field = _NUMBERS if kind < 6 else _WORDS[lang] if kind < 9 else _SENTENCES
    one, other = draw.some(field, 2)
    return one(draw, lang), other(draw, lang)


def _about_a_story(draw: Draw, lang: str) -> tuple[Task, Task]:
    story = draw_story(draw, lang)
    asked = [("story_question", question, answer) for question, answer in story.questions()]
    first, last = story.sentences[0], story.sentences[-1]
    one, other = story.cast["A"].noun.hu, story.cast["B"].noun.hu
    both = {"hu": f"{one} és {other}.", "en": f"{one} and {other}."}[lang]
    asked += [
        ("story_summary", "", f"{first} {last}"),
        ("story_persons", "", both),
        ("story_title", "", story.title),
    ]
    chosen = draw.some(asked, 2)
    made = [
        Task(name, _ask(draw, name, lang, text=story.text, question=question), answer)
        for name, question, answer in chosen
    ]
    return made[0], _counted(draw, story) if draw.chance(0.1) else made[1]


def _counted(draw: Draw, story: Story) -> Task:
    """How many sentences the beginning of a story has."""
    n = 2 + draw.below(len(story.sentences) - 1)
    text = " ".join(story.sentences[:n])
    told = {"hu": f"A szöveg {n} mondatból áll.", "en": f"It has {n} sentences."}[story.lang]
    return Task("story_count", _ask(draw, "story_count", story.lang, text=text), told)


def _gain(draw: Draw, lang: str) -> Task:
    return _possessions(draw, lang, "gain", 1)


def _loss(draw: Draw, lang: str) -> Task:
    return _possessions(draw, lang, "loss", -1)


def _possessions(draw: Draw, lang: str, name: str, sign: int) -> Task:
    one, other = draw.some(names(), 2)
    noun = draw.one([noun for noun in nouns_of(frozenset({"food", "thing", "toy"})) if not noun.mass])
    x, y = 5 + draw.below(90), 2 + draw.below(80)
    if sign < 0 and y >= x:
        x, y = y + 1, x
    left = x + sign * y
    if lang == "hu":
        dative = Phrase(one).hu("dat")
        thing = noun.his
        asked = _ask(draw, name, lang, **{"A.dat": dative}, A=one.hu, B=other.hu, x=x, y=y, thing=thing,
                     things=hungarian.form(noun.hu, "acc", noun.marks))  # fmt: skip
        return Task(name, asked, f"{dative} {left} {thing} {'van' if sign > 0 else 'maradt'}.")
    asked = _ask(draw, name, lang, A=one.en, B=other.en, x=x, y=y, things=noun.en_plural)
    things = noun.en if left == 1 else noun.en_plural
    return Task(name, asked, f"{one.en} has {left} {things}{'' if sign > 0 else ' left'}.")


def _sum(draw: Draw, lang: str) -> Task:
    x, y = 2 + draw.below(998), 2 + draw.below(998)
    return Task("sum", _ask(draw, "sum", lang, x=x, y=y), f"{x} + {y} = {x + y}")


def _product(draw: Draw, lang: str) -> Task:
    x, y = 2 + draw.below(98), 2 + draw.below(98)
    return Task("product", _ask(draw, "product", lang, x=x, y=y), f"{x} · {y} = {x * y}")


def _numbers(draw: Draw) -> list[int]:
    return draw.some(range(1, 100), 4 + draw.below(4))


def _largest(draw: Draw, lang: str) -> Task:
    found = _numbers(draw)
    return Task("largest", _ask(draw, "largest", lang, list=_listed(found)), f"{max(found)}")


def _ordered(draw: Draw, lang: str) -> Task:
    found = _numbers(draw)
    return Task("ordered", _ask(draw, "ordered", lang, list=_listed(found)), _listed(sorted(found)))


def _even(draw: Draw, lang: str) -> Task:
    found = _numbers(draw)
    even = [number for number in found if number % 2 == 0]
    none = {"hu": "Egyik sem páros.", "en": "None of them is even."}[lang]
    return Task("even", _ask(draw, "even", lang, list=_listed(found)), _listed(even) if even else none)


def _days(draw: Draw, lang: str) -> Task:
    start, n = draw.below(7), 2 + draw.below(200)
    day = _DAYS[lang][(start + n) % 7]
    answer = {"hu": f"{n} nap múlva {day} lesz.", "en": f"In {n} days it will be {day}."}[lang]
    return Task("days", _ask(draw, "days", lang, day=_DAYS[lang][start], n=n), answer)


def _plural(draw: Draw, lang: str) -> Task:
    found = _some_nouns(draw)
    said = [hungarian.plural(noun.hu, noun.marks) if lang == "hu" else noun.en_plural for noun in found]
    return Task("plural", _ask(draw, "plural", lang, list=_words(found, lang)), _listed(said))


def _accusative(draw: Draw, lang: str) -> Task:
    found = _some_nouns(draw)
    said = [hungarian.form(noun.hu, "acc", noun.marks) for noun in found]
    return Task("accusative", _ask(draw, "accusative", lang, list=_words(found, lang)), _listed(said))


def _case(draw: Draw, lang: str) -> Task:
    found, case = _some_nouns(draw), draw.one(list(_TAUGHT))
    said = [hungarian.form(noun.hu, case, noun.marks) for noun in found]
    asked = _ask(draw, "case", lang, list=_words(found, lang), suffix=_TAUGHT[case])
    return Task("case", asked, _listed(said))


def _article(draw: Draw, lang: str) -> Task:
    found = _some_nouns(draw)
    said = [Phrase(noun, "the").hu() if lang == "hu" else Phrase(noun, "a").en() for noun in found]
    return Task("article", _ask(draw, "article", lang, list=_words(found, lang)), _listed(said))


def _opposite(draw: Draw, lang: str) -> Task:
    known = {adjective.hu: adjective for adjective in adjectives()}
    said_so = [getattr(adjective, lang) for adjective in adjectives()]
    clear = [a for a in adjectives() if a.opposite and said_so.count(getattr(a, lang)) == 1]  # old: young, or new?
    found = draw.some(clear, 3)
    pairs = [(adjective, known[adjective.opposite]) for adjective in found]
    asked, said = ([getattr(side, lang) for side in sides] for sides in zip(*pairs, strict=True))
    return Task("opposite", _ask(draw, "opposite", lang, list=_listed(asked)), _listed(said))


def _comparative(draw: Draw, lang: str) -> Task:
    found = draw.some([adjective for adjective in adjectives() if adjective.hu_more], 3)
    asked = _ask(draw, "comparative", lang, list=_listed([getattr(adjective, lang) for adjective in found]))
    return Task("comparative", asked, _listed([getattr(adjective, f"{lang}_more") for adjective in found]))


def _odd(draw: Draw, lang: str) -> Task:
    group, other = draw.some(_GROUPS, 2)
    inside, outside = nouns_of(frozenset({group})), nouns_of(frozenset({other}))
    found = draw.some(inside, 3)
    strange = draw.one([noun for noun in outside if group not in noun.classes])
    mixed = draw.some([*found, strange], 4)
    return Task("odd", _ask(draw, "odd", lang, list=_words(mixed, lang)), sentence(getattr(strange, lang)))


def _sorted(draw: Draw, lang: str) -> Task:
    found: list[Noun] = []
    for noun in draw.some(nouns(), 30):  # of different first letters: no rule about later ones is needed
        if len(found) < 5 and _first(noun, lang) not in {_first(other, lang) for other in found}:
            found.append(noun)
    order = sorted(found, key=lambda noun: _first(noun, lang))
    return Task("sorted", _ask(draw, "sorted", lang, list=_words(found, lang)), _words(order, lang))


def _first(noun: Noun, lang: str) -> str:
    """The first letter without accents, as Hungarian alphabetical order takes it; cs and sz come after c and s."""
    word = noun.hu if lang == "hu" else noun.en
    letter = hungarian.letters(word)[0] if lang == "hu" else word[0]
    plain = unicodedata.normalize("NFD", letter)
    rounded = "z" if "\u0308" in plain or "\u030b" in plain else ""  # ö is a letter after o
    return "".join(sign for sign in plain if not unicodedata.combining(sign)) + rounded


def _category(draw: Draw, lang: str) -> Task:
    animals = draw.some(nouns_of(frozenset({"animal"})), 2 + draw.below(2))
    food = draw.some(nouns_of(frozenset({"food"})), 2 + draw.below(2))
    mixed = draw.some([*animals, *food], len(animals) + len(food))
    listed = [_words([noun for noun in mixed if noun in group], lang) for group in (animals, food)]
    heads = {"hu": ("Állatok", "Ételek"), "en": ("Animals", "Food")}[lang]
    answer = f"{heads[0]}: {listed[0]}. {heads[1]}: {listed[1]}."
    return Task("category", _ask(draw, "category", lang, list=_words(mixed, lang)), answer)


def _translate_words(draw: Draw, lang: str) -> Task:
    found = _some_nouns(draw)
    asked = _ask(draw, "translate_words", lang, list=_words(found, lang))
    return Task("translate_words", asked, _words(found, "en" if lang == "hu" else "hu"))


def _changed(name: str) -> Make:
    def make(draw: Draw, lang: str) -> Task:
        clause = replace(draw_clause(draw, negative=False), time=None, tense="present")
        while clause.verb.marks.get("only") == "def" and name == "past":
            clause = replace(draw_clause(draw, negative=False), time=None, tense="present")
        other = replace(clause, tense="past") if name == "past" else replace(clause, negative=name == "negative")
        if name == "question":
            answer = clause.hu_question() if lang == "hu" else clause.en_question()
        else:
            answer = other.hu() if lang == "hu" else other.en()
        text = sentence(clause.hu() if lang == "hu" else clause.en())
        return Task(name, _ask(draw, name, lang, text=text), sentence(answer))

    return make


def _words_of(draw: Draw, lang: str) -> Task:
    text = getattr(draw_sentence(draw), lang)
    n = len(text.split())
    answer = {"hu": f"A mondat {n} szóból áll.", "en": f"The sentence has {n} words."}[lang]
    return Task("words", _ask(draw, "words", lang, text=text), answer)


def _translate_sentence(draw: Draw, lang: str) -> Task:
    both = draw_sentence(draw)
    text, answer = (both.hu, both.en) if lang == "hu" else (both.en, both.hu)
    return Task("translate_sentence", _ask(draw, "translate_sentence", lang, text=text), answer)


_NUMBERS: tuple[Make, ...] = (_gain, _loss, _sum, _product, _largest, _ordered, _even, _days)
_BOTH: tuple[Make, ...] = (
    _plural, _article, _opposite, _comparative, _odd, _sorted, _category, _translate_words,
)  # fmt: skip
_WORDS: dict[str, tuple[Make, ...]] = {"hu": (*_BOTH, _accusative, _case), "en": _BOTH}
_SENTENCES: tuple[Make, ...] = (
    _changed("past"), _changed("negative"), _changed("question"), _words_of, _translate_sentence,
)  # fmt: skip


def _some_nouns(draw: Draw) -> list[Noun]:
    return draw.some([noun for noun in nouns() if not noun.mass], 3)


def _words(found: list[Noun], lang: str) -> str:
    return _listed([noun.hu if lang == "hu" else noun.en for noun in found])


def _listed(things: list[str] | list[int]) -> str:
    return ", ".join(map(str, things))


@cache
def _wordings() -> dict[str, dict[str, list[str]]]:
    text = (resources.files(__package__) / "instructions.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = load_yaml(text, "instructions.yaml")
    return found


def _ask(draw: Draw, name: str, lang: str, **slots: object) -> str:
    wording = draw.one(_wordings()[name][lang])
    for slot, value in slots.items():
        wording = wording.replace(f"{{{slot}}}", str(value))
    assert "{" not in wording, wording
    return wording
