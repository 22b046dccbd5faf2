"""Where an MU model's parameters are, and what they cost, by the parts of its published count.

Letters: T context, N blocks, C cells of a block, D cells of a matrix, F MLP width, H heads, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lmcore.models.ledger import Ledger
from lmcore.models.mu_config import MuConfig


@dataclass(frozen=True)
class MuLedger(Ledger):
    """Parameters by part; the rows of a part of all layers are one."""

    GROUPS: ClassVar[tuple[str, ...]] = (
        "embedding", "positions", "block attention", "cross attention", "mlp", "norms", "affinity", "gate", "head",
    )  # fmt: skip
    # Products of width 2 and 4, and the 40 softmaxes of a layer: the time is not in what is counted (docs/models.md).
    UTILISATION: ClassVar[tuple[float, float]] = (0.01, 0.1)

    @staticmethod
    def group_of(part: str) -> str:
        """The group of a row."""
        by_name = {
            "embed.": "embedding",
            "position.": "positions",
            "affinity.": "affinity",
            "blocks.block_attn.": "block attention",
            "blocks.cross_attn.": "cross attention",
            "blocks.mlp.": "mlp",
            "blocks.gate.": "gate",
            "head.": "head",
        }
        return next((group for start, group in by_name.items() if part.startswith(start)), "norms")

    @property
    def shape(self) -> str:
        """The model's shape in a few words."""
        assert isinstance(self.config, MuConfig)
        c = self.config
        tiles = " in blocks of ".join(f"{rows} x {columns}" for rows, columns in (c.matrix, c.block))
        return f"{c.n_layers} x {c.d_model} ({tiles}), {c.n_heads} heads, context {c.context}"

    @property
    def attended(self) -> int:
        """Numbers of all heads of a layer that look at other tokens: D across blocks and D inside them."""
        assert isinstance(self.config, MuConfig)
        return self.config.attentions * self.config.d_model

    def kept(self, context: int, attention: Literal["plain", "sdpa"]) -> int:
        """Numbers that a layer keeps for each token of a window of `context`, for the backward pass.

        8 D of sums and norms, 4 D of each attention and its queries, keys and values, 2 F of the MLP, the gate's; H T
        weights across blocks and 3 T for their entropy; in plain attention N h T inside blocks. With dropout weights
        are kept a second time, with a mask of a byte each, and inside blocks too: on a CPU no kernel does without.
        """
        assert isinstance(self.config, MuConfig)
        c = self.config
        dynamic = c.gate == "dynamic"
        plain = attention == "plain" or c.dropout > 0
        numbers = (8 + 5 * c.attentions) * c.d_model + 2 * c.ff_width
        if dynamic:
            numbers += c.gate_inputs + 6 * c.blocks + c.d_model
        weights = c.blocks * c.block_heads if plain and c.block_attention else 0
        weights += c.n_heads if plain or (dynamic and c.entropy) else 0
        numbers += 3 * context if dynamic and c.entropy else 0
        return numbers + weights * context * (9 if c.dropout else 4) // 4
