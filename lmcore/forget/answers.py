"""What servers sent to an unfinished collection: which of it holds a forgotten text, and a collection that goes on
without that, and with the rest.

Of answers and pages in a database single rows go, which are asked for again. A download goes as a file: when it is the
one that a text came from, when it quotes one, and when it is packed, so that nobody can say.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import zstandard

from lmcore.collect.fetched import FETCHED
from lmcore.collect.sitemaps import SITEMAPS
from lmcore.collect.wikipedia_pages import TAKEN_DOWN
from lmcore.collect.wikipedia_store import PAGES
from lmcore.documents import FORGOTTEN
from lmcore.forget.find import Found
from lmcore.forget.quotes import Quotes
from lmcore.forget.quoting import does_quote
from lmcore.forget.texts import spellings
from storage.digest import digest_json
from storage.errors import RunError
from storage.store import Store

DATABASES = (FETCHED, SITEMAPS, PAGES)
DOWNLOADS = "downloads"
_PACKED = (b"\x1f\x8b", b"BZh", b"PK", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"PAR1", b"Rar!", b"%PDF")
_HEAD = 512
_TAR = (257, b"ustar")


def answers_that_hold(store: Store, found: Found, quotes: Quotes) -> list[Path]:
    """Databases of answers in which something of it is. One that cannot be read is in `found.unreadable` then."""
    held = []
    for name in (FETCHED, SITEMAPS):
        for path in sorted(store.root.glob(f".work/collect-*/{name}")):
            try:
                if next(_meant_answers(path, found, quotes), None) is not None:
                    held.append(path)
            except RunError:
                found.unreadable.add(path)
    return held


def downloads_that_go(work: Path, found: Found, quotes: Quotes) -> Iterator[tuple[Path, str]]:
    """Downloads of an unfinished collection that cannot stay, and why."""
    urls = {page for row in found.rows.values() for name in _pages_of(row) for page in spellings(name)}
    meant = {digest_json(url)[:32] for url in urls}
    for path in sorted((work / DOWNLOADS).glob("*")):
        if path.name[:32] in meant:
            yield path, "the file that it came from"
        elif not path.is_file() or _is_packed(path):
            yield path, "a packed download; nobody can say what it holds"
        elif quotes and does_quote(path, quotes):
            yield path, "a download that quotes it"


def clean_answers(path: Path, found: Found, quotes: Quotes) -> None:
    """Take what is meant out of a database of answers; it is asked for again."""
    urls = list(_meant_answers(path, found, quotes))
    with _writing(path) as base:
        base.executemany("delete from answer where url = ?", [(url,) for url in urls])


def clean_pages(path: Path, found: Found) -> None:
    """Turn the pages of a wiki that are meant into forgotten ones."""
    empty = {"title": "", "text": "", "lang": "und", "tags": {}, "meta": {}, "moment": ""}
    with _writing(path) as base:
        meant = []
        for file, number, url, packed in base.execute("select file, number, url, facts from page"):
            facts = json.loads(zstandard.decompress(packed))
            if found.meant.page(url) or found.meant.text(facts["text"]):
                bare = zstandard.compress(json.dumps(empty | {"revision": facts["revision"]}).encode("ascii"), 3)
                meant.append((FORGOTTEN, TAKEN_DOWN, bare, file, number))
        base.executemany(
            "update page set outcome = ?, reason = ?, facts = ?, raw = null where file = ? and number = ?", meant
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, after which nothing of what went is left in the file."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
            base.execute("pragma secure_delete = on")
            base.execute("begin immediate")
            yield base
            base.execute("commit")
            base.execute("vacuum")
            base.execute("pragma wal_checkpoint(truncate)")
    except (sqlite3.Error, zstandard.ZstdError, ValueError) as error:
        raise RunError(f"cannot change {path}: {error}", "run the same command again") from error


def _meant_answers(path: Path, found: Found, quotes: Quotes) -> Iterator[str]:
    """URLs of the answers that are those of a forgotten page, quote a text, or (an API's) tell of the page."""
    urls = [url.encode() for url in found.meant.urls if path.name == FETCHED and url.startswith("http")]
    texts = [text.encode() for row in found.rows.values() if (text := row["text"].strip())]
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            for url, final_url, packed in base.execute("select url, final_url, body from answer order by url"):
                body = zstandard.decompress(packed) if packed else b""
                plain = body.replace(b"\\/", b"/")  # JSON's way to write /
                if (
                    found.meant.page(url, final_url)
                    or any(name in plain for name in (*urls, *texts))
                    or (body and quotes and quotes.blotted_bytes(body) is not None)
                ):
                    yield url
    except (sqlite3.Error, zstandard.ZstdError) as error:
        raise RunError(f"cannot read {path}: {error}", "remove it: its answers are asked for again") from error


def _pages_of(row: dict[str, str]) -> Iterator[str]:
    """The files that a text may have come from."""
    for name in ("url", "page_of_origin"):
        yield row[name].partition("#")[0]
    if dump := json.loads(row.get("meta") or "{}").get("dump"):
        yield str(dump)


def _is_packed(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return head.startswith(_PACKED) or head[_TAR[0] :].startswith(_TAR[1])
