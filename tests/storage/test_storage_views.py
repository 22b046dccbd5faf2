"""The views of what curation leaves have the columns that it writes."""

import pyarrow as pa

from lmcore.curate.beside import BESIDE
from lmcore.curate.decontaminate import CONTAMINATION
from lmcore.curate.held_out import COUNT
from lmcore.curate.measured import MEASURED
from lmcore.curate.pairs import PAIR
from lmcore.curate.trips import TRIPS
from lmcore.tokens.shards import DOCUMENTS
from storage.atomic import write_json
from storage.catalog import Catalog
from storage.manifest import Provenance
from storage.parquet import write_parquet
from storage.store import Store
from storage.views import FILE_VIEWS


def test_the_columns_are_those_that_curation_writes():
    written = {
        "measured": pa.schema([field for field in MEASURED if field.name not in ("text", "turns")]),
        "beside": BESIDE,
        "trips": TRIPS,
        "contamination": CONTAMINATION,
        "evaluation_sets": COUNT,
        "token_documents": pa.schema([DOCUMENTS.field(name) for name in ("record_id", "n_tokens", "n_bytes")]),
        "pairs": pa.schema([PAIR.field(name) for name in ("a", "b", "jaccard")]),
    }
    for name, schema in written.items():
        view = FILE_VIEWS[name].columns
        assert [(f.name, f.type) for f in view] == [(f.name, f.type) for f in schema], name


def publish(store, key, fill):
    (store.work("curate", key) / "out").mkdir()
    fill(store.work("curate", key) / "out")
    made = Provenance(
        params={}, stage_version=1, pure=True, inputs=[], metrics={}, started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:05:05+00:00", seconds=1.0, attempts=1, host="h", environment={}, code={}, run="",
    )  # fmt: skip
    return store.publish("curate", key, store.work("curate", key) / "out", made)


def test_a_corpus_tells_of_itself_and_an_old_one_little(tmp_path):
    def new(out):
        write_json(
            out / "provenance" / "corpus.json",
            {"settings": "abc", "batch": 2, "measures": [], "compares": [], "salt": ""},
        )
        split = {"documents": 2, "bytes": 20}
        splits = {"train": {"documents": 5, "bytes": 90}, "val": split, "test": split}
        kept = {"records": 9, "bytes": 130}
        write_json(out / "stats.json", {"input": {"records": 12, "bytes": 200}, "kept": kept, "splits": splits})

    store = Store(tmp_path)
    publish(store, "a" * 24, new)
    publish(store, "b" * 24, lambda out: write_parquet(out / "trips.parquet", TRIPS.empty_table()))
    rows = Catalog(store).query("SELECT * FROM corpora ORDER BY artifact").to_pylist()
    figures = {"settings": "abc", "batch": 2, "records": 12, "bytes": 200, "kept": 9, "kept_bytes": 130}
    assert rows[0] == {"artifact": "a" * 24, **figures, "train": 5, "val": 2, "test": 2}
    assert rows[1] == {**dict.fromkeys(rows[0]), "artifact": "b" * 24}


def test_a_corpus_whose_figures_are_damaged_is_left_out_and_named(tmp_path):
    store = Store(tmp_path)
    publish(store, "a" * 24, lambda out: (out / "stats.json").write_text("[1"))
    catalog = Catalog(store)
    assert "stats.json cannot be read" in " ".join(catalog.left_out)
    assert catalog.query("SELECT * FROM corpora").num_rows == 0
