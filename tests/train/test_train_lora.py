"""Adapters: what is trained and what stays, exact resumes, files that peft reads, merged weights that are the same."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from lmcore.models.io import load_model
from lmcore.models.ledger import estimate
from lmcore.models.lora import Lora, adapter_parameters, add_adapters, merged
from lmcore.recipe import parse_recipe
from lmcore.train.contract import ROW_BYTES
from lmcore.train.loop import Stopped, train
from lmcore.train.optim import Optimizer, trainable
from lmcore.train.params import Job, TrainParams
from lmcore.train.plan import _memory
from storage.errors import RunError, UserError

ADAPTED = {"lora": {"r": 4, "alpha": 8, "dropout": 0.1, "targets": ["qkv", "o", "down"]}, "lr": 1e-2}


def finish(values):
    return train(Job.model_validate(values))


def out(values):
    return Path(values["work"]) / "out"


@pytest.fixture
def base(job):
    values = job("base", steps=8)
    finish(values)
    return str(out(values))


def test_counts_of_the_amharic_system():
    """r 16 on c_attn and both c_proj of GPT-2: 1,622,016 of 126,061,824."""
    shape = {"n_layers": 12, "d_model": 768, "n_heads": 12, "context": 1024, "norm": "layer", "position": "learned"}
    config = DecoderConfig(**shape, mlp="gelu", bias=True, qk_norm=False)
    with torch.device("meta"):
        model = Decoder(config, 50257)
        add_adapters(model, Lora(r=16, alpha=32, dropout=0.1, targets=("qkv", "o", "down")), seed=1)
    assert sum(p.numel() for p in trainable(model).values()) == 1_622_016
    assert sum(p.numel() for p in model.parameters()) == 126_061_824
    assert model.ledger().total == 124_439_808, "adapters are no part of the shape"


@pytest.mark.parametrize("shape", [{}, {"mlp": "gelu", "bias": True}, {"n_kv_heads": 1, "head_dim": 24, "d_ff": 80}])
@pytest.mark.parametrize("targets", [("qkv", "o", "gate", "up", "down"), ("o",), ("gate", "down")])
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "schedule_free"])
def test_only_what_is_trained_needs_gradients_and_a_state(shape, targets, optimizer):
    config, lora = DecoderConfig(n_layers=3, d_model=32, n_heads=2, context=24, **shape), Lora(r=3, targets=targets)
    model = build(config, 100, seed=1)
    add_adapters(model, lora, seed=1)
    adapters = adapter_parameters(config, lora)
    assert adapters == sum(p.numel() for p in trainable(model).values())
    chosen = {"optimizer": optimizer} | ({"schedule": "constant"} if optimizer == "schedule_free" else {})
    params = TrainParams(model=config, steps=1, lora=lora, **chosen)
    model(torch.zeros(1, 8, dtype=torch.long)).float().square().mean().backward()
    told = estimate(config, 100).training_memory(1, optimizer=optimizer, adapters=adapters)
    assert told["gradients"] == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert told["weights"] == sum(p.nbytes for p in model.parameters())
    tuned = Optimizer(model, params)
    tuned.step(1.0)
    assert told["optimizer"] == pytest.approx(sum(t.nbytes for t in tuned.tensors().values()), rel=0.01, abs=200)


def test_what_a_run_needs_is_estimated_by_what_it_trains():
    wide = DecoderConfig(n_layers=4, d_model=512, n_heads=8, context=64)
    model = build(wide, 300, seed=1)
    plain, adapted = (TrainParams(model=wide, steps=1, optimizer="adamw", lora=lora) for lora in (None, Lora(r=4)))
    before = _memory(model, plain, 1)
    add_adapters(model, adapted.lora, seed=1)
    weights = 4 * model.ledger().total
    assert before - _memory(model, adapted, 1) > 2.9 * weights, "gradients and two moments of the whole model"


def test_room_is_asked_for_the_adapters_and_not_for_the_model_in_every_checkpoint(job, base, monkeypatch):
    wide = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context": 32}
    values = job("many", start_from=base, model=wide, steps=1000, runtime={"keep_every_steps": 1}, **ADAPTED)
    adapters = 4 * adapter_parameters(DecoderConfig(**wide), Lora(**ADAPTED["lora"]))
    need = 1003 * (3 * adapters + 1000 * ROW_BYTES)
    assert need < 1000 * 4 * load_model(Path(base)).ledger().total + 1000 * 1000 * ROW_BYTES
    free = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[-1]))  # of the operating system
    free.append(need // 2)
    with pytest.raises(RunError, match=r"for 1,003 checkpoints of 0.0 MiB and the model"):
        finish(values)
    free.append(need + 2**22)
    calls = iter([False, True])
    with pytest.raises(Stopped):
        train(Job.model_validate(values), stopped=lambda: next(calls))


@pytest.mark.parametrize("grown", ["grow", "grow_vocabulary"])
def test_adapters_on_a_grown_model_are_refused_since_nobody_keeps_it(job, base, grown):
    values = {"name": "mine", "sources": [{"name": "t", "kind": "files", "paths": ["*.txt"]}]}
    train_section = {"steps": 1, "lora": {"r": 4}, "init_from": "champion", grown: True}
    with pytest.raises(
        UserError, match=f"lora with {grown}: the adapters would fit a grown model that is kept nowhere"
    ):
        parse_recipe(values | {"train": train_section}, "here")
    with pytest.raises(ValidationError, match="kept nowhere"):
        Job.model_validate(job("both", start_from=base, **{grown: True}, **ADAPTED))


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_it_begins_as_the_model_it_adapts_and_merges_exactly(mlp):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model = build(DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=24, mlp=mlp), 100, seed=1).eval()
    plain = build(DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=24, mlp=mlp), 100, seed=1).eval()
    add_adapters(model, Lora(r=4), seed=3)
    model.eval()
    assert torch.equal(torch.get_rng_state(), before), "the global random state is left alone"
    ids = torch.randint(0, 100, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(model(ids), plain(ids))
        for parameter in trainable(model).values():
            parameter.add_(0.05)
        adapted = model(ids)
        assert (adapted - plain(ids)).abs().max() > 0.01
        assert (merged(model)(ids) - adapted).abs().max() < 1e-5
        other = ids.clone()
        other[:, 12] = (other[:, 12] + 1) % 100
        assert torch.equal(model(other)[:, :12], adapted[:, :12]), "no token sees what comes after"


def test_only_the_adapters_learn_and_are_saved(job, base):
    values = job("adapted", start_from=base, runtime={"save_every_steps": 4}, **ADAPTED)
    finish(values)
    start, result, adapter = load_model(Path(base)), load_model(out(values)), out(values) / "adapter"
    changed = {n for n, p in result.state_dict().items() if not torch.equal(p, start.state_dict()[n])}
    assert changed == {
        f"blocks.{i}.{part}.weight" for i in range(2) for part in ("attn.qkv", "attn.o", "mlp.down")
    }  # fmt: skip
    (newest,) = sorted((Path(values["work"]) / "checkpoints").glob("step-*"))[-1:]
    assert all(".lora_" in name for name in load_file(newest / "model.safetensors"))
    assert all(".lora_" in name for name in load_file(newest / "optimizer.safetensors"))

    read = peft.PeftModel.from_pretrained(start, adapter).eval()
    ids = torch.randint(0, 300, (2, 32), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert (read(ids) - result(ids)).abs().max() < 1e-5
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_adapters_learn_what_the_base_does_not_know():
    config = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=32)
    model = build(config, 100, seed=1)
    settings = {"model": config, "steps": 60, "lr": 1e-2}
    ids = torch.randint(0, 100, (8, 32), generator=torch.Generator().manual_seed(3))

    def losses(params, steps):
        optimizer, seen = Optimizer(model, params), []
        for _ in range(steps):
            loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step(1.0)
            seen.append(loss.item())
        return seen

    before = losses(TrainParams(**settings), 20)[-1]
    lora = Lora(r=8, alpha=16)
    add_adapters(model, lora, seed=1)
    after = losses(TrainParams(**settings, lora=lora), 60)
    assert after[0] <= before
    assert after[-1] < after[0] - 0.03


def test_stopped_and_resumed_it_ends_with_the_same_bytes(job, base, content):
    straight, stopped = (job(name, start_from=base, **ADAPTED) for name in ("straight", "stopped"))
    finish(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    assert finish(stopped)["resumes"] == 1
    assert content(stopped) == content(straight)
    assert any(name.startswith("adapter/") for name in content(straight))


@pytest.mark.slow
def test_killed_it_ends_with_the_same_bytes(job, trainer, base, content):
    straight = job("straight", start_from=base, runtime={"save_every_steps": 4}, **ADAPTED)
    finish(straight)
    for number, point in enumerate(["train.step:7", "train.checkpoint.before-rename:2", "train.out.before-rename"]):
        values = job(f"killed-{number}", start_from=base, runtime={"save_every_steps": 4}, **ADAPTED)
        assert trainer(values, point).returncode == -signal.SIGKILL, point
        finish(values)
        assert content(values) == content(straight), point


def test_what_there_is_nothing_to_adapt_in_is_refused(job):
    with pytest.raises(UserError, match="there is none"):
        finish(job("alone", **ADAPTED))
    values = {"name": "mine", "sources": [{"name": "t", "kind": "files", "paths": ["*.txt"]}]}
    with pytest.raises(UserError, match="lora adapts a trained model"):
        parse_recipe(values | {"train": {"steps": 1, "lora": {"r": 4}}}, "here")
    asked = parse_recipe(values | {"train": {"steps": 1, "lora": {"r": 4}, "init_from": "champion"}}, "here")
    assert asked.training.key_values()["lora"]["r"] == 4
    without = parse_recipe(values | {"train": {"steps": 1, "init_from": "champion"}}, "here")
    assert not {"lora", "grow"} & without.training.key_values().keys(), "what was built before keeps its key"
    gelu = build(DecoderConfig(n_layers=1, d_model=16, n_heads=1, mlp="gelu"), 300, seed=1)
    with pytest.raises(UserError, match="has no gate"):
        add_adapters(gelu, Lora(targets=("gate",)), seed=1)
