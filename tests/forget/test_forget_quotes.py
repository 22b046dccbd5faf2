"""Passages of a text in files of every kind, and what is no passage."""

from __future__ import annotations

import html
import json
import sqlite3

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.forget.quotes import Quotes
from lmcore.forget.quoting import blot_in_place, does_quote, write_blotted
from storage.parquet import read_parquet, write_parquet

TEXT = (
    "The lighthouse keeper of Vårdö counts every ship that passes, “even the small ones”,\n"
    "and writes their names into a book that nobody reads & nobody buys <for now>."
)
PASSAGE = "every ship that passes, “even the small ones”,\nand writes their names"


@pytest.fixture(scope="module")
def quotes():
    return Quotes.of([TEXT])


def test_a_passage_is_blotted_letter_by_letter_and_nothing_else(quotes):
    told = f"It said: {PASSAGE} in ink."
    blotted = quotes.blotted(told)
    assert blotted == "It said: xxxxx xxxx xxxx xxxxxx, “xxxx xxx xxxxx xxxx”,\nxxx xxxxxx xxxxx xxxxx in ink."
    assert quotes.blotted(blotted) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "counts every ship that passes, “even the",  # seven words
        "The keeper of the lighthouse counts ships",
    ],
)
def test_fewer_than_eight_words_in_a_row_are_no_passage(quotes, text):
    assert quotes.blotted(text) is None


def test_case_white_space_and_punctuation_do_not_hide_a_passage(quotes):
    blotted = quotes.blotted("every ship that passes - even the small ones!")
    assert blotted == "xxxxx xxxx xxxx xxxxxx - xxxx xxx xxxxx xxxx!"
    assert quotes.blotted(PASSAGE.upper().replace(" ", "\n\t ")) is not None
    assert Quotes.of([TEXT.upper()]).blotted(PASSAGE) is not None


def test_what_other_texts_say_too_is_nobodys_passage(quotes):
    kept = quotes.without(["Elsewhere it says that he counts every ship that passes, “even the small ones” too."])
    assert kept.blotted("counts every ship that passes, “even the small ones” daily") is None
    assert kept.blotted(PASSAGE) is not None, "its own words around it are still a passage"
    assert not quotes.without([TEXT])
    assert quotes.without([]) == quotes


@pytest.mark.parametrize("words", [4, 5, 7])
def test_a_short_text_is_a_passage_as_a_whole(words):
    text = " ".join(TEXT.split()[:words])
    quotes = Quotes.of([text])
    assert quotes.blotted(f"He: {text} yes") is not None
    assert quotes.blotted(" ".join(text.split()[1:])) is None


def test_three_words_are_not_looked_for():
    assert not Quotes.of(["only three words", ""])


@pytest.mark.parametrize(
    "told",
    [
        json.dumps({"text": PASSAGE}),
        json.dumps({"text": PASSAGE}, ensure_ascii=False),
        f"<p>{html.escape(PASSAGE)}</p>",
        f"<pre>{html.escape(PASSAGE).replace('ones', '<b>ones</b>')}</pre>",
        "every ship that passes, &ldquo;even the small ones&#8221;,<br>and writes their names",
    ],
)
def test_escapes_and_tags_are_read_as_what_they_stand_for(quotes, told):
    blotted = quotes.blotted(told)
    assert blotted is not None
    assert len(blotted.encode()) == len(told.encode())
    assert "ship" not in blotted
    assert quotes.blotted(blotted) is None
    if told.startswith("{"):
        assert json.loads(blotted)["text"].startswith("xxxxx xxxx xxxx")


def test_bytes_that_are_no_text_stay_as_they_are(quotes):
    around = bytes(range(256))
    data = around + PASSAGE.encode() + around
    blotted = quotes.blotted_bytes(data)
    assert len(blotted) == len(data)
    assert blotted.startswith(around)
    assert blotted.endswith(around)
    assert quotes.blotted_bytes(blotted) is None


def test_a_passage_between_two_pieces_of_a_large_file_is_found(quotes, tmp_path, monkeypatch):
    monkeypatch.setattr("lmcore.forget.quotes._CHUNK", 4096)
    monkeypatch.setattr("lmcore.forget.quoting._PIECE", 10_000)
    monkeypatch.setattr("lmcore.forget.quoting._OVERLAP", 500)
    path = tmp_path / "run.log"
    for place in (0, 2000, 2040, 4090, 9_900, 9_990, 19_950):
        path.write_text("Árvíz " * (place // 6) + f" {PASSAGE} " + "tűrő " * 3000)
        size = path.stat().st_size
        assert does_quote(path, quotes), place
        blot_in_place(path, quotes)
        assert path.stat().st_size == size
        assert "ship" not in path.read_text()
        assert path.read_text().count("Árvíz") == place // 6
        assert path.read_text().count("tűrő") == 3000
        assert not does_quote(path, quotes)


def test_tables_keep_their_columns(quotes, tmp_path):
    table = pa.table({"step": [1, 2, 3], "text": ["a word", f"so: {PASSAGE}", None], "share": [0.1, 0.2, 0.3]})
    write_parquet(tmp_path / "samples.parquet", table)
    assert does_quote(tmp_path / "samples.parquet", quotes)
    write_blotted(tmp_path / "samples.parquet", tmp_path / "new.parquet", quotes)
    new = read_parquet(tmp_path / "new.parquet")
    assert new.schema == table.schema
    assert new["text"].to_pylist()[0::2] == ["a word", None]
    assert new["text"][1].as_py().startswith("so: xxxxx xxxx")
    assert not does_quote(tmp_path / "new.parquet", quotes)


def test_a_database_keeps_its_rows_and_loses_the_passage_also_from_freed_pages(quotes, tmp_path):
    path = tmp_path / "prefect.db"
    with sqlite3.connect(path) as base:
        base.execute("create table artifact (id text primary key, data json, size integer)")
        base.executemany(
            "insert into artifact values (?, ?, ?)",
            [("a", json.dumps({"markdown": PASSAGE}), 1), ("b", "nothing", 2), ("c", PASSAGE * 500, 3)],
        )
        base.execute("delete from artifact where id = 'c'")
    base.close()
    assert does_quote(path, quotes)
    blot_in_place(path, quotes)
    assert not does_quote(path, quotes)
    assert b"ship that passes" not in path.read_bytes()
    with sqlite3.connect(path) as base:
        rows = base.execute("select * from artifact order by id").fetchall()
    base.close()
    assert [row[0] for row in rows] == ["a", "b"]
    assert json.loads(rows[0][1])["markdown"].startswith("xxxxx")


@settings(max_examples=60, deadline=None)
@given(before=st.text(max_size=60), after=st.text(max_size=60))
def test_wherever_it_stands_it_is_found_and_lengths_stay(before, after):
    quotes = Quotes.of([TEXT])
    told = f"{before} {PASSAGE} {after}"
    blotted = quotes.blotted(told)
    assert blotted is not None
    assert len(blotted) == len(told)
    assert "ship" not in blotted[len(before) + 1 : len(before) + 1 + len(PASSAGE)]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read(data):
    assert Quotes.of([TEXT]).blotted_bytes(data) is None
