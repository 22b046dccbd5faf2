"""Grown models: the same logits before and after, causal, and able to learn what the small one could not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.growth import grow, with_vocabulary
from storage.errors import UserError

VOCAB, LIMIT = 120, 1e-5
SMALL = {"n_layers": 2, "d_model": 32, "n_heads": 4, "d_ff": 48, "context": 24}
GPT2 = {"norm": "layer", "position": "learned", "mlp": "gelu", "bias": True, "qk_norm": False}


def shaken(config, seed=2):
    model = build(config, VOCAB, seed=1).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else 0.08 * noise)
    return model


def ids(rows=3, length=24):
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(3))


AFTER = {
    "norm": "layer",
    "norm_placement": "post",
    "norm_affine": False,
    "mlp": "relu",
    "mlp_bias": True,
    "qk_norm": False,
}
CASES = {
    "twice as wide": ({}, {"d_model": 64, "n_heads": 8, "d_ff": 96}),
    "three times, untied": ({"tie_embeddings": False}, {"d_model": 96, "n_heads": 12, "d_ff": 144}),
    "only the MLP": ({}, {"d_ff": 144}),
    "MLP by another factor": ({"mlp": "relu2"}, {"d_model": 64, "n_heads": 8, "d_ff": 192}),
    "groups": ({"n_kv_heads": 2}, {"d_model": 64, "n_heads": 8, "n_kv_heads": 4, "d_ff": 96}),
    "groups, keys kept": ({"n_kv_heads": 2}, {"d_model": 64, "n_heads": 8, "n_kv_heads": 2, "d_ff": 96}),
    "GPT-2": (GPT2, {"d_model": 64, "n_heads": 8, "d_ff": 96}),
    "GPT-2 untied": (GPT2 | {"tie_embeddings": False}, {"d_model": 64, "n_heads": 8, "d_ff": 96}),
    "norm after the embedding, softcap": (
        {"embed_norm": True, "logit_softcap": 20.0, "norm_eps": 1e-6}, {"d_model": 64, "n_heads": 8, "d_ff": 96},
    ),
    "norms without weights, untied": (
        {"norm_affine": False, "tie_embeddings": False}, {"d_model": 64, "n_heads": 8, "n_layers": 3},
    ),
    "norms after, untied": (AFTER | {"tie_embeddings": False}, {"d_model": 64, "n_heads": 8, "d_ff": 96}),
    "norms after, the MLP": (AFTER, {"d_ff": 96}),
    "deeper": ({}, {"n_layers": 5}),
    "GPT-2 deeper": (GPT2, {"n_layers": 3}),
    "wider and deeper": ({"n_kv_heads": 1}, {"n_layers": 4, "d_model": 64, "n_heads": 8, "n_kv_heads": 1, "d_ff": 96}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_logits_stay(case):
    shape, change = CASES[case]
    small = shaken(DecoderConfig(**SMALL | shape))
    large = grow(small, DecoderConfig(**SMALL | shape | change), seed=5)
    with torch.no_grad():
        before, after = small(ids()), large(ids())
    assert before.std() > 0.1
    assert (after - before).abs().max() < LIMIT
    assert sum(p.numel() for p in large.parameters()) > sum(p.numel() for p in small.parameters())


def test_it_learns_on_and_its_copies_part():
    small = shaken(DecoderConfig(**SMALL))
    large = grow(small, DecoderConfig(**SMALL | {"d_model": 64, "n_heads": 8, "d_ff": 96, "n_layers": 3})).train()
    optimizer = torch.optim.AdamW(large.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(large(ids())[:, :-1].flatten(0, 1), ids()[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 1
    up = large.blocks[0].mlp.up.weight.detach()  # (96, 64): four copies of the small one's
    assert (up[:48] - up[48:]).abs().max() > 1e-3, "the copies have become different"
    assert large.blocks[1].attn.o.weight.abs().max() > 0, "the silent block has learnt to speak"


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_no_token_sees_what_comes_after(position):
    shape = SMALL | ({} if position == "rope" else GPT2)
    large = grow(shaken(DecoderConfig(**shape)), DecoderConfig(**shape | {"d_model": 64, "n_heads": 8, "d_ff": 96}))
    one, other = ids(1), ids(1)
    other[0, 12] = (other[0, 12] + 1) % VOCAB
    with torch.no_grad():
        assert torch.equal(large(one)[0, :12], large(other)[0, :12])


def test_a_context_may_be_cut_and_a_rotary_one_also_longer():
    small = shaken(DecoderConfig(**SMALL | GPT2))
    short = grow(small, DecoderConfig(**SMALL | GPT2 | {"context": 10}))
    with torch.no_grad():
        assert torch.equal(short(ids(2, 10)), small(ids(2, 10)))
    rotary = shaken(DecoderConfig(**SMALL))
    with torch.no_grad():
        assert torch.equal(grow(rotary, DecoderConfig(**SMALL | {"context": 48}))(ids()), rotary(ids()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d_model": 48, "n_heads": 6}, "d_model 32 to 48"),
        ({"d_model": 64, "n_heads": 4}, "head_dim 8 to 16"),
        ({"n_layers": 1}, "n_layers 2 to 1"),
        ({"mlp": "gelu"}, "mlp swiglu to gelu"),
        ({"d_ff": 50}, "d_ff 48 to 50"),
        ({"d_model": 64, "n_heads": 8, "n_kv_heads": 4, "d_ff": 96, "tie_embeddings": False}, "tie_embeddings"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(change, named):
    with pytest.raises(UserError, match=named):
        grow(shaken(DecoderConfig(**SMALL)), DecoderConfig(**SMALL | change))


@pytest.mark.parametrize(
    ("shape", "change", "named"),
    [
        (AFTER, {"n_layers": 3}, "n_layers 2 to 3"),
        (AFTER, {"d_model": 64, "n_heads": 8}, "d_model 32 to 64"),
        ({"norm_affine": False}, {"d_model": 64, "n_heads": 8}, "d_model 32 to 64"),
        ({"norm_placement": "post"}, {"norm_placement": "pre"}, "norm_placement post to pre"),
    ],
)
def test_norms_after_or_without_weights_leave_no_way_for_some_growth(shape, change, named):
    with pytest.raises(UserError, match=named):
        grow(shaken(DecoderConfig(**SMALL | shape)), DecoderConfig(**SMALL | shape | change))


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_begin_as_the_mean_of_their_pieces(tied):
    model = shaken(DecoderConfig(**SMALL, tie_embeddings=tied))
    pieces = [[7], [3, 5, 5], [], [100]]
    other = with_vocabulary(model, pieces)
    old, new = model.state_dict(), other.state_dict()
    for name in ["embed.weight"] if tied else ["embed.weight", "head.weight"]:
        assert torch.equal(new[name][0], old[name][7])
        assert torch.allclose(new[name][1], (old[name][3] + 2 * old[name][5]) / 3)
        assert torch.allclose(new[name][2], old[name].mean(0))
    with torch.no_grad():
        ours, theirs = other(torch.tensor([[0, 3]])), model(torch.tensor([[7, 100]]))
        assert torch.allclose(ours[..., [0, 3]], theirs[..., [7, 100]])
