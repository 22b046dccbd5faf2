"""Stage `tokenizer`: the vocabulary, learnt from the training split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime
from lmcore.tokenizer.train import train_tokenizer as train_on
from storage.store import Artifact
from tasks.step import step
from tasks.ui_pages import show_tokenizer


@step("tokenizer", version=2, pages=show_tokenizer)
def train_tokenizer(
    work: Path, corpus: Artifact, *, params: TokenizerParams, runtime: TokenizerRuntime, report: Report
) -> dict[str, Any]:
    """Learn the vocabulary."""
    return train_on(work, corpus.local(), params=params, runtime=runtime, report=report)
