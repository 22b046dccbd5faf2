"""What every tokenizer of this house can do, whatever its vocabulary is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Of the kinds made of bytes. Their order is their ids, from 0. The first stands before every document and so also
# ends the one before it.
SPECIALS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

# What a vocabulary is kept in: the first always, the others for the kinds that have a file of their own.
VOCABULARY_FILES = ("tokenizer.json", "vocab.bin", "vocab.txt")


@dataclass(frozen=True, eq=False, slots=True)
class Encoding:
    """One encoded text: `ids` uint32 of shape (tokens,), and `offsets`, the characters [start, stop) of each token.

    A character whose bytes are divided between tokens is in the offsets of each of them.
    """

    ids: npt.NDArray[np.uint32]
    offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
    """Text to ids and back. Markers typed inside a text are text: only this program places specials."""

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, specials included; ids run from 0 to `vocab_size - 1`."""

    @property
    def lossy(self) -> bool:
        """True when decoding what was encoded may not give every text back exactly."""

    @property
    def specials(self) -> dict[str, int]:
        """Id of every special token by its name."""

    @property
    def tags(self) -> Mapping[str, int]:
        """Id of every tag of a conversation (`<user>`) that is one token; empty where tags are spelt."""

    @property
    def bos_id(self) -> int:
        """The special before every document, which is also the sign that a document has ended."""

    @property
    def pad_id(self) -> int:
        """The special that fills rows up to a common length; never predicted."""

    @property
    def unk_id(self) -> int | None:
        """The special that stands for what the vocabulary does not have; None when there is no such thing."""

    def files(self) -> dict[str, bytes]:
        """The files that hold the vocabulary, by name: `tokenizer.json` and what else the kind has."""

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and offsets of each text. Raises UserError for a text that UTF-8 cannot express."""

    def encode_ids(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of `encode_batch`, without the cost of offsets."""

    def encode(self, text: str) -> list[int]:
        """The ids of one text."""

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer], skip_specials: bool = True) -> str:
        """The text of `ids`; incomplete UTF-8 becomes U+FFFD. Raises RunError for an id outside the vocabulary."""

    def token_bytes(self) -> list[bytes]:
        """The bytes that each token stands for, b"" for specials. Raises UserError when lossy: its tokens are words."""

    def byte_length(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """UTF-8 bytes of each token, same shape as `ids`, 0 for specials.

        They sum to the text's bytes, or when lossy to those of the decoded text (and one space more after the last
        word): what is unknown gives nothing back.
        """
