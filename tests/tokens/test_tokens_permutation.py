"""The permutation is a bijection of any size, differs by key and looks shuffled."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.tokens.permutation import ROUNDS, permute


def keys_of(seed):
    return np.random.default_rng(seed).integers(0, 2**64, ROUNDS, dtype=np.uint64)


@settings(deadline=None, max_examples=200)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**32))
def test_it_is_a_bijection(n, seed):
    assert sorted(permute(np.arange(n), n, keys_of(seed)).tolist()) == list(range(n))


@settings(deadline=None)
@given(n=st.integers(10**6, 2**52), seed=st.integers(0, 2**32), data=st.data())
def test_on_sizes_too_large_to_list_no_two_meet(n, seed, data):
    index = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=200, unique=True)))
    placed = permute(index, n, keys_of(seed))
    assert len(set(placed.tolist())) == len(index)
    assert 0 <= placed.min() <= placed.max() < n
    assert permute(index[:1], n, keys_of(seed)).tolist() == placed[:1].tolist()


def test_it_does_not_change_what_it_is_given():
    index = np.arange(10)
    permute(index, 10, keys_of(0))
    assert index.tolist() == list(range(10))


def test_every_thing_goes_everywhere_equally_often(seed):
    n, draws = 13, 2600
    table = np.zeros((n, n))
    for draw in range(draws):
        table[np.arange(n), permute(np.arange(n), n, keys_of([seed, draw]))] += 1
    expected = draws / n
    chi2 = ((table - expected) ** 2 / expected).sum()
    freedom = (n - 1) ** 2
    assert chi2 < freedom + 6 * (2 * freedom) ** 0.5  # six standard deviations


def test_neighbours_are_torn_apart(seed):
    n = 5000
    placed = permute(np.arange(n), n, keys_of(seed))
    assert abs(np.corrcoef(np.arange(n), placed)[0, 1]) < 0.1
    steps = np.abs(np.diff(placed))
    assert abs(steps.mean() / (n / 3) - 1) < 0.1  # the mean distance of two random places
    assert (steps == 1).sum() < 20
