"""A wider decoder with the logits of a narrower one, at any width: the stream is padded.

Widths that are no whole multiple cannot be filled with copies, since a norm counts every number of the stream. But they
can be filled with what a norm takes out again (LEMON, Wang et al. 2023, arXiv:2310.07999): LayerNorm subtracts the
mean, so new places that hold the mean of the old ones come out as zero; for RMSNorm they hold zero. Of D' numbers the
variance is then D / D' of what it was, so the stream is stored sqrt(D' / D) times as large, and each norm's weight
divided by that: the same numbers, with the same epsilon.

What reads the new places reads zeros, so its weights are drawn at random, and tell the places apart as soon as
something is written there. New heads and new numbers inside the MLP are drawn at random too, and what leads out of them
is zero. Positions beyond the old table repeat it (Beltagy et al. 2020, arXiv:2004.05150).

Letters: D stream, H heads, K heads of keys and values, W head width, F MLP width; a dash: after growth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lmcore.models.config import DecoderConfig
from lmcore.models.init import normal


def padded(state: dict[str, Tensor], old: DecoderConfig, new: DecoderConfig, seed: int) -> dict[str, Tensor]:
    """The parameters of a decoder with `new`'s widths and `old`'s blocks, which computes what `state` does.

    `lmcore.models.fit.pads` says for which shapes.
    """
    scale = math.sqrt(new.d_model / old.d_model)
    tied = old.tie_embeddings
    out = {}
    for name, tensor in state.items():
        part, _, last = name.rpartition(".")
        if name.endswith((".q_norm.weight", ".k_norm.weight")):
            grown = tensor  # a head's width stays
        elif part.endswith("norm"):
            # The last norm of a tied model also makes up for the head, whose matrix is the enlarged embedding.
            divisor = scale if part == "norm" and tied else 1.0
            grown = _norm(tensor / divisor, new.d_model, scale if last == "weight" else None)
        elif part.endswith("attn.qkv"):
            grown = _reader(_heads(tensor, old, new, seed, name), new.d_model, seed, name)
        elif part.endswith(("mlp.up", "mlp.gate")):
            grown = _reader(_rows(tensor, new.ff_width, seed, name), new.d_model, seed, name)
        elif name == "head.weight":
            grown = _reader(tensor, new.d_model, seed, name)
        elif name == "head.bias":
            grown = tensor
        else:
            inner = {"attn.o": new.n_heads * new.head_width, "mlp.down": new.ff_width}
            wide = next((width for end, width in inner.items() if name.endswith(f"{end}.weight")), None)
            grown = _writer(tensor, new.d_model, scale, old.norm == "layer", wide)
        out[name] = grown.contiguous()
    return out


def longer(positions: Tensor, context: int) -> Tensor:
    """A table of `context` positions, (T, D) -> (T', D): cut, or repeated where the old one ends."""
    times = -(-context // len(positions))
    return positions.repeat(times, 1)[:context]


def _writer(tensor: Tensor, width: int, scale: float, mean: bool, inner: int | None) -> Tensor:
    """What writes into the stream: embeddings (V, D), biases (D,), and with `inner` a matrix (D, inner) of a block."""
    if inner is not None:  # rows are the stream; what leads out of new heads and numbers is zero
        matrix = torch.cat((tensor, tensor.new_zeros(len(tensor), inner - tensor.shape[1])), 1)
        return _writer(matrix.T, width, scale, mean, None).T
    more = width - tensor.shape[-1]
    fill = tensor.mean(-1, keepdim=True) if mean else tensor.new_zeros(*tensor.shape[:-1], 1)
    return scale * torch.cat((tensor, fill.expand(*tensor.shape[:-1], more)), -1)


def _norm(tensor: Tensor, width: int, scale: float | None) -> Tensor:
    """Weight (with its divisor `scale`) or bias of a norm, (D,) -> (D',)."""
    more = width - len(tensor)
    if scale is None:
        return torch.cat((tensor, tensor.new_zeros(more)))
    return torch.cat((tensor, tensor.mean().expand(more))) / scale


def _reader(tensor: Tensor, width: int, seed: int, name: str) -> Tensor:
    """A matrix that reads the stream, (m, D) -> (m, D'); a bias stays."""
    if tensor.ndim == 1:
        return tensor
    return torch.cat((tensor, _drawn(tensor, (len(tensor), width - tensor.shape[1]), seed, f"{name} columns")), 1)


def _rows(tensor: Tensor, rows: int, seed: int, name: str) -> Tensor:
    """More rows of a matrix, or numbers of a bias, behind the old ones."""
    more = rows - len(tensor)
    if tensor.ndim == 1:
        return torch.cat((tensor, tensor.new_zeros(more)))
    return torch.cat((tensor, _drawn(tensor, (more, tensor.shape[1]), seed, f"{name} rows")))


def _heads(tensor: Tensor, old: DecoderConfig, new: DecoderConfig, seed: int, name: str) -> Tensor:
    """More heads behind the old ones, among queries, keys and values alike."""
    parts = zip(tensor.split_with_sizes(old.qkv_rows), new.qkv_rows, "qkv", strict=True)
    return torch.cat([_rows(part, rows, seed, f"{name} {letter}") for part, rows, letter in parts])


def _drawn(like: Tensor, shape: tuple[int, int], seed: int, name: str) -> Tensor:
    """Normal numbers as large as those of `like`."""
    return normal(torch.Size(shape), seed, f"padding {name}") * like.square().mean().sqrt()
