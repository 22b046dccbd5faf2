"""Models in a folder: which layout it has, by what its files say, and which reader is for it.

    config.json with `format` and `family`     what a train stage leaves, and each milestone in it
    config.json with `model_type`              Hugging Face's: an export of ours, or what save_pretrained wrote
    state.json and no config.json              a checkpoint of a training, of one that goes on too

A reader takes the folder and gives what `model_files` has of a file. It raises UserError for what cannot be used,
RunError for what is missing or damaged.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lmcore.generate.model_files import ModelFile
from lmcore.models.io import CONFIG_FILE, WEIGHTS_FILE, load_config, load_model
from lmcore.tokenizer import VOCABULARY_FILES, load_tokenizer
from storage.errors import RunError

Layout = Literal["collect-train", "Hugging Face", "checkpoint"]
STATE_FILE = "state.json"
READERS: dict[Layout, tuple[str, str]] = {  # module and function
    "collect-train": (__name__, "read_own"),
    "Hugging Face": ("lmcore.export.hf_model", "read_hf_model"),
    "checkpoint": ("lmcore.train.checkpoint_model", "read_checkpoint"),
}


def layout_of(folder: Path) -> Layout | None:
    """The layout of a folder, None for one that holds no model. What is no whole config.json counts as our own."""
    if not (folder / CONFIG_FILE).is_file():
        return "checkpoint" if (folder / STATE_FILE).is_file() and (folder / WEIGHTS_FILE).is_file() else None
    try:
        stored: Any = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return "collect-train"
    foreign = isinstance(stored, dict) and "model_type" in stored and "format" not in stored
    return "Hugging Face" if foreign else "collect-train"


def read_model_folder(folder: Path) -> ModelFile:
    """The model in a folder that `layout_of` knows, whose vocabulary is no larger than it. Raises as its reader."""
    module, function = READERS[layout_of(folder) or "collect-train"]
    read: Callable[[Path], ModelFile] = getattr(importlib.import_module(module), function)
    found = read(folder)
    if found.tokenizer.vocab_size > found.model.vocab_size:
        raise RunError(
            f"{folder / VOCABULARY_FILES[0]} has {found.tokenizer.vocab_size} tokens, the model beside it "
            f"{found.model.vocab_size}",
            "put the tokenizer that the model was trained with beside it",
        )
    return found


def read_own(folder: Path) -> ModelFile:
    """What a train stage left. Of a milestone of a training that goes on, the vocabulary is that of the training."""
    model = load_model(folder)
    facts = {"format": "collect-train", "dtype": "F32", "bytes": (folder / WEIGHTS_FILE).stat().st_size}
    if any((folder / name).exists() for name in VOCABULARY_FILES):
        return ModelFile(model, load_tokenizer(folder), facts, load_config(folder).chat)
    from lmcore.train.checkpoint_model import job_beside  # only for a folder without a vocabulary of its own

    job = job_beside(folder)
    return ModelFile(model, load_tokenizer(job.tokenizer if job else folder), facts, load_config(folder).chat)


def inside(folder: Path) -> Path | None:
    """A model in a folder that is none itself: an export's, or the newest checkpoint of a training."""
    found = [folder / "hf", *sorted(folder.glob("checkpoints/step-*"))[::-1], *sorted(folder.glob("step-*"))[::-1]]
    return next((path for path in found if layout_of(path)), None)
