"""An `LAi1` file read back: its model, its vocabulary and what its header says. Sizes are checked before anything is
allocated, and nothing in it is believed: whatever is not whole is one UserError."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lmcore.export.lai_format import HEADER_BYTES, Entry, Header
from lmcore.export.lai_quant import dequantise
from lmcore.export.lai_tensors import config_of, model_of
from lmcore.generate.model_files import ModelFile
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.vocab_files import read_vocab_bin
from storage.errors import UserError


def read_lai(path: Path) -> ModelFile:
    """The model, its tokenizer and the facts of an `LAi1` file of dtype F32, Q4_0 or Q8_0; quantised numbers as read.

    Raises UserError that names the file and the first thing in it that is not as LAi's layout has it.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = Header.unpack(file.read(HEADER_BYTES))
            config = config_of(header)  # pydantic's refusal is a ValueError
            if not header.vocab_offset <= header.weights_offset <= size or header.file_bytes != size:
                raise ValueError(
                    f"it has {size:,} bytes; its header says {header.file_bytes:,}, "
                    f"with weights from {header.weights_offset:,}"
                )
            tokenizer = _vocabulary(file.read(header.weights_offset - header.vocab_offset), header.vocab)
            tensors = {entry.name: _tensor(file, entry) for entry in header.entries()}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", "check the path and its rights") from error
    except ValueError as error:
        raise UserError(
            f"{path} is no whole LAi1 file: {_line(error)}", "copy the file again, or export the model again"
        ) from error
    return ModelFile(model_of(config, tensors), tokenizer, header.facts())


def _vocabulary(block: bytes, rows: int) -> CharBPE:
    tokens, scores = read_vocab_bin(block)
    if len(tokens) != rows:
        raise ValueError(f"its vocabulary has {len(tokens):,} tokens, its embedding {rows:,} rows")
    if not all(tokens) or not all(map(math.isfinite, scores)):
        raise ValueError("its vocabulary has an empty token or a score that is no number")
    try:
        return CharBPE.from_file(tokens, scores)
    except ValueError as error:
        raise ValueError(f"its vocabulary: {error}") from error
    except Exception as error:  # the library raises bare Exception for whatever is wrong with a vocabulary
        raise ValueError(f"its vocabulary: {error}") from error


def _tensor(file: BinaryIO, entry: Entry) -> Tensor:
    content = file.read(entry.bytes)
    if len(content) != entry.bytes:
        raise ValueError(f"it ends inside {entry.name}")
    found = torch.from_numpy(dequantise(content, entry.shape, entry.dtype))
    if not torch.isfinite(found).all():
        raise ValueError(f"{entry.name} holds NaN or infinity")
    return found


def _line(error: ValueError) -> str:
    """What pydantic says of the first field, or the message, in one line."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return " ".join(str(error).split())
    first = errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'its shape'}: {first['msg']}"
