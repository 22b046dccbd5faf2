"""Presets: which part of a site's pages is the text, said in CSS selectors and read with beautifulsoup4.

    preset = preset_of(url, "auto")          # the one for this site, or None
    found = preset_page(preset, html)        # title, text and date; text "" when the selectors find nothing

The packaged ones are in presets.yaml; a recipe may bring its own, in the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import yaml
from pydantic import Field, field_validator

from lmcore.collect.charset import clean
from lmcore.collect.layout import BLOCKS, WHITE, full_lines, join_wide, one_line
from lmcore.config import Params

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

FILE = Path(__file__).with_name("presets.yaml")
AUTO, NONE = "auto", "none"
_XML = re.compile(r"^\s*<\?xml\b[^<>]*>")  # XHTML is read as browsers read it, as HTML; bs4 warns where it sees this
_HIDDEN = frozenset({"script", "style", "noscript", "template", "head"})


class Preset(Params):
    """Where title, text and date stand on the pages of a site."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name of the preset, as `meta.extractor` has it."
    )
    hosts: tuple[str, ...] = Field(
        default=(), description="Hosts it is for, each with all its subdomains; empty: whatever host the source visits."
    )
    path: str = Field(default="", description="Pattern that the URL's path must have in it; empty: any path.")
    text: tuple[str, ...] = Field(
        min_length=1, description="CSS selectors of the text; the first that finds any is taken, with all it finds."
    )
    title: tuple[str, ...] = Field(default=(), description="CSS selectors of the title; the first that finds one.")
    date: tuple[str, ...] = Field(
        default=(), description="CSS selectors of the date (`datetime`, `content` or text); the first that finds one."
    )
    drop: tuple[str, ...] = Field(default=(), description="CSS selectors of what is taken out of the text.")
    lang: str = Field(
        default="",
        pattern=r"^$|^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        description="Language of the pages (BCP 47) where they declare none.",
    )

    @field_validator("path")
    @classmethod
    def _path_compiles(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"{path!r} is not a regular expression: {error}") from error
        return path

    @field_validator("text", "title", "date", "drop")
    @classmethod
    def _selectors_compile(cls, selectors: tuple[str, ...]) -> tuple[str, ...]:
        import soupsieve

        for selector in selectors:
            try:
                soupsieve.compile(selector)
            except soupsieve.SelectorSyntaxError as error:
                raise ValueError(f"{selector!r} is not a CSS selector: {str(error).splitlines()[0]}") from error
        return selectors

    def is_for(self, url: str) -> bool:
        """Whether the page at `url` is one of those it is made for; one without hosts is for every host."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        of_site = not self.hosts or any(host == name or host.endswith(f".{name}") for name in self.hosts)
        return of_site and bool(re.search(self.path, parts.path))


@dataclass(frozen=True)
class PresetPage:
    """What the selectors found; `date` is as the page writes it."""

    title: str = ""
    text: str = ""
    date: str = ""


@cache
def packaged() -> dict[str, Preset]:
    """The presets of presets.yaml by name. Tests check them; to do so in every run would cost half a second."""
    rows = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    found: dict[str, Preset] = {}
    for row in rows:
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        found[row["name"]] = Preset.model_construct(**values)
    return found


@lru_cache(maxsize=4096)
def preset_of(url: str, chosen: str = AUTO, own: tuple[Preset, ...] = ()) -> Preset | None:
    """The preset for the page at `url`; None where a general extractor is to read it.

    Those of the recipe (`own`) come first, where they are for this page. Then, by `chosen`: auto, the packaged one made
    for this site; none, none; a name, that one.
    """
    for preset in own:
        if preset.is_for(url):
            return preset
    if chosen == AUTO:
        return next((preset for preset in packaged().values() if preset.hosts and preset.is_for(url)), None)
    return packaged().get(chosen)


def preset_page(preset: Preset, html: str) -> PresetPage:
    """Title, text and date of a decoded page; never raises on what it contains."""
    from bs4 import BeautifulSoup
    from bs4.exceptions import ParserRejectedMarkup

    try:
        soup = BeautifulSoup(_XML.sub("", join_wide(html), count=1), "lxml")
    except (ParserRejectedMarkup, AssertionError, RecursionError):
        return PresetPage()
    title = next((text for tag in _selected(soup, preset.title) if (text := one_line(tag.get_text()))), "")
    date = next((text for tag in _selected(soup, preset.date) if (text := _date(tag))), "")
    for tag in _selected(soup, preset.drop):
        if not tag.decomposed:
            tag.decompose()
    text = next((text for selector in preset.text if (text := _text_of(soup, selector))), "")
    return PresetPage(clean(title), clean(text), clean(date))


def _selected(soup: BeautifulSoup, selectors: tuple[str, ...]) -> Iterator[Tag]:
    for selector in selectors:
        yield from soup.select(selector)


def _date(tag: Tag) -> str:
    for name in ("datetime", "content"):
        value = tag.get(name)
        if isinstance(value, str) and value.strip():
            return one_line(value)
    return one_line(tag.get_text())


def _text_of(soup: BeautifulSoup, selector: str) -> str:
    """Text of all that a selector finds, in the order of the page; what is inside another find is said once."""
    found = soup.select(selector)
    inside = {id(tag) for tag in found}
    outer = [tag for tag in found if not any(id(parent) in inside for parent in tag.parents)]
    return "\n".join(text for tag in outer if (text := _lines(tag)))


def _lines(top: Tag) -> str:
    """The text of an element, one line per block; lines of <pre> stay as they are."""
    from bs4.element import NavigableString, PreformattedString

    done: list[str] = []
    parts: list[str] = []
    stack: list[tuple[object, bool]] = [(top, False)]
    while stack:
        node, leaving = stack.pop()
        if isinstance(node, NavigableString):
            if not isinstance(node, PreformattedString):  # comments and the like
                parts.append(WHITE.sub(" ", node))
            continue
        tag = cast("Tag", node)
        if tag.name in BLOCKS:
            parts.append("\n")
        if leaving or tag.name in _HIDDEN:
            continue
        if tag.name == "pre":
            done += (full_lines(parts), "\n".join(line.rstrip() for line in tag.get_text().split("\n")).strip("\n"))
            parts = []
            continue
        stack.append((tag, True))
        stack.extend((child, False) for child in reversed(tag.contents))
    return "\n".join(text for text in [*done, full_lines(parts)] if text)
