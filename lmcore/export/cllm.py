"""Writing `.cllm`, CLLM's model file, in a layout of ours (`cllm_format`): one file that has all a model needs.

The weights, the shape, the vocabulary and, where asked for, the state of the optimizer. 33,656,832 parameters, the
sum in CLLM's document, are 134.6 MB, and 403.9 MB with AdamW's two moments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmcore.export.cllm_format import DTYPES, MAGIC, NUMPY, PREFIX, VERSION, Entry, Header, TensorEntry
from lmcore.models.io import describe
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer
from storage.atomic import write_chunks

CHUNK = 2**20  # numbers that are copied at a time
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_UNKNOWN = "0" * 64  # sha256 of a tensor without numbers


@dataclass(frozen=True)
class Contents:
    """What goes into a file. Tensors on the "meta" device will do to reckon sizes."""

    name: str
    step: int
    model: dict[str, Any]  # as `lmcore.models.io.describe` gives it
    weights: Mapping[str, Tensor]
    vocabulary: Mapping[str, bytes] = field(default_factory=dict)  # files of the tokenizer by name
    optimizer: Mapping[str, Tensor] | None = None


def contents(
    model: Network,
    tokenizer: Tokenizer,
    *,
    step: int,
    name: str,
    optimizer: Mapping[str, Tensor] | None = None,
    chat: bool = False,
) -> Contents:
    """What a file of this model holds; `optimizer` as `lmcore.train.optim.Optimizer.tensors` gives it.

    Of a vocabulary of words the file is `vocab.txt`, CLLM's own, where the counts are known.
    """
    files = tokenizer.files()
    one = "vocab.txt" if "vocab.txt" in files else "tokenizer.json"
    vocabulary = {one: files[one]} | {name: data for name, data in files.items() if name == "vocab.bin"}
    weights = {name: tensor.detach().to(torch.float32) for name, tensor in model.state_dict().items()}
    return Contents(name, step, describe(model, chat=chat), weights, vocabulary, optimizer)


def header_of(made: Contents) -> Header:
    """The header of the file of `made`, whose `file_bytes` is its size. Hashes every tensor, but for "meta" ones."""
    entries: list[Entry] = []

    def entry(kind: type[Entry], name: str, size: int, sha256: str, **more: Any) -> Entry:
        begin = entries[-1].begin + entries[-1].bytes if entries else 0
        entries.append(kind(name=name, begin=begin, bytes=size, sha256=sha256, **more))
        return entries[-1]

    def table(tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
        return tuple(
            entry(
                TensorEntry,
                name,
                tensor.numel() * tensor.element_size(),
                _digest(tensor),
                dtype=_dtype(tensor),
                shape=tuple(tensor.shape),
            )
            for name, tensor in tensors.items()
        )

    return Header(
        name=made.name,
        step=made.step,
        parameters=sum(tensor.numel() for tensor in made.weights.values()),
        model=made.model,
        optimizer_inside=made.optimizer is not None,
        tensors=table(made.weights),
        optimizer=table(made.optimizer or {}),
        vocabulary=tuple(
            entry(Entry, name, len(data), hashlib.sha256(data).hexdigest()) for name, data in made.vocabulary.items()
        ),
    )


def write_cllm(path: Path, made: Contents) -> Header:
    """Write the file and give its header. It appears at once and whole; no more than a few MiB are copied at a time.

    Equal contents give equal bytes. StorageError when the disk refuses.
    """
    header = header_of(made)
    write_chunks(path, _chunks(header, made))
    return header


def _chunks(header: Header, made: Contents) -> Iterator[bytes]:
    encoded = header.encoded()
    yield PREFIX.pack(MAGIC, VERSION, len(encoded), hashlib.sha256(encoded).digest())
    yield encoded
    for tensors in (made.weights, made.optimizer or {}):
        for tensor in tensors.values():
            yield from _raw(tensor)
    yield from made.vocabulary.values()


def _raw(tensor: Tensor) -> Iterator[bytes]:
    """The numbers of a tensor, little endian, row by row."""
    flat = tensor.detach().contiguous().flatten()
    kind = NUMPY[_dtype(tensor)]
    for begin in range(0, len(flat), CHUNK):
        yield flat[begin : begin + CHUNK].cpu().numpy().astype(kind, copy=False).tobytes()


def _digest(tensor: Tensor) -> str:
    if tensor.is_meta:
        return _UNKNOWN
    digest = hashlib.sha256()
    for chunk in _raw(tensor):
        digest.update(chunk)
    return digest.hexdigest()


def _dtype(tensor: Tensor) -> str:
    return _NAMES[tensor.dtype]
