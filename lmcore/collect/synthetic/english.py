"""English word forms: plurals, a or an, third person, past; what is irregular is data."""

from __future__ import annotations

VOWELS = "aeiou"
NUMERALS = (
    "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
_SILENT_H = ("hour", "honest", "heir", "honor")
_SOUNDS_LIKE_YOU = ("uni", "use", "eu", "ufo", "one", "once")  # a university, a European, a one-eyed cat
_THIRD = {"have": "has", "go": "goes", "do": "does", "be": "is"}
_PAST = {"be": "was"}


def article(following: str) -> str:
    """a or an, by the first sound of the word that follows."""
    word = following.lower()
    if word.startswith(_SILENT_H):
        return "an"
    if word.startswith(_SOUNDS_LIKE_YOU) and not word.startswith(("unin", "unim")):
        return "a"
    return "an" if word[:1] in VOWELS else "a"


def plural(noun: str) -> str:
    """The regular plural of a noun, of its last word where it has several."""
    if noun.endswith(("s", "x", "z", "ch", "sh")) or noun in ("potato", "tomato", "hero"):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def third(verb: str) -> str:
    """he ...; of several words the first is inflected: looks for, has breakfast."""
    first, space, rest = verb.partition(" ")
    return _THIRD.get(first, plural(first)) + space + rest


def possessive(name: str) -> str:
    """Anna's; also of names in s: Tamás's, as the Chicago Manual of Style has it."""
    return f"{name}'s"


def pronoun(gender: str, form: str) -> str:
    """he, him or his of "m", she, her of "f"; of "" it."""
    forms = {"m": ("he", "him", "his"), "f": ("she", "her", "her"), "": ("it", "it", "its")}[gender]
    found = forms[("he", "him", "his").index(form.lower())]
    return found.capitalize() if form[0].isupper() else found
