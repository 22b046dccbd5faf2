"""tiktoken gives the ids of `tokenizers`, which define them, and so gives them for byte_bpe."""

from __future__ import annotations

import json
import random
from typing import get_args

import numpy as np
import pytest
import tiktoken
from curated_texts import SCRIPTS, documentation, mixed_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers

from lmcore.tokenizer import SPECIALS, ByteBPE
from lmcore.tokenizer.byte_bpe import Split, byte_letters

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
spiky_text = st.text(st.sampled_from(list(" \t\n\r\u00a0'sSſKlLtd019²½Ⅷa-é漢ሰ!<|>_.\u0301\u200d😀")), max_size=200)


def oracle(tokenizer):
    engine = Tokenizer.from_str(tokenizer.to_json())
    engine.encode_special_tokens = True
    return lambda text: engine.encode(text).ids


@pytest.fixture(scope="module")
def trained():
    texts = [*documentation()[::3], *list(SCRIPTS.values()) * 3]
    found = [
        ByteBPE.train(texts, vocab_size=1500, split=split, min_frequency=2, max_token_length=64)
        for split in get_args(Split)
    ]
    return [(tokenizer, oracle(tokenizer)) for tokenizer in found]


@settings(deadline=None, max_examples=500)
@given(text=any_text | spiky_text)
def test_any_text_has_equal_ids(trained, text):
    for tokenizer, ids in trained:
        assert tokenizer.encode(text) == ids(text)


def test_real_text_of_every_script_has_equal_ids(trained, seed):
    for tokenizer, ids in trained:
        for text in [*documentation(), *mixed_texts(seed, 200), *SCRIPTS.values(), *SPECIALS]:
            assert tokenizer.encode(text) == ids(text)


def test_vocabularies_of_repetitions_have_equal_ids(seed):
    """Runs and motifs, where the order of merges shows: 40 small vocabularies, 20 texts each."""
    draw = random.Random(seed)

    def motifs(alphabet, size):
        text = ""
        while len(text) < size:
            text += "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 4))) * draw.randint(1, 6)
        return text

    for _ in range(40):
        alphabet = draw.choice(["ab", "abc", "aé", "a ", "=- ", "ab1", "漢字a", " \n", "aab \n", "abcdefgh"])
        tokenizer = ByteBPE.train(
            [motifs(alphabet, draw.randint(5, 300)) for _ in range(draw.randint(1, 20))],
            vocab_size=draw.choice([270, 300, 500]),
            split=draw.choice(get_args(Split)),
            min_frequency=draw.choice([1, 2]),
            max_token_length=draw.choice([2, 3, 8, 64]),
        )
        ids = oracle(tokenizer)
        for _ in range(20):
            text = motifs(alphabet, draw.randint(1, 60))
            assert tokenizer.encode(text) == ids(text)


@pytest.mark.slow
@pytest.mark.parametrize("letter", [r"\p{L}", r"\p{N}", r"\s", "(?i:s|t|r|e|v|m|l|d)"])
def test_both_regex_engines_know_the_same_unicode(letter):
    """A character that is a letter in one and none in the other would be split in two ways."""
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    ranks = {bytes([byte]): byte for byte in range(256)}
    theirs = tiktoken.Encoding("one", pat_str=letter, mergeable_ranks=ranks, special_tokens={})
    found = theirs.decode(theirs.encode_ordinary(every))  # it passes over what the pattern does not match
    rest = pre_tokenizers.Split(Regex(letter), behavior="removed").pre_tokenize_str(every)
    assert set(found) == set(every) - set("".join(part for part, _ in rest))


def test_the_alphabet_of_bytes_is_the_library_s():
    assert sorted(byte_letters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for letter, byte in byte_letters().items():
        if byte < 128:
            rule = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            assert rule.pre_tokenize_str(chr(byte))[0][0] == letter


def test_a_vocabulary_with_merges_in_another_order_is_left_to_tokenizers(trained):
    content = json.loads(trained[0][0].to_json())
    merges = content["model"]["merges"]
    merges[10], merges[11] = merges[11], merges[10]
    turned = ByteBPE(Tokenizer.from_str(json.dumps(content)))
    ids = oracle(turned)
    for text in documentation()[:20]:
        assert turned.encode(text) == ids(text)


def test_endless_words_take_no_time_to_speak_of(trained):
    for text in ("a" * 300_000, " " * 300_000, "漢" * 100_000, "\n" * 300_000, "=" * 300_000):
        for tokenizer, _ in trained:
            (ids,) = tokenizer.encode_ids([text])
            assert ids.dtype == np.uint32
            assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_where_tiktoken_gives_up_tokenizers_goes_on(trained):
    for text in (" " * 999_999 + "x", "x" + "\t" * 999_999):
        for tokenizer, ids in trained:
            assert tokenizer.encode(text) == ids(text)
