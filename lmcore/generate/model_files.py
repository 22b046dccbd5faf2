"""Models in one file, of other programs: which reader is for a file, by the bytes it begins with.

A reader takes the path and gives the model (float32, in evaluation mode, on the CPU), its tokenizer and what the file
says of itself, as plain JSON; it raises UserError for a file that is not whole.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer
from storage.errors import UserError

ZIP = b"PK\x03\x04"  # what torch.save begins with
READERS = {  # first bytes: module and function
    b"LAi1": ("lmcore.export.lai_reader", "read_lai"),
    b"CLLM": ("lmcore.export.cllm_reader", "read_cllm_model"),
    ZIP: ("lmcore.export.mu_reader", "read_mu"),
}


class ModelFile(NamedTuple):
    """What was in a file."""

    model: Network
    tokenizer: Tokenizer
    facts: dict[str, Any]
    chat: bool = False  # trained on turns between chat markers


def is_model_file(path: Path) -> bool:
    """Whether it is a file that begins as one of `READERS`."""
    return _magic(path) is not None


def read_model_file(path: Path) -> ModelFile:
    """The model in a file. Raises UserError for one that no reader is for, or that is not whole."""
    magic = _magic(path)
    if magic is None:
        known = ", ".join(".pt" if magic == ZIP else magic.decode() for magic in READERS)
        raise UserError(
            f"{path} is no model file that this program reads ({known}): it begins with other bytes",
            "name such a file, the folder of a model, or a release (`collect-train releases` lists them)",
        )
    module, function = READERS[magic]
    read: Callable[[Path], ModelFile] = getattr(importlib.import_module(module), function)
    return read(path)


def _magic(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            begin = file.read(max(map(len, READERS)))
    except OSError:
        return None
    return next((magic for magic in READERS if begin.startswith(magic)), None)
