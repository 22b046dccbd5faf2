"""A Hugging Face folder as a model to talk to: an export of ours with its own vocabulary, any other as imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lmcore.export.architectures import MODEL_TYPES
from lmcore.export.hf_folder import Folder, open_folder
from lmcore.export.hf_import import import_hf
from lmcore.generate.model_files import ModelFile
from lmcore.tokenizer import Tokenizer, load_tokenizer
from lmcore.tokenizer.imported import ImportedBPE
from storage.errors import RunError


def read_hf_model(path: Path) -> ModelFile:
    """The model, its vocabulary and what its files hold. Raises as `import_hf`."""
    folder = open_folder(path)
    read = import_hf(folder, _own_vocabulary(path))
    facts: dict[str, Any] = {
        "format": "Hugging Face",
        "architecture": next(name for name, kind in MODEL_TYPES.items() if kind == folder.shape.kind),
        "model_type": folder.shape.kind,
        "dtype": ", ".join(_dtypes(folder)),
        "bytes": sum((path / shard).stat().st_size for shard in folder.shards),
        "left_out": "; ".join(read.notes) or None,
    }
    return ModelFile(read.model, read.tokenizer, facts)


def _own_vocabulary(path: Path) -> Tokenizer | None:
    """The vocabulary if it is of a kind that this program learns, as an export has it; None for a foreign one.

    Ours are known by their frame to the letter (`lmcore.tokenizer.engines.frame_fault`), so no foreign one passes.
    """
    try:
        found = load_tokenizer(path)
    except RunError:
        return None
    return None if isinstance(found, ImportedBPE) else found


def _dtypes(folder: Folder) -> list[str]:
    """The number formats of the tensors, by their names in safetensors."""
    found: set[str] = set()
    for shard in folder.shards:
        try:
            with safe_open(folder.path / shard, framework="pt") as tensors:
                found |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise RunError(
                f"{folder.path / shard} changed while it was read", "run again when nobody writes to the folder"
            ) from error
    return sorted(found)
