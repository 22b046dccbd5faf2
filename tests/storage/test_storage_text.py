"""Untrusted text on its way to a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from storage.text import printable


def test_escape_sequences_lose_their_teeth():
    assert printable("a\x1b[31mX\x9b\x07\tb\nዓ") == "a\ufffd[31mX\ufffd\ufffd\tb\nዓ"


@given(st.text())
def test_nothing_but_controls_changes(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(a == b or b == "\ufffd" for a, b in zip(text, shown, strict=True))
    assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in shown)
