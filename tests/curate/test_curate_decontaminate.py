"""Overlaps with held-out texts: against a slow second opinion, planted in real text, and at the edges."""

import json
import random
import re
import unicodedata
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmcore.curate import overlap
from lmcore.curate.decontaminate import CONTAMINATION, DecontaminateParams, scan
from lmcore.curate.held_out import MOST_ITEMS, SHORT_WORDS, VERSION, HeldOut
from storage.errors import RunError

SMALL = DecontaminateParams(n_words=3, n_chars=6, min_left_words=0)
SPACELESS = "[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]"

pieces = st.sampled_from(
    [
        "one",
        "two",
        "Two,",
        "three",
        "(one",
        "two)",
        "x",
        "-",
        "\n",
        "\n\n  ",
        "日本",
        "本日",
        "日",
        "é",
        "e\u0301 ",
        "a-b",
    ]
)
texts = st.lists(pieces, max_size=14).map(" ".join)
tight = st.lists(pieces, max_size=10).map("".join)
held = st.lists(st.one_of(texts, tight), max_size=5)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def slow_tokens(text):
    """(token, its weight in words and in characters, start, end), one character at a time."""
    found, current = [], None
    for place, character in enumerate(text):
        solid = character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")
        alone = solid and re.match(SPACELESS, character)
        if not solid or alone:
            current = None
        if alone:
            found.append([character, place, place + 1])
        elif solid:
            if current is None:
                current = ["", place, place]
                found.append(current)
            current[0] += character.casefold()
            current[2] = place + 1
    return [(token, bool(re.match(SPACELESS, token)), start, end) for token, start, end in found]


def slow_windows(tokens, params, weight):
    found = []
    for first in range(len(tokens)):
        total = 0
        for last in range(first, len(tokens)):
            total += params.n_words if tokens[last][1] else params.n_chars
            if total >= weight:
                found.append((first, last + 1))
                break
    return found


def slow_overlaps(text, items, params):
    """(start, end, item) of every window of a text that an item has."""
    known = {}
    whole = {}
    full = params.n_words * params.n_chars
    for number, item in enumerate(items):
        tokens = slow_tokens(unicodedata.normalize("NFC", item))
        windows = slow_windows(tokens, params, full)
        for first, last in windows:
            known.setdefault(tuple(token[0] for token in tokens[first:last]), set()).add(number)
        if not windows and slow_windows(tokens, params, min(params.n_words, SHORT_WORDS) * params.n_chars):
            whole.setdefault(tuple(token[0] for token in tokens), set()).add(number)
    tokens = slow_tokens(text)
    spans = [(first, last, known) for first, last in slow_windows(tokens, params, full)]
    for length in {len(item) for item in whole}:
        spans += [(first, first + length, whole) for first in range(len(tokens) - length + 1)]
    return sorted(
        (tokens[first][2], tokens[last - 1][3], number)
        for first, last, table in spans
        for number in table.get(tuple(token[0] for token in tokens[first:last]), ())
    )


def index(items, folder, params=SMALL, memory_mb=1, stays=()):
    rows = [("set", str(number), text) for number, text in enumerate(items)]
    return HeldOut.build(rows, params.size, folder / "index", memory_mb=memory_mb, stays=stays)


def run(given_texts, held_out, params=SMALL):
    return scan(given_texts, [f"r{i:03d}" for i in range(len(given_texts))], held_out, params)


def words(text):
    return [token[0] for token in slow_tokens(text)]


@relaxed
@given(items=held, given_texts=st.lists(st.one_of(texts, tight), max_size=4), words=st.sampled_from([3, 7]))
@example(items=["one two three four"], given_texts=["zero, One TWO\n(three)"], words=3)
def test_finds_what_a_slow_search_finds(items, given_texts, words, tmp_path):
    params = DecontaminateParams(n_words=words, n_chars=6, remove=False, min_left_words=0)
    given_texts = [unicodedata.normalize("NFC", text) for text in given_texts]
    found = run(given_texts, index(items, tmp_path, params), params)
    expected = {}
    spans = {}
    for number, text in enumerate(given_texts):
        for start, end, item in slow_overlaps(text, items, params):
            expected.setdefault((f"r{number:03d}", str(item)), []).append((start, end))
            spans.setdefault(number, set()).update(range(start, end))
    assert {number: {p for a, b in parts for p in range(a, b)} for number, parts in found.spans.items()} == spans
    got = {(row["record_id"], row["item"]): (row["n_grams"], row["chars"]) for row in found.hits.to_pylist()}
    assert got == {
        pair: (len(parts), len({place for start, end in parts for place in range(start, end)}))
        for pair, parts in expected.items()
    }
    assert found.texts == given_texts
    assert not found.cuts


@relaxed
@given(items=held, given_texts=st.lists(st.one_of(texts, tight), max_size=4))
@example(items=["one two three", "x x x"], given_texts=["zero one (x x x) two three four"])
def test_nothing_is_found_after_removal_and_nothing_else_is_gone(items, given_texts, tmp_path):
    given_texts = [unicodedata.normalize("NFC", text) for text in given_texts]
    held_out = index(items, tmp_path)
    found = run(given_texts, held_out)
    again = run(found.texts, held_out)
    assert not again.hits.num_rows
    assert again.texts == found.texts
    for number, text in enumerate(given_texts):
        gone = {place for start, end in found.spans.get(number, ()) for place in range(start, end)}
        assert words(found.texts[number]) == [token for token, _, start, end in slow_tokens(text) if start not in gone]
        assert all((start in gone) == (end - 1 in gone) for _, _, start, end in slow_tokens(text))
        if not gone:
            assert found.texts[number] == text


@contextmanager
def small_batches(size):
    """Texts in batches of so many characters, and in slices when they are longer than some 400."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "BATCH_CHARS", size)
        patch.setattr(overlap, "SLICE_CHARS", 2 * overlap._NEAR + size)
        patch.setattr("lmcore.curate.held_out.SLICE_CHARS", 2 * overlap._NEAR + size)
        patch.setattr("lmcore.curate.held_out._BATCH", size)
        yield


@relaxed
@given(items=held, given_texts=st.lists(texts, max_size=6), size=st.integers(1, 40))
def test_batches_slices_and_memory_change_nothing(items, given_texts, size, tmp_path):
    given_texts = [*given_texts, " ".join(given_texts), "日" * 330 + "a" * 340 + " ".join(given_texts * 30)]
    given_texts = [unicodedata.normalize("NFC", text) for text in given_texts]
    items = [*items, "日" * 9, "a" * 114, " ".join(items * 40)]
    whole = run(given_texts, index(items, tmp_path))
    with small_batches(size):
        held_out = index(items, tmp_path, memory_mb=0)  # a run for every batch
        assert json.loads((held_out.folder / "about.json").read_text())["runs"] > 1
        parts = run(given_texts, held_out)
    assert (parts.texts, parts.spans) == (whole.texts, whole.spans)
    assert parts.hits.equals(whole.hits)


parts = st.tuples(st.sampled_from(["a", "日", "word ", "日 ", "a.", "\n"]), st.integers(1, 700))


@relaxed
@given(chosen=st.lists(parts, min_size=1, max_size=6), size=st.integers(1, 40), keep=st.integers(0, 30))
@example(chosen=[("a", 2 * overlap._NEAR + 10)], size=1, keep=3)
def test_tokens_of_slices_are_the_tokens_of_the_text(chosen, size, keep):
    text = "".join(part * number for part, number in chosen)
    whole = overlap.tokenise([text])
    with small_batches(size):
        found = list(overlap._sliced(text, keep))
    assert len(found) > 1 or len(text) <= 2 * overlap._NEAR + size + overlap._NEAR
    for name in ("start", "end", "hash"):
        rows = np.concatenate([getattr(tokens, name)[tokens.seen :] for tokens in found])
        assert np.array_equal(rows, getattr(whole, name))
    for before, after in pairwise(found):
        assert after.seen == min(keep, len(before.hash))
        assert np.array_equal(after.hash[: after.seen], before.hash[len(before.hash) - after.seen :])
        assert np.array_equal(after.start[: after.seen], before.start[len(before.hash) - after.seen :])


def test_planted_overlaps_are_all_found_in_real_text(docstrings, tmp_path, seed):
    generator = random.Random(seed)
    params = DecontaminateParams()
    texts_here = [" ".join(text.split()) for text in docstrings]
    generator.shuffle(texts_here)
    items, hosts = texts_here[:40], texts_here[40:160]
    rows = [("quiz", str(number), item) for number, item in enumerate(items)]
    held_out = HeldOut.build(rows, params.size, tmp_path / "index")
    before = run(hosts, held_out, params)
    hosts = before.texts
    planted = {}
    for number in range(0, len(hosts), 2):
        which = generator.randrange(len(items))
        run_of_words = items[which].split()
        if len(run_of_words) < 25:
            continue
        start = generator.randrange(len(run_of_words) - 20)
        quote = " ".join(run_of_words[start : start + 20]).upper().replace(",", " ;")
        if len(words(quote)) < 13:
            continue
        host = hosts[number].split(" ")
        middle = generator.randrange(len(host))
        hosts[number] = " ".join([*host[:middle], "«" + quote + "»", *host[middle:]])
        planted[number] = (which, hosts[number])
    assert len(planted) > 30
    found = run(hosts, held_out, params)
    named = {(row["record_id"], row["item"]) for row in found.hits.to_pylist()}
    assert {(f"r{number:03d}", str(which)) for number, (which, _) in planted.items()} <= named
    assert set(found.cuts) == set(planted)


def test_hit_table_names_each_item(tmp_path):
    question = "What is the name of the river that flows through the middle of the old town of Bath?"
    rows = [("quiz", "7", question), ("quiz", "7", "the River Avon"), ("val", "ab", "lines of text " * 9)]
    held_out = HeldOut.build(rows, DecontaminateParams().size, tmp_path / "index")
    assert held_out.items.to_pylist() == [
        {"set": "quiz", "item": "7", "n_grams": 6},
        {"set": "val", "item": "ab", "n_grams": 15},
    ]
    text = f"Before it all.\n\nQ: {question} Nobody knows that."
    found = run([text, "something else"], held_out, DecontaminateParams(min_left_words=5))
    assert found.hits.schema == CONTAMINATION
    assert found.hits.to_pylist() == [
        {"set": "quiz", "item": "7", "record_id": "r000", "n_grams": 6, "chars": len(question) - 1}
    ]
    assert found.texts == ["Before it all.\n\nQ: Nobody knows that.", "something else"]
    assert found.too_short == set()
    assert run([text], held_out, DecontaminateParams(min_left_words=8)).too_short == {0}


def test_short_items_are_found_whole_and_shorter_ones_never(tmp_path):
    rows = [("quiz", "1", "Who wrote the first computer program?"), ("quiz", "2", "In which year?")]
    held_out = HeldOut.build(rows, DecontaminateParams().size, tmp_path / "index")
    assert held_out.items["n_grams"].to_pylist() == [1, 0]
    found = run(
        ["He asked who wrote the first computer program. In which year?", "who wrote the first computer?"], held_out
    )
    assert found.texts == ["He asked In which year?", "who wrote the first computer?"]
    assert found.hits["item"].to_pylist() == ["1"]


def test_texts_without_spaces_are_compared_by_characters(tmp_path):
    text = "".join(chr(0x4E00 + number * 7 % 997) for number in range(400))
    held_out = HeldOut.build([("val", "1", text[100:160])], DecontaminateParams().size, tmp_path / "index")
    found = run([text[:149] + "だ" + text[150:], text[:150] + "だ" + text[151:]], held_out, DecontaminateParams())
    assert found.spans == {1: ((100, 150),)}
    spaced = run([" ".join(text)], held_out, DecontaminateParams())
    assert spaced.spans == {0: ((200, 319),)}
    thai = "กขคงจฉชซฌญ" * 12
    held_out = HeldOut.build([("val", "1", thai)], DecontaminateParams().size, tmp_path / "index")
    assert run([thai], held_out, DecontaminateParams()).texts == [""]


def test_a_template_of_many_items_is_removed_and_named_a_few_times(tmp_path):
    template = "Answer the following question by choosing one of the four options that are given below:"
    rows = [("quiz", str(number), f"{template} question{number}") for number in range(300)]
    with small_batches(1000):
        held_out = HeldOut.build(rows, DecontaminateParams().size, tmp_path / "index", memory_mb=0)
    assert json.loads((held_out.folder / "about.json").read_text())["runs"] > 3
    found = run([f"We told them: {template} and they did."], held_out, DecontaminateParams())
    assert found.texts == ["We told them: and they did."]
    assert sorted(map(int, found.hits["item"].to_pylist())) == list(range(MOST_ITEMS))


def test_nothing_held_out_and_nothing_to_scan(tmp_path):
    held_out = HeldOut.build([], DecontaminateParams().size, tmp_path / "index")
    assert held_out.empty
    assert run(["some text"], held_out).texts == ["some text"]
    filled = HeldOut.build([("a", "1", ""), ("a", "2", "\ud800 x")], DecontaminateParams().size, tmp_path / "index")
    assert run([], filled).hits.num_rows == 0
    assert run(["", "\n", "…"], filled).texts == ["", "\n", "…"]


def test_index_from_another_version_or_damaged_says_so(tmp_path):
    held_out = index(["one two three four five"], tmp_path)
    about = held_out.folder / "about.json"
    about.write_text(
        about.read_text()
        .replace(f'"version": {VERSION}', '"version": 0')
        .replace(f'"version":{VERSION}', '"version":0')
    )
    with pytest.raises(RunError, match="version 0"):
        HeldOut.open(held_out.folder)
    held_out = index(["one two three four five"], tmp_path)
    (held_out.folder / "filter.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RunError, match="cannot read the index"):
        HeldOut.open(held_out.folder)
    with pytest.raises(RunError, match="cannot read the index"):
        HeldOut.open(tmp_path / "none")


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two evaluation sets are called quiz"):
        DecontaminateParams(evaluation_sets=[{"name": "quiz", "path": "a.txt"}, {"name": "quiz", "path": "b.txt"}])
