"""Token shards on disk and the batches a model is trained on.

`TokenBatch`, `Loader` and `sequential` are loaded on first use: they need torch, which the commands that only
read settings or write shards should not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmcore.tokens.batch import TokenBatch
    from lmcore.tokens.loader import Loader, sequential

__all__ = ["Loader", "TokenBatch", "sequential"]

_HOMES = {"TokenBatch": "batch", "Loader": "loader", "sequential": "loader"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
