"""Shares of listed words; the words themselves are taken from the list, so that none stands here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate import toxicity as room
from lmcore.curate.toxicity import languages, toxicity


def share(text: str, lang: str) -> float:
    return float(toxicity([text], [lang])["toxic_word_share"][0])


def single_words(lang: str) -> list[str]:
    return sorted(room._list(lang).words)


@pytest.mark.parametrize("lang", ["en", "hu", "de", "ru", "hi", "ko", "tr"])
def test_listed_words_count_whatever_their_case_and_punctuation(lang):
    word = next(word for word in single_words(lang) if len(word) > 3 and not set(word) & set("iı"))
    assert share(f"x, {word.upper()}! y ({word}) z.", lang) == pytest.approx(0.4)
    assert share(f"x{word} {word}x", lang) == 0.0


@pytest.mark.parametrize("lang", ["ja", "zh", "th"])
def test_without_spaces_the_share_is_of_characters(lang):
    part = max(room._rows()[lang], key=lambda entry: (" " not in entry) * len(entry))
    assert share("日" * len(part) + part, lang) == pytest.approx(0.5)


def test_phrases_count_their_words_once():
    first = next(p for some in room._list("en").phrases.values() for p in some if len(p) == 2)
    text = " ".join(first) + " and then six more words come"
    assert share(text, "en") == pytest.approx(0.25)


@pytest.mark.parametrize("lang", ["am", "und", "", "xx"])
def test_a_language_without_a_list_has_share_zero(lang):
    assert lang not in languages()
    assert share(" ".join(single_words("en")), lang) == 0.0


def test_tags_name_the_language():
    word = single_words("en")[0]
    assert share(word, "en-GB") == 1.0
    assert share(single_words("no")[0], "nb-NO") == 1.0


def test_plain_text_has_none():
    assert share("The quick brown fox jumps over the lazy dog.", "en") == 0.0
    assert share("Árvíztűrő tükörfúrógép, mondta a mester.", "hu") == 0.0
    assert share("吾輩は猫である。名前はまだ無い。牛乳を飲んで、眺めた。", "ja") == 0.0
    assert share("", "en") == share(" \n", "ja") == 0.0


def test_short_entries_that_mean_other_things_are_left_out():
    assert "xx" not in single_words("en")
    assert share("xx SM 3P", "ja") == 0.0


def test_the_list_names_source_and_licence():
    head = room.importlib.resources.files("lmcore.curate").joinpath("toxic_words.tsv").read_text("utf-8")[:900]
    assert "CC-BY-4.0" in head
    assert "Shutterstock" in head
    assert "Changed:" in head
    assert {"en", "hu", "ja", "zh", "de", "fr", "es"} <= set(languages())


@given(st.lists(st.tuples(st.text(), st.sampled_from(["en", "hu", "ja", "am"])), max_size=4))
def test_any_text_has_a_share(rows):
    values = toxicity([text for text, _ in rows], [lang for _, lang in rows])["toxic_word_share"]
    assert len(values) == len(rows)
    assert ((values >= 0) & (values <= 1)).all()


def test_everyday_words_and_parts_of_others_do_not_count():
    assert share("A marha és a pele.", "hu") == 0.0
    assert share("カードを挿入してください。ブルーレイプレイヤー、ファックス", "ja") == 0.0
    katakana = next(entry for entry in room._rows()["ja"] if room._KATAKANA.fullmatch(entry) and len(entry) > 3)
    assert share(f"日{katakana}日", "ja") > 0.5
    assert share(f"ア{katakana}", "ja") == 0.0
