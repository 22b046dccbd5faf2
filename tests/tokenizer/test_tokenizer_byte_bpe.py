"""Byte-level BPE: exact round trips, no marker from text, exact byte counts, the words of GPT-2 and Llama 3."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import regex
from curated_texts import SCRIPTS, documentation, mixed_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lmcore.tokenizer import SPECIALS, ByteBPE, load_tokenizer
from lmcore.tokenizer import engines as room
from lmcore.tokenizer.byte_bpe import LLAMA3, Split
from lmcore.tokenizer.cutting import pieces
from lmcore.tokenizer.parallel import encode_stream
from storage.errors import RunError, UserError

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
# what splitting rules disagree on: blanks, digits, contractions, marks, letters of several scripts
spiky_text = st.text(st.sampled_from(list(" \t\n\r\u00a0'sSlLtd019²½Ⅷa-é漢ሰ!<|>_.\u0301😀")), max_size=200)


@pytest.fixture(scope="module")
def trained():
    texts = [*documentation()[::3], *list(SCRIPTS.values()) * 3]
    return {
        split: ByteBPE.train(texts, vocab_size=1500, split=split, min_frequency=2, max_token_length=64)
        for split in get_args(Split)
    }


@pytest.fixture(scope="module", params=get_args(Split))
def tokenizer(request, trained):
    return trained[request.param]


@pytest.fixture(scope="module")
def engines(trained):
    """The same vocabularies in the library's own hands."""
    found = {split: Tokenizer.from_str(tokenizer.to_json()) for split, tokenizer in trained.items()}
    for engine in found.values():
        engine.encode_special_tokens = True
    return found


@pytest.fixture
def ranks(tokenizer):
    """The vocabulary as tiktoken writes it: bytes of every token that is no special, with its id."""
    letters = {}
    shift = 0
    for byte in range(256):  # GPT-2's table: printable bytes are themselves, the others follow U+0100
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255
        letters[chr(byte if printable else 256 + shift)] = byte
        shift += not printable
    vocabulary = json.loads(tokenizer.to_json())["model"]["vocab"]
    return {bytes(letters[c] for c in token): i for token, i in vocabulary.items() if token not in SPECIALS}


def check_round_trip(tokenizer, text):
    (encoding,) = tokenizer.encode_batch([text])
    assert encoding.ids.dtype == np.uint32
    assert tokenizer.decode(encoding.ids) == text
    assert tokenizer.encode(text) == encoding.ids.tolist()
    assert tokenizer.byte_length(encoding.ids).sum() == len(text.encode())
    assert not set(encoding.ids.tolist()) & set(tokenizer.specials.values())


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_comes_back(tokenizer, script):
    check_round_trip(tokenizer, SCRIPTS[script])


@settings(deadline=None, max_examples=300)
@given(text=any_text | spiky_text)
def test_any_text_comes_back(trained, text):
    for tokenizer in trained.values():
        check_round_trip(tokenizer, text)


@settings(deadline=None, max_examples=300)
@given(text=any_text | spiky_text)
def test_offsets_cover_the_text(trained, engines, text):
    for split, tokenizer in trained.items():
        (encoding,) = tokenizer.encode_batch([text])
        assert encoding.offsets == engines[split].encode(text).offsets
        assert len(encoding.offsets) == len(encoding.ids)
        reached = 0
        for (start, stop), index in zip(encoding.offsets, encoding.ids, strict=True):
            assert start <= reached <= stop  # no character is passed over
            reached = stop
            token = tokenizer.decode([int(index)])
            assert token == text[start:stop] or "\ufffd" in token
        assert reached == len(text)


def test_every_token_of_the_vocabulary_is_reached_by_its_own_text(tokenizer, ranks):
    # so a program that looks whole words up first, as llama.cpp does for "llama-bpe", gets the same ids
    tested = 0
    for token, index in ranks.items():
        try:
            text = token.decode()
        except UnicodeDecodeError:
            continue
        assert tokenizer.encode(text) == [index]
        tested += 1
    assert tested > 1000


def textbook_ids(text, pattern, ranks, known):
    """BPE as tiktoken defines it: of each word's neighbours join the two that make the token of lowest id."""
    ids = []
    for word in regex.findall(pattern, text):
        if word not in known:
            parts = [bytes([byte]) for byte in word.encode()]
            while pairs := [(ranks[x + y], i) for i, (x, y) in enumerate(pairwise(parts)) if x + y in ranks]:
                _, i = min(pairs)
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            known[word] = [ranks[part] for part in parts]
        ids += known[word]
    return ids


def test_ids_are_those_of_the_published_rules(seed, tokenizer, ranks, trained):
    pattern = LLAMA3 if tokenizer is trained["llama3"] else GPT2
    known = {}
    for text in [*documentation(), *mixed_texts(seed, 200), *SCRIPTS.values()]:
        assert tokenizer.encode(text) == textbook_ids(text, pattern, ranks, known)


def test_markers_in_text_are_text(tokenizer):
    for marker in SPECIALS:
        for text in (marker, f"a{marker}b", f"{marker}{marker}", f" {marker}\n"):
            ids = tokenizer.encode(text)
            assert len(ids) > 1
            assert not set(ids) & set(tokenizer.specials.values())
            assert tokenizer.decode(ids) == text
            assert tokenizer.byte_length(np.array(ids)).sum() == len(text)


def test_a_vocabulary_learnt_from_markers_keeps_them_apart():
    text = " ".join(SPECIALS) * 500
    for split in get_args(Split):
        tokenizer = ByteBPE.train([text], vocab_size=600, split=split, min_frequency=2, max_token_length=64)
        assert not set(tokenizer.encode(text)) & set(tokenizer.specials.values())
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_specials_have_the_first_ids_and_no_bytes(tokenizer):
    assert tokenizer.specials == {name: i for i, name in enumerate(SPECIALS)}
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.lossy) == (0, 1, False)
    assert tokenizer.byte_length(np.arange(6)).tolist() == [0] * 6
    assert tokenizer.byte_length(np.arange(6, tokenizer.vocab_size)).min() == 1
    ids = [tokenizer.bos_id, *tokenizer.encode("hi"), tokenizer.specials["<|end|>"]]
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, skip_specials=False) == "<|endoftext|>hi<|end|>"


def test_byte_length_keeps_the_shape(tokenizer):
    ids = np.array([[0, 7], [8, 9]], dtype=np.uint32)
    assert tokenizer.byte_length(ids).shape == (2, 2)


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(UserError, match=r"surrogate \(U\+D800\) at character 2"):
        tokenizer.encode("ab\ud800c")
    with pytest.raises(UserError, match=r"surrogate \(U\+DCFF\) at character 0"):
        tokenizer.encode_batch(["fine", b"\xff".decode(errors="surrogateescape")])


def test_bytes_cut_in_the_middle_of_a_character_decode_to_a_replacement(tokenizer):
    ids = tokenizer.encode("😀")
    assert len(ids) > 1
    assert tokenizer.decode(ids[:-1]) == "\ufffd"


@pytest.mark.parametrize("ids", [[1500], [-1], [6, 99999]])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, ids):
    with pytest.raises(RunError, match=rf"token id {ids[-1]} is outside the tokenizer's 1500 tokens"):
        tokenizer.decode(ids)


def test_max_token_length_and_min_frequency_hold():
    texts = ["=" * 4000 + " once"] * 4
    tokenizer = ByteBPE.train(texts, vocab_size=400, split="llama3", min_frequency=2, max_token_length=16)
    assert tokenizer.byte_length(np.arange(tokenizer.vocab_size)).max() == 16
    amharic = ["ኢትዮጵያበአፍሪካቀንድየምትገኝሀገርናት"] * 4
    for longest in (16, 21):  # bytes, in every script
        other = ByteBPE.train(amharic, vocab_size=400, split="llama3", min_frequency=2, max_token_length=longest)
        assert other.byte_length(np.arange(other.vocab_size)).max() == longest
    rare = ByteBPE.train(texts, vocab_size=400, split="llama3", min_frequency=5, max_token_length=16)
    assert len(tokenizer.encode(" once")) == 1
    assert len(rare.encode(" once")) == 5


@pytest.mark.parametrize(("split", "digest"), [("gpt2", "2bb866ce4422c167"), ("llama3", "d1cd537c9aaca73b")])
def test_golden_vocabulary(split, digest):
    # Another vocabulary from the same text and settings: raise the version of the stage.
    texts = list(SCRIPTS.values()) * 2
    tokenizer = ByteBPE.train(texts, vocab_size=400, split=split, min_frequency=2, max_token_length=64)
    model = json.loads(tokenizer.to_json())["model"]
    assert hashlib.sha256(json.dumps([model["vocab"], model["merges"]]).encode()).hexdigest()[:16] == digest


def test_the_order_of_the_texts_does_not_matter(seed):
    texts = mixed_texts(seed, 100)
    settings = {"vocab_size": 700, "split": "llama3", "min_frequency": 2, "max_token_length": 64}
    assert ByteBPE.train(texts, **settings).to_json() == ByteBPE.train(texts[::-1], **settings).to_json()


def test_long_texts_in_pieces_are_encoded_as_a_whole(seed, tokenizer, monkeypatch):
    text = "".join(mixed_texts(seed, 200))
    whole = tokenizer.encode_batch([text])[0]
    monkeypatch.setattr("lmcore.tokenizer.cutting.PIECE", 50)
    assert len(pieces(text)) > 200
    monkeypatch.setattr(room, "CALL", 500)
    cut = tokenizer.encode_batch(["", text, "x"])
    assert cut[1].ids.tolist() == whole.ids.tolist()
    assert cut[1].offsets == whole.offsets
    assert tokenizer.encode("x") == cut[2].ids.tolist()


@settings(deadline=None, max_examples=300)
@given(text=spiky_text)
def test_pieces_never_change_the_ids(trained, text):
    whole = {split: tokenizer.encode(text) for split, tokenizer in trained.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmcore.tokenizer.cutting.PIECE", 1)
        assert "".join(pieces(text)) == text
        assert {split: tokenizer.encode(text) for split, tokenizer in trained.items()} == whole


def test_a_text_without_a_place_to_cut_is_cut_and_comes_back(tokenizer, monkeypatch):
    monkeypatch.setattr("lmcore.tokenizer.cutting.PIECE", 1_000)
    monkeypatch.setattr("lmcore.tokenizer.cutting.LONGEST", 20_000)
    for text in (" " * 50_000 + "x", "漢" * 41_000, "x " * 600 + "y" * 39_500):
        assert len(pieces(text)) == 3
        assert max(map(len, pieces(text))) == 20_000
        (found,) = tokenizer.encode_ids([text])
        assert tokenizer.decode(found) == text
        assert tokenizer.byte_length(found).sum() == len(text.encode())


@pytest.mark.slow
def test_a_run_of_blanks_that_the_engine_gives_up_on(trained):
    text = " " * 11_000_000 + "x"
    (found,) = trained["llama3"].encode_ids([text])
    assert trained["llama3"].decode(found) == text


def test_a_stream_is_encoded_in_order_by_any_number_of_threads(seed, tokenizer, monkeypatch):
    texts = mixed_texts(seed, 300)
    monkeypatch.setattr("lmcore.tokenizer.parallel.GROUP", 5_000)
    expected = [tokenizer.encode(text) for text in texts]
    for workers in (0, 1, 3):
        assert [ids.tolist() for ids in encode_stream(tokenizer, iter(texts), workers)] == expected
    with pytest.raises(UserError, match="surrogate"):
        list(encode_stream(tokenizer, iter([*texts, "\ud800"]), 2))


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = load_tokenizer(tmp_path)
    assert loaded.to_json() == tokenizer.to_json()
    text = "<|end|> Árvíztűrő"
    assert loaded.encode(text) == tokenizer.encode(text)


def test_transformers_reads_the_file_with_equal_ids(tokenizer, tmp_path):
    from transformers import PreTrainedTokenizerFast

    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    other = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = "".join(text for name, text in SCRIPTS.items() if name != "code")
    assert other(text)["input_ids"] == tokenizer.encode(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=rf"{tmp_path}/tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_truncated_file_is_named_wherever_it_is_cut(tokenizer, tmp_path, seed):
    whole = tokenizer.to_json().encode()
    path = tmp_path / "tokenizer.json"
    for size in [0, 1, len(whole) - 2, *np.random.default_rng(seed).integers(0, len(whole) - 2, 30)]:
        path.write_bytes(whole[: int(size)])
        with pytest.raises(RunError, match=rf"{tmp_path}/tokenizer\.json"):
            load_tokenizer(tmp_path)
    path.write_bytes(b"\xff\xfe\x00 not text")
    with pytest.raises(RunError, match=rf"{tmp_path}/tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_file_that_would_not_be_exact_is_refused(tokenizer, tmp_path):
    changes = {
        "normalizer": lambda content: content.update(normalizer={"type": "NFC"}),
        "added_tokens": lambda content: content["added_tokens"].pop(),
        "model": lambda content: content["model"].update(dropout=0.1),
        "pre_tokenizer": lambda content: content.update(pre_tokenizer=None),
        "decoder": lambda content: content.update(decoder=None),
        "truncation": lambda content: content.update(
            truncation={"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        ),
        "not spelt in bytes": lambda content: content["model"]["vocab"].update({"一": 1500}),
        "have gaps": lambda content: content["model"]["vocab"].update({"aaaaaaaaaaaaaaaaaaaaaaa": 1600}),
    }
    for reason, change in changes.items():
        content = json.loads(tokenizer.to_json())
        change(content)
        (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(RunError, match=reason):
            load_tokenizer(tmp_path)


def test_a_file_without_all_bytes_is_refused(tmp_path):
    content = json.loads(
        ByteBPE.train(["a"], vocab_size=262, split="gpt2", min_frequency=2, max_token_length=9).to_json()
    )
    vocabulary = content["model"]["vocab"]
    letter = max(vocabulary, key=vocabulary.get)
    del vocabulary[letter]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match="1 of the 256 bytes are missing"):
        load_tokenizer(tmp_path)
