"""What a page says about itself: when it was published, its canonical address, its language."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from lmcore.collect.links import LinkBase, canonical_url

EARLIEST, LATEST = 1990, 2100  # years a web page can have been published in
LANG = re.compile(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
# <meta> names that hold the date of publication, the surest first (Open Graph, schema.org, Dublin Core, Highwire, ...).
_DATES = (
    "article:published_time", "og:article:published_time", "datepublished", "citation_publication_date",
    "citation_date", "dc.date.issued", "dcterms.issued", "dcterms.created", "dc.date.created", "dc.date",
    "dcterms.date", "publishdate", "publish-date", "publish_date", "pubdate", "publication_date", "parsely-pub-date",
    "sailthru.date", "cxenseparse:recs:publishtime", "date",
)  # fmt: skip
_PUBLISHED = re.compile(r'"datePublished"\s*:\s*"([^"]{4,40})"')  # in JSON-LD, which is often not quite JSON
_ISO = re.compile(r"(?<!\d)(\d{4})([-/.]?)(\d{2})\2(\d{2})(?!\d)")
_HOME = re.compile(r"^/(?:(?:index|home|default|start)\.[a-z]{3,5})?$", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """ "" where the page does not say."""

    date: str = ""  # of publication, YYYY-MM-DD
    canonical: str = ""  # canonical URL of the address the page gives for itself
    lang: str = ""  # BCP 47


def facts_of(
    metas: Iterable[tuple[str, str]],
    *,
    canonical: str,
    scripts: Iterable[str],
    times: Sequence[str],
    lang: str,
    base: LinkBase,
) -> Facts:
    """Facts from a page's <meta> (name, content), rel=canonical, JSON-LD, <time datetime> in order, and <html lang>."""
    said: dict[str, str] = {}
    for name, content in metas:
        said.setdefault(name.strip().lower(), content.strip())
    date = next((found for text in scripts for raw in _PUBLISHED.findall(text) if (found := iso_date(raw))), "")
    date = date or next((found for name in _DATES if name in said and (found := iso_date(said[name]))), "")
    date = date or next((found for text in times if (found := iso_date(text))), "")
    languages = (lang.strip(), said.get("content-language", "").partition(",")[0].strip(), said.get("og:locale", ""))
    return Facts(
        date=date,
        canonical=_canonical(canonical, base) if canonical.strip() else "",
        lang=next((name for text in languages if LANG.match(name := text.replace("_", "-"))), ""),
    )


def iso_date(text: str) -> str:
    """`YYYY-MM-DD` of a date as machines write it (ISO 8601, 20240305, RFC 5322); "" when it is none of them."""
    found = _ISO.search(text)
    if found:
        year, month, day = int(found[1]), int(found[3]), int(found[4])
    else:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError, OverflowError):
            return ""
        year, month, day = moment.year, moment.month, moment.day
    try:
        return datetime.date(year, month, day).isoformat() if EARLIEST <= year <= LATEST else ""
    except ValueError:
        return ""


def _canonical(href: str, base: LinkBase) -> str:
    """The address, but for a page that calls the front page of its site its canonical address: a common mistake."""
    url = base.link(href)
    name = canonical_url(url) if url else None
    page = urlsplit(base.page)
    home = name == f"{page.scheme}://{page.netloc}/"
    return "" if not name or (home and not _HOME.match(page.path)) else name
