"""A training that starts from a trained model: what is taken over, what begins anew, and that kills change nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import RunError, UserError

CADENCE = {"save_every_steps": 4}
POINTS = ["train.step:1", "train.step:7", "train.checkpoint.before-rename:2", "train.out.before-rename"]


def finish(values):
    return train(Job.model_validate(values))


def out(values):
    return Path(values["work"]) / "out"


def metrics(values, column):
    return pq.read_table(out(values) / "metrics.parquet")[column].to_pylist()


@pytest.fixture
def champion(job):
    values = job("champion", steps=20)
    finish(values)
    return values


def test_weights_are_taken_over_and_schedule_and_optimizer_begin_anew(job, champion):
    warm, cold, again = (job(name, start_from=start) for name, start in [
        ("warm", str(out(champion))), ("cold", None), ("again", str(out(champion))),
    ])  # fmt: skip
    for values in (warm, cold, again):
        finish(values)
    assert metrics(warm, "loss")[0] < metrics(cold, "loss")[0] - 1, "it knows what the champion knew"
    assert metrics(warm, "lr") == metrics(cold, "lr"), "the learning rate rises and falls once more"
    assert metrics(warm, "step")[0] == 1
    assert metrics(warm, "loss") == metrics(again, "loss")
    # The champion's optimizer is not in its artifact: nothing of it can be taken over.
    assert not [path.name for path in out(champion).rglob("*optimizer*")]


def test_another_seed_changes_the_order_of_the_data_and_not_the_first_weights(job, champion):
    start = str(out(champion))
    losses = []
    for seed in (1, 2):
        values = job(f"seed-{seed}", start_from=start, seed=seed, lr=1e-12, muon_lr=1e-12, steps=2)
        finish(values)
        losses.append(metrics(values, "loss"))
    assert losses[0] != losses[1]
    assert max(map(max, losses)) < metrics(champion, "loss")[0] - 1


def test_stopped_and_resumed_it_ends_with_the_same_bytes(job, champion, content):
    straight, stopped = (job(name, start_from=str(out(champion))) for name in ("straight", "stopped"))
    finish(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    assert finish(stopped)["resumes"] == 1
    assert content(stopped) == content(straight)


@pytest.mark.slow
def test_killed_at_any_point_it_ends_with_the_same_bytes(job, trainer, champion, content):
    straight = job("straight", start_from=str(out(champion)), runtime=CADENCE)
    finish(straight)
    for number, point in enumerate(POINTS):
        values = job(f"killed-{number}", start_from=str(out(champion)), runtime=CADENCE)
        assert trainer(values, point).returncode == -signal.SIGKILL, point
        finish(values)
        assert content(values) == content(straight), point


def test_another_vocabulary_is_refused_also_by_the_trainer(job, champion, tmp_path):
    """The flow says so first; this is for jobs that somebody else writes."""
    folder = out(champion)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(RunError, match=r"does not fit config\.json"):
        finish(job("other", start_from=str(folder)))


def test_a_grown_start_knows_at_once_what_the_small_model_knew(job, champion, content):
    shape = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_ff": 256, "context": 32}
    values = job("grown", start_from=str(out(champion)), grow=True, model=shape, runtime=CADENCE)
    champions = job("same", start_from=str(out(champion)))
    for each in (values, champions):
        finish(each)
    assert metrics(values, "loss")[0] == pytest.approx(metrics(champions, "loss")[0], abs=1e-4)
    again = job("again", start_from=str(out(champion)), grow=True, model=shape)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(again), stopped=lambda: next(calls))
    finish(again)
    assert content(again) == content(values), "grown again when resumed, by the same seed"
    with pytest.raises(UserError, match="has another shape"):
        finish(job("refused", start_from=str(out(champion)), model=shape))
