"""Long repeats against a slow second opinion, and planted in real text."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.curate import overlap, substrings
from lmcore.curate.cuts import cut, union
from lmcore.curate.overlap import Size
from lmcore.curate.substrings import SubstringParams, long_repeats

tokens = st.sampled_from(["one", "Two,", "three", "-", "日", "本", "\n"])
texts = st.lists(st.lists(tokens, max_size=14).map(" ".join), max_size=5)


def slow(given_texts, size):
    seen, found = set(), [[] for _ in given_texts]
    for number, text in enumerate(given_texts):
        one = overlap.tokenise([text])
        words = [text[a:b].casefold() for a, b in zip(one.start, one.end, strict=True)]
        weights = [size.words if word in "日本" else size.chars for word in words]
        for first in range(len(words)):
            total = 0
            for last in range(first, len(words)):
                total += weights[last]
                if total >= size.weight:
                    window = tuple(words[first : last + 1])
                    if window in seen:
                        found[number].append((int(one.start[first]), int(one.end[last])))
                    seen.add(window)
                    break
    return [union(spans) for spans in found]


def fast(given_texts, size, folder, batch=2, **options):
    def batches():
        for start in range(0, len(given_texts), batch):
            yield given_texts[start : start + batch]

    found = long_repeats(batches, size, folder / "work", **options)
    assert not (folder / "work").exists()
    return [found.spans(number) for number in range(len(given_texts))]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(given_texts=texts, words=st.sampled_from([4, 5]), batch=st.integers(1, 3), memory=st.sampled_from([0, 1]))
def test_finds_what_a_slow_search_finds(given_texts, words, batch, memory, tmp_path):
    size = Size(words, 6)
    assert fast(given_texts, size, tmp_path, batch, memory_mb=memory) == slow(given_texts, size)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(given_texts=texts, size=st.integers(1, 40))
def test_slices_change_nothing(given_texts, size, tmp_path):
    given_texts = [*given_texts, "日" * 300 + "x" * 300 + " ".join(given_texts * 20)]
    expected = fast(given_texts, Size(5, 6), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "BATCH_CHARS", size)
        patch.setattr(overlap, "SLICE_CHARS", 2 * overlap._NEAR + size)
        assert fast(given_texts, Size(5, 6), tmp_path) == expected


def test_planted_repeats_are_cut_in_the_later_text_only(docstrings, tmp_path, seed):
    generator = random.Random(seed)
    size = SubstringParams().size
    hosts = [" ".join(text.split()) for text in docstrings]
    hosts = [cut(text, spans).text for text, spans in zip(hosts, fast(hosts, size, tmp_path), strict=True)]
    long = [number for number, text in enumerate(hosts) if len(overlap.tokenise([text]).start) > 150]
    given_texts, own = list(hosts), list(hosts)
    for number in range(20):
        source, target = sorted(generator.sample(long, 2))
        words = hosts[source].split(" ")
        start = generator.randrange(len(words) - 70)
        quote = " ".join(words[start : start + 70])
        if len(overlap.tokenise([quote]).start) >= 50:
            # a word of its own before it, or the repeat may begin in the host, by chance
            given_texts[target] += f"\n\nplanted{number} {quote}"
            own[target] += f" planted{number}"
    found = fast(given_texts, size, tmp_path)
    for number, (before, after) in enumerate(zip(own, given_texts, strict=True)):
        if before == after:
            assert found[number] == []
        else:
            assert found[number]
            assert words_of(cut(after, found[number]).text) == words_of(before)


def words_of(text):
    one = overlap.tokenise([text])
    return [text[a:b] for a, b in zip(one.start, one.end, strict=True)]


def test_a_text_that_repeats_itself_keeps_the_first_time(tmp_path):
    line = " ".join(f"w{number}" for number in range(60))
    assert cut(f"{line}\n{line} end", fast([f"{line}\n{line} end"], Size(50, 200), tmp_path)[0]).text == f"{line}\nend"
    periodic = "a b " * 200
    (spans,) = fast([periodic], Size(50, 200), tmp_path)
    assert spans == [(4, len(periodic) - 1)]


def test_no_texts_empty_texts_and_many_equal_ones(tmp_path):
    assert fast([], Size(50, 200), tmp_path) == []
    assert fast(["", "\n", "word"], Size(50, 200), tmp_path) == [[], [], []]
    text = " ".join(f"w{number}" for number in range(80))
    found = fast([text] * 3000, Size(50, 200), tmp_path, 1000, memory_mb=1)
    assert found[0] == []
    assert all(spans == [(0, len(text))] for spans in found[1:])
    assert substrings._PARTS == 64
