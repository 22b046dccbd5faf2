"""Near-duplicates: the word rule, signatures, the band index, and pairs whatever the cut and order."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate import candidates
from lmcore.curate.bands import INDEX, Part, read_bands, write_bands
from lmcore.curate.exact import words_hashes
from lmcore.curate.jaccard import jaccard, shingle_sets
from lmcore.curate.minhash import BANDS, NO_KEY, band_keys
from lmcore.curate.pairs import PAIR, find_pairs
from lmcore.curate.shingles import shingles
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet


def words_hash(text):
    """What equal words are, said as simply as it can be."""
    return xxhash.xxh3_128_hexdigest(" ".join(text.lower().split()).encode())


CJK = "\u3040-\u30ff\u4e00-\u9fff"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def shingle_set(text):
    """The same rule by other means, for texts without combining marks."""
    words = re.findall(rf"(?=[^\W_])[{CJK}]|(?:(?![{CJK}])[^\W_])+", text.lower())
    if not words:
        return {text.strip()} - {""}
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def true_jaccard(a, b):
    left, right = shingle_set(a), shingle_set(b)
    return len(left & right) / len(left | right)


@pytest.fixture
def write(tmp_path):
    """write({record id: text}) -> Part."""
    count = 0

    def part(texts):
        nonlocal count
        count += 1
        found = Part(tmp_path / f"{count}.bands", tmp_path / f"{count}.measured")
        write_parquet(
            found.measured, pa.table({"record_id": list(texts), "text": pa.array(texts.values(), pa.string())})
        )
        write_bands(found.bands, words_hashes(list(texts.values())), band_keys(list(texts.values())))
        return found

    return part


def rows(table):
    return {(row["a"], row["b"]): row["jaccard"] for row in table.to_pylist()}


def changed(text, rng, share):
    words = text.split(" ")
    count = max(1, round(len(words) * share))
    at = rng.randrange(len(words) - count + 1)
    words[at : at + count] = [rng.choice(("other", "más", "違う", "ሌላ"))]
    return " ".join(words)


@pytest.fixture(scope="session")
def many(docstrings):
    """Real texts, with marks of other scripts put into some."""
    return [text if i % 3 else text.replace(" the ", " á 日本 ") for i, text in enumerate(docstrings)]


# --- shingles -------------------------------------------------------------------------------------------------------


def number_of_shingles(text):
    return (
        len(set(np.concatenate([found.hashes for found in shingles([text])], dtype=np.uint32))) if text.strip() else 0
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("One two, three: four five six!", "one TWO three four - five (six)"),
        ("日本語の文字です", "日本 語の、文字。です"),
        ("ሰላም፡ለዓለም፡ሁሉ።", "ሰላም ለዓለም ሁሉ"),
        ("naïve “quotes” — and 3.14 dashes", "NAÏVE quotes and 3 14 dashes"),
        ("नमस्ते दुनिया", "नमस्ते, दुनिया!"),
        ("too short", "Too... short?"),
        ("!!!", "  !!!\n"),
    ],
)
def test_only_case_punctuation_and_space_differ(a, b):
    sets = shingle_sets([a, b])
    assert jaccard(sets, np.array([0]), np.array([1])).tolist() == [1.0]
    assert (band_keys([a]) == band_keys([b])).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [("one", "two"), ("a b", "ab"), ("a b", "b a"), ("!!!", "???"), ("日 本", "本 日"), ("one two", "one two three")],
)
def test_different_short_texts_differ(a, b):
    sets = shingle_sets([a, b])
    assert jaccard(sets, np.array([0]), np.array([1])).tolist() == [0.0]


def test_blank_texts_have_no_shingle_and_no_key():
    assert not list(shingles([])) or sum(len(found.hashes) for found in shingles([])) == 0
    assert shingle_sets(["", " \n\t\u3000"]).count.tolist() == [0, 0]
    assert (band_keys(["", " \n"]) == NO_KEY).all()
    assert band_keys([]).shape == (0, BANDS)


@given(st.lists(ANY_TEXT, max_size=8))
def test_hashes_depend_on_the_text_alone(texts):
    together = band_keys(texts)
    assert together.tolist() == [band_keys([text])[0].tolist() for text in texts]
    assert (band_keys(pa.array(texts, pa.string())) == together).all()
    halves = pa.chunked_array([pa.array(texts[:3], pa.string()), pa.array(texts[3:], pa.string())])
    assert (band_keys(halves) == together).all()


def test_a_sliced_arrow_column_is_read_from_its_offset(many):
    column = pa.array(many)
    assert (band_keys(column.slice(7, 50)) == band_keys(many[7:57])).all()


def test_number_and_similarity_agree_with_plain_python(many, seed):
    rng = random.Random(seed)
    texts = [changed(text, rng, 0.3) if i % 2 else text for text in many[:40] for i in range(2)]
    sets = shingle_sets(texts)
    assert sets.count.tolist() == [len(shingle_set(text)) for text in texts]
    a = np.repeat(np.arange(len(texts)), 5)
    b = (a + np.tile(np.arange(5), len(texts))) % len(texts)
    expected = [round(true_jaccard(texts[i], texts[j]), 6) for i, j in zip(a, b, strict=True)]
    assert jaccard(sets, a, b).tolist() == pytest.approx(expected, abs=2e-6)


def test_a_giant_text_is_cut_at_gaps_and_keeps_its_shingles():
    word = "w{}".format
    text = " ".join(map(word, range(120_000)))
    assert len(text) > 2**18 * 2
    assert number_of_shingles(text) == pytest.approx(119_996, abs=10)
    assert (band_keys(["short one", text])[1] == band_keys([text])[0]).all()
    other = " ".join(map(word, range(6_000, 126_000)))
    found = jaccard(shingle_sets([text, "between", other]), np.array([0]), np.array([2]))
    assert found[0] == pytest.approx(113_996 / 125_996, abs=1e-3)
    assert number_of_shingles("x" * 2**20) == 1  # one word, cut hard


def test_repeated_words_are_one_shingle():
    sets = shingle_sets(["la " * 5, "la " * 50, "la " * 4])
    assert jaccard(sets, np.array([0, 0]), np.array([1, 2])).tolist() == [1.0, 0.0]


# --- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [12, 30, 90, 300, 2000])
def test_the_signature_estimates_the_similarity(length, seed):
    """Bytes that agree: J plus 1/256 of the rest, without bias also where most bins are borrowed."""
    rng = random.Random(seed)
    errors, bands = [], []
    for _ in range(150):
        words = [str(rng.randrange(10**9)) for _ in range(length)]
        other = words[: length - length // 12] + [str(rng.randrange(10**9)) for _ in range(length // 12)]
        keys = band_keys([" ".join(words), " ".join(other)])
        share = (keys[0].view(np.uint8) == keys[1].view(np.uint8)).mean()
        value = true_jaccard(" ".join(words), " ".join(other))
        errors.append(share - value)
        bands.append((keys[0] == keys[1]).any())
    assert abs(np.mean(errors)) < 0.025  # 7 deviations of the mean
    assert np.std(errors) < 0.07  # in theory .045
    assert np.mean(bands) > 0.97  # in theory .9995 at J = .7


def test_signatures_are_the_same_on_every_machine():
    """They are kept in the index for years: a change of these bytes needs a new version of the stage."""
    texts = ["One two three.", "日本語の文字", " ".join(map(str, range(60))), " ".join(map(str, range(2000))), "", "?!"]
    assert xxhash.xxh3_64_hexdigest(band_keys(texts).astype("<u4").tobytes()) == "ce6305b125f44854"


# --- words hash, band index -----------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=20))
def test_words_hashes_are_those_of_one_text_at_a_time(texts):
    assert words_hashes(texts) == [words_hash(text) for text in texts]


def test_words_hashes_know_every_capital_and_white_space():
    texts = [f"{chr(i)}A{chr(i)}{chr(i)}b {chr(i)}" for i in range(0x20000) if not 0xD800 <= i < 0xE000]
    assert words_hashes(texts) == [words_hash(text) for text in texts]


def test_a_giant_text_is_hashed_in_pieces():
    texts = [
        "Ὀδυσσεύς ΣΑΣ  and\u2003more\n" * 250_000,
        "x" * 2**23,
        " " * 2**22 + "a b",
        "a\t" * 2**21 + "y" * 2**23 + " b",
    ]
    texts = ["before", *texts, "after"]
    assert words_hashes(texts) == [words_hash(text) for text in texts]


def test_the_band_index_is_128_bytes_a_text_and_reads_back(tmp_path, many):
    texts = many * 20
    path = tmp_path / "bands" / "00000.parquet"
    keys = band_keys(texts)
    write_bands(path, words_hashes(texts), keys)
    assert path.stat().st_size < 140 * len(texts)
    hashes, found = read_bands(path)
    assert (found == keys).all()
    assert [f"{high:016x}{low:016x}" for high, low in hashes.tolist()] == words_hashes(texts)
    assert read_parquet(path).schema.equals(INDEX)


def test_an_index_of_another_form_is_refused(tmp_path, write):
    part = write({"a": "some text"})
    write_parquet(part.bands, pa.table({"words_hash": ["x"]}))
    with pytest.raises(RunError, match="no band index of this version"):
        find_pairs([part])


def test_a_missing_column_or_file_says_its_name(write):
    part = write({"a": "one two three four five six", "b": "one two three four five, six"})
    write_parquet(part.measured, pa.table({"record_id": ["a", "b"]}))
    with pytest.raises(RunError, match="text"):
        find_pairs([part])
    part.bands.unlink()
    with pytest.raises(RunError, match="bands"):
        find_pairs([part])


# --- pairs ----------------------------------------------------------------------------------------------------------


def planted(many, rng):
    """Real texts with copies of 1 to 30 % change, exact copies and blank ones."""
    texts = {f"{i:04d}": text for i, text in enumerate(many)}
    for i, text in enumerate(many):
        for copy in range(rng.randrange(3)):
            texts[f"{i:04d}-{copy}"] = changed(text, rng, rng.uniform(0.01, 0.3))
        if i % 9 == 0:
            texts[f"{i:04d}x"] = "  " + text.upper().replace(" ", "\n")
    return texts | {"e1": "", "e2": " ", "p1": "***", "p2": "---"}


def brute_force(texts, least=0.7):
    sets = {name: shingle_set(text) for name, text in texts.items()}
    owners = {}
    for name, found in sets.items():
        for gram in found:
            owners.setdefault(gram, []).append(name)
    together = {(a, b) for names in owners.values() for a in names for b in names if a < b}
    found = {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in together}
    return {pair: value for pair, value in found.items() if value >= least}


def one_each(texts):
    """Without exact copies: those are stars around the first."""
    found = {}
    for name in sorted(texts):
        found.setdefault(words_hash(texts[name]), name)
    return {name: texts[name] for name in sorted(found.values())}


def test_recall_and_precision_floors(many, write, seed):
    """Of all pairs by brute force: .99 at J >= .8, .95 at .7 to .8; and no pair that is none."""
    texts = one_each(planted(many, random.Random(seed)))
    truth = brute_force(texts)
    found = rows(find_pairs([write(texts)]))
    assert found.keys() <= truth.keys()
    assert all(abs(found[pair] - truth[pair]) < 2e-6 for pair in found)
    for low, high, floor in ((0.8, 1.01, 0.99), (0.7, 0.8, 0.95)):
        wanted = [pair for pair, value in truth.items() if low <= value < high]
        assert len(wanted) > 20
        assert np.mean([pair in found for pair in wanted]) >= floor


def test_neither_cut_nor_order_changes_the_result(many, write, seed):
    rng = random.Random(seed)
    texts = planted(many, rng)
    whole = find_pairs([write(texts)])
    assert whole.schema.equals(PAIR)
    assert whole.num_rows > 50
    names = list(texts)
    rng.shuffle(names)
    cut = find_pairs([write({name: texts[name] for name in names[i::4]}) for i in range(4)])
    assert cut.equals(whole)
    assert find_pairs([write(texts)], memory_mb=0).equals(whole)  # shingle sets in a file
    order = sorted(rows(whole))
    assert list(rows(whole)) == order
    assert all(a < b for a, b in order)


def test_two_nights_find_what_one_run_finds(many, write, seed):
    """New against new and new against known together are all pairs; old pairs are not told again."""
    rng = random.Random(seed)
    texts = one_each(planted(many, rng))
    names = list(texts)
    rng.shuffle(names)
    old, new = names[: len(names) // 2], set(names[len(names) // 2 :])
    first, second = write({name: texts[name] for name in old}), write({name: texts[name] for name in new})
    whole = rows(find_pairs([first, second]))
    tonight = rows(find_pairs([second], [first]))
    assert tonight == {pair: value for pair, value in whole.items() if set(pair) & new}
    assert rows(find_pairs([first])) | tonight == whole


def test_exact_copies_form_a_star_around_the_first(write):
    text = "the very same words stand in all of these texts here"
    near = text + " today"
    part = write({"c": text, "a": text.upper(), "b": "  " + text, "d": near, "e": "", "f": ""})
    close = round(true_jaccard(text, near), 6)
    assert rows(find_pairs([part])) == {("a", "b"): 1.0, ("a", "c"): 1.0, ("a", "d"): close}
    known = write({"k1": text, "k2": text})
    assert rows(find_pairs([write({"n": text})], [known])) == {("k1", "n"): 1.0}
    assert rows(find_pairs([write({"a": text})], [known])) == {("a", "k1"): 1.0, ("a", "k2"): 1.0}


def test_nothing_to_compare(write):
    assert find_pairs([]).num_rows == 0
    assert find_pairs([write({})], [write({})]).schema.equals(PAIR)
    assert find_pairs([write({"a": ""})], [write({"b": ""})]).num_rows == 0


def test_the_least_similarity_is_a_setting(write):
    part = write({"a": " ".join(map(str, range(40))), "b": " ".join(map(str, range(34))) + " end"})
    assert rows(find_pairs([part], min_jaccard=0.5)).keys() == {("a", "b")}
    assert find_pairs([part], min_jaccard=0.95).num_rows == 0
    with pytest.raises(UserError, match=r"0\.5 to 1"):
        find_pairs([part], min_jaccard=0.3)


def looked_at(texts):
    """How many pairs of signatures are compared."""
    keys = band_keys(texts)
    return sum(len(a) for band in range(BANDS) for a, _ in candidates._band_pairs(keys, np.arange(len(keys)), band))


def test_many_equal_texts_are_one_star(write):
    found = find_pairs([write({f"{i:06d}": "word" for i in range(20_000)})])
    assert found.num_rows == 19_999
    assert set(found["a"].to_pylist()) == {"000000"}


def test_a_template_is_held_together_without_all_its_pairs(write):
    """Every member is joined to a leader; the pairs looked at grow with the members, not with their square."""
    template = " ".join(f"fixed{i}" for i in range(80))
    texts = {f"{i:05d}": f"{template} number {i} of all" for i in range(3_000)}
    assert looked_at(list(texts.values())) <= len(texts) * BANDS * (candidates.LEADERS + candidates.NEIGHBOURS)
    found = rows(find_pairs([write(texts)]))
    assert all(value >= 0.7 for value in found.values())
    degree = Counter(name for pair in found for name in pair)
    assert len(degree) == len(texts)
    assert max(degree.values()) > 0.95 * len(texts)


def test_the_benchmark_runs_small(tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "near_duplicates.py"
    command = [sys.executable, str(script), "--copies", "150", "--run", "ours", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recall" in done.stdout
