"""Files and answers of the Hub that are made to break the reading: bombs, damage, charsets."""

import csv
import io
import re
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_collect import run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_collect_hub import NAME, hub, source  # noqa: F401 - the fixture

from lmcore.collect import file_formats
from lmcore.collect.charset import clean, decode
from lmcore.collect.hub_files import split_files
from lmcore.collect.hub_rows import count_rows, rows_of
from lmcore.collect.params import FilesSource
from lmcore.collect.unpack import Member, Unreadable
from storage.errors import RunError, UserError

CAP = 5_000_000


@pytest.fixture
def bomb(tmp_path):
    """500 rows that are one text of a megabyte, in some hundred bytes."""
    path = tmp_path / "bomb.parquet"
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd", dictionary_pagesize_limit=10_000_000) as writer:
        writer.write_table(pa.table({"text": ["a" * 1_000_000] * 500}))
    facts = pq.read_metadata(path).row_group(0)
    assert path.stat().st_size < 1000
    assert facts.total_byte_size < CAP
    return Member(path.name, path)


def test_a_dictionary_that_is_repeated_is_counted(bomb):
    with pytest.raises(Unreadable, match="too_large: more than 5,000,000 bytes unpacked"):
        list(rows_of(bomb, CAP))
    params = FilesSource(name="f", paths=("x",), max_bytes=CAP)
    with pytest.raises(Unreadable, match="too_large"):
        next(iter(file_formats.FORMATS[".parquet"](bomb, params)))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_parquet_gives_rows_or_a_reason(tmp_path, changes):
    packed = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two", "three"] * 5}), packed)
    data = bytearray(packed.getvalue())
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    for read in (lambda member: list(rows_of(member, CAP)), lambda member: count_rows(member, CAP)):
        try:
            read(Member("a.parquet", path))
        except Unreadable as error:
            if error.outcome not in ("damaged", "too_large"):
                raise


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet='ab\r\n\0,"é\x85\u2028中', max_size=60),
    charset=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "gb18030"]),
)
@example(text="", charset="utf-8")
@example(text="a\r\nb\r", charset="utf-16")
def test_line_by_line_is_the_same_as_the_whole(tmp_path, text, charset):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(charset, "replace"))
    whole = clean(decode(path.read_bytes()).text)
    assert [row["text"] for _, row, _ in rows_of(Member("a.txt", path), CAP)] == whole.split("\n")
    found = [row for _, row, problem in rows_of(Member("a.csv", path), CAP) if not problem]
    try:
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    except csv.Error:
        return
    assert found == [{str(name): cell for name, cell in row.items()} for row in rows]


def test_a_text_file_is_not_read_whole(tmp_path):
    (tmp_path / "a.txt").write_bytes((b"word " * 12 + b"\n") * 500_000)
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom lmcore.collect.hub_rows import rows_of\n"
        "from lmcore.collect.unpack import Member\n"
        "kib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = kib(); rows = sum(1 for _ in rows_of(Member('a.txt', Path(sys.argv[1])), 10**9))\n"
        "print(rows, kib() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.txt")]
    rows, kib = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert rows == 500_001
    assert kib < 15_000


def test_an_answer_that_is_not_the_hubs(hub, tmp_path):  # noqa: F811
    hub.commit(NAME, {"train.txt": b"A text.\n"})
    info, _ = hub.commits[NAME, "main"]
    info["siblings"][0]["lfs"] = "a string"
    with pytest.raises(RunError, match=r"says of train\.txt of mills/stories is not what its interface gives"):
        run(tmp_path, source())
    del info["siblings"][0]["lfs"]
    assert run(tmp_path, source())["records"] == 1  # the answer was not kept


def matches(pattern, name):
    """What `data_files` with this pattern takes of a repository of this one file."""
    card = {"configs": [{"config_name": "default", "data_files": pattern}]}
    try:
        return split_files("d", [name], card, "", "train") == [name]
    except UserError:
        return False


def expression(pattern):
    """A glob as a regular expression: the same by other means, for patterns of few stars."""
    table = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(table.get(part) or re.escape(part) for part in re.findall(r"\*\*/|\*\*|.", pattern))


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?"]), max_size=6).map("".join),
    st.text("ab/", max_size=8),
)
@example("**/x", "abx")
def test_patterns_of_a_card(pattern, name):
    name = "/".join(part for part in name.split("/") if part) + "x.txt"
    wanted = re.fullmatch(expression(pattern + "x.txt"), name) is not None
    assert matches(pattern + "x.txt", name) == wanted


@pytest.mark.parametrize("pattern", ["**/" * 40 + "z.txt", "*a" * 40 + "z.txt", "**a" * 40 + "z.txt"])
def test_a_pattern_of_many_stars(pattern):
    begin = time.process_time()
    assert not matches(pattern, "a/" * 60 + "a" * 200 + ".txt")
    assert time.process_time() - begin < 2
