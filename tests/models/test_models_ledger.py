"""The ledger against the parameters that are there, published counts, and the memory that autograd really keeps."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.models import build, estimate
from lmcore.models.config import DecoderConfig


@st.composite
def configs(draw):
    kv_heads = draw(st.integers(1, 3))
    n_heads = kv_heads * draw(st.integers(1, 3))
    return DecoderConfig(
        n_layers=draw(st.integers(1, 3)),
        d_model=n_heads * 2 * draw(st.integers(4, 8)),
        n_heads=n_heads,
        n_kv_heads=draw(st.sampled_from([None, kv_heads])),
        head_dim=draw(st.sampled_from([None, 2, 10])),
        d_ff=draw(st.sampled_from([None, 7, 40])),
        context=draw(st.integers(2, 20)),
        norm=draw(st.sampled_from(["rms", "layer"])),
        position=draw(st.sampled_from(["rope", "learned"])),
        mlp=draw(st.sampled_from(["swiglu", "relu2", "gelu", "relu"])),
        norm_placement=draw(st.sampled_from(["pre", "post"])),
        mlp_bias=draw(st.sampled_from([None, False, True])),
        **{name: draw(st.booleans()) for name in ("qk_norm", "bias", "tie_embeddings", "embed_norm", "norm_affine")},
    )


@given(config=configs(), vocab_size=st.integers(1, 90))
@settings(max_examples=80, deadline=None)
def test_ledger_counts_what_is_there(config, vocab_size):
    model = build(config, vocab_size, seed=0)
    ledger = model.ledger()
    there = sum(p.numel() for p in model.parameters())
    assert ledger.total == there == sum(ledger.groups.values())
    assert ledger.bytes() == 4 * there == 2 * ledger.bytes("bfloat16")
    assert ledger == estimate(config, vocab_size)
    matrices = sum(p.numel() for name, p in model.blocks.named_parameters() if p.ndim == 2)
    assert ledger.product_parameters == matrices + vocab_size * config.d_model
    assert ledger.groups["head"] == (0 if config.tie_embeddings else vocab_size * config.d_model)
    assert json.loads(json.dumps(ledger.to_json()))["total"] == there
    assert model(torch.zeros(1, 2, dtype=torch.long)).shape == (1, 2, vocab_size)


GPT2_SHAPE = {"norm": "layer", "position": "learned", "mlp": "gelu", "bias": True, "qk_norm": False}
SOMA_SHAPE = {
    "norm": "layer",
    "norm_placement": "post",
    "norm_affine": False,
    "position": "learned",
    "mlp": "relu",
    "mlp_bias": True,
    "qk_norm": False,
}


def test_a_huge_model_costs_nothing_to_estimate():
    config = DecoderConfig(
        n_layers=80, d_model=8192, n_heads=64, n_kv_heads=8, d_ff=28672, tie_embeddings=False, qk_norm=False
    )
    assert estimate(config, 128256).total == 70_553_706_496  # Llama 3 70B


def test_operations_per_token():
    config = DecoderConfig(n_layers=8, d_model=384, n_heads=6, context=512, mlp="relu2", qk_norm=False)
    blocks, head = 8 * 12 * 384 * 384, 8000 * 384
    assert estimate(config, 8000).flops_per_token() == 6 * (blocks + head) + 12 * 8 * 384 * 512
    assert estimate(config, 8000).flops_per_token(128) == 6 * (blocks + head) + 12 * 8 * 384 * 128


@pytest.mark.parametrize("kernel", ["plain", "sdpa"])
@pytest.mark.parametrize(
    "options",
    [{}, {"mlp": "relu2", "n_kv_heads": 1}, GPT2_SHAPE, SOMA_SHAPE],
    ids=["default", "relu2 grouped", "gpt2", "soma"],
)
def test_activations_are_within_a_third_of_what_autograd_keeps(options, kernel):
    config = DecoderConfig(n_layers=3, d_model=128, n_heads=2, context=128, **options)
    model = build(config, 1000, seed=0)
    model.attention = kernel
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(4, 128, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        F.cross_entropy(model(ids).float().flatten(0, 1), ids.flatten())
    memory = model.ledger().training_memory(4, attention=kernel)
    # Of V logits autograd keeps the softmax; two more copies live and die around it.
    wanted = memory["activations"] - 2 * 4 * 4 * 128 * 1000
    assert sum(kept.values()) == pytest.approx(wanted, rel=0.33)


def test_optimizer_memory():
    ledger = estimate(DecoderConfig(), 4096)
    hidden = sum(p.numel() for name, p in build(DecoderConfig(), 4096, 0).blocks.named_parameters() if p.ndim == 2)
    assert ledger.training_memory(1, optimizer="adamw")["optimizer"] == 8 * ledger.total
    assert ledger.training_memory(1, optimizer="muon")["optimizer"] == 8 * ledger.total - 4 * hidden
    memory = ledger.training_memory(16)
    assert memory["total"] == sum(value for use, value in memory.items() if use != "total")
