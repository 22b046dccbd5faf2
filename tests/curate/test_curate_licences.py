"""Which licences pass an allow-list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.curate.licences import LicencesParams, allowed


def passes(licence: str, *allow: str, unknown: str = "drop") -> bool:
    return bool(allowed([licence], LicencesParams(allow=allow, unknown=unknown))[0])


@pytest.mark.parametrize(
    ("licence", "allow", "verdict"),
    [
        ("CC-BY-4.0", ("CC-BY-*",), True),
        ("CC-BY-NC-4.0", ("CC-BY-[0-9]*", "CC-BY-SA-*"), False),
        ("cc-by-sa-4.0", ("CC-BY-SA-4.0",), True),
        ("MIT OR Apache-2.0", ("MIT",), True),
        ("MIT OR GPL-3.0-only", ("Apache-2.0",), False),
        ("MIT AND CC-BY-4.0", ("MIT",), False),
        ("MIT AND CC-BY-4.0", ("MIT", "CC-*"), True),
        ("MIT and (Apache-2.0 or GPL-2.0-only)", ("MIT", "Apache-2.0"), True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ("GPL-2.0-only",), True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ("MIT",), False),
        ("GPL-2.0+", ("GPL-2.0-or-later",), True),
        ("GPL-2.0-or-later", ("GPL-2.0+",), True),
        ("LicenseRef-Mine", ("LicenseRef-*",), True),
        ("LicenseRef-Mine", ("MIT",), False),
    ],
)
def test_expressions(licence, allow, verdict):
    assert passes(licence, *allow) is verdict
    assert passes(licence, *allow, unknown="keep") is verdict


@pytest.mark.parametrize(
    "licence", ["unknown", "", "NOASSERTION", "Foo-1.0", "some words here", "MIT OR", "((", "Unknown"]
)
def test_what_says_nothing_is_unknown(licence):
    assert passes(licence, "CC0-1.0", unknown="drop") is False
    assert passes(licence, "CC0-1.0", unknown="keep") is True


def test_one_known_side_is_enough_and_one_unknown_side_too_much():
    assert passes("MIT OR Foo-1.0", "MIT")
    assert not passes("MIT AND Foo-1.0", "MIT")


def test_no_list_allows_every_known_licence():
    assert passes("GPL-3.0-only")
    assert passes("GPL-3.0-only", unknown="keep")
    assert not passes("unknown")


@pytest.mark.parametrize("pattern", ["CCBY*", "unknown", "Apache2", ""])
def test_patterns_that_match_no_licence_are_refused(pattern):
    with pytest.raises(ValidationError, match="licence"):
        LicencesParams(allow=(pattern,))


@given(st.text(max_size=40))
def test_any_word_is_judged(licence):
    assert passes(licence, "MIT") in (True, False)


def test_columns_keep_their_order():
    got = allowed(["MIT", "unknown", "MIT", "GPL-3.0-only"], LicencesParams(allow=("MIT",), unknown="keep"))
    assert got.tolist() == [True, True, True, False]
