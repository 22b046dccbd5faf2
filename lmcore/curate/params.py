"""Settings of the three stages of curation: `measure`, `compare` and `curate`."""

from __future__ import annotations

from pydantic import Field

from lmcore.config import Params, Runtime
from lmcore.curate.gates import GatesParams
from lmcore.curate.rules import RulesParams
from lmcore.curate.score import ScoreName
from lmcore.curate.split import SplitParams


class MeasureParams(Params):
    """How a text is spelled and what is masked before it is measured."""


class MeasureRuntime(Runtime):
    """How the work is cut."""

    workers: int = Field(default=0, ge=0, le=256, description="Processes that measure; 0: one for every processor.")


class CompareParams(Params):
    """Which texts are alike."""

    min_jaccard: float = Field(
        default=0.7, gt=0, le=1, description="Texts that share this much of their word 5-shingles are near-duplicates."
    )


class CompareRuntime(Runtime):
    """How much may be held."""

    memory_mib: int = Field(default=1024, ge=64, description="MiB that comparing may use beside the program itself.")


class DuplicatesParams(Params):
    """Which of texts that are alike stays."""

    trusted: tuple[str, ...] = Field(
        default=(), description="Sources whose copy of a text is preferred, the most trusted first."
    )


class CurateParams(Params):
    """What is kept, how it is scored and split, and the least a corpus must have."""

    score: ScoreName = Field(default="v1", description="Name of the formulas behind quality and complexity.")
    rules: RulesParams = Field(default=RulesParams(), description="Changes to the packaged rules.")
    duplicates: DuplicatesParams = Field(default=DuplicatesParams(), description="Which of several copies stays.")
    split: SplitParams = Field(default=SplitParams(), description="Shares held out for validation and test.")
    gates: GatesParams = Field(default=GatesParams(), description="The least a corpus must have.")


class CurateRuntime(Runtime):
    """How the work is cut."""
