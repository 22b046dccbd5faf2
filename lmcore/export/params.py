"""What a person can set about export. Knows no torch, so that reading a recipe stays quick."""

from __future__ import annotations

from pydantic import Field

from lmcore.config import Params, Runtime


class ExportParams(Params):
    """What is written and what it is checked with."""

    hf: bool = Field(True, description="Write a Hugging Face folder; its shape must be one that transformers has.")
    name: str = Field("collect-train model", min_length=1, max_length=200, description="Title of the model card.")
    prompts: tuple[str, ...] = Field(
        ("The", "This is", "Kérem, jöjjön be!", "ሰላም ለዓለም", "x = [1, 2.5]\n"),
        min_length=1,
        description="Texts on which the files are compared with the model.",
    )
    greedy_tokens: int = Field(32, ge=1, le=4096, description="Likeliest tokens compared after each prompt.")


class ExportRuntime(Runtime):
    """Settings of export that do not enter the key."""

    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core this process may use.")
