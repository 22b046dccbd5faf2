"""Optional spellings: what each changes, in which language only, and that twice is once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate.normalise import normalise
from lmcore.curate.spelling import (
    GeezParams,
    JapaneseParams,
    NormaliseParams,
    _table,
    clean_all,
    normalise_all,
    spell_all,
)

EVERY_GEEZ = GeezParams(**dict.fromkeys(GeezParams.model_fields, True))
EVERY_WIDTH = JapaneseParams(**dict.fromkeys(JapaneseParams.model_fields, True))
EVERYTHING = NormaliseParams(mojibake=True, geez=EVERY_GEEZ, hungarian=True, japanese=EVERY_WIDTH)

ethiopic = st.text(st.one_of(st.characters(min_codepoint=0x1200, max_codepoint=0x137F), st.sampled_from("፡።: \n.aዋአ")))
some_geez = st.builds(GeezParams, **{name: st.booleans() for name in GeezParams.model_fields})
japanese = st.text(
    st.one_of(st.characters(min_codepoint=0xFF00, max_codepoint=0xFFEF), st.sampled_from("かハ゛゙～〜a　"))
)
some_widths = st.builds(JapaneseParams, **{name: st.booleans() for name in JapaneseParams.model_fields})
anything = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs", "Cc"]), st.sampled_from("õûőÃ©Å‘â€œ\x80\x9d"))
)


def one(text, lang, **params):
    [result] = normalise_all([text], [lang], NormaliseParams(**params))
    return result


def geez(text, lang="am", **steps):
    return one(text, lang, geez=GeezParams(**steps))


@given(anything, st.sampled_from(["am", "hu", "ja", "und", "en"]))
def test_the_defaults_are_the_base_normaliser(text, lang):
    assert one(text, lang) == normalise(text)


@pytest.mark.parametrize(
    ("step", "raw", "spelt"),
    [
        ("merge_h", "ሐ ሑ ሒ ሓ ሔ ሕ ሖ ኀ ኁ ኂ ኃ ኄ ኅ ኆ ሗ", "ሀ ሁ ሂ ሃ ሄ ህ ሆ ሀ ሁ ሂ ሃ ሄ ህ ሆ ኋ"),
        ("merge_h", "ሐገር", "ሀገር"),
        ("merge_h", "ኸ", "ኸ"),
        ("merge_kh", "ኸ ኹ ኺ ኻ ኼ ኽ ኾ ዃ", "ሀ ሁ ሂ ሃ ሄ ህ ሆ ኋ"),
        ("merge_s", "ሠ ሡ ሢ ሣ ሤ ሥ ሦ ሧ", "ሰ ሱ ሲ ሳ ሴ ስ ሶ ሷ"),
        ("merge_s", "ሠላም", "ሰላም"),
        ("merge_a", "ዐ ዑ ዒ ዓ ዔ ዕ ዖ", "አ ኡ ኢ ኣ ኤ እ ኦ"),
        ("merge_ts", "ፀ ፁ ፂ ፃ ፄ ፅ ፆ", "ጸ ጹ ጺ ጻ ጼ ጽ ጾ"),
        ("fourth_h", "ሃ ሓ", "ሀ ሓ"),
        ("fourth_a", "ኣ ዓ", "አ ዓ"),
        ("labialised", "ቱዋል ቱአል ሉዋ ኩዋ ሚዋ ኵ", "ቷል ቷል ሏ ኳ ሚዋ ኩ"),
        ("marks", "ሰላም፡ለዓለም፡፡", "ሰላም ለዓለም።"),
        ("marks", "ሰላም ፡ ለዓለም ::", "ሰላም ለዓለም ።"),
        ("marks", "ሰላም።።", "ሰላም።"),
        ("marks", "ሰላም። ። ፡፡", "ሰላም።"),
        ("marks", "ሰላም፡:", "ሰላም።"),
        ("marks", "std::vector a: b", "std::vector a: b"),
        ("marks", "ክፍል ሀ: ለ", "ክፍል ሀ: ለ"),
        ("marks", "አንድ፡\n፡ሁለት", "አንድ\n ሁለት"),
    ],
)
def test_a_step_of_geez(step, raw, spelt):
    assert geez(raw, **{step: True}) == spelt
    others = {name: True for name in GeezParams.model_fields if name != step}
    assert geez(raw) == normalise(raw)
    assert geez(raw, lang="ti", **others, **{step: True}) == normalise(raw)


def test_steps_of_geez_work_together():
    assert geez("ሓ ኃ ኻ ዓ", merge_h=True, merge_kh=True, merge_a=True, fourth_h=True, fourth_a=True) == "ሀ ሀ ሀ አ"
    assert geez("ሱዓ ሡዋ", merge_s=True, merge_a=True, fourth_a=True, labialised=True) == "ሷ ሷ"
    assert geez("ሓ", fourth_h=True, merge_kh=True) == "ሓ"  # a series that is not merged keeps its fourth order


@given(ethiopic, some_geez)
def test_geez_twice_is_once(text, steps):
    params = NormaliseParams(geez=steps)
    once = normalise_all([text], ["am"], params)
    assert normalise_all(once, ["am"], params) == once


@given(ethiopic, st.sampled_from(["ti", "gez", "en", "und", ""]))
def test_only_amharic_is_changed(text, lang):
    assert normalise_all([text], [lang], EVERYTHING) == clean_all([text], EVERYTHING)


def test_the_table_of_geez_is_sound():
    table = _table("geez")
    assert {*table, "marks"} == set(GeezParams.model_fields)
    for step in table.values():
        for row in step.get("series", ()):
            for order in range(row["orders"]):
                old, new = chr(row["from"] + order), chr(row["to"] + order)
                assert old.isalpha()
                assert new.isalpha()


@pytest.mark.parametrize(
    ("raw", "spelt"),
    [
        ("Az idõ és a mûködés", "Az idő és a működés"),
        ("ÕSZI SZÛZ", "ŐSZI SZŰZ"),
        ("az idõ São Tomé és Simões", "az idő São Tomé és Simões".replace("Simões", "Simőes")),
        ("„Idézet” – mondta õ", "„Idézet” – mondta ő"),
        ("Az idő és a működés, ő mondta: août", "Az idő és a működés, ő mondta: août"),
        ("Semmi baj", "Semmi baj"),
    ],
)
def test_hungarian_letters(raw, spelt):
    assert one(raw, "hu", hungarian=True) == spelt
    assert one(raw, "hu-HU", hungarian=True) == spelt
    assert one(raw, "et", hungarian=True) == raw
    assert one(raw, "hu") == raw


@given(st.text("aeõûÕÛőűŐŰã Sz-1'\n"))
def test_hungarian_twice_is_once(text):
    once = one(text, "hu", hungarian=True)
    assert one(once, "hu", hungarian=True) == once


@pytest.mark.parametrize(
    ("step", "raw", "spelt"),
    [
        ("letters", "ＡＢＣ　１２３％！", "ABC　123%！"),
        ("punctuation", "（えっ！？）Ａ", "(えっ!?)Ａ"),
        ("kana", "ｶﾞｷﾞｸﾞ ﾊﾟﾝ｡ｱｰ", "ガギグ パン。アー"),
        ("wave_dash", "１０～２０", "１０〜２０"),
    ],
)
def test_widths_in_japanese(step, raw, spelt):
    assert one(raw, "ja", japanese=JapaneseParams(**{step: True})) == spelt
    assert one(raw, "zh", japanese=EVERY_WIDTH) == raw
    assert one(raw, "ja") == raw


@given(japanese, some_widths)
def test_widths_twice_is_once(text, steps):
    once = one(text, "ja", japanese=steps)
    assert one(once, "ja", japanese=steps) == once


@pytest.mark.parametrize(
    ("good", "codec"),
    [
        ("Árvíztűrő tükörfúrógép", "latin-1"),
        ("Az idő és a működés", "cp1250"),
        ("naïve café – “déjà vu”", "latin-1"),
        ("naïve café – déjà vu", "cp1252"),
        ("Привет, как дела сегодня", "latin-1"),
        ("ሰላም ለዓለም።", "latin-1"),
        ("文字化けの例です", "latin-1"),
    ],
)
def test_mojibake_is_set_right(good, codec):
    code = "if (a < b) { return x[i] + 1; }"
    broken = good.encode().decode(codec)
    assert broken != good
    assert one(f"{code}\n{broken}\n{good}", "und", mojibake=True) == f"{code}\n{good}\n{good}"
    assert one(broken, "und") == normalise(broken) != good


def test_mojibake_of_mojibake():
    good = "Árvíztűrő tükörfúrógép"
    assert one(good.encode().decode("latin-1").encode().decode("latin-1"), "hu", mojibake=True) == good


@pytest.mark.parametrize(
    "text",
    [
        "int naïve = 1; // Größe",
        "São Paulo, À propos, ÇA VA, voilà",
        r"x = u'\xc3\xa9'  # é",
        "Ä, ö, ß – „ja“",
        "|─┬─| ▒▒ box",
        "Árvíztűrő tükörfúrógép",
        "ሰላም ለዓለም።",
        "文字化け ﾊﾝｶｸ",
        "𝕬 ﬁ ① ™ © 2020",
    ],
)
def test_code_and_good_text_are_not_mojibake(text):
    assert one(text, "und", mojibake=True) == text


@given(anything)
def test_mojibake_twice_is_once(text):
    once = one(text, "und", mojibake=True)
    assert one(once, "und", mojibake=True) == once
    once.encode()


@given(st.one_of(anything, ethiopic, japanese), st.sampled_from(["am", "hu", "ja", "ti"]))
def test_everything_twice_is_once_and_normal(text, lang):
    once = normalise_all([text], [lang], EVERYTHING)
    assert normalise_all(once, [lang], EVERYTHING) == once == [normalise(once[0])]
    assert spell_all(clean_all([text], EVERYTHING), [lang], EVERYTHING) == once


def test_one_language_a_text():
    with pytest.raises(ValueError):
        normalise_all(["a", "b"], ["en"], NormaliseParams())
