"""The document schema: validate() trips on every fault, record ids never collide by rearranging their parts."""

import math
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.documents import (
    CURATED,
    DECISION,
    DOCUMENT,
    KINDS,
    SCHEMA_VERSION,
    iter_texts,
    make_table,
    read_documents,
    record_id,
    validate,
)
from storage.errors import RunError
from storage.parquet import write_parquet


def document(name="a", **changes):
    return {
        "record_id": name, "source": "s", "url": "u", "title": "", "text": "text", "kind": "prose", "lang": "en",
        "license": "CC0-1.0", "license_source": "recipe", "edition": "1", "synthetic": False, "page_of_origin": "u",
        "parent_record": None, "tags": [("genre", "tale")], "turns": None, "meta": "{}", **changes,
    }  # fmt: skip


def curated(name="a", **changes):
    return {
        "record_id": name, "text_id": "t", "text": "text", "n_bytes": 4, "source": "s", "url": "u", "title": "",
        "kind": "prose", "lang": "en", "license": "CC0-1.0", "synthetic": False, "page_of_origin": "u", "turns": None,
        "quality": 50.0, "complexity": 50.0, "cluster_id": name, "cluster_size": 1,
        **changes,
    }  # fmt: skip


def decision(name="a", **changes):
    return {
        "record_id": name, "source": "s", "url": "u", "verdict": "kept", "rule": "kept", "value": None,
        "threshold": None, "other": None, "split": "train", **changes,
    }  # fmt: skip


SCHEMAS = [(DOCUMENT, document), (CURATED, curated), (DECISION, decision)]
NAMES = ["document", "curated", "decision"]
each_schema = pytest.mark.parametrize(("schema", "row"), SCHEMAS, ids=NAMES)


@each_schema
def test_good_rows_pass_and_survive_the_disk(tmp_path, schema, row):
    table = make_table([row("a"), row("b")], schema)
    assert validate(table, schema) is table
    write_parquet(tmp_path / "x.parquet", table)
    assert read_documents(tmp_path / "x.parquet", schema).equals(table)


@each_schema
def test_no_rows_are_valid(schema, row):
    assert make_table([], schema).num_rows == 0


@each_schema
def test_the_fault_names_table_and_schema(schema, row):
    name = NAMES[[s for s, _ in SCHEMAS].index(schema)]
    with pytest.raises(RunError, match=f"^store/x.parquet is not a valid {name} table: ") as caught:
        validate(pa.table({"a": [1]}), schema, "store/x.parquet")
    assert caught.value.mend


@each_schema
def test_every_missing_column_is_named(schema, row):
    table = make_table([row()], schema)
    for column in schema.names:
        with pytest.raises(RunError, match=rf"columns differ \(missing \['{column}'\], extra \[\]\)"):
            validate(table.drop_columns([column]), schema)


@each_schema
def test_an_extra_column_is_named(schema, row):
    table = make_table([row()], schema).append_column("surprise", pa.array([1]))
    with pytest.raises(RunError, match="surprise"):
        validate(table, schema)


@each_schema
def test_another_order_of_columns(schema, row):
    table = make_table([row()], schema)
    with pytest.raises(RunError, match="another order"):
        validate(table.select(schema.names[::-1]).replace_schema_metadata(schema.metadata), schema)


@each_schema
@pytest.mark.parametrize("version", [None, b"0", str(SCHEMA_VERSION + 1).encode(), b"x"])
def test_another_schema_version(schema, row, version):
    metadata = {} if version is None else {b"schema_version": version}
    told = "none" if version is None else version.decode()
    with pytest.raises(RunError, match=f"schema_version {told}, this program reads {SCHEMA_VERSION}"):
        validate(make_table([row()], schema).replace_schema_metadata(metadata), schema)


@each_schema
def test_every_column_of_another_type(schema, row):
    table = make_table([row()], schema)
    for index, field in enumerate(schema):
        wrong = pa.field(field.name, pa.int8())
        other = table.set_column(index, wrong, pa.array([1], pa.int8())).replace_schema_metadata(schema.metadata)
        with pytest.raises(RunError, match=f"column {field.name} is int8, expected {re.escape(str(field.type))}"):
            validate(other, schema)


@each_schema
def test_every_null_where_none_may_be(schema, row):
    for field in schema:
        if field.nullable:
            make_table([row("a"), row("b", **{field.name: None})], schema)
            continue
        with pytest.raises(RunError, match=f"column {field.name} has 1 nulls"):
            make_table([row("a"), row("b", **{field.name: None})], schema)
        missing = row("b")
        del missing[field.name]
        with pytest.raises(RunError, match=f"column {field.name} has 1 nulls"):
            make_table([row("a"), missing], schema)


@each_schema
def test_a_record_id_twice(schema, row):
    with pytest.raises(RunError, match="record_id is not unique"):
        make_table([row("a"), row("b"), row("a")], schema)


@pytest.mark.parametrize(("schema", "row"), SCHEMAS[:2], ids=NAMES[:2])
def test_kinds(schema, row):
    make_table([row(kind, kind=kind) for kind in KINDS], schema)
    for kind in ("poem", "", "Prose"):
        with pytest.raises(RunError, match=f"unknown kind '{kind}'"):
            make_table([row("a"), row("b", kind=kind)], schema)


@pytest.mark.parametrize("score", ["quality", "complexity"])
@pytest.mark.parametrize("value", [-0.01, 100.01, math.nan, math.inf, -math.inf])
def test_scores_out_of_range(score, value):
    with pytest.raises(RunError, match=f"{score} outside 0 to 100"):
        make_table([curated("a"), curated("b", **{score: value}), curated("c")], CURATED)


@pytest.mark.parametrize("value", [0.0, 100.0, 0.01])
def test_scores_in_range(value):
    make_table([curated(quality=value, complexity=value)], CURATED)


@pytest.mark.parametrize(("schema", "row"), SCHEMAS[:2], ids=NAMES[:2])
@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([{"role": "user"}], "a turn has no text"),
        ([{"role": "user", "text": "a"}, {"text": "b"}], "a turn has no role"),
        ([None], "a turn has no role"),
    ],
)
def test_turns_without_a_part(schema, row, turns, fault):
    with pytest.raises(RunError, match=fault):
        make_table([row("a"), row("b", turns=turns)], schema)
    make_table([row("a"), row("b", turns=[]), row("c", turns=[{"role": "user", "text": ""}])], schema)


@pytest.mark.parametrize(
    "changes", [{"text": 5}, {"text": "\ud800"}, {"synthetic": "yes"}, {"turns": "hello"}, {"tags": 3}]
)
def test_a_row_of_another_shape(changes):
    with pytest.raises(RunError, match="does not fit the document schema"):
        make_table([document(**changes)], DOCUMENT)


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "x.parquet"
    write_parquet(file, make_table([document()], DOCUMENT))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunError, match=str(file)):
        read_documents(file)
    write_parquet(file, make_table([decision()], DECISION))
    with pytest.raises(RunError, match=f"{file} is not a valid document table"):
        read_documents(file)


def test_texts_are_streamed_over_files_in_order(tmp_path):
    texts = [f"text {number}" for number in range(2500)]
    files = []
    for start in range(0, 2500, 1250):
        files.append(tmp_path / f"{start}.parquet")
        rows = [document(text, text=text, title=text.upper()) for text in texts[start : start + 1250]]
        write_parquet(files[-1], make_table(rows, DOCUMENT))
    assert list(iter_texts(files)) == texts
    assert list(iter_texts(files, "title")) == [text.upper() for text in texts]


anything = st.text(st.characters(), max_size=20)  # lone surrogates too: locators come from file names


@given(anything, anything, anything)
def test_a_record_id_is_32_hex_digits_and_stable(source, locator, text):
    name = record_id(source, locator, text)
    assert re.fullmatch("[0-9a-f]{32}", name)
    assert name == record_id(source, locator, text)


@given(st.tuples(anything, anything, anything), st.tuples(anything, anything, anything))
def test_different_parts_give_different_ids(one, other):
    assert (record_id(*one) == record_id(*other)) == (one == other)


@given(anything, anything, anything, st.integers(0, 60), st.integers(0, 60))
def test_moving_characters_between_parts_changes_the_id(source, locator, text, first, second):
    joined = source + locator + text
    first, second = sorted((min(first, len(joined)), min(second, len(joined))))
    moved = (joined[:first], joined[first:second], joined[second:])
    assert (record_id(*moved) == record_id(source, locator, text)) == (moved == (source, locator, text))


def test_record_ids_never_change():
    """Every artifact ever collected is named by these: if this fails, do not adapt it."""
    assert record_id("wiki", "https://example.org/a?b=1", "Szép szó.\n") == "127ee289d227880f577344a9640e4601"
