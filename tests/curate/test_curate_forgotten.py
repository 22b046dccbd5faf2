"""A collection that was put back by hand still holds a forgotten text: curation drops it and says why."""

from __future__ import annotations

import json

from test_curate_stage import GOOD

from lmcore.curate import CurateParams, CurateRuntime, curate
from lmcore.documents import CURATED, DECISION, read_documents
from lmcore.forget.texts import Forgotten, text_digest
from lmcore.progress import silent

PARAMS = {
    "split": {"val": 0, "test": 0},
    "gates": dict.fromkeys(("min_documents", "min_train_bytes", "min_val_documents", "min_test_documents"), 0),
}


def run(work, folder, forgotten):
    metrics = curate(
        work, [folder], locate=lambda _: folder, params=CurateParams.model_validate(PARAMS),
        runtime=CurateRuntime(), report=silent, forgotten=forgotten,
    )  # fmt: skip
    kept = read_documents(work / "out" / "train" / "00000.parquet", CURATED).to_pylist()
    judged = read_documents(work / "out" / "decisions.parquet", DECISION).to_pylist()
    return metrics, {row["url"] for row in kept}, {row["url"]: row for row in judged}, work


def test_dropped_with_that_reason_and_counted(tmp_path, row, collected):
    rows = [row(GOOD, "http://s/1"), row(GOOD + " More.", "http://s/2"), row(GOOD.upper() + " Less!", "http://s/3")]
    folder = collected(tmp_path / "in", rows)
    forgotten = Forgotten(urls=frozenset({"http://s/1"}), texts=frozenset({text_digest(GOOD + " less!")}))
    metrics, kept, judged, work = run(tmp_path / "work", folder, forgotten)
    assert kept == {"http://s/2"}
    assert {url: row["rule"] for url, row in judged.items()} == {
        "http://s/1": "forgotten", "http://s/2": "kept", "http://s/3": "forgotten",
    }  # fmt: skip
    assert (judged["http://s/1"]["verdict"], judged["http://s/1"]["split"]) == ("dropped", None)
    stats = json.loads((work / "out" / "stats.json").read_text())
    assert stats["rules"]["forgotten"] == 2
    assert stats["input"] == {"records": 3, "bytes": sum(len(r["text"].encode()) for r in rows)}
    assert metrics["input_documents"] == 3
    measured = [path.read_bytes() for path in (work / "measured").iterdir()]
    assert len(measured) == 1
    assert b"http://s/1" not in measured[0], "it was never measured"


def test_nothing_forgotten_changes_no_byte(tmp_path, row, collected):
    folder = collected(tmp_path / "in", [row(GOOD, "http://s/1"), row(GOOD + " More.", "http://s/2")])
    outs = []
    for name, forgotten in (("a", None), ("b", Forgotten()), ("c", Forgotten(urls=frozenset({"http://t/1"})))):
        run(tmp_path / name, folder, forgotten)
        files = sorted(path for path in (tmp_path / name / "out").rglob("*") if path.is_file())
        outs.append([(path.name, path.read_bytes()) for path in files])
    assert outs[0] == outs[1] == outs[2]
