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


def system_of(name: str) -> str | None:
    """The system that a recipe or release belongs to by its name: `lai` for lai, lai-small and lai-small@3."""
    first = name.partition("@")[0].replace("_", "-").partition("-")[0]
    return first if first in MODULES else None


def layout_module(system: str) -> ModuleType:
    """The module that writes a system's files. Raises UserError for a system without one."""
    if system not in MODULES:
        raise UserError(f"there is no layout for the system {system!r}", f"systems are {', '.join(MODULES)}")
    return importlib.import_module(MODULES[system])
