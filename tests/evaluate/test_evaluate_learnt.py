"""Held-out documents that a model may have learnt from another corpus are left out, and counted."""

from __future__ import annotations

import math

import pytest

from lmcore.documents import CURATED, make_table, read_documents
from lmcore.evaluate.stage import EvaluateParams, EvaluateRuntime, evaluate
from lmcore.progress import silent
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

SMALL = {"bootstrap_draws": 100, "baselines": [], "prompts": [], "sampling": {"max_tokens": 2}}


def held_out(curated, split="test"):
    return [
        row for path in sorted((curated / split).glob("*.parquet")) for row in read_documents(path, CURATED).to_pylist()
    ]


def learnt_from(folder, rows):
    """A corpus with these rows to train on, in two files."""
    rows = sorted(rows, key=lambda row: row["record_id"])
    for number in range(2):
        write_parquet(folder / "train" / f"{number:05}.parquet", make_table(rows[number::2], CURATED))
    return folder


def run(work, trained, curated, *learnt, **params):
    metrics = evaluate(
        work, trained, curated, learnt, params=EvaluateParams(**SMALL | params),
        runtime=EvaluateRuntime(device="cpu"), report=silent,
    )  # fmt: skip
    return metrics, {
        (row["split"], row["record_id"]) for row in read_parquet(work / "out" / "documents.parquet").to_pylist()
    }


def test_documents_of_a_learnt_text_or_page_are_left_out(trained, curated, tmp_path, read_json):
    test, val = held_out(curated), held_out(curated, "val")
    same_text = test[3] | {"record_id": "a" * 32, "page_of_origin": "elsewhere", "url": "elsewhere"}
    same_page = test[5] | {"record_id": "b" * 32, "text_id": "c" * 32, "text": "changed since", "n_bytes": 13}
    other = test[7] | {"record_id": "d" * 32, "text_id": "e" * 32, "page_of_origin": "another"}
    one = learnt_from(tmp_path / "one", [same_text, other])
    two = learnt_from(tmp_path / "two", [same_page, val[0] | {"page_of_origin": "elsewhere"}])
    metrics, scored = run(tmp_path / "work", trained, curated, one, two)
    gone = {("test", test[3]["record_id"]), ("test", test[5]["record_id"]), ("val", val[0]["record_id"])}
    everything = {("test", row["record_id"]) for row in test} | {("val", row["record_id"]) for row in val}
    assert scored == everything - gone
    evaluation = read_json(tmp_path / "work" / "out" / "evaluation.json")
    assert evaluation["headline"]["documents"] == 38
    assert {name: figures["left_out_documents"] for name, figures in evaluation["splits"].items()} == {
        "val": 1,
        "test": 2,
    }
    assert {figures["available_documents"] for figures in evaluation["splits"].values()} == {40}
    assert (metrics["documents"], metrics["left_out"]) == (38, 2)


def test_what_was_not_met_changes_no_figure(trained, curated, tmp_path, read_json):
    plain, _ = run(tmp_path / "plain", trained, curated)
    strangers = [row | {"text_id": f"{n:032}", "page_of_origin": f"{n}"} for n, row in enumerate(held_out(curated))]
    told, _ = run(tmp_path / "told", trained, curated, learnt_from(tmp_path / "other", strangers))
    assert told == plain
    one, two = (read_json(tmp_path / name / "out" / "evaluation.json") for name in ("plain", "told"))
    assert two["headline"] == one["headline"]
    assert "left_out_documents" not in one["splits"]["test"]
    assert two["splits"]["test"]["left_out_documents"] == 0


def test_two_models_are_scored_on_the_same_first_documents(trained, curated, tmp_path):
    """What one of them has learnt is not made up for by later documents, which the other was not scored on."""
    rows = held_out(curated)
    _, whole = run(tmp_path / "whole", trained, curated, max_documents=10, splits=["test"])
    learnt = learnt_from(tmp_path / "learnt", rows[:4])
    _, part = run(tmp_path / "part", trained, curated, learnt, max_documents=10, splits=["test"])
    assert part == {("test", row["record_id"]) for row in rows[4:10]} < whole


def test_nothing_left_to_score_is_an_error_that_says_how_to_go_on(trained, curated, tmp_path):
    learnt = learnt_from(tmp_path / "learnt", held_out(curated))
    with pytest.raises(RunError, match=r"every text of the test split of .* was learnt by this model") as error:
        run(tmp_path / "work", trained, curated, learnt, splits=["test"])
    assert "curate.split" in error.value.mend


def test_figures_are_those_of_the_documents_that_are_left(trained, curated, tmp_path):
    rows = held_out(curated)
    run(tmp_path / "whole", trained, curated)
    metrics, _ = run(tmp_path / "part", trained, curated, learnt_from(tmp_path / "learnt", rows[:20]))
    left = {row["record_id"] for row in rows[20:]}
    scored = [
        r for r in read_parquet(tmp_path / "whole" / "out" / "documents.parquet").to_pylist() if r["record_id"] in left
    ]
    bits, n_bytes = sum(row["nll_bits"] for row in scored), sum(row["n_bytes"] for row in scored)
    assert math.isclose(metrics["bits_per_byte"], bits / n_bytes, rel_tol=1e-5)
