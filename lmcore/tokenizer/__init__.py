"""Text to ids and back. `ByteBPE` and `load_tokenizer` are loaded on first use, and the libraries with them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmcore.tokenizer.interface import SPECIALS, VOCABULARY_FILES, Encoding, Tokenizer

if TYPE_CHECKING:
    from lmcore.tokenizer.byte_bpe import ByteBPE
    from lmcore.tokenizer.kinds import load_tokenizer

__all__ = ["SPECIALS", "VOCABULARY_FILES", "ByteBPE", "Encoding", "Tokenizer", "load_tokenizer"]

_HOMES = {"ByteBPE": "byte_bpe", "load_tokenizer": "kinds"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
