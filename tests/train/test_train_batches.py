"""Training on packed rows, within documents: the settings reach the loop, enter the key only when used, and resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from lmcore.models import build
from lmcore.tokenizer import ByteBPE
from lmcore.tokens import Loader
from lmcore.tokens.params import BatchSettings
from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.loss import BatchSize, micro_loss
from lmcore.train.params import Job, TrainParams
from storage.digest import digest_file
from storage.errors import RunError, UserError

STAGES = [
    {"share": 0.25, "context": 8, "lr_factor": 0.5},
    {"share": 0.5, "mixture": {"made": 1}, "complexity": [20, 80]},
    {"share": 0.25},
]
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

    stages = TrainParams(steps=9, stages=[{"share": 0.5}, {"share": 0.5, "lr_factor": 2}]).key_values()["stages"]
    assert stages == [{"share": 0.5}, {"share": 0.5, "lr_factor": 2.0}]


@pytest.mark.parametrize(
    "settings",
    [PACKED, {"packing": "stride", "stride": 16}, {"mixture": {"made": 1}}, {"stages": STAGES, **PACKED}],
    ids=["packed", "stride", "mixture", "stages"],
)
def test_a_stopped_run_ends_as_if_it_had_not_been(job, content, capsys, settings):
    whole, stopped = job("whole", **settings), job("stopped", **settings)
    metrics = run(whole)
    with pytest.raises(Stopped):
        run(stopped, stopped=stops_after(5))
    run(stopped)
    assert content(whole) == content(stopped)
    assert metrics["loss"] < 5.9
    assert "training text: " in capsys.readouterr().out


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_the_loss_of_a_row_is_that_of_its_documents(job, position):
    """The mean over a packed batch is that over its documents, each passed alone, weighted by their tokens."""
    values = job()
    values["params"]["model"] = {**values["params"]["model"], "position": position}
    batch = Loader(
        Path(values["tokens"]),
        "train",
        batch=12,
        context=32,
        seed=1,
        tokenizer_bytes=None,
        settings=BatchSettings(packing="best_fit"),
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
        alone = [micro_loss(model, document) for document in documents_of(batch)]
    assert any(len(row.unique()) > 1 for row in batch.doc_ids)
    weights = [BatchSize.of(document).tokens for document in documents_of(batch) if document.loss_mask.any()]
    assert sum(weights) == BatchSize.of(batch).tokens
    of_documents = sum(float(total) for total, _ in alone) / sum(weights)
    assert float(masked) / BatchSize.of(batch).tokens == pytest.approx(of_documents, rel=1e-6)
    assert float(seen) / BatchSize.of(batch).tokens != pytest.approx(of_documents, rel=1e-4)


def documents_of(batch):
    """Each stretch of one document in a row, as a batch of its own that begins with it."""
    for number, ids in enumerate(batch.doc_ids):
        begins = [0, *(1 + torch.nonzero(ids[1:] != ids[:-1]).flatten()).tolist(), len(ids)]
        for start, stop in pairwise(begins):
            yield type(batch)(**{
                field.name: getattr(batch, field.name)[number : number + 1, start:stop] for field in fields(batch)
            })  # fmt: skip


def test_the_mask_is_heeded_in_training(job):
    """A new model's last projections are 0, so the first step is the same."""
    masked, seen = job("masked", **PACKED, steps=3), job("seen", packing="best_fit", steps=3)
    losses = []
    for values in (masked, seen):
        run(values)
        losses.append(pq.read_table(Path(values["work"]) / "out" / "metrics.parquet")["loss"].to_pylist())
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_stages_are_told_and_seen(job, capsys):
    values = job(stages=STAGES, schedule="constant", warmup=0.0)
    run(values)
    told = capsys.readouterr().out
    assert "training text: stage 1, 25.0% of the budget: " in told
    assert "stage 2, 50.0% of the budget: source 'made', complexity 20 to 80: " in told
    assert "stage 2 of 3 begins after step 3" in told
    assert "stage 3 of 3 begins after step 9" in told
    table = pq.read_table(Path(values["work"]) / "out" / "metrics.parquet")
    rates, tokens = table["lr"].to_pylist(), table["tokens"].to_pylist()
    assert [rate / rates[-1] for rate in rates] == [0.5] * 3 + [1] * 9
    assert tokens == [4 * 32 * step for step in range(1, 13)]


def test_a_budget_of_minutes_has_stages_too(job, content, capsys):
    values = job(stages=STAGES, minutes=0.02)
    run(values)
    told = capsys.readouterr().out
    assert told.index("stage 2 of 3 begins") < told.index("stage 3 of 3 begins")


def test_a_stage_without_a_step_is_refused(job):
    with pytest.raises(UserError, match=r"train\.stages 2 has 0.01 of 12 steps, which is none"):
        run(job(stages=[{"share": 0.99}, {"share": 0.01}]))


def test_a_tokenizer_of_equal_size_that_is_another_one_is_refused(job, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    values = job()
    texts = ["zyx wvu tsr qpo nml " * 40, "abba baab " * 50]
    made = ByteBPE.train(texts, vocab_size=270, split="llama3", min_frequency=2, max_token_length=64)
    (other / "tokenizer.json").write_text(made.to_json(), encoding="utf-8")
    with pytest.raises(RunError, match="made with 320 tokens, this tokenizer has 270"):
        run(values | {"tokenizer": str(other)})
    text = (Path(values["tokenizer"]) / "tokenizer.json").read_text(encoding="utf-8")
    file = json.loads(text)
    names = file["model"]["vocab"]
    one, two = (next(name for name, number in names.items() if number == n) for n in (40, 41))  # two single bytes
    names[one], names[two] = names[two], names[one]
    (other / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    with pytest.raises(RunError, match=r"of equal size, but its tokens stand for other text"):
        run(values | {"tokenizer": str(other)})


def test_a_context_longer_than_every_document_is_told(job, capsys):
    model = {"n_layers": 1, "d_model": 32, "n_heads": 2, "context": 1024}
    values = job(**PACKED, steps=1, model=model)
    run(values)
    told = capsys.readouterr().out
    longest = max(pq.read_table(Path(values["tokens"]) / "train" / "documents.parquet")["n_tokens"].to_pylist())
    assert longest < 1024
    assert f"no document has more than {longest:,} tokens: the model's context will not be learnt beyond" in told


def test_early_stopping_without_validation_text_is_refused(job, tmp_path):
    values = job(early_stop={"patience": 3})
    empty = Path(shutil.copytree(values["tokens"], tmp_path / "empty"))
    for path in (empty / "val").glob("*.bin"):
        path.unlink()
    table = pq.read_table(empty / "val" / "documents.parquet")
    pq.write_table(table.slice(0, 0), empty / "val" / "documents.parquet")
    meta = json.loads((empty / "meta.json").read_text())
    meta["splits"]["val"] = {"shards": [], "masks": [], "tokens": 0, "documents": 0, "bytes": 0}
    (empty / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match=r"has no validation text, and train\.early_stop needs some"):
        run(values | {"tokens": str(empty)})


def test_a_rewind_over_the_beginning_of_a_stage_resumes_exactly(job):
    """The stage begins twice, at different batches."""
    settings = {"batch": 1, "micro_batch": 1, "steps": 60, "lr": 0.02, "muon_lr": 0.05, "on_spike": "rewind"}
    settings |= {"spike_factor": 1.06, "rewind_every": 100, "runtime": {"sample_at": [], "validate_every": 0}}
    begin = 16  # too early for a spike
    stages = [{"share": begin / 60}, {"share": 1 - begin / 60}]
    straight, stopped = job("straight", **settings, stages=stages), job("stopped", **settings, stages=stages)

    def told(values):
        lines = read_lines(Path(values["work"]) / "progress.jsonl")
        return [(line["event"], line["step"]) for line in lines if line.get("event") in ("stage", "rewound")]

    def digest(values):
        return digest_file(Path(values["work"]) / "out" / "model.safetensors")

    run(straight)
    assert told(straight)[:3] == [("stage", begin), ("rewound", 0), ("stage", begin)]
    stopped["runtime"] |= {"save_every_steps": 3, "keep_checkpoints": 1}
    for some in (begin, 7, 11):
        with pytest.raises(Stopped):
            run(stopped, stopped=stops_after(some))
    run(stopped)
    assert digest(stopped) == digest(straight)
