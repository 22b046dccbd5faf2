"""What a person can set about evaluation. Knows no torch, so that reading a recipe stays quick."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from lmcore.config import Params, Runtime, added_later
from lmcore.evaluate.baselines import BaselineName
from lmcore.evaluate.ngram import MAX_ORDER
from lmcore.evaluate.probes.settings import Column, Dialogue, Terms, TextScore, Translation
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

    before: bool = added_later(
        False,
        description="Measure the model that training started from (train.init_from) on the same texts, too, and let it "
        "continue the same prompts.",
    )
    untrained: bool = added_later(
        False,
        description="With `before`: where training began with random weights, measure the model that had them.",
    )
    positions: tuple[int, ...] = added_later(
        (),
        description="Places in the context, rising, between which the loss is told apart: [512, 1024] for 0 to 512, "
        "512 to 1,024 and 1,024 to the context's end; empty: off.",
    )
    group_by: tuple[Column, ...] = added_later(
        (), description="Columns of the held-out texts to tell apart beside source, lang and kind."
    )
    genres: dict[str, tuple[str, ...]] = added_later(
        {}, description="Groups of sources by a name: {manga: [wiki-manga, scripts]}; told apart as `genre`."
    )
    terms: Terms | None = added_later(None, description="Terms that the model is to guess in held-out text.")
    dialogue: Dialogue | None = added_later(None, description="Quotes, speakers and repeats of what it writes.")
    translation: Translation | None = added_later(
        None, description="chrF of its translations of held-out pairs, by chat."
    )
    text_scores: tuple[TextScore, ...] = added_later(
        (),
        description="Scores of the continuations of `prompts`: amharic, amharic_original as its project has it.",
    )

    @field_validator("positions")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in zip((0, *value), value, strict=False)):
            raise ValueError("positions must rise, from 1 on")
        return value

    @field_validator("splits", "baselines", "group_by", "text_scores")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a name stands twice")
        return value


class EvaluateRuntime(Runtime):
    """Settings of evaluation that do not enter the key."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu.")
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core this process may use.")
