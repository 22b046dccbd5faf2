"""Which texts have equal words."""

import pytest

from lmcore.curate.exact import words_hash
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
