"""The reference model against a slow one of dictionaries, and what its bits say of real text."""

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate import pieces as cutting
from lmcore.curate import reference as room
from lmcore.curate.hash_sample import TEXT_CHARS, HashSample
from lmcore.curate.kneser_ney import _discounts
from lmcore.curate.reference import Reference, train_reference
from lmcore.curate.sorted_hashes import SortedHashes
from lmcore.curate.word_pieces import word_pieces
from lmcore.curate.words import mixed
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet

word = st.sampled_from(["the", "cat", "Interpolated", "ሰላምታ፡ለሁሉ", "日本語", "é", "𝔘nicode", "42", "--"])
text = st.lists(word, max_size=12).map(" ".join)


def cut(text):
    """(begins a word, characters) of every piece."""
    found = []
    for word in text.lower().replace("፡", " ").split():
        units = list(word) if word == "日本語" else [word]
        for unit in units:
            found += [(start == 0, unit[start : start + 4]) for start in range(0, len(unit), 4)]
    return found


def slow(rows, order):
    """probability(units before, unit, base) of modified Kneser-Ney over rows of units, by dictionaries."""
    grams = Counter()
    for row in rows:
        padded = ["edge"] * (order - 1) + row
        grams.update(tuple(padded[i - order + 1 : i + 1]) for i in range(order - 1, len(padded)))
    tables = {}
    for length in range(order, 0, -1):
        discounts = (0.0, *_discounts(np.array(list(grams.values()))))
        total, kinds = Counter(), defaultdict(Counter)
        for gram, count in grams.items():
            total[gram[:-1]] += count
            kinds[gram[:-1]][min(count, 3)] += 1
        kept = {gram: count for gram, count in grams.items() if count > 1 or length == 1}
        direct = {g: (c - discounts[min(c, 3)]) / total[g[:-1]] for g, c in kept.items()}
        given = discounts if length == 1 else (0.0, 1.0, *discounts[2:])
        left = {c: sum(given[k] * n for k, n in kinds[c].items()) / total[c] for c in total}
        tables[length] = direct, left
        grams = Counter(gram[1:] for gram in grams)

    def probability(before, unit, base):
        before = ["edge"] * (order - 1) + before
        found = base
        for length in range(1, order + 1):
            direct, left = tables[length]
            context = tuple(before[len(before) - length + 1 :])
            found = found * left.get(context, 1.0) + direct.get((*context, unit), 0.0)
        return found

    return probability


def slow_reference(texts, order):
    """probability(pieces before, piece) of the model as its docstring has it."""
    words = slow([cut(text) for text in texts], order)
    different = {piece for text in texts for piece in cut(text)}
    spelling = slow([list(characters) for _, characters in sorted(different)], 3)

    def probability(before, piece):
        base, characters = 2.0**-3, piece[1]
        for i, character in enumerate(characters):
            base *= spelling(list(characters[:i]), character, 2.0 ** (-8 * len(character.encode())))
        return words(before, piece, 0.0 if piece in different else base)

    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@settings(deadline=None, max_examples=15)
@given(texts=st.lists(text, min_size=1, max_size=12, unique=True), new=text)
def test_against_a_slow_model(order, texts, new):
    if not any(cut(text) for text in texts):
        return
    model, probability = train_reference(texts, max_chars=10**6, order=order), slow_reference(texts, order)
    for sample in (new, texts[0]):
        row, expected = [], []
        for piece in cut(sample):
            expected.append(probability(row, piece))
            row.append(piece)
        assert model.probabilities(word_pieces([sample])).tolist() == pytest.approx(expected, rel=1e-5)
        n_bytes = sum(len(characters.encode()) + begins for begins, characters in cut(sample))
        bits = -sum(map(math.log2, expected)) / max(1, n_bytes)
        assert model.bits([sample])[0] == pytest.approx(bits, abs=1e-4)


def test_probabilities_of_all_pieces_add_up_to_nearly_one(docstrings):
    model = train_reference(docstrings[:60], max_chars=10**6)
    vocabulary = sorted({piece for text in docstrings[:60] for piece in cut(text)})
    for context in ("retu", "a list of stri", "exce"):
        following = [context + (" " + characters if begins else characters) for begins, characters in vocabulary]
        found = word_pieces([text for text in following if len(cut(text)) == len(cut(context)) + 1])
        total = model.probabilities(found)[found.place == len(cut(context))].sum()
        assert 0.5 < total <= 1 + 1e-6  # the rest is for pieces never seen


def test_text_like_the_reference_costs_less_than_noise(docstrings, seed):
    train, held_out = docstrings[::2], docstrings[1::2]
    model = train_reference(train, max_chars=10**6)
    known, new = model.bits(train), model.bits(held_out)
    pick = random.Random(seed)
    noise = ["".join(pick.choices("qxzwkjvpy@#~0123456789", k=9)) + " ." for _ in range(20)]
    assert known.mean() < new.mean() < 4 < 5 < model.bits(noise).min()
    shuffled = [" ".join(pick.sample(text.split(), len(text.split()))) for text in held_out]
    assert new.mean() < model.bits(shuffled).mean() < model.bits(noise).min()
    assert model.bits(["", " \n"]).tolist() == [0, 0]
    assert not len(model.bits([]))


def test_equal_texts_give_equal_bytes_in_any_order_and_come_back(tmp_path, docstrings, seed):
    model = train_reference(docstrings, max_chars=50_000)
    model.save(tmp_path / "a")
    random.Random(seed).shuffle(docstrings := list(docstrings) * 2)
    train_reference(iter(docstrings), max_chars=50_000).save(tmp_path / "b")
    for name in (room.FILE, room.SPELLING):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = Reference.load(tmp_path / "a")
    assert (again.order, again.n_grams) == (model.order, model.n_grams)
    assert again.bits(docstrings[:20]).tolist() == model.bits(docstrings[:20]).tolist()


def test_bits_do_not_depend_on_the_batch(monkeypatch, docstrings):
    docstrings = [text for text in docstrings if len(text) < 2000]
    model = train_reference(docstrings[:50], max_chars=10**6)
    whole = model.bits(docstrings)
    assert [model.bits([text])[0] for text in docstrings[:20]] == whole[:20].tolist()
    long = "\n".join(docstrings[:30])
    bits = model.bits([long])[0]
    monkeypatch.setattr(room, "pieces", lambda texts: cutting.pieces(texts, 2000))
    assert model.bits(docstrings).tolist() == whole.tolist()
    assert model.bits([long])[0] == pytest.approx(bits, rel=0.02)  # each piece of it begins without a context


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=30), limit=st.integers(0, 200))
def test_the_sample_is_the_least_hashes_that_fit(sizes, limit):
    texts = [f"{i}" + "x" * size for i, size in enumerate(sizes)]
    forward, backward = HashSample(limit), HashSample(limit)
    forward.add(texts)
    backward.add([*texts[::-1], *texts])
    assert forward.texts() == backward.texts()
    everything = HashSample(10**9)
    everything.add(texts)
    rest, chosen = limit, []
    for text in everything.texts():
        if len(text) > rest:
            break
        chosen.append(text)
        rest -= len(text)
    assert forward.texts() == chosen


def test_one_book_is_not_the_reference():
    sample = HashSample(10**6)
    sample.add(["word " * 10**6, "", "other"])
    assert sorted(map(len, sample.texts())) == [5, TEXT_CHARS]


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=50), wanted=st.lists(st.integers(0, 2**64 - 1)))
def test_hashes_are_found_where_they_are(values, wanted):
    for spread in (mixed, np.sort):  # evenly spread, and as hypothesis likes them: at the ends
        table = np.sort(spread(np.array(values, np.uint64)))
        asked = np.concatenate((table, np.array(wanted, np.uint64)))
        place = {value: i for i, value in enumerate(table.tolist())}
        assert SortedHashes(table).find(asked).tolist() == [place.get(value, -1) for value in asked.tolist()]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no words"):
        train_reference(["", "  "], max_chars=10**6)
    with pytest.raises(RunError, match="reference"):
        Reference.load(tmp_path)
    train_reference(["a few words to count"], max_chars=10**6).save(tmp_path)
    table = read_parquet(tmp_path / room.FILE)
    for odd in (table.replace_schema_metadata({"version": "0"}), table.drop_columns(["gram"]), table.slice(0, 0)):
        write_parquet(tmp_path / "odd" / room.FILE, odd)
        with pytest.raises(RunError, match="version"):
            Reference.load(tmp_path / "odd")
