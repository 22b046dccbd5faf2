import contextlib
import itertools
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.documents import CURATED, DOCUMENT
from storage.digest import canonical_json, digest_file, digest_json
from storage.errors import RunError, StorageError
from storage.parquet import (
    ROWS_PER_GROUP,
    batches,
    read_between,
    read_parquet,
    read_rows,
    stream_parquet,
    take_rows,
    write_parquet,
)

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("yes", pa.bool_()),
        pa.field("tags", pa.map_(pa.string(), pa.string())),
        pa.field("turns", pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("text", pa.string())]))),
    ],
    metadata={b"schema_version": b"1"},
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
ROW = st.fixed_dictionaries(
    {
        "id": TEXT,
        "text": st.none() | TEXT,
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(allow_nan=False),
        "yes": st.none() | st.booleans(),
        "tags": st.none() | st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=2),
        "turns": st.none() | st.lists(st.fixed_dictionaries({"role": TEXT, "text": st.none() | TEXT}), max_size=2),
    }
)


def cut(table, places):
    """The same table in chunks that begin at these rows."""
    ends = sorted({place % (table.num_rows + 1) for place in places} | {0, table.num_rows})
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    return pa.concat_tables(pieces) if pieces else table


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=8), places=st.lists(st.integers(0, 100), max_size=4))
def test_equal_tables_give_equal_bytes_however_they_are_chunked(tmp_path_factory, rows, places):
    folder = tmp_path_factory.mktemp("parquet")
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    padded = pa.concat_tables([pa.Table.from_pylist([ROW_BEFORE], schema=SCHEMA), table]).slice(1)
    for number, same in enumerate((table, cut(table, places), padded, padded.combine_chunks())):
        write_parquet(folder / f"{number}.parquet", same)
    digests = {digest_file(path) for path in folder.iterdir()}
    assert len(digests) == 1
    read = read_parquet(folder / "1.parquet")
    assert read.equals(table)
    assert read.schema.metadata == SCHEMA.metadata


ROW_BEFORE = {"id": "before", "text": "x" * 40, "n": 7, "x": 0.5, "yes": True, "tags": [("a", "b")], "turns": []}


def test_a_large_table_is_cut_into_fixed_groups(tmp_path, seed):
    draw = random.Random(seed)
    rows = 2 * ROWS_PER_GROUP + 17
    words = [draw.randbytes(draw.randrange(200)).hex() for _ in range(rows)]  # several pages a group
    table = pa.table({"n": [draw.randrange(9) for _ in range(rows)], "text": words})
    write_parquet(tmp_path / "a.parquet", table)
    write_parquet(tmp_path / "b.parquet", cut(table, [draw.randrange(rows) for _ in range(20)]))
    assert digest_file(tmp_path / "a.parquet") == digest_file(tmp_path / "b.parquet")
    meta = pq.read_metadata(tmp_path / "a.parquet")
    assert [meta.row_group(n).num_rows for n in range(meta.num_row_groups)] == [ROWS_PER_GROUP, ROWS_PER_GROUP, 17]
    streamed = list(batches(tmp_path / "a.parquet", ["n"], rows=999))
    assert max(batch.num_rows for batch in streamed) <= 999
    assert pa.Table.from_batches(streamed)["n"].to_pylist() == table["n"].to_pylist()


def test_a_stream_of_tables_gives_the_bytes_of_the_whole(tmp_path, seed):
    pick = random.Random(seed)
    schema = pa.schema([pa.field("n", pa.uint64(), nullable=False)], metadata={b"of": b"numbers"})
    for rows in (0, 1, ROWS_PER_GROUP, 3 * ROWS_PER_GROUP + 17):
        table = pa.table({"n": [pick.randrange(2**64) for _ in range(rows)]}, schema=schema)
        ends = sorted({0, rows, *(pick.randint(0, rows) for _ in range(5))})
        write_parquet(tmp_path / "whole", table)
        stream_parquet(tmp_path / "cut", schema, (table.slice(a, b - a) for a, b in itertools.pairwise(ends)))
        assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes(), rows


def test_the_groups_between_two_values_hold_every_row_between_them(tmp_path, seed):
    pick = random.Random(seed)
    values = sorted(pick.randrange(2**64) for _ in range(5_000))
    write_parquet(tmp_path / "t", pa.table({"n": pa.array(values, pa.uint64())}), rows_per_group=100)
    for _ in range(20):
        low, last = sorted((pick.randrange(2**64), pick.randrange(2**64)))
        found = read_between(tmp_path / "t", "n", low, last, ["n"])["n"].to_pylist()
        between = [value for value in values if low <= value <= last]
        assert [value for value in found if low <= value <= last] == between
        assert len(found) <= len(between) + 200
    with pytest.raises(RunError, match="no column m"):
        read_between(tmp_path / "t", "m", 0, 1, ["n"])
    with pytest.raises(RunError, match="nothing"):
        read_between(tmp_path / "nothing", "n", 0, 1, ["n"])


@pytest.mark.parametrize("schema", [DOCUMENT, CURATED], ids=["document", "curated"])
def test_an_empty_table_keeps_its_schema(tmp_path, schema):
    write_parquet(tmp_path / "empty.parquet", schema.empty_table())
    read = read_parquet(tmp_path / "empty.parquet").schema
    assert read.equals(schema)
    assert read.metadata == schema.metadata
    assert sum(batch.num_rows for batch in batches(tmp_path / "empty.parquet")) == 0


@pytest.fixture
def written(tmp_path, seed):
    draw = random.Random(seed)
    path = tmp_path / "texts.parquet"
    write_parquet(path, pa.table({"text": [draw.randbytes(60).hex() for _ in range(500)], "n": list(range(500))}))
    return path


@pytest.mark.parametrize("keep", [0, 3, 4, 100, 0.3, 0.9, -1, -8])
def test_a_truncated_file_is_named(written, keep):
    data = written.read_bytes()
    written.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    for read in (read_parquet, lambda path: list(batches(path))):
        with pytest.raises(RunError) as error:
            read(written)
        assert str(written) in error.value.what
        assert "\n" not in error.value.what
        assert "verify" in error.value.mend


@pytest.mark.parametrize(
    "wrong", [b"PAR1", b"not parquet at all" * 9, b"PAR1" + b"\0" * 50 + b"PAR1", b"\x1f\x8b" * 40]
)
def test_what_is_no_parquet_is_named(tmp_path, wrong):
    (tmp_path / "x.parquet").write_bytes(wrong)
    for read in (read_parquet, lambda path: list(batches(path))):
        with pytest.raises(RunError, match=r"x\.parquet"):
            read(tmp_path / "x.parquet")


def test_a_missing_file_is_named(tmp_path):
    for read in (read_parquet, lambda path: list(batches(path))):
        with pytest.raises(RunError, match=r"gone\.parquet"):
            read(tmp_path / "gone.parquet")


def test_damaged_bytes_are_an_error_of_ours_or_no_error(written, seed):
    draw = random.Random(seed)
    whole = written.read_bytes()
    readable = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 4, 64])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        written.write_bytes(data)
        for read in (read_parquet, lambda path: list(batches(path))):
            with contextlib.suppress(RunError):
                read(written)
                readable += 1
    assert readable < 280


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "parquet.write=enospc")
    monkeypatch.setattr("storage.atomic._reached", Counter())
    with pytest.raises(StorageError, match=rf"disk full while writing {tmp_path}/deep/x\.parquet"):
        write_parquet(tmp_path / "deep" / "x.parquet", pa.table({"a": [1]}))


def test_canonical_json_has_one_spelling_of_a_value():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1}) != digest_json({"a": 1, "b": 2.5})
    assert digest_json({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            digest_json([wrong])


def test_some_rows_are_read_group_by_group_and_in_any_order(tmp_path):
    table = pa.table({"a": list(range(1000)), "b": [str(n) for n in range(1000)]})
    write_parquet(tmp_path / "f.parquet", table, 100)
    rows = np.array([999, 3, 205, 207, 4, 650])
    assert take_rows(tmp_path / "f.parquet", rows, ["b"])["b"].to_pylist() == ["999", "3", "205", "207", "4", "650"]
    found = [part["a"].to_pylist() for part in read_rows(tmp_path / "f.parquet", np.sort(rows), ["a"], 0)]
    assert found == [[3, 4], [205, 207], [650], [999]]
    together = [part["a"].to_pylist() for part in read_rows(tmp_path / "f.parquet", np.sort(rows), ["a"], 1 << 20)]
    assert together == [[3, 4, 205, 207, 650, 999]]
    with pytest.raises(RunError, match="there is no column c"):
        list(read_rows(tmp_path / "f.parquet", rows[:0], ["c"], 0))
