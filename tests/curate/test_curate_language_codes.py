"""Codes of languages: what is one, and which one was meant."""

from __future__ import annotations

import pytest

from lmcore.curate.language_codes import is_known, nearest
from lmcore.curate.language_models import known
from lmcore.curate.language_script import scripts
from lmcore.curate.rule_sets import SETS, packaged_rules


def test_whatever_a_text_may_be_found_in_or_has_a_packaged_limit_is_known():
    found = set(known()).union(*(script.languages for script in scripts()))
    limits = {lang for rule in packaged_rules(tuple(SETS)) for lang in rule.per_language}
    assert {code for code in found | limits if not is_known(code)} == set()


@pytest.mark.parametrize("code", ["hu", "sr-Latn", "zh-Hant", "und", "mul", "fj", "chr", "qaa"])
def test_codes_that_are_known(code):
    assert is_known(code)


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("hun", "hu"),  # the long code of a language that has a short one
        ("iw", "he"),  # the old code
        ("jp", "ja"),  # the country's
        ("Hungarian", "hu"),
        ("hu_HU", "hu"),
        ("sr-latn", "sr-Latn"),
        ("sr-Lant", "sr-Latn"),
        ("xyz", None),
    ],
)
def test_codes_that_are_not(code, meant):
    assert not is_known(code)
    assert nearest(code) == meant


def test_what_a_recipe_declares_is_known_and_comes_first():
    assert not is_known("aii")
    assert is_known("aii", ["aii-Syrc"])
    assert nearest("hx", ["hu-HU"]) == "hu"
