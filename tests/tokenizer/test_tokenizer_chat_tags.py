"""Tags of a conversation as single tokens: in our encoder, in LAi's own, in its file, and in what is learnt."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tokenizer_files import lai_ids

from lmcore.conversation import ROLES, pieces
from lmcore.generate.chat import prompt_ids
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.chat_tags import BEGINNINGS, TAG_SCORE, TAGS
from lmcore.tokenizer.vocab_files import read_vocab_bin
from lmcore.tokens.roles import learnt_spans, tokens_in

SAID = [("system", "Translate English to Hungarian."), ("user", "Hello, user!"), ("assistant", "Szia, felhasználó!")]
CHAT = "".join(text for _, text in pieces(SAID, "tags"))
CORPUS = [CHAT, "<ul><li>users use <user</li></ul> system assistant", "Az asszisztens felel."] * 30

scraps = st.lists(st.sampled_from([*TAGS, *BEGINNINGS, "<", ">", "/", "user", "us", "er>", " ", "é", "\n", "🙂"]))


@pytest.fixture(scope="module")
def tokenizer():
    return CharBPE.train(
        lambda: CORPUS, vocab_size=520, split=None, min_frequency=2, max_token_length=20, chat_tags=True
    )


def test_tags_are_the_six_tokens_behind_the_bytes(tokenizer):
    assert TAGS == ("<system>", "</system>", "<user>", "</user>", "<assistant>", "</assistant>")
    assert tokenizer.tags == {tag: 260 + number for number, tag in enumerate(TAGS)}
    tokens, scores = read_vocab_bin(tokenizer.files()["vocab.bin"])
    assert [token.decode() for token in tokens[260:266]] == list(TAGS)
    assert {score for token, score in zip(tokens, scores, strict=True) if score >= 2**30} == {TAG_SCORE}
    assert not set(tokenizer.tags) & set(tokenizer.specials), "a tag stands for its text"


def test_no_learnt_token_reaches_into_a_tag(tokenizer):
    learnt = [token.decode() for token in tokenizer.tokens[266 + len(BEGINNINGS) :]]
    assert learnt
    assert not [token for token in learnt if re.search("<[/sua]", token)]
    assert "user" in "".join(learnt), "words that a tag is made of are learnt as ever"


@given(scraps.map("".join))
def test_every_tag_in_any_text_is_one_token_also_by_lai_s_rule(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    tags = [tokenizer.tags[tag] for tag in re.findall(f"</?(?:{'|'.join(ROLES)})>", text)]
    assert [index for index in ids if index in tokenizer.tags.values()] == tags
    tokens, scores = read_vocab_bin(tokenizer.files()["vocab.bin"])
    assert ids == lai_ids(text, tokens, scores)


def test_the_files_alone_bring_the_tags_back(tokenizer, tmp_path):
    for name, content in tokenizer.files().items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(content)
        alone = load_tokenizer(folder)
        assert alone.tags == tokenizer.tags
        assert alone.encode(CHAT * 3) == tokenizer.encode(CHAT * 3)
        assert name != "vocab.bin" or alone.files() == tokenizer.files()


def test_without_the_setting_there_are_none():
    plain = CharBPE.train(lambda: CORPUS, vocab_size=520, split=None, min_frequency=2, max_token_length=20)
    assert not plain.tags
    assert plain.token_bytes()[260:266] != [tag.encode() for tag in TAGS]


def test_the_texts_in_any_order_give_the_same_tokens(tokenizer):
    shuffled = random.Random(3).sample(CORPUS, len(CORPUS))
    again = CharBPE.train(
        lambda: shuffled, vocab_size=520, split=None, min_frequency=2, max_token_length=20, chat_tags=True
    )
    assert again.files() == tokenizer.files()


def test_the_answer_is_learnt_with_the_tag_that_closes_it(tokenizer):
    turns = [{"role": role, "text": text} for role, text in SAID]
    ids = np.array(tokenizer.encode(CHAT), dtype=np.uint32)
    spans = learnt_spans(CHAT, turns, ("assistant",), "it", closing=True)
    learnt = tokens_in(tokenizer, CHAT, ids, spans)
    assert tokenizer.decode(ids[learnt]) == "Szia, felhasználó!</assistant>"
    assert learnt_spans(CHAT, turns, ("assistant",), "it") == [(spans[0][0], spans[0][1] - len("</assistant>"))]


def test_a_prompt_ends_in_the_tag_of_the_answer(tokenizer):
    messages = [{"role": role, "content": text} for role, text in SAID[:2]]
    ids = prompt_ids(messages, tokenizer, "tags")
    assert ids[0] == tokenizer.bos_id
    assert ids[-1] == tokenizer.tags["<assistant>"]
    whole = tokenizer.encode(CHAT)
    assert ids[1:] == whole[: len(ids) - 1], "what it is asked is what it has read, token by token"
