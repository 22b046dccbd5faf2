"""Pairs of a text and its translation: their settings, and the records that they become."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lmcore.collect.charset import clean
from lmcore.collect.items import Item
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.turns import conversation
from lmcore.conversation import Template, translation_task

_LANG = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"


class ParallelSource(PathsSource):
    """Translations."""

    together: ClassVar[bool] = True

    kind: Literal["parallel"] = Field(default="parallel", description="Pairs of a text and its translation.")
    text_kind: TextKind = Field(default="pair", description="What kind of text this is.")
    source_lang: str = Field(pattern=_LANG, description="Language of the one side (BCP 47); of gettext's msgid.")
    target_lang: str = Field(pattern=_LANG, description="Language of the other side.")
    directions: Literal["both", "forward", "backward"] = Field(
        default="both", description="forward: from source_lang to target_lang; both: two records a pair."
    )
    template: Template = Field(
        default="tags",
        description="How a pair is written: tags is '<system>Translate English to Hungarian.</system><user>...</user>"
        "<assistant>...</assistant>'; script is 'System: ...', 'User: ...', 'Assistant: ...' on lines.",
    )
    source_field: str = Field(
        default="",
        description="Column (of csv, tsv) or key (jsonl) of the one side; empty: source_lang, else the first.",
    )
    target_field: str = Field(default="", description="... of the other side; empty: target_lang, else the second.")

    @model_validator(mode="after")
    def _two_languages(self) -> ParallelSource:
        if self.source_lang.lower() == self.target_lang.lower():
            raise ValueError(f"source_lang and target_lang are both {self.source_lang}")
        if bool(self.source_field) != bool(self.target_field):
            raise ValueError("give both of source_field and target_field, or none")
        return self


@dataclass(frozen=True)
class Pair:
    """A text and its translation, or the `problem` there is in their place."""

    part: str | int
    source: str = ""
    target: str = ""
    problem: str = ""


def records(pairs: Iterator[Pair], params: ParallelSource, extractor: str) -> Iterator[Item]:
    """The records of pairs: one or two each, of one origin."""
    forward, backward = (params.source_lang, params.target_lang), (params.target_lang, params.source_lang)
    for pair in pairs:
        source, target = clean(pair.source).strip(), clean(pair.target).strip()
        problem = pair.problem or _problem(source, target)
        if problem:
            yield Item(pair.part, problem=problem)
            continue
        part = str(pair.part)
        if params.directions != "backward":
            yield _record(part, source, target, *forward, params, extractor)
        if params.directions != "forward":
            yield _record(part, target, source, *backward, params, extractor)


def _problem(source: str, target: str) -> str:
    if not source:
        return "no source text"
    if not target:
        return "untranslated"
    return "the same in both languages" if source == target else ""


def _record(
    part: str, given: str, wanted: str, given_lang: str, wanted_lang: str, params: ParallelSource, extractor: str
) -> Item:
    messages = [("system", translation_task(given_lang, wanted_lang)), ("user", given), ("assistant", wanted)]
    meta = {"extractor": extractor, "source_lang": given_lang, "target_lang": wanted_lang}
    name = f"{part}/{given_lang}-{wanted_lang}"
    return conversation(name, messages, params.template, meta, lang=wanted_lang, origin=part)


def is_language(code: str, wanted: str) -> bool:
    """Whether a code as files have it (en_US, EN-GB, en) is the wanted language or a variety of it."""
    tidy = code.strip().replace("_", "-").partition(".")[0].partition("@")[0].lower()
    return tidy == wanted.lower() or tidy.startswith(f"{wanted.lower()}-")


def digest(*texts: str) -> str:
    """Names an entry by what it is, 16 hex digits."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
