"""CLLM's vocabulary at the size of its document: 30,000 lines, both orders, and how much of a text each leaves out."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from curated_texts import write_curated

from lmcore.progress import silent
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.curated import split_rows
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer

SIZE = 30_000
SPECIALS = [b"<PAD>", b"<UNK>", b"<BOS>", b"<EOS>", b"<MASK>"]


def documents(seed, count):
    """Texts in which word n of 60,000 is about as common as 1 in n, in capitals here and there."""
    draw = random.Random(seed)
    ranks = [int(60_000 ** draw.random()) for _ in range(count * 2000)]
    words = [f"w{n:x}" if n % 7 else f"W{n:X}é" for n in ranks]
    return ["\t".join(words[i * 2000 : i * 2000 + 1000]) + "\n  " + " ".join(words[i * 2000 + 1000 : i * 2000 + 2000])
            for i in range(count)]  # fmt: skip


@pytest.fixture(scope="module")
def texts():
    return {"train": documents(1, 200), "val": documents(2, 10), "test": []}


@pytest.fixture(scope="module", params=["frequency", "first_seen"])
def stage(request, texts, tmp_path_factory):
    """The order, the folder that the stage left, and its metrics."""
    root = tmp_path_factory.mktemp(request.param)
    curated = write_curated(root / "curated", texts, 20)
    params = TokenizerParams(kind="words", vocab_size=SIZE, min_frequency=1, order=request.param)
    metrics = train_tokenizer(root, curated, params=params, runtime=TokenizerRuntime(workers=1), report=silent)
    return request.param, root / "out", metrics


def as_cllm_reads(texts):
    """The words as CLLM's program cuts and lowers them: C's isspace and tolower, on bytes."""
    return [word for text in texts for word in text.encode().lower().split()]


def test_vocab_txt_has_30000_lines_and_specials_without_counts(stage, texts):
    order, out, _ = stage
    lines = (out / "vocab.txt").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == SIZE
    assert lines[:5] == [special + b"\t0" for special in SPECIALS]
    words = as_cllm_reads(row["text"] for row in split_rows(out.parents[0] / "curated", "train"))
    assert sorted(words) == sorted(as_cllm_reads(texts["train"]))
    counts = Counter(words)
    # dict.fromkeys keeps the first of equals: first come, first served
    expected = sorted(counts, key=lambda word: (-counts[word], word)) if order == "frequency" else dict.fromkeys(words)
    chosen = list(expected)[: SIZE - 5]
    assert lines[5:] == [b"%s\t%d" % (word, counts[word]) for word in chosen]


def test_the_share_of_unknown_words_is_reported(stage, texts):
    _, out, metrics = stage
    tokenizer = load_tokenizer(out)
    report = json.loads((out / "tokenizer_report.json").read_text())
    assert tokenizer.specials == {special.decode(): number for number, special in enumerate(SPECIALS)}
    known = set(tokenizer.tokens[5:])
    for split in ("train", "val"):
        words = as_cllm_reads(texts[split])
        share = sum(word not in known for word in words) / len(words)
        assert report["measured"][split]["unknown_share"] == round(share, 4)
        assert 0 < share < 0.2
    assert metrics["unknown_share_val"] == report["measured"]["val"]["unknown_share"]
    word = tokenizer.tokens.index(b"w1d")
    assert tokenizer.encode("W1D É w1d\tunseen") == [word, 1, word, 1]


def test_the_commonest_leave_less_of_a_text_unknown_than_the_first(texts):
    words, unseen = as_cllm_reads(texts["train"]), as_cllm_reads(texts["val"])
    counts = Counter(words)
    kept = {
        "frequency": {word for word, _ in counts.most_common(SIZE - 5)},
        "first_seen": set(list(dict.fromkeys(words))[: SIZE - 5]),
    }
    unknown = {order: sum(word not in some for word in unseen) for order, some in kept.items()}
    assert unknown["frequency"] < unknown["first_seen"]
