"""Each system's own files under its own names: which module writes them. Loads nothing until one is wanted.

A module gives `write_layout(model_dir: Path, output: Path, *, name: str) -> list[Path]`: the files of a trained model
under `output`, named as its system's document names them; an empty name stands for the document's. It raises UserError
for a model or tokenizer that its files have no place for. One whose files can be quantised gives `write_quantised`
too, as `lmcore.export.lai` has it; one with a `HAS_STATE` takes `optimizer=True`, as `lmcore.export.cllm_layout` does.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from storage.errors import UserError

MODULES = {"lai": "lmcore.export.lai", "cllm": "lmcore.export.cllm_layout", "mu": "lmcore.export.mu_layout"}

# Systems whose documents name no file of a layout of its own: why, and what takes its place (docs/export.md).
WITHOUT = {
    "soma": (
        "SOMA's document names one file, a pickle of the whole object: loading it runs what it says",
        "take the Hugging Face folder that the export stage leaves (`collect-train info RELEASE` tells where), or "
        "model.safetensors, config.json and tokenizer.json of the train artifact",
    ),
    "amharic": (
        "Amharic's document names no file of a model; its programs save with transformers and PEFT",
        "take what those read: the Hugging Face folder that the export stage leaves (`collect-train info RELEASE` "
        "tells where), and of LoRA the folder adapter of the train artifact",
    ),
}


def system_of(name: str) -> str | None:
    """The system that a recipe or release belongs to by its name: `lai` for lai, lai-small and lai-small@3.

    None for one without a layout.
    """
    system = named_system(name)
    return system if system in MODULES else None


def named_system(name: str) -> str | None:
    """As `system_of`, and also one without a layout, for `layout_module` to say what takes its place."""
    first = name.partition("@")[0].replace("_", "-").partition("-")[0]
    return first if first in MODULES or first in WITHOUT else None


def layout_module(system: str) -> ModuleType:
    """The module that writes a system's files. Raises UserError for a system without one."""
    if system in WITHOUT:
        raise UserError(*WITHOUT[system])
    if system not in MODULES:
        raise UserError(f"there is no layout for the system {system!r}", f"systems are {', '.join(MODULES)}")
    return importlib.import_module(MODULES[system])
