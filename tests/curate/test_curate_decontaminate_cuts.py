"""What is left of a text, and of its turns, when spans are cut out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.conversation import pieces
from lmcore.curate.cuts import cut, cut_turns, union
from lmcore.curate.overlap import tokenise
from lmcore.tokens.roles import learnt_spans


def without(text, *gone):
    spans = []
    for part in gone:
        start = text.index(part)
        spans.append((start, start + len(part)))
    return cut(text, spans)


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("one two three", "two", "one three"),
        ("one (two), three", "two", "one three"),
        ('He said: "two three". Next', "two three", "He said: Next"),
        ("End. Two three! Next", "Two three", "End. Next"),
        ("one: two", "two", "one:"),
        ("two one", "two", "one"),
        ("foo-two-bar", "two", "foo bar"),
        ("one\ntwo\nthree", "two", "one\nthree"),
        ("one\n\ntwo\nthree", "two", "one\n\nthree"),
        ("one\n\n- two three:\n\n\nfour", "two three", "one\n\nfour"),
        ("def one():\n    two three\n    return four", "two three", "def one():\n    return four"),
        ("def one():\n    two three four", "two three", "def one():\n    four"),
        ("  one two", "two", "  one"),
        ("日本。東京です。大阪", "東京です", "日本。大阪"),
        ("日本「東京」大阪", "東京", "日本大阪"),
        ("see [two] [three]", "two", "see [three]"),
        ("see two[three]", "two", "see [three]"),
        ("two", "two", ""),
        ("…two…", "two", ""),
    ],
)
def test_what_is_left_reads_as_a_text(text, gone, left):
    assert without(text, gone).text == left


def test_punctuation_between_two_cuts_goes_where_it_touches_one():
    assert without("one two, three four", "two", "three").text == "one four"
    assert without("one two\n\n--\nthree four", "two", "three").text == "one\n\n--\nfour"


texts = st.text(st.sampled_from("ab-.( \n日本é"), max_size=40)


@given(text=texts, data=st.data())
def test_words_outside_the_spans_stay_and_places_are_known(text, data):
    tokens = tokenise([text])
    count = len(tokens.start)
    chosen = data.draw(st.lists(st.tuples(st.integers(0, count), st.integers(0, count)), max_size=3))
    spans = [(int(tokens.start[a]), int(tokens.end[b - 1])) for a, b in chosen if a < b]
    made = cut(text, spans)
    assert list(made.spans) == union(spans)
    gone = {place for start, end in spans for place in range(start, end)}
    kept = [text[a:b] for a, b in zip(tokens.start.tolist(), tokens.end.tolist(), strict=True) if a not in gone]
    after = tokenise([made.text])
    places = list(zip(after.start.tolist(), after.end.tolist(), strict=True))
    assert [made.text[a:b] for a, b in places] == kept
    for a, b in places:
        start, end = made.original((a, b))
        assert text[start:end] == made.text[a:b]
        assert made.left((start, end)) == (a, b)
    for a, b in made.spans:
        assert made.left((a, b)) == (0, 0)
        assert made.touches((a, a + 1))
        assert made.touches((b - 1, len(text) + 1))
    for a, b in zip(tokens.start.tolist(), tokens.end.tolist(), strict=True):
        assert made.touches((a, b)) == (a in gone)
    assert cut(text, []).text == text


def chat(*said):
    messages = [(("user", "assistant")[number % 2], text) for number, text in enumerate(said)]
    text = "".join(part for _, part in pieces(messages, "script"))
    return text, [{"role": role, "text": text} for role, text in messages]


def test_a_dialogue_keeps_its_turns_where_its_text_has_them():
    text, turns = chat("Good morning to you", "Hello there my friend", "What is new today", "Not much")
    made = without(text, "there my friend", "What is new today")
    left = cut_turns(made, text, turns, "dialogue")
    assert [turn["text"] for turn in left] == ["Good morning to you", "Hello", "Not much"]
    assert left[0] is turns[0]
    assert learnt_spans(made.text, left, ["assistant"], "it") == [
        (made.text.index("Hello"), made.text.index("Hello") + 5),
        (made.text.index("Not much"), len(made.text)),
    ]


def test_a_span_over_two_turns_cuts_both():
    text, turns = chat("Good morning to you", "Hello there my friend", "Bye")
    made = without(text, "to you\nAssistant: Hello there")
    assert [turn["text"] for turn in cut_turns(made, text, turns, "dialogue")] == ["Good morning", "my friend", "Bye"]


@pytest.mark.parametrize("kind", ["pair", "instruction", "chat", "qa"])
def test_a_conversation_with_a_turn_cut_is_dropped(kind):
    text, turns = chat("What is the capital of France", "Paris of course it is")
    assert cut_turns(without(text, "capital of France"), text, turns, kind) is None


def test_a_cut_outside_the_turns_leaves_them():
    text, turns = chat("What is the capital of France", "Paris")
    whole = "Some words before\n\n" + text
    made = without(whole, "words before")
    assert cut_turns(made, whole, turns, "chat") == turns


def test_turns_that_are_not_in_the_text_or_all_gone_drop_the_record():
    text, turns = chat("one two", "three")
    assert cut_turns(without(text, "one"), text.replace("three", "four"), turns, "dialogue") is None
    assert cut_turns(without(text, "one two", "three"), text, turns, "dialogue") is None


def test_many_cuts_take_no_more_time_than_their_number():
    text = "one two " * 30_000
    made = cut(text, [(8 * number, 8 * number + 3) for number in range(30_000)])
    assert made.text == "two " * 30_000
