"""The knowledge of collect-train: collect, curate, tokenize, model, train, evaluate, export. Knows no Prefect."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import storage as storage  # first: it says where Arrow takes its memory from

if TYPE_CHECKING:
    from lmcore.generate.load import LanguageModel

__all__ = ["load"]


def load(
    path_or_release: str | os.PathLike[str], store: str | os.PathLike[str] | None = None, device: str = "cpu"
) -> LanguageModel:
    """A model to talk to, from a folder or a release (NAME or NAME@NUMBER) of `store`.

        load("quickstart").generate("The hero", max_tokens=100)

    Raises UserError when there is no such model, RunError when its files are damaged.
    """
    from lmcore.generate.load import load as load_model  # torch loads here, not with the package

    return load_model(path_or_release, store, device)
