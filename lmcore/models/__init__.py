"""Models: their shapes, their parameters, their files. The names below are loaded on use, and torch with them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from lmcore.models.cache import KVCache
    from lmcore.models.config import DecoderConfig
    from lmcore.models.decoder import Decoder
    from lmcore.models.families import ModelConfig
    from lmcore.models.io import load_model, save_model
    from lmcore.models.ledger import Ledger, estimate
    from lmcore.models.mu import Mu
    from lmcore.models.mu_config import MuConfig
    from lmcore.models.network import Network

__all__ = [
    "Decoder",
    "DecoderConfig",
    "KVCache",
    "Ledger",
    "Mu",
    "MuConfig",
    "Network",
    "build",
    "estimate",
    "load_model",
    "save_model",
]

_HOMES = {
    "Decoder": "decoder",
    "DecoderConfig": "config",
    "KVCache": "cache",
    "Ledger": "ledger",
    "Mu": "mu",
    "MuConfig": "mu_config",
    "Network": "network",
    "estimate": "ledger",
    "load_model": "io",
    "save_model": "io",
}


@overload
def build(config: DecoderConfig, vocab_size: int, seed: int) -> Decoder: ...
@overload
def build(config: MuConfig, vocab_size: int, seed: int) -> Mu: ...
@overload
def build(config: ModelConfig, vocab_size: int, seed: int) -> Network: ...
def build(config: ModelConfig, vocab_size: int, seed: int) -> Network:
    """A new model whose every number follows from (config, vocab_size, seed); the global random state is untouched."""
    from lmcore.models.mu_config import MuConfig

    if isinstance(config, MuConfig):
        from lmcore.models.mu import Mu

        return Mu(config, vocab_size, seed)
    from lmcore.models.decoder import Decoder

    return Decoder(config, vocab_size, seed)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
