"""What every kind of vocabulary does alike: specials, lengths, the checks of ids and of texts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from lmcore.tokenizer.interface import Encoding
from storage.errors import RunError, UserError

# One thread a call: the stages bring their own threads (twice as fast on two cores where the engine's own gain 1.6
# times), and a process forked later would otherwise be warned about. Who exports `true` gets the engine's threads.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Ids = npt.NDArray[np.uint32]


class Vocabulary:
    """The common half of `lmcore.tokenizer.interface.Tokenizer`; a kind adds `encode_ids`, `decode` and its files."""

    lossy = False
    tags: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self, specials: Mapping[str, int], lengths: npt.NDArray[np.int32], *, bos: str, pad: str, unk: str | None = None
    ) -> None:
        """`lengths`: bytes of each token, shape (V,); those of specials are set to 0."""
        self.specials = dict(specials)
        self.vocab_size = len(lengths)
        self.bos_id, self.pad_id = self.specials[bos], self.specials[pad]
        self.unk_id = None if unk is None else self.specials[unk]
        self._lengths = lengths
        self._lengths[list(self.specials.values())] = 0

    def encode_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text. Raises UserError for a text that UTF-8 cannot express."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of each text. Raises UserError for a text that UTF-8 cannot express."""
        return [
            Encoding(ids, byte_offsets(text, self._lengths[ids]))
            for text, ids in zip(texts, self.encode_ids(texts), strict=True)
        ]

    def encode(self, text: str) -> list[int]:
        """Ids of one text. Raises UserError when UTF-8 cannot express it."""
        ids: list[int] = self.encode_ids([text])[0].tolist()
        return ids

    def byte_length(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """UTF-8 bytes of each token, same shape as `ids`; 0 for specials."""
        lengths: npt.NDArray[np.int32] = self._lengths[ids]
        return lengths

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, b"" for specials. Raises UserError for a lossy kind, whose tokens are words."""
        raise UserError(
            "the tokens of this vocabulary are words and their parts, not bytes",
            "use a vocabulary of kind byte_bpe, bytes or char_bpe",
        )

    def _known(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[int]:
        """The ids as a list. Raises RunError for one outside the vocabulary."""
        wanted = [int(index) for index in ids]
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.vocab_size:
            wrong = next(index for index in wanted if not 0 <= index < self.vocab_size)
            raise RunError(
                f"token id {wrong} is outside the tokenizer's {self.vocab_size} tokens",
                "use the tokenizer that the model was trained with",
            )
        return wanted


def byte_offsets(text: str, lengths: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """The characters of a text that its tokens, of `lengths` bytes, stand for."""
    octets = np.frombuffer(text.encode(), dtype=np.uint8)
    character = np.cumsum((octets & 0xC0) != 0x80) - 1  # of each byte: all but a character's first are 0b10......
    stops = np.cumsum(lengths)
    first, last = character[stops - lengths], character[stops - 1]
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))


def utf8(text: str) -> bytes:
    """The bytes of a text. Raises UserError for a lone surrogate: half of a UTF-16 pair, which is no character."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, "
            "which UTF-8 cannot express",
            "decode the bytes it came from with errors='replace', or take the character out",
        ) from None
