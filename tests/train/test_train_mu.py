"""A model of another family through the rooms that are made for all: trained, resumed, scored, asked, told about."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lmcore import load
from lmcore.export.stage import ExportParams, ExportRuntime, export
from lmcore.models import DecoderConfig, MuConfig, build, load_model
from lmcore.models.fit import misfits
from lmcore.models.growth import grow, with_vocabulary
from lmcore.progress import silent
from lmcore.train.loop import Stopped, train
from lmcore.train.optim import Optimizer, decayed_names, hidden_matrices
from lmcore.train.params import Job, TrainParams
from storage.errors import UserError

MODEL = {"family": "mu", "n_layers": 2, "matrix": [4, 4], "n_heads": 4, "context": 32}


def out(values):
    return Path(values["work"]) / "out"


def test_it_trains_resumes_and_is_asked_like_any_other(job, content, tmp_path):
    straight, stopped = (job(name, model=MODEL, steps=30) for name in ("straight", "stopped"))
    metrics = train(Job.model_validate(straight))
    calls = iter([False] * 11 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    train(Job.model_validate(stopped))
    assert content(straight) == content(stopped)
    looks = pq.read_table(out(straight) / "provenance" / "validation.parquet")["bits_per_byte"].to_pylist()
    assert looks[-1] < 0.8 * looks[0]

    model = load(out(straight))
    told = model.info()
    assert (told["family"], told["model"]["matrix"], told["context"]) == ("mu", [4, 4], 32)
    assert told["parameters"] == metrics["parameters"] == sum(told["parameters_by_part"].values())
    assert told["parameters_by_part"]["affinity"] == 2 * 4 * told["vocab_size"]
    text = model.generate("The old", max_tokens=50, temperature=0)  # beyond the context
    assert text == load(out(stopped)).generate("The old", max_tokens=50, temperature=0)
    assert len(model.logprobs("The old bird sings.")) > 3

    settings = {"params": ExportParams(hf=False), "runtime": ExportRuntime(threads=1), "report": silent}
    assert export(tmp_path / "export", out(straight), **settings)["architecture"] == "none"
    with pytest.raises(UserError, match="no stock Hugging Face architecture is a model of family mu"):
        export(tmp_path / "export", out(straight), **settings | {"params": ExportParams()})


@pytest.mark.parametrize("options", [{"optimizer": "adamw"}, {"document_mask": True, "packing": "best_fit"}])
def test_it_trains_in_other_ways(job, options):
    values = job(model=MODEL | {"affinity": "shared"}, steps=6, **options)
    values["runtime"] |= {"activation_checkpointing": "on"}
    assert train(Job.model_validate(values))["skipped_steps"] == 0


def test_the_published_model_is_not_trained(job):
    with pytest.raises(UserError, match=r"model\.compat: original lets every token see the next one"):
        train(Job.model_validate(job(model=MODEL | {"compat": "original"})))


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "schedule_free"])
def test_a_step_moves_every_parameter(optimizer):
    config = MuConfig(n_layers=2, context=12, dropout=0.0)
    model, tokens = build(config, 40, 1), torch.arange(40).view(4, 10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    update = Optimizer(model, TrainParams(model=config, steps=1, optimizer=optimizer, schedule="constant", lr=0.01))
    for _ in range(2):  # zero biases have their first gradient in the second
        model(tokens).logsumexp(-1).sub(model(tokens)[..., 0]).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        update.step(1.0)
    for name, parameter in model.named_parameters():
        moved = parameter != before[name]
        assert moved.any(), name
        if name == "position.weight":
            assert moved[:10].all()
            assert optimizer != "muon" or not moved[10:].any(), "places that were not read"


def test_tables_are_no_hidden_matrices():
    model = build(MuConfig(n_layers=2, context=12), 40, 1)
    hidden = hidden_matrices(model)
    assert sorted(name.partition(".1.")[2] for name in hidden if name.startswith("blocks.1.")) == [
        "cross_attn.o.weight", "cross_attn.qkv.weight", "gate.down.weight", "gate.up.weight", "mlp.down.weight",
        "mlp.up.weight",
    ]  # fmt: skip
    assert not {name for name in decayed_names(model, "hidden") if name.startswith(("affinity", "embed", "position"))}
    assert "affinity.0.weight" in decayed_names(model, "matrices")
    assert not {name for name in decayed_names(model, "matrices") if name.endswith(("bias", "base"))}
    assert "blocks.0.block_attn.qkv.weight" in decayed_names(model, "hidden")


def test_weights_are_taken_over_where_the_shape_stays():
    small = MuConfig(n_layers=2, context=12)
    shorter = small.model_copy(update={"context": 8, "dropout": 0.0})
    model, ids = build(small, 40, 1).eval(), torch.arange(8)[None]
    assert misfits(small, shorter) == []
    assert torch.equal(grow(model, shorter)(ids), model(ids))
    assert misfits(small, small.model_copy(update={"context": 13})) == ["context"]
    assert misfits(small, small.model_copy(update={"affinity": "none", "n_layers": 3}), grow=True) == [
        "n_layers", "affinity",
    ]  # fmt: skip
    assert misfits(small, DecoderConfig()) == ["family"]
    with pytest.raises(UserError, match="n_layers 2 to 3"):
        grow(model, small.model_copy(update={"n_layers": 3}))


def test_another_vocabulary_keeps_what_a_token_was():
    model = build(MuConfig(n_layers=2, context=12), 40, 1).eval()
    ids = torch.arange(8)[None]
    spelt = with_vocabulary(model, [[39 - token] for token in range(40)] + [[3, 4]])
    assert torch.allclose(spelt(39 - ids)[..., :40].flip(-1), model(ids), atol=1e-6)
    assert torch.equal(spelt.affinity[1].weight[40], model.affinity[1].weight[3:5].mean(0))


def test_a_file_of_one_family_is_not_read_as_another(tmp_path, job):
    values = job(model=MODEL, steps=1)
    train(Job.model_validate(values))
    assert type(load_model(out(values)).config) is MuConfig
    with pytest.raises(UserError, match="has another shape"):
        train(Job.model_validate(job("next", start_from=str(out(values)))))
