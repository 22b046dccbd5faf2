"""Our parameters under the names and in the layouts that the transformers library keeps them in."""

from __future__ import annotations

import torch
from torch import Tensor

from lmcore.export.architectures import GPT, GPT2, stock_architecture
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder


def hf_tensors(model: Decoder) -> dict[str, Tensor]:
    """The weights (float32, contiguous) under Hugging Face's names. A tied head is left out."""
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in model.state_dict().items()}
    if not model.config.norm_affine:
        state |= _ones(model.config)
    gpt = stock_architecture(model.config) in (GPT, GPT2)
    named = _gpt_tensors(state, model.config) if gpt else _llama_tensors(state, model.config)
    if not model.config.tie_embeddings:
        named["lm_head.weight"] = state["head.weight"]
    return {name: tensor.contiguous() for name, tensor in named.items()}


def _ones(config: DecoderConfig) -> dict[str, Tensor]:
    """The weights that norms without any would have."""
    widths = {"attn_norm": config.d_model, "mlp_norm": config.d_model}
    if config.qk_norm:
        widths |= {"attn.q_norm": config.head_width, "attn.k_norm": config.head_width}
    ones = {
        f"blocks.{layer}.{part}.weight": torch.ones(width)
        for layer in range(config.n_layers)
        for part, width in widths.items()
    }
    return ones | {"norm.weight": torch.ones(config.d_model)}


def _llama_tensors(state: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Llama, Qwen3 and Arcee: one matrix each for queries, keys and values, all (out, in)."""
    named = {"model.embed_tokens.weight": state["embed.weight"], "model.norm.weight": state["norm.weight"]}
    parts = {
        "attn_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "attn.o": "self_attn.o_proj",
        "attn.q_norm": "self_attn.q_norm",
        "attn.k_norm": "self_attn.k_norm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        for kind in ("weight", "bias"):
            for part, name in parts.items():
                if f"{ours}.{part}.{kind}" in state:
                    named[f"{theirs}.{name}.{kind}"] = state[f"{ours}.{part}.{kind}"]
            if f"{ours}.attn.qkv.{kind}" in state:
                rows = torch.split(state[f"{ours}.attn.qkv.{kind}"], list(config.qkv_rows))
                for letter, tensor in zip("qkv", rows, strict=True):
                    named[f"{theirs}.self_attn.{letter}_proj.{kind}"] = tensor
    return named


def _gpt_tensors(state: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """GPT-2 and the first GPT: their Conv1D keeps matrices as (in, out). What has no bias gets zeros."""
    first = config.norm_placement == "post"
    tokens, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    named = {
        f"transformer.{tokens}.weight": state["embed.weight"],
        f"transformer.{places}.weight": state["position.weight"],
    }
    norms = {"attn_norm": "ln_1", "mlp_norm": "ln_2"}
    matrices = {"attn.qkv": "attn.c_attn", "attn.o": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}

    def put(ours: str, theirs: str) -> None:
        weight = state[f"{ours}.weight"]
        named[f"{theirs}.weight"] = weight.t() if weight.ndim == 2 else weight
        named[f"{theirs}.bias"] = state.get(f"{ours}.bias", torch.zeros(len(weight)))

    if not first:
        put("norm", "transformer.ln_f")
    for layer in range(config.n_layers):
        for part, name in (norms | matrices).items():
            put(f"blocks.{layer}.{part}", f"transformer.h.{layer}.{name}")
    return named
