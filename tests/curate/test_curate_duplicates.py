"""Exact duplicates: what counts as equal, and which copy stays."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmcore.curate.duplicates import exact_clusters, words_hash

from lmcore.curate.normalise import normalise


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("The  cat\nsat.", "the cat SAT.", True),
        ("\tindented\n\n\ncode", "indented code", True),
        ("cafe\u0301", "CAFÉ", True),
        ("a b", "ab", False),
        ("a < b", "a > b", False),
        ("the cat sat.", "the cat sat", False),
        ("", " \n ", True),
    ],
)
def test_what_counts_as_equal(one, other, equal):
    assert (words_hash(normalise(one)) == words_hash(normalise(other))) == equal


def test_the_hash_never_changes():
    assert words_hash("The cat\nsat.") == "26e7660b009293f110af00d5f2fffef4"


COPIES = [  # best first: synthetic, quality, n_chars, url, record_id
    (False, 90.0, 100.0, "http://b", "05"),
    (False, 90.0, 90.0, "http://a", "04"),
    (False, 90.0, 90.0, "http://a", "07"),
    (False, 90.0, 90.0, "http://c", "01"),
    (False, 80.0, 500.0, "http://a", "02"),
    (True, 99.0, 900.0, "http://a", "00"),
]


def cluster(rows, hashes):
    synthetic, quality, n_chars, urls, ids = zip(*rows, strict=True)
    return exact_clusters(
        list(hashes),
        synthetic=np.array(synthetic),
        quality=np.array(quality),
        n_chars=np.array(n_chars),
        urls=list(urls),
        record_ids=list(ids),
    )


def test_the_best_copy_stays_whatever_the_order():
    for count in range(1, len(COPIES) + 1):
        for order in itertools.islice(itertools.permutations(COPIES[-count:]), 0, 720, 7):
            found = cluster(order, ["same"] * count)
            assert {order[best] for best in found.best} == {COPIES[-count]}
            assert found.size.tolist() == [count] * count


@given(st.lists(st.sampled_from("abcd"), min_size=1))
def test_clusters_are_the_groups_of_equal_hashes(hashes):
    rows = [(False, 1.0, 1.0, "u", f"{number:03d}") for number in range(len(hashes))]
    found = cluster(rows, hashes)
    for number, name in enumerate(hashes):
        assert found.best[number] == hashes.index(name)
        assert found.size[number] == hashes.count(name)


def test_nothing_to_group():
    found = exact_clusters(
        [], synthetic=np.zeros(0, bool), quality=np.zeros(0), n_chars=np.zeros(0), urls=[], record_ids=[]
    )
    assert len(found.best) == len(found.size) == 0
