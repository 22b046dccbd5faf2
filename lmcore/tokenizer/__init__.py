"""Text to ids and back, exactly."""

from pathlib import Path

from lmcore.tokenizer.byte_bpe import ByteBPE
from lmcore.tokenizer.interface import SPECIALS, Encoding, Tokenizer

__all__ = ["SPECIALS", "ByteBPE", "Encoding", "Tokenizer", "load_tokenizer"]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in any folder that holds a `tokenizer.json`. Raises RunError naming the file."""
    return ByteBPE.load(folder / "tokenizer.json")
