"""A Hugging Face folder read back into our decoder, from its config and its tensors' names alone.

It shares no table with the writer: what the writer names wrongly is missing here. Reads the Llama, Qwen3, Arcee, GPT-2
and first GPT shapes in float32 safetensors, one file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from storage.errors import RunError

_MEND = "export the model again"
_LLAMA_KINDS = {"llama": ("swiglu", False), "qwen3": ("swiglu", True), "arcee": ("relu2", False)}


def read_hf(folder: Path) -> Decoder:
    """The model in `folder`, in evaluation mode on the CPU.

    Raises RunError naming the file that is missing, damaged, of another architecture, or holds other tensors than
    the config asks for.
    """
    path = folder / "config.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        gpt = stored["model_type"] in ("gpt2", "openai-gpt")
        model = Decoder(_gpt(stored) if gpt else _llama(stored), stored["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {_line(error)}", _MEND) from error
    weights = folder / "model.safetensors"
    try:
        tensors = safetensors.torch.load_file(weights)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{weights} is missing, truncated or damaged: {_line(error)}", _MEND) from error
    try:
        state = gpt_state(tensors, model.config) if gpt else llama_state(tensors, model.config)
        if not model.config.tie_embeddings:
            state["head.weight"] = tensors.pop("lm_head.weight")
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise RunError(f"{weights} does not fit the config.json beside it: {_line(error)}", _MEND) from error
    if tensors:
        raise RunError(f"{weights} holds {min(tensors)}, which the config.json beside it has no place for", _MEND)
    return model.eval()


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())}"


def _llama(stored: dict[str, Any]) -> DecoderConfig:
    mlp, qk_norm = _LLAMA_KINDS[stored["model_type"]]
    if stored["rope_theta"] != stored["rope_parameters"]["rope_theta"]:
        raise ValueError("rope_theta is not the one in rope_parameters: transformers 4 and 5 would differ")
    return DecoderConfig(
        n_layers=stored["num_hidden_layers"],
        d_model=stored["hidden_size"],
        n_heads=stored["num_attention_heads"],
        n_kv_heads=stored["num_key_value_heads"],
        head_dim=stored["head_dim"],
        d_ff=stored["intermediate_size"],
        context=stored["max_position_embeddings"],
        norm="rms",
        norm_eps=stored["rms_norm_eps"],
        position="rope",
        rope_theta=stored["rope_theta"],
        qk_norm=qk_norm,
        mlp=mlp,
        bias=stored["attention_bias"],
        mlp_bias=stored.get("mlp_bias"),
        tie_embeddings=stored["tie_word_embeddings"],
    )


def _gpt(stored: dict[str, Any]) -> DecoderConfig:
    first = stored["model_type"] == "openai-gpt"
    activation = stored["afn"] if first else stored["activation_function"]
    return DecoderConfig(
        n_layers=stored["n_layer"],
        d_model=stored["n_embd"],
        n_heads=stored["n_head"],
        d_ff=4 * stored["n_embd"] if first else stored["n_inner"],
        context=stored["n_positions"],
        norm="layer",
        norm_placement="post" if first else "pre",
        norm_eps=stored["layer_norm_epsilon"],
        position="learned",
        qk_norm=False,
        mlp={"gelu": "gelu", "gelu_new": "gelu", "relu": "relu"}[activation],
        bias=True,
        tie_embeddings=stored["tie_word_embeddings"],
        dropout=stored["embd_pdrop"],
    )


def llama_state(tensors: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Takes what it knows out of `tensors`; KeyError for one that is missing."""
    take = tensors.pop
    state = {"embed.weight": take("model.embed_tokens.weight"), "norm.weight": take("model.norm.weight")}
    for layer in range(config.n_layers):
        to, of = f"blocks.{layer}", f"model.layers.{layer}"
        state[f"{to}.attn_norm.weight"] = take(f"{of}.input_layernorm.weight")
        state[f"{to}.mlp_norm.weight"] = take(f"{of}.post_attention_layernorm.weight")
        if config.qk_norm:
            state[f"{to}.attn.q_norm.weight"] = take(f"{of}.self_attn.q_norm.weight")
            state[f"{to}.attn.k_norm.weight"] = take(f"{of}.self_attn.k_norm.weight")
        for kind in ("weight", "bias") if config.bias else ("weight",):
            three = [take(f"{of}.self_attn.{letter}_proj.{kind}") for letter in "qkv"]
            state[f"{to}.attn.qkv.{kind}"] = torch.cat(three)
            state[f"{to}.attn.o.{kind}"] = take(f"{of}.self_attn.o_proj.{kind}")
        for kind in ("weight", "bias") if config.ff_bias else ("weight",):
            for part in ("gate", "up", "down") if config.mlp == "swiglu" else ("up", "down"):
                state[f"{to}.mlp.{part}.{kind}"] = take(f"{of}.mlp.{part}_proj.{kind}")
    return state


def gpt_state(tensors: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Takes what it knows out of `tensors`; KeyError for one that is missing."""
    take = tensors.pop
    first = config.norm_placement == "post"
    tokens, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    state = {
        "embed.weight": take(f"transformer.{tokens}.weight"),
        "position.weight": take(f"transformer.{places}.weight"),
    }
    for kind in ("weight", "bias"):
        if not first:
            state[f"norm.{kind}"] = take(f"transformer.ln_f.{kind}")
        for layer in range(config.n_layers):
            to, of = f"blocks.{layer}", f"transformer.h.{layer}"
            state[f"{to}.attn_norm.{kind}"] = take(f"{of}.ln_1.{kind}")
            state[f"{to}.mlp_norm.{kind}"] = take(f"{of}.ln_2.{kind}")
            # .t() leaves a bias as it is and turns Conv1D's (in, out) into (out, in).
            state[f"{to}.attn.qkv.{kind}"] = take(f"{of}.attn.c_attn.{kind}").t()
            state[f"{to}.attn.o.{kind}"] = take(f"{of}.attn.c_proj.{kind}").t()
            state[f"{to}.mlp.up.{kind}"] = take(f"{of}.mlp.c_fc.{kind}").t()
            state[f"{to}.mlp.down.{kind}"] = take(f"{of}.mlp.c_proj.{kind}").t()
    return state
