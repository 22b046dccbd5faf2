"""Which words are a domain's own: log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008).

For a word that stands y times among n words of the domain and y' times among n' words of the other sources, with
a = y + y' and A = n + n' as the prior (its words drawn from all text):

    d = log((y + a) / (n + A - y - a)) - log((y' + a) / (n' + A - y' - a))      z = d / sqrt(1 / (y + a) + 1 / (y' + a))

The highest z come first: words that are frequent in the domain and much rarer elsewhere, never one of a single text by
chance. Words are runs of letters, without regard to case, of four letters or more and no stop words of a language of
the domain's texts (`lmcore.curate.stop_words`), and at least four times as frequent in the domain: else its pronouns
would tell prose from captions. The other sources should be common prose in the domain's language. Texts that do not
divide words (Chinese, Japanese, Thai) have none to mine: list their terms.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmcore.curate.stop_words import stop_words
from storage.parquet import batches

_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]{4,}")
LEAST_RATIO = 4
MOST_BYTES = 32_000_000  # of training text on either side


def mine(files: Sequence[Path], domain: Iterable[str], most: int, min_count: int) -> list[str]:
    """At most `most` words of the training files' sources in `domain`, the most distinctive first, in lower case."""
    wanted = set(domain)
    counts = {True: Counter[str](), False: Counter[str]()}
    left = {True: MOST_BYTES, False: MOST_BYTES}
    languages: set[str] = set()
    for batch in (some for path in files for some in batches(path, ["source", "lang", "text", "n_bytes"], rows=256)):
        if max(left.values()) <= 0:
            break
        for source, lang, text, size in zip(*(batch[name].to_pylist() for name in batch.schema.names), strict=True):
            inside = source in wanted
            if left[inside] > 0:
                left[inside] -= size
                counts[inside].update(_WORD.findall(text.casefold()))
                if inside:
                    languages.add(lang)
    for word in {word for lang in languages for word in stop_words(lang)}:
        del counts[True][word]
    return distinctive(counts[True], counts[False], most, min_count)


def distinctive(own: Counter[str], others: Counter[str], most: int, min_count: int) -> list[str]:
    """The words of `own` with the highest z above 0, by z and then by name; of those that are frequent enough."""
    n, m = own.total(), others.total()
    ranked = []
    for word, count in own.items():
        prior = count + others[word]
        one, two = count + prior, others[word] + prior
        odds = math.log(one / max(1, 2 * n + m - one)) - math.log(two / max(1, n + 2 * m - two))
        z = odds / math.sqrt(1 / one + 1 / two)
        if count >= min_count and z > 0 and count * m >= LEAST_RATIO * others[word] * n:
            ranked.append((-z, word))
    return [word for _, word in sorted(ranked)[:most]]
