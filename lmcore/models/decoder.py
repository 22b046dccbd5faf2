"""The decoder: one configurable block that covers the modern default and the GPT, GPT-2, Llama and Qwen3 shapes.

Names of the parameters (stable: files, exports and optimizers rely on them):

    embed.weight (V, D)                  position.weight (context, D), learned positions only
    blocks.N.attn_norm.weight (D)        blocks.N.mlp_norm.weight (D)
    norm.weight (D), the last norm, only with norms before each part; none of a norm without `norm_affine`
    blocks.N.attn.qkv.weight (H W + 2 K W, D), rows of queries, keys, values   blocks.N.attn.o.weight (D, H W)
    blocks.N.attn.q_norm.weight (W)      blocks.N.attn.k_norm.weight (W)
    blocks.N.mlp.gate.weight (F, D), swiglu only    blocks.N.mlp.up.weight (F, D)    blocks.N.mlp.down.weight (D, F)
    head.weight (V, D), only when not tied          and `.bias` beside each where `bias` is on (never on the head), of
    the MLP where `mlp_bias` is on

Letters: B rows, T tokens, D model width, V vocabulary, H heads, K heads of keys and values, W head width, F MLP width.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmcore.models.attention import Attention, Kernel, causal_mask, document_mask, document_places, rope_table
from lmcore.models.blocks import MLP, Embedding, make_norm, rms_norm
from lmcore.models.cache import Cache, KVCache, RowCache
from lmcore.models.config import DecoderConfig
from lmcore.models.init import initialise
from lmcore.models.ledger import Ledger, ledger_of
from lmcore.models.network import Network

__all__ = ["Decoder", "DecoderConfig", "KVCache", "RowCache"]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); with norms after: norm(x + attention(x)), norm(x + mlp(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attn_norm = make_norm(config)
        self.attn = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        self.norm_after = config.norm_placement == "post"
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
        if self.norm_after:
            x = self.attn_norm(x + self._drop(self.attn(x, rope, mask, kernel, cache, layer)))
            return cast(Tensor, self.mlp_norm(x + self._drop(self.mlp(x))))
        x = x + self._drop(self.attn(self.attn_norm(x), rope, mask, kernel, cache, layer))
        return x + self._drop(self.mlp(self.mlp_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Head(nn.Module):
    """Logits of the vocabulary, with a matrix of its own or the embedding's."""

    def __init__(self, config: DecoderConfig, vocab_size: int, embed: Embedding) -> None:
        super().__init__()
        self.softcap = config.logit_softcap
        # In a tuple the embedding is not registered a second time: one parameter, one name, one entry in a file.
        self._tied = (embed,) if config.tie_embeddings else ()
        if not config.tie_embeddings:
            self.weight = nn.Parameter(torch.empty(vocab_size, config.d_model))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., V) in the dtype of `x`."""
        weight = self._tied[0].weight if self._tied else self.weight
        logits = F.linear(x, weight.to(x.dtype))
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


class Decoder(Network):
    """A causal language model, initialised from `seed` alone (see `init.py`)."""

    config: DecoderConfig

    def __init__(self, config: DecoderConfig, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config.resolved()
        self.vocab_size = vocab_size
        self.embed = Embedding(vocab_size, config.d_model)
        self.position = Embedding(config.context, config.d_model) if config.position == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        # After the last block's own norm there is nothing left to do.
        self.norm = nn.Identity() if config.norm_placement == "post" else make_norm(config)
        self.head = Head(config, vocab_size, self.embed)
        self._ropes: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        if self.embed.weight.device.type != "meta":
            initialise(self, self.config, seed)

    def hidden(self, ids: Tensor, cache: KVCache | None = None, doc_ids: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> what the head reads (B, T, D), as `Network.hidden` says."""
        assert cache is None or doc_ids is None
        T = ids.shape[1]
        start = self._enter_window(T, cache)
        at: Tensor | slice = slice(start, start + T) if doc_ids is None else document_places(doc_ids)
        x = self._enter(ids, at)
        rope = self._rope(start, T, x) if self.position is None else None
        mask = causal_mask(T, start + T, x.dtype, x.device) if doc_ids is None else document_mask(doc_ids, x.dtype)
        for layer, block in enumerate(self.blocks):
            if self.recompute and cache is None and torch.is_grad_enabled():
                x = checkpoint(block, x, rope, mask, self.attention, None, layer, use_reentrant=False)
            else:
                x = block(x, rope, mask, self.attention, cache, layer)
        if cache is not None:
            cache.position += T
        hidden: Tensor = self.norm(x)
        return hidden

    def step(self, ids: Tensor, cache: RowCache) -> Tensor:
        """The next token of each row in use (B,), each at its own place -> logits (B, V) of the tokens after them.

        UserError when a row is at the end of the context or the cache.
        """
        at = self._row_places(cache)  # (B,)
        x = self._enter(ids[:, None], at[:, None])  # (B, 1, D)
        rope = None
        if self.position is None:
            cos, sin = self._rope(0, self.config.context, x)
            rope = cos[at].unsqueeze(1), sin[at].unsqueeze(1)  # (B, 1, 1, W)
        mask = cache.mask(x.dtype)
        for layer, block in enumerate(self.blocks):
            x = block(x, rope, mask, self.attention, cache, layer)
        cache.places[: cache.rows] += 1
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits

    def ledger(self) -> Ledger:
        """Where the parameters are."""
        return ledger_of(self)

    @property
    def token_rows(self) -> frozenset[str]:
        """Names of the parameters that have a row for every token of the vocabulary."""
        return frozenset({"embed.weight", "head.weight"})

    def _enter(self, ids: Tensor, at: Tensor | slice) -> Tensor:
        """Ids (B, T) at their places -> the stream (B, T, D) before the first block."""
        x = self.embed(ids).to(self.stream_dtype)
        if self.position is not None:
            places = self.position(at) if isinstance(at, Tensor) else self.position.weight[at]
            x = x + places.to(x.dtype)
        if self.config.embed_norm:
            x = rms_norm(x, None, self.config.norm_eps)
        return F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x

    def _rope(self, start: int, T: int, x: Tensor) -> tuple[Tensor, Tensor]:
        key = (x.dtype, x.device)
        if key not in self._ropes:
            self._ropes[key] = rope_table(self.config, *key)
        cos, sin = self._ropes[key]
        return cos[start : start + T], sin[start : start + T]
