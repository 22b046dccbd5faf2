"""Where a model's parameters are, and what they cost: bytes, training memory, arithmetic. Nothing here runs a model.

Letters: N parameters, B rows, T context, V vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelConfig

# Numbers of width F that one MLP keeps for backward: swiglu gate, up, silu(gate) and the product; relu its result.
_MLP_KEPT = {"swiglu": 4, "relu2": 3, "gelu": 2, "relu": 1}


class Row(NamedTuple):
    """One kind of parameter; `shape` starts with the number of layers where every block has one."""

    part: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Ledger:
    """Parameters by part. A tied head has a row with 0 parameters, so `total` counts every number once.

    Of a decoder; another family says in a subclass what its parts are and what a layer attends to and keeps.
    """

    GROUPS: ClassVar[tuple[str, ...]] = ("embedding", "positions", "attention", "mlp", "norms", "head")
    UTILISATION: ClassVar[tuple[float, float]] = (0.3, 0.7)  # of a CPU's product speed, that small models reached here

    config: ModelConfig
    vocab_size: int
    rows: list[Row]

    @property
    def total(self) -> int:
        """All parameters, as `sum(p.numel() for p in model.parameters())`."""
        return sum(row.parameters for row in self.rows)

    @property
    def shape(self) -> str:
        """The model's shape in a few words, for tables of several models."""
        c = self.config
        return f"{c.n_layers} x {c.d_model}, {c.n_heads} heads, context {c.context}"

    @property
    def groups(self) -> dict[str, int]:
        """Parameters of each of GROUPS."""
        groups = dict.fromkeys(self.GROUPS, 0)
        for row in self.rows:
            groups[self.group_of(row.part)] += row.parameters
        return groups

    @staticmethod
    def group_of(part: str) -> str:
        """The group of a row."""
        if part.startswith("embed."):
            return "embedding"
        if part.startswith("position."):
            return "positions"
        if part.startswith("head."):
            return "head"
        if "norm." in part:
            return "norms"
        return "attention" if ".attn." in part else "mlp"

    def bytes(self, dtype: torch.dtype | str = torch.float32) -> int:
        """Bytes of all parameters in `dtype` (a torch dtype or its name): the file is this plus about a kilobyte."""
        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return self.total * int(kind.itemsize)

    @property
    def product_parameters(self) -> int:
        """Numbers that take part in a product for every token: the blocks' matrices and the head, tied or not."""
        blocks = sum(row.parameters for row in self.rows if row.part.startswith("blocks.") and len(row.shape) > 2)
        return blocks + self.vocab_size * self.config.d_model

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating-point operations of forward and backward for one token of a window of `context` tokens.

        6 for each product parameter and 12 n_layers (n_heads head_dim) T for attention over the whole square
        (Chowdhery et al. 2022, PaLM, appendix B). Forward alone is a third of it.
        """
        c = self.config
        attention = 12 * c.n_layers * self.attended * (c.context if context is None else context)
        return 6 * self.product_parameters + attention

    @property
    def attended(self) -> int:
        """Numbers of all heads of a layer that look at other tokens."""
        assert isinstance(self.config, DecoderConfig)
        return self.config.n_heads * self.config.head_width

    def kept(self, context: int, attention: Literal["plain", "sdpa"]) -> int:
        """Numbers that a layer keeps for each token of a window of `context`, for the backward pass."""
        assert isinstance(self.config, DecoderConfig)
        c = self.config
        numbers = 4 * c.d_model + 2 * sum(c.qkv_rows) + self.attended + _MLP_KEPT[c.mlp] * c.ff_width
        return numbers + (c.n_heads * context if attention == "plain" else 0)

    def training_memory(
        self,
        batch: int,
        context: int | None = None,
        *,
        optimizer: Literal["muon", "adamw", "schedule_free"] = "muon",
        stream_dtype: torch.dtype = torch.float32,
        attention: Literal["plain", "sdpa"] = "sdpa",
        recompute: bool = False,
        adapters: int | None = None,
    ) -> dict[str, int]:
        """Bytes a training step needs, by use; rough (within a third), without the allocator's slack and torch itself.

        weights 4N, gradients 4N, optimizer 8N (AdamW), 12N (schedule-free) or 4 a hidden number and 8 for the rest
        (Muon). `adapters`, where given, is how many numbers are trained, by AdamW, beside N that stay as they are:
        these have neither gradients nor a state of the optimizer. activations B T (n_layers (kept per layer) + V
        logits, their float32 copy and its gradient), where a layer keeps 4D for the norms, twice its queries, keys
        and values, its output, 1 to 4 F of the MLP, and in plain attention H T softmax weights. With `recompute`
        every layer keeps its input, D, and one all the rest.
        """
        c = self.config
        T = c.context if context is None else context
        hidden = sum(row.parameters for row in self.rows if _is_hidden_matrix(row))
        kept = self.kept(T, attention)
        layers = c.n_layers * c.d_model + kept if recompute else c.n_layers * kept
        size = stream_dtype.itemsize
        trained = self.total if adapters is None else adapters
        by_muon = hidden if optimizer == "muon" and adapters is None else 0
        memory = {
            "weights": 4 * (self.total + (adapters or 0)),
            "gradients": 4 * trained,
            "optimizer": (12 if optimizer == "schedule_free" else 8) * trained - 4 * by_muon,
            "activations": batch * T * (layers * size + self.vocab_size * (size + 4 + 4)),
        }
        return memory | {"total": sum(memory.values())}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: rows, groups, total, bytes by dtype, operations per token, the resolved shape."""
        return {
            "vocab_size": self.vocab_size,
            "model": self.config.key_values(),
            "rows": [{"part": part, "shape": list(shape), "parameters": n} for part, shape, n in self.rows],
            "groups": self.groups,
            "total": self.total,
            "bytes": {name: self.bytes(name) for name in ("float32", "bfloat16")},
            "product_parameters": self.product_parameters,
            "flops_per_token": self.flops_per_token(),
        }


def estimate(config: ModelConfig, vocab_size: int) -> Ledger:
    """The ledger of a model that is never allocated."""
    from lmcore.models import build  # the families import this module

    with torch.device("meta"):
        return build(config, vocab_size, 0).ledger()


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of a `Decoder`, counted from its real parameters."""
    config, vocab_size = model.config, model.vocab_size
    assert isinstance(config, DecoderConfig)
    assert isinstance(vocab_size, int)
    rows = rows_of_model(model)
    if config.tie_embeddings:
        rows.append(Row("head.weight (the embedding's)", (vocab_size, config.d_model), 0))
    return Ledger(config, vocab_size, rows)


def rows_of_model(model: nn.Module) -> list[Row]:
    """Every parameter of a model; the equal parts of its blocks, and its tables of affinity, share one row each."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # of adapters, which are no part of the shape
            continue
        part = re.sub(r"^(blocks|affinity)\.\d+\.", r"\1.", name).replace(".base_layer.", ".")
        shapes.setdefault(part, []).append(tuple(parameter.shape))
    rows = []
    for part, found in shapes.items():
        assert len(set(found)) == 1, f"blocks differ in {part}"
        shape = (len(found), *found[0]) if part.startswith(("blocks.", "affinity.")) else found[0]
        rows.append(Row(part, shape, torch.Size(shape).numel()))
    return rows


def _is_hidden_matrix(row: Row) -> bool:
    return row.part.startswith("blocks.") and len(row.shape) == 3
