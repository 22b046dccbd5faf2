"""Muon and AdamW: orthogonality, convergence, a state that makes the same optimizer again."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch.nn.functional import cross_entropy

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.train.optim import Muon, Optimizer, ScheduleFree, decayed_names, hidden_matrices, orthogonal
from lmcore.train.params import TrainParams

SHAPE = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16)
VOCAB = 50


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 48), (2, 48, 16), (1, 128, 384)])
def test_orthogonal_brings_every_singular_value_near_one(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.01
    u = orthogonal(g)
    values = torch.linalg.svdvals(u)
    assert values.max() < 1.15
    assert (values - 1).abs().median() < 0.05


def test_orthogonal_keeps_singular_vectors_exactly_diagonal():
    generator = torch.Generator().manual_seed(2)
    left, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator))
    spectrum = torch.logspace(0, -2, 20)
    u = orthogonal((left @ torch.diag(spectrum) @ right)[None])[0]
    core = left.mT @ u @ right.mT
    assert torch.allclose(core, torch.diag(torch.diagonal(core)), atol=1e-4)
    assert ((torch.diagonal(core) - 1).abs() < 0.16).all()


def test_orthogonal_of_zero_is_zero_and_bf16_is_close():
    assert torch.equal(orthogonal(torch.zeros(1, 8, 8)), torch.zeros(1, 8, 8))
    g = torch.randn(1, 32, 64, generator=torch.Generator().manual_seed(3))
    assert (orthogonal(g, torch.bfloat16) - orthogonal(g)).abs().max() < 0.05


def test_muon_fits_a_linear_map():
    generator = torch.Generator().manual_seed(4)
    target, x = torch.randn(12, 8, generator=generator), torch.randn(64, 8, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(12, 8))
    muon = Muon({"w": weight}, lr=0.3)
    losses = []
    for step in range(120):
        weight.grad = None
        loss = ((x @ weight.T - x @ target.T) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        muon.step(1 - step / 120)
    assert losses[-1] < 0.001 * losses[0]


def test_one_muon_step_moves_by_the_learning_rate_times_an_orthogonal_matrix():
    weight = torch.nn.Parameter(torch.zeros(32, 8))
    weight.grad = torch.randn(32, 8, generator=torch.Generator().manual_seed(5))
    Muon({"w": weight}, lr=0.1).step(0.5)
    values = torch.linalg.svdvals(weight.detach()) / (0.1 * 0.5 * 2)  # sqrt(32 / 8) = 2
    assert ((values - 1).abs() < 0.16).all()


def test_weight_decay_shrinks_matrices_and_spares_norms():
    model = build(SHAPE, VOCAB, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    params = TrainParams(steps=1, model=SHAPE, lr=0.01, muon_lr=0.01, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(model, params).step(1.0)
    for name, p in model.named_parameters():
        factor = 1.0 if p.ndim < 2 else 1 - 0.01 * 0.5
        assert torch.allclose(p, before[name] * factor, atol=1e-7), name


def test_muon_takes_the_matrices_of_the_blocks_only():
    names = set(hidden_matrices(build(SHAPE.model_copy(update={"tie_embeddings": False}), VOCAB, 1)))
    assert "blocks.0.attn.qkv.weight" in names
    assert not {"embed.weight", "head.weight", "norm.weight"} & names
    assert len(names) == 2 * 5


def _params(kind, **settings):
    schedule = "constant" if kind == "schedule_free" else "trapezoid"
    return TrainParams(steps=1, model=SHAPE, optimizer=kind, schedule=schedule, **settings)


def _train(model, optimizer, batches):
    losses = []
    for ids in batches:
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        losses.append(loss.item())
        optimizer.step(1.0)
    return losses


@pytest.mark.parametrize("kind", ["muon", "adamw", "schedule_free"])
def test_every_optimizer_learns_a_repeating_text(kind):
    model = build(SHAPE, VOCAB, 1)
    ids = (torch.arange(17)[None] + torch.arange(4)[:, None] * 3) % VOCAB
    losses = _train(model, Optimizer(model, _params(kind, lr=0.01 if kind == "schedule_free" else 0.004)), [ids] * 60)
    assert losses[0] > 3.5
    assert losses[-1] < 0.3


@pytest.mark.parametrize("kind", ["muon", "adamw", "schedule_free"])
def test_state_survives_a_file_bit_for_bit(kind, seed, tmp_path):
    generator = torch.Generator().manual_seed(seed)
    batches = torch.randint(VOCAB, (8, 2, 17), generator=generator)
    params = _params(kind, weight_decay=0.1)

    straight = build(SHAPE, VOCAB, 1)
    _train(straight, Optimizer(straight, params), batches)

    first = build(SHAPE, VOCAB, 1)
    optimizer = Optimizer(first, params)
    _train(first, optimizer, batches[:5])
    safetensors.torch.save_file(optimizer.tensors(), tmp_path / "optimizer.safetensors")

    second = build(SHAPE, VOCAB, 99)
    second.load_state_dict(first.state_dict())
    resumed = Optimizer(second, params)
    resumed.load(safetensors.torch.load_file(tmp_path / "optimizer.safetensors"))
    _train(second, resumed, batches[5:])
    for name, p in straight.named_parameters():
        assert torch.equal(p, second.get_parameter(name)), name


def test_state_before_the_first_step_loads():
    model = build(SHAPE, VOCAB, 1)
    params = TrainParams(steps=1, model=SHAPE)
    optimizer = Optimizer(model, params)
    optimizer.load(Optimizer(model, params).tensors())
    ids = torch.randint(VOCAB, (2, 17), generator=torch.Generator().manual_seed(1))
    assert _train(model, optimizer, [ids] * 3)[-1] < 4


def test_adamw_is_torchs_own_bit_for_bit():
    params = TrainParams(steps=1, model=SHAPE, optimizer="adamw", weight_decay=0.1, lr=0.01)
    batches = torch.randint(VOCAB, (6, 2, 17), generator=torch.Generator().manual_seed(8))
    ours, theirs = build(SHAPE, VOCAB, 1), build(SHAPE, VOCAB, 1)
    _train(ours, Optimizer(ours, params), batches)
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01, betas=(0.9, 0.95), eps=1e-10, fused=True,
    )  # fmt: skip
    for ids in batches:
        cross_entropy(theirs(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        reference.step()
        reference.zero_grad()
    for name, p in theirs.named_parameters():
        assert torch.equal(p, ours.get_parameter(name)), name


def test_betas_and_eps_are_torchs_too():
    settings = {"betas": (0.8, 0.99), "eps": 1e-3}
    weight, theirs = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    reference = torch.optim.AdamW([theirs], lr=4e-3, weight_decay=0.0, fused=True, **settings)
    holder = torch.nn.Module()
    holder.weight = weight
    ours = Optimizer(holder, TrainParams(steps=1, optimizer="adamw", **settings))
    for step in range(4):
        for p in (weight, theirs):
            p.grad = torch.linspace(-1, 1, 12).reshape(4, 3) * (step + 1)
        ours.step(1.0)
        reference.step()
    assert torch.equal(weight, theirs)


def test_what_decays_is_a_setting():
    model = build(SHAPE.model_copy(update={"tie_embeddings": False}), VOCAB, 1)
    everything = {name for name, _ in model.named_parameters()}
    assert decayed_names(model, "all") == everything
    assert decayed_names(model, "hidden") == set(hidden_matrices(model))
    assert decayed_names(model, "matrices") == set(hidden_matrices(model)) | {"embed.weight", "head.weight"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    params = TrainParams(steps=1, model=SHAPE, optimizer="adamw", lr=0.01, weight_decay=0.5, decays="hidden")
    Optimizer(model, params).step(1.0)
    for name, p in model.named_parameters():
        assert torch.allclose(p, before[name] * (1 - 0.005 if name.startswith("blocks") and p.ndim > 1 else 1)), name
    assert not {"eps", "decays"} & TrainParams(steps=1).key_values().keys()


def test_schedule_free_is_the_papers_recursion():
    """Against Defazio's own form (facebookresearch/schedule_free, AdamWScheduleFree), which keeps y and z."""
    generator = torch.Generator().manual_seed(6)
    start = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    beta1, beta2, eps, decay, peak = 0.9, 0.99, 1e-8, 0.1, 0.05
    ours = ScheduleFree({"w": weight}, lr=peak, betas=(beta1, beta2), eps=eps, weight_decay=decay, decayed={"w"})
    y, z, v, total, largest = start.clone(), start.clone(), torch.zeros_like(start), 0.0, 0.0
    for k in range(12):
        assert torch.allclose(weight, y, rtol=0, atol=1e-12)
        share = min(1.0, (k + 1) / 4)
        g = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        weight.grad = g.clone()
        ours.step(share)
        lr = peak * share
        largest = max(lr, largest)
        total += largest**2
        mean_share = largest**2 / total
        v = beta2 * v + (1 - beta2) * g * g
        update = g / ((v / (1 - beta2 ** (k + 1))).sqrt() + eps) + decay * y
        y = torch.lerp(y, z, mean_share) + lr * (beta1 * (1 - mean_share) - 1) * update
        z = z - lr * update
    ours.to_average()
    assert torch.allclose(weight, torch.lerp(y, z, 1 - 1 / beta1), rtol=0, atol=1e-12)
    ours.to_training()
    assert torch.allclose(weight, y, rtol=0, atol=1e-12)


def test_a_look_at_the_mean_weights_changes_no_bit():
    batches = torch.randint(VOCAB, (20, 2, 17), generator=torch.Generator().manual_seed(9))
    params = _params("schedule_free", lr=0.02)
    straight, looked = build(SHAPE, VOCAB, 1), build(SHAPE, VOCAB, 1)
    _train(straight, Optimizer(straight, params), batches)
    optimizer = Optimizer(looked, params)
    for ids in batches:
        with optimizer.averaged():
            average = looked.get_parameter("embed.weight").detach().clone()
        _train(looked, optimizer, [ids])
    assert not torch.equal(average, looked.get_parameter("embed.weight"))
    for name, p in straight.named_parameters():
        assert torch.equal(p, looked.get_parameter(name)), name
