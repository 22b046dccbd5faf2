"""Settings of the kind `feed`, and the feeds that are known by name."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from lmcore.collect.links import tidy_url
from lmcore.collect.params import Source
from lmcore.collect.presets import Preset

# What a preset says; a setting of the recipe wins. Addresses: ../shared/systems/amharic.md section 1.
PRESETS: dict[str, dict[str, Any]] = {
    "bbc-amharic": {
        "feeds": ("https://feeds.bbci.co.uk/amharic/rss.xml",),
        "allow_hosts": ("www.bbc.com", "www.bbc.co.uk"),
        "lang": "am",
        "delay": 2.0,
    },
    "voa-amharic": {
        "feeds": ("https://amharic.voanews.com/api/zrqite$miq",),
        "lang": "am",
        "delay": 3.0,
    },
}


class FeedSource(Source):
    """Articles that feeds tell of."""

    PLACES = ("preset", "feeds")
    BUDGETS = ("max_entries", "max_pages")

    kind: Literal["feed"] = Field(default="feed", description="RSS, Atom and JSON feeds.")
    preset: Literal["bbc-amharic", "voa-amharic"] | None = Field(
        default=None,
        description="Feeds known by name: sets `feeds`, `allow_hosts`, `lang` and `delay`, where not given.",
    )
    feeds: tuple[str, ...] = Field(default=(), description="URLs of feeds.")
    follow: Literal["article", "summary", "both"] = Field(
        default="article",
        description="article: the page an entry links to; summary: the text in the feed itself; both: the page, and "
        "where it gives no text the feed's own.",
    )
    allow_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts (host or host:port) articles may lie on, besides those of the feeds."
    )
    presets: tuple[Preset, ...] = Field(
        default=(), description="Presets of your own, for the articles of the hosts they name; first of them that fits."
    )
    max_pages: int = Field(
        default=1, ge=1, le=10_000, description="Pages of a feed, at most, by its rel=next links (RFC 5005)."
    )
    max_entries: int = Field(
        default=1000, ge=1, le=1_000_000, description="Entries of one feed, at most, in the feed's own order."
    )
    max_bytes: int = Field(
        default=5_000_000, ge=1_000, le=100_000_000, description="Bytes of a feed or page after decompression, at most."
    )
    delay: float = Field(default=1.0, ge=0, le=3600, description="Seconds between two requests to one host.")
    timeout: float = Field(default=60.0, ge=0.1, le=3600, description="Seconds one response may take in all.")
    retries: int = Field(
        default=3, ge=0, le=20, description="Further tries after a failure that may pass (timeouts, 429, 5xx)."
    )
    min_chars: int = Field(default=200, ge=1, description="Characters below which a text is no record.")

    @model_validator(mode="before")
    @classmethod
    def _preset_fills(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = {**PRESETS.get(str(values.get("preset")), {}), **values}
        # What comes through here is no JSON any more, and where types are strict a list is no tuple.
        for name in ("feeds", "allow_hosts", "presets"):
            if isinstance(filled.get(name), list):
                filled[name] = tuple(filled[name])
        if isinstance(filled.get("presets"), tuple):
            filled["presets"] = tuple(Preset(**row) if isinstance(row, dict) else row for row in filled["presets"])
        return filled

    @field_validator("feeds")
    @classmethod
    def _feeds_are_urls(cls, feeds: tuple[str, ...]) -> tuple[str, ...]:
        for feed in feeds:
            if tidy_url(feed) is None:
                raise ValueError(f"{feed!r} is not an http or https URL (without user name and password)")
        return feeds

    @field_validator("allow_hosts")
    @classmethod
    def _hosts_are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if (url := tidy_url(f"http://{host}/")) is None or urlsplit(url).path != "/":
                raise ValueError(f"{host!r} is no host: write it as www.example.org or localhost:8080")
        return hosts

    @model_validator(mode="after")
    def _has_a_feed(self) -> FeedSource:
        if not self.feeds:
            raise ValueError("give at least one URL in `feeds`, or a `preset`")
        return self

    @property
    def asks(self) -> list[str]:
        """The feeds."""
        return self.urls

    @property
    def urls(self) -> list[str]:
        """The feeds in one spelling, each once, in the order given."""
        return list(dict.fromkeys(url for url in map(tidy_url, self.feeds) if url))

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts (with their port, where it is not the usual one) that articles may lie on."""
        own = (tidy_url(f"http://{host}/") for host in self.allow_hosts)
        return frozenset(urlsplit(url).netloc for url in (*self.urls, *own) if url)
