"""Stop words of some thirty languages, as hashes that the word splitter gives. Lists and sources: stop_words.yaml."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray

from lmcore.curate.words import Hashes, split

# BCP 47 languages that are written with another one's words
_SAME = {"nb": "no", "nn": "no", "yue": "zh", "wuu": "zh", "lzh": "zh", "cmn": "zh"}


def stop_word_languages() -> tuple[str, ...]:
    """Languages with a list, ISO 639-1. In any other a text has 0 stop words, whatever it says."""
    return tuple(sorted(_lists()))


def stop_words(lang: str) -> tuple[str, ...]:
    """The stop words of a BCP 47 language, lower case; () where there is no list."""
    return _lists().get(_list_name(lang), ())


@functools.lru_cache(maxsize=256)
def stop_word_hashes(lang: str) -> Hashes:
    """Their hashes, sorted."""
    return word_hashes(stop_words(lang))


def word_hashes(words: Sequence[str]) -> Hashes:
    """Sorted hashes of single words, as in `Split.word_hash`."""
    found = split(words)
    assert len(found.word_hash) == len(words), "a word is split in two"
    return np.sort(found.word_hash)


def among(hashes: Hashes, table: Hashes) -> NDArray[np.bool_]:
    """Which hashes are in a sorted table."""
    if not len(table):
        return np.zeros(len(hashes), bool)
    place = np.minimum(np.searchsorted(table, hashes), len(table) - 1)
    hit: NDArray[np.bool_] = table[place] == hashes
    return hit


def _list_name(lang: str) -> str:
    base = lang.split("-")[0].lower()
    return _SAME.get(base, base)


@functools.cache
def _lists() -> dict[str, tuple[str, ...]]:
    raw = yaml.safe_load(files("lmcore.curate").joinpath("stop_words.yaml").read_text(encoding="utf-8"))
    return {lang: tuple(words.split()) for lang, words in raw.items()}
