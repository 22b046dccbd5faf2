"""What the settings of sources share, those of the two first kinds, and what collecting may change freely."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

import annotated_types
from pydantic import Field, field_validator, model_validator

from lmcore.collect.links import canonical_url, tidy_url
from lmcore.collect.presets import AUTO, NONE, Preset, packaged
from lmcore.collect.target import Target
from lmcore.config import Params, Runtime, added_later

PYDOC_SITE = "http://pydoc.localhost"
PYDOC_SEEDS = (f"{PYDOC_SITE}/", f"{PYDOC_SITE}/keywords.html", f"{PYDOC_SITE}/topics.html")

TextKind = Literal["prose", "dialogue", "subtitle", "pair", "instruction", "chat", "qa", "code"]


def is_url(path: str) -> bool:
    """Whether a path of a source is a URL."""
    return path.lower().startswith(("http://", "https://"))


class Source(Params):
    """What every source says about its texts."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name of the source, as it appears on every record."
    )
    license: str = Field(
        default="unknown", min_length=1, description="Licence of the texts: an SPDX identifier, or unknown."
    )
    lang: str = Field(
        default="und",
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        description="Language of the texts (BCP 47); und lets a page that declares its own language speak.",
    )
    text_kind: TextKind = Field(default="prose", description="What kind of text this is.")
    target: Target | None = added_later(
        None, description="How many unique texts are wanted of this source; its budgets grow until they are there."
    )

    PLACES: ClassVar[tuple[str, ...]] = ()  # settings that say where it reads: with others it is another source
    BUDGETS: ClassVar[tuple[str, ...]] = ()  # settings that say how much is read, once more of it in every round

    def untargeted(self) -> Self:
        """This source without its target, which says how often it is read and never what a reading leaves."""
        return self.model_copy(update={"target": None})

    def grown(self, rounds: int) -> Self:
        """This source with its budgets so many times as large."""
        return self.model_copy(
            update={name: _times(type(self), name, getattr(self, name), rounds) for name in self.BUDGETS}
        )

    @property
    def asks(self) -> list[str]:
        """URLs of the servers that are asked first; none for what is read or made on this machine."""
        return []

    @property
    def advice(self) -> tuple[str, ...]:
        """The settings to look at when there is no record."""
        known = type(self).model_fields
        fields = (name for name in known if name.endswith("_field"))
        return tuple(name for name in ("paths", *fields, "max_bytes", "min_chars") if name in known)

    @property
    def articles_of(self) -> tuple[str, ...]:
        """Names of the sources whose texts this one is made of; they are collected before it."""
        return ()


def _times(kind: type[Source], name: str, budget: int | None, rounds: int) -> int | None:
    """A budget so many times as large, within the limit of its setting; none stays none."""
    if budget is None:
        return None
    limits = [rule.le for rule in kind.model_fields[name].metadata if isinstance(rule, annotated_types.Le)]
    return min([budget * rounds, *(int(str(limit)) for limit in limits)])


class PagesSource(Source):
    """What every source says that reads pages of web sites: how the text is found on them."""

    preset: str = added_later(
        AUTO,
        description="Which packaged preset reads the pages: `auto`, the one made for their site; a name; or `none`.",
    )
    presets: tuple[Preset, ...] = added_later(
        (), description="Presets of the recipe's own; the first that is for a page reads it, before any packaged one."
    )

    extractor: Literal["trafilatura", "bulk"] = added_later(
        "trafilatura",
        description="What reads pages without a preset: `trafilatura`, or `bulk` (selectolax), several times as fast.",
    )
    audit: float = added_later(
        0.02, ge=0, le=1, description="Share of the pages that a second extractor reads too, to see how far they agree."
    )

    @field_validator("preset")
    @classmethod
    def _preset_is_known(cls, preset: str) -> str:
        if preset not in (AUTO, NONE) and preset not in packaged():
            raise ValueError(f"{preset!r} is none of {', '.join([AUTO, NONE, *packaged()])}")
        return preset


class WebSource(PagesSource):
    """Pages of web sites, found by following links from the seeds."""

    PLACES = ("seeds", "serve")
    BUDGETS = ("max_pages", "max_total_bytes")

    kind: Literal["web"] = Field(default="web", description="A web crawl.")
    seeds: tuple[str, ...] = Field(default=(), description="Pages to start from; their hosts are the crawl's area.")
    serve: Literal["pydoc"] | None = Field(
        default=None, description="Start Python's own documentation server and crawl it as http://pydoc.localhost/."
    )
    allow: tuple[str, ...] = Field(
        default=(), description="Follow only URLs that match one of these patterns; empty: the hosts of the seeds."
    )
    deny: tuple[str, ...] = Field(default=(), description="Never follow URLs that match one of these patterns.")
    max_depth: int = Field(default=3, ge=0, le=1000, description="Links followed from a seed to a page, at most.")
    max_pages: int = Field(
        default=1000, ge=1, le=100_000_000, description="Pages asked for, at most, in order of (depth, URL)."
    )
    max_bytes: int = Field(
        default=5_000_000, ge=1_000, le=1_000_000_000, description="Bytes of one page after decompression, at most."
    )
    max_total_bytes: int = added_later(
        0, ge=0, description="Bytes of all pages together, at most, in order of (depth, URL); 0: as many as there are."
    )
    sitemaps: bool = added_later(
        False, description="Also start from what the seeds' hosts list in their sitemaps (robots.txt, /sitemap.xml)."
    )
    delay: float = Field(default=1.0, ge=0, le=3600, description="Seconds between two requests to one host.")
    timeout: float = Field(default=60.0, ge=0.1, le=3600, description="Seconds one response may take in all.")
    retries: int = Field(
        default=3, ge=0, le=20, description="Further tries after a failure that may pass (timeouts, 429, 5xx)."
    )
    blank: tuple[str, ...] = Field(
        default=(), description="Patterns deleted from every text before it gets its digest (addresses, clocks)."
    )
    min_chars: int = Field(default=200, ge=1, description="Characters of main text below which a page is no record.")

    @field_validator("allow", "deny", "blank")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    @field_validator("seeds")
    @classmethod
    def _seeds_are_urls(cls, seeds: tuple[str, ...]) -> tuple[str, ...]:
        for seed in seeds:
            if canonical_url(seed) is None:
                raise ValueError(f"{seed!r} is not an http or https URL (without user name and password)")
        return seeds

    @model_validator(mode="after")
    def _has_a_start(self) -> WebSource:
        if not self.seeds and not self.serve:
            raise ValueError("give at least one URL in `seeds`")
        return self

    @property
    def asks(self) -> list[str]:
        """The seeds, unless they are served on this machine."""
        return [] if self.serve else list(self.seeds)

    @property
    def start(self) -> tuple[str, ...]:
        """The seeds, or the front pages of the served site when none are given."""
        return self.seeds or PYDOC_SEEDS


class PathsSource(Source):
    """What every source says that reads files, on this machine or from a server."""

    PLACES: ClassVar[tuple[str, ...]] = ("base", "paths")

    together: ClassVar[bool] = False  # what a file gives may be another when one beside it has changed

    base: str = Field(default=".", description="Folder that relative paths start from: the recipe's own folder.")
    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Files, folders (searched through), globs (** for any depth), http(s) URLs of files, samples:NAME.",
    )
    max_bytes: int = Field(
        default=200_000_000, ge=1_000, le=100_000_000_000, description="Bytes of one file after decompression, at most."
    )
    min_chars: int = Field(default=1, ge=1, description="Characters below which a text is no record.")

    @field_validator("paths")
    @classmethod
    def _urls_are_urls(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if is_url(path) and tidy_url(path) is None:
                raise ValueError(f"{path!r} is not an http or https URL (without user name and password)")
        return paths

    @property
    def asks(self) -> list[str]:
        """The files that are downloaded."""
        return self.urls

    @property
    def urls(self) -> list[str]:
        """Those of `paths` that are URLs, in one spelling, each once."""
        tidy = (tidy_url(path) for path in self.paths if is_url(path))
        return sorted({url for url in tidy if url})


class FilesSource(PathsSource):
    """Text files, one record per file, or per row for jsonl, csv, tsv and parquet."""

    kind: Literal["files"] = Field(default="files", description="Files on disk.")
    text_field: str = Field(default="text", min_length=1, description="Key or column of a row that holds the text.")
    title_field: str = Field(
        default="title", min_length=1, description="Key or column of a row that holds the title, where there is one."
    )


class CollectRuntime(Runtime):
    """How collecting works, not what it leaves."""

    concurrency: int = Field(
        default=8, ge=1, le=64, description="Requests in flight over all hosts (one per host when there is a delay)."
    )
    contact: str = Field(
        default="",
        pattern=r"^[\x21-\x7e ]*$",
        max_length=200,
        description="E-mail or page of whoever runs the crawl, put into the User-Agent; needed for public hosts.",
    )
    tokens: dict[str, str] = Field(
        default={"huggingface.co": "hf-token"},
        description="Host to name of the token for it: a Secret block of Prefect, or an environment variable "
        "(`hf-token`: HF_TOKEN). Where there is neither, it is asked without.",
    )

    @field_validator("tokens")
    @classmethod
    def _names_of_tokens(cls, tokens: dict[str, str]) -> dict[str, str]:
        for host, name in tokens.items():
            # so that no token is written here by mistake, and no other secret is sent for one
            if not re.fullmatch(r"([a-z0-9][a-z0-9-]{0,56}-)?token", name):
                raise ValueError(
                    f"the name of the token for {host} is to be of a-z, 0-9 and -, as of a Secret block, and to end "
                    "in -token"
                )
        return tokens
