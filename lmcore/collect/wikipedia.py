"""Wikis: the settings of a source, and what its two ways (a site's API, dumps) have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator, model_validator

from lmcore.collect.links import tidy_url
from lmcore.collect.params import PathsSource, is_url
from lmcore.collect.wikitext import Names

_LANGUAGE = re.compile(r"[a-z]{2,}(-[a-z0-9]+)*")
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DUMP = re.compile(r".*\.xml(-p\d+p\d+)?[^./]*(\.bz2|\.gz)?", re.IGNORECASE)
_INDEX = re.compile(r".*-index\d*\.txt[^/]*", re.IGNORECASE)
_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", re.IGNORECASE)
_WIKIMEDIA = re.compile(
    r"(^|\.)(wikipedia|wiktionary|wikibooks|wikinews|wikiquote|wikisource|wikiversity|wikivoyage|wikimedia)\.org$"
)
WIKIMEDIA_LICENSE = "CC-BY-SA-4.0"  # of all texts in Wikimedia's wikis since June 2023; Wikinews has CC-BY-4.0
WIKINEWS_LICENSE = "CC-BY-4.0"
_SELECTIONS = ("titles", "categories", "random", "all_pages", "recent_changes")


class WikipediaSource(PathsSource):
    """Pages of a wiki that runs MediaWiki: of a site by its API, or of dumps."""

    PLACES = ("site", "base", "paths")
    BUDGETS = ("random", "max_pages")

    kind: Literal["wikipedia"] = Field(default="wikipedia", description="Pages of Wikipedia or another MediaWiki.")
    site: str = Field(
        default="",
        description="The wiki to ask: a language (am is am.wikipedia.org), a host, or the URL of its api.php.",
    )
    paths: tuple[str, ...] = Field(
        default=(), description="Dumps in place of a site: files, folders, globs or URLs of pages-articles XML."
    )
    titles: tuple[str, ...] = Field(default=(), description="Pages by title; redirects are followed.")
    categories: tuple[str, ...] = Field(default=(), description="Pages in these categories.")
    depth: int = Field(default=0, ge=0, le=20, description="Levels of subcategories that are read too.")
    random: int = Field(
        default=0, ge=0, le=1_000_000, description="So many random pages; later editions keep those they have."
    )
    all_pages: bool = Field(default=False, description="All pages of the namespaces.")
    recent_changes: bool = Field(
        default=False,
        description="Pages changed since the edition before, which keeps its own; the first takes what the wiki lists.",
    )
    namespaces: tuple[int, ...] = Field(default=(0,), min_length=1, description="Numbers of namespaces; 0 is articles.")
    max_pages: int = Field(default=100_000, ge=1, le=100_000_000, description="Pages read, at most.")
    max_bytes: int = Field(
        default=50_000_000_000,
        ge=1_000,
        le=1_000_000_000_000,
        description="Bytes of one dump as it is packed, at most.",
    )
    extractor: Literal["auto", "extracts", "wikitext"] = Field(
        default="auto",
        description="extracts: text made by the wiki; wikitext: read here. auto: extracts, and wikitext of dumps.",
    )
    intro: bool = Field(default=False, description="Only what stands before the first heading.")
    disambiguation: Literal["drop", "keep"] = Field(
        default="drop", description="Pages that only point to others of like name: left out, or kept with a tag."
    )
    min_chars: int = Field(default=100, ge=1, description="Characters below which a text is no record.")
    maxlag: int = Field(
        default=5, ge=1, le=3600, description="Seconds its databases may be behind for us to be served."
    )
    delay: float = Field(default=1.0, ge=0, le=3600, description="Seconds between two requests.")
    timeout: float = Field(default=60.0, ge=0.1, le=3600, description="Seconds one answer may take in all.")
    retries: int = Field(
        default=5, ge=0, le=20, description="Further tries after a failure that may pass (maxlag, timeouts, 429, 5xx)."
    )

    @field_validator("site")
    @classmethod
    def _site_is_one(cls, site: str) -> str:
        if site and not _api_of(site):
            raise ValueError(
                f"{site!r} is no wiki: give a language (am), a host (am.wikipedia.org) or the URL of its api.php"
            )
        return site

    @field_validator("titles", "categories")
    @classmethod
    def _titles_are_titles(cls, titles: tuple[str, ...]) -> tuple[str, ...]:
        for title in titles:
            if not title.strip() or "|" in title or not title.isprintable():
                raise ValueError(f"{title!r} is no title of a page; give one title for each line of the list")
        return titles

    @model_validator(mode="after")
    def _one_way(self) -> WikipediaSource:
        chosen = [name for name in _SELECTIONS if getattr(self, name)]
        if bool(self.site) == bool(self.paths):
            raise ValueError("give either `site` (a wiki to ask) or `paths` (its dumps)")
        if self.paths and chosen:
            raise ValueError(f"`{chosen[0]}` chooses pages of a `site`; of dumps all pages of `namespaces` are read")
        if self.paths and self.extractor == "extracts":
            raise ValueError("`extractor: extracts` is the work of a `site`; dumps are read with `extractor: wikitext`")
        if self.site and not chosen:
            raise ValueError(f"say which pages of the site: give {', '.join(_SELECTIONS[:-1])} or {_SELECTIONS[-1]}")
        if self.depth and not self.categories:
            raise ValueError("`depth` is that of `categories`, and none are given")
        return self

    @property
    def asks(self) -> list[str]:
        """The site's API, or the dumps that are downloaded."""
        return [self.api] if self.site else self.urls

    @property
    def api(self) -> str:
        """The URL of the site's api.php."""
        return _api_of(self.site)


def _api_of(site: str) -> str:
    """The URL of api.php; "" for what names no wiki."""
    if is_url(site):
        return (tidy_url(site) or "") if urlsplit(site).path.endswith("/api.php") else ""
    if _LANGUAGE.fullmatch(site):
        return f"https://{site}.wikipedia.org/w/api.php"
    return f"https://{site.lower()}/w/api.php" if _HOST.fullmatch(site) else ""


def is_dump(name: str) -> bool:
    """Whether a file of this name is a dump of pages, or the index of one."""
    return bool(_DUMP.fullmatch(name) or _INDEX.fullmatch(name))


def is_index(name: str) -> bool:
    """Whether a file of this name is the index of a multistream dump, which is not needed: a dump is read through."""
    return bool(_INDEX.fullmatch(PurePosixPath(name).name))


@dataclass(frozen=True)
class Wiki:
    """What a wiki says about itself."""

    lang: str = "und"
    license: str = ""  # SPDX; "" when it says none that we know
    prefix: str = ""  # of the URLs of its pages
    names: Names = field(default_factory=Names)

    def url(self, title: str) -> str:
        """The URL of a page, as MediaWiki writes it (wfUrlencode)."""
        return self.prefix + quote(title.replace(" ", "_").encode("utf-8", "replace"), safe=";@$!*(),/~:")

    def url_of(self, title: object, number: int) -> str:
        """The URL of a page by its title; of one that has none any more, since it was deleted, by its number."""
        return self.url(title) if isinstance(title, str) and title else f"{self.prefix}?curid={number}"


def license_of(rights_url: str, host: str) -> str:
    """SPDX identifier of a wiki's licence, from the URL it gives for it and, where it gives none, its host; "" when
    it is not known."""
    if found := _CREATIVE_COMMONS.search(rights_url):
        return f"CC-{found[1].upper()}-{found[2]}"
    if "creativecommons.org/publicdomain/zero" in rights_url:
        return "CC0-1.0"
    if rights_url:
        return ""
    if host.endswith("wikinews.org"):
        return WIKINEWS_LICENSE
    return WIKIMEDIA_LICENSE if _WIKIMEDIA.search(host) else ""


def language(given: Any) -> str:
    """A language code as BCP 47 wants it; und for what is none."""
    fine = isinstance(given, str) and re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", given)
    return str(given) if fine else "und"
