"""The text score of the project amharic-llm-finetuning (`src/amharichnet/evaluation/metrics.py`), as it was and mended.

    score = .2 ratio + .15 endings + .3 fluency + .25 coherence + .1 common

    ratio      letters of the Ethiopic script / letters
    endings    share of sentences that end as sentences do
    fluency    mean of: different words / words; standard deviation / mean of the sentences' numbers of words; 1 / how
               often the most frequent word stands there
    coherence  (mean over neighbouring sentences of shared words / words of both + min(.3, conjunctions / sentences))
               / 1.3; .8 for one sentence
    common     share of the different words that are in a list of 30

Words are what stands between white space; one sentence has no variety of length.

The original cuts the text at ። ! ? and the word space ፡, and looks for endings in what is left when these are gone:
a sentence that ends rightly counts as one that does not. Its `ratio` knows 241 characters of the script, and its
`fluency` has no upper end. Mended here: an ending is looked for where the sentence was cut; sentences end at ። ? ! ፧ ፨,
and ፡ divides words, as it does in Amharic; commas and colons (፣ ፤ ፥ ፦) are no endings; every letter of the script's
blocks counts; the variety of length counts 1 at most, so that the score is from 0 to 1. Entries of the lists that are
two words never match a word, here as there.

The score rewards form and says nothing of sense; noise in Ethiopic letters that ends in ። scores well.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from lmcore.evaluate.probes.settings import TextScore

WEIGHTS = {"ratio": 0.2, "endings": 0.15, "fluency": 0.3, "coherence": 0.25, "common": 0.1}
PARTS = tuple(WEIGHTS)

_LISTED = (
    "ነው ናት ናቸው አለ ሆነ መጣ ሄደ ሰራ ተናገረ እና ወይም ግን ከዚያ በተጨማሪ ስለዚህ ኢትዮጵያ ሰላም ሰው ሰዎች ሀገር ህዝብ መንግሥት ትምህርት ወጣቶች ህጻናት ሴቶች ባህል ታሪክ"
)
_COMMON = frozenset(_LISTED.split())
_CONJUNCTIONS = frozenset(["እና", "ወይም", "ግን", "ከዚያ", "በተጨማሪ", "ስለዚህ", "በመሆኑም"])

_ORIGINAL_CUT = re.compile("[።!?፡]+")
_ORIGINAL_ENDINGS = tuple(".።!?፡፣፤፥፦፧፨")
# The original's list: the seven orders of 33 letters (ጰ is not among them) and the labialised forms of two.
_ORIGINAL_SEVEN = "ሀለሐመሠረሰሸቀበቨተቸኀነኘአከኸወዐዘዠየደዸጀገጠጨፀፈፐ"
_ORIGINAL_LETTERS = frozenset(
    [chr(ord(row) + order) for row in _ORIGINAL_SEVEN for order in range(7)] + list("ቈቊቋቌቍጐጒጓጔጕ")
)

_CUT = re.compile("[^።!?፧፨]*(?:[።!?፧፨]+|$)")
_ENDS = tuple("።!?፧፨")
_ETHIOPIC = re.compile("[\u1200-\u135a\u1380-\u138f\u2d80-\u2dde\uab01-\uab2e\U0001e7e0-\U0001e7fe]")
_WORD_SPACE = "\u1361"


def text_score(text: str, name: TextScore) -> dict[str, float]:
    """The parts of a text's score and their weighted sum, `score`; all 0 for a text of white space."""
    text = text.strip()
    if not text:
        return dict.fromkeys((*PARTS, "score"), 0.0)
    parts = _original(text) if name == "amharic_original" else _mended(text)
    return {**parts, "score": sum(WEIGHTS[part] * value for part, value in parts.items())}


def mean_scores(texts: Sequence[str], name: TextScore) -> dict[str, float]:
    """The mean over texts (at least one) of each part and of the score."""
    found = [text_score(text, name) for text in texts]
    return {part: statistics.mean(one[part] for one in found) for part in (*PARTS, "score")}


def _original(text: str) -> dict[str, float]:
    sentences = [piece.strip() for piece in _ORIGINAL_CUT.split(text) if piece.strip()]
    ended = sum(sentence.endswith(_ORIGINAL_ENDINGS) for sentence in sentences)
    letters = sum(letter in _ORIGINAL_LETTERS for letter in text) / max(1, sum(map(str.isalpha, text)))
    return _parts(letters, ended, sentences, text.split(), most_variety=float("inf"))


def _mended(text: str) -> dict[str, float]:
    text = text.replace(_WORD_SPACE, " ")
    pieces = [piece.strip() for piece in _CUT.findall(text) if piece.strip()]
    sentences = [bare for piece in pieces if (bare := piece.rstrip("".join(_ENDS)).strip())]
    ended = sum(piece.endswith(_ENDS) and bool(piece.rstrip("".join(_ENDS)).strip()) for piece in pieces)
    if not sentences:
        return dict.fromkeys(PARTS, 0.0)
    letters = len(_ETHIOPIC.findall(text)) / max(1, sum(map(str.isalpha, text)))
    words = " ".join(sentences).split()
    return _parts(letters, ended, sentences, words, most_variety=1.0)


def _parts(
    ratio: float, ended: int, sentences: Sequence[str], words: Sequence[str], *, most_variety: float
) -> dict[str, float]:
    lengths = [len(sentence.split()) for sentence in sentences]
    different, counts = set(words), Counter(words)
    variety = statistics.stdev(lengths) / statistics.mean(lengths) if len(lengths) > 1 else 0.0
    repeated = 1 / max(counts.values(), default=1)
    return {
        "ratio": ratio,
        "endings": ended / len(sentences) if sentences else 0.0,
        "fluency": (len(different) / max(1, len(words)) + min(most_variety, variety) + repeated) / 3,
        "coherence": _coherence(sentences, words),
        "common": len(different & _COMMON) / max(1, len(different)),
    }


def _coherence(sentences: Sequence[str], words: Sequence[str]) -> float:
    if len(sentences) < 2:
        return 0.8
    sets = [set(sentence.split()) for sentence in sentences]
    shared = statistics.mean(len(one & two) / len(one | two) for one, two in pairwise(sets))
    conjunctions = sum(word in _CONJUNCTIONS for word in words) / len(sentences)
    return (shared + min(conjunctions, 0.3)) / 1.3
