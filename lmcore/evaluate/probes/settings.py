"""What a person can set about the further measurements. Knows no torch, so that reading a recipe stays quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from lmcore.config import Params, added_later
from lmcore.documents import KINDS
from storage.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmcore.evaluate.params import EvaluateParams

Column = Literal["license", "synthetic", "title", "page_of_origin"]  # of curated text, beside source, lang and kind
TextScore = Literal["amharic", "amharic_original"]


class Terms(Params):
    """Terms whose occurrences in held-out text the model is to guess."""

    words: tuple[str, ...] = Field((), description="Terms, each a word or several as they stand in text.")
    mined: int = Field(0, ge=0, le=10_000, description="How many more to take from training text; 0: none.")
    domain: tuple[str, ...] = Field((), description="Sources whose terms are mined; needed where mined is set.")
    general: tuple[str, ...] = added_later(
        (), description="Sources of general text, in which a term is much rarer; needed where mined is set."
    )
    ratio: float = added_later(
        8.0,
        ge=1,
        le=1e6,
        description="A term has at least so many times the share of words that it has in general text.",
    )
    min_count: int = Field(5, ge=1, description="A word that is rarer in the domain's training text is not mined.")

    @field_validator("words")
    @classmethod
    def _written(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word.strip() or word != word.strip() for word in words):
            raise ValueError("a term is empty or has blanks around it")
        return words


class Dialogue(Params):
    """How like the corpus's own dialogue the model's is."""

    kinds: tuple[Literal["dialogue", "subtitle", "chat", "prose"], ...] = Field(
        ("dialogue", "subtitle", "chat"),
        min_length=1,
        description="Kinds of held-out text whose beginnings it is given.",
    )
    texts: int = Field(
        32, ge=1, description="At most so many texts, the first in record_id order that are long enough."
    )
    prompt_tokens: int = Field(32, ge=1, description="Tokens of each text that the model is given.")
    tokens: int = Field(
        128, ge=2, description="Tokens that it writes, beside as many of the text's own; shorter texts are left out."
    )


class Translation(Params):
    """chrF of translations of held-out pairs."""

    pairs: int = Field(50, ge=1, description="At most so many of each direction, the first in record_id order.")
    max_tokens: int = Field(100, ge=1, le=1 << 20, description="The most tokens of a translation.")


def check_probes(params: EvaluateParams, sources: Sequence[str], context: int) -> None:
    """Raise UserError when a measurement is asked for that the sources and the context do not allow."""
    if params.positions and params.positions[-1] >= context:
        raise UserError(
            f"evaluate.positions ends at {params.positions[-1]:,}, and the model's context is {context:,} tokens",
            "name positions below model.context: the last bucket ends at it by itself",
        )
    twice = [name for name in sources if sum(name in names for names in params.genres.values()) > 1]
    if twice:
        raise UserError(f"evaluate.genres has {twice[0]!r} in two genres", "name a source in one genre only")
    if params.terms and not params.terms.words and not params.terms.mined:
        raise UserError("evaluate.terms has no terms", "list them under words, or set mined and domain")
    if params.terms and params.terms.mined and not (params.terms.domain and params.terms.general):
        raise UserError(
            "evaluate.terms.mined needs sources of the domain and of general text to hold them against",
            f"name some of {', '.join(sources)} under domain and others under general, or list the terms under words",
        )
    if params.terms and (both := set(params.terms.domain) & set(params.terms.general)):
        raise UserError(
            f"evaluate.terms names {min(both)!r} as domain and as general", "name a source on one side only"
        )


assert {"dialogue", "subtitle", "chat", "prose"} <= set(KINDS)
