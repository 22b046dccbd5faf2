"""How text runs on a page: which elements begin a line of their own, and what becomes of white space."""

from __future__ import annotations

import re

BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote br dd div dl dt fieldset figcaption figure footer h1 h2 h3 h4 h5 h6 header hr"
        " li main ol p pre section table td th tr ul",
    )
)
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q rp rt ruby s samp small"
        " span strike strong sub sup time tt u var wbr",
    )
)
# What frames the text of a page. Elements that never hold any of it, ...
DISCARDED = frozenset({"nav", "noscript", "script", "style", "template"})
# ... roles (ARIA) and classes or ids of those that do not; whole words, so that "navigate-the-sea" is text.
FRAME_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search"})
FRAME_WORDS = frozenset(
    re.findall(
        r"[\w-]+",
        "nav navbar navigation menu sidebar footer breadcrumb breadcrumbs toc pagination share sharing related comments"
        " navheader navfooter docnav headerlink infobox navbox hatnote mw-editsection mw-jump-link siteNotice noprint",
    )
)
SENTENCE = 100  # letters: a paragraph of so many in a page's <header> is text of the page
WHITE = re.compile(r"\s+")
# Wide letters, between which a line end of the source is no space (CSS Text 3, section 4.1.3; Hangul keeps its own):
# CJK and kana with their signs, full-width forms.
_WIDE = (
    "\u2e80-\u303f\u3041-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff"
)
_ANY_WIDE = re.compile(f"[{_WIDE}]")
_TAG = rf"</?(?:{'|'.join(sorted(INLINE))})\b[^<>]{{0,500}}>"
_WIDE_BREAK = re.compile(rf"(?<=[{_WIDE}])[ \t]*\n\s*(?=(?:{_TAG}){{0,5}}[{_WIDE}])", re.IGNORECASE)
_TAG_BREAK = re.compile(rf"(?<=[{_WIDE}])({_TAG})[ \t]*\n\s*(?=[{_WIDE}])", re.IGNORECASE)
_PRE = re.compile(r"(</?(?:pre|textarea)\b)", re.IGNORECASE)
_GAPS = re.compile(r"\n{3,}")


def tidy_text(text: str) -> str:
    """No white space at line ends, no more than one empty line in a row, none around the text."""
    lines = [line.rstrip() for line in text.replace("\xa0", " ").split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip()


def join_wide(html: str) -> str:
    """The page with the line ends taken out that stand between two wide letters, but for those in <pre>.

    Chinese and Japanese have no spaces: where a line of the source ends in the middle of a sentence, there is none.
    """
    if html.isascii() or not _ANY_WIDE.search(html):
        return html
    parts, depth = _PRE.split(html), 0
    for at, part in enumerate(parts):
        if at % 2:
            depth = max(0, depth - 1) if part.startswith("</") else depth + 1
        elif not depth:
            parts[at] = _TAG_BREAK.sub(r"\1", _WIDE_BREAK.sub("", part))
    return "".join(parts)


def one_line(text: str) -> str:
    """Text with every run of white space as one space: a title, as a rule, at most 500 characters of it."""
    return " ".join(text.split())[:500]


def full_lines(parts: list[str]) -> str:
    """Pieces of text put together, every line without spare white space, empty lines left out."""
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)
