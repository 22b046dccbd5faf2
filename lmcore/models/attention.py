"""Causal self-attention with grouped queries, rotary positions, query-key norm and a cache of keys and values.

Two kernels give the same numbers: "plain" (two products and a softmax) and "sdpa" (torch's fused kernel). On a CPU
plain is the faster one in bfloat16 up to some 512 tokens, sdpa in float32 and for longer contexts; the training probe
decides. Neither is a setting of the model: they change speed and memory, not results.

Letters: B rows, T new tokens, S tokens attended to (cached + new), D model width, H heads, K heads of keys and
values, G = H / K queries that share one of them, W head width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmcore.models.blocks import Linear, RMSNorm, rms_norm
from lmcore.models.cache import Cache
from lmcore.models.config import DecoderConfig

Kernel = Literal["plain", "sdpa"]


def rope_table(config: DecoderConfig, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """(cos, sin) of every position's angles, each (context, 1, W); sin carries the sign of the half it multiplies.

    Half-split layout (GPT-NeoX, Llama): number i of a head turns with number i + W/2.
    """
    with torch.inference_mode(False):  # the table outlives the call that makes it and may be needed for training
        width = config.head_width
        frequency = 1.0 / config.rope_theta ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        angle = torch.outer(torch.arange(config.context, dtype=torch.float32, device=device), frequency)
        cos, sin = angle.cos(), angle.sin()
        table = torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)
        return table[0].unsqueeze(1), table[1].unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of `x` (B, T, heads, W) with tables (T, 1, W)."""
    half = x.shape[-1] // 2
    return torch.addcmul(x * cos, torch.cat((x[..., half:], x[..., :half]), -1), sin)


def causal_mask(T: int, S: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """(T, S): 0 where the i-th of the T newest tokens may look, -inf ahead of it; None when T is 1."""
    if T == 1:
        return None
    return torch.full((T, S), float("-inf"), dtype=dtype, device=device).triu_(S - T + 1)


def document_mask(doc_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T) for `doc_ids` (B, T): 0 where a token may look, -inf ahead of it and in other documents.

    Documents are told apart by where the number changes: a document that comes a second time is another one.
    """
    T = doc_ids.shape[1]
    run = _begins(doc_ids).cumsum(1)  # (B, T)
    other = run[:, :, None] != run[:, None, :]  # (B, T, T)
    ahead = torch.ones(T, T, dtype=torch.bool, device=doc_ids.device).triu_(1)
    mask = torch.zeros(other.shape, dtype=dtype, device=doc_ids.device).masked_fill_(other | ahead, float("-inf"))
    return mask.unsqueeze(1)


def document_places(doc_ids: Tensor) -> Tensor:
    """(B, T) for `doc_ids` (B, T): how many tokens of its document, told apart as above, stand before each."""
    places = torch.arange(doc_ids.shape[1], device=doc_ids.device)
    return places - (places * _begins(doc_ids)).cummax(1).values


def _begins(doc_ids: Tensor) -> Tensor:
    """(B, T): True where a document begins, but for the first of a row."""
    return F.pad(doc_ids[:, 1:] != doc_ids[:, :-1], (1, 0))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kernel: Kernel, dropout: float) -> Tensor:
    """softmax(q k' / sqrt(W) + mask) v for `q` (B, H, T, W), `k`, `v` (B, K, S, W) -> (B, H, T, W).

    `mask` is (T, S), causal and nothing else, or (B, 1, T, S).
    """
    B, H, T, W = q.shape
    K, S = k.shape[1], k.shape[2]
    if kernel == "sdpa":
        whole = mask is not None and T == S and mask.dim() == 2  # plain causal: the kernel needs no mask for that
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if whole else mask, dropout_p=dropout, is_causal=whole, enable_gqa=K != H
        )
    q = (q * (1 / math.sqrt(W))).reshape(B, K, H // K * T, W)  # the G queries of one key head, one below the other
    scores = (q @ k.mT).view(B, H, T, S)
    if mask is not None:
        scores.add_(mask)  # in place: no second copy of the largest tensor, and nothing to do in backward
    weights = F.dropout(F.softmax(scores, -1), dropout) if dropout else F.softmax(scores, -1)
    return (weights.view(B, K, H // K * T, S) @ v).view(B, H, T, W)


class Attention(nn.Module):
    """Queries, keys and values from one matrix, attention, and the projection back to the stream.

    `qkv.weight` has the rows of all queries, then keys, then values (`DecoderConfig.qkv_rows`), head by head: one
    product instead of three, and GPT-2's `c_attn` as it is published. Exporters slice it by rows.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.n_heads, self.kv_heads, self.head_width = config.n_heads, config.kv_heads, config.head_width
        self.qkv = Linear(config.d_model, sum(config.qkv_rows), config.bias)
        self.o = Linear(config.n_heads * config.head_width, config.d_model, config.bias)
        self.q_norm = RMSNorm(config.head_width, config.norm_eps, config.norm_affine) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_width, config.norm_eps, config.norm_affine) if config.qk_norm else None
        self.dropout = config.dropout

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        kernel: Kernel,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        B, T, _ = x.shape
        H, K = self.n_heads, self.kv_heads
        qkv = self.qkv(x).view(B, T, H + 2 * K, self.head_width)
        qk, v = qkv[:, :, : H + K], qkv[:, :, H + K :].transpose(1, 2)
        if self.q_norm is not None and self.k_norm is not None:
            qk = rms_norm(qk, None, self.q_norm.eps)
            if self.q_norm.weight is not None and self.k_norm.weight is not None:
                weight = torch.cat((self.q_norm.weight.expand(H, -1), self.k_norm.weight.expand(K, -1)))  # (H + K, W)
                qk = qk * weight.to(qk.dtype)
        if rope is not None:
            qk = rotate(qk, *rope)
        q, k = qk[:, :, :H].transpose(1, 2), qk[:, :, H:].transpose(1, 2)  # (B, H, T, W), (B, K, T, W)
        if cache is not None:
            k, v = cache.write(layer, k, v)
        y = attend(q, k, v, mask, kernel, self.dropout if self.training else 0.0)
        out: Tensor = self.o(y.transpose(1, 2).reshape(B, T, H * self.head_width))
        return out
