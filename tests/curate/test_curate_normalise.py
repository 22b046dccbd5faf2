"""One spelling: what changes, what must not, and that doing it twice changes nothing more."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate.normalise import MAX_BLANK_LINES, NORMALISER_VERSION, normalise, text_id

# surrogates too: text read with surrogateescape must not break what comes later
anything = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc"]),
        st.sampled_from(" \t\n\r\u00a0\u3000\u200b\ufeffaé\u0301가ᄀ"),
    )
)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\u2028d\u0085e\ff", "a\nb\nc\nd\ne\nf"),
        ("cafe\u0301", "café"),
        ("\u1112\u1161\u11ab", "한"),
        ("\ufeffzero\u200bwidth\u2060 soft\u00adhyphen", "zerowidth softhyphen"),
        ("bell\x07 escape\x1b[0m null\x00 c1\x9b", "bell escape[0m null c1"),
        ("\u202eevil\u202c", "evil"),
        ("no\u00a0break narrow\u202fbreak", "no break narrow break"),
        ("line  \t\nnext\u3000\n", "line\nnext"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("a\n \n\t\n  \n\n b", "a\n\n\n b"),
        ("def f():\n\treturn 1\n\n\n    # end", "def f():\n\treturn 1\n\n\n    # end"),
        ("\n\n    first line is indented\n", "    first line is indented"),
        ("   \n\t\n", ""),
        ("", ""),
        ("e\ud800f", "ef"),
        ("e\u200b\u0301", "é"),
        ("می‌خواهم", "می‌خواهم"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
        ("ﬁne Ａ ② ℌ", "ﬁne Ａ ② ℌ"),
        ("  日本語　の字下げ", "  日本語　の字下げ"),
        ("ሰላም፡ለዓለም።", "ሰላም፡ለዓለም።"),
    ],
)
def test_what_changes_and_what_stays(raw, clean):
    assert normalise(raw) == clean


@given(anything)
def test_twice_is_once(raw):
    assert normalise(normalise(raw)) == normalise(raw)


@given(anything)
def test_the_result_is_clean(raw):
    clean = normalise(raw)
    clean.encode()
    assert unicodedata.is_normalized("NFC", clean)
    assert not any(unicodedata.category(c) in ("Cs", "Zl", "Zp") for c in clean)
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in clean)
    assert all(line == line.rstrip() for line in clean.split("\n"))
    assert "\n" * (MAX_BLANK_LINES + 2) not in clean
    assert clean == clean.strip("\n")


@given(st.text(st.characters(categories=["L", "N", "P", "S"]) | st.sampled_from(" \n\t")))
def test_nothing_visible_is_ever_changed(raw):
    visible = "".join(unicodedata.normalize("NFC", raw).split())
    assert "".join(normalise(raw).split()) == visible.replace("\u2064", "")


@given(st.lists(st.text("ab \t"), min_size=1))
def test_indentation_stays(lines):
    kept = [line.rstrip() for line in lines if line.strip()]
    assert [line for line in normalise("\n".join(lines)).split("\n") if line] == kept


def test_a_long_run_of_spaces_takes_no_quadratic_time():
    raw = "a" + " " * 2_000_000 + "b"
    assert normalise(raw) == raw


def test_text_id_never_changes_under_one_version():
    """If this fails, either undo the change or raise NORMALISER_VERSION and the stage's version."""
    assert NORMALISER_VERSION == 1
    assert text_id(normalise("he\u0301llo  \r\n")) == "2c1e4da82be5959d3314c4812e45f8d7"
