"""Where a model's parameters are, and what they cost: bytes, training memory, arithmetic. Nothing here runs a model.

Letters: N parameters, B rows, T context, V vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from lmcore.models.config import DecoderConfig

# Numbers of width F that one MLP keeps for backward: swiglu gate, up, silu(gate) and the product; relu its result.
_MLP_KEPT = {"swiglu": 4, "relu2": 3, "gelu": 2, "relu": 1}


class Row(NamedTuple):
    """One kind of parameter; `shape` starts with the number of layers where every block has one."""

    part: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Ledger:
    """Parameters by part. A tied head has a row with 0 parameters, so `total` counts every number once."""

    config: DecoderConfig
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
        """Parameters of embedding, positions, attention, mlp, norms and head."""
        groups = dict.fromkeys(("embedding", "positions", "attention", "mlp", "norms", "head"), 0)
        for row in self.rows:
            groups[_group(row.part)] += row.parameters
        return groups

    def bytes(self, dtype: torch.dtype | str = torch.float32) -> int:
        """Bytes of all parameters in `dtype` (a torch dtype or its name): the file is this plus about a kilobyte."""
        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return self.total * int(kind.itemsize)

    @property
    def product_parameters(self) -> int:
        """Numbers that take part in a product for every token: the blocks' matrices and the head, tied or not."""
        blocks = sum(row.parameters for row in self.rows if _is_hidden_matrix(row))
        return blocks + self.vocab_size * self.config.d_model

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating-point operations of forward and backward for one token of a window of `context` tokens.

        6 for each product parameter and 12 n_layers (n_heads head_dim) T for attention over the whole square
        (Chowdhery et al. 2022, PaLM, appendix B). Forward alone is a third of it.
        """
        c = self.config
        attention = 12 * c.n_layers * c.n_heads * c.head_width * (c.context if context is None else context)
        return 6 * self.product_parameters + attention

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
        attended = c.n_heads * c.head_width
        kept = 4 * c.d_model + 2 * sum(c.qkv_rows) + attended + _MLP_KEPT[c.mlp] * c.ff_width
        kept += c.n_heads * T if attention == "plain" else 0
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


def estimate(config: DecoderConfig, vocab_size: int) -> Ledger:
    """The ledger of a model that is never allocated."""
    from lmcore.models.decoder import Decoder  # decoder.py imports this module

    with torch.device("meta"):
        return Decoder(config, vocab_size).ledger()


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of a `Decoder`, counted from its real parameters; the blocks' equal parts share one row."""
    config, vocab_size = model.config, model.vocab_size
    assert isinstance(config, DecoderConfig)
    assert isinstance(vocab_size, int)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # of adapters, which are no part of the shape
            continue
        part = re.sub(r"^blocks\.\d+\.", "blocks.", name).replace(".base_layer.", ".")
        shapes.setdefault(part, []).append(tuple(parameter.shape))
    rows = []
    for part, found in shapes.items():
        assert len(set(found)) == 1, f"blocks differ in {part}"
        shape = (len(found), *found[0]) if part.startswith("blocks.") else found[0]
        rows.append(Row(part, shape, torch.Size(shape).numel()))
    if config.tie_embeddings:
        rows.append(Row("head.weight (the embedding's)", (vocab_size, config.d_model), 0))
    return Ledger(config, vocab_size, rows)


def _is_hidden_matrix(row: Row) -> bool:
    return row.part.startswith("blocks.") and len(row.shape) == 3


def _group(part: str) -> str:
    if part.startswith("embed."):
        return "embedding"
    if part.startswith("position."):
        return "positions"
    if part.startswith("head."):
        return "head"
    if "norm." in part:
        return "norms"
    return "attention" if ".attn." in part else "mlp"
