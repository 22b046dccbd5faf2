"""Runs of words that many texts share, against counting by hand."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate import templates as room
from lmcore.curate.pieces import pieces
from lmcore.curate.templates import TemplateCounts
from lmcore.curate.words import split
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

TOWNS = [
    f"The town of A{i}b had a population of {i * 37:,} people at the census of 20{i % 90 + 10}." for i in range(40)
]

texts_ = st.lists(
    st.lists(st.sampled_from(["a", "B", "12", "7", "ሰላም", "日本", "x."]), max_size=9).map(" ".join)
    | st.integers(0, 12).map("日本".__mul__),
    max_size=40,
)


def runs(text):
    found = split([re.sub(r"\d+(?:[.,:/-]\d+)*", "0", text)])
    words = found.word_hash.tolist()
    alone = sum(text.count(character) for character in "日本")
    size = 12 if 2 * alone > len(words) else 6
    return [tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))] if words else []


def by_hand(texts, others):
    seen = Counter(run for text in texts for run in set(runs(text)))
    return [sum(seen[run] > others for run in runs(text)) / max(1, len(runs(text))) for text in texts]


def counted(texts, **settings):
    counts = TemplateCounts(**{"bits": 20, **settings})
    counts.add(texts)
    return counts


def test_pages_from_a_database_are_templates_and_prose_is_not(docstrings):
    counts = counted([*docstrings, *TOWNS])
    assert (counts.share(TOWNS) > 0.5).all()  # the runs with the town's name are each one text's own
    assert counts.share(docstrings).mean() < 0.05
    assert counts.share(["", "a word that nobody wrote before in this place"], added=False).tolist() == [0, 0]


def test_ten_others_are_needed(docstrings):
    lines = [f"{word} and this is said by every one of us here {word}" for word in "abcdefghijk"]
    assert (counted(lines).share(lines) > 0).all()
    assert not counted(lines[:10]).share(lines[:10]).any()
    assert counted(lines[:10]).share(lines[10:], added=False)[0] > 0
    assert not counted(lines[:9]).share(lines[10:], added=False).any()


@settings(deadline=None, max_examples=60)
@given(texts=texts_)
def test_against_counting_by_hand(texts):
    assert counted(texts).share(texts).tolist() == pytest.approx(by_hand(texts, 10), abs=1e-6)


def test_a_text_counts_once_also_when_it_is_long(monkeypatch):
    text = "again and again and again and " * 50
    assert not counted([text]).share([text]).any()
    monkeypatch.setattr(room, "PIECE_CHARS", 100)
    monkeypatch.setattr(room, "pieces", lambda texts: pieces(texts, 100))
    assert counted([text])._counters.max() == 1
    assert not counted([text]).share([text]).any()


def test_cut_order_and_merging_change_nothing(docstrings, seed, tmp_path):
    texts = [*docstrings[:100], *TOWNS]
    whole = counted(texts)
    random.Random(seed).shuffle(texts)
    first, second = counted(texts[:33]), counted(texts[33:])
    first.merge(second)
    for name, counts in (("whole", whole), ("parts", first)):
        counts.save(tmp_path / name)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    again = TemplateCounts.load(tmp_path / "whole")
    assert again.share(texts).tolist() == whole.share(texts).tolist()
    assert (again.bits, again.thinning) == (whole.bits, whole.thinning)


def test_a_sample_of_the_runs_gives_nearly_the_same_share(docstrings):
    texts = [*TOWNS, *docstrings[:50]]
    exact, sampled = counted(texts).share(texts), counted(texts, thinning=1).share(texts)
    assert 0 < counted(texts, thinning=1)._counters.sum() < 0.6 * counted(texts)._counters.sum()
    assert np.abs(sampled - exact).mean() < 0.2
    assert sampled[:40].mean() == pytest.approx(exact[:40].mean(), abs=0.25)


def test_thinning_keeps_three_runs_a_counter():
    assert TemplateCounts.for_words(3072, bits=10).thinning == 0
    for words in (3073, 50_000, 10**9):
        thinning = TemplateCounts.for_words(words, bits=10).thinning
        assert words / 2**thinning <= 3072 < words / 2 ** (thinning - 1)


def test_counters_stay_at_their_end():
    counts = counted(["one two three four five six"] * 200)
    counts.merge(counts)
    assert counts._counters.max() == 255
    assert counts.mean == pytest.approx(255 / 2**20)


def test_what_is_no_count_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bits"):
        TemplateCounts(bits=40)
    with pytest.raises(ValueError, match="20 bits"):
        TemplateCounts(bits=12).merge(TemplateCounts(bits=20))
    counts = counted(TOWNS)
    counts.save(tmp_path / "counts")
    table = read_parquet(tmp_path / "counts")
    for facts in ({}, {"bits": "10", "thinning": "0"}, {"bits": "x", "thinning": "0"}):
        write_parquet(tmp_path / "odd", table.replace_schema_metadata(facts))
        with pytest.raises(RunError, match="odd"):
            TemplateCounts.load(tmp_path / "odd")
