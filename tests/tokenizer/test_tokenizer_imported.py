"""Vocabularies that others made: what is taken, what is refused by name, and that nothing of a text is lost."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.byte_bpe import GPT2, LLAMA3
from lmcore.tokenizer.cutting import PIECE
from lmcore.tokenizer.imported import PROBE, QWEN, adopt
from storage.errors import RunError

BOS = "<|endoftext|>"
LETTERS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior)


def rules(*parts):
    return pre_tokenizers.Sequence(list(parts))


KNOWN = {
    "GPT-2": lambda: WORDS,
    "SmolLM": lambda: rules(pre_tokenizers.Digits(individual_digits=True), WORDS),
    "Llama 3": lambda: rules(split(LLAMA3), LETTERS),
    "Qwen": lambda: rules(split(QWEN), LETTERS),
}
UNKNOWN = {
    "GPT-2 by hand": lambda: rules(split(GPT2), LETTERS),
    "one digit, three, signs": lambda: rules(
        split(r"\p{N}{1,3}"), split(r"[一-龥]+"), pre_tokenizers.Punctuation(), WORDS
    ),
    "lines and what follows": lambda: rules(split(r"[^\n]+\n[^\n]+"), LETTERS),
}


def engine(rule=None, *, text=("the river and the old bird 1234 sang",), size=330, added=(), **options):
    made = Tokenizer(models.BPE(**options))
    made.pre_tokenizer = rule or WORDS
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[BOS], show_progress=False
    )
    made.train_from_iterator([*text, *[" the river's end\n\nAnd: 'the old' bird, 2024\n"] * 30], trainer)
    made.add_tokens(list(added))
    return made


def taken(made):
    return adopt(made, BOS).tokenizer


@pytest.fixture
def stored(tmp_path):
    def store(tokenizer):
        for name, content in tokenizer.files().items():
            (tmp_path / name).write_bytes(content)
        return load_tokenizer(tmp_path)

    return store


ADDED = ["<think>", AddedToken("</think>", single_word=True)]
TAKEN = {name: taken(engine(make())) for name, make in (KNOWN | UNKNOWN).items()} | {
    f"{name}, tokens added": taken(engine(make(), added=ADDED)) for name, make in KNOWN.items()
}


@pytest.mark.parametrize("name", TAKEN)
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=40) | st.text("ab \n\r\t1'.é한\u0301", max_size=40))
def test_every_text_comes_back_and_its_bytes_are_counted(name, text):
    tokenizer = TAKEN[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_length(np.array(ids, dtype=np.int64)).sum() == len(text.encode())
    assert b"".join(tokenizer.token_bytes()[i] for i in ids) == text.encode()


def long_text(seed):
    parts = [
        "the",
        " river",
        "  ",
        "\n",
        "\n\n",
        " old",
        "1",
        "234",
        "'ll",
        "한국",
        ".",
        "\t",
        "\r\n",
        " é",
        "x=",
        "<think>",
        "</think>",
    ]
    return "".join(random.Random(seed).choices(parts, k=3 * PIECE // 2))


@pytest.mark.parametrize("name", TAKEN)
def test_a_long_text_has_the_ids_that_it_has_uncut(name):
    seed = random.randrange(2**32)
    print("seed", seed)
    tokenizer, text = TAKEN[name], long_text(seed)
    assert len(text) > 2 * PIECE
    whole = tokenizer._engine.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text) == whole
    assert (len(tokenizer._pieces(text)) > 1) == (name.partition(",")[0] in KNOWN), (
        "only where a rule is known is a text cut"
    )


def test_a_text_is_not_cut_where_an_added_token_may_reach_over():
    tokenizer = taken(engine(added=["d the", "\nthe"]))  # which reach over the places where texts are cut
    text = "the old the\nthe river" * PIECE
    assert tokenizer._pieces(text) == [text]
    assert tokenizer.decode(tokenizer.encode(text[:1000])) == text[:1000]
    assert tokenizer.token_bytes()[tokenizer.vocab_size - 1] == b"\nthe"


def test_a_normalizer_nfc_is_left_out_and_texts_in_nfc_keep_their_ids(stored):
    for normalizer in (normalizers.NFC(), normalizers.Sequence([normalizers.NFC()])):
        made = engine(rules(split(QWEN), LETTERS))
        made.normalizer = normalizer
        theirs = Tokenizer.from_str(made.to_str())
        adopted = adopt(made, BOS)
        assert adopted.notes == (
            "the tokenizer's NFC is left out: texts are encoded as they are, those in NFC with the same ids",
        )
        tokenizer = stored(adopted.tokenizer)
        for text in ("Kérem, jöjjön be! 한국어 2024", unicodedata.normalize("NFC", PROBE)):
            assert tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        apart = unicodedata.normalize("NFD", "Kérem 한국어 \u212b")
        ids = tokenizer.encode(apart)
        assert tokenizer.decode(ids) == apart, "where theirs gives back another text"
        assert theirs.decode(theirs.encode(apart).ids) != apart
        assert tokenizer.byte_length(np.array(ids)).sum() == len(apart.encode())


def strange_piece(made):
    """A vocabulary with a token that is not spelt in the byte alphabet."""
    import json

    plain = json.loads(made.to_str())
    plain["model"]["vocab"]["的"] = len(plain["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(plain))


def with_normalizer(made, normalizer):
    made.normalizer = normalizer
    return made


REFUSED = {
    "Split with behavior Removed": lambda: engine(rules(split(r"\s+", "removed"), WORDS)),
    "Punctuation with behavior Removed": lambda: engine(rules(pre_tokenizers.Punctuation("removed"), WORDS)),
    "pre_tokenizer WhitespaceSplit may change": lambda: engine(rules(pre_tokenizers.WhitespaceSplit(), WORDS)),
    "pre_tokenizer ByteLevel may change": lambda: engine(rules(LETTERS, WORDS)),
    "add_prefix_space": lambda: engine(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "normalizer Lowercase": lambda: with_normalizer(engine(), normalizers.Lowercase()),
    "normalizer Sequence": lambda: with_normalizer(
        engine(), normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    ),
    "normalizer NFKC": lambda: with_normalizer(engine(), normalizers.NFKC()),
    "dropout": lambda: engine(dropout=0.1),
    "'的' is not spelt in bytes": lambda: strange_piece(engine()),
    "'<x>' has lstrip": lambda: engine(added=[AddedToken("<x>", lstrip=True)]),
    "'<x>' has rstrip": lambda: engine(added=[AddedToken("<x>", rstrip=True)]),
    "'Ġx.*' is encoded and decoded to ' x": lambda: engine(added=["Ġx"]),  # which the library spells as it does bytes
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_would_change_a_text_is_refused_by_name(why):
    with pytest.raises(ValueError, match=why):
        taken(REFUSED[why]())


@pytest.mark.parametrize("name", ["continuing_subword_prefix", "end_of_word_suffix"])
def test_marks_inside_words_are_refused(name):
    import json

    plain = json.loads(engine().to_str())
    plain["model"] |= {name: "##", "merges": []}
    with pytest.raises(ValueError, match=f"its {name} '##' is no part of the text"):
        taken(Tokenizer.from_str(json.dumps(plain)))


def test_options_of_tokens_that_change_nothing_are_taken():
    made = engine(added=[AddedToken("<y>", single_word=True), AddedToken("<z>", normalized=True)])
    made.add_special_tokens([AddedToken("<s>", lstrip=True, rstrip=True, single_word=True)])
    tokenizer = taken(made)
    for text in ("a <s> b", "<s>", "x<y>x <y> <z><z> <s><s>", f"{BOS} a"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not set(ids) & set(tokenizer.specials.values()), "specials typed in a text are text"


def test_a_special_that_its_merges_spell_is_refused():
    """A text would become it, and decoding leaves specials out."""
    made = engine()
    made.add_special_tokens(["Ġold"])
    with pytest.raises(ValueError, match=r"' old' is encoded and decoded to ''"):
        taken(made)


def test_a_stored_one_that_changes_texts_is_an_error_that_names_it(tmp_path):
    tokenizer = taken(engine())
    text = tokenizer.to_json()
    (tmp_path / "tokenizer.json").write_text(text.replace('"add_prefix_space": false', '"add_prefix_space": true', 1))
    with pytest.raises(RunError, match="add_prefix_space puts a space before every text"):
        load_tokenizer(tmp_path)
