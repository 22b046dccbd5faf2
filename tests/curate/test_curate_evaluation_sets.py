"""Evaluation sets in every format, and every way in which a file can be wrong."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.curate.evaluation_sets import SUFFIXES, EvaluationSet, read_set, read_sets
from storage.errors import RunError, UserError

ROWS = [
    {"question": "Who, or what?", "answers": {"text": ["Ann", "Bo\nB"], "start": [1, 2]}, "id": "q1"},
    {"question": "ሰላም “ő” 日本", "answers": {"text": [], "start": []}, "id": "q2"},
]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = io.StringIO(newline="")
        rows = [list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]
        if path.suffix == ".tsv":
            path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
        else:
            csv.writer(text).writerows(rows)
            path.write_text("\ufeff" + text.getvalue(), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_nested_fields(suffix, tmp_path):
    path = write(tmp_path / f"set{suffix}", ROWS)
    assert list(read_set(path, ["question", "answers.text"])) == [
        ("1", "Who, or what?"),
        ("1", "Ann"),
        ("1", "Bo\nB"),
        ("2", "ሰላም “ő” 日本"),
    ]
    assert list(read_set(path)) == [
        *(("1", text) for text in ("Who, or what?", "Ann", "Bo\nB", "q1")),
        *(("2", text) for text in ("ሰላም “ő” 日本", "q2")),
    ]


def test_lists_of_objects_names_with_dots_and_nulls(tmp_path):
    rows = [{"choices": [{"text": "a"}, {"text": None}, {"other": "x"}], "a.b": "dotted"}, {"choices": None}]
    path = write(tmp_path / "set.jsonl", rows)
    assert list(read_set(path, ["choices.text", "a.b"])) == [("1", "a"), ("1", "dotted")]


flat = st.lists(
    st.fixed_dictionaries(
        {"question": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), "b": st.just("x")}
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rows=flat)
def test_every_format_gives_the_same_texts(rows, tmp_path):
    expected = [(str(row), value["question"]) for row, value in enumerate(rows, 1) if value["question"].strip()]
    for suffix in (".jsonl", ".json", ".csv", ".parquet"):
        path = write(tmp_path / f"set{suffix}", rows)
        if expected:
            assert list(read_set(path, ["question"])) == expected
        else:
            with pytest.raises(RunError, match="has no text in question"):
                list(read_set(path, ["question"]))


def test_tables_of_other_delimiters(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text('question;answer\n"a; b";c\n')
    assert list(read_set(path, ["question"])) == [("1", "a; b")]
    path = tmp_path / "set.tsv"
    path.write_text('question\tanswer\nthe "word\tc\n')
    assert list(read_set(path)) == [("1", 'the "word'), ("1", "c")]


def test_plain_text_is_cut_at_empty_lines(tmp_path):
    path = tmp_path / "set.txt"
    path.write_bytes(b"\n\none\r\ntwo\r\n  \r\nthree\n\n\n")
    assert list(read_set(path, ["whatever"])) == [("1", "one\ntwo"), ("2", "three")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_there_a_folder_and_an_empty_one(suffix, tmp_path):
    with pytest.raises(RunError, match=f"set{suffix}: there is no such file"):
        list(read_set(tmp_path / f"set{suffix}"))
    (tmp_path / f"set{suffix}").mkdir()
    with pytest.raises(RunError, match="no such file"):
        list(read_set(tmp_path / f"set{suffix}"))
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    with pytest.raises(RunError, match=f"empty{suffix}"):
        list(read_set(tmp_path / f"empty{suffix}"))


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"'\.xls'[^ß]*\.parquet"):
        list(read_set(tmp_path / "set.xls"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_field_that_is_in_no_row_names_the_nearest(suffix, tmp_path):
    path = write(tmp_path / f"set{suffix}", [{"question": "a b", "answer": "c"}])
    with pytest.raises(
        RunError, match=r"no field questoin in any row; there are question, answer\n.*did you mean question"
    ):
        list(read_set(path, ["questoin"]))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("set.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n', "row 2 is not UTF-8"),
        ("set.jsonl", b'{"a": "x"}\n{"a": \n', "row 2 is not JSON"),
        ("set.jsonl", b'"a"\n', "row 1 is not a JSON object"),
        ("set.json", b'[{"a": "x"}, {"a": ', "not JSON"),
        ("set.json", b'["x"]', "row 1 is not a JSON object"),
        ("set.csv", b"a,b\nx,y\n\xff,z\n", "not UTF-8: byte 8 in line 3"),
        ("set.csv", b'a,b\nx,"y\n', "row 1 has a quote that is never closed"),
        ("set.csv", b"a,b\nx,y,z\n", "row 1 has 3 fields and the first row 2 names"),
        ("set.txt", b"one\n\n\xc3\x28", "not UTF-8: byte 5 in line 3"),
        ("set.parquet", b"PAR1 something else PAR1", "set.parquet"),
    ],
)
def test_damage_is_an_error_that_says_where(name, data, reason, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RunError, match=reason):
        list(read_set(tmp_path / name))


def test_a_truncated_parquet_file_is_an_error(tmp_path):
    path = write(tmp_path / "set.parquet", [{"question": f"question {number}"} for number in range(5000)])
    data = path.read_bytes()
    for keep in (len(data) // 2, len(data) - 1, 3):
        path.write_bytes(data[:keep])
        with pytest.raises(RunError, match=r"set\.parquet"):
            list(read_set(path))
    path.write_bytes(data[:50] + bytes(200) + data[250:])
    with pytest.raises(RunError, match=r"set\.parquet"):
        list(read_set(path))


def test_sets_follow_each_other_under_their_names(tmp_path):
    one = write(tmp_path / "one.jsonl", [{"question": "a", "answer": "b"}])
    two = write(tmp_path / "two.csv", [{"text": "c"}])
    sets = [EvaluationSet(name="x", path=str(one), fields=["answer"]), EvaluationSet(name="y", path=str(two))]
    assert list(read_sets(sets)) == [("x", "1", "b"), ("y", "1", "c")]
