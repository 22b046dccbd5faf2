"""Which language a text is in, by its script, then by a model; and how much of it is in an expected language.

What is found stands beside what was declared and never replaces it: only a text declared `und` takes the found one.
The result of a text depends on that text alone. Long texts are judged by slices, so the cost of one is bounded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lmcore.config import Params
from lmcore.curate.language_models import Candidates, both, fast, known
from lmcore.curate.language_script import only, script_shares, scripts
from storage.errors import UserError

UNKNOWN = "und"
CANDIDATES = 3

_SLICES, _SLICE = 3, 300  # a text is judged by so many pieces of so many characters: beginning, middle, end
_MIN_SHARE = 0.1  # of the letters, from which a script is looked at
_UNIT, _UNITS, _UNIT_READ = 60, 24, 120  # a paragraph: at least so long; at most so many; so much of each is read
_LONGEST = 1_000  # a line of more is cut: a text without line ends has paragraphs too
_DOUBT = 0.05  # weight of a language in a paragraph that is not among those of the document
# ISO 639-3: what the models know of one macrolanguage; a text in one of its languages is in it
_MACROLANGUAGES = {"nb": "no", "nn": "no", "ckb": "ku", "sdh": "ku", "kmr": "ku", "arz": "ar", "ary": "ar"} | {
    "yue": "zh", "wuu": "zh", "cmn": "zh", "dty": "ne", "prs": "fa", "pes": "fa",
}  # fmt: skip
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_SURROGATES = re.compile("[\ud800-\udfff]")


class LanguageParams(Params):
    """How the language of texts is found."""

    enabled: bool = Field(default=True, description="Find the language of every text; what was declared stays.")
    expected: tuple[str, ...] = Field(
        default=(), description="Languages (BCP 47) the corpus should hold; none given: every language is expected."
    )
    min_score: float = Field(
        default=0.5, ge=0, le=1, description="Least score with which a text declared `und` takes the found language."
    )
    paragraphs: bool = Field(
        default=True, description="Look at paragraphs too, for the share of a text that is in an expected language."
    )

    @field_validator("expected")
    @classmethod
    def _tags(cls, expected: tuple[str, ...]) -> tuple[str, ...]:
        for tag in expected:
            if not _TAG.fullmatch(tag):
                raise ValueError(f"{tag!r} is no language code; write one of BCP 47 such as hu or zh-Hant")
        return expected


@dataclass(frozen=True)
class Found:
    """The languages of T texts."""

    lang: list[str]  # BCP 47; "und" where there is no letter to go by
    score: NDArray[np.float64]  # (T,) 0 to 1: share of the script's letters times the model's probability
    top: list[Candidates]  # up to three a text, best first
    expected_share: NDArray[np.float64]  # (T,) 0 to 1, by characters; 1 where nothing is expected


def require_known(params: LanguageParams) -> None:
    """Raise UserError for an expected language that is never found, so that every text would miss it."""
    if not params.enabled or not params.expected:
        return
    there = {_primary(lang) for lang in known()}.union(*(map(_primary, row.languages) for row in scripts()))
    for tag in params.expected:
        if _primary(tag) not in there:
            near = difflib.get_close_matches(_primary(tag), sorted(there), 3, 0.5)
            raise UserError(
                f"measure.language.expected names {tag!r}, and no text is ever found to be in it",
                (f"did you mean one of {', '.join(near)}? " if near else "") + "take it out, or write its usual code",
            )


def languages(texts: Sequence[str], params: LanguageParams) -> Found:
    """The languages of `texts`, which may be raw. With `enabled` off all are `und`."""
    if not params.enabled:
        count = len(texts)
        return Found([UNKNOWN] * count, np.zeros(count), [[] for _ in texts], np.ones(count))
    top = [found[:CANDIDATES] for found in _identify([_sample(text) for text in texts], both)]
    return Found(
        lang=[candidates[0][0] if candidates else UNKNOWN for candidates in top],
        score=np.array([candidates[0][1] if candidates else 0.0 for candidates in top]),
        top=top,
        expected_share=_expected_share(texts, top, params),
    )


def resolve(declared: Sequence[str], found: Found, params: LanguageParams) -> list[str]:
    """What each text is taken for: the declared language, and where that is `und` the found one, if it is sure enough.

    Raises ValueError when the lengths differ.
    """
    return [
        lang if said == UNKNOWN and score >= params.min_score else said
        for said, lang, score in zip(declared, found.lang, found.score.tolist(), strict=True)
    ]


def same_language(lang: str, other: str) -> bool:
    """Whether two tags name one language: their first subtags agree (zh-Hant and zh), or are of one macrolanguage."""
    return _primary(lang) == _primary(other)


def _primary(lang: str) -> str:
    first = lang.split("-", 1)[0].lower()
    return _MACROLANGUAGES.get(first, first)


def _identify(samples: Sequence[str], model: Callable[[str], Candidates]) -> list[Candidates]:
    """Every (language, score) that a sample may be, best first."""
    shares = script_shares(samples)
    return [_candidates(sample, shares[row], model) for row, sample in enumerate(samples)]


def _candidates(sample: str, shares: NDArray[np.float64], model: Callable[[str], Candidates]) -> Candidates:
    scores: dict[str, float] = {}
    present = np.flatnonzero(shares >= _MIN_SHARE).tolist()
    for index in present:
        script, share = scripts()[index], float(shares[index])
        if script.words:
            scores[script.by_words(sample)] = share
        elif script.decides():
            scores[script.languages[0]] = share
        else:
            guessed = model(sample if len(present) == 1 else only(sample, index))
            possible = [(lang, score) for lang, score in guessed if lang != UNKNOWN and script.may_be(lang)]
            known = sum(score for _, score in possible)
            rest = 1 - sum(score for _, score in guessed) + known  # what the models give to no impossible language
            for lang, score in possible:
                scores[lang] = max(scores.get(lang, 0.0), share * min(1.0, score / rest))
            if not possible and script.languages:
                scores[script.languages[0]] = share / len(script.languages)
    return sorted(((lang, round(score, 6)) for lang, score in scores.items()), key=lambda pair: (-pair[1], pair[0]))


def _sample(text: str) -> str:
    """At most _SLICES pieces of _SLICE characters of a text, on one line, without lone surrogates."""
    if len(text) > _SLICES * _SLICE:
        middle = (len(text) - _SLICE) // 2
        text = f"{text[:_SLICE]} {text[middle : middle + _SLICE]} {text[-_SLICE:]}"
    return " ".join(_SURROGATES.sub(" ", text).split())


def _expected_share(texts: Sequence[str], top: list[Candidates], params: LanguageParams) -> NDArray[np.float64]:
    if not params.expected:
        return np.ones(len(texts))
    wanted = {_primary(lang) for lang in params.expected}

    share = np.array([float(not found or _primary(found[0][0]) in wanted) for found in top])
    if params.paragraphs:
        units = [(row, unit) for row, text in enumerate(texts) for unit in _units(text)]
        candidates = _identify([_sample(unit[:_UNIT_READ]) for _, unit in units], fast)
        total, good = np.zeros(len(texts)), np.zeros(len(texts))
        for (row, unit), found in zip(units, candidates, strict=True):
            total[row] += len(unit)
            good[row] += len(unit) * _is_wanted(found, dict(top[row]), wanted)
        share = np.divide(good, total, out=share, where=total > 0)
    return np.round(share, 6)


def _is_wanted(found: Candidates, document: dict[str, float], wanted: set[str]) -> bool:
    """Whether a paragraph is rather in a wanted language; what the document is in speaks for a doubtful one."""
    balance = 0.0
    for lang, score in found:
        weight = score * (_DOUBT + document.get(lang, 0.0))
        balance += weight if _primary(lang) in wanted else -weight
    return balance >= 0  # figures and signs, with no candidate, are in every language


def _units(text: str) -> list[str]:
    """Paragraphs of at least _UNIT characters, short lines joined to the next; of many, _UNITS spread evenly."""
    units = list(_joined_lines(text))
    if len(units) > _UNITS:
        units = [units[index * len(units) // _UNITS] for index in range(_UNITS)]
    return units


def _joined_lines(text: str) -> Iterator[str]:
    held = ""
    for line in text.split("\n"):
        held = f"{held} {line.strip()}" if held else line.strip()
        if len(held) >= _UNIT:
            for start in range(0, len(held), _LONGEST):
                yield held[start : start + _LONGEST]
            held = ""
    if held:
        yield held
