"""Marks the main text of saved pages by hand: prints a page as numbered blocks, writes down the ones that are kept.

    python tools/mark_page.py show tests/fixtures/pages/NAME.html.gz     the blocks of any page, numbered
    python tools/mark_page.py show NAME                                  a page of the set, "+" before what is kept
    python tools/mark_page.py write                                      every NAME.txt anew from pages.yaml
    python tools/mark_page.py check                                      1 when a NAME.txt is not what pages.yaml says

A page is added so: put NAME.html.gz (gzip -9n) into tests/fixtures/pages, `show` it, read it, write its entry with
the blocks that are main text (`keep: 4-17 20`) into pages.yaml, `write`, and list the source in LICENSES.md. What is
main text is laid down at the top of pages.yaml. The blocks are cut here with nothing from lmcore and nothing from an
extractor, so that no extractor is marked against its own work.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lxml.html
import yaml

PAGES = Path(__file__).parent.parent / "tests/fixtures/pages"
_UNSEEN = frozenset({"script", "style", "noscript", "template", "head", "svg", "object", "iframe", "textarea"})
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big button cite code data del dfn em font i img input ins kbd label mark math meter"
        " nobr q rp rt ruby s samp select option small span strike strong sub sup time tt u var wbr",
    )
)
_KEPT_BREAK = "\x0b"  # a line's end inside <pre>: the block goes on


def blocks(page: Path) -> list[str]:
    """The text of a page cut at every element that a browser puts on a line of its own, cells of a row in one block."""
    raw = gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()
    parser = lxml.html.HTMLParser(encoding=_charset(raw), remove_comments=True, remove_pis=True)
    parts: list[str] = []
    _walk(lxml.html.document_fromstring(raw, parser=parser), False, parts)
    lines = (re.sub(r"[^\S\x0b]+", " ", line).strip(" ") for line in "".join(parts).split("\n"))
    return [
        line.strip(_KEPT_BREAK).removesuffix("¶").replace(_KEPT_BREAK, "\n") for line in lines if line.strip(" \x0b¶#|")
    ]


def marked(page_blocks: list[str], entry: dict[str, Any]) -> str:
    """The main text of a page: the blocks of its entry's `keep`, less the strings of its `without`."""
    lines = [page_blocks[number] for number in kept(entry, len(page_blocks))]
    text = "\n".join(lines)
    for unwanted in entry.get("without", []):
        if unwanted not in text:
            raise SystemExit(f"{entry['name']}: {unwanted!r} is not in the blocks that are kept")
        text = text.replace(unwanted, "")
    return "\n".join(re.sub(r"(?<=\S) {2,}", " ", line).rstrip() for line in text.split("\n")).strip() + "\n"


def kept(entry: dict[str, Any], total: int) -> list[int]:
    """The numbers that `keep: 4-17 20` names."""
    numbers: list[int] = []
    for span in str(entry["keep"]).split():
        first, _, last = span.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if numbers != sorted(set(numbers)) or not all(0 <= number < total for number in numbers):
        raise SystemExit(f"{entry['name']}: keep names blocks twice, out of order or past the page's end ({total})")
    return numbers


def read_index() -> list[dict[str, Any]]:
    """The entries of pages.yaml."""
    entries: list[dict[str, Any]] = yaml.safe_load((PAGES / "pages.yaml").read_text(encoding="utf-8"))["pages"]
    return entries


def main() -> int:
    """Runs the command of the command line; its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=["show", "write", "check"])
    parser.add_argument("pages", nargs="*", help="names of pages of the set, or files")
    parser.add_argument("--width", type=int, default=100, help="characters of a block that `show` prints, 0: all")
    asked = parser.parse_intermixed_args()
    entries = {entry["name"]: entry for entry in read_index()} if (PAGES / "pages.yaml").exists() else {}
    if asked.command == "show":
        for page in asked.pages:
            _show(page, entries.get(page), asked.width)
        return 0
    stale = []
    for entry in entries.values() if not asked.pages else (entries[name] for name in asked.pages):
        target = PAGES / f"{entry['name']}.txt"
        text = marked(blocks(PAGES / f"{entry['name']}.html.gz"), entry)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(entry["name"])
            if asked.command == "write":
                target.write_text(text, encoding="utf-8")
    print(f"{asked.command}: {len(entries)} pages, {len(stale)} {'written' if asked.command == 'write' else 'differ'}")
    for name in stale:
        print(" ", name)
    return int(asked.command == "check" and bool(stale))


def _show(page: str, entry: dict[str, Any] | None, width: int) -> None:
    found = blocks(PAGES / f"{page}.html.gz" if entry or not Path(page).exists() else Path(page))
    inside = set(kept(entry, len(found))) if entry else set()
    print(f"=== {page} ({len(found)} blocks)")
    for number, block in enumerate(found):
        shown = block.replace("\n", "⏎")
        if width and len(shown) > width:
            shown = f"{shown[: width - 20]} … {shown[-20:]} [{len(shown)}]"
        print(f"{'+' if number in inside else ' '}{number:4} {shown}")


def _walk(element: Any, pre: bool, parts: list[str]) -> None:
    if not isinstance(element.tag, str) or element.tag in _UNSEEN:
        return
    cell = element.tag in ("td", "th")
    edge = "" if element.tag in _INLINE else " | " if cell else "\n"
    pre = pre or element.tag == "pre"
    parts += (edge if not cell else "", _text(element.text, pre))
    for child in _children(element):
        _walk(child, pre, parts)
        parts.append(_text(child.tail, pre))
    parts.append(edge)


def _children(element: Any) -> Iterable[Any]:
    return element if element.tag not in ("br", "hr") else ()


def _text(text: str | None, pre: bool) -> str:
    if not text:
        return ""
    return text.replace("\n", _KEPT_BREAK) if pre else re.sub(r"\s+", " ", text.replace("\x0b", " "))


def _charset(raw: bytes) -> str:
    declared = re.search(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?([\w-]+)", raw[:4096], re.I)
    return declared[1].decode("ascii") if declared else "utf-8"


if __name__ == "__main__":
    sys.exit(main())
