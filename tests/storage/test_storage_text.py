"""Untrusted text on its way to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.text import number, printable


def test_escape_sequences_lose_their_teeth():
    assert printable("a\x1b[31mX\x9b\x07\tb\nዓ") == "a\ufffd[31mX\ufffd\ufffd\tb\nዓ"


@given(st.text())
def test_nothing_but_controls_changes(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(a == b or b == "\ufffd" for a, b in zip(text, shown, strict=True))
    assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (100_000.0, "100,000"),
        (1_234_567, "1,234,567"),
        (123_456.78, "123,457"),
        (12_345.678, "12,345.7"),
        (999_999.6, "1,000,000"),
        (1 / 3, "0.333333"),
        (0.0, "0"),
        (-2.0, "-2"),
        (0.0001, "0.0001"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_as_people_write_them(value, shown):
    assert number(value) == shown


def test_numbers_to_fewer_digits():
    assert [number(value, 4) for value in (12_345.6, 999.96, 1 / 3)] == ["12,346", "1,000", "0.3333"]
