"""The shape of an MU model: what a recipe's `model:` section holds with `family: mu`. Knows no torch.

Every token is a small matrix, cut into blocks that all have attention of their own (`mu.py`, `docs/models.md`). The
defaults are the published shape: 26,946,256 parameters at 50,000 tokens, less the 24 x 256 of a table that the original
has and never reads (`compat: original` counts it).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lmcore.config import Params

Side = Annotated[int, Field(ge=1, le=256)]


class MuConfig(Params):
    """Shape and options of an MU model."""

    width: ClassVar[str] = "model.matrix"  # what a person sets lower for a smaller model

    family: Literal["mu"] = Field("mu", description="Family of models.")
    n_layers: int = Field(24, ge=1, le=512, description="Number of layers.")
    matrix: tuple[Side, Side] = Field((8, 8), description="Rows and columns of the matrix that a token is.")
    block: tuple[Side, Side] = Field((2, 2), description="Rows and columns of a block; blocks tile the matrix.")
    block_heads: int = Field(2, ge=1, le=1024, description="Attention heads of every block.")
    n_heads: int = Field(8, ge=1, le=1024, description="Heads of the attention across blocks.")
    d_ff: int | None = Field(None, ge=1, description="Width inside the MLP. Default 4 times the cells of a matrix.")
    context: int = Field(512, ge=2, le=1 << 20, description="The most tokens the model sees at once.")
    norm_eps: float = Field(1e-5, gt=0, le=1e-2, description="Added to the variance inside every LayerNorm.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of attention weights, inside the MLP and the gate.")
    block_attention: bool = Field(True, description="Off: blocks go to the attention across them as they are.")
    gate: Literal["dynamic", "open"] = Field(
        "dynamic", description="How far each block moves in a layer: as token and entropy say, or all the way."
    )
    affinity: Literal["per_layer", "shared", "none"] = Field(
        "per_layer", description="Tables by which a token moves the gate: one for each layer, one for all, or none."
    )
    entropy: bool = Field(
        True, description="The gate reads the entropy of the attention across blocks, divided by the most it can be."
    )
    layout: Literal["tiled", "mixed"] = Field(
        "tiled",
        description="tiled: a block keeps its cells; mixed: cells go to other blocks in every layer, as in the "
        "original.",
    )
    compat: Literal["original"] | None = Field(
        None,
        description="original: as published, where every token sees the next one. For its count and to show the leak; "
        "it is neither trained nor asked for text.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for side, of_block in zip(self.matrix, self.block, strict=True):
            if side % of_block:
                raise ValueError(f"blocks of {self.block} do not tile a matrix of {self.matrix}")
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} do not divide the {self.d_model} cells of a matrix")
        if self.cells % self.block_heads:
            raise ValueError(f"block_heads {self.block_heads} do not divide the {self.cells} cells of a block")
        if self.gate == "dynamic" and self.affinity == "none" and not self.entropy:
            raise ValueError("a dynamic gate with affinity none and entropy off has nothing to read: set gate: open")
        if self.compat and not (self.block_attention and self.gate == "dynamic" and self.entropy):
            raise ValueError("compat: original has block attention, a dynamic gate and entropy: leave them on")
        return self

    @property
    def d_model(self) -> int:
        """Cells of a matrix: the width of the stream."""
        return self.matrix[0] * self.matrix[1]

    @property
    def cells(self) -> int:
        """Cells of a block."""
        return self.block[0] * self.block[1]

    @property
    def blocks(self) -> int:
        """Blocks of a matrix."""
        return self.d_model // self.cells

    @property
    def head_width(self) -> int:
        """Width of a head of the attention across blocks."""
        return self.d_model // self.n_heads

    @property
    def ff_width(self) -> int:
        """Width inside the MLP."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    @property
    def mixes(self) -> bool:
        """Whether the cells of a block go to other blocks in every layer."""
        return self.layout == "mixed" or self.compat == "original"

    @property
    def gate_inputs(self) -> int:
        """Numbers that the gate reads of a token."""
        return (self.blocks if self.affinity != "none" else 0) + (1 if self.entropy else 0)

    @property
    def tables(self) -> int:
        """Tables of affinity."""
        if self.gate == "open":
            return 0
        return {"per_layer": self.n_layers, "shared": 1, "none": 0}[self.affinity]

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Attentions whose keys and values are kept, heads of each, and width of a head: all heads side by side."""
        return self.n_layers * self.attentions, 1, self.d_model

    @property
    def attentions(self) -> int:
        """Caches of a layer: of its blocks, which are all in one, and across them."""
        return 2 if self.block_attention else 1

    def resolved(self) -> MuConfig:
        """The same shape with every derived number written out, as it is saved beside the weights."""
        return self.model_copy(update={"d_ff": self.ff_width})
