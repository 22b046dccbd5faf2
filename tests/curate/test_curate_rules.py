"""Every packaged rule trips on a text made for it, and only where it is meant to."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from lmcore.curate.names import SIGNALS
from lmcore.curate.normalise import normalise
from lmcore.curate.rules import KEPT, Rule, RulesParams, apply_rules, check_computed, packaged_rules
from lmcore.curate.score import needed, scores
from lmcore.curate.signals import SIGNALS as MEASURED
from lmcore.curate.signals import signals
from storage.errors import UserError


def measure(texts):
    """Every signal of the texts."""
    return signals(texts, ["en"] * len(texts), ["prose"] * len(texts))


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
    ("max_urls", GOOD + " See https://harbour.example/vessels and https://harbour.example/nets too.", "prose", "en"),
    (
        "min_stop_words",
        " ".join(
            f"{one}{two}."
            for one in ("net", "oar", "cod", "sea", "fog", "mast", "dock")
            for two in ("ting", "ler", "worth", "mar", "den", "lock", "sail", "bur")
        ),
        "prose",
        "en",
    ),
]
OFF = {"min_punctuation_lines": 0.12, "max_short_lines": 0.67, "max_urls": 0.1, "min_stop_words": 2}
OFF_UNMEASURED = {
    "max_template",
    "max_toxic_words",
    "min_lang_score",
    "max_reference_bits",
    "min_classifier_quality",
    "min_complexity",
    "max_complexity",
}
LIMITS = OFF | {"max_words": 1000}  # a smaller limit than the packaged one, for speed


def judge(text, kind, lang, params):
    measured = measure([normalise(text)])
    verdicts = apply_rules(params.active(), measured | scores(measured, [kind]), [kind], [lang])
    index = int(verdicts.rule[0])
    return ("kept" if index == KEPT else params.active()[index].name), verdicts.value[0], verdicts.threshold[0]


def test_every_rule_on_the_text_alone_has_a_text_that_trips_it():
    of_text = [rule.name for rule in packaged_rules() if rule.signal in (*MEASURED, "quality")]
    assert [name for name, *_ in TRIPS] == of_text


@pytest.mark.parametrize(("name", "text", "kind", "lang"), TRIPS, ids=[name for name, *_ in TRIPS])
def test_each_rule_trips(name, text, kind, lang):
    params = RulesParams(limits={name: LIMITS[name]} if name in LIMITS else {})
    found, value, threshold = judge(text, kind, lang, params)
    assert found == name
    rule = next(rule for rule in params.active() if rule.name == name)
    assert threshold == rule.limit
    measured = measure([normalise(text)])
    assert value == (measured | scores(measured, [kind]))[rule.signal][0]
    assert not (value >= threshold if rule.keep == ">=" else value <= threshold)


@pytest.mark.parametrize(("name", "text", "kind", "lang"), TRIPS, ids=[name for name, *_ in TRIPS])
def test_a_rule_switched_off_drops_nothing(name, text, kind, lang):
    assert judge(text, kind, lang, RulesParams(off=(name,)))[0] != name


def test_good_prose_is_kept_by_every_rule_even_those_off_by_default():
    assert judge(GOOD, "prose", "en", RulesParams(limits=OFF))[0] == "kept"


def test_the_user_page_shows_these_rules_and_signals():
    docs = Path(__file__).parents[2] / "docs"
    page = docs.joinpath("curation", "rules.md").read_text()
    for rule in packaged_rules():
        limit = f"{rule.limit:,.0f}" if rule.limit and rule.limit >= 10_000 else f"{rule.limit or 0:g}"
        sign = {">=": "≥", "<=": "≤"}[rule.keep]
        wanted = f"`{rule.signal}` {sign} {limit} |" if rule.limit is not None else f"off until `{rule.signal}` {sign}"
        assert f"| `{rule.name}` | {wanted}" in page
    for signal in MEASURED:
        assert f"| `{signal}` |" in docs.joinpath("curation", "signals.md").read_text()


def test_rules_without_limit_are_off():
    assert {rule.name for rule in packaged_rules()} - {rule.name for rule in RulesParams().active()} == {
        *OFF,
        *OFF_UNMEASURED,
    }


def test_limits_move_the_line():
    n_words = measure([GOOD])["n_words"][0]
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
    measured = {name: np.zeros(1) for name in (*SIGNALS, "quality", "complexity")}
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
        ({"sets": ["house", "gopher"]}, "unknown rule set 'gopher'; did you mean gopher_quality?"),
        ({"sets": ["house", "house"]}, "named twice"),
        ({"limits": {"gopher_min_words": 40}}, "belongs to the set gopher_quality, which is not in curate.rules.sets"),
        ({"sets": ["c4"], "off": ["min_words"]}, "belongs to the set house"),
        ({"per_language": {"hu": {"min_wrods": 3}}}, "did you mean min_words?"),
        ({"per_language": {"hungarian": {"min_words": 3}}}, "no language code"),
        ({"per_language": {"hu-latn": {"min_words": 3}}}, "no language code"),
        ({"off": ["min_words"], "per_language": {"hu": {"min_words": 3}}}, "choose one"),
    ],
)
def test_bad_params_are_refused(params, told):
    with pytest.raises(ValidationError, match=told.replace("?", r"\?")):
        RulesParams.model_validate(params)


@pytest.mark.parametrize(
    "change",
    [
        {"signal": "charm"},
        {"kinds": ["poem"]},
        {"keep": ">"},
        {"name": "Bad Name"},
        {"limits": 3},
        {"per_language": {"Hungarian": 1.0}},
    ],
)
def test_a_wrong_row_of_data_is_refused(change):
    row = {"name": "x", "signal": "n_words", "keep": ">=", "limit": 1.0, "source": "test"}
    Rule.model_validate(row)
    with pytest.raises(ValidationError):
        Rule.model_validate(row | change)


def verdict(params, columns, lang="en", kind="prose"):
    """The name of the rule that drops one record, and its limit."""
    active = params.active()
    found = apply_rules(active, {name: np.array([value]) for name, value in columns.items()}, [kind], [lang])
    index = int(found.rule[0])
    return (None, None) if index == KEPT else (active[index].name, found.threshold[0])


def test_a_signal_that_is_not_known_drops_nothing():
    params = RulesParams(limits={"max_template": 0.1})
    assert verdict(params, {"template_share": 0.2}) == ("max_template", 0.1)
    assert verdict(params, {"template_share": np.nan}) == (None, None)
    assert verdict(params, {}) == (None, None)


@pytest.mark.parametrize(
    ("lang", "limit"),
    [("hu", 40), ("hu-HU", 40), ("HU", 40), ("sr", 60), ("sr-Latn-RS", 70), ("sr-cyrl", 60), ("en", 50), ("und", 50)],
)
def test_the_limit_for_the_language_comes_first(lang, limit):
    params = RulesParams(per_language={"hu": {"min_words": 40}, "sr": {"min_words": 60}, "sr-Latn": {"min_words": 70}})
    assert verdict(params, {"n_words": limit - 1.0}, lang) == ("min_words", limit)
    assert verdict(params, {"n_words": float(limit)}, lang) == (None, None)


def test_a_rule_can_be_switched_on_or_off_for_one_language():
    params = RulesParams(per_language={"am": {"min_words": None, "max_template": 0.5}})
    assert verdict(params, {"n_words": 3.0}, "am") == (None, None)
    assert verdict(params, {"n_words": 3.0}, "en") == ("min_words", 50)
    assert verdict(params, {"template_share": 0.6}, "am") == ("max_template", 0.5)
    assert verdict(params, {"template_share": 0.6}, "en") == (None, None)


def test_a_limit_of_the_recipe_replaces_the_packaged_ones_of_single_languages():
    grams = {"duplicate_5_gram_share": 0.7}
    assert verdict(RulesParams(), grams, "ja") == (None, None)
    assert verdict(RulesParams(), grams, "hu") == ("max_duplicate_5_grams", 0.6)
    strict = RulesParams(limits={"max_duplicate_5_grams": 0.3})
    assert verdict(strict, grams, "ja") == ("max_duplicate_5_grams", 0.3)
    assert verdict(
        RulesParams(limits=strict.limits, per_language={"ja": {"max_duplicate_5_grams": 0.8}}), grams, "ja"
    ) == (
        None,
        None,
    )


def test_columns_of_labels_come_as_lists_or_arrow(seed):
    source = np.random.default_rng(seed)
    count = 500
    kinds = source.choice(["prose", "code", "dialogue"], count).tolist()
    langs = source.choice(["hu", "am", "ja-JP", "sr-Latn"], count).tolist()
    columns = {name: source.random(count) * 2 for name in SIGNALS} | {"n_words": source.random(count) * 100}
    rules = RulesParams(sets=("house", "fineweb2")).active()
    whole = apply_rules(rules, columns, kinds, langs)
    encoded = pa.array(kinds).dictionary_encode()
    cut = pa.chunked_array([pa.array(langs[:99]).dictionary_encode(), pa.array(langs[99:]).dictionary_encode()])
    other = apply_rules(rules, columns, encoded, cut)
    for name in ("rule", "value", "threshold", "failures"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(other, name))
    for row in range(0, count, 25):  # and one by one
        alone = apply_rules(
            rules, {name: column[[row]] for name, column in columns.items()}, [kinds[row]], [langs[row]]
        )
        assert alone.rule[0] == whole.rule[row]
        assert alone.failures[0] == whole.failures[row]


def test_verdicts_agree_with_a_plain_reading_of_the_rules(seed):
    source = np.random.default_rng(seed)
    rules = RulesParams(sets=("house", "gopher_quality", "fineweb2")).active()
    for _ in range(200):
        row = {name: float(source.random() * 3) for name in SIGNALS}
        kind, lang = source.choice(["prose", "code", "qa"]), source.choice(["hu", "ja", "th", "xx"])
        failed = []
        for rule in rules:
            limit = rule.limit_of(lang)
            if kind in rule.kinds and limit is not None and rule.signal in row:
                stays = row[rule.signal] >= limit if rule.keep == ">=" else row[rule.signal] <= limit
                failed += [] if stays else [rule.name]
        found = apply_rules(rules, {name: np.array([value]) for name, value in row.items()}, [kind], [lang])
        assert found.failures[0] == len(failed)
        assert (rules[found.rule[0]].name if found.rule[0] != KEPT else None) == (failed[0] if failed else None)


def test_nothing_to_judge():
    found = apply_rules(RulesParams().active(), {name: np.zeros(0) for name in SIGNALS}, [], [])
    assert len(found.rule) == len(found.value) == 0


def test_a_missing_kind_is_refused():
    with pytest.raises(ValueError, match="missing"):
        apply_rules(RulesParams().active(), {}, pa.array(["prose", None]), ["en", "en"])


def test_only_the_columns_that_judging_reads_are_asked_for():
    of_v1 = needed(RulesParams(off=tuple(rule.name for rule in packaged_rules())).active(), "v1", "v1")
    assert "duplicate_5_gram_share" in of_v1
    assert not of_v1 & {"n_chars", "quality", "short_line_share", "template_share"}
    wider = needed(RulesParams(limits={"max_short_lines": 0.5}).active(), "v2", "v2")
    assert {"short_line_share", "template_share", "boilerplate_share", "n_chars"} <= wider
    assert wider <= set(SIGNALS)


def test_a_limit_on_what_is_never_computed_is_refused():
    check_computed(RulesParams(), MEASURED)  # packaged rules that find nothing are silent
    check_computed(RulesParams(limits={"max_template": 0.3}), [*MEASURED, "template_share"])
    check_computed(RulesParams(limits={"min_quality": 30}), MEASURED)
    check_computed(RulesParams(per_language={"hu": {"max_template": None}}), MEASURED)
    for params in (RulesParams(limits={"max_template": 0.3}), RulesParams(per_language={"hu": {"max_template": 0.3}})):
        with pytest.raises(
            UserError, match="max_template a limit, and this recipe does not compute its signal"
        ) as told:
            check_computed(params, MEASURED, {"template_share": "set compare.templates: true"})
        assert "compare.templates" in told.value.mend


def test_a_set_that_can_do_nothing_is_refused():
    check_computed(RulesParams(sets=("house", "privacy")), [*MEASURED, "n_secrets"])
    with pytest.raises(UserError, match="names privacy, and this recipe computes none of its signals: n_cards"):
        check_computed(RulesParams(sets=("house", "privacy")), MEASURED)


def test_the_default_settings_leave_the_key_of_earlier_artifacts_alone():
    assert RulesParams().key_values() == {"limits": {}, "off": []}
    assert RulesParams(sets=("house", "c4")).key_values()["sets"] == ["house", "c4"]
