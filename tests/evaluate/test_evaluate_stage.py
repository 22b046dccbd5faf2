"""The evaluate stage as the flow calls it: files, groups, resuming after kill -9, clear errors."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from lmcore.documents import CURATED, read_documents
from lmcore.evaluate.likelihood import score_documents
from lmcore.evaluate.stage import SCORED, EvaluateParams, EvaluateRuntime, evaluate
from lmcore.progress import silent
from storage.digest import digest_file
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet

RUNTIME = EvaluateRuntime(device="cpu")
SMALL = {"bootstrap_draws": 200, "prompts": ["the hero", ""], "sampling": {"max_tokens": 8}}


def run(work, trained, curated, **params):
    return evaluate(work, trained, curated, params=EvaluateParams(**(SMALL | params)), runtime=RUNTIME, report=silent)


@pytest.fixture(scope="module")
def done(trained, curated, tmp_path_factory):
    work = tmp_path_factory.mktemp("evaluate")
    return work, run(work, trained, curated)


def held_out(curated, split):
    return [
        row for path in sorted((curated / split).glob("*.parquet")) for row in read_documents(path, CURATED).to_pylist()
    ]


def test_evaluation_says_what_direct_computation_says(done, model, tokenizer, curated, read_json):
    work, metrics = done
    evaluation = read_json(work / "out" / "evaluation.json")
    assert sorted(path.name for path in (work / "out").iterdir()) == [
        "documents.parquet",
        "evaluation.json",
        "samples.json",
    ]
    for split in ("val", "test"):
        rows = held_out(curated, split)
        scores = score_documents(model, tokenizer, [row["text"] for row in rows], context=model.config.context)
        figures = evaluation["splits"][split]
        assert math.isclose(figures["bits_per_byte"], scores.bits.sum() / scores.n_bytes.sum(), rel_tol=1e-6)
        assert figures["documents"] == figures["available_documents"] == 40
        assert figures["bytes"] == sum(row["n_bytes"] for row in rows)
        low, high = figures["interval"]
        assert low < figures["bits_per_byte"] < high
    shown = {key: value for key, value in evaluation["splits"]["test"].items() if key != "available_documents"}
    assert evaluation["headline"] == {"split": "test", **shown}
    assert evaluation["lossy"] is False
    assert metrics["bits_per_byte"] == evaluation["headline"]["bits_per_byte"]


def test_documents_add_up_to_the_splits(done, curated, read_json):
    work, _ = done
    table = read_parquet(work / "out" / "documents.parquet")
    assert table.schema == SCORED
    rows = table.to_pylist()
    evaluation = read_json(work / "out" / "evaluation.json")
    for split in ("val", "test"):
        mine = [row for row in rows if row["split"] == split]
        assert [row["record_id"] for row in mine] == [row["record_id"] for row in held_out(curated, split)]
        bits, n_bytes = sum(row["nll_bits"] for row in mine), sum(row["n_bytes"] for row in mine)
        assert math.isclose(evaluation["splits"][split]["bits_per_byte"], bits / n_bytes, rel_tol=1e-9)
        assert evaluation["splits"][split]["tokens"] == sum(row["n_tokens"] for row in mine)


def test_groups_add_up_to_the_headline(done, read_json):
    evaluation = read_json(done[0] / "out" / "evaluation.json")
    headline, groups = evaluation["headline"], evaluation["groups"]
    assert {name: sorted(of) for name, of in groups.items()} == {
        "source": ["files", "web"],
        "lang": ["en", "hu"],
        "kind": ["code", "dialogue", "prose"],
    }
    for of in groups.values():
        for size in ("bytes", "tokens", "documents"):
            assert sum(figures[size] for figures in of.values()) == headline[size]
        bits = sum(figures["bits_per_byte"] * figures["bytes"] for figures in of.values())
        assert math.isclose(bits, headline["bits_per_byte"] * headline["bytes"], rel_tol=1e-9)
        correct = sum(figures["accuracy"] * figures["tokens"] for figures in of.values())
        assert math.isclose(correct, headline["accuracy"] * headline["tokens"], rel_tol=1e-9)
        assert all(figures["interval"][0] <= figures["bits_per_byte"] for figures in of.values())


def test_an_untrained_model_is_said_to_beat_nothing(done, read_json):
    work, metrics = done
    baselines = read_json(work / "out" / "evaluation.json")["baselines"]
    assert [one["name"] for one in baselines] == ["gzip -9", "xz -9e", "n-gram of 8 bytes"]
    assert not any(one["beaten"] for one in baselines)
    assert all("bytes of training text" in one["note"] for one in baselines)
    assert metrics["beats"] == "none"
    assert metrics["does_not_beat"] == "gzip -9, xz -9e, n-gram of 8 bytes"


def test_samples_are_greedy_and_sampled_and_come_again(done, trained, curated, tmp_path, read_json):
    samples = read_json(done[0] / "out" / "samples.json")
    assert [(one["prompt"], one["greedy"]) for one in samples] == [
        ("the hero", True),
        ("the hero", False),
        ("", True),
        ("", False),
    ]
    assert all(one["text"] for one in samples)
    run(tmp_path, trained, curated)
    assert digests(tmp_path) == digests(done[0])


def digests(work):
    return {path.name: digest_file(path) for path in (work / "out").iterdir()}


CHILD = """
import sys
from pathlib import Path
from lmcore.evaluate import stage
from lmcore.progress import silent
stage._BATCH_DOCUMENTS = 16
params = stage.EvaluateParams(bootstrap_draws=200, prompts=["the hero", ""], sampling={"max_tokens": 8})
stage.evaluate(*map(Path, sys.argv[1:]), params=params, runtime=stage.EvaluateRuntime(device="cpu"), report=silent)
"""


def child(work, trained, curated, fault=None):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLLECT_TRAIN_FAULT": fault or ""}
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(work), str(trained), str(curated)], env=environment, capture_output=True
    )


@pytest.fixture(scope="module")
def uninterrupted(trained, curated, tmp_path_factory):
    work = tmp_path_factory.mktemp("whole")
    result = child(work, trained, curated)
    assert result.returncode == 0, result.stderr.decode()
    return digests(work)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["evaluate.document-batch", "evaluate.document-batch:4", "evaluate.baseline:2", "evaluate.before-save"]
)
def test_a_killed_evaluation_continues_to_the_same_bytes(fault, trained, curated, tmp_path, uninterrupted):
    assert child(tmp_path / "killed", trained, curated, fault).returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "scores").iterdir()}
    assert kept
    assert not (tmp_path / "killed" / "out").exists()
    result = child(tmp_path / "killed", trained, curated)
    assert result.returncode == 0, result.stderr.decode()
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())  # nothing was scored twice
    assert digests(tmp_path / "killed") == uninterrupted


def test_limits_take_the_first_documents(trained, curated, tmp_path, read_json):
    rows = held_out(curated, "test")
    few = {"splits": ["test"], "baselines": [], "prompts": []}
    run(tmp_path / "documents", trained, curated, max_documents=3, **few)
    table = read_parquet(tmp_path / "documents" / "out" / "documents.parquet")
    assert table["record_id"].to_pylist() == [row["record_id"] for row in rows[:3]]
    room = sum(row["n_bytes"] for row in rows[:5])
    for limit, expected in ((room, 5), (room - 1, 4), (1, 1)):
        work = tmp_path / f"bytes-{limit}"
        run(work, trained, curated, max_bytes=limit, **few)
        assert read_json(work / "out" / "evaluation.json")["headline"]["documents"] == expected
    assert read_json(work / "out" / "samples.json") == []


def test_baselines_see_no_more_training_text_than_allowed(trained, curated, tmp_path, read_json):
    run(tmp_path, trained, curated, baselines=["ngram"], baseline_bytes=2000, prompts=[])
    (baseline,) = read_json(tmp_path / "out" / "evaluation.json")["baselines"]
    given = int(baseline["note"].split()[1].replace(",", ""))
    assert 1000 < given <= 2000


def test_progress_is_told(trained, curated, tmp_path):
    told = []
    evaluate(
        tmp_path,
        trained,
        curated,
        params=EvaluateParams(**SMALL),
        runtime=RUNTIME,
        report=lambda done, total, note="": told.append((done, total, note)),
    )
    scored = [(done, total) for done, total, note in told if "scored" in note]
    assert scored[-1][0] == scored[-1][1] > 0
    assert [note for *_, note in told if "baseline" in note] == ["baseline gzip", "baseline xz", "baseline ngram"]


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_model_is_named(size, trained, curated, tmp_path):
    broken = tmp_path / "train"
    shutil.copytree(trained, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(RunError, match=r"model\.safetensors"):
        run(tmp_path / "work", broken, curated)
    assert not (tmp_path / "work" / "out").exists()


def test_an_empty_or_missing_split_is_a_clear_error(trained, curated, tmp_path):
    broken = tmp_path / "curate"
    shutil.copytree(curated, broken)
    shutil.rmtree(broken / "test")
    with pytest.raises(RunError, match="test holds no Parquet"):
        run(tmp_path / "work", trained, broken)
    empty = read_documents(curated / "val" / "00000.parquet", CURATED).slice(0, 0)
    write_parquet(broken / "test" / "00000.parquet", empty)
    with pytest.raises(RunError, match=r"test split of .* holds no text"):
        run(tmp_path / "work", trained, broken)


def test_a_truncated_corpus_file_is_named(trained, curated, tmp_path):
    broken = tmp_path / "curate"
    shutil.copytree(curated, broken)
    path = broken / "test" / "00000.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=r"test/00000\.parquet"):
        run(tmp_path / "work", trained, broken)


@pytest.mark.skipif("__import__('torch').backends.mps.is_available()")
def test_a_device_that_is_not_there_is_the_users_mistake(trained, curated, tmp_path):
    with pytest.raises(UserError, match="mps"):
        evaluate(
            tmp_path,
            trained,
            curated,
            params=EvaluateParams(),
            runtime=EvaluateRuntime(device="mps"),
            report=silent,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"splits": []},
        {"splits": ["train"]},
        {"splits": ["test", "test"]},
        {"baselines": ["zip"]},
        {"ngram_order": 9},
        {"max_bytes": 0},
        {"bootstrap_draws": 1},
        {"sampling": {"temperature": -1}},
        {"unknown": 1},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        EvaluateParams(**wrong)


def test_settings_are_plain_json_for_the_key():
    values = EvaluateParams().key_values()
    assert json.loads(json.dumps(values)) == values
    assert values != EvaluateParams(sampling={"top_k": 5}).key_values()
