"""Grown models: the same logits before and after, causal, and able to learn what the small one could not."""

from __future__ import annotations

import model_checks
import pytest
import torch

from lmcore.models.config import DecoderConfig
from lmcore.models.growth import grow, with_vocabulary
from storage.errors import UserError

VOCAB, LIMIT = 120, 1e-5
SMALL = {"n_layers": 2, "d_model": 32, "n_heads": 4, "d_ff": 48, "context": 24}
GPT2 = {"norm": "layer", "position": "learned", "mlp": "gelu", "bias": True, "qk_norm": False}


def shaken(config):
    return model_checks.shaken(config, VOCAB)


def ids(rows=3, length=24):
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(3))


def assert_it_learns(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model_checks.next_token_loss(model, ids())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


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
    "half as wide again": ({}, {"d_model": 48, "n_heads": 6}),
    "half as wide again, untied": ({"tie_embeddings": False}, {"d_model": 48, "n_heads": 6, "d_ff": 50}),
    "a few numbers in the MLP": ({"mlp": "relu2"}, {"d_ff": 50}),
    "padded groups": ({"n_kv_heads": 2}, {"d_model": 48, "n_heads": 6, "n_kv_heads": 3}),
    "padded, after the embedding": ({"embed_norm": True, "norm_eps": 1e-6}, {"d_model": 40, "n_heads": 5}),
    "padded, norms after, the MLP": (AFTER, {"d_ff": 50}),
    "GPT-2 by four thirds": (
        GPT2 | {"n_layers": 3, "d_model": 24, "n_heads": 3, "d_ff": 96},
        {"n_layers": 4, "d_model": 32, "n_heads": 4, "d_ff": 128},
    ),
    "GPT-2 by four thirds, untied": (
        GPT2 | {"tie_embeddings": False, "d_model": 24, "n_heads": 3}, {"d_model": 32, "n_heads": 4, "d_ff": 64},
    ),
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
    assert_it_learns(large)
    up = large.blocks[0].mlp.up.weight.detach()  # (96, 64): four copies of the small one's
    assert (up[:48] - up[48:]).abs().max() > 1e-3, "the copies have become different"
    assert large.blocks[1].attn.o.weight.abs().max() > 0, "the silent block has learnt to speak"


def test_a_padded_model_learns_on_and_uses_its_new_width():
    shape = SMALL | GPT2 | {"d_model": 24, "n_heads": 3, "d_ff": 48}
    wide = shape | {"n_layers": 3, "d_model": 32, "n_heads": 4, "d_ff": 64, "context": 48}
    large = grow(shaken(DecoderConfig(**shape)), DecoderConfig(**wide)).train()
    assert_it_learns(large)
    new = large.embed.weight.detach()[:, 24:]
    assert new.std(1).mean() > 1e-3, "the new places held one number, and hold different ones"
    assert large.blocks[0].attn.o.weight.detach()[:, 24:].abs().max() > 0, "the new head has learnt to speak"
    assert large.blocks[0].mlp.down.weight.detach()[:, 48:].abs().max() > 0, "and so has the new part of the MLP"


def test_the_old_numbers_stand_unchanged_in_the_padded_ones():
    shape = SMALL | GPT2 | {"d_model": 24, "n_heads": 3, "d_ff": 48}
    small = shaken(DecoderConfig(**shape))
    large = grow(small, DecoderConfig(**shape | {"d_model": 32, "n_heads": 4, "d_ff": 64}))
    before, after, scale = small.state_dict(), large.state_dict(), (32 / 24) ** 0.5
    for name in ("embed.weight", "position.weight", "blocks.1.attn.o.weight", "blocks.1.mlp.down.weight"):
        rows, columns = before[name].shape
        assert torch.allclose(after[name][:rows, :columns], scale * before[name])
    for name in ("blocks.0.mlp.up.weight", "blocks.0.mlp.up.bias", "blocks.0.mlp_norm.bias"):
        assert torch.equal(after[name][tuple(slice(n) for n in before[name].shape)], before[name])
    q, k, _ = large.config.qkv_rows
    for old, new in ((0, 0), (24, q), (48, q + k)):
        assert torch.equal(
            after["blocks.0.attn.qkv.weight"][new : new + 24, :24], before["blocks.0.attn.qkv.weight"][old : old + 24]
        )


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_no_token_sees_what_comes_after(position):
    shape = SMALL | ({} if position == "rope" else GPT2)
    large = grow(shaken(DecoderConfig(**shape)), DecoderConfig(**shape | {"d_model": 64, "n_heads": 8, "d_ff": 96}))
    one, other = ids(1), ids(1)
    other[0, 12] = (other[0, 12] + 1) % VOCAB
    with torch.no_grad():
        assert torch.equal(large(one)[0, :12], large(other)[0, :12])


def test_a_context_may_be_cut_or_longer():
    small = shaken(DecoderConfig(**SMALL | GPT2))
    short = grow(small, DecoderConfig(**SMALL | GPT2 | {"context": 10}))
    with torch.no_grad():
        assert torch.equal(short(ids(2, 10)), small(ids(2, 10)))
    long = grow(small, DecoderConfig(**SMALL | GPT2 | {"context": 60}))
    with torch.no_grad():
        assert torch.allclose(long(ids()), small(ids()), atol=LIMIT)
    table = long.state_dict()["position.weight"]
    assert torch.equal(table[24:48], table[:24]), "positions beyond the old table repeat it"
    assert len(table) == 60
    rotary = shaken(DecoderConfig(**SMALL))
    with torch.no_grad():
        assert torch.equal(grow(rotary, DecoderConfig(**SMALL | {"context": 48}))(ids()), rotary(ids()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d_model": 24, "n_heads": 3}, "d_model 32 to 24"),
        ({"d_model": 48, "n_heads": 6, "n_kv_heads": 2}, "n_kv_heads 4 to 2"),
        ({"d_model": 64, "n_heads": 4}, "head_dim 8 to 16"),
        ({"n_layers": 1}, "n_layers 2 to 1"),
        ({"mlp": "gelu"}, "mlp swiglu to gelu"),
        ({"d_ff": 40}, "d_ff 48 to 40"),
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
        ({"norm_affine": False, "tie_embeddings": False}, {"d_model": 48, "n_heads": 6}, "d_model 32 to 48"),
        (GPT2 | {"embed_norm": True}, {"d_model": 48, "n_heads": 6}, "d_model 32 to 48"),
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
