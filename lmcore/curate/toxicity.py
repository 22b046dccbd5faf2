"""The share of a text's words that stand on a list of offensive words of its language.

The lists (`toxic_words.tsv`, its head names source and licence) know words and not what is meant: medicine, law and
swearing look alike. The share is a signal for a rule with a generous limit, as C4 and RedPajama use it, never a
judgement of a text. A language without a list has the share 0.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNALS = {
    "toxic_word_share": "words on the list of offensive words of the text's language, of all words (Japanese, Chinese "
    "and Thai: characters); 0 where the language has no list"
}

_WORD = re.compile(r"[^\s!-&(-,./:-@\[-^`{-~¡«»¿‘“”„…–—、。！？・፡-፨।॥،؛؟]+")  # apostrophe, hyphen, _ stay inside
_UNSPACED = ("ja", "zh", "th")
_SAME = {"nb": "no", "nn": "no", "tl": "fil", "cmn": "zh", "yue": "zh"}
_LEAST_CHARACTERS = (  # of an entry in such a language: shorter ones are found inside of other words
    (re.compile(r"[\u3040-\u309f]+"), 4),  # hiragana
    (re.compile(r"[\u30a0-\u30ffｦ-ﾟ]+|[a-z0-9]+|[\u0e00-\u0e7f]+"), 3),  # katakana, Latin, Thai
)
_KATAKANA = re.compile(r"[\u30a1-\u30ff]+")
# Entries of the list that mean something harmless in most texts (cattle, cheek, purse, dormouse; to insert, to rule,
# a girl): not counted.
_EVERYDAY = {
    "hu": frozenset(
        (
            "marha",
            "marhák",
            "marhákat",
            "pofa",
            "pofákat",
            "pofát",
            "buksza",
            "bukszák",
            "bukszákat",
            "bukszát",
            "pele",
            "pelék",
            "pelékat",
            "búr",
            "búrok",
            "kúr",
            "megdöglik",
        )
    ),
    "ja": frozenset(("挿入", "支配", "女の子")),
}


@dataclass(frozen=True)
class _List:
    words: frozenset[str]  # single ones
    phrases: dict[str, tuple[tuple[str, ...], ...]]  # by first word
    parts: re.Pattern[str] | None  # where words have no spaces between


def languages() -> tuple[str, ...]:
    """Languages that have a list."""
    return tuple(sorted(_rows()))


def has_list(lang: str) -> bool:
    """Whether a BCP 47 language has a list."""
    return _list(base_language(lang)) is not None


def toxicity(texts: Sequence[str], langs: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Signal by name, (T,): of each text by its language (BCP 47), rounded to 6 digits."""
    shares = np.fromiter(
        (_share(text.lower(), _list(base_language(lang))) for text, lang in zip(texts, langs, strict=True)),
        np.float64,
        len(texts),
    )
    return {"toxic_word_share": np.round(shares, 6)}


def base_language(lang: str) -> str:
    """The language of a BCP 47 tag as the lists name it: `pt-BR` is `pt`."""
    base = lang.partition("-")[0].lower()
    return _SAME.get(base, base)


def _share(text: str, listed: _List | None) -> float:
    if listed is None:
        return 0.0
    if listed.parts is not None:
        characters = sum(map(len, text.split()))
        return _characters(text, listed.parts) / characters if characters else 0.0
    words = _WORD.findall(text)
    if not words:
        return 0.0
    count = sum(map(listed.words.__contains__, words))
    if not listed.phrases.keys().isdisjoint(words):
        count += _in_phrases(words, listed)
    return count / len(words)


def _in_phrases(words: Sequence[str], listed: _List) -> int:
    """Words of listed phrases of several words; one that is listed alone too counts once."""
    count = 0
    for place, word in enumerate(words):
        for phrase in listed.phrases.get(word, ()):
            if tuple(words[place : place + len(phrase)]) == phrase:
                count += sum(part not in listed.words for part in phrase)
                break
    return count


@functools.cache
def _list(lang: str) -> _List | None:
    """A language's list, without what means something else more often: everyday words, and what is too short."""
    if lang not in _rows():
        return None
    entries = [entry for entry in _rows()[lang] if entry not in _EVERYDAY.get(lang, ())]
    if lang in _UNSPACED:
        longest_first = sorted(filter(_distinct, entries), key=lambda entry: (-len(entry), entry))
        return _List(frozenset(), {}, re.compile("|".join(map(re.escape, longest_first))))
    words, phrases = set(), dict[str, list[tuple[str, ...]]]()
    for entry in entries:
        found = tuple(_WORD.findall(entry))
        if len(found) > 1:
            phrases.setdefault(found[0], []).append(found)
        elif found and not (len(found[0]) <= 2 and found[0].isascii()):
            words.add(found[0])
    ranked = {first: tuple(sorted(some, key=lambda phrase: (-len(phrase), phrase))) for first, some in phrases.items()}
    return _List(frozenset(words), ranked, None)


def _distinct(entry: str) -> bool:
    return len(entry) >= next((least for script, least in _LEAST_CHARACTERS if script.fullmatch(entry)), 2)


def _characters(text: str, parts: re.Pattern[str]) -> int:
    """Characters of listed parts; katakana must be a whole word of katakana, as other words of that script hold it."""
    count = 0
    for found in parts.finditer(text):
        start, end = found.span()
        if _KATAKANA.fullmatch(found[0]) and _KATAKANA.search(text[max(0, start - 1) : start] + text[end : end + 1]):
            continue
        count += end - start
    return count


@functools.cache
def _rows() -> dict[str, tuple[str, ...]]:
    text = importlib.resources.files("lmcore.curate").joinpath("toxic_words.tsv").read_text(encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            lang, _, word = line.partition("\t")
            rows.setdefault(lang, []).append(word)
    return {lang: tuple(words) for lang, words in rows.items()}
