"""One hash in many items: what is kept of it, in how many runs it came, and what finds the first that count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate.postings import ALWAYS, MAY_CHANGE, STAYS, PostingsWriter, ahead

MANY, SHARED = 100_000, np.uint64(12345 << 40)


def write(folder, rows, stays, most, memory=0, piece=1):
    folder.mkdir(parents=True)
    writer = PostingsWriter(folder, memory, most, np.array(stays, np.int8))
    for first in range(0, len(rows), piece):
        hashes, items = zip(*rows[first : first + piece], strict=True)
        writer.add(np.array(hashes, np.uint64), np.array(items, np.uint32))
    return writer.finish()


@pytest.mark.parametrize(("stays", "kept"), [(STAYS, 64), (ALWAYS, 64), (MAY_CHANGE, MANY)])
def test_one_hash_in_many_items(tmp_path, stays, kept):
    """Of items that stay so many rows are kept as can be named, in every run; of others all."""
    writer = PostingsWriter(tmp_path, 1 << 18, 64, np.full(MANY, stays, np.int8))
    for first in range(0, MANY, 1000):
        items = np.arange(first, first + 1000, dtype=np.uint32)[::-1]
        writer.add(np.repeat([SHARED, np.uint64(first)], [1000, 1]), np.append(items, np.uint32(first)))
        written = sum(path.stat().st_size for path in tmp_path.glob("run-*.items")) // 4
        runs = len(list(tmp_path.glob("run-*.items")))
        assert stays == MAY_CHANGE or written <= 64 * runs + first // 1000 + 1
    postings, runs = writer.finish()
    assert runs > 10
    assert len(postings) == kept + MANY // 1000
    (found,) = list(postings.rows(np.array([SHARED])))
    assert found[1].tolist() == list(range(kept)), "the first ones, all in one piece"


def test_items_that_stay_are_kept_beside_those_of_a_part(tmp_path):
    """At most twice so many: the first that stay, and the first that count in every part."""
    stays = [STAYS] * 500 + [ALWAYS] * 500 + [MAY_CHANGE, STAYS]
    rows = [(SHARED, item) for item in range(len(stays))]
    postings, _ = write(tmp_path / "all", rows, stays, 64, piece=100)
    (found,) = list(postings.rows(np.array([SHARED])))
    assert found[1].tolist() == [*range(64), *range(500, 564)]
    postings, _ = write(tmp_path / "less", rows[::-1], [STAYS] * 990 + stays[990:], 64, piece=100)
    (found,) = list(postings.rows(np.array([SHARED])))
    assert found[1].tolist() == [*range(64), *range(990, 1001)], "one that may change, behind too few that always count"


rows_of = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=40)


@settings(deadline=None, max_examples=150)
@given(
    rows=rows_of,
    stays=st.lists(st.sampled_from([MAY_CHANGE, STAYS, ALWAYS]), max_size=10),
    bits=st.integers(0, 1023),
    whole=st.booleans(),
    most=st.integers(1, 3),
    piece=st.integers(1, 12),
)
def test_the_first_that_count_are_those_of_all_rows(tmp_path_factory, rows, stays, bits, whole, most, piece):
    """However the rows came, and whichever of the items that may change count, in the whole and in a part."""
    rows = [(gram << 62, item) for gram, item in rows]
    postings, _ = write(tmp_path_factory.mktemp("rows") / "at", rows, stays, most, piece=piece)
    how = np.array([*stays, *[STAYS] * (10 - len(stays))])
    drawn = np.array([bool(bits >> item & 1) for item in range(10)])
    counts = np.where(how == MAY_CHANGE, drawn, (how == ALWAYS) | whole)
    wanted = np.arange(3, dtype=np.uint64) << np.uint64(62)
    found = [
        (place, item) for places, items in postings.rows(wanted) for place, item in zip(places, items, strict=True)
    ]
    for place, gram in enumerate(wanted.tolist()):
        true = sorted({item for other, item in rows if other == gram})
        kept = [item for at, item in found if at == place]
        named = [[item for item in of if counts[item]][:most] for of in (true, kept)]
        assert named[0] == named[1]
        before = [
            {item for at, item in enumerate(of) if how[item] == MAY_CHANGE and counts[of[:at]].sum() < most}
            for of in (true, kept)
        ]
        assert before[0] == before[1], "which may change what is named"
        assert sum(how[item] != MAY_CHANGE for item in kept) <= 2 * most


def test_ahead():
    groups = np.array([1, 1, 1, 4, 4, 7])
    counts = np.array([True, False, True, True, True, False])
    assert ahead(groups, counts).tolist() == [0, 1, 1, 0, 1, 0]
    assert ahead(groups[:0], counts[:0]).tolist() == []
