"""Stage `tokens`: the splits as memory-mapped token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.tokens.params import TokensParams, TokensRuntime
from lmcore.tokens.shards import make_tokens as make_shards
from storage.store import Artifact
from tasks.step import step


@step("tokens", version=2)
def make_tokens(
    work: Path, corpus: Artifact, tokenizer: Artifact, *, params: TokensParams, runtime: TokensRuntime, report: Report
) -> dict[str, Any]:
    """Encode every split."""
    return make_shards(work, corpus.local(), tokenizer.local(), params=params, runtime=runtime, report=report)
