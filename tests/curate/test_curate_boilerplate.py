"""Lines that stand in many texts: against counting by hand, and whatever the cut and order of shards."""

import random
import tracemalloc
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate import boilerplate as room
from lmcore.curate import pieces as cutting
from lmcore.curate.boilerplate import LINES, boilerplate_share, line_table, without_lines
from lmcore.curate.line_counts import boilerplate_lines
from lmcore.curate.sketches import sketches
from lmcore.curate.words import split
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

MENU = "Home | About | Contact | Imprint"

line = st.sampled_from(
    [
        MENU,
        "  home | about | CONTACT | imprint ",
        "short",
        "",
        "a b c d",
        "one two three four",
        "一二三四五六七八九十",
        "ሰላም፡ለሁሉ፡ሰዎች፡ዛሬ",
    ]
)
text = st.lists(line, max_size=7).map("\n".join)


def counted(row):
    """The line as it is compared, or None where it is too short."""
    bare = row.strip(" \t\u3000፡").lower()
    words = len(split([row]).word_start)
    return bare if len(bare) >= 20 or (len(bare) >= 10 and words >= 4) else None


def lines_of(texts, least):
    """Hashes of lines with at least `least` different sketches, one text at a time."""
    seen = defaultdict(set)
    for text, sketch in zip(texts, (sketches(texts) >> np.uint64(32)).tolist(), strict=True):
        for row in text.split("\n"):
            if counted(row):
                seen[counted(row)].add(sketch)
    rows = [row for row, found in seen.items() if len(found) >= least]
    return np.unique(split(["\n".join(rows)]).line_hash) if rows else np.zeros(0, np.uint64)


def write(folder, name, texts):
    write_parquet(folder / name, line_table(texts))
    return folder / name


@pytest.fixture
def pages(docstrings):
    """Forty different pages under one menu."""
    return [f"{MENU}\n\n{text}" for text in docstrings[:40]]


def ask(tmp_path, new, known=(), least=10):
    return boilerplate_lines(new, known, min_documents=least, memory_mb=50)


def test_a_menu_is_boilerplate_and_what_a_page_says_is_not(tmp_path, pages):
    lines = ask(tmp_path, [write(tmp_path, "a.parquet", pages)])
    assert lines.tolist() == split([MENU]).line_hash.tolist()
    share = boilerplate_share([*pages, MENU.upper(), "", "nothing of the kind"], lines)
    assert (share[:40] > 0).all()
    assert (share[:40] < 0.5).all()
    assert share[40:].tolist() == [1.0, 0.0, 0.0]


def test_copies_count_once_wherever_they_are(tmp_path, pages):
    files = [write(tmp_path, f"{i}.parquet", [pages[0]] * 20) for i in range(15)]
    assert not len(ask(tmp_path, files))
    near = [pages[0] + f"\n\nVisited {i} times" for i in range(30)]  # differ in two runs of words only
    assert not len(ask(tmp_path, [write(tmp_path, "near.parquet", near)]))


def test_lines_of_the_new_are_counted_over_old_and_new(tmp_path, pages):
    old = write(tmp_path, "old.parquet", pages[:9] + ["Subscribe to our weekly letter\n" + page for page in pages[20:]])
    assert len(ask(tmp_path, [write(tmp_path, "new.parquet", pages[10:11])], [old])) == 1
    assert not len(ask(tmp_path, [], [old]))
    assert not len(ask(tmp_path, [write(tmp_path, "empty.parquet", [])], [old]))


def tables(folder, name, files, rows, pick):
    """Line tables made up: half of the rows are of 500 lines that come again and again."""
    for number in range(files):
        every = pick.integers(0, 2**64 - 1, rows, dtype=np.uint64)
        every[::2] = pick.integers(0, 500, len(every[::2]), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        texts = pick.integers(0, 40 * files, rows, dtype=np.uint32)
        table = pa.table({"line": every, "text": texts}, schema=LINES)
        table = table.group_by(LINES.names).aggregate([]).sort_by([(name, "ascending") for name in LINES.names])
        write_parquet(folder / f"{name}-{number}.parquet", table.cast(LINES))
        yield folder / f"{name}-{number}.parquet"


def test_memory_decides_nothing(tmp_path, seed):
    pick = np.random.default_rng(seed)
    new, known = list(tables(tmp_path, "new", 3, 2_000, pick)), list(tables(tmp_path, "known", 9, 2_000, pick))
    seen = defaultdict(set)
    for file in (*new, *known):
        for row in read_parquet(file).to_pylist():
            seen[row["line"]].add(row["text"])
    fresh = {line for file in new for line in read_parquet(file)["line"].to_pylist()}
    expected = sorted(line for line in fresh if len(seen[line]) >= 12)
    assert 50 < len(expected) < 500
    for memory in (50, 0):  # 0: 64 KiB, so slices, and more known rows than a slice should hold
        assert boilerplate_lines(new, known, min_documents=12, memory_mb=memory).tolist() == expected


def test_memory_does_not_grow_with_the_tables(tmp_path, seed):
    files = list(tables(tmp_path, "new", 40, 5_000, np.random.default_rng(seed)))
    most = []
    for some in (files[:10], files):
        tracemalloc.start()
        boilerplate_lines(some, [], memory_mb=1)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < 1.2 * most[0] < 1 << 20, most


def test_any_cut_and_order_gives_the_same_lines_and_the_same_bytes(tmp_path, pages, seed):
    pick = random.Random(seed)
    whole = ask(tmp_path, [write(tmp_path, "whole.parquet", pages)])
    pick.shuffle(pages)
    cut = sorted(pick.sample(range(1, 40), 3))
    parts = [pages[a:b] for a, b in zip([0, *cut], [*cut, 40], strict=True)]
    assert (
        ask(tmp_path, [write(tmp_path, f"p{i}.parquet", part) for i, part in enumerate(parts)]).tolist()
        == whole.tolist()
    )
    assert line_table(pages).equals(line_table(pages[::-1]))


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(text, max_size=10), least=st.integers(1, 3))
def test_against_counting_by_hand(tmp_path_factory, texts, least):
    folder = tmp_path_factory.mktemp("hand")
    found = boilerplate_lines([write(folder, "x", texts)], [], min_documents=least, memory_mb=0)
    expected = lines_of(texts, least)
    assert found.tolist() == expected.tolist()
    named = set(expected.tolist())
    for text, share in zip(texts, boilerplate_share(texts, found).tolist(), strict=True):
        rows = [row.strip(" \t\u3000፡") for row in text.split("\n")]
        inside = sum(len(row) for row in rows if counted(row) and int(split([row]).line_hash[0]) in named)
        assert share == pytest.approx(inside / max(1, sum(map(len, rows))), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(text, max_size=6), least=st.integers(1, 2))
def test_removing_takes_every_such_line_and_no_other(texts, least):
    lines = lines_of(texts, least)
    named = set(lines.tolist())
    left = without_lines(texts, lines)
    assert not boilerplate_share(left, lines).any()
    assert without_lines(left, lines) == left
    for before, after in zip(texts, left, strict=True):
        kept = [row for row in before.split("\n") if row.strip(" ፡") and int(split([row]).line_hash[0]) not in named]
        kept += [row for row in before.split("\n") if not counted(row) and row and row not in kept]
        assert sorted(filter(None, after.split("\n"))) == sorted(row for row in before.split("\n") if row in kept)


def test_an_emptied_paragraph_goes_with_its_blank_lines(tmp_path):
    lines = split([MENU]).line_hash
    assert without_lines([f"one\n\n{MENU}\n{MENU}\n\ntwo\n{MENU}\n\n\nthree"], lines) == ["one\n\ntwo\n\n\nthree"]
    assert without_lines([f"{MENU}\n\none\n\n{MENU}", MENU, "", "x\n\n"], lines) == ["one", "", "", "x\n\n"]


def test_a_text_longer_than_a_batch_is_handled_in_pieces(monkeypatch, pages):
    long = "\n".join(pages)
    lines = split([MENU]).line_hash
    share, left, table = boilerplate_share([long, MENU], lines), without_lines([long, MENU], lines), line_table([long])
    small = lambda texts: cutting.pieces(texts, 3000)  # noqa: E731
    monkeypatch.setattr(room, "pieces", small)
    assert boilerplate_share([long, MENU], lines).tolist() == share.tolist()
    assert without_lines([long, MENU], lines) == left
    assert line_table([long])["line"].equals(table["line"])
    assert "".join(piece for _, batch in small([long, MENU]) for piece in batch) == long + MENU


def test_damage_and_want_of_memory_are_named(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(RunError, match=r"bad\.parquet"):
        ask(tmp_path, [tmp_path / "bad.parquet"])
