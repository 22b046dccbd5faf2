"""Text to ids and back."""

from lmcore.tokenizer.byte_bpe import ByteBPE
from lmcore.tokenizer.interface import SPECIALS, Encoding, Tokenizer
from lmcore.tokenizer.kinds import load_tokenizer

__all__ = ["SPECIALS", "ByteBPE", "Encoding", "Tokenizer", "load_tokenizer"]
