"""Strange, damaged and extreme input through all three stages: a verdict with its reason, or one clear error."""

import base64
import importlib
import json
import random
import resource
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from three_stages import Curated, curate_folders

from lmcore.curate.compare import compare_measured
from lmcore.curate.gates import GatesParams
from lmcore.curate.measure import bands_file, lines_file
from lmcore.curate.normalise import normalise
from lmcore.curate.params import CompareParams, CompareRuntime, CurateParams
from lmcore.curate.rules import packaged_rules
from lmcore.curate.signals import SIGNALS, signals
from lmcore.documents import CURATED, DECISION, DOCUMENT, SPLITS, make_table, read_documents
from lmcore.progress import silent
from storage import atomic
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet

OPEN = dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}
ALL_ON = {"gates": OPEN, "boilerplate": {"remove": True}, "substrings": {"enabled": True}, "split": {"val": 0.2}}


def told(out):
    return {row["url"]: row for row in read_documents(out / "decisions.parquet", DECISION).to_pylist()}


def rewritten(file, change):
    write_parquet(file, change(read_parquet(file)))


def without(column):
    return lambda table: table.drop_columns([column])


def bad_bytes(column):
    """A change of a table: the first value of a column becomes bytes that are no UTF-8."""

    def change(table):
        values = [b"\xff\xfe\xfa", *(value.encode() for value in table[column].to_pylist()[1:])]
        sizes = [0]
        for value in values:
            sizes.append(sizes[-1] + len(value))
        packed = [None, pa.py_buffer(struct.pack(f"<{len(sizes)}i", *sizes)), pa.py_buffer(b"".join(values))]
        array = pa.StringArray.from_buffers(len(values), packed[1], packed[2])
        return table.set_column(table.schema.get_field_index(column), table.schema.field(column), array)

    return change


@dataclass
class Three:
    """What the three stages left of one collection."""

    root: Path
    folder: Path
    made: Curated

    @property
    def measured(self):
        return next((self.made.measures[str(self.folder)] / "measured").glob("*.parquet"))

    @property
    def compare(self):
        return self.made.compares[0]

    def again(self):
        params = CurateParams.model_validate(ALL_ON)
        return curate_folders(self.root / "again", [self.folder], before=self.made, params=params)

    def compare_again(self):
        new = [self.made.measures[str(self.folder)]]
        at = self.root / "compare-again"
        compare_measured(at, new, [], [], params=CompareParams(), runtime=CompareRuntime(), report=silent)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pages, collected, content):
    """A collection of real pages, what undisturbed stages leave of it, and the digests of the corpus."""
    root = tmp_path_factory.mktemp("whole")
    folder = collected(root / "collected", pages[:60], files=2)
    made = curate_folders(root / "work", [folder], params=CurateParams.model_validate(ALL_ON))
    return Three(root, folder, made), content(made.out)


@pytest.fixture
def three(tmp_path, whole):
    """A copy of all that, to be damaged."""
    before, _ = whole
    root = tmp_path / "three"
    shutil.copytree(before.root, root)

    def moved(path):
        return root / path.relative_to(before.root)

    folder = moved(before.folder)
    measures = {str(folder): moved(before.made.measures[str(before.folder)])}
    made = Curated(moved(before.made.out), {}, measures, [moved(path) for path in before.made.compares])
    return Three(root, folder, made)


# texts


def test_nothing_and_next_to_nothing(tmp_path, row, collected, run_curate, docstrings):
    texts = ["", " \n\t ", "x", "።", "\u0301", "\ufeff", docstrings[0]]
    rows = [row(text, f"u{number}") for number, text in enumerate(texts)]
    out, metrics = run_curate([collected(tmp_path / "in", rows)], **ALL_ON)
    assert metrics["input_documents"] == len(texts)
    verdicts = told(out)
    for number in range(len(texts) - 1):
        rule, value, limit = (verdicts[f"u{number}"][name] for name in ("rule", "value", "threshold"))
        assert (rule, value, limit) in {("empty", 0, 1), ("min_words", 1, 50)}, number
    assert [verdicts[f"u{number}"]["rule"] for number in (0, 1, 2)] == ["empty", "empty", "min_words"]
    assert verdicts[f"u{len(texts) - 1}"]["verdict"] == "kept"


def test_nothing_and_next_to_nothing_kept_when_nobody_minds(tmp_path, row, collected, run_curate):
    """Without rules empty texts are equal texts, and what is left goes through every later step."""
    texts = ["", " \n\t ", "x", "y", "።"]
    rows = [row(text, f"u{number}", kind="chat") for number, text in enumerate(texts)]
    out, _ = run_curate([collected(tmp_path / "in", rows)], **ALL_ON)
    verdicts = told(out)
    assert [verdicts[f"u{number}"]["rule"] for number in range(len(texts))] == ["empty"] * 2 + ["kept"] * 3


def test_text_without_spaces(tmp_path, row, collected, run_curate, docstrings, seed):
    rng = random.Random(seed)
    texts = {
        "line": "x" * 100_000,
        "base64": base64.b64encode(rng.randbytes(75_000)).decode(),
        "chinese": "".join(chr(rng.randrange(0x4E00, 0x9FA0)) for _ in range(100_000)),
        "hex": rng.randbytes(50_000).hex(),
        "mail": "a@" * 50_000,
        "url": "http://a/" + "b/" * 50_000,
        "dots": "." * 100_000,
        "quotes": "„“" * 50_000,
    }
    rows = [row(text, name) for name, text in (texts | {"prose": docstrings[0]}).items()]
    out, _ = run_curate([collected(tmp_path / "in", rows)], **ALL_ON)
    verdicts = told(out)
    for name in set(texts) - {"chinese"}:
        assert (verdicts[name]["verdict"], verdicts[name]["rule"]) == ("dropped", "min_words"), name
    assert verdicts["chinese"]["verdict"] == "dropped", "no sentence in 100,000 characters"
    assert verdicts["chinese"]["rule"] not in ("min_words", "exact_duplicate")
    out, _ = run_curate([tmp_path / "in"], **ALL_ON | {"substrings": {}}, rules={"off": house()})
    assert {name: row["rule"] for name, row in told(out).items()} == dict.fromkeys(verdicts, "kept")
    kept = {row["url"]: row["text"] for row in curated(out)}
    assert kept["line"] == texts["line"]
    assert kept["chinese"] == texts["chinese"]


def house():
    return [rule.name for rule in packaged_rules()]


def curated(out):
    for name in SPLITS:
        for file in sorted((out / name).glob("*.parquet")):
            yield from read_documents(file, CURATED).to_pylist()


def test_ten_thousand_copies(tmp_path, row, collected, run_curate, docstrings):
    text = next(text for text in docstrings if text.count(" ") < 90)
    off = [rule for rule in house() if rule != "empty"]
    rows = [row(text, f"u{number:05d}") for number in range(10_000)]
    out, metrics = run_curate(
        [collected(tmp_path / "in", rows, files=3)], decontaminate={"enabled": False}, rules={"off": off}
    )
    (kept,) = curated(out)
    assert kept["cluster_size"] == metrics["input_documents"] == 10_000
    assert kept["record_id"] == min(r["record_id"] for r in rows)
    others = [told_row for told_row in told(out).values() if told_row["verdict"] == "dropped"]
    assert len(others) == 9_999
    assert {r["other"] for r in others} == {kept["record_id"]}
    assert {r["rule"] for r in others} <= {"exact_duplicate", "held_out_duplicate"}


def test_a_giant_text_is_measured_in_pieces(monkeypatch, docstrings):
    """What is counted or a share of something counted is as of the whole; repeats are seen within a piece."""
    text = "\n\n".join(docstrings)
    (whole,) = [{name: float(column[0]) for name, column in signals([text], ["en"], ["prose"]).items()}]
    monkeypatch.setattr("lmcore.curate.signals.GIANT_CHARS", 30_000)
    monkeypatch.setattr("lmcore.curate.signals._BATCH_CHARS", 30_000)
    small = docstrings[3]
    found = signals([small, text, small], ["en"] * 3, ["prose"] * 3)
    alone = signals([small], ["en"], ["prose"])
    assert list(found) == list(SIGNALS)
    assert all(column[0] == column[2] == alone[name][0] for name, column in found.items())
    for name in ("n_chars", "n_words", "n_lines", "max_word_length", "long_line_count", "compression_ratio"):
        assert found[name][1] == whole[name], name
    exact = [
        "mean_word_length", "alpha_word_share", "short_line_share", "punctuation_line_share", "symbol_share",
        "digit_share", "bullet_line_share", "stop_word_share", "hash_word_ratio", "whitespace_share",
        "parenthesis_share", "upper_word_share", "url_share", "speaker_line_share", "code_line_share",
        "curly_bracket_share",
    ]  # fmt: skip
    for name in exact:
        assert found[name][1] == pytest.approx(whole[name], abs=2e-6), name
    for name in ("latin_share", "upper_letter_share", "mean_sentence_words", "newline_word_ratio", "question_share"):
        assert found[name][1] == pytest.approx(whole[name], rel=0.05, abs=1e-3), name
    assert found["unique_word_ratio"][1] > whole["unique_word_ratio"], "words come again in other pieces"


GIANT = f"""
import random, resource, sys, time
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
from three_stages import Curated, curate_folders
from lmcore.curate.params import CurateParams
root, rules = Path(sys.argv[1]), [name for name in sys.argv[2].split(",") if name]
start = time.process_time()
curate_folders(root / "work", [root], params=CurateParams.model_validate({ALL_ON!r} | {{"rules": {{"off": rules}}}}))
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def giant(size, seed):
    """So many characters of Python's own documentation, sentences dealt at random."""
    words = "\n\n".join(importlib.import_module("pydoc_data.topics").topics.values()).split(" ")
    rng = random.Random(seed)
    pieces, total = [], 0
    while total < size:
        at = rng.randrange(len(words) - 40)
        pieces.append(" ".join(words[at : at + rng.randrange(5, 40)]))
        total += len(pieces[-1]) + 1
    return "\n".join(pieces)[:size]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_one_giant_document(tmp_path, row, collected, docstrings, seed):
    """100 MB: dropped by a named rule, kept where that rule is off; under 4 GB, and time goes with the size."""
    seconds = {}
    for size, rules in ((10_000_000, ""), (100_000_000, "max_words")):
        root = tmp_path / str(size)
        rows = [row(giant(size, seed), "giant"), *(row(text, f"u{n}") for n, text in enumerate(docstrings[:30]))]
        collected(root, rows)
        command = [sys.executable, "-c", GIANT, str(root), rules]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert ran.returncode == 0, ran.stderr
        seconds[size], most = map(float, ran.stdout.split())
        verdict = told(root / "work" / "curate" / "out")["giant"]
        print(f"{size:,} characters: {seconds[size]:.1f} CPU s, {most:,.0f} MiB, {verdict}")
        assert most < 4096
        if rules:
            assert verdict["rule"] != "max_words"
            assert verdict["verdict"] == "kept" or verdict["threshold"] is not None
        else:
            assert verdict["rule"] == "max_words"
    assert seconds[100_000_000] < 14 * seconds[10_000_000], "ten times the text, about ten times the work"


@pytest.mark.slow
def test_a_million_documents_of_one_word(tmp_path, row, collected, run_curate):
    """Nothing is kept, and that is told in one line; every decision is there."""
    most_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 1_000_000
    rows = [row(f"word{number % 1000}", f"u{number}") for number in range(count)]
    folder = collected(tmp_path / "in", rows, files=20)
    del rows
    work = tmp_path / "work"
    with pytest.raises(RunError, match=f"nothing is kept of {count:,} records; min_words drops most, {count:,}"):
        run_curate([folder], work=work)
    rules = json.loads((work / "curate" / "out" / "stats.json").read_text())["rules"]
    assert rules["min_words"] == count
    assert read_parquet(work / "curate" / "out" / "decisions.parquet", ["rule"]).num_rows == count
    print(
        f"most memory {most_before >> 10} MiB before, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} after"
    )


# what is no text


def test_a_lone_surrogate_never_enters(row):
    """A collector must normalise or refuse it: Arrow holds UTF-8."""
    with pytest.raises(RunError, match="does not fit the document schema"):
        make_table([row("half \ud800 a pair", "u")], DOCUMENT)
    assert normalise("half \ud800 a pair") == "half \ufffd a pair" or "\ud800" not in normalise("half \ud800 a pair")


@pytest.mark.parametrize("column", ["text", "url", "title", "lang"])
def test_bytes_that_are_no_text_in_a_collected_file(tmp_path, pages, collected, run_curate, column):
    folder = collected(tmp_path / "in", pages[:20], files=2)
    file = folder / "documents" / "00001.parquet"
    rewritten(file, bad_bytes(column))
    with pytest.raises(RunError, match="UTF8") as caught:
        run_curate([folder], **ALL_ON)
    assert str(file) in caught.value.what


@pytest.mark.parametrize("column", ["text", "url", "words_hash", "source"])
def test_bytes_that_are_no_text_in_a_measured_file(three, column):
    rewritten(three.measured, bad_bytes(column))
    with pytest.raises(RunError, match="UTF8") as caught:
        three.again()
    assert str(three.measured) in caught.value.what


def test_bytes_that_are_no_text_while_comparing(three):
    rewritten(three.measured, bad_bytes("text"))
    with pytest.raises(RunError, match="UTF8") as caught:
        three.compare_again()
    assert str(three.measured) in caught.value.what


# damaged artifacts


@pytest.mark.parametrize("column", DOCUMENT.names)
def test_a_collected_file_without_a_column(tmp_path, pages, collected, run_curate, column):
    folder = collected(tmp_path / "in", pages[:9])
    file = folder / "documents" / "00000.parquet"
    rewritten(file, without(column))
    with pytest.raises(RunError, match=rf"\b{column}\b") as caught:
        run_curate([folder])
    assert str(file) in caught.value.what


def test_a_measured_file_without_a_column(three):
    """Columns that curate reads: named with their file."""
    whole = read_parquet(three.measured)
    columns = ("record_id", "source", "url", "title", "kind", "license", "lang", "text", "words_hash", "text_id")
    for column in (*columns, "n_bytes", "raw_bytes", "n_chars", "n_words", "synthetic", "page_of_origin"):
        write_parquet(three.measured, whole.drop_columns([column]))
        with pytest.raises(RunError, match=rf"there is no column {column}\b") as caught:
            three.again()
        assert str(three.measured) in caught.value.what


@pytest.mark.parametrize("column", ["record_id", "text", "n_words"])
def test_comparing_a_measured_file_without_a_column(three, column):
    rewritten(three.measured, without(column))
    with pytest.raises(RunError, match=rf"\b{column}\b") as caught:
        three.compare_again()
    assert str(three.measured) in caught.value.what


@pytest.mark.parametrize("damage", ["version", "cut", "text", "missing"])
def test_damaged_bands(three, damage):
    file = bands_file(three.measured)
    if damage == "version":
        rewritten(file, without("keys"))
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "text":
        file.write_text("no Parquet at all")
    else:
        file.unlink()
    with pytest.raises(RunError) as caught:
        three.compare_again()
    assert str(file) in caught.value.what
    assert "verify" in caught.value.mend


@pytest.mark.parametrize("change", ["fewer", "more", "none"])
@pytest.mark.parametrize("of", ["new", "known"])
def test_bands_of_other_texts(three, tmp_path, pages, collected, change, of):
    """A band file is read row by row beside its measured file: one with other rows would compare other texts."""
    file = bands_file(three.measured)
    changes = {
        "fewer": lambda t: t.slice(1),
        "more": lambda t: pa.concat_tables([t, t]),
        "none": lambda t: t.slice(0, 0),
    }
    rewritten(file, changes[change])
    both = [three.folder, collected(tmp_path / "more", pages[60:70])]
    with pytest.raises(RunError, match=r"has \d+ rows and \S+ has 30: ") as caught:
        three.compare_again() if of == "new" else curate_folders(three.root / "n", both, before=three.made)
    assert str(file) in caught.value.what
    assert str(three.measured) in caught.value.what
    assert "collect-train verify" in caught.value.mend


@pytest.mark.parametrize("damage", ["cut", "missing", "version"])
def test_damaged_lines(three, damage):
    file = lines_file(three.measured)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "version":
        rewritten(file, lambda table: table.drop_columns([table.column_names[0]]))
    else:
        file.unlink()
    with pytest.raises(RunError) as caught:
        three.compare_again()
    assert str(file) in caught.value.what


@pytest.mark.parametrize(
    ("name", "column"), [("pairs.parquet", "a"), ("beside.parquet", "record_id"), ("boilerplate.parquet", "line")]
)
@pytest.mark.parametrize("damage", ["missing", "cut", "column"])
def test_a_comparison_without_a_file(three, name, column, damage):
    file = three.compare / name
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        rewritten(file, without(column))
    with pytest.raises(RunError) as caught:
        three.again()
    assert str(file) in caught.value.what


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_comparison_without_templates(three, tmp_path, pages, collected, damage):
    """Later texts are counted on top of them."""
    file = three.compare / "templates.parquet"
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-20])
    more = collected(tmp_path / "more", pages[60:70])
    with pytest.raises(RunError) as caught:
        curate_folders(
            three.root / "next", [three.folder, more], before=three.made,
            params=CurateParams.model_validate(ALL_ON),
        )  # fmt: skip
    assert str(file) in caught.value.what


@pytest.mark.parametrize("name", ["provenance/corpus.json", "train/000-00000.parquet"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_the_corpus_before_is_damaged(three, name, damage):
    file = three.made.out / name
    if damage == "missing" and name.endswith("parquet"):
        pytest.skip("a corpus may be of any number of files; `verify` knows what is missing")
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunError) as caught:
        three.again()
    assert str(file) in caught.value.what


# limits and settings


def test_limits_that_drop_everything(tmp_path, pages, collected, run_curate):
    work = tmp_path / "work"
    folder = collected(tmp_path / "in", pages[:40])
    with pytest.raises(RunError) as caught:
        run_curate([folder], work=work, rules={"limits": {"min_words": 100_000}})
    what, mend = caught.value.what, caught.value.mend
    assert "nothing is kept of 40 records; min_words drops most, 40" in what
    assert sum(what.count(page["url"]) for page in pages[:40]) == 3
    assert what.count("the limit is 100,000") == 3
    assert "curate.rules.limits" in mend
    verdicts = told(work / "curate" / "out")
    assert len(verdicts) == 40
    assert {row["rule"] for row in verdicts.values()} == {"min_words"}
    assert not (work / "curate" / "out" / "train").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"licences": {"allow": ["MIT"]}}, "licence"),
        ({"mix": {"sources": {"docs": 0}}, "split": {"val": 0, "test": 0}}, "mix"),
        ({"split": {"val": 0.5, "test": 0.499}, "synthetic": True}, "synthetic_held_out"),
    ],
)
def test_other_reasons_that_drop_everything(tmp_path, pages, collected, run_curate, settings, says):
    made = settings.pop("synthetic", False)
    folder = collected(tmp_path / "in", [page | {"synthetic": made} for page in pages[:9]])
    with pytest.raises(RunError) as caught:
        run_curate([folder], decontaminate={"enabled": False}, **settings)
    assert f"; {says} drops most" in caught.value.what
    assert "curate.rules" not in caught.value.mend, "it is no rule of the recipe"


@pytest.mark.parametrize(
    ("name", "content", "fields", "says"),
    [
        ("gone.jsonl", None, [], "no such file"),
        ("cut.jsonl", b'{"text": "whole"}\n{"text": "cut', [], "row 2"),
        ("other.txt", "árvíztűrő".encode("utf-16"), [], "not UTF-8"),
        ("latin.csv", "text\nárvíztűrő".encode("iso8859-2"), [], "UTF-8"),
        ("empty.jsonl", b"", [], "no text"),
        ("empty.txt", b"\n\n \n", [], "no text"),
        ("field.jsonl", b'{"question": "a", "answer": "b"}\n', ["questions"], "question"),
        ("cut.parquet", b"PAR1 cut", [], "cut.parquet"),
        ("form.pdf", b"%PDF", [], ".pdf"),
    ],
)
def test_evaluation_sets_that_cannot_be_used(tmp_path, pages, collected, run_curate, name, content, fields, says):
    """A set that is not read whole is never a shorter set."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    folder = collected(tmp_path / "in", pages[:9])
    sets = [{"name": "exam", "path": str(path), "fields": fields}]
    with pytest.raises((RunError, UserError)) as caught:
        run_curate([folder], decontaminate={"evaluation_sets": sets})
    assert str(path) in caught.value.what
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "cannot read"),
        ("cut.jsonl", b'{"text": "a", "label": 1}\n{"text": "b', "line 2"),
        ("latin.jsonl", '{"text": "árvíz", "label": 1}\n'.encode("iso8859-2"), "line 1"),
        ("utf16.jsonl", '{"text": "a", "label": 1}\n'.encode("utf-16"), "line 1"),
        ("empty.jsonl", b"", "100"),
        ("label.jsonl", b'{"text": "a", "label": "fine"}\n', "label"),
        ("field.jsonl", b'{"texts": "a", "label": 1}\n', "'text'"),
        ("cut.parquet", b"PAR1 cut", "cut.parquet"),
        ("gone.parquet", None, "gone.parquet"),
        ("table.csv", b"text,label\na,1\n", ".jsonl"),
    ],
)
def test_labelled_texts_that_cannot_be_used(tmp_path, pages, collected, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    folder = collected(tmp_path / "in", pages[:9])
    compare = CompareParams.model_validate({"classifier": {"labelled": str(path)}})
    with pytest.raises((RunError, UserError)) as caught:
        curate_folders(tmp_path / "work", [folder], compare=compare)
    assert says in str(caught.value)
    assert not (tmp_path / "work" / "compare" / "out" / "classifier").exists()


def test_labels_of_bytes_that_are_no_text(tmp_path, pages, collected):
    path = tmp_path / "labelled.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(9)], "label": ["good"] * 9})
    write_parquet(path, bad_bytes("text")(table))
    compare = CompareParams.model_validate({"classifier": {"labelled": str(path)}})
    with pytest.raises(RunError, match=r"labelled\.parquet.*UTF8"):
        curate_folders(tmp_path / "work", [collected(tmp_path / "in", pages[:9])], compare=compare)


# a full disk


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 25))
def test_a_full_disk_at_any_file(tmp_path, whole, number, monkeypatch, content):
    """Each file that a stage writes is the one that the disk refuses; the next run ends as an undisturbed one."""
    before, expected = whole
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", f"parquet.write:{number}=enospc")
    atomic._reached.clear()
    params = CurateParams.model_validate(ALL_ON)
    with pytest.raises(RunError, match="disk full while writing") as caught:
        curate_folders(tmp_path / "work", [before.folder], params=params)
    assert "run the same command again" in caught.value.mend
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    again = curate_folders(tmp_path / "work", [before.folder], params=params)
    assert content(again.out) == expected
    assert not list((tmp_path / "work").rglob("*.part"))
    assert pq.read_table(again.out / "decisions.parquet").num_rows == 60
