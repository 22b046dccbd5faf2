"""What is seen of a run: accuracy, perplexity and bits per byte by source, the progress lines, TensorBoard's files."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import cross_entropy

from lmcore.models.io import load_model
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens import sequential
from lmcore.train.history import SCHEMAS, History
from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import UserError
from storage.parquet import read_parquet, write_parquet


def run(values, **options):
    return train(Job.model_validate(values), **options)


def rows(values, name):
    return pq.read_table(Path(values["work"]) / "out" / "provenance" / f"{name}.parquet").to_pylist()


def told(values, event):
    return [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if line.get("event") == event]


@pytest.fixture
def two_sources(job, tmp_path):
    """A job on tokens of which every other validation document is of a second source."""

    def make(work="work", **settings):
        values = job(work, **settings)
        tokens = tmp_path / "two"
        if not tokens.exists():
            shutil.copytree(values["tokens"], tokens)
            meta = json.loads((tokens / "meta.json").read_text())
            (tokens / "meta.json").write_text(json.dumps(meta | {"sources": ["one", "two", "none"]}))
            table = read_parquet(tokens / "val" / "documents.parquet")
            of = pa.array(np.arange(table.num_rows) % 2, table.schema.field("source").type)
            place = table.schema.get_field_index("source")
            write_parquet(tokens / "val" / "documents.parquet", table.set_column(place, "source", of))
        return values | {"tokens": str(tokens)}

    return make


def test_a_look_is_the_mean_over_its_tokens_in_all_and_by_source(two_sources, capsys):
    values = two_sources(runtime={"validation_tokens": 10**9})
    metrics = run(values)
    model = load_model(Path(values["work"]) / "out")
    tokens, tokenizer = Path(values["tokens"]), load_tokenizer(Path(values["tokenizer"]))
    lengths = tokenizer.byte_length(np.arange(320))
    of_document = read_parquet(tokens / "val" / "documents.parquet", ["source"])["source"].to_numpy()
    sums = np.zeros((2, 5))
    for batch in sequential(tokens, "val", 4, 32, tokenizer_bytes=lengths):
        with torch.no_grad():
            logits = model(batch.ids).flatten(0, 1)
        targets, mask, n_bytes = batch.targets.flatten(), batch.loss_mask.flatten(), batch.n_bytes.flatten()
        nats = cross_entropy(logits, targets, reduction="none")
        right = logits.argmax(-1) == targets
        of = of_document[batch.doc_ids.flatten().numpy()]
        for source in (0, 1):
            here = mask & torch.from_numpy(of == source)
            real = here & (n_bytes > 0)
            parts = (nats[here], nats[real], here, right & here, n_bytes * here)
            sums[source] += [float(part.sum()) for part in parts]
    last = {row["source"]: row for row in rows(values, "sources") if row["step"] == 12}
    assert set(last) == {"one", "two"}, "a source without a token is left out"
    whole = rows(values, "validation")[-1]
    for row, (total, of_bytes, count, right, n_bytes) in zip(
        (last["one"], last["two"], whole), [*sums, sums.sum(0)], strict=True
    ):
        assert row["loss"] == pytest.approx(total / count, rel=1e-5)
        assert row["accuracy"] == pytest.approx(right / count)
        assert row["bits_per_byte"] == pytest.approx(of_bytes / n_bytes / math.log(2), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx(whole["accuracy"], abs=1e-6)
    event = told(values, "validation")[-1]
    assert event["perplexity"] == pytest.approx(math.exp(whole["loss"]))
    assert event["by_source"] == {name: row["bits_per_byte"] for name, row in last.items()}
    assert f"(one {last['one']['bits_per_byte']:.4f}, two " in capsys.readouterr().out


def test_looks_by_source_survive_a_stop_and_change_no_content(two_sources, content):
    straight, stopped = two_sources("straight"), two_sources("stopped")
    run(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    run(stopped)
    assert content(straight) == content(stopped)
    assert rows(straight, "sources") == rows(stopped, "sources")


def test_a_table_of_an_earlier_version_is_filled_up():
    old = pa.table({"step": pa.array([1], pa.int64()), "progress": [0.5], "bits_per_byte": [2.0]})
    history = History({"validation": old})
    history.add("validation", step=2, progress=1.0, bits_per_byte=1.5, loss=1.0, accuracy=0.5)
    table = history.table("validation")
    assert table.schema.equals(SCHEMAS["validation"])
    assert table["bits_per_byte"].to_pylist() == [2.0, 1.5]
    assert math.isnan(table["loss"][0].as_py())


def test_progress_lines_say_what_the_machine_does(job):
    values = job()
    run(values)
    lines = [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if "loss" in line and "lr" in line]
    last = lines[-1]
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]))
    assert 0 < last["utilisation"] < 1.5
    assert last["memory_mib"] > 50
    assert last["grad_norm"] > 0


def test_tensorboard_that_is_not_installed_is_said_before_the_first_step(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    values = job(runtime={"tensorboard": True})
    with pytest.raises(UserError, match="the package tensorboard is not installed") as error:
        run(values)
    assert "collect-train[tensorboard]" in error.value.mend
    assert not (Path(values["work"]) / "checkpoints").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_tensorboard_reads_every_step_once_also_after_a_stop(job, content):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain, values = job("plain"), job("board", runtime={"tensorboard": True})
    run(plain)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        run(values, stopped=lambda: next(calls))
    run(values)
    assert content(plain) == content(values)
    found = EventAccumulator(str(Path(values["work"]) / "out" / "provenance" / "tensorboard"))
    found.Reload()
    points = found.Scalars("train/loss")
    assert [point.step for point in points] == list(range(1, 13))
    losses = pq.read_table(Path(values["work"]) / "out" / "metrics.parquet")["loss"].to_pylist()
    assert [point.value for point in points] == pytest.approx(losses, rel=1e-6)
    assert {"train/lr", "train/tokens_per_second", "validation/accuracy"} <= set(found.Tags()["scalars"])
