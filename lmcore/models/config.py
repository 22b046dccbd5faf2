"""The shape of a decoder: the recipe's `model:` section. Knows no torch, so that reading a recipe stays quick.

The defaults are the modern default: RMSNorm before each part, rotary positions, normalised queries and keys, SwiGLU,
one matrix for embedding and head. The vocabulary size is not here: it comes from the tokenizer that was trained.
`docs/models.md` has the options that give the GPT-2, Llama and Qwen3 shapes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lmcore.config import Params, added_later

Norm = Literal["rms", "layer"]
Position = Literal["rope", "learned"]
Placement = Literal["pre", "post"]
MLPKind = Literal["swiglu", "relu2", "gelu", "relu"]


class DecoderConfig(Params):
    """Shape and options of a decoder."""

    width: ClassVar[str] = "model.d_model"  # what a person sets lower for a smaller model

    family: Literal["decoder"] = Field("decoder", description="Family of models.")
    n_layers: int = Field(4, ge=1, le=512, description="Number of blocks.")
    d_model: int = Field(128, ge=8, le=65536, description="Width of the residual stream.")
    n_heads: int = Field(2, ge=1, le=1024, description="Attention heads.")
    n_kv_heads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Heads of keys and values; fewer than n_heads is grouped-query attention. Default n_heads.",
    )
    head_dim: int | None = Field(None, ge=1, le=4096, description="Width of one head. Default d_model / n_heads.")
    d_ff: int | None = Field(
        None,
        ge=1,
        description="Width inside the MLP. Default 4 d_model for gelu, relu and relu2; for swiglu, which has three "
        "matrices, 8/3 d_model rounded up to a multiple of 64.",
    )
    context: int = Field(256, ge=2, le=1 << 20, description="The most tokens the model sees at once.")
    norm: Norm = Field("rms", description="rms: RMSNorm; layer: LayerNorm (with a bias when `bias` is on).")
    norm_eps: float = Field(1e-5, gt=0, le=1e-2, description="Added to the variance inside every norm.")
    norm_placement: Placement = added_later(
        "pre",
        description="pre: a norm before attention and MLP, and one before the head; post: after each is added to the "
        "stream, and none before the head, as in the first GPT.",
    )
    norm_affine: bool = added_later(
        True, description="Norms learn a weight (LayerNorm a bias too, where `bias` is on). Off: no norm learns any."
    )
    position: Position = Field(
        "rope", description="rope: rotary, half-split as in Llama; learned: one vector a position."
    )
    rope_theta: float = Field(10000.0, gt=1, description="Base of the rotary wavelengths.")
    qk_norm: bool = Field(
        True, description="RMSNorm with a weight on each head's queries and keys, before the rotation."
    )
    mlp: MLPKind = Field(
        "swiglu",
        description="swiglu: silu(gate x) * up x; relu2: relu(up x) squared; gelu: tanh form; relu: relu(up x).",
    )
    bias: bool = Field(False, description="Biases in the attention and MLP matrices and in LayerNorm.")
    mlp_bias: bool | None = added_later(None, description="Biases in the MLP matrices. Default as `bias`.")
    tie_embeddings: bool = Field(True, description="The head uses the embedding's matrix.")
    zero_init_projections: bool = Field(
        True,
        description="Blocks start as the identity: their output matrices start at zero. Off: GPT-2's initialisation.",
    )
    embed_norm: bool = Field(False, description="RMSNorm without a weight right after the embedding.")
    logit_softcap: float = Field(0.0, ge=0, description="Logits become cap * tanh(logits / cap); 0: off.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after the embedding, in attention and after each part."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(
                f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}: change one, or give head_dim"
            )
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.kv_heads}")
        if self.position == "rope" and self.head_width % 2:
            raise ValueError(f"head_dim {self.head_width} is odd: rotary positions turn pairs of numbers")
        return self

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def ff_width(self) -> int:
        """Width inside the MLP."""
        if self.d_ff is not None:
            return self.d_ff
        return -(-8 * self.d_model // (3 * 64)) * 64 if self.mlp == "swiglu" else 4 * self.d_model

    @property
    def ff_bias(self) -> bool:
        """Whether the MLP's matrices have biases."""
        return self.bias if self.mlp_bias is None else self.mlp_bias

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of `attn.qkv.weight` that make queries, keys and values, in that order."""
        return self.n_heads * self.head_width, self.kv_heads * self.head_width, self.kv_heads * self.head_width

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Attentions whose keys and values are kept, heads of each, and width of a head."""
        return self.n_layers, self.kv_heads, self.head_width

    def resolved(self) -> DecoderConfig:
        """The same shape with every derived number written out, as it is saved beside the weights."""
        mlp_bias = None if self.ff_bias == self.bias else self.ff_bias  # one way to write it, the older where there is
        return self.model_copy(
            update={
                "n_kv_heads": self.kv_heads,
                "head_dim": self.head_width,
                "d_ff": self.ff_width,
                "mlp_bias": mlp_bias,
            }
        )
