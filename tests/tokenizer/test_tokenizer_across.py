"""New tokens spelt in an old vocabulary: every byte of a new token, by tokens that the old one has."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenizer_imported import engine, taken

from lmcore.tokenizer.across import pieces_in
from lmcore.tokenizer.kinds import learn
from lmcore.tokenizer.params import TokenizerParams
from storage.errors import UserError

TEXTS = [
    "the river and the old bird sang, 12 times\n",
    "Kérem, jöjjön be a kertbe!\n",
    "ሰላም ለዓለም ሰላም\n",
    "🦆🦆 한국어\n",
] * 20
LOSSLESS = ("byte_bpe", "bytes", "char_bpe", "imported")


@cache
def made(kind, size=420):
    if kind == "imported":
        return taken(engine(text=TEXTS, added=["<think>"]))
    options = {} if kind == "bytes" else {"vocab_size": size, "cap": True}
    return learn(lambda: iter(TEXTS), TokenizerParams(kind=kind, **options))


@pytest.mark.parametrize("new", LOSSLESS)
@pytest.mark.parametrize("old", LOSSLESS)
def test_the_pieces_have_the_bytes_of_the_token(old, new):
    before, after = made(old), made(new, 600)
    pieces = pieces_in(before, after)
    octets, spelt = before.token_bytes(), after.token_bytes()
    assert len(pieces) == after.vocab_size
    specials = set(after.specials.values())
    for index, some in enumerate(pieces):
        if index not in specials:
            assert some
            assert b"".join(octets[i] for i in some) == spelt[index]
            assert spelt[index] not in octets or len(some) == 1, "a token that is in both is that token"
    assert pieces[after.bos_id] == [before.bos_id]
    if after.pad_id != after.bos_id:
        assert pieces[after.pad_id] == [before.pad_id]
    lengths = after.byte_length(np.arange(after.vocab_size))
    assert [len(octets) for octets in spelt] == lengths.tolist()


def test_specials_go_by_name_then_by_role_and_the_others_are_nothing():
    theirs, ours = made("imported"), made("byte_bpe")
    assert pieces_in(ours, ours) == [[index] for index in range(ours.vocab_size)], "the same vocabulary is itself"
    found = pieces_in(theirs, ours)
    assert [found[ours.specials[name]] for name in ("<|user|>", "<|assistant|>")] == [[], []]
    assert found[ours.specials["<|endoftext|>"]] == [theirs.specials["<|endoftext|>"]]
    characters = made("char_bpe")
    assert pieces_in(characters, ours)[ours.bos_id] == [characters.bos_id], "of another name"


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=30))
def test_the_bytes_of_the_tokens_of_a_text_are_its_bytes(kind, text):
    tokenizer = made(kind)
    octets = tokenizer.token_bytes()
    assert b"".join(octets[i] for i in tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("kind", ["words", "word_bpe"])
def test_words_are_refused(kind):
    for pair in ((made(kind), made("bytes")), (made("bytes"), made(kind))):
        with pytest.raises(UserError, match="words and their parts, not bytes"):
            pieces_in(*pair)
