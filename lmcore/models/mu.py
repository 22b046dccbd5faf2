"""The MU model: every token is a matrix of blocks; each block attends for itself, all attend together, a gate decides.

`docs/models.md` says what was mended of the published model: all its attentions look at later tokens, its blocks lose
their cells in every layer, and its entropy grows with the text. Names of the parameters (stable):

    embed.weight (V, D)      position.weight (context, D)      norm.weight, norm.bias (D)      head.weight (V, D), .bias
    affinity.N.weight (V, blocks), of layer N or one for all
    blocks.N.block_attn.qkv.weight (blocks, 3 C, C), queries, keys, values; .bias (blocks 3 C), block by block
    blocks.N.block_attn.o.weight (blocks, C, C), .bias
    blocks.N.cross_attn.qkv.weight (3 D, D), .bias             blocks.N.cross_attn.o.weight (D, D), .bias
    blocks.N.attn_norm.weight, .bias (D)                       blocks.N.mlp_norm.weight, .bias (D)
    blocks.N.mlp.up.weight (F, D), .bias                       blocks.N.mlp.down.weight (D, F), .bias
    blocks.N.gate.up.weight (2 blocks, blocks + 1), .bias      blocks.N.gate.down.weight (blocks, 2 blocks), .bias
    blocks.N.gate.base (blocks)

Letters: B rows, T tokens, D cells of a matrix, N blocks, C cells of a block, F MLP width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmcore.models.attention import causal_mask, document_mask, document_places
from lmcore.models.blocks import Embedding, LayerNorm, Linear
from lmcore.models.cache import Cache, KVCache, RowCache
from lmcore.models.init import HEAD_LOGIT_STD, STD, normal
from lmcore.models.ledger import Ledger, rows_of_model
from lmcore.models.mu_config import MuConfig
from lmcore.models.mu_layer import Layer, join, split
from lmcore.models.mu_ledger import MuLedger
from lmcore.models.network import Network
from storage.errors import UserError

TABLE_STD, BASE = 0.1, 0.5  # of the affinity tables; where the gates' bases begin


class Mu(Network):
    """A causal language model over matrices, initialised from `seed` alone."""

    config: MuConfig

    def __init__(self, config: MuConfig, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config.resolved()
        self.vocab_size = vocab_size
        self.embed = Embedding(vocab_size, config.d_model)
        self.position = Embedding(config.context, config.d_model)
        self.affinity = nn.ModuleList(Embedding(vocab_size, config.blocks) for _ in range(config.tables))
        self.blocks = nn.ModuleList(Layer(self.config) for _ in range(config.n_layers))
        self.norm = LayerNorm(config.d_model, config.norm_eps, affine=True, bias=True)
        self.head = Linear(config.d_model, vocab_size)
        if self.embed.weight.device.type != "meta":
            _initialise(self, self.config, seed)

    def hidden(self, ids: Tensor, cache: KVCache | None = None, doc_ids: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> matrices, row by row, after the last norm (B, T, D), as `Network.hidden` says."""
        assert cache is None or doc_ids is None
        T = ids.shape[1]
        start = self._enter_window(T, cache)
        if doc_ids is not None:
            places, mask = document_places(doc_ids), self._causal(document_mask(doc_ids, self.stream_dtype))
        else:
            places = torch.arange(start, start + T, device=ids.device)
            mask = self._causal(causal_mask(T, start + T, self.stream_dtype, ids.device))
        hidden = self._through(ids, places, mask, cache)
        if cache is not None:
            cache.position += T
        return hidden

    def step(self, ids: Tensor, cache: RowCache) -> Tensor:
        """The next token of each row in use (B,), as `Network.step` says -> logits (B, V)."""
        places = self._row_places(cache)  # (B,)
        hidden = self._through(ids[:, None], places[:, None], cache.mask(self.stream_dtype), cache)
        cache.places[: cache.rows] += 1
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def new_cache(self, batch: int, length: int | None = None) -> KVCache:
        """As `Network.new_cache`. UserError with `compat: original`: what a token is there hangs on later ones."""
        self._keeps()
        return super().new_cache(batch, length)

    def new_rows(self, rows: int, length: int | None = None) -> RowCache:
        """As `Network.new_rows`. UserError with `compat: original`."""
        self._keeps()
        return super().new_rows(rows, length)

    def ledger(self) -> Ledger:
        """Where the parameters are."""
        return MuLedger(self.config, self.vocab_size, rows_of_model(self))

    @property
    def token_rows(self) -> frozenset[str]:
        """Names of the parameters that have a row, or a number, for every token of the vocabulary."""
        tables = (f"affinity.{number}.weight" for number in range(self.config.tables))
        return frozenset({"embed.weight", "head.weight", "head.bias", *tables})

    def _through(self, ids: Tensor, places: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """Ids (B, T) at `places`, (T,) or (B, T), through all layers and the last norm: (B, T, D)."""
        config, dtype = self.config, self.stream_dtype
        x = self.embed(ids).to(dtype) + self.position(places).to(dtype)  # (B, T, D), row by row
        # A block's cells side by side from the first layer to the last is the permutation applied both ways in each.
        x = x.view(*ids.shape, config.blocks, config.cells) if config.mixes else split(x, config)
        for layer, block in enumerate(self.blocks):
            affinity = self.affinity[layer % config.tables](ids) if config.tables else None
            inputs = (x, affinity, places, mask, self.attention, cache, layer)
            if self.recompute and cache is None and torch.is_grad_enabled():
                x = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x = block(*inputs)
        hidden: Tensor = self.norm(x.flatten(2) if config.mixes else join(x, config))
        return hidden

    def _causal(self, mask: Tensor | None) -> Tensor | None:
        return None if self.config.compat == "original" else mask

    def _keeps(self) -> None:
        if self.config.compat == "original":
            raise UserError(
                "a model with compat: original has no order in time: it cannot go on from a text",
                "train one without compat, and ask that",
            )


@torch.no_grad()
def _initialise(model: Mu, config: MuConfig, seed: int) -> None:
    """Every parameter from (seed, its own name): the original's spreads, but for a head that is small at every width.

    Matrices as Glorot and Bengio 2010 (normal), embeddings .02, tables .1, bases .5 and .1 around it, biases 0.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("gate.base"):
            parameter.copy_(BASE + TABLE_STD * normal(parameter.shape, seed, name))
        elif name.endswith(".bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            parameter.copy_(normal(parameter.shape, seed, name).mul_(_std(name, parameter, config)))


def _std(name: str, matrix: Tensor, config: MuConfig) -> float:
    if name in ("embed.weight", "position.weight"):
        return STD
    if name == "head.weight":
        return min(STD, HEAD_LOGIT_STD / math.sqrt(config.d_model))
    if name.startswith("affinity.") or name.endswith("gate.interaction"):
        return TABLE_STD
    return math.sqrt(2 / (matrix.shape[-2] + matrix.shape[-1]))
