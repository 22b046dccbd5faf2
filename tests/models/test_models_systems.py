"""The shapes of four of the five systems: their counts by the real ledger, and what such a shape can do.

The fifth, MU-SOTA, is another family.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from flows.params import show_params
from lmcore.models import estimate
from lmcore.models.config import DecoderConfig
from lmcore.models.lora import Lora, adapter_parameters, add_adapters
from lmcore.recipe import load_recipe
from storage.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
UNTIED = {"tie_embeddings": False}
# LayerNorm without weights after each part, ReLU with biases, attention without, learned positions.
SOMA: dict[str, Any] = {
    "norm": "layer",
    "norm_eps": 1e-6,
    "norm_placement": "post",
    "norm_affine": False,
    "position": "learned",
    "qk_norm": False,
    "mlp": "relu",
    "mlp_bias": True,
    "zero_init_projections": False,
}
LAI: dict[str, Any] = {"qk_norm": False}
# The matrices that its document adds up: no biases, no weights in norms, no table of positions.
CLLM: dict[str, Any] = {"qk_norm": False, "mlp": "gelu", "norm_affine": False} | UNTIED
GPT2: dict[str, Any] = {
    "norm": "layer",
    "position": "learned",
    "qk_norm": False,
    "mlp": "gelu",
    "bias": True,
    "zero_init_projections": False,
}


def sized(layers: int, width: int, heads: int, inner: int, context: int) -> dict[str, Any]:
    return {"n_layers": layers, "d_model": width, "n_heads": heads, "d_ff": inner, "context": context}


SOMA_STANDARD = SOMA | sized(4, 256, 4, 1024, 512)
SOMA_ADVANCED = SOMA | sized(16, 1024, 16, 4096, 2048)
LAI_TINY = LAI | sized(8, 384, 6, 1536, 512)
LAI_MINI = LAI | sized(12, 512, 8, 2048, 1024)
LAI_SMALL = LAI | sized(16, 768, 12, 3072, 2048)
CLLM_FORMULA = CLLM | sized(6, 384, 12, 1536, 256)
AMHARIC_BASE = GPT2 | sized(12, 768, 12, 3072, 1024)
# name: (settings, vocabulary, parameters)
COUNTS: dict[str, tuple[dict[str, Any], int, int]] = {
    "SOMA standard": (SOMA_STANDARD, 8000, 5_329_920),
    "SOMA standard, untied": (SOMA_STANDARD | UNTIED, 8000, 7_377_920),
    "SOMA advanced": (SOMA_ADVANCED, 32000, 236_273_664),
    "SOMA advanced, untied": (SOMA_ADVANCED | UNTIED, 32000, 269_041_664),
    "SOMA advanced, 512 wide": (SOMA | sized(16, 512, 16, 2048, 2048), 32000, 67_805_184),
    "SOMA full, untied": (SOMA | UNTIED | sized(12, 768, 12, 3072, 1024), 60000, 177_927_168),
    "LAi tiny": (LAI_TINY, 8000, 21_952_896),
    "LAi tiny, 1,409 tokens": (LAI_TINY, 1409, 19_421_952),
    "LAi mini": (LAI_MINI, 32000, 66_728_448),
    "LAi mini, untied": (LAI_MINI | UNTIED, 32000, 83_112_448),
    "LAi small": (LAI_SMALL, 32000, 175_596_288),
    "LAi small, untied": (LAI_SMALL | UNTIED, 32000, 200_172_288),
    "CLLM, the document's formula": (CLLM_FORMULA, 30000, 33_656_832),
    "CLLM, weights in the norms": (CLLM_FORMULA | {"norm_affine": True}, 30000, 33_661_824),
    "Amharic base (GPT-2)": (AMHARIC_BASE, 50257, 124_439_808),
    "Amharic upgrade": (GPT2 | sized(16, 1024, 16, 4096, 2048), 75000, 280_438_784),
    "Amharic curriculum": (GPT2 | sized(6, 384, 6, 1536, 1024), 50257, 30_339_456),
    "Amharic smart": (GPT2 | sized(4, 256, 4, 1024, 256), 50257, 16_090_880),
}
every_system = pytest.mark.parametrize("name", COUNTS)


def total(name: str) -> int:
    settings, vocab_size, _ = COUNTS[name]
    return estimate(DecoderConfig(**settings), vocab_size).total


@every_system
def test_the_count_of_the_fact_sheet(name):
    assert total(name) == COUNTS[name][2]


@every_system
def test_the_table_of_the_docs(name):
    settings, vocab_size, counted = COUNTS[name]
    config = DecoderConfig(**settings).resolved()
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    shape = (config.n_layers, config.d_model, config.n_heads, config.d_ff, config.context)
    assert cells[1:4] == [f"{vocab_size:,}", " / ".join(map(str, shape)), f"{counted:,}"]
    assert cells[4] == f"{4 * counted / 1e6:,.1f} MB"


def test_somas_own_formula():
    """2 V d + T d + L (4 d^2 + 2 d F + F + d), without the second V d where the head is tied."""
    for name in ("SOMA standard, untied", "SOMA advanced, untied", "SOMA full, untied"):
        settings, V, counted = COUNTS[name]
        config = DecoderConfig(**settings)
        d, F = config.d_model, config.ff_width
        assert counted == 2 * V * d + config.context * d + config.n_layers * (4 * d * d + 2 * d * F + F + d)
        groups = estimate(config, V).groups
        assert groups["norms"] == 0
        assert groups["mlp"] == config.n_layers * (2 * d * F + F + d)


def test_what_the_documents_sum_of_cllm_leaves_out():
    """13 norms of 384 weights; the positions turn, and have no table."""
    groups = estimate(DecoderConfig(**CLLM_FORMULA | {"norm_affine": True}), 30000).groups
    assert groups["norms"] == 33_661_824 - 33_656_832 == 13 * 384
    assert groups["positions"] == 0


def test_lais_file_has_the_head_twice():
    """19.4 million and 79.9 MB belong to 1,409 tokens, 22.0 million and 100.1 MB to 8,000."""
    for vocab_size, megabytes in ((8000, 100.1), (1409, 79.9)):
        file_floats = estimate(DecoderConfig(**LAI_TINY | UNTIED), vocab_size).total
        assert round(4 * file_floats / 1e6, 1) == megabytes


def test_the_upgrade_is_2_25_times_the_base():
    assert round(total("Amharic upgrade") / total("Amharic base (GPT-2)"), 2) == 2.25


def test_lora_of_the_amharic_system():
    """Rank 16 on c_attn and both c_proj: 1,622,016 of 126,061,824 are trained, 1.29 %."""
    config, lora = DecoderConfig(**AMHARIC_BASE), Lora(r=16, alpha=32, dropout=0.1, targets=("qkv", "o", "down"))
    with torch.device("meta"):
        from lmcore.models.decoder import Decoder

        model = Decoder(config, 50257)
        add_adapters(model, lora, seed=1)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    assert trained == adapter_parameters(config, lora) == 1_622_016
    assert everything == 126_061_824
    assert f"{trained / everything:.2%}" == "1.29%"


def overrides(settings: dict[str, Any], vocab_size: int) -> list[str]:
    plain = {f"model.{key}": value for key, value in settings.items()} | {"tokenizer.vocab_size": vocab_size}
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in plain.items()]


@pytest.mark.parametrize("name", ["SOMA standard", "LAi tiny, 1,409 tokens", "Amharic smart"])
def test_params_shows_the_ledger_of_a_recipe(name):
    settings, vocab_size, counted = COUNTS[name]
    console = Console(file=io.StringIO(), width=160)
    show_params("quickstart", overrides(settings, vocab_size), console)
    shown = console.file.getvalue()
    assert re.search(rf"total\W+{counted:,}\b", shown)
    assert ("norm.weight" in shown) is (name != "SOMA standard")
    assert ("blocks.mlp.up.bias" in shown) is (not name.startswith("LAi"))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("SOMA advanced", "OpenAIGPTLMHeadModel"),
        ("LAi tiny", "LlamaForCausalLM"),
        ("Amharic base (GPT-2)", "GPT2LMHeadModel"),
    ],
)
def test_a_recipe_of_such_a_shape_can_be_exported(name, architecture):
    from lmcore.export.architectures import stock_architecture

    settings, vocab_size, _ = COUNTS[name]
    assert stock_architecture(load_recipe("quickstart", overrides(settings, vocab_size)).model) == architecture


def test_what_cannot_be_exported_is_told_when_the_recipe_is_read():
    asked = overrides(CLLM_FORMULA, 30000)
    with pytest.raises(
        UserError, match=r"no stock .* has model\.norm: rms with model\.position: rope and model\.mlp: gelu"
    ):
        load_recipe("quickstart", asked)
    assert load_recipe("quickstart", [*asked, "export.hf=false"]).model.mlp == "gelu"
    assert load_recipe("quickstart", [*asked, "model.mlp=relu2"]).model.mlp == "relu2"  # the same count, as an Arcee
