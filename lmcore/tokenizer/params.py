"""The settings of the tokenizer stage."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lmcore.config import Params, Runtime, added_later
from lmcore.tokenizer.chat_tags import TAG_TOKENS
from lmcore.tokenizer.interface import SPECIALS

SMALLEST = len(SPECIALS) + 256  # a vocabulary of bytes without a single merge
SMALLEST_WITH_TAGS = 4 + 256 + len(TAG_TOKENS)  # of LAi's vocabulary, which has four specials
Split = Literal["gpt2", "llama3"]
Order = Literal["frequency", "first_seen"]
Kind = Literal["byte_bpe", "bytes", "char_bpe", "word_bpe", "words"]

# What a kind takes where the recipe says nothing: H-Net's bytes are what they are, LAi's tokens have 20 characters.
_OWN_DEFAULTS: dict[str, dict[str, Any]] = {"bytes": {"vocab_size": SMALLEST}, "char_bpe": {"max_token_length": 20}}


class TokenizerParams(Params):
    """What the vocabulary is learnt by."""

    kind: Kind = Field(
        "byte_bpe",
        description="byte_bpe, bytes and char_bpe encode every text exactly; word_bpe and words are lossy.",
    )
    vocab_size: int = Field(
        4096, ge=SMALLEST, le=2**20, description="Tokens in the vocabulary, specials included; bytes: always 262."
    )
    split: Split = Field(
        "llama3", description='How text is cut into words first: as Llama 3 does it (fewer tokens), or "gpt2".'
    )
    min_frequency: int = Field(
        2, ge=1, description="A pair of tokens is merged, a word or character taken, only if it occurs this often."
    )
    max_token_length: int = Field(
        64,
        ge=2,
        le=4096,
        description="Bytes a token may have (characters in char_bpe, where 20 is the default, and word_bpe), "
        "so no rulers are learnt.",
    )
    cap: bool = Field(False, description="Take a smaller vocabulary, instead of stopping, when the text fills no more.")
    cross_words: bool = added_later(
        True, description="char_bpe: tokens may hold spaces, as in LAi; false cuts words by `split` first."
    )
    chat_tags: bool = added_later(
        False,
        description="char_bpe: <system>, <user>, <assistant> and what closes them are one token each, and the end of "
        "an answer is learnt.",
    )
    order: Order = added_later("frequency", description="words: the commonest words, or those the text has first.")
    weights: dict[str, float] = added_later(
        {}, description="How often the text of a language is learnt from, such as {hu: 2.0, am: 3.0}; others once."
    )
    alpha: float = added_later(
        1.0,
        ge=0,
        le=1,
        description="Below 1 small languages are learnt from more often: shares of text to this power; 0: all alike.",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("kind"), str):
            return _OWN_DEFAULTS.get(values["kind"], {}) | values
        return values

    @model_validator(mode="after")
    def _fit_the_kind(self) -> Self:
        if self.kind == "bytes" and self.vocab_size != SMALLEST:
            raise ValueError(f"a vocabulary of bytes has {SMALLEST} tokens: leave vocab_size out")
        if not self.cross_words and self.kind != "char_bpe":
            raise ValueError("cross_words belongs to kind char_bpe")
        if self.chat_tags and not (self.kind == "char_bpe" and self.cross_words):
            raise ValueError("chat_tags belongs to kind char_bpe with cross_words: true")
        if self.chat_tags and self.vocab_size < SMALLEST_WITH_TAGS:
            raise ValueError(f"chat_tags and the bytes are {SMALLEST_WITH_TAGS} tokens: set a larger vocab_size")
        if self.order != "frequency" and self.kind != "words":
            raise ValueError("order belongs to kind words")
        weighted = bool(self.weights) or self.alpha != 1
        if weighted and (self.kind == "bytes" or self.order == "first_seen"):
            raise ValueError("weights and alpha change nothing here: this vocabulary does not depend on how much text")
        if self.weights and self.alpha != 1:
            raise ValueError("weights and alpha are two ways to say one thing: give one of them")
        for language, weight in self.weights.items():
            if not 0 < weight <= 1000:
                raise ValueError(f"the weight of {language} is {weight:g}, it must be above 0 and at most 1000")
        return self


class TokenizerRuntime(Runtime):
    """How the work is done."""

    workers: int = Field(0, ge=0, le=1024, description="Threads that encode for the report; 0 takes every core.")
