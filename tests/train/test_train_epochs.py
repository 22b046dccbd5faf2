"""What the trainer tells of epochs, checkpoints, and what it does between the steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lmcore.tokens.meta import read_meta
from lmcore.train import epochs
from lmcore.train.journal import Journal, newest_line, read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.digest import digest_file


def run(values):
    return train(Job.model_validate(values))


def told(values, event):
    return [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if line.get("event") == event]


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(epochs, "LINE_SECONDS", 0.0)


def test_every_epoch_with_the_means_of_its_steps(job, every_epoch):
    values = job(batch=64, micro_batch=64, epochs=3.0)
    metrics = run(values)
    found = told(values, "epoch")
    length = metrics["steps"] // 3
    tokens = read_meta(Path(values["tokens"])).splits["train"].tokens
    assert length == math.ceil(tokens / (64 * 32)), "tokens of a step: 64 rows of 32"
    assert [line["epoch"] for line in found] == [1, 2, 3]
    assert [line["step"] for line in found] == [length, 2 * length, 3 * length]
    steps = pq.read_table(Path(values["work"]) / "out" / "metrics.parquet")
    second = steps.slice(length, length)
    for name, column in (("mean_loss", "loss"), ("mean_bits_per_byte", "bits_per_byte")):
        assert found[1][name] == pytest.approx(sum(second[column].to_pylist()) / length)
    assert found[1]["tokens_per_second"] > 0
    assert found[2]["progress"] == 1.0


def test_epochs_that_end_within_a_second_are_told_together(job):
    values = job(batch=64, micro_batch=64, epochs=4.0)
    run(values)
    found = told(values, "epoch")
    assert found[-1]["epoch"] == 4, "the last one is always told"
    assert len(found) < 4


def test_checkpoints_are_told_and_nothing_of_it_is_in_the_content(job, content, every_epoch):
    values = job(runtime={"save_every_steps": 5})
    run(values)
    assert [line["step"] for line in told(values, "checkpoint")] == [5, 10, 12]
    assert set(told(values, "checkpoint")[0]) == {"event", "text", "step", "tokens", "seconds", "progress"}
    other = job("other", runtime={"save_every_steps": 3})
    run(other)
    out = [Path(v["work"]) / "out" / "metrics.parquet" for v in (values, other)]
    assert digest_file(out[0]) == digest_file(out[1])


def test_what_is_done_beside_the_steps_is_told_before_it_begins(job):
    values = job(runtime={"save_every_steps": 6, "validate_every": 0.5, "sample_at": [0.5]})
    run(values)
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    for doing, event in (("validation", "validation"), ("samples", "sample"), ("checkpoint", "checkpoint")):
        first = next(place for place, line in enumerate(lines) if line.get("event") == event)
        assert {"doing": doing} in lines[:first]
    assert "loss" in newest_line(Path(values["work"]) / "progress.jsonl")


def test_it_is_told_once_a_second_while_it_lasts(tmp_path):
    with Journal(tmp_path, 0.0) as journal:
        for _ in range(50):
            journal.doing("validation")
        journal.event("validation", "done")
        journal.doing("samples")
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert lines == [{"doing": "validation"}, {"event": "validation", "text": "done"}, {"doing": "samples"}]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [({"steps": 23}, [0, 5, 10, 15, 20, 23]), ({"minutes": 0.004}, [0, 5, 10])],
)
def test_looks_at_every_so_many_steps_and_at_the_end(job, budget, expected):
    values = job(runtime={"validate_every_steps": 5, "validate_every": 0.01}, **budget)
    metrics = run(values)
    found = [line["step"] for line in told(values, "validation")]
    if "steps" in budget:
        assert found == expected
    else:  # nobody knows how many steps a minute has
        last = metrics["steps"]
        assert found == sorted({*range(0, last, 5), last})


def test_a_resumed_run_looks_at_no_step_twice(job):
    straight, stopped = job("straight"), job("stopped")
    for values in (straight, stopped):
        values["runtime"] |= {"validate_every_steps": 4}
    run(straight)
    calls = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    run(stopped)
    looks = [
        pq.read_table(Path(values["work"]) / "out/provenance/validation.parquet")["step"].to_pylist()
        for values in (straight, stopped)
    ]
    assert looks == [[0, 4, 8, 12]] * 2
    # Early stopping has a cadence of its own, which decides what is left.
    early = job("early", early_stop={"patience": 50, "every": 0.5}, runtime={"validate_every_steps": 1})
    run(early)
    assert [line["step"] for line in told(early, "validation")] == [0, 6, 12]
