"""What a person can set about evaluation. Knows no torch, so that reading a recipe stays quick."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from lmcore.config import Params, Runtime
from lmcore.evaluate.baselines import BaselineName
from lmcore.evaluate.ngram import MAX_ORDER
from lmcore.generate.sampling import Sampling

Split = Literal["val", "test"]


class EvaluateParams(Params):
    """What is measured and on how much text."""

    splits: tuple[Split, ...] = Field(
        ("val", "test"),
        min_length=1,
        description="Held-out splits to score; test, when among them, is the headline.",
    )
    max_documents: int = Field(10_000, ge=1, description="At most so many documents of a split are scored.")
    max_bytes: int = Field(1_000_000, ge=1, description="At most so many bytes of a split are scored.")
    bootstrap_draws: int = Field(1000, ge=100, description="Samples of the documents behind each 95 % interval.")
    bootstrap_seed: int = Field(0, ge=0, lt=2**63, description="Seed of those samples.")
    baselines: tuple[BaselineName, ...] = Field(
        ("gzip", "xz", "ngram"), description="Simpler methods that get the same training text and held-out text."
    )
    baseline_bytes: int = Field(
        32_000_000, ge=1, le=1 << 30, description="At most so many bytes of training text are given to the baselines."
    )
    ngram_order: int = Field(8, ge=1, le=MAX_ORDER, description="Bytes in a gram of the n-gram baseline.")
    prompts: tuple[str, ...] = Field(
        ("The", "This is"), description="Beginnings to continue, once with the likeliest tokens and once sampled."
    )
    sampling: Sampling = Field(Sampling(top_p=0.95), description="How the continuations are sampled.")

    @field_validator("splits", "baselines")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a name stands twice")
        return value


class EvaluateRuntime(Runtime):
    """Settings of evaluation that do not enter the key."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu.")
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core this process may use.")
