"""The packaged sets hold the published numbers, and what was changed of them is what their files say."""

import csv
from pathlib import Path

import pytest

import lmcore.curate
from lmcore.curate.names import AMHARIC, BESIDE, SIGNALS
from lmcore.curate.rule_sets import SETS, language_keys, packaged_rules, rule_set, unknown_rule
from lmcore.curate.signals import SIGNALS as MEASURED

FOLDER = Path(lmcore.curate.__file__).parent / "rulesets"


def limits(name, lang="en"):
    return {rule.name.removeprefix(f"{name}_"): rule.limit_of(lang) for rule in rule_set(name)}


def test_every_file_is_a_set_and_every_rule_has_a_source_and_a_name_of_its_own():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(SETS)
    rules = packaged_rules(tuple(SETS))
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.source.strip() for rule in rules)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("house", "privacy")])
def test_rules_of_others_carry_their_name(name):
    family = name.split("_")[0]
    assert all(rule.name.startswith((f"{family}_", "mc4_")) for rule in rule_set(name))


def test_gopher():
    quality = {rule.name: (rule.keep, rule.limit) for rule in rule_set("gopher_quality")}
    assert quality["gopher_min_words"] == (">=", 50)
    assert quality["gopher_max_words"] == ("<=", 100_000)
    assert quality["gopher_min_alpha_words"] == (">=", 0.8)
    assert quality["gopher_min_stop_words"] == (">=", 2)
    repetition = {rule.signal: rule.limit for rule in rule_set("gopher_repetition")}
    assert [repetition[f"top_{n}_gram_share"] for n in (2, 3, 4)] == [0.20, 0.18, 0.16]
    assert [repetition[f"duplicate_{n}_gram_share"] for n in range(5, 11)] == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]
    assert repetition["duplicate_line_share"] == repetition["duplicate_paragraph_share"] == 0.20
    assert repetition["duplicate_line_count_share"] == repetition["duplicate_paragraph_count_share"] == 0.30


def test_fineweb():
    assert {rule.signal: rule.limit for rule in rule_set("fineweb")} == {
        "lang_score": 0.65,
        "punctuation_line_share": 0.12,
        "short_line_share": 0.67,
        "duplicate_line_share": 0.01,
        "newline_word_ratio": 0.3,
    }


FINEWEB2 = {  # in the order of the names in the test
    "hu": (0.744, 0.322, 0.067, 0.231, 3, 15, 0.766, 0.226, 0.169, 0.112),
    "am": (0.3, 0.672, None, 0.417, 1, 24, 0.824, 0.535, 0.273, 0.157),
    "de": (0.821, 0.263, None, 0.152, None, 15, 0.774, 0.169, 0.141, 0.098),
    "ja": (0.886, 0.328, 0.096, 0.13, None, None, 0.759, None, None, 0.243),
    "zh": (0.692, 0.287, 0.106, 0.178, None, None, 0.735, None, None, 0.198),
    "th": (0.9, 0.349, None, None, None, None, None, None, None, None),
    "en": (0.65, 0.3, 0.12, 0.3, 3, 10, 0.8, 0.2, 0.15, 0.1),
}


@pytest.mark.parametrize("lang", FINEWEB2)
def test_fineweb2(lang):
    found = limits("fineweb2", lang)
    names = (
        "min_lang_score max_duplicate_line_count min_punctuation_lines max_newlines min_mean_word_length "
        "max_mean_word_length min_alpha_words max_top_2_gram max_duplicate_5_grams max_duplicate_10_grams"
    )
    assert tuple(found[name] for name in names.split()) == FINEWEB2[lang]
    assert found["max_duplicate_lines"] == 0.1


def test_runs_of_characters_have_the_limits_of_runs_of_words():
    assert limits("fineweb2", "ja")["max_top_4_gram"] == 0.239
    assert limits("fineweb2", "zh-Hant")["max_top_4_gram"] == 0.256


def test_languages_that_are_not_in_the_table_have_no_limits_of_it():
    found = limits("fineweb2", "tlh")
    assert {name for name, limit in found.items() if limit is not None} == {"max_duplicate_lines", "min_stop_words"}


def test_scripts_have_rows_of_their_own():
    assert limits("fineweb2", "sr")["min_punctuation_lines"] == 0.156
    assert limits("fineweb2", "sr-Latn")["max_top_2_gram"] == 0.189
    assert limits("fineweb2", "sr-Cyrl") == limits("fineweb2", "sr")
    assert limits("fineweb2", "no") == limits("fineweb2", "nb")


def test_the_table_has_no_absurd_limits():
    rows = list(csv.DictReader(FOLDER.joinpath("fineweb2.tsv").open(), delimiter="\t"))
    assert len(rows) > 200
    names = {rule.name for rule in rule_set("fineweb2")}
    for row in rows:
        assert set(row) - {"lang", "config"} <= names
        for column, cell in row.items():
            if column in ("lang", "config") or cell == "-":
                continue
            low, high = (0, 40) if column.endswith("word_length") else (0, 1)
            assert low < float(cell) <= high, (row["lang"], column)


@pytest.mark.parametrize(
    ("tag", "keys"),
    [
        ("hu", ("hu",)),
        ("HU-hu", ("hu",)),
        ("zh-hant-TW", ("zh-Hant", "zh")),
        ("sr_Latn", ("sr-Latn", "sr")),
        ("und", ("und",)),
        ("de-1996", ("de",)),
    ],
)
def test_languages_are_named_nearest_first(tag, keys):
    assert language_keys(tag) == keys


def test_unknown_rules_are_told_with_the_nearest():
    assert unknown_rule("min_words", ("house",)) is None
    assert "did you mean min_words?" in (unknown_rule("min_word", ("house",)) or "")
    assert "set c4" in (unknown_rule("c4_lorem_ipsum", ("house",)) or "")


def test_names_are_one_list():
    assert set(MEASURED) <= set(SIGNALS)
    assert {**SIGNALS, **MEASURED} == SIGNALS, "the meaning is that of signals.py"
    assert set(BESIDE) | set(AMHARIC) <= set(SIGNALS)
    assert all(meaning for meaning in SIGNALS.values())
