"""A collection that was put back by hand still holds a forgotten text: it is not measured, and curation says why."""

from __future__ import annotations

import json

from test_curate_stage import GOOD
from three_stages import curate_folders

from lmcore.curate.params import CurateParams
from lmcore.documents import CURATED, DECISION, read_documents
from lmcore.forget.texts import Forgotten, text_digest

PARAMS = CurateParams.model_validate(
    {
        "split": {"val": 0, "test": 0},
        "gates": dict.fromkeys(("min_documents", "min_train_bytes", "min_val_documents", "min_test_documents"), 0),
    }
)


def run(work, folder, forgotten):
    made = curate_folders(work, [folder], params=PARAMS, forgotten=forgotten)
    kept = read_documents(made.out / "train" / "000-00000.parquet", CURATED).to_pylist()
    judged = read_documents(made.out / "decisions.parquet", DECISION).to_pylist()
    return made, {row["url"] for row in kept}, {row["url"]: row for row in judged}


def test_dropped_with_that_reason_and_counted(tmp_path, row, collected):
    rows = [row(GOOD, "http://s/1"), row(GOOD + " More.", "http://s/2"), row(GOOD.upper() + " Less!", "http://s/3")]
    folder = collected(tmp_path / "in", rows)
    forgotten = Forgotten(urls=frozenset({"http://s/1"}), texts=frozenset({text_digest(GOOD + " less!")}))
    made, kept, judged = run(tmp_path / "work", folder, forgotten)
    assert kept == {"http://s/2"}
    assert {url: row["rule"] for url, row in judged.items()} == {
        "http://s/1": "forgotten", "http://s/2": "kept", "http://s/3": "forgotten",
    }  # fmt: skip
    assert (judged["http://s/1"]["verdict"], judged["http://s/1"]["split"]) == ("dropped", None)
    stats = json.loads((made.out / "stats.json").read_text())
    assert stats["rules"]["forgotten"] == 2
    assert stats["input"] == {"records": 3, "bytes": sum(len(r["text"].encode()) for r in rows)}
    assert made.metrics["input_documents"] == 3
    (measured,) = (tmp_path / "work" / "measure").glob("*/out/measured/*")
    assert b"http://s/1" not in measured.read_bytes(), "it was never measured"
    assert not list((tmp_path / "work").rglob("pending/*"))


def test_nothing_forgotten_changes_no_byte(tmp_path, row, collected):
    folder = collected(tmp_path / "in", [row(GOOD, "http://s/1"), row(GOOD + " More.", "http://s/2")])
    outs = []
    for name, forgotten in (("a", None), ("b", Forgotten()), ("c", Forgotten(urls=frozenset({"http://t/1"})))):
        run(tmp_path / name, folder, forgotten)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        outs.append([(path.name, path.read_bytes()) for path in files])
    assert outs[0] == outs[1] == outs[2]
