"""Compressors and the n-gram model against known answers and slow counting."""

from __future__ import annotations

import gzip
import lzma
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.evaluate.baselines import measure, take
from lmcore.evaluate.ngram import NGram

WORDS = [b"the ", b"hero ", b"went ", b"home ", b"again ", b"and ", b"sang, ", "ő ".encode(), "ሰላም ".encode()]


def babble(seed, n_bytes):
    random_words = random.Random(seed)
    text = b""
    while len(text) < n_bytes:
        text += random_words.choice(WORDS)
    return text


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize("context", [b"", b"t", b"the her", b"\x00\x00", b"\xff\xfe\xfd never seen \x01"])
def test_probabilities_of_the_256_bytes_sum_to_one_in_every_context(order, context):
    model = NGram([babble(1, 3000), b"", babble(2, 10)], order)
    probabilities = model.probabilities(context)
    assert abs(probabilities.sum() - 1) < 1e-12
    assert probabilities.min() > 0


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=12), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_any_bytes_leave_a_proper_distribution(documents, context, order):
    probabilities = NGram(documents, order).probabilities(context)
    assert abs(probabilities.sum() - 1) < 1e-12
    assert probabilities.min() > 0


def slow_kneser_ney(documents, order, text):
    """Modified Kneser-Ney straight from the formulas, one gram at a time."""
    pad = bytes(order - 1)
    top = Counter(
        (pad + document)[i : i + order] for document in documents for i in range(len(document)) if len(document)
    )
    levels = {order: top}
    for length in range(order - 1, 0, -1):
        levels[length] = Counter(gram[1:] for gram in levels[length + 1])

    def discounts(counts):
        n = [sum(1 for c in counts.values() if c == seen) for seen in (1, 2, 3, 4)]
        if not min(n[:3]):
            return (0.5, 1.0, 1.5)
        y = n[0] / (n[0] + 2 * n[1])
        found = tuple(k - (k + 1) * y * n[k] / n[k - 1] for k in (1, 2, 3))
        return found if all(0 < d < k for d, k in zip(found, (1, 2, 3), strict=True)) else (0.5, 1.0, 1.5)

    rates = {length: discounts(levels[length]) for length in levels}

    def probability(gram):
        if not gram:
            return 1 / 256
        counts, rate = levels[len(gram)], rates[len(gram)]
        followers = {g: c for g, c in counts.items() if g[:-1] == gram[:-1]}
        if not followers:
            return probability(gram[1:])
        total = sum(followers.values())
        here = counts.get(gram, 0)
        kept = here - (rate[min(here, 3) - 1] if here else 0)
        share = sum(rate[min(c, 3) - 1] for c in followers.values())
        return (kept + share * probability(gram[1:])) / total

    stream = pad + text
    return [-math.log2(probability(stream[i : i + order])) for i in range(len(text))]


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_bits_equal_slow_counting(order):
    documents = [babble(seed, 60 + seed) for seed in range(6)]
    text = babble(99, 80) + b"zebra"
    assert np.allclose(NGram(documents, order).bits([text]), slow_kneser_ney(documents, order, text), rtol=1e-12)


def test_context_does_not_cross_documents():
    model = NGram([babble(1, 2000)], 6)
    one, two = babble(5, 50), babble(6, 70)
    assert np.array_equal(model.bits([one, two]), np.concatenate([model.bits([one]), model.bits([two])]))


def test_ngram_learns_what_a_known_source_has():
    """Nine equally likely words: log2(9) bits a word is what there is to know."""
    held_out = babble(1000, 4000)
    words = held_out.count(b" ")
    floor = math.log2(len(WORDS)) * words / len(held_out)
    found = measure("ngram", [babble(seed, 20_000) for seed in range(5)], [held_out], 8).bits_per_byte
    assert floor * 0.98 < found < floor * 1.05


def test_compressors_are_sizes_of_real_files():
    train, held_out = [babble(1, 30_000), babble(2, 5_000)], [babble(3, 4_000), babble(4, 100)]
    n_bytes = sum(map(len, held_out))
    first, both = b"".join(train), b"".join([*train, *held_out])
    expected = 8 * (len(gzip.compress(both, 9)) - len(gzip.compress(first, 9))) / n_bytes
    found = measure("gzip", train, held_out, 6)
    assert found.bits_per_byte == expected
    assert found.alone_bits_per_byte == 8 * len(gzip.compress(b"".join(held_out), 9)) / n_bytes
    best = 9 | lzma.PRESET_EXTREME
    expected = 8 * (len(lzma.compress(both, preset=best)) - len(lzma.compress(first, preset=best))) / n_bytes
    found = measure("xz", train, held_out, 6)
    assert abs(found.bits_per_byte - expected) < 8 * 8 / n_bytes  # sizes are padded to 4 bytes
    assert found.alone_bits_per_byte > found.bits_per_byte


def test_xz_reaches_the_first_training_byte_and_gzip_does_not():
    secret = random.Random(7).randbytes(8_000)
    filler = random.Random(8).randbytes(100_000)
    assert measure("xz", [secret, filler], [secret], 6).bits_per_byte < 1
    assert measure("gzip", [secret, filler], [secret], 6).bits_per_byte > 7.9


def test_take_gives_whole_texts_up_to_the_limit():
    assert take([b"abc", b"de", b"f"], 5) == [b"abc", b"de"]
    assert take([b"abcdef", b"g"], 4) == [b"abcd"]
    assert take([], 4) == []
