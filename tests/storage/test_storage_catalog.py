import contextlib
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate.measured import measure as measured_rows
from lmcore.curate.params import MeasureParams
from lmcore.documents import CURATED, DECISION, DOCUMENT, make_table
from storage.atomic import write_json
from storage.catalog import Catalog
from storage.digest import digest_json
from storage.errors import RunError, UserError
from storage.manifest import InputEntry, Provenance
from storage.parquet import write_parquet
from storage.registry import Registry
from storage.store import Store
from storage.views import FILE_VIEWS, VIEWS

DOCS = Path(__file__).parents[2] / "docs" / "catalog.md"


def provenance(inputs=(), **changes):
    values = {
        "params": {"name": "pydoc"},
        "stage_version": 1,
        "pure": True,
        "inputs": [InputEntry(name=a.stage, stage=a.stage, key=a.key, digest=a.digest) for a in inputs],
        "metrics": {"records": 3},
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:05+00:00",
        "seconds": 60.0,
        "attempts": 1,
        "host": "h",
        "environment": {},
        "code": {},
        "run": "r1",
    }
    return Provenance(**(values | changes))


def publish(store, stage, name, fill, inputs=(), **changes):
    key = digest_json([stage, name])[:24]
    out = store.work(stage, key) / "out"
    out.mkdir()
    fill(out)
    return store.publish(stage, key, out, provenance(inputs, **changes))


def document(name, text):
    return {
        "record_id": digest_json(name)[:32],
        "source": "pydoc",
        "url": f"http://site/{name}",
        "title": name.upper(),
        "text": text,
        "kind": "prose",
        "lang": "en",
        "license": "PSF-2.0",
        "license_source": "recipe",
        "edition": "2026-01-02",
        "synthetic": False,
        "page_of_origin": f"http://site/{name}",
        "parent_record": None,
        "tags": [("genre", "reference")],
        "turns": None,
        "meta": "{}",
    }


def curated(row):
    return {name: row[name] for name in CURATED.names if name in row} | {
        "text_id": row["record_id"],
        "n_bytes": len(row["text"].encode()),
        "quality": 50.0,
        "complexity": 40.0,
        "cluster_id": row["record_id"],
        "cluster_size": 1,
    }


def decision(row, **changes):
    return {
        **{name: row[name] for name in ("record_id", "source", "url")},
        **{"verdict": "kept", "rule": "kept", "value": None, "threshold": None, "other": None, "split": "train"},
        **changes,
    }


A, B, C, D = (document(name, f"the text of {name}") for name in ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("a [store] with 'odd' *names") / "s")

    def collect(out):
        write_parquet(out / "documents/00000.parquet", make_table([A, B], DOCUMENT))
        write_parquet(out / "documents/00001.parquet", make_table([C], DOCUMENT))
        log = {"url": A["url"], "final_url": A["url"], "status": 200, "outcome": "ok", "tries": 1, "seconds": 0.1}
        log |= {"bytes": 10, "fetched_at": "2026-01-02T03:04:05Z", "etag": "", "last_modified": "", "reason": ""}
        gone = log | {"url": "http://site/gone", "final_url": "http://site/moved", "status": 404}
        gone |= {"outcome": "http_error", "reason": "status 404"}
        moved = log | {"url": "http://site/old-b", "final_url": B["url"]}
        silent = gone | {"url": "http://site/silent", "status": 0, "outcome": "timeout", "reason": "30 s"}
        write_parquet(
            out / "provenance/fetch_log.parquet",
            pa.Table.from_pylist([log, gone, moved, silent], schema=FILE_VIEWS["fetches"].columns),
        )

    def late(out):
        write_parquet(out / "documents/00000.parquet", make_table([D], DOCUMENT))

    def measure(out):
        write_parquet(out / "measured/00000.parquet", measured_rows(make_table([A, B, C], DOCUMENT), MeasureParams()))

    def compare(out):
        row = {"a": A["record_id"], "b": B["record_id"], "jaccard": 0.75}
        write_parquet(out / "pairs.parquet", pa.Table.from_pylist([row]))

    def curate(out):
        write_parquet(out / "train/00000.parquet", make_table([curated(A)], CURATED))
        write_parquet(out / "val/00000.parquet", make_table([], CURATED))
        write_parquet(out / "test/00000.parquet", make_table([curated(C)], CURATED))
        rows = [decision(A), decision(C, split="test")]
        rows.append(decision(B, verdict="dropped", rule="duplicate", value=1.0, threshold=0.7, split=None))
        rows[-1]["other"] = A["record_id"]
        rows.sort(key=lambda row: row["record_id"])
        write_parquet(out / "decisions.parquet", make_table(rows, DECISION))

    def train(out):
        rows = [
            {"step": i, "tokens": i * 10, "progress": i / 3, "loss": 4.0 - i, "bits_per_byte": 3.0, "lr": 0.1}
            | {"grad_norm": 1.0, "skipped": False}
            for i in range(1, 4)
        ]
        write_parquet(out / "metrics.parquet", pa.Table.from_pylist(rows, schema=FILE_VIEWS["metrics"].columns))
        (out / "model.safetensors").write_bytes(b"weights")

    def evaluate(out):
        figures = {"bits_per_byte": 1.8, "interval": [1.7, 1.9], "perplexity": 9.0, "accuracy": 0.4}
        figures |= {"tokens": 5, "bytes": 20, "documents": 1}
        baselines = [{"name": "gzip -9", "bits_per_byte": 2.5, "note": "", "beaten": True}]
        write_json(
            out / "evaluation.json",
            {
                "headline": {"split": "test", **figures},
                "splits": {"test": figures, "val": figures},
                "groups": {"source": {"pydoc": figures}, "lang": {"en": figures}, "kind": {"prose": figures}},
                "baselines": baselines,
                "lossy": False,
            },
        )
        row = {"record_id": C["record_id"], "split": "test", "n_bytes": 20, "n_tokens": 5, "nll_bits": 36.0}
        write_parquet(out / "documents.parquet", pa.Table.from_pylist([row], schema=FILE_VIEWS["scores"].columns))

    collected = publish(store, "collect", "pydoc", collect, pure=False)
    publish(store, "collect", "late", late)
    measured = publish(store, "measure", "m", measure, [collected])
    compared = publish(store, "compare", "p", compare, [measured])
    corpus = publish(store, "curate", "c", curate, [collected, measured, compared])
    model = publish(store, "train", "t", train, [corpus])
    publish(store, "evaluate", "e", evaluate, [model, corpus])
    Registry(store.root).record(
        "quickstart",
        release_key="r",
        digest="d" * 64,
        model_key=model.key,
        model_digest=model.digest,
        export_key=None,
        bits_per_byte=1.8,
        reason="first",
    )
    Registry(store.root).promote("quickstart", 1, expected=None)
    return store


@pytest.fixture(scope="module")
def catalog(store):
    return Catalog(store)


def rows(catalog, sql):
    return catalog.query(sql).to_pylist()


def test_every_view_of_an_empty_store_is_empty_with_its_columns(tmp_path):
    catalog = Catalog(Store(tmp_path))
    assert {row["name"] for row in rows(catalog, "SHOW TABLES")} == set(VIEWS)
    for name, view in FILE_VIEWS.items():
        table = catalog.query(f"SELECT * FROM {name}")
        assert table.num_rows == 0
        assert table.column_names == ["artifact", *([view.folder] if view.folder else []), *view.columns.names]


def test_the_columns_are_those_that_the_stages_write():
    from lmcore.collect.changes import REMOVED_SCHEMA
    from lmcore.collect.records import FETCH_LOG
    from lmcore.curate.measured import MEASURED
    from lmcore.curate.pairs import PAIR
    from lmcore.evaluate.stage import SCORED
    from lmcore.train.history import SCHEMAS

    written = {
        "documents": DOCUMENT,
        "fetches": FETCH_LOG,
        "removed": REMOVED_SCHEMA,
        "measured": pa.schema([f for f in MEASURED if f.name not in ("text", "turns")]),
        "curated": CURATED,
        "decisions": DECISION,
        "unfinished_decisions": DECISION,
        "metrics": SCHEMAS["metrics"],
        "scores": SCORED,
    }
    for name, schema in written.items():
        view = FILE_VIEWS[name].columns
        assert [(f.name, f.type) for f in view] == [(f.name, f.type) for f in schema], name
    others = {
        "pairs",
        "beside",
        "trips",
        "contamination",
        "evaluation_sets",
        "token_documents",
    }  # test_storage_views.py
    assert {*written, *others} == set(FILE_VIEWS)
    for column in FILE_VIEWS["pairs"].columns:
        assert PAIR.field(column.name).type == column.type


def test_views_show_what_was_published(catalog, store):
    assert catalog.left_out == ()
    keys = {a.stage: a.key for a in store.artifacts()}
    assert [r["url"] for r in rows(catalog, "SELECT url FROM documents ORDER BY url")] == [
        f"http://site/{n}" for n in "abcd"
    ]
    assert rows(catalog, "SELECT split, url, artifact FROM curated ORDER BY split") == [
        {"split": "test", "url": C["url"], "artifact": keys["curate"]},
        {"split": "train", "url": A["url"], "artifact": keys["curate"]},
    ]
    assert rows(catalog, "SELECT url, n_words, artifact FROM measured ORDER BY url") == [
        {"url": row["url"], "n_words": 4.0, "artifact": keys["measure"]} for row in (A, B, C)
    ]
    assert rows(catalog, "SELECT * FROM pairs") == [
        {"artifact": keys["compare"], "a": A["record_id"], "b": B["record_id"], "jaccard": 0.75}
    ]
    assert rows(catalog, "SELECT artifact, max(step) AS last FROM metrics GROUP BY ALL") == [
        {"artifact": keys["train"], "last": 3}
    ]
    assert rows(catalog, "SELECT model, split, low, high FROM evaluations WHERE headline") == [
        {"model": keys["train"], "split": "test", "low": 1.7, "high": 1.9}
    ]
    assert rows(catalog, "SELECT grouping, name FROM evaluation_groups ORDER BY 1")[0] == {
        "grouping": "kind",
        "name": "prose",
    }
    assert rows(catalog, "SELECT name, beaten FROM baselines") == [{"name": "gzip -9", "beaten": True}]
    assert rows(catalog, "SELECT nll_bits / scores.n_bytes AS bpb FROM scores JOIN curated USING (record_id)") == [
        {"bpb": 1.8}
    ]
    assert rows(catalog, "SELECT recipe, number, champion, withdrawn FROM releases") == [
        {"recipe": "quickstart", "number": 1, "champion": True, "withdrawn": False}
    ]
    (made,) = rows(catalog, "SELECT pure, files, started, metrics->>'records' AS n FROM artifacts WHERE NOT pure")
    assert (made["files"], made["started"].isoformat(), made["n"]) == (2, "2026-01-02T03:04:05+00:00", "3")
    assert rows(catalog, "SELECT count(*) AS n FROM fetches WHERE status = 404") == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "from documents",
        "values (1)",
        "show tables;",
        "describe documents",
        "summarize decisions",
        "explain select * from documents",
        "EXPLAIN ANALYZE SELECT count(*) FROM documents",
        "with x as (select 1 as a) select a from x union all select 2",
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select sum(i) from n",
        "pivot decisions on verdict in ('kept', 'dropped') using count(*)",
        "select (select count(*) from curated), 'COPY_QUERY_NODE' as type, ';' as semi",
    ],
)
def test_questions_are_answered(catalog, sql):
    assert catalog.query(sql).num_rows > 0


@pytest.fixture
def secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", "canary-in-environment")
    path = tmp_path / "secret.csv"
    path.write_text("canary-in-file\n")
    return path


WRITES = [
    "COPY (SELECT 1) TO '{new}'",
    "COPY documents TO '{own}' (FORMAT parquet, USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1) TO '{new}' (USE_TMP_FILE false)) SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)) SELECT * FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "explain /* */ analyze /* */ COPY (SELECT 1) TO '{new}'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{new}'",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{new}' (USE_TMP_FILE false)) SELECT * FROM x",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{new}''')",
    "SELECT * FROM query('WITH x AS (COPY (SELECT 1) TO ''{new}'') SELECT * FROM x')",
    "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "EXPORT DATABASE '{new}'",
    "ATTACH '{new}'",
    "ATTACH '{new}' AS other (TYPE duckdb)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE SECRET (TYPE s3)",
    "DROP VIEW documents",
    "WITH x AS (DELETE FROM documents RETURNING 1) SELECT * FROM x",
    "CHECKPOINT",
    "CALL pragma_version()",
    "PRAGMA temp_directory='{new}'",
    "USE temp",
    "BEGIN",
]
READS = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM '{secret}'",
    "FROM 'secret.csv'",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('{own}')",
    "SELECT * FROM parquet_metadata('{own}')",
    "COPY t FROM '{secret}'",
    "SELECT getenv('CANARY')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "SELECT * FROM secret",
    "SELECT * FROM python_rows",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "IMPORT DATABASE '{folder}'",
]


@pytest.mark.parametrize("attempt", WRITES + READS)
def test_nothing_else_is_read_or_written(store, secret, attempt):
    catalog = Catalog(store)
    python_rows = pa.table({"canary": [1]})  # noqa: F841  a variable that DuckDB could find in this frame
    own = next(store.root.glob("collect/*/documents/00000.parquet"))
    before = own.read_bytes()
    new = secret.with_name("new.csv")
    quoted = {
        name: str(path).replace("'", "''")
        for name, path in {"own": own, "new": new, "secret": secret, "folder": secret.parent}.items()
    }
    with pytest.raises((UserError, RunError)) as caught:
        catalog.query(attempt.format(**quoted))
    assert "canary-in" not in str(caught.value)
    assert own.read_bytes() == before
    assert sorted(p.name for p in secret.parent.iterdir()) == ["secret.csv"]
    assert rows(catalog, "SELECT count(*) AS n FROM documents") == [{"n": 4}]


@pytest.mark.parametrize("attempt", WRITES + READS)
def test_the_database_itself_refuses_what_the_reading_of_the_query_would_let_through(store, secret, attempt):
    """The second belt: without the look at the parse tree, no file is read or written all the same."""
    catalog = Catalog(store)
    own = next(store.root.glob("collect/*/documents/00000.parquet"))
    before = own.read_bytes()
    paths = {"own": own, "new": secret.with_name("new.csv"), "secret": secret, "folder": secret.parent}
    try:
        answer = str(catalog._run(attempt.format(**{n: str(p).replace("'", "''") for n, p in paths.items()}), {}))
    except (UserError, RunError, AttributeError) as error:  # AttributeError: a statement without rows
        answer = str(error)
    assert "canary-in" not in answer
    assert own.read_bytes() == before
    assert sorted(p.name for p in secret.parent.iterdir()) == ["secret.csv"]


@pytest.mark.parametrize(
    ("sql", "what", "mend"),
    [
        ("SELEC 1", "syntax error", "show tables"),
        ("", "0 statements", "one question"),
        ("SELECT 1; SELECT 2", "2 statements", "one question"),
        ("SELECT * FROM documnets", "documnets does not exist", "did you mean documents?"),
        ("SELECT * FROM zzz", "zzz does not exist", "the views are artifacts"),
        ("SELECT ur1 FROM documents", '"ur1" not found', "Candidate bindings"),
        ("SELECT 'a'::INTEGER", "Could not convert", "show tables"),
        ("SELECT $x", "x", "show tables"),
        ("SELECT '\udc80'", "cannot be read", "plain text"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "", ""),
    ],
)
def test_a_bad_query_is_the_users_error_in_one_line(catalog, sql, what, mend):
    with pytest.raises(UserError) as caught:
        catalog.query(sql)
    assert what in caught.value.what
    assert mend in caught.value.mend
    assert "\n" not in caught.value.what
    assert catalog.query("SELECT 1").num_rows == 1  # and the next question is answered


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused(catalog, text):
    with contextlib.suppress(UserError, RunError):
        catalog.query(text)
    found = catalog.query("SELECT count(*) FROM documents")
    assert found.column(0)[0].as_py() == 4


def test_why_tells_the_rule_and_the_text_it_duplicates(catalog, store):
    curate = next(store.artifacts("curate"))
    (row,) = catalog.why(B["url"])
    assert row["artifact"] == curate.key
    assert (row["verdict"], row["rule"], row["value"], row["threshold"]) == ("dropped", "duplicate", 1.0, 0.7)
    assert (row["other"], row["other_url"], row["split"]) == (A["record_id"], A["url"], None)
    assert (row["title"], row["edition"], row["source"]) == ("B", "2026-01-02", "pydoc")
    assert catalog.why(C["record_id"])[0]["split"] == "test"
    assert catalog.why(C["record_id"][:9])[0]["url"] == C["url"]


def test_why_knows_pages_that_never_reached_curation(catalog):
    (row,) = catalog.why(D["url"])
    assert (row["verdict"], row["rule"], row["stage"]) == ("collected", "not curated yet", "collect")
    (row,) = catalog.why("http://site/gone")
    assert (row["verdict"], row["rule"], row["reason"]) == ("not collected", "http_error", "status 404")
    assert (row["value"], row["other_url"]) == (404.0, "http://site/moved")
    (row,) = catalog.why("http://site/silent")
    assert (row["rule"], row["value"]) == ("timeout", None)


def test_why_follows_a_redirect(catalog):
    assert catalog.why("http://site/old-b") == catalog.why(B["url"])


def test_why_of_the_unknown_names_the_nearest_and_never_runs_its_text(catalog):
    with pytest.raises(UserError, match="nearest is http://site/gone"):
        catalog.why("http://site/gonne")
    with pytest.raises(UserError, match="knows no page"):
        catalog.why("x' OR '1'='1")
    with pytest.raises(UserError, match="knows no page"):
        catalog.why("'; DROP VIEW documents; --")
    with pytest.raises(UserError, match="collect something first"):
        Catalog(Store(store_nowhere := "/nonexistent-store")).why(store_nowhere)


def test_lineage_goes_back_to_the_sources_and_forward_to_everything_built(catalog, store):
    by_stage = {a.stage: a for a in store.artifacts() if a.stage != "collect"}
    chain = catalog.lineage_of(by_stage["evaluate"].digest)
    assert [row["stage"] for row in chain] == ["evaluate", "curate", "train", "collect", "compare", "measure"]
    assert [row["depth"] for row in chain] == [0, 1, 1, 2, 2, 2]
    assert all(row["present"] for row in chain)
    down = catalog.descendants(chain[3]["digest"])
    assert {row["stage"] for row in down} == {"collect", "measure", "compare", "curate", "train", "evaluate"}
    with pytest.raises(UserError, match="no artifact with content digest"):
        catalog.lineage_of("0" * 64)


def test_an_input_that_is_gone_is_named(tmp_path):
    store = Store(tmp_path)
    first = publish(store, "collect", "x", lambda out: (out / "a").write_text("a"))
    second = publish(store, "curate", "x", lambda out: (out / "b").write_text("b"), [first])
    gone = first.digest
    store.set_aside("collect", first.key, "test")
    catalog = Catalog(store)
    assert [(r["stage"], r["present"]) for r in catalog.lineage_of(second.digest)] == [
        ("curate", True),
        ("collect", False),
    ]
    assert [r["stage"] for r in catalog.descendants(gone)] == ["collect", "curate"]
    assert [r["stage"] for r in rows(catalog, "SELECT stage FROM artifacts")] == ["curate"]


def test_damage_is_left_out_and_named(tmp_path):
    def collect(out):
        write_parquet(out / "documents/00000.parquet", make_table([A], DOCUMENT))
        write_parquet(out / "documents/00001.parquet", make_table([B], DOCUMENT))

    store = Store(tmp_path)
    good = publish(store, "collect", "good", collect)
    torn = publish(store, "collect", "torn", collect)
    (torn.path / "manifest.json").write_text("{")
    (good.path / "documents/00001.parquet").unlink()
    catalog = Catalog(store)
    assert rows(catalog, "SELECT url FROM documents") == [{"url": A["url"]}]
    assert len(catalog.left_out) == 2
    assert "00001.parquet" in " ".join(catalog.left_out)
    assert torn.key in " ".join(catalog.left_out)


def test_a_file_damaged_in_place_is_an_error_of_the_world(tmp_path):
    def fill(out):
        write_parquet(out / "documents/00000.parquet", make_table([A], DOCUMENT))

    store = Store(tmp_path)
    path = publish(store, "collect", "x", fill).path / "documents/00000.parquet"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(RunError, match="documents cannot be read"):
        Catalog(store).query("SELECT * FROM documents")


def test_a_damaged_evaluation_or_registry_is_left_out(tmp_path):
    store = Store(tmp_path)
    publish(store, "evaluate", "x", lambda out: (out / "evaluation.json").write_text('{"headline": 3}'))
    Registry(store.root).folder.mkdir()
    (Registry(store.root).folder / "quickstart.json").write_text("[]")
    catalog = Catalog(store)
    assert len(catalog.left_out) == 2
    assert rows(catalog, "SELECT * FROM evaluations") == rows(catalog, "SELECT * FROM releases") == []


def test_the_page_in_the_documentation_says_what_the_views_are(catalog):
    """docs/catalog.md lists every column of every view, and its queries run."""
    text = DOCS.read_text()
    for name in VIEWS:
        section = re.search(rf"^### `{name}`\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
        assert section, name
        listed = re.findall(r"^\| `(\w+)`", section[1], re.MULTILINE)
        assert listed == catalog.query(f"SELECT * FROM {name} LIMIT 0").column_names, name
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) >= 10
    answered = [catalog.query(query).num_rows for query in queries]
    assert sum(count > 0 for count in answered) >= 8, answered


def test_a_catalog_leaves_no_file_behind(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path))
    catalog = Catalog(store)
    catalog.query("SELECT count(*) FROM (SELECT i FROM range(1000000) t(i) ORDER BY hash(i))")
    del catalog
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_json(catalog):
    (found,) = rows(catalog, "SELECT metrics FROM artifacts WHERE stage = 'train'")
    assert json.loads(found["metrics"]) == {"records": 3}


def test_sums_are_integers_unless_they_do_not_fit(catalog):
    table = catalog.query("SELECT sum(step) AS s, 170141183460469231731687303715884105727::HUGEINT AS h FROM metrics")
    assert table["s"].to_pylist() == [6]
    assert table.schema.field("s").type == pa.int64()
    assert table.schema.field("h").type != pa.int64()
