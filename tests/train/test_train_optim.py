"""Muon and AdamW: orthogonality, convergence, a state that makes the same optimizer again."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch.nn.functional import cross_entropy

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.train.optim import ADAMW_EPS, Muon, Optimizer, hidden_matrices, orthogonal
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


def _train(model, optimizer, batches):
    losses = []
    for ids in batches:
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        losses.append(loss.item())
        optimizer.step(1.0)
    return losses


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_both_optimizers_learn_a_repeating_text(kind):
    model = build(SHAPE, VOCAB, 1)
    ids = (torch.arange(17)[None] + torch.arange(4)[:, None] * 3) % VOCAB
    losses = _train(model, Optimizer(model, TrainParams(steps=1, model=SHAPE, optimizer=kind)), [ids] * 60)
    assert losses[0] > 3.5
    assert losses[-1] < 0.3


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_state_survives_a_file_bit_for_bit(kind, seed, tmp_path):
    generator = torch.Generator().manual_seed(seed)
    batches = torch.randint(VOCAB, (8, 2, 17), generator=generator)
    params = TrainParams(steps=1, model=SHAPE, optimizer=kind, weight_decay=0.1)

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
        lr=0.01, betas=(0.9, 0.95), eps=ADAMW_EPS, fused=True,
    )  # fmt: skip
    for ids in batches:
        cross_entropy(theirs(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        reference.step()
        reference.zero_grad()
    for name, p in theirs.named_parameters():
        assert torch.equal(p, ours.get_parameter(name)), name
