"""Which of texts that are alike stays: against one that takes them one by one."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate.choose import Chosen, Pairs, choose
from lmcore.curate.ids import hexes, ids, places


def name(number):
    """32 hex digits; low numbers and numbers that end in zeros are as good as any."""
    return f"{number:032x}"[::-1] if number % 2 else f"{number:032x}"


@st.composite
def _texts(draw):
    """Numbers of words, distinct ranks, and pairs of words (of some that are not there, too) with what they share."""
    words = draw(st.lists(st.integers(0, 9), max_size=24))
    rank = draw(st.permutations(range(len(words))))
    edge = st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1])
    pairs = draw(st.lists(edge, max_size=20, unique_by=lambda pair: frozenset(pair)))
    shared = draw(st.lists(st.sampled_from([0.7, 0.8, 0.95]), min_size=len(pairs), max_size=len(pairs)))
    return words, rank, dict(zip(pairs, shared, strict=True))


def chosen(words, rank, pairs):
    of = ids(map(name, words))
    a, b = (ids(name(pair[side]) for pair in pairs) for side in (0, 1))
    return choose(of, np.array(rank, np.int64), Pairs(a, b, np.array(list(pairs.values()), float)))


def alike(words, pairs, one, other):
    """What two texts share; None when they are not alike."""
    if words[one] == words[other]:
        return 1.0
    return pairs.get((words[one], words[other]), pairs.get((words[other], words[one])))


def one_by_one(words, rank, pairs):
    """Take texts in the order of their rank; each stays unless it is like one that stays."""
    order = sorted(range(len(words)), key=lambda text: rank[text])
    stay, best, shared = [], {}, {}
    for text in order:
        found = next((kept for kept in stay if alike(words, pairs, text, kept) is not None), None)
        if found is None:
            stay.append(text)
        best[text] = text if found is None else found
        shared[text] = 1.0 if found is None else alike(words, pairs, text, found)
    return [best[text] for text in range(len(words))], [shared[text] for text in range(len(words))]


def clusters(words, pairs):
    """The lowest text of those connected with each, and how many there are."""
    low = list(range(len(words)))
    for _ in words:
        for one in range(len(words)):
            for other in range(len(words)):
                if alike(words, pairs, one, other) is not None:
                    low[one] = low[other] = min(low[one], low[other])
    return low, [low.count(which) for which in low]


@given(_texts())
def test_as_one_by_one(texts):
    words, rank, pairs = texts
    found = chosen(words, rank, pairs)
    best, shared = one_by_one(words, rank, pairs)
    assert found.best.tolist() == best
    assert found.jaccard.tolist() == shared
    low, size = clusters(words, pairs)
    assert found.cluster.tolist() == low
    assert found.size.tolist() == size


@given(_texts(), st.randoms(use_true_random=False))
def test_the_order_and_direction_of_pairs_do_not_matter(texts, random):
    words, rank, pairs = texts
    found = chosen(words, rank, pairs)
    turned = [(pair[::-1] if random.random() < 0.5 else pair, value) for pair, value in pairs.items()]
    random.shuffle(turned)
    again = chosen(words, rank, dict(turned))
    for field in Chosen.__dataclass_fields__:
        assert getattr(again, field).tolist() == getattr(found, field).tolist()


def test_of_two_lines_about_a_pair_the_larger_counts():
    of = ids([name(2), name(4)])
    for values in ([0.7, 0.9], [0.9, 0.7]):
        pairs = Pairs(of[[0, 1]], of[[1, 0]], np.array(values))
        assert chosen_values(of, pairs) == [1.0, 0.9]


def chosen_values(of, pairs):
    return choose(of, np.arange(len(of)), pairs).jaccard.tolist()


def test_a_chain_costs_no_text_that_is_like_none_kept():
    """a - b - c: taking whole connected clusters would lose c."""
    found = chosen([0, 1, 2], [0, 1, 2], {(0, 1): 0.8, (1, 2): 0.8})
    assert found.best.tolist() == [0, 0, 2]
    assert found.size.tolist() == [3, 3, 3]
    long = 20_000
    found = chosen(list(range(long)), list(range(long)), {(n, n + 1): 0.9 for n in range(long - 1)})
    assert found.best.tolist() == [n - n % 2 for n in range(long)]
    assert set(found.size.tolist()) == {long}


_HEX = st.lists(st.binary(min_size=16, max_size=16).map(bytes.hex), max_size=30) | st.lists(
    st.sampled_from(["00" * 16, "00" * 15 + "01", "01" + "00" * 15, "ff" * 16, "00" * 8 + "ff" * 8]), max_size=9
)


@given(_HEX, _HEX)
def test_ids_sort_and_are_found_as_their_digits(some, others):
    of = ids(some)
    assert hexes(of).to_pylist() == some
    assert hexes(np.sort(of)).to_pylist() == sorted(some)
    assert ids(pa.chunked_array([some[:3], some[3:]], pa.string())).tolist() == of.tolist()
    among = sorted(set(others))
    found = places(of, ids(among))
    assert found.tolist() == [among.index(text) if text in among else -1 for text in some]


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "g" * 32, "0" * 64])
def test_what_is_no_id(text):
    with pytest.raises(ValueError, match="hex"):
        ids([text])
