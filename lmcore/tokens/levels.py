"""The five levels of a curriculum: every text is in one of them, by its complexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lmcore.curate.score_amharic import LEVELS
from lmcore.tokens.params import BatchSettings
from lmcore.tokens.stream import Pick, documents_of
from storage.parquet import read_parquet

EDGES = (0, 20, 40, 60, 80, 100)  # of complexity, or percent of the texts


def levels(settings: BatchSettings) -> dict[str, Pick]:
    """The five levels by name: of complexity below 20, 40, 60, 80 and above; of a fifth of the texts each, where a
    stage is bounded by quantiles.
    """
    by_rank = any(isinstance(bound, str) for stage in settings.stages for bound in stage.complexity or ())
    bounds = [f"q{edge}" if by_rank else float(edge) for edge in EDGES]
    return {name: Pick(None, "source", (bounds[n], bounds[n + 1])) for n, name in enumerate(LEVELS)}


def stage_picks(settings: BatchSettings, number: int) -> list[Pick]:
    """What stage `number`, from 0, reads apart from what it reads again."""
    return [Pick(name, settings.mixture_by, complexity) for name, complexity in settings.own_reads(number)]


def facts(folder: Path, split: str, picks: list[Pick]) -> dict[str, Any]:
    """`texts` of `split` that are in one of `picks`, and the `complexity` of the simplest and the hardest (or null).

    The texts of the five levels add up to those of the split.
    """
    found = np.unique(np.concatenate([documents_of(folder, split, pick) for pick in picks]))
    values = read_parquet(folder / split / "documents.parquet", ["complexity"])["complexity"].to_numpy()[found]
    bounds = [round(float(edge), 2) for edge in (values.min(), values.max())] if len(found) else None
    return {"texts": len(found), "complexity": bounds}
