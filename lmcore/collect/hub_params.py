"""Settings of the kind `hub`, and the data sets that are known by name."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, model_validator

from lmcore.collect.chat import ChatSource
from lmcore.collect.links import tidy_url
from lmcore.collect.pairs import ParallelSource
from lmcore.collect.params import Source
from lmcore.collect.qa import QaSource
from lmcore.conversation import Template
from storage.errors import UserError

HUB = "https://huggingface.co"

_LANG = r"^$|^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
# What a preset says; a setting of the recipe wins. Licences as the cards of the data sets have them.
PRESETS: dict[str, dict[str, Any]] = {
    "tinystories": {"dataset": "roneneldan/TinyStories", "license": "CDLA-Sharing-1.0", "lang": "en"},
    "wikitext-2": {
        "dataset": "Salesforce/wikitext",
        "config": "wikitext-2-raw-v1",
        "shape": "wikitext",
        "license": "CC-BY-SA-3.0",
        "lang": "en",
    },
    "opus-100": {
        "dataset": "Helsinki-NLP/opus-100",
        "shape": "pair",
        "source_lang": "en",
        "target_lang": "hu",
    },
    "wikipedia": {"dataset": "wikimedia/wikipedia", "license": "CC-BY-SA-3.0"},
}
WIKIPEDIA_DATE = "20231101"  # the newest dump that the data set has


def endpoint() -> str:
    """Where the Hub is: HF_ENDPOINT for a mirror, as of huggingface_hub. Raises UserError when that is no URL."""
    url = tidy_url(os.environ.get("HF_ENDPOINT") or HUB)
    if url is None:
        raise UserError("HF_ENDPOINT is no http or https URL", f"set it as {HUB}, or unset it")
    return url.rstrip("/")


class HubSource(Source):
    """A data set of the Hugging Face Hub."""

    PLACES = ("preset", "dataset", "config", "split")
    BUDGETS = ("max_rows",)

    kind: Literal["hub"] = Field(default="hub", description="Data sets of the Hugging Face Hub.")
    preset: Literal["tinystories", "wikitext-2", "opus-100", "wikipedia"] | None = Field(
        default=None,
        description="Data sets known by name: sets `dataset`, `config`, `shape` and `license`, where not given. "
        "opus-100 goes by source_lang and target_lang, wikipedia by lang.",
    )
    dataset: str = Field(
        default="",
        pattern=r"^$|^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$",
        description="Name of the data set: OWNER/NAME.",
    )
    config: str = Field(
        default="",
        pattern=r"^[^/\\\x00-\x1f]{0,200}$",
        description="Configuration (subset); empty: the only one, or the one that is the default.",
    )
    split: str = Field(default="train", pattern=r"^[\w.-]{1,100}$", description="Split.")
    revision: str = Field(
        default="main",
        pattern=r"^[\w./-]{1,200}$",
        description="Branch, tag or commit; the commit it stands for is looked up once an edition.",
    )
    shape: Literal["text", "chat", "qa", "pair", "wikitext"] = Field(
        default="text",
        description="What a row is: a text; a conversation or an instruction as of `kind: chat`; a question as of "
        "`kind: qa`; a translation as of `kind: parallel`; or a line of WikiText, whose articles become the records.",
    )
    text_field: str = Field(default="text", min_length=1, description="Column that holds the text (shape text).")
    title_field: str = Field(default="title", min_length=1, description="Column that holds the title, if there is one.")
    template: Template | None = Field(
        default=None, description="How a conversation or pair is written: script or tags; null: as its kind does."
    )
    record: Literal["question", "paragraph"] = Field(default="question", description="As of `kind: qa`.")
    no_answer: str = Field(default="unanswerable", description="As of `kind: qa`.")
    source_lang: str = Field(default="", pattern=_LANG, description="As of `kind: parallel`.")
    target_lang: str = Field(default="", pattern=_LANG, description="As of `kind: parallel`.")
    source_field: str = Field(default="", description="As of `kind: parallel`.")
    target_field: str = Field(default="", description="As of `kind: parallel`.")
    directions: Literal["both", "forward", "backward"] = Field(default="both", description="As of `kind: parallel`.")
    max_rows: int = Field(default=0, ge=0, description="Rows read, at most, in the data set's own order; 0: all.")
    max_bytes: int = Field(
        default=10_000_000_000, ge=1_000, le=1_000_000_000_000, description="Bytes of one file, unpacked, at most."
    )
    min_chars: int = Field(default=1, ge=1, description="Characters below which a text is no record.")

    @model_validator(mode="before")
    @classmethod
    def _preset_fills(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = {**PRESETS.get(str(values.get("preset")), {}), **values}
        if filled.get("preset") == "opus-100":
            filled.setdefault("config", "-".join(sorted((str(filled["source_lang"]), str(filled["target_lang"])))))
        elif filled.get("preset") == "wikipedia":
            filled.setdefault("config", f"{WIKIPEDIA_DATE}.{filled.get('lang', 'und')}")
        if filled.get("shape") in ("chat", "qa", "pair"):
            filled.setdefault("text_kind", filled["shape"])
        return filled

    @model_validator(mode="after")
    def _is_whole(self) -> HubSource:
        if not self.dataset:
            raise ValueError("give a `dataset`, or a `preset`")
        if self.config.endswith(".und"):
            raise ValueError("give `lang`: it says which Wikipedia")
        if self.shape == "pair":
            self.pairs()
        return self

    @property
    def asks(self) -> list[str]:
        """The Hub."""
        return [endpoint()]

    def pairs(self) -> ParallelSource:
        """The settings of the kind that reads pairs."""
        given = {name: getattr(self, name) for name in ("source_field", "target_field", "directions", "lang")}
        given |= {"template": self.template} if self.template else {}
        langs = {"source_lang": self.source_lang, "target_lang": self.target_lang}
        return ParallelSource(name=self.name, paths=("-",), **langs, **given)

    def chats(self) -> ChatSource:
        """The settings of the kind that reads conversations."""
        given = {"template": self.template} if self.template else {}
        return ChatSource(name=self.name, paths=("-",), lang=self.lang, **given)

    def questions(self) -> QaSource:
        """The settings of the kind that reads questions."""
        given = {"record": self.record, "no_answer": self.no_answer, "lang": self.lang}
        return QaSource(name=self.name, paths=("-",), **given)
