"""Models: their shapes, their parameters, their files. The names below are loaded on use, and torch with them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmcore.models.cache import KVCache
    from lmcore.models.config import DecoderConfig
    from lmcore.models.decoder import Decoder
    from lmcore.models.io import load_model, save_model
    from lmcore.models.ledger import Ledger, estimate

__all__ = ["Decoder", "DecoderConfig", "KVCache", "Ledger", "build", "estimate", "load_model", "save_model"]

_HOMES = {
    "Decoder": "decoder",
    "DecoderConfig": "config",
    "KVCache": "cache",
    "Ledger": "ledger",
    "estimate": "ledger",
    "load_model": "io",
    "save_model": "io",
}


def build(config: DecoderConfig, vocab_size: int, seed: int) -> Decoder:
    """A new model whose every number follows from (config, vocab_size, seed); the global random state is untouched."""
    from lmcore.models.decoder import Decoder

    return Decoder(config, vocab_size, seed)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
