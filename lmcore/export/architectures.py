"""Which architecture of the transformers library computes exactly what our decoder does, and its config.json.

Knows no torch, so that a recipe can be refused before anything runs.

    our settings                                              architecture
    rms, rope, swiglu, no qk_norm                             LlamaForCausalLM
    rms, rope, swiglu, qk_norm, no bias                       Qwen3ForCausalLM
    rms, rope, relu2, no qk_norm                              ArceeForCausalLM
    layer, learned, gelu or relu, no qk_norm, as many kv      GPT2LMHeadModel
    heads as heads
    the same with norms after each part, d_ff 4 d_model       OpenAIGPTLMHeadModel

What a shape leaves out and an architecture always has is written as what changes nothing: a norm's weight as ones, a
bias as zeros.
"""

from __future__ import annotations

from typing import Any

from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelConfig
from storage.errors import UserError

LLAMA, QWEN3, ARCEE, GPT2 = "LlamaForCausalLM", "Qwen3ForCausalLM", "ArceeForCausalLM", "GPT2LMHeadModel"
GPT = "OpenAIGPTLMHeadModel"
MODEL_TYPES = {LLAMA: "llama", QWEN3: "qwen3", ARCEE: "arcee", GPT2: "gpt2", GPT: "openai-gpt"}
# First releases of transformers that have the architecture.
SINCE = {LLAMA: "4.28", QWEN3: "4.51", ARCEE: "4.54", GPT2: "4.0", GPT: "4.0"}
_KINDS = {
    ("rms", "rope", "swiglu"),
    ("rms", "rope", "relu2"),
    ("layer", "learned", "gelu"),
    ("layer", "learned", "relu"),
}


def stock_architecture(config: ModelConfig) -> str:
    """Name of the architecture that is `config` exactly. Raises UserError naming the setting that none has."""
    if not isinstance(config, DecoderConfig):
        raise UserError(
            f"no stock Hugging Face architecture is a model of family {config.family}, and no GGUF reader knows it",
            "set export.hf: false; the model itself stays in the train artifact, which this program loads",
        )
    for problem, mend in _problems(config):
        raise UserError(
            f"no stock Hugging Face architecture has {problem}", f"{mend}, or set export.hf: false to go without"
        )
    if config.norm == "layer":
        return GPT if config.norm_placement == "post" else GPT2
    if config.mlp == "relu2":
        return ARCEE
    return QWEN3 if config.qk_norm else LLAMA


def _problems(config: DecoderConfig) -> list[tuple[str, str]]:
    """(what no architecture has, what to change), the first being the plainest."""
    found = []
    if config.embed_norm:
        found.append(("model.embed_norm: true", "set model.embed_norm: false"))
    if config.logit_softcap:
        found.append((f"model.logit_softcap: {config.logit_softcap}", "set model.logit_softcap: 0"))
    if (config.norm, config.position, config.mlp) not in _KINDS:
        found.append(
            (
                f"model.norm: {config.norm} with model.position: {config.position} and model.mlp: {config.mlp}",
                "set model.norm, position and mlp to rms, rope and swiglu (or relu2), or to layer, learned and gelu "
                "(or relu)",
            )
        )
    if config.norm_placement == "post" and config.norm != "layer":
        found.append((f"model.norm_placement: post with model.norm: {config.norm}", "set model.norm_placement: pre"))
    if config.norm_placement == "post" and config.ff_width != 4 * config.d_model:
        found.append(("model.norm_placement: post with model.d_ff other than 4 d_model", "leave model.d_ff out"))
    if config.qk_norm and config.mlp != "swiglu":
        found.append((f"model.qk_norm: true with model.mlp: {config.mlp}", "set model.qk_norm: false"))
    if config.qk_norm and config.bias:
        found.append(("model.qk_norm: true with model.bias: true", "set model.bias: false"))
    if config.qk_norm and config.ff_bias and not config.bias:
        found.append(("model.qk_norm: true with model.mlp_bias: true", "set model.mlp_bias: false"))
    if config.norm == "layer" and config.kv_heads != config.n_heads:
        found.append(("model.n_kv_heads below model.n_heads in the GPT-2 shape", "leave model.n_kv_heads out"))
    even = config.d_model % config.n_heads == 0
    if config.norm == "layer" and config.n_heads * config.head_width != config.d_model:
        found.append(("model.head_dim other than d_model / n_heads in the GPT-2 shape", "leave model.head_dim out"))
    if config.norm == "rms" and not config.qk_norm and not even:
        found.append(
            (
                f"model.d_model {config.d_model} that is not a multiple of model.n_heads {config.n_heads}",
                "make model.d_model a multiple",
            )
        )
    return found


def hf_config(config: DecoderConfig, vocab_size: int, *, bos_id: int, pad_id: int) -> dict[str, Any]:
    """`config.json` of a Hugging Face folder. Raises UserError like `stock_architecture`."""
    architecture = stock_architecture(config)
    common = {
        "architectures": [architecture],
        "model_type": MODEL_TYPES[architecture],
        "vocab_size": vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": bos_id,
        "eos_token_id": bos_id,  # the same token ends a document and stands before the next
        "pad_token_id": pad_id,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float32",  # transformers 4
        "dtype": "float32",  # transformers 5
    }
    if architecture in (GPT, GPT2):
        shape = common | {
            "n_positions": config.context,
            "n_ctx": config.context,
            "n_embd": config.d_model,
            "n_layer": config.n_layers,
            "n_head": config.n_heads,
            "layer_norm_epsilon": config.norm_eps,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
        }
        if architecture == GPT:
            return shape | {"afn": config.mlp}  # its "gelu" is the tanh form
        return shape | {
            "n_inner": config.ff_width,
            "activation_function": "relu" if config.mlp == "relu" else "gelu_new",
            "scale_attn_weights": True,
        }
    shape = common | {
        "hidden_size": config.d_model,
        "intermediate_size": config.ff_width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "relu2" if architecture == ARCEE else "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        # transformers 4 reads only the first pair and silently takes 10000 without it, transformers 5 the second.
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": config.bias,
        "attention_dropout": 0.0,
    }
    if architecture == QWEN3:
        return shape | {
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": config.n_layers,
            "layer_types": ["full_attention"] * config.n_layers,
        }
    return shape | {"mlp_bias": config.ff_bias} | ({"pretraining_tp": 1} if architecture == LLAMA else {})
