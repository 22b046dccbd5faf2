"""The parts of an MU layer: attention inside every block, attention across blocks, and the gate.

Letters: B rows, T new tokens, S tokens attended to (cached + new), D cells of a matrix, N blocks, C cells of a block
(D = N C), h heads of a block, H heads across blocks, W head width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmcore.models.attention import Kernel, attend
from lmcore.models.blocks import LayerNorm, Linear
from lmcore.models.cache import Cache
from lmcore.models.mu_config import MuConfig


def split(x: Tensor, config: MuConfig) -> Tensor:
    """Matrices (..., D), row by row, cut into blocks (..., N, C): the blocks row by row, and so the cells of each."""
    (rows, columns), (high, wide) = config.matrix, config.block
    cut = x.reshape(*x.shape[:-1], rows // high, high, columns // wide, wide).transpose(-3, -2)
    return cut.reshape(*x.shape[:-1], config.blocks, config.cells)


def join(blocks: Tensor, config: MuConfig) -> Tensor:
    """Blocks (..., N, C) put back into matrices (..., D), row by row: undoes `split`."""
    (rows, columns), (high, wide) = config.matrix, config.block
    laid = blocks.reshape(*blocks.shape[:-2], rows // high, columns // wide, high, wide).transpose(-3, -2)
    return laid.reshape(*blocks.shape[:-2], config.d_model)


def entropy_share(weights: Tensor, places: Tensor) -> Tensor:
    """Entropy of attention `weights` (B, T, S) over ln(t + 1), the most it can be at place t: (B, T, 1), 0 to 1.

    `places`, (T,) or (B, T), are the t. At place 0, where a token sees itself alone, it is 0. In float32 at least.
    """
    most = torch.log1p(places.float()).clamp_min(math.log(2))  # of place 0 the entropy is 0 already
    return (entropy(weights) / most).unsqueeze(-1)


def entropy(weights: Tensor) -> Tensor:
    """Nats of each distribution in the last dimension, in float32 at least: (..., S) -> (...)."""
    p = weights.to(torch.promote_types(weights.dtype, torch.float32))
    # Clamped, not `xlogy`: where the mask leaves no weight the gradient of p log p is infinite, here it is finite.
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1)


class BlockLinear(nn.Module):
    """A matrix and a bias for each of N blocks, in one product. The bias is kept flat: it is not a matrix."""

    def __init__(self, blocks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(blocks * outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, inputs) -> (B, T, N, outputs)."""
        blocks, outputs, _ = self.weight.shape
        flat = x.flatten(0, 1).transpose(0, 1)  # (N, B T, inputs)
        bias = self.bias.to(x.dtype).view(blocks, 1, outputs)
        y = torch.baddbmm(bias, flat, self.weight.to(x.dtype).mT)  # (N, B T, outputs)
        return y.transpose(0, 1).reshape(*x.shape[:2], blocks, outputs)


class BlockAttention(nn.Module):
    """Attention of every block over the same block of earlier tokens, all blocks at once: N h heads of C / h."""

    def __init__(self, config: MuConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.block_heads, config.cells // config.block_heads
        self.qkv = BlockLinear(config.blocks, config.cells, 3 * config.cells)
        self.o = BlockLinear(config.blocks, config.cells, config.cells)
        self.dropout = config.dropout

    def forward(self, x: Tensor, mask: Tensor | None, kernel: Kernel, cache: Cache | None, place: int) -> Tensor:
        """Blocks (B, T, N, C) -> (B, T, N, C)."""
        B, T, N, _ = x.shape
        qkv = self.qkv(x).view(B, T, N, 3, self.heads, self.head_width)
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(2, 3).unbind(0)  # each (B, N h, T, W)
        if cache is not None:
            k, v = cached(cache, place, k, v)
        y = attend(q, k, v, mask, kernel, self.dropout if self.training else 0.0)
        blocks = y.transpose(1, 2).reshape(B, T, N, self.heads * self.head_width)
        out: Tensor = self.o(blocks)
        return out


class CrossAttention(nn.Module):
    """Attention over whole matrices, all blocks together, that also gives its weights, averaged over the heads."""

    def __init__(self, config: MuConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.n_heads, config.head_width
        self.weighs = config.entropy and config.gate == "dynamic"
        self.qkv = Linear(config.d_model, 3 * config.d_model)
        self.o = Linear(config.d_model, config.d_model)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, mask: Tensor | None, kernel: Kernel, cache: Cache | None, place: int
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the mean weights (B, T, S), in float32 at least, where the gate reads them."""
        B, T, D = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, self.head_width)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, W)
        if cache is not None:
            k, v = cached(cache, place, k, v)
        dropout = self.dropout if self.training else 0.0
        if not self.weighs:
            out: Tensor = self.o(attend(q, k, v, mask, kernel, dropout).transpose(1, 2).reshape(B, T, D))
            return out, None
        scores = (q * (1 / math.sqrt(self.head_width))) @ k.mT  # (B, H, T, S); no kernel gives weights back
        if mask is not None:
            scores.add_(mask)
        weights = F.softmax(scores, -1)
        dropped = F.dropout(weights, dropout) if dropout else weights
        out = self.o((dropped @ v).transpose(1, 2).reshape(B, T, D))
        return out, weights.mean(1, dtype=torch.promote_types(weights.dtype, torch.float32))


class Gate(nn.Module):
    """How far every block of a token moves: sigmoid(W2 gelu(W1 [affinity, entropy])) times a learned base."""

    def __init__(self, config: MuConfig) -> None:
        super().__init__()
        self.up = Linear(config.gate_inputs, 2 * config.blocks)
        self.down = Linear(2 * config.blocks, config.blocks)
        self.base = nn.Parameter(torch.empty(config.blocks))
        if config.compat == "original":  # declared there, counted there, read nowhere
            self.interaction = nn.Parameter(torch.empty(config.blocks, config.blocks))
        self.dropout = config.dropout

    def forward(self, affinity: Tensor | None, entropy: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Affinity (B, T, N), entropy (B, T, 1) -> s (B, T, N)."""
        read = [part.to(dtype) for part in (affinity, entropy) if part is not None]
        inner = F.gelu(self.up(torch.cat(read, -1)))
        inner = F.dropout(inner, self.dropout, self.training) if self.dropout else inner
        return torch.sigmoid(self.down(inner)) * self.base.to(dtype)


class MLP(nn.Module):
    """`up`, gelu, `down` over a whole matrix."""

    def __init__(self, config: MuConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.ff_width)
        self.down = Linear(config.ff_width, config.d_model)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        inner = F.gelu(self.up(x))
        out: Tensor = self.down(F.dropout(inner, self.dropout, self.training) if self.dropout else inner)
        return out


class Layer(nn.Module):
    """M + (out - M) s, with out the post-norm layer over all blocks and s the gate's, one number for each block."""

    def __init__(self, config: MuConfig) -> None:
        super().__init__()
        self.config = config
        self.block_attn = BlockAttention(config) if config.block_attention else None
        self.cross_attn = CrossAttention(config)
        self.attn_norm = LayerNorm(config.d_model, config.norm_eps, affine=True, bias=True)
        self.mlp = MLP(config)
        self.mlp_norm = LayerNorm(config.d_model, config.norm_eps, affine=True, bias=True)
        self.gate = Gate(config) if config.gate == "dynamic" else None

    def forward(
        self,
        x: Tensor,
        affinity: Tensor | None,
        places: Tensor,
        mask: Tensor | None,
        kernel: Kernel,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        """The state (B, T, N, C) -> the next one. `affinity` is (B, T, N), `places` (T,) or (B, T)."""
        blocks = split(x.flatten(2), self.config) if self.config.mixes else x
        place = layer * self.config.attentions
        if self.block_attn is not None:
            blocks = self.block_attn(blocks, mask, kernel, cache, place)
            place += 1
        whole = blocks.flatten(2)  # (B, T, D)
        across, weights = self.cross_attn(whole, mask, kernel, cache, place)
        h = self.attn_norm(whole + across)
        out: Tensor = self.mlp_norm(h + self.mlp(h)).view(x.shape)
        if self.gate is None:
            return out
        told = None
        if weights is not None:
            original = self.config.compat == "original"
            told = entropy(weights).unsqueeze(-1) if original else entropy_share(weights, places)
        s: Tensor = self.gate(affinity, told, x.dtype)
        return x + (out - x) * s.unsqueeze(-1)


def cached(cache: Cache, place: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """All keys and values (B, heads, S, W) with the new ones (B, heads, T, W), which a cache keeps side by side."""
    heads, width = k.shape[1], k.shape[3]
    keys, values = cache.write(place, _beside(k), _beside(v))
    return _apart(keys, heads, width), _apart(values, heads, width)


def _beside(x: Tensor) -> Tensor:
    """(B, heads, T, W) -> (B, 1, T, heads W)."""
    return x.transpose(1, 2).flatten(2).unsqueeze(1)


def _apart(x: Tensor, heads: int, width: int) -> Tensor:
    """(B, 1, S, heads W) -> (B, heads, S, W)."""
    return x.view(x.shape[0], x.shape[2], heads, width).transpose(1, 2)
