"""With `doc_ids` no token sees another document, in either kernel, forwards or backwards."""

from __future__ import annotations

import pytest
import torch

from lmcore.models import build
from lmcore.models.attention import document_mask
from lmcore.models.decoder import DecoderConfig
from lmcore.models.mu_config import MuConfig

LENGTHS = (5, 1, 9, 2, 7)  # of the documents in a row of 24


def documents(rows=2):
    return torch.repeat_interleave(torch.tensor([4, 9, 4, 2, 7]), torch.tensor(LENGTHS)).expand(rows, -1).int()


CASES = [("sdpa", "rope"), ("plain", "rope"), ("plain", "learned"), ("sdpa", "mu"), ("plain", "mu")]


@pytest.fixture(params=CASES, ids="-".join)
def model(request):
    kernel, position = request.param
    if position == "mu":
        config = MuConfig(n_layers=3, matrix=(4, 4), n_heads=4, context=32, dropout=0.0)
    else:
        config = DecoderConfig(n_layers=3, d_model=32, n_heads=4, n_kv_heads=2, context=32, position=position)
    model = build(config, 50, 1)
    model.attention = kernel
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():  # a new model's last projections are 0, so attention would not be seen at all
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    return model


def tokens(seed):
    return torch.randint(50, (2, sum(LENGTHS)), generator=torch.Generator().manual_seed(seed))


def test_a_document_is_as_if_it_were_alone(model, seed):
    ids = tokens(seed)
    with torch.no_grad():
        packed = model(ids, doc_ids=documents())
        alone = torch.cat([model(part) for part in ids.split(LENGTHS, 1)], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    assert (packed - model(ids)).abs().max() > 1e-2, "without the mask documents do see each other"


def test_no_logit_of_a_document_moves_with_another(model, seed):
    ids = tokens(seed)
    start = 0
    for length in LENGTHS:
        changed = ids.clone()
        changed[:, start : start + length] = (changed[:, start : start + length] + 7) % 50
        with torch.no_grad():
            before, after = model(ids, doc_ids=documents()), model(changed, doc_ids=documents())
        same = torch.ones(ids.shape[1], dtype=torch.bool)
        same[start : start + length] = False
        assert torch.equal(before[:, same], after[:, same])
        assert not torch.equal(before[:, ~same], after[:, ~same])
        start += length


def test_no_gradient_reaches_another_document_or_the_future(model, seed):
    ids = tokens(seed)
    seen = []
    model.embed.register_forward_hook(lambda _module, _inputs, out: seen.append(out) or out.retain_grad())
    model(ids, doc_ids=documents())[:, 10].sum().backward()  # in the third document, which is 6 to 14
    reached = seen[0].grad.abs().sum(-1)[0] > 0
    assert reached.nonzero().flatten().tolist() == list(range(6, 11))


def test_one_document_is_plain_causal(model, seed):
    ids = tokens(seed)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, doc_ids=torch.zeros_like(ids)), model(ids), rtol=1e-4, atol=1e-5)


def test_a_number_that_comes_again_is_another_document():
    mask = document_mask(torch.tensor([[3, 3, 1, 3]]), torch.float32)[0, 0]
    assert (mask == 0).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
