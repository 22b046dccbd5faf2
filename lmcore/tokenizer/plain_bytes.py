"""Bytes as they are (H-Net): the six specials and the 256 bytes; nothing is learnt and nothing is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from lmcore.tokenizer.base import Ids, Vocabulary, utf8
from lmcore.tokenizer.byte_bpe import byte_letters
from lmcore.tokenizer.engines import frame_fault
from lmcore.tokenizer.interface import SPECIALS

FIRST = len(SPECIALS)  # id of byte 0; byte b has id FIRST + b
VOCAB_SIZE = FIRST + 256


class PlainBytes(Vocabulary):
    """Every byte of UTF-8 is a token: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    def __init__(self) -> None:
        """There is one such vocabulary."""
        specials = {name: i for i, name in enumerate(SPECIALS)}
        super().__init__(specials, np.ones(VOCAB_SIZE, dtype=np.int32), bos=SPECIALS[0], pad=SPECIALS[1])

    @classmethod
    def from_engine(cls, engine: Engine) -> Self:
        """The vocabulary of an engine. Raises ValueError when it is not this one."""
        fault = frame_fault(engine, [_engine()], SPECIALS)
        if fault is None and engine.get_vocab() != _engine().get_vocab():
            fault = "its bytes do not have the ids 6 to 261"
        if fault:
            raise ValueError(fault)
        return cls()

    def files(self) -> dict[str, bytes]:
        """The files that hold the vocabulary, by name."""
        return {"tokenizer.json": _engine().to_str(pretty=True).encode()}

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, b"" for specials."""
        return [b""] * FIRST + [bytes([byte]) for byte in range(256)]

    def encode_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text. Raises UserError for a text that UTF-8 cannot express."""
        return [np.frombuffer(utf8(text), dtype=np.uint8).astype(np.uint32) + np.uint32(FIRST) for text in texts]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer], skip_specials: bool = True) -> str:
        """The text of `ids`; incomplete UTF-8 becomes U+FFFD. Raises RunError for an id outside the vocabulary."""
        parts = (
            bytes([i - FIRST]) if i >= FIRST else b"" if skip_specials else SPECIALS[i].encode()
            for i in self._known(ids)
        )
        return b"".join(parts).decode(errors="replace")


def _engine() -> Engine:
    """The same vocabulary in the library's hands."""
    vocabulary = {name: i for i, name in enumerate(SPECIALS)}
    vocabulary |= {letter: FIRST + byte for letter, byte in byte_letters().items()}
    engine = Engine(models.BPE(vocab=vocabulary, merges=[]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(list(SPECIALS))
    return engine
