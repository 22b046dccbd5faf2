"""`vocab.bin` as LAi reads it and `vocab.txt` as CLLM reads it."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from curated_texts import SCRIPTS, documentation
from hypothesis import given
from hypothesis import strategies as st

from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.vocab_files import read_vocab_bin, read_vocab_txt, vocab_bin, vocab_txt
from lmcore.tokenizer.words import Words
from storage.errors import RunError

float32 = st.floats(width=32, allow_nan=False)
words = st.binary(min_size=1, max_size=20).filter(lambda token: b"\t" not in token and b"\n" not in token)


@pytest.fixture(scope="module")
def texts():
    return [*documentation()[::3], *list(SCRIPTS.values()) * 3, "<0x41> <pad> <bos> " * 9, "= == === ==== " * 50]


@pytest.fixture(scope="module")
def chars(texts):
    return CharBPE.train(lambda: texts, vocab_size=1200, split=None, min_frequency=2, max_token_length=20)


@given(st.lists(st.tuples(st.binary(max_size=40), float32)))
def test_a_vocab_bin_comes_back(pairs):
    tokens, scores = [token for token, _ in pairs], [score for _, score in pairs]
    content = vocab_bin(tokens, scores)
    assert read_vocab_bin(content) == (tokens, scores)
    assert len(content) == 12 + sum(8 + len(token) for token in tokens)


@given(st.lists(st.tuples(words, st.integers(0, 2**63))))
def test_a_vocab_txt_comes_back(pairs):
    tokens, counts = [token for token, _ in pairs], [count for _, count in pairs]
    assert read_vocab_txt(vocab_txt(tokens, counts)) == (tokens, counts)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: struct.pack("<III", 0x4C414956, 1, 3) + rest))
def test_readers_refuse_or_understand_anything(content):
    for read, write in ((read_vocab_bin, vocab_bin), (read_vocab_txt, vocab_txt)):
        try:
            found = read(content)
        except ValueError:
            continue
        if read is read_vocab_bin:
            assert len(write(*found)) == len(content)
        else:
            assert read_vocab_txt(write(*found)) == found


def test_a_vocab_bin_is_laid_out_as_lai_has_it(chars):
    content = chars.files()["vocab.bin"]
    assert content[:4] == b"VIAL"
    assert struct.unpack_from("<III", content) == (0x4C414956, 1, chars.vocab_size)  # the count sits at offset 8
    tokens, scores = read_vocab_bin(content)
    assert tokens[:4] == [b"<pad>", b"<bos>", b"<eos>", b"<unk>"]
    assert tokens[4:260] == [bytes([byte]) for byte in range(256)]
    assert scores[:260] == [0.0] * 4 + [-100.0] * 256
    assert len(set(tokens)) == len(tokens)
    learnt = [token.decode() for token in tokens[260:]]
    assert max(map(len, learnt)) == 20
    merges = [score for token, score in zip(learnt, scores[260:], strict=True) if len(token) > 1]
    assert merges == sorted(set(merges), reverse=True)
    assert not any("\n" in token for token in learnt)


def test_a_character_s_score_is_how_often_it_occurs(texts, chars):
    whole = "".join(texts)
    tokens, scores = read_vocab_bin(chars.files()["vocab.bin"])
    characters = {
        token.decode(): score
        for token, score in zip(tokens[260:], scores[260:], strict=True)
        if len(token.decode()) == 1
    }
    assert characters == {c: whole.count(c) for c in set(whole) if ord(c) > 127 and whole.count(c) >= 2}
    assert list(characters.values()) == sorted(characters.values(), reverse=True)


def test_scores_are_counts_of_merges_by_the_published_rule():
    """LAi's own trainer, in so many words, on a text without runs of one letter (which it counts twice)."""
    lines = ["low lower lowest", "new newer newest", "wide wider widest"] * 3 + ["low new wide"]
    tokenizer = CharBPE.train(
        lambda: ["\n".join(lines)], vocab_size=300, split=None, min_frequency=2, max_token_length=20
    )
    tokens, scores = read_vocab_bin(tokenizer.files()["vocab.bin"])
    known = set(tokens)
    split = [list(line) for line in lines]
    for token, score in zip(tokens[260:], scores[260:], strict=True):
        pairs = {}
        for parts in split:
            for left, right in pairwise(parts):
                if len(left + right) <= 20:
                    pairs[left, right] = pairs.get((left, right), 0) + 1
        best = max(pairs.values())
        assert round(score) == best
        pair = next((pair for pair in pairs if "".join(pair) == token.decode() and pairs[pair] == best), None)
        assert pair is not None
        for parts in split:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == pair:
                    parts[at : at + 2] = ["".join(pair)]
                else:
                    at += 1
    assert len(known) == tokenizer.vocab_size


def lai_ids(text, tokens, scores):
    """LAi's encoder (src/tokenizer/bpe.h), line for line."""
    ids = {token: index for index, token in enumerate(tokens)}
    pieces = [character.encode() for character in text]
    while True:
        best, place = -1e10, None
        for at in range(len(pieces) - 1):
            index = ids.get(pieces[at] + pieces[at + 1])
            if index is not None and scores[index] > best:
                best, place = scores[index], at
        if place is None:
            break
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return [i for piece in pieces for i in ([ids[piece]] if piece in ids else [byte + 4 for byte in piece])]


def test_lai_s_encoder_gives_the_same_ids_from_the_file(chars, texts, seed):
    tokens, scores = read_vocab_bin(chars.files()["vocab.bin"])
    draw = random.Random(seed)
    spiky = ["a", "b", "ab", "=", "==", "  ", " ", "é", "e", "th", "the", "漢", "\n", "<0x41>", "😀"]
    for number in range(200):
        text = draw.choice(texts)
        start = draw.randrange(len(text))
        text = text[start : start + 150]
        if number % 2:
            text = "".join(draw.choice(spiky) * draw.randint(1, 7) for _ in range(20))
        assert chars.encode(text) == lai_ids(text, tokens, scores), text


def test_the_file_alone_is_enough(chars, texts, tmp_path):
    (tmp_path / "vocab.bin").write_bytes(chars.files()["vocab.bin"])
    loaded = load_tokenizer(tmp_path)
    assert loaded.files() == chars.files()
    other = Words.train(texts, vocab_size=500, order="frequency", min_frequency=2, max_token_length=50)
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "vocab.txt").write_bytes(other.files()["vocab.txt"])
    assert load_tokenizer(folder).files() == other.files()


def test_a_vocab_txt_is_laid_out_as_cllm_has_it(texts):
    tokenizer = Words.train(texts, vocab_size=500, order="frequency", min_frequency=1, max_token_length=50)
    lines = tokenizer.files()["vocab.txt"].decode().split("\n")
    assert lines[:5] == ["<PAD>\t0", "<UNK>\t0", "<BOS>\t0", "<EOS>\t0", "<MASK>\t0"]
    assert lines.pop() == ""
    assert len(lines) == tokenizer.vocab_size == 500
    assert sum(int(line.split("\t")[1]) for line in lines) == sum(
        (ids != tokenizer.unk_id).sum() for ids in tokenizer.encode_ids(texts)
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-1], "ends inside token"),
        (lambda content: content + b"x", "1 bytes follow"),
        (lambda content: b"GGUF" + content[4:], "begins with b'GGUF'"),
        (lambda content: content[:4] + b"\x02" + content[5:], "version is 2"),
        (lambda content: content[:8] + b"\xff\xff\xff\xff" + content[12:], "claims 4,294,967,295 tokens"),
        (lambda content: b"", "shorter than"),
        (lambda content: content.replace(b"<bos>", b"<BOS>"), "token 1 is b'<BOS>'"),
    ],
)
def test_a_damaged_vocab_bin_is_named(chars, tmp_path, change, reason):
    (tmp_path / "vocab.bin").write_bytes(change(chars.files()["vocab.bin"]))
    with pytest.raises(RunError, match=rf"{tmp_path}/vocab\.bin.*{reason}"):
        load_tokenizer(tmp_path)


def test_the_bytes_of_lai_s_first_program_are_refused(tmp_path):
    tokens = [b"<pad>", b"<bos>", b"<eos>", b"<unk>", *(chr(byte).encode() for byte in range(256)), b"th"]
    (tmp_path / "vocab.bin").write_bytes(vocab_bin(tokens, [0.0] * len(tokens)))
    with pytest.raises(RunError, match=r"token 132 .* as LAi's first program wrote it"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<PAD>\t0\n<UNK>\t0\n", "begins with"),
        (b"<PAD>\t0\n<UNK> 0\n", "line 2 is not TOKEN<TAB>COUNT"),
        (b"<PAD>\t0\n<UNK>\t0\n<BOS>\t0\n<EOS>\t0\n<MASK>\t0\nThe\t3\n", "b'The' is not a word"),
        (b"<PAD>\t0\n<UNK>\t0\n<BOS>\t0\n<EOS>\t0\n<MASK>\t0\na\t3\na\t3\n", "a word is in it twice"),
        (b"<PAD>\t0", "last line has no end"),
    ],
)
def test_a_damaged_vocab_txt_is_named(tmp_path, content, reason):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(RunError, match=rf"{tmp_path}/vocab\.txt.*{reason}"):
        load_tokenizer(tmp_path)


def test_two_files_that_disagree_are_named(chars, texts, tmp_path):
    other = CharBPE.train(lambda: texts, vocab_size=1100, split=None, min_frequency=2, max_token_length=20)
    (tmp_path / "tokenizer.json").write_bytes(chars.files()["tokenizer.json"])
    (tmp_path / "vocab.bin").write_bytes(other.files()["vocab.bin"])
    with pytest.raises(RunError, match=r"other tokens than vocab\.bin"):
        load_tokenizer(tmp_path)
