"""Every packaged rule trips on a text made for it, and only where it is meant to."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lmcore.curate.normalise import normalise
from lmcore.curate.rules import KEPT, Rule, RulesParams, apply_rules, packaged_rules
from lmcore.curate.score import scores
from lmcore.curate.signals import SIGNALS, signals

GOOD = """The harbour was quiet before dawn, and only the fishermen were awake. They mended nets by lantern light,
talking in low voices about the weather, the price of cod and the strange ship that had anchored beyond the reef.
Nobody knew its flag. When the sun came up at last the vessel had vanished, leaving nothing but a single oar."""
NUMBERED = [f"{word}{n}" for n in range(12) for word in ("harbour", "lantern", "weather", "fisher", "anchor", "oar")]

# rule name, a text whose first failing rule it is, kind, language
TRIPS = [
    ("empty", " \n\u200b\n ", "prose", "en"),
    ("min_words", "The harbour was quiet before dawn.", "prose", "en"),
    ("max_words", "a bc def " * 400, "prose", "en"),
    ("min_mean_word_length", " ".join("abcdefghij" * 20), "prose", "en"),
    ("max_mean_word_length", " ".join(word * 3 for word in GOOD.split()), "prose", "en"),
    ("min_alpha_words", GOOD + " ---- " * 70, "prose", "en"),
    ("max_symbols", " ".join(f"a{word[:2]}/-/-" for word in NUMBERED), "prose", "en"),
    ("max_digits", " ".join(f"{word[:3]}{n * 77}" for n, word in enumerate(NUMBERED)), "prose", "en"),
    ("max_duplicate_lines", "\n".join([GOOD, *GOOD.splitlines(), *GOOD.splitlines()]), "prose", "en"),
    ("max_top_2_gram", "\n".join(f"mended nets {word}" for word in NUMBERED), "prose", "en"),
    (
        "max_duplicate_5_grams",
        "\n".join(f"{word} {GOOD[:112]}" for word in NUMBERED),
        "prose",
        "en",
    ),
    (
        "min_quality",
        " ".join(f"{word[:4]}{n % 7 + 10}:{word[-3:-1]}{n % 10};=/" for n, word in enumerate(NUMBERED)),
        "code",
        "en",
    ),
    ("min_punctuation_lines", GOOD.replace(".", ""), "prose", "en"),
    ("max_short_lines", "\n".join(GOOD.split(" ")), "prose", "en"),
]
OFF = {"min_punctuation_lines": 0.12, "max_short_lines": 0.67}
LIMITS = OFF | {"max_words": 1000}  # a smaller limit than the packaged one, for speed


def judge(text, kind, lang, params):
    measured = signals([normalise(text)], ["en"], ["prose"])
    verdicts = apply_rules(params.active(), measured | scores(measured), [kind], [lang])
    index = int(verdicts.rule[0])
    return ("kept" if index == KEPT else params.active()[index].name), verdicts.value[0], verdicts.threshold[0]


def test_the_table_names_every_rule_in_order():
    assert [name for name, *_ in TRIPS] == [rule.name for rule in packaged_rules()]


@pytest.mark.parametrize(("name", "text", "kind", "lang"), TRIPS, ids=[name for name, *_ in TRIPS])
def test_each_rule_trips(name, text, kind, lang):
    params = RulesParams(limits={name: LIMITS[name]} if name in LIMITS else {})
    found, value, threshold = judge(text, kind, lang, params)
    assert found == name
    rule = next(rule for rule in params.active() if rule.name == name)
    assert threshold == rule.limit
    measured = signals([normalise(text)], ["en"], ["prose"])
    assert value == (measured | scores(measured))[rule.signal][0]
    assert not (value >= threshold if rule.keep == ">=" else value <= threshold)


@pytest.mark.parametrize(("name", "text", "kind", "lang"), TRIPS, ids=[name for name, *_ in TRIPS])
def test_a_rule_switched_off_drops_nothing(name, text, kind, lang):
    assert judge(text, kind, lang, RulesParams(off=(name,)))[0] != name


def test_good_prose_is_kept_by_every_rule_even_those_off_by_default():
    assert judge(GOOD, "prose", "en", RulesParams(limits=OFF))[0] == "kept"


def test_the_user_page_shows_these_rules():
    page = Path(__file__).parents[2].joinpath("docs", "curate.md").read_text()
    for rule in packaged_rules():
        limit = f"{rule.limit:,.0f}" if rule.limit and rule.limit >= 10_000 else f"{rule.limit or 0:g}"
        sign = {">=": "≥", "<=": "≤"}[rule.keep]
        wanted = f"`{rule.signal}` {sign} {limit} |" if rule.limit is not None else f"off until `{rule.signal}` {sign}"
        assert f"| `{rule.name}` | {wanted}" in page


def test_rules_without_limit_are_off():
    assert {rule.name for rule in packaged_rules()} - {rule.name for rule in RulesParams().active()} == set(OFF)


def test_limits_move_the_line():
    n_words = signals([GOOD], ["en"], ["prose"])["n_words"][0]
    assert judge(GOOD, "prose", "en", RulesParams(limits={"min_words": n_words}))[0] == "kept"
    found, value, threshold = judge(GOOD, "prose", "en", RulesParams(limits={"min_words": n_words + 1}))
    assert (found, value, threshold) == ("min_words", n_words, n_words + 1)


def test_rules_hold_for_their_kinds_and_languages_only():
    assert judge("Is it? It is.", "dialogue", "en", RulesParams())[0] == "kept"
    japanese = "人間は生まれながらにして自由であり、尊厳と権利について平等である。" * 2
    for lang, expected in (("ja", "kept"), ("ja-JP", "kept"), ("JA", "kept"), ("en", "min_mean_word_length")):
        params = RulesParams(off=("max_duplicate_5_grams", "max_top_2_gram"))
        assert judge(japanese, "prose", lang, params)[0] == expected


def test_the_first_failing_rule_names_the_drop():
    measured = {name: np.zeros(1) for name in SIGNALS} | {"quality": np.zeros(1), "complexity": np.zeros(1)}
    verdicts = apply_rules(RulesParams().active(), measured, ["prose"], ["en"])
    assert RulesParams().active()[int(verdicts.rule[0])].name == "empty"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"limits": {"min_wrods": 3}}, "did you mean min_words?"),
        ({"off": ["nonsense"]}, "the rules are empty, min_words"),
        ({"off": ["min_words"], "limits": {"min_words": 3}}, "choose one"),
        ({"limits": {"min_words": float("nan")}}, "finite"),
        ({"limits": {"min_words": "many"}}, "number"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_bad_params_are_refused(params, told):
    with pytest.raises(ValidationError, match=told.replace("?", r"\?")):
        RulesParams.model_validate(params)


@pytest.mark.parametrize(
    "change", [{"signal": "charm"}, {"kinds": ["poem"]}, {"keep": ">"}, {"name": "Bad Name"}, {"limits": 3}]
)
def test_a_wrong_row_of_data_is_refused(change):
    row = {"name": "x", "signal": "n_words", "keep": ">=", "limit": 1.0, "source": "test"}
    Rule.model_validate(row)
    with pytest.raises(ValidationError):
        Rule.model_validate(row | change)
