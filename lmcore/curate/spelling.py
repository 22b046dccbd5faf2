"""Optional spellings of one language's text, each off unless a recipe asks for it: every one of them loses something.

The tables are data (spelling_*.yaml). Each change is made in text of its language only and twice is once.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from pydantic import Field

from lmcore.config import Params
from lmcore.curate.mojibake import repair
from lmcore.curate.normalise import normalise


class GeezParams(Params):
    """Amharic letters of one sound, and Ethiopic marks; the steps of spelling_geez.yaml by name."""

    merge_h: bool = Field(default=False, description="ሐ and ኀ become ሀ, in all orders.")
    merge_kh: bool = Field(default=False, description="ኸ becomes ሀ, in all orders.")
    merge_s: bool = Field(default=False, description="ሠ becomes ሰ, in all orders.")
    merge_a: bool = Field(default=False, description="ዐ becomes አ, in all orders.")
    merge_ts: bool = Field(default=False, description="ፀ becomes ጸ, in all orders.")
    fourth_h: bool = Field(default=False, description="ሃ becomes ሀ.")
    fourth_a: bool = Field(default=False, description="ኣ becomes አ.")
    labialised: bool = Field(default=False, description="A letter of u-order with ዋ or አ becomes one letter: ቱዋ, ቷ.")
    marks: bool = Field(default=False, description="፡፡ and :: become ።, repeated ። one, and the word space ፡ a space.")


class JapaneseParams(Params):
    """Widths of characters in Japanese text; the steps of spelling_japanese.yaml by name."""

    letters: bool = Field(default=False, description="Full-width digits, Latin letters and signs become ASCII.")
    punctuation: bool = Field(default=False, description="Full-width punctuation becomes ASCII.")
    kana: bool = Field(default=False, description="Half-width katakana becomes full-width.")
    wave_dash: bool = Field(default=False, description="The full-width tilde becomes the wave dash.")


class NormaliseParams(Params):
    """What is changed beyond what cannot be seen."""

    mojibake: bool = Field(default=False, description="Decode again what was decoded as another encoding.")
    geez: GeezParams = Field(default=GeezParams(), description="Amharic letters and marks.")
    hungarian: bool = Field(default=False, description="õ and û become ő and ű in Hungarian text.")
    japanese: JapaneseParams = Field(default=JapaneseParams(), description="Widths in Japanese text.")


def normalise_all(texts: Sequence[str], langs: Sequence[str], params: NormaliseParams) -> list[str]:
    """`texts` (raw or not) normalised, mojibake repaired and spelt as `params` ask, each by its language (BCP 47).

    With the defaults it is `normalise` of every text. The result holds no lone surrogate; twice is once.
    """
    return spell_all(clean_all(texts, params), langs, params)


def clean_all(texts: Sequence[str], params: NormaliseParams) -> list[str]:
    """The half of `normalise_all` that needs no language, so that the language can be found in its result."""
    return [_repaired(text) if params.mojibake else normalise(text) for text in texts]


def _repaired(text: str) -> str:
    """`text` repaired and normalised until nothing more is found: a character that cannot be seen may hide mojibake."""
    clean = normalise(repair(text))
    while len(again := normalise(repair(clean))) < len(clean):
        clean = again
    return clean


def spell_all(clean: Sequence[str], langs: Sequence[str], params: NormaliseParams) -> list[str]:
    """The other half: `clean` texts (results of `clean_all`) spelt as `params` ask, each by its language (BCP 47).

    Raises ValueError when the lengths differ.
    """
    spellings = _spellings(params)
    results = []
    for text, lang in zip(clean, langs, strict=True):
        for spell in spellings.get(lang.split("-", 1)[0].lower(), ()):
            changed = spell(text)
            if changed != text:
                text = normalise(changed)
        results.append(text)
    return results


def _spellings(params: NormaliseParams) -> dict[str, list[Callable[[str], str]]]:
    """What is done to a text, by language."""
    spellings: dict[str, list[Callable[[str], str]]] = {}
    geez, japanese = params.geez, params.japanese
    if geez != GeezParams():
        spellings["am"] = [functools.partial(spell_amharic, params=geez)]
    if params.hungarian:
        spellings["hu"] = [spell_hungarian]
    if japanese != JapaneseParams():
        spellings["ja"] = [functools.partial(spell_japanese, params=japanese)]
    return spellings


_ETHIOPIC_COLONS = re.compile("[፡:]*፡[፡:]+|[፡:]+፡")  # a word space doubled by hand, also with ASCII colons
_WORD_SPACE = re.compile(" *(?:፡ *)+")
_ASCII_COLONS = re.compile("(?<=[\u1200-\u135a])( ?)::+")  # after an Ethiopic letter only: C++ has them too
_STOPS = re.compile("።(?: *።)+")


def spell_amharic(text: str, params: GeezParams) -> str:
    """Amharic `text` with the steps of `params`."""
    letters, glides = _geez_steps(params)
    text = text.translate(letters)
    if glides:
        text = _glides().sub(lambda found: glides[found[1]], text)
    if params.marks:
        text = _ETHIOPIC_COLONS.sub("።", text)
        text = _WORD_SPACE.sub(" ", text)
        text = _ASCII_COLONS.sub(r"\1።", text)
        text = _STOPS.sub("።", text)
    return text


@functools.cache
def _glides() -> re.Pattern[str]:
    return re.compile(f"([{''.join(_table('geez')['labialised']['glides'])}])[ዋአ]")


@functools.lru_cache(maxsize=16)
def _geez_steps(params: GeezParams) -> tuple[dict[int, int], dict[str, str]]:
    """(one letter by another, over all steps taken in order; the wa-order letters of `labialised`)."""
    letters: dict[int, int] = {}
    glides: dict[str, str] = {}
    for name, step in _table("geez").items():
        if not getattr(params, name):
            continue
        one = {ord(old): ord(new) for old, new in step.get("letters", {}).items()}
        for row in step.get("series", ()):
            one |= {row["from"] + order: row["to"] + order for order in range(row["orders"])}
        letters = {old: one.get(new, new) for old, new in letters.items()} | {
            old: new for old, new in one.items() if old not in letters
        }
        glides |= step.get("glides", {})
    return letters, glides


def spell_hungarian(text: str) -> str:
    """`text` with õ and û as ő and ű, in words whose letters are all Hungarian.

    Only where they are as many as the right ones or more: a text that has ő mostly means its õ.
    """
    table = _table("hungarian")
    wrong: dict[str, str] = table["letters"]
    if sum(map(text.count, wrong)) < max(1, sum(map(text.count, wrong.values()))):
        return text
    letters = str.maketrans(wrong)
    known = frozenset(table["alphabet"] + table["alphabet"].upper()) | frozenset(wrong)
    return re.sub(r"[^\W\d_]+", lambda word: word[0].translate(letters) if known.issuperset(word[0]) else word[0], text)


def spell_japanese(text: str, params: JapaneseParams) -> str:
    """Japanese `text` with the steps of `params`."""
    table = _table("japanese")
    letters: dict[int, int] = {}
    for name in ("letters", "punctuation"):
        if getattr(params, name):
            letters |= {ord(wide): ord(wide) - table[name]["offset"] for wide in table[name]["characters"]}
    if params.wave_dash:
        letters |= {ord(old): ord(new) for old, new in table["wave_dash"].items()}
    text = text.translate(letters)
    if params.kana:
        low, high = table["kana"]
        text = re.sub(f"[{chr(low)}-{chr(high)}]+", lambda run: unicodedata.normalize("NFKC", run[0]), text)
    return text


@functools.cache
def _table(name: str) -> dict[str, Any]:
    rows = importlib.resources.files(__package__).joinpath(f"spelling_{name}.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.safe_load(rows)
    return table
