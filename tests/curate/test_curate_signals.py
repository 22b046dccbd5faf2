"""Every signal against an example worked out by hand, and most against a slow second opinition, one word at a time."""

import itertools
import math
import unicodedata
import zlib
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmcore.curate.normalise import normalise
from lmcore.curate.signals import SIGNALS
from lmcore.curate.signals import signals as all_signals
from lmcore.curate.signals_scan import equal_groups, equal_pairs
from lmcore.curate.stop_words import stop_word_languages, stop_words
from lmcore.curate.words_tables import N_GROUPS, groups, table

CJK = [(0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF)]
ENDS = ".!?…።！？｡．。፧፨؟۔।॥\"'”’»«“‘」』"


def signals(texts, langs=None):
    return all_signals(texts, langs or ["en"] * len(texts), ["prose"] * len(texts))


def one(text, lang="en"):
    return {name: float(column[0]) for name, column in signals([text], [lang]).items()}


# -- examples worked out by hand: signal, text, value (, language)

EXAMPLES = [
    ("n_chars", "ab cd\n", 6),
    ("n_words", "Ab, cd! 日本 ሰላም፡ነው -", 7),
    ("n_lines", "a\n\n  b\n ", 2),
    ("mean_word_length", "abc de.", 3),
    ("mean_sentence_words", "One two. Three!", 1.5),
    ("alpha_word_share", "a 1 - b2", 0.5),
    ("unique_word_ratio", "The the cat sat", 0.75),
    ("duplicate_line_share", "abc\nABC\nabcdef", 3 / 12),
    ("short_line_share", "short\n" + "x" * 31, 0.5),
    ("punctuation_line_share", 'One.\nTwo\n"Three"\nFour።', 0.75),
    ("symbol_share", "a.-b 1", 0.4),
    ("digit_share", "a1 23", 0.75),
    ("compression_ratio", "a" * 1000, len(zlib.compress(b"a" * 1000, 6)) / 1000),
    ("top_2_gram_share", "a b a b c d", 4 / 6),
    ("top_3_gram_share", "a bb c a bb c ddd", 8 / 11),
    ("top_4_gram_share", "a b c d a b c d e e", 8 / 10),
    ("duplicate_5_gram_share", "a b c d e a b c d e", 0.5),
    ("duplicate_6_gram_share", "a b c d e f a b c d e f g g", 6 / 14),
    ("duplicate_7_gram_share", "a b c d e f g a b c d e f g", 0.5),
    ("duplicate_8_gram_share", "a b c d e f g h a b c d e f g h", 0.5),
    ("duplicate_9_gram_share", "a b c d e f g h i x a b c d e f g h i x", 0.5),
    ("duplicate_10_gram_share", "a b c d e f g h i x a b c d e f g h i x", 0.5),
    ("n_sentences", "One. Two? Three", 3),
    ("n_paragraphs", "a\nb\n\nc\n\n\nd", 3),
    ("median_word_length", "a bb ccc dddd", 2.5),
    ("median_word_length", "x" * 70 + " " + "y" * 90 + " z", 70),
    ("max_word_length", "a bb cccc.", 5),
    ("hash_word_ratio", "#a b## c d", 0.75),
    ("ellipsis_word_ratio", "a... b… c.. d", 0.5),
    ("ellipsis_word_ratio", "a...... b", 1),
    ("bullet_line_share", "- a\n  • b\nc - d\n* e", 0.75),
    ("bullet_line_share", "– Szia!\n— Hello", 0),
    ("ellipsis_line_share", "a...\nb…\nc.\n..", 0.5),
    ("stop_words", "The cat, and the dog (and) that's of", 3),
    ("stop_words", "Ez a ház az enyém.", 3, "hu"),
    ("stop_words", "ቤቱ ትልቅ ነው። ነው", 1, "am"),
    ("stop_words", "これは本です", 5, "ja"),
    ("stop_words", "the and of", 0, "hu"),
    ("stop_words", "the and of", 0, "und"),
    ("stop_word_share", "the cat and the, dog", 0.6),
    ("duplicate_line_count_share", "a\nb\nA\nb", 0.5),
    ("duplicate_paragraph_count_share", "a\nb\n\na\nb\n\nc", 1 / 3),
    ("duplicate_paragraph_share", "a\nb\n\na\nb\n\ncccc", 0.3),
    ("newline_word_ratio", "a b\nc\n\nd", 0.75),
    ("long_line_count", "x" * 200 + "\n" + "y" * 199 + "\n" + "z" * 300, 2),
    ("curly_bracket_share", "{ab}", 0.5),
    ("lorem_ipsum", "Lorem ipsum dolor. lorem IPSUM", 2),
    ("policy_line_share", "Enable JavaScript\nour Privacy Policy here\nwe use cookies\na policy", 0.75),
    ("policy_line_share", "terms of use\nuses cookies\nuse of cookies\ncookie policy", 1),
    ("policy_line_share", "terms of\nuse\nuse\ncookies\nI like cookies", 0),
    ("upper_word_share", "NASA I flew x1 X1 Éß", 0.5),
    ("upper_letter_share", "ABc d1", 0.5),
    ("unigram_entropy", "a a b b", math.log(2)),
    ("url_share", "see https://a.bc (www.x.y) now", 21 / 27),
    ("whitespace_share", "a b\nc ", 0.5),
    ("parenthesis_share", "(a)[b", 0.6),
    ("latin_share", "aé яж 日本", 2 / 6),
    ("ethiopic_share", "ሰላም a", 0.75),
    ("cjk_share", "日か한 a", 0.75),
    ("cyrillic_share", "Я a", 0.5),
    ("other_script_share", "αβ a", 2 / 3),
    (
        "speaker_line_share",
        "Anna: Hi.\nSir John Smith: No\n– Szia!\nplain\nhttp://x y\n太郎：はい\n「はい」\nend:",
        5 / 8,
    ),
    ("timestamp_line_share", "00:01:02,000 --> 00:01:04\n[00:12.50] hey\n12:30 lunch\nat 12:30\n1:234", 0.6),
    ("question_share", "Who? Me. What?! Ki az? マジ？", 3 / 5),
    (
        "code_line_share",
        "x = 1\nif (a) {\n}\nf(x);\ny[0];\ndef f\nplain (text)\nverse;\n;\n)\nprint(a),\nf(x) is so",
        7 / 12,
    ),
    ("instruction_share", "Question: why\n### Response\nKérdés: mi?\nጥያቄ፡ ምን\n質問：何\nNote: x\n1) Answer: y", 6 / 7),
]


def test_every_signal_has_an_example():
    assert {name for name, *_ in EXAMPLES} == set(SIGNALS)


@pytest.mark.parametrize(("name", "text", "value", "lang"), [(*row, "en")[:4] for row in EXAMPLES])
def test_example(name, text, value, lang):
    assert one(text, lang)[name] == pytest.approx(value, abs=1e-6)


def test_the_user_page_shows_every_signal():
    page = Path(__file__).parents[2].joinpath("docs", "curation", "signals.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {meaning.replace('|', chr(92) + '|')} |" for name, meaning in SIGNALS.items()]


# -- the slow way

words = st.sampled_from(
    [
        "the",
        "The",
        "cat",
        "sat.",
        "x1",
        "42",
        "--",
        "日本語",
        "は。",
        "ሰላም፡ለሁሉ",
        "é",
        "İ",
        "a",
        "हिन्दी",
        "«no»",
        "!",
        "ΟΔΟΣ",
    ]
)
lines = st.lists(words, max_size=8).map(" ".join)
texts = st.lists(st.one_of(lines, st.just("  the cat sat."), st.just("")), max_size=12).map("\n".join).map(normalise)


def split_words(line):
    found, current = [], ""
    for character in line:
        alone = character.isalpha() and any(low <= ord(character) <= high for low, high in CJK)
        if alone or character.isspace() or character == "፡":
            if current:
                found.append(current)
            current = ""
            if alone:
                found.append(character)
        else:
            current += character
    return [*found, current] if current else found


def is_letter(character):
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc")


def lower(text):
    return "".join(c.lower()[0] if c.isupper() or c.istitle() else c for c in text).replace("ς", "σ")


def slow(text):
    low = lower(text)
    rows = [line.strip(" \t\u3000፡") for line in low.split("\n")]
    paragraphs = [list(rows) for filled, rows in itertools.groupby(rows, bool) if filled]
    rows = [line for line in rows if line]
    found = [word for line in low.split("\n") for word in split_words(line)]
    raw = [word for line in text.split("\n") for word in split_words(line)]
    solid = "".join(found)
    letters = [c for c in text if is_letter(c)]
    total, count, n_rows = max(1, len(solid)), max(1, len(found)), max(1, len(rows))
    seen, repeated, repeats = set(), 0, 0
    for line in rows:
        repeated += len(line) if line in seen else 0
        repeats += line in seen
        seen.add(line)
    again = sum(c - 1 for c in Counter(tuple(p) for p in paragraphs).values())
    values = {
        "n_chars": len(text),
        "n_words": len(found),
        "n_lines": len(rows),
        "n_paragraphs": len(paragraphs),
        "mean_word_length": len(solid) / count,
        "median_word_length": median(map(len, found)) if found else 0,
        "max_word_length": max(map(len, found), default=0),
        "alpha_word_share": sum(any(map(is_letter, word)) for word in found) / count,
        "upper_word_share": sum(word.isupper() for word in raw) / count,
        "upper_letter_share": sum(c.isupper() or c.istitle() for c in letters) / max(1, len(letters)),
        "unique_word_ratio": len(set(found)) / count,
        "unigram_entropy": -sum(c / count * math.log(c / count) for c in Counter(found).values()),
        "duplicate_line_share": repeated / max(1, sum(map(len, rows))),
        "duplicate_line_count_share": repeats / n_rows,
        "duplicate_paragraph_count_share": again / max(1, len(paragraphs)),
        "short_line_share": sum(len(line) <= 30 for line in rows) / n_rows,
        "punctuation_line_share": sum(line[-1] in ENDS for line in rows) / n_rows,
        "symbol_share": sum(not is_letter(c) and not c.isnumeric() for c in solid) / total,
        "digit_share": sum(c.isnumeric() and not c.isalpha() for c in solid) / total,
        "whitespace_share": (len(text) - len(solid)) / max(1, len(text)),
        "newline_word_ratio": text.count("\n") / count,
        "hash_word_ratio": text.count("#") / count,
        "ellipsis_word_ratio": (text.count("...") + text.count("…")) / count,
        "ellipsis_line_share": sum(line.endswith(("...", "…")) for line in rows) / n_rows,
        "curly_bracket_share": (text.count("{") + text.count("}")) / max(1, len(text)),
        "compression_ratio": len(zlib.compress(text.encode(), 6)) / len(text.encode()) if text else 0,
    }
    for size in (2, 3, 4):
        grams = Counter(tuple(found[i : i + size]) for i in range(len(found) - size + 1))
        top = max((len("".join(gram)) * n for gram, n in grams.items() if n > 1), default=0)
        values[f"top_{size}_gram_share"] = min(1, top / total)
    for size in range(5, 11):
        covered, grams = set(), set()
        for i in range(len(found) - size + 1):
            gram = tuple(found[i : i + size])
            if gram in grams:
                covered.update(range(i, i + size))
            grams.add(gram)
        values[f"duplicate_{size}_gram_share"] = sum(len(found[i]) for i in covered) / total
    return values


@settings(deadline=None)
@given(st.lists(texts, max_size=6))
def test_equal_to_the_slow_way(batch):
    fast = signals(batch)
    assert list(fast) == list(SIGNALS)
    for number, text in enumerate(batch):
        for name, value in slow(text).items():
            assert fast[name][number] == pytest.approx(value, abs=1.1e-6), (name, text)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abc"), max_size=60).map(" ".join), st.sampled_from(["", "a b c a b c", "日本日本"]))
def test_repetition_equal_to_the_slow_way(text, neighbour):
    fast = signals([neighbour, text, neighbour])
    for name, value in slow(text).items():
        assert fast[name][1] == pytest.approx(value, abs=1.1e-6), (name, text)


def test_real_texts_equal_to_the_slow_way(docstrings):
    chosen = [normalise(text) for text in docstrings[::5]]
    fast = signals(chosen)
    for number, text in enumerate(chosen):
        for name, value in slow(text).items():
            assert fast[name][number] == pytest.approx(value, abs=1.1e-6), (name, text)


# -- a text's signals are its own

marked = st.sampled_from(
    [
        "Anna: hi",
        "Q: a?",
        "12:30 x",
        "-->",
        "{a};",
        "www.a",
        "http://b",
        "use cookies",
        "lorem ipsum",
        "ጥያቄ፡",
        "፡",
        "...",
        "質問：",
    ]
)
any_text = st.one_of(
    texts,
    st.text().map(normalise),
    st.lists(st.one_of(marked, words), max_size=9).map("\n".join),
    st.just(":"),
    st.just("..."),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(any_text, st.sampled_from(["en", "hu", "am", "und"])), min_size=1, max_size=8))
@example(
    [("a:", "en"), ("//b", "en"), (".", "en"), ("..", "en"), ("www", "en"), (".x", "en"), ("12:3", "en"), ("4", "en")]
)
@example([("፡", "am"), ("፡ጥያቄ", "am"), ("፡", "am")])
def test_neighbours_in_a_batch_do_not_matter(rows):
    together = signals([text for text, _ in rows], [lang for _, lang in rows])
    for number, (text, lang) in enumerate(rows):
        alone = one(text, lang)
        assert {name: float(together[name][number]) for name in SIGNALS} == alone
        assert all(math.isfinite(value) and value >= 0 for value in alone.values())
        assert all(alone[name] <= 1 for name in SIGNALS if name.endswith("_share"))


def test_neither_do_batches(monkeypatch, docstrings):
    chosen = [normalise(text) for text in docstrings[::7]]
    whole = signals(chosen)
    monkeypatch.setattr("lmcore.curate.signals._BATCH_CHARS", 3_000)
    monkeypatch.setattr("lmcore.curate.signals._BATCH_TEXTS", 7)
    for name, column in signals(chosen).items():
        assert np.array_equal(column, whole[name]), name


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("Wait... what?", 2),
        ("Call json.dumps now.", 1),
        ('He said "stop." She ran.', 2),
        ("A heading\n\nA sentence over\ntwo lines.", 2),
        ("no stop at all", 1),
        ("これは本です。それは犬です。", 2),
        ("ሰላም፡ለሁሉ።እንዴት ነህ፧", 2),
        ("(See above.)\n\nNext.", 2),
    ],
)
def test_sentences(text, sentences):
    measured = one(text)
    assert measured["n_sentences"] == sentences
    assert measured["n_words"] / measured["mean_sentence_words"] == pytest.approx(sentences, abs=1e-4)


# -- bad and extreme input


def test_empty_texts_and_no_texts():
    measured = signals(["", "one word", ""])
    assert {float(measured[name][0]) for name in SIGNALS} == {0.0}
    assert not any(np.signbit(column[0]) for column in measured.values())
    assert measured["n_words"].tolist() == [0, 2, 0]
    assert {len(column) for column in signals([]).values()} == {0}


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "\n\n", "፡", "\u3000", ".", ":", "a", "日", "...", "-->", "#", "\U0010ffff"]
)
def test_the_shortest_texts(text):
    assert set(one(text)) == set(SIGNALS)


def test_lengths_have_to_agree():
    with pytest.raises(ValueError, match="2 texts, 1 languages and 2 kinds"):
        all_signals(["a", "b"], ["en"], ["prose", "prose"])


def test_classes_cover_every_code_point():
    assert table().shape == groups().shape == (0x110000,)
    assert int(groups().max()) < N_GROUPS
    flags = table() >> 21
    assert np.count_nonzero(flags[0xD800:0xE000]) == 0
    assert signals(["\U0010ffff \U000e0100 \ue000"])["n_words"][0] == 3


def test_one_large_text():
    text = "\n".join(f"line {i} of a long text about number {i * i}." for i in range(60_000))
    measured = signals([text])
    assert measured["n_lines"][0] == 60_000
    assert measured["duplicate_line_share"][0] == 0


def test_a_text_without_spaces_and_many_texts_of_one_word():
    assert one("x" * 300_000)["max_word_length"] == 300_000
    assert one("日" * 100_000)["duplicate_10_gram_share"] == pytest.approx(1 - 1 / 100_000, abs=1e-6)
    many = signals(["word"] * 20_000)
    assert many["n_words"].tolist() == [1] * 20_000


@pytest.mark.slow
def test_eight_megabytes_in_one_line():
    text = "word and another one, " * 380_000  # longer ones are measured in pieces
    measured = one(text)
    assert measured["n_words"] == 4 * 380_000
    assert measured["unique_word_ratio"] == pytest.approx(4 / (4 * 380_000), abs=1e-6)


def test_hashes_that_differ_in_their_last_bits_only_are_told_apart():
    groups = equal_groups(np.array([0, 0, 0, 0, 1]), np.array([1, 2, 1, 3, 1], np.uint64))
    assert groups.order.tolist() == [0, 2, 1, 3, 4]
    assert groups.start.tolist() == [0, 2, 3, 4, 5]
    assert groups.again().tolist() == [2]


@pytest.mark.parametrize("limit", [4, 1 << 32])
def test_pairs_of_small_and_of_large_numbers(limit):
    first, second = np.array([3, 1, 3, 3]), np.array([0, 3, 0, 1])
    groups = equal_pairs(first, second, limit)
    assert groups.order.tolist() == [1, 0, 2, 3]
    assert groups.repeats.tolist() == [1, 2, 1]


# -- stop words


def test_stop_word_lists():
    assert {"en", "hu", "am", "ja"} <= set(stop_word_languages())
    assert set(stop_words("en")) == {"the", "be", "to", "of", "and", "that", "have", "with"}
    assert stop_words("hu-HU") == stop_words("hu")
    assert stop_words("nb") == stop_words("no") != ()
    assert stop_words("xx") == ()
    for lang in stop_word_languages():
        assert len(set(stop_words(lang))) == len(stop_words(lang)), lang
        assert [word for word in stop_words(lang) if lower(word) != word] == [], lang
        measured = one(" ".join(stop_words(lang)), lang)
        assert measured["stop_words"] == measured["n_words"] == len(stop_words(lang)), lang
