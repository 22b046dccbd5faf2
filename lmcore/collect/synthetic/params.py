"""Settings of a source of synthetic texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, create_model, model_validator

from lmcore.collect.params import Source
from lmcore.conversation import Template

MANY = 10_000_000

_From = create_model(  # type: ignore[call-overload]  # `from` is no name that a class body may give
    "_From",
    __base__=Source,
    __module__=__name__,
    **{
        "from": (
            tuple[str, ...],
            Field(default=(), description="Sources of this recipe whose texts questions and summaries are made of."),
        )
    },
)


class SyntheticSource(_From):  # type: ignore[misc, valid-type]
    """Texts that this program makes."""

    PLACES = ("from",)
    BUDGETS = ("sentences", "stories", "translations", "instructions")

    kind: Literal["synthetic"] = Field(default="synthetic", description="Texts made by a machine, and marked so.")
    license: str = Field(
        default="CC0-1.0",
        min_length=1,
        description="Licence of the texts; what is made of collected texts has the licence of those.",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Another seed gives other texts.")
    languages: tuple[Literal["hu", "en"], ...] = Field(
        default=("hu", "en"), min_length=1, description="Languages of sentences, stories and instructions, in turn."
    )
    sentences: int = Field(default=0, ge=0, le=MANY, description="Sentences.")
    stories: int = Field(default=0, ge=0, le=MANY, description="Stories of nine sentences.")
    translations: int = Field(
        default=0, ge=0, le=MANY, description="Sentences in Hungarian and English; each gives a text a direction."
    )
    instructions: int = Field(default=0, ge=0, le=MANY, description="Pairs of tasks; each gives two texts.")
    template: Template = Field(
        default="tags",
        description="How translations and instructions are written: tags is '<user>...</user>"
        "<assistant>...</assistant>' on one line, script 'User: ...', 'Assistant: ...' on lines.",
    )
    article_template: Literal["labels", "tags", "script"] = Field(
        default="labels",
        description="How questions and summaries of articles are written; labels are words of their language.",
    )
    min_chars: int = Field(default=200, ge=1, description="Characters of an article of which something is made.")
    max_input_chars: int = Field(
        default=500, ge=50, le=100_000, description="Characters of an article that a summary is asked of, at most."
    )

    @model_validator(mode="after")
    def _makes_something(self) -> SyntheticSource:
        counts = self.sentences + self.stories + self.translations + self.instructions
        if not counts and not self.articles_of:
            raise ValueError("give `sentences`, `stories`, `translations`, `instructions` or `from`")
        if counts and self.lang != "und":
            raise ValueError("lang is for what is made of articles; generated texts say their language themselves")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("a language is listed twice")
        if len(set(self.articles_of)) < len(self.articles_of) or self.name in self.articles_of:
            raise ValueError("`from` names other sources, each once")
        return self

    @property
    def articles_of(self) -> tuple[str, ...]:
        """The sources whose texts are its material."""
        named: tuple[str, ...] = getattr(self, "from")
        return named
