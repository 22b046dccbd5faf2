"""A finished run taken further under a larger budget: where it goes on, what it leaves, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job, TrainParams
from lmcore.train.schedule import lr_share
from storage.errors import RunError, UserError

# The rate does not depend on the budget, so 8 steps and 12 more are the same as 20 at once.
FLAT = {"schedule": "constant", "warmup": 0.0}


def run(values, **options):
    return train(Job.model_validate(values), **options)


def out(values):
    return str(Path(values["work"]) / "out")


@pytest.fixture
def finished(job):
    def make(**settings):
        values = job("finished", steps=8, runtime={"keep_state": True}, **settings)
        run(values)
        return values

    return make


def test_it_goes_on_as_if_the_budget_had_been_the_larger_one_from_the_start(job, finished):
    first, whole = finished(**FLAT), job("whole", steps=20, **FLAT)
    further = job("further", steps=20, start_from=out(first), continues=True, **FLAT)
    run(whole)
    metrics = run(further)
    assert metrics["continued_from_step"] == 8
    one, other = (load_file(Path(out(values)) / "model.safetensors") for values in (whole, further))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    losses = [pq.read_table(Path(out(v)) / "metrics.parquet")["loss"].to_pylist() for v in (whole, further)]
    assert losses[0] == losses[1]
    said = [line["text"] for line in read_lines(Path(further["work"]) / "progress.jsonl") if "event" in line]
    assert "continuing a finished run of 8 steps, which are 40% of 20 steps" in said


def test_the_schedule_is_planned_anew_and_a_stop_changes_nothing(job, finished, content):
    settings = {"schedule": "cosine", "warmup": 0.0}
    first = finished(**settings)
    straight, stopped = (
        job(name, steps=20, start_from=out(first), continues=True, **settings) for name in ("straight", "stopped")
    )
    run(straight)
    calls = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    run(stopped)
    assert content(straight) == content(stopped)
    rates = pq.read_table(Path(out(straight)) / "metrics.parquet")["lr"].to_pylist()
    assert rates[7] == pytest.approx(0.004 * lr_share(7.5 / 8, "cosine")), "as the first run had it"
    assert rates[8:] == pytest.approx([0.004 * lr_share((step + 0.5) / 20, "cosine") for step in range(8, 20)])


def test_it_can_be_continued_again_and_with_spikes_gone_back_from(job, finished):
    settings = FLAT | {"on_spike": "rewind", "rewind_every": 50}
    first = finished(**settings)
    second = job("second", steps=12, start_from=out(first), continues=True, runtime={"keep_state": True}, **settings)
    run(second)
    assert (Path(second["work"]) / "checkpoints" / "step-00000008").is_dir(), "what a rewind goes back to"
    third = job("third", steps=14, start_from=out(second), continues=True, **settings)
    assert run(third)["continued_from_step"] == 12


def test_looks_of_the_first_run_do_not_end_the_second(job, finished):
    first = finished(**FLAT)
    early = {"patience": 2, "min_delta": 5.0, "every": 0.25, "tokens": 100}  # no gain is large enough
    further = job("further", steps=40, start_from=out(first), continues=True, early_stop=early, **FLAT)
    assert run(further)["steps"] == 30, "two looks without a gain after the first of its own"


def test_what_does_not_fit_is_refused(job, finished, tmp_path):
    first = finished()
    good = out(first)

    def refused(kind, match, start=good, **settings):
        values = job("refused", **{"steps": 20, "continues": True, **settings}, start_from=start)
        with pytest.raises(kind, match=match):
            run(values)
        shutil.rmtree(values["work"])

    refused(UserError, "8 steps in .* minutes of training already, and the budget is 8 steps", steps=8)
    refused(UserError, "batch is 3, and the run to continue had 4", batch=3)
    refused(UserError, "there is no run to continue", start=None)
    shutil.copytree(out(first), tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoint"))
    refused(UserError, "has no checkpoint to continue from: it was trained without", start=str(tmp_path / "bare"))
    (Path(out(first)) / "provenance" / "checkpoint" / "step-00000008" / "optimizer.safetensors").write_bytes(b"")
    refused(RunError, "step-00000008 is damaged")
    assert (Path(out(first)) / "provenance" / "checkpoint" / "step-00000008").is_dir(), (
        "nothing is moved in an artifact"
    )


def test_another_text_is_refused(job, finished, tmp_path):
    """Equal totals and an equal tokenizer, but one document is another one."""
    first = finished()
    tokens = Path(shutil.copytree(first["tokens"], tmp_path / "tokens"))
    table = pq.read_table(tokens / "train" / "documents.parquet")
    ids = table["record_id"].to_pylist()
    ids[3] = "f" * 32
    changed = table.set_column(0, table.schema.field("record_id"), pa.array(ids, table["record_id"].type))
    pq.write_table(changed, tokens / "train" / "documents.parquet")
    other = {"tokens": str(tokens)}
    with pytest.raises(UserError, match="is not the text that the run to continue was trained on") as error:
        run(job("further", steps=20, start_from=out(first), continues=True) | other)
    assert "set train.continues=false" in error.value.mend
    with pytest.raises(RunError, match="belongs to a run on another text"):
        run(first | other)


def test_a_run_without_a_checkpoint_can_be_had_again_with_one(job, tmp_path):
    """What the error says to do."""
    bare = job("bare", steps=4)
    run(bare)
    with pytest.raises(UserError, match="has no checkpoint to continue from") as error:
        run(job("further", steps=8, start_from=out(bare), continues=True))
    assert "runtime.train.keep_state=true and another train.seed" in error.value.mend
    again = job("again", steps=4, seed=2, runtime={"keep_state": True})
    assert (
        TrainParams.model_validate(again["params"]).key_values()
        != TrainParams.model_validate(bare["params"]).key_values()
    ), "a run of its own"
    run(again)
    assert run(job("then", steps=8, seed=2, start_from=out(again), continues=True))["continued_from_step"] == 4


def test_a_stage_that_has_begun_goes_on_and_is_told(job, finished, content):
    stages = [{"share": 0.5, "context": 16}, {"share": 0.5, "lr_factor": 0.5}]
    first = finished(**FLAT, stages=stages)
    further = job("further", steps=40, start_from=out(first), continues=True, stages=stages, **FLAT)
    run(further)
    rates = pq.read_table(Path(out(further)) / "metrics.parquet")["lr"].to_pylist()
    assert [rate / rates[0] for rate in rates] == [1.0] * 4 + [0.5] * 36, "not the first stage once more"
    said = [line["text"] for line in read_lines(Path(further["work"]) / "progress.jsonl") if "event" in line]
    assert (
        "continuing a finished run of 8 steps, which are 20% of 40 steps; stage 2 of 2 goes on: no stage comes twice"
        in said
    )


def test_it_is_not_in_the_key_until_it_is_used():
    assert not TrainParams(steps=1).key_values().keys() & {"continues", "on_oom"}
    assert TrainParams(steps=1, continues=True).key_values()["continues"] is True
