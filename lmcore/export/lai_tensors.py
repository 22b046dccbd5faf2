"""Our decoder's parameters as the tensors of LAi's file, and back: names, order, and whose rows turn together.

Ours keeps rotary pairs half a head apart (numbers i and i + W/2), LAi's trainer side by side (2i and 2i + 1). Rows of
queries and keys change places accordingly, in both alike, so every product of a query and a key is the same sum in
another order and nothing else changes. (LAi's C++ program as published turns halves and computes `wo` in place; it
needs both mended to read what its own trainer writes.)

Letters: V vocabulary, D width, F MLP width, H heads, W head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmcore.export.lai_format import BLOCK, HEADER_BYTES, SILU, DType, Header
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from storage.errors import UserError

# What the file can say, and settings that only matter before training ends.
_SAID = {"family", "n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context", "norm_eps"}
_SAID |= {"rope_theta", "tie_embeddings", "zero_init_projections", "dropout"}
# What the file takes for granted; every other option must be at its default.
_FIXED: dict[str, Any] = {"norm": "rms", "position": "rope", "qk_norm": False, "mlp": "swiglu", "bias": False}


def header_of(
    config: DecoderConfig, vocab_size: int, dtype: DType = DType.F32, weights_offset: int = HEADER_BYTES
) -> Header:
    """The header of a model of this shape; `file_bytes` of it is the size, without a vocabulary unless told where
    the weights begin. Raises UserError naming the option that LAi's file has no place for.
    """
    config = config.resolved()
    for problem, mend in _problems(config, dtype):
        raise UserError(f"LAi's model file has no place for {problem}", mend)
    return Header(
        dim=config.d_model,
        hidden=config.ff_width,
        layers=config.n_layers,
        heads=config.n_heads,
        kv_heads=config.kv_heads,
        vocab=vocab_size,
        max_seq=config.context,
        rope_theta=config.rope_theta,
        eps=config.norm_eps,
        activation=SILU,
        dtype=int(dtype),
        vocab_offset=HEADER_BYTES,
        weights_offset=weights_offset,
    )


def config_of(header: Header) -> DecoderConfig:
    """The shape that a header describes, not tied. Raises ValueError when our decoder cannot be of that shape."""
    return DecoderConfig(
        n_layers=header.layers,
        d_model=header.dim,
        n_heads=header.heads,
        n_kv_heads=header.kv_heads,
        d_ff=header.hidden,
        context=header.max_seq,
        norm_eps=_shortest(header.eps),
        rope_theta=_shortest(header.rope_theta),
        qk_norm=False,
        tie_embeddings=False,
    )


def file_tensors(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """(name, float32 tensor) in the order of the file."""
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in model.state_dict().items()}
    config = model.config
    yield "tok_emb", state["embed.weight"]
    yield "output", state["embed.weight" if config.tie_embeddings else "head.weight"]
    yield "final_norm", state["norm.weight"]
    for layer in range(config.n_layers):
        of, to = f"blocks.{layer}", f"layers.{layer}"
        q, k, v = torch.split(state[f"{of}.attn.qkv.weight"], list(config.qkv_rows))
        yield f"{to}.wq", _side_by_side(q, config.n_heads)
        yield f"{to}.wk", _side_by_side(k, config.kv_heads)
        yield f"{to}.wv", v
        yield f"{to}.wo", state[f"{of}.attn.o.weight"]
        for part in ("gate", "up", "down"):
            yield f"{to}.{part}", state[f"{of}.mlp.{part}.weight"]
        yield f"{to}.attn_norm", state[f"{of}.attn_norm.weight"]
        yield f"{to}.ffn_norm", state[f"{of}.mlp_norm.weight"]


def model_of(config: DecoderConfig, tensors: Mapping[str, Tensor]) -> Decoder:
    """The decoder that tensors of the file make, in evaluation mode: tied when `output` is the embedding."""
    tied = torch.equal(tensors["tok_emb"], tensors["output"])
    config = config.model_copy(update={"tie_embeddings": tied})
    state = {"embed.weight": tensors["tok_emb"], "norm.weight": tensors["final_norm"]}
    if not tied:
        state["head.weight"] = tensors["output"]
    for layer in range(config.n_layers):
        to, of = f"blocks.{layer}", f"layers.{layer}"
        q = _half_apart(tensors[f"{of}.wq"], config.n_heads)
        k = _half_apart(tensors[f"{of}.wk"], config.kv_heads)
        state[f"{to}.attn.qkv.weight"] = torch.cat((q, k, tensors[f"{of}.wv"]))
        state[f"{to}.attn.o.weight"] = tensors[f"{of}.wo"]
        for part in ("gate", "up", "down"):
            state[f"{to}.mlp.{part}.weight"] = tensors[f"{of}.{part}"]
        state[f"{to}.attn_norm.weight"] = tensors[f"{of}.attn_norm"]
        state[f"{to}.mlp_norm.weight"] = tensors[f"{of}.ffn_norm"]
    with torch.device("meta"):
        model = Decoder(config, len(tensors["tok_emb"]))
    model.load_state_dict(state, assign=True)
    return model.eval()


def _side_by_side(rows: Tensor, heads: int) -> Tensor:
    """(H W, D), pairs half a head apart -> pairs side by side."""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _half_apart(rows: Tensor, heads: int) -> Tensor:
    """(H W, D), pairs side by side -> pairs half a head apart."""
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _problems(config: DecoderConfig, dtype: DType) -> Iterator[tuple[str, str]]:
    """(what the file cannot say, what to change), the first being the plainest."""
    for name, field in type(config).model_fields.items():
        if name in _SAID:
            continue
        value = getattr(config, name)
        wanted = _FIXED.get(name, field.get_default(call_default_factory=True))
        if value != wanted:
            yield f"model.{name}: {_yaml(value)}", f"set model.{name}: {_yaml(wanted)} and train again"
    if config.head_width * config.n_heads != config.d_model:
        yield (
            f"model.head_dim {config.head_width} with {config.n_heads} heads in a width of {config.d_model}",
            "leave model.head_dim out, so that it is d_model / n_heads, and train again",
        )
    for name, number in (("rope_theta", config.rope_theta), ("norm_eps", config.norm_eps)):
        if _shortest(number) != number:
            yield f"model.{name}: {number!r}, which is no float32", f"set model.{name}: {_shortest(number)!r}"
    for name, width in (("d_model", config.d_model), ("d_ff", config.ff_width)):
        if dtype != DType.F32 and width % BLOCK:
            yield (
                f"{dtype.name} where model.{name} is {width}: its blocks are of {BLOCK} numbers",
                f"make model.{name} a multiple of {BLOCK}, or write the file in F32",
            )


def _shortest(number: float) -> float:
    """The number of fewest digits that is the same float32: 1e-05 for the file's 9.999999747378752e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(number)))


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
