"""A shuffling of any number of things that needs no list of them.

A Feistel network over Z_a x Z_b, where a and b are about the square root of the number: each round adds to one half
a hash of the other, which can be undone, so the whole is a bijection of a*b >= n numbers, and at most about sqrt(n)
of them are too many. Following the bijection from such a number until it comes back below n ("cycle walking") gives
a bijection of exactly n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ROUNDS = 8  # four are enough to look random on large n (Luby and Rackoff, 1988); small n need more


def permute(index: npt.NDArray[np.int64], n: int, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where the permutation of 0 to n - 1 that `keys` (ROUNDS of them) names puts each of `index`."""
    assert n > 0
    assert len(keys) == ROUNDS
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    result = _rounds(index.astype(np.uint64), np.uint64(a), np.uint64(b), keys)
    while (outside := result >= n).any():
        result[outside] = _rounds(result[outside], np.uint64(a), np.uint64(b), keys)
    return result.astype(np.int64)


def _rounds(
    value: npt.NDArray[np.uint64], a: np.uint64, b: np.uint64, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    left, right = value // b, value % b  # in Z_a and Z_b
    for first, second in keys.reshape(-1, 2):
        left = (left + _hash(right + first)) % a
        right = (right + _hash(left + second)) % b
    return left * b + right


def _hash(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014), and its upper half so that sums cannot wrap."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (value ^ (value >> np.uint64(31))) >> np.uint64(32)
