"""Reading `.cllm`: every length, name, shape and checksum is checked before a tensor is made. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from lmcore.export.cllm_format import (
    ALIGNMENT,
    DTYPES,
    MAGIC,
    MOST_HEADER,
    NUMPY,
    PREFIX,
    VERSION,
    Entry,
    Header,
    TensorEntry,
)
from lmcore.export.whole import NotWholeError, blank_model, must_be
from lmcore.generate.model_files import ModelFile
from lmcore.models.io import described_config
from lmcore.models.network import Network
from lmcore.tokenizer import VOCABULARY_FILES, Tokenizer, load_tokenizer
from storage.errors import RunError

CHUNK = 2**20  # bytes that are hashed at a time
WHOLE = "not a whole .cllm file"
MEND = "copy the file again, or write it again from the train artifact"


@dataclass(frozen=True)
class Cllm:
    """A file that was read; `optimizer` is what `lmcore.train.optim.Optimizer.load` takes, None where it has none."""

    header: Header
    model: Network
    tokenizer: Tokenizer
    chat: bool
    optimizer: dict[str, Tensor] | None


def read_cllm_model(path: Path) -> ModelFile:
    """The model in `path` without what only a training needs. UserError as `read_cllm`."""
    read = read_cllm(path, optimizer=False)
    facts = read.header.model_dump(include={"name", "step", "parameters", "optimizer_inside"})
    return ModelFile(read.model, read.tokenizer, {"format": ".cllm"} | facts, read.chat)


def read_cllm(path: Path, device: str | torch.device = "cpu", *, optimizer: bool = True) -> Cllm:
    """The model in `path`, in evaluation mode. `optimizer` False leaves the state of the optimizer where it is.

    Raises UserError for a file that is not there, is cut short or has a single byte that was not written so.
    """
    with must_be(path, WHOLE, MEND), open(path, "rb") as file:
        header = _header(file)
        stored = described_config(path, header.model)
        blank = blank_model(stored.config, stored.vocab_size)
        _must_match(header, {name: tensor.shape for name, tensor in blank.state_dict().items()})
        start = file.tell()
        for entry in header.entries:
            _check_sum(file, start, entry)
        tokenizer = _tokenizer(file, start, header.vocabulary)
        if tokenizer.vocab_size > stored.vocab_size:
            raise NotWholeError(f"it has {tokenizer.vocab_size} tokens for a model of {stored.vocab_size}")
        weights = _tensors(file, start, header.tensors)
        state = _tensors(file, start, header.optimizer) if optimizer and header.optimizer_inside else None
    blank.load_state_dict(weights, assign=True)
    return Cllm(header, blank.to(device).eval(), tokenizer, stored.chat, state)


def read_header(path: Path) -> Header:
    """What the file says of itself. UserError when that cannot be or does not fit the file's length."""
    with must_be(path, WHOLE, MEND), open(path, "rb") as file:
        return _header(file)


def _header(file: BufferedReader) -> Header:
    """The header, with the table checked against the length of the file; leaves `file` where the payload begins."""
    size = file.seek(0, 2)
    file.seek(0)
    prefix = file.read(PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC:
        raise NotWholeError(f"it begins with {prefix[: len(MAGIC)]!r}, not with {MAGIC!r}")
    if len(prefix) < PREFIX.size:
        raise NotWholeError(f"it has {size:,} bytes, fewer than the {PREFIX.size} before the header")
    _, version, length, digest = PREFIX.unpack(prefix)
    if version != VERSION:
        own = ", which is CLLM's own and lacks parts of the model" if version < VERSION else ""
        raise NotWholeError(f"its version is {version}{own}; this program reads version {VERSION}")
    if length > min(MOST_HEADER, size - PREFIX.size) or (PREFIX.size + length) % ALIGNMENT:
        raise NotWholeError(f"it claims a header of {length:,} bytes and has {size:,} in all")
    encoded = file.read(length)
    if hashlib.sha256(encoded).digest() != digest:
        raise NotWholeError("its header has other bytes than were written")
    try:
        header = Header.model_validate(json.loads(encoded))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NotWholeError(f"its header cannot be: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise NotWholeError(f"its header is no JSON: {error}") from error
    _check_table(header)
    if size != (expected := PREFIX.size + length + header.payload_bytes):
        raise NotWholeError(f"it has {size:,} bytes; its header says {expected:,}")
    return header


def _check_table(header: Header) -> None:
    at = 0
    for entry in header.entries:
        if entry.begin != at:
            raise NotWholeError(f"{entry.name} begins at byte {entry.begin:,} of the payload, not at {at:,}")
        at += entry.bytes
    for tensor in (*header.tensors, *header.optimizer):
        if min(tensor.shape, default=1) < 1 or tensor.bytes != tensor.numbers * DTYPES[tensor.dtype].itemsize:
            raise NotWholeError(f"{tensor.name} has {tensor.bytes:,} bytes for the shape {tensor.shape}")
    parts: tuple[Iterable[Entry], ...] = (header.tensors, header.optimizer, header.vocabulary)
    for names in ([entry.name for entry in part] for part in parts):
        if len(set(names)) != len(names):
            raise NotWholeError("a part is in it twice")
    if header.parameters != sum(tensor.numbers for tensor in header.tensors):
        raise NotWholeError(f"it claims {header.parameters:,} parameters and its tensors have others")
    if bool(header.optimizer) and not header.optimizer_inside:
        raise NotWholeError("it has a state of the optimizer and says that it has none")
    if any(entry.name not in VOCABULARY_FILES for entry in header.vocabulary) or not header.vocabulary:
        raise NotWholeError(f"its vocabulary is not of {', '.join(VOCABULARY_FILES)}")


def _must_match(header: Header, wanted: dict[str, torch.Size]) -> None:
    found = {entry.name: (entry.dtype, entry.shape) for entry in header.tensors}
    for name in (*wanted, *found):
        of_model = ("F32", tuple(wanted[name])) if name in wanted else None
        if found.get(name) != of_model:
            raise NotWholeError(f"{name} is {found.get(name)}, and its model has {of_model}")


def _check_sum(file: BufferedReader, start: int, entry: Entry) -> None:
    digest = hashlib.sha256()
    file.seek(start + entry.begin)
    left = entry.bytes
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest() != entry.sha256:
        raise NotWholeError(f"{entry.name} has other bytes than were written")


def _tensors(file: BufferedReader, start: int, entries: Iterable[TensorEntry]) -> dict[str, Tensor]:
    """The tensors by name, in memory of their own."""
    read = {}
    for entry in entries:
        numbers = np.empty(entry.shape, dtype=NUMPY[entry.dtype])
        file.seek(start + entry.begin)
        if file.readinto(numbers.data) != entry.bytes:
            raise NotWholeError(f"{entry.name} was cut short while it was read")
        read[entry.name] = torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="), copy=False))
    return read


def _tokenizer(file: BufferedReader, start: int, entries: Iterable[Entry]) -> Tokenizer:
    with tempfile.TemporaryDirectory(prefix="cllm-") as folder:  # tokenizers are read from folders
        for entry in entries:
            file.seek(start + entry.begin)
            Path(folder, entry.name).write_bytes(file.read(entry.bytes))
        try:
            return load_tokenizer(Path(folder))
        except RunError as error:
            raise NotWholeError(error.what.replace(f"{folder}/", "")) from error
