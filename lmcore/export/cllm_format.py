"""The layout of a `.cllm` file: prefix, header, payload. Nothing in it is pickled; all numbers are little endian.

    8 bytes   magic, b"CLLM\\x01\\0\\0\\0", that of CLLM's own program
    u32       version, 2: CLLM's own files say 1 and lack the vocabulary, positions and norms of the model
    u32       bytes of the header
    32 bytes  sha256 of the header
    header    JSON, UTF-8, filled up with spaces so that the payload begins at a multiple of 64
    payload   tensors of the model, then of the optimizer, then files of the vocabulary, each where its entry says,
              one directly after the other, to the last byte of the file

CLLM's own header (justmebob123/crystalline, read in November 2025) says 8 heads and a context of 512 whatever the
model has; here the header has the whole shape of the model as `config.json` has it.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import torch
from pydantic import Field

from lmcore.config import Settings
from storage.digest import canonical_json

MAGIC = b"CLLM\x01\0\0\0"
VERSION = 2
PREFIX = struct.Struct("<8sII32s")
ALIGNMENT = 64  # bytes
MOST_HEADER = 2**26  # bytes: a damaged length must not be believed
DTYPES: dict[str, torch.dtype] = {"F32": torch.float32, "F64": torch.float64}
NUMPY = {"F32": "<f4", "F64": "<f8"}


class Entry(Settings):
    """A part of the payload."""

    name: str = Field(min_length=1, max_length=1024)
    begin: int = Field(ge=0, description="Bytes of the payload before it.")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class TensorEntry(Entry):
    """A tensor, row-major."""

    dtype: Literal["F32", "F64"]
    shape: tuple[int, ...] = Field(max_length=8)

    @property
    def numbers(self) -> int:
        """How many numbers the shape has."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class Header(Settings):
    """All that a file says of itself."""

    name: str = Field(description="Of the model, for people.")
    step: int = Field(ge=0, description="Optimizer steps that made it; 0: before the first.")
    parameters: int = Field(ge=0, description="Numbers in `tensors`.")
    model: dict[str, Any] = Field(description="As in config.json: format, family, shape, vocab_size.")
    optimizer_inside: bool
    tensors: tuple[TensorEntry, ...]
    optimizer: tuple[TensorEntry, ...]
    vocabulary: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every part of the payload, in its order."""
        return (*self.tensors, *self.optimizer, *self.vocabulary)

    @property
    def payload_bytes(self) -> int:
        """Bytes after the header."""
        return sum(entry.bytes for entry in self.entries)

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return PREFIX.size + len(self.encoded()) + self.payload_bytes

    def encoded(self) -> bytes:
        """The header as it stands in the file, filled up with spaces."""
        text = canonical_json(self.model_dump(mode="json")).encode()
        return text + b" " * (-(PREFIX.size + len(text)) % ALIGNMENT)
