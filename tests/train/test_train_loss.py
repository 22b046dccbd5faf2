"""The loss: equal to torch's own, in value and gradient, and its sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from lmcore.tokens import TokenBatch
from lmcore.train.loss import BatchSize, bits_per_byte, first_rows, token_nats


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_token_nats_are_torchs_cross_entropy(seed, dtype, tolerance):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(40, 30, generator=generator) * 4).to(dtype)
    targets = torch.randint(30, (40,), generator=generator)
    weights = torch.rand(40, generator=generator)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    nats = token_nats(ours, targets)
    expected = cross_entropy(theirs.float(), targets, reduction="none")
    assert nats.dtype == torch.float32
    assert torch.allclose(nats, expected, atol=2e-6, rtol=2e-6)
    (nats * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad.dtype == dtype
    assert torch.allclose(ours.grad.float(), theirs.grad.float(), atol=tolerance)


def test_a_hopeless_token_counts_87_nats_and_still_has_its_gradient():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    nats = token_nats(logits, torch.tensor([1]))
    assert 87 < nats.item() < 88
    nats.sum().backward()
    assert torch.equal(logits.grad, torch.tensor([[1.0, -1.0]]))


def test_not_a_number_stays_not_a_number():
    assert token_nats(torch.full((1, 3), math.nan), torch.tensor([0])).isnan().all()


def test_sizes_count_only_what_the_mask_lets_through():
    ones = torch.ones(2, 3, dtype=torch.int64)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    batch = TokenBatch(ones, ones, mask, ones.int(), (ones * torch.tensor([5, 0, 9])).int())
    assert BatchSize.of(batch) == BatchSize(tokens=3, n_bytes=10)
    assert first_rows(batch, 1).loss_mask.tolist() == [[True, True, False]]
    assert bits_per_byte(math.log(2) * 6, 3) == pytest.approx(2)
    assert math.isnan(bits_per_byte(1.0, 0))
