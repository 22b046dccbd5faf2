"""Training on packed rows, within documents: the settings reach the loop, enter the key only when used, and resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from lmcore.models import build
from lmcore.tokens import Loader
from lmcore.train.loop import Stopped, train
from lmcore.train.loss import BatchSize, micro_loss
from lmcore.train.params import Job, TrainParams

PACKED = {"packing": "best_fit", "document_mask": True}


def run(values, **options):
    return train(Job.model_validate(values), **options)


def stops_after(steps):
    left = iter(range(steps))
    return lambda: next(left, None) is None


def test_settings_that_are_not_used_are_not_in_the_key():
    plain = TrainParams(steps=1).key_values()
    assert not plain.keys() & {"packing", "stride", "document_mask", "mixture", "stages"}
    assert TrainParams(steps=1, **PACKED).key_values() == plain | PACKED
    with pytest.raises(ValidationError, match="stride 8 has no meaning with packing windows"):
        TrainParams(steps=1, stride=8)


@pytest.mark.parametrize("settings", [PACKED, {"packing": "stride", "stride": 16}], ids=["packed", "stride"])
def test_a_stopped_run_ends_as_if_it_had_not_been(job, content, capsys, settings):
    whole, stopped = job("whole", **settings), job("stopped", **settings)
    metrics = run(whole)
    with pytest.raises(Stopped):
        run(stopped, stopped=stops_after(5))
    run(stopped)
    assert content(whole) == content(stopped)
    assert metrics["loss"] < 5.9
    assert "training text: " in capsys.readouterr().out


def test_the_loss_of_a_row_is_that_of_its_documents(job):
    values = job()
    batch = Loader(
        Path(values["tokens"]), "train", batch=12, context=32, seed=1, tokenizer_bytes=None, packing="best_fit"
    ).batch(0)
    model = build(TrainParams.model_validate(values["params"]).model, 320, 1)
    with torch.no_grad():  # a new model's last projections are 0: attention would not be seen
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    model.within_documents = True
    with torch.no_grad():
        masked, _ = micro_loss(model, batch)
        model.within_documents = False
        seen, _ = micro_loss(model, batch)
    assert torch.isfinite(masked)
    assert BatchSize.of(batch).tokens > 0
    assert any(len(row.unique()) > 1 for row in batch.doc_ids)
    assert float(masked) != float(seen)
