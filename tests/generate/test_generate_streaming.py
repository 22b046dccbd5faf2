"""Pieces of text: whole characters only, joined they are the text, and a stop string is cut where it starts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.generate.streaming import TextStream
from lmcore.tokenizer import ByteBPE

BYTES = ByteBPE.train([], vocab_size=262, split="gpt2", min_frequency=2, max_token_length=20)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def streamed(ids, stop=(), tokenizer=BYTES, before=()):
    """(pieces, stream) of tokens until a stop string, as the engine feeds them."""
    stream = TextStream(tokenizer, before, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.feed(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    return pieces, stream


@given(text=texts, before=texts)
def test_pieces_join_to_the_text_and_end_at_whole_characters(text, before):
    pieces, stream = streamed(BYTES.encode(text), before=BYTES.encode(before)[-8:])
    assert "".join(pieces) == stream.text == text
    assert not stream.stopped
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
        assert all(piece == character for piece, character in zip(filter(None, pieces), text, strict=True))


@given(ids=st.lists(st.integers(6, 261), max_size=40))
@settings(max_examples=300)
def test_any_bytes_give_the_text_of_all_of_them(ids):
    pieces, stream = streamed(ids)
    assert "".join(pieces) == stream.text == BYTES.decode(ids)


@given(
    text=st.text("ab\n", max_size=30),
    stop=st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=300)
def test_a_stop_string_is_cut_where_it_starts(text, stop):
    pieces, stream = streamed(BYTES.encode(text), stop)
    complete = [n for n in range(len(text) + 1) if any(s in text[:n] for s in stop)]
    if complete:
        so_far = text[: complete[0]]
        wanted = so_far[: min(at for at in map(so_far.find, stop) if at >= 0)]
    else:
        wanted = text
    assert "".join(pieces) == stream.text == wanted
    assert stream.stopped == bool(complete)


@given(text=texts, cut=st.integers(0, 30))
def test_stop_strings_of_many_bytes(text, cut):
    stop = text[cut : cut + 2]
    if not stop:
        return
    _, stream = streamed(BYTES.encode(text), [stop])
    if "\ufffd" not in text:
        assert stream.stopped
        assert stream.text == text[: text.find(stop)]


def test_the_start_of_a_stop_string_waits():
    stream = TextStream(BYTES, (), ["\nUser:"])
    given_out = [stream.feed(token) for token in BYTES.encode("Hi\nUse it")]
    assert given_out == ["H", "i", "", "", "", "", "\nUse ", "i", "t"]


def test_a_token_of_several_characters_with_a_stop_inside():
    tokenizer = ByteBPE.train(["stop here"] * 9, vocab_size=300, split="gpt2", min_frequency=2, max_token_length=20)
    ids = tokenizer.encode("so stop here")
    assert len(ids) < 6
    _, stream = streamed(ids, ["op"], tokenizer)
    assert stream.text == "so st"


def test_specials_have_no_text():
    pieces, _ = streamed([72, *BYTES.specials.values(), 73])
    assert "".join(pieces) == BYTES.decode([72, 73])
