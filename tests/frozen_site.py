"""A real HTTP server on loopback with a site that never changes, and pages that misbehave on request.

    with FrozenSite() as site:
        requests.get(site.url + "/")        # 60 linked pages of real English, about 300 KB of text
        site.hits["/"]                      # complete 200 responses by path

The texts are Python's own reference manual, which comes with every Python as `pydoc_data.topics`. Every
page is a function of its path only. `port=` gives a second server the same URLs, and so the same digests.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import html
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pydoc_data.topics import topics

N_PAGES = 60
N_SECTIONS = 6
PAGE_CHARS = 9000
ROBOTS = "User-agent: *\nDisallow: /private/\n"


@dataclass
class Reply:
    """One answer. `act` takes over after the request was read and sends what it likes through the handler."""

    status: int = 200
    body: bytes | str = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "text/html; charset=utf-8"
    act: Callable[[BaseHTTPRequestHandler], None] | None = None


class FrozenSite:
    """The server. `replies[path]` holds the answers for a path: used up one by one, the last one stays."""

    def __init__(
        self,
        *,
        pages: dict[str, Reply] | None = None,
        robots: Reply | str = ROBOTS,
        port: int = 0,
        latency: float = 0.0,
    ):
        self.hits: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.headers: dict[str, list[dict[str, str]]] = {}
        self.latency = latency
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.site = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.replies = {path: [reply] for path, reply in (frozen_pages() if pages is None else pages).items()}
        robots_reply = Reply(body=robots, content_type="text/plain") if isinstance(robots, str) else robots
        self.replies.setdefault("/robots.txt", [robots_reply])

    def __enter__(self) -> FrozenSite:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_reply(self, path: str) -> Reply:
        with self._lock:
            self.requests[path] += 1
            waiting = self.replies.get(path)
            if not waiting:
                return Reply(404, "<html><body>nothing here</body></html>")
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def sent(self, path: str) -> None:
        with self._lock:
            self.hits[path] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    site: FrozenSite

    def handle_error(self, request, client_address):
        pass  # clients hang up on purpose here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self):
        site = self.server.site
        site.headers.setdefault(self.path, []).append(dict(self.headers))
        reply = site.next_reply(self.path)
        if site.latency:
            threading.Event().wait(site.latency)
        with contextlib.suppress(ConnectionError, TimeoutError):
            if reply.act is not None:
                self.close_connection = True
                reply.act(self)
                return
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            status, begin = self.answer_of(reply, body, etag)
            headers = {"Content-Type": reply.content_type, "ETag": etag}
            if status == 304:
                body, headers = b"", {"ETag": etag}
            elif status == 206:
                headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                body = body[begin:]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if status == 200:
                site.sent(self.path)
            self.wfile.write(body)

    def answer_of(self, reply: Reply, body: bytes, etag: str) -> tuple[int, int]:
        """Status and first byte of a reply: RFC 9110's conditions and ranges for what would be a 200."""
        if reply.status != 200:
            return reply.status, 0
        if self.headers.get("If-None-Match") == etag:
            return 304, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range", etag) == etag:
            return (206 if int(asked[1]) < len(body) else 416), int(asked[1])
        return 200, 0

    def log_message(self, *args):
        pass


def frozen_pages() -> dict[str, Reply]:
    """The pages of the site by path: "/", six sections, fifty-three articles; some in odd charsets."""
    articles = _articles()
    paths = [f"/article/{number:02d}.html" for number in range(len(articles))]
    pages = {
        "/": Reply(body=_page("The frozen site", _links(_section_paths()), "Front page of a site that never changes."))
    }
    for number, path in enumerate(_section_paths()):
        mine = paths[number::N_SECTIONS]
        lead = f"Section {number} of the manual holds {len(mine)} articles. " + " ".join(articles[number][1][:2])
        pages[path] = Reply(body=_page(f"Section {number}", _links(mine), lead))
    for number, (path, (title, paragraphs)) in enumerate(zip(paths, articles, strict=True)):
        # Links across the site, some with fragments and other spellings of the same page.
        near = [
            paths[(number * 7 + 1) % len(paths)] + "#top",
            paths[(number + 1) % len(paths)],
            "/?",
            "/private/diary.html",
        ]
        page = _page(title, _links(near), *paragraphs)
        pages[path] = _CHARSETS.get(number % 10, _utf8)(page)
    pages["/private/diary.html"] = Reply(body=_page("Diary", "", "Nobody is to read this. " * 50))
    return pages


def _articles() -> list[tuple[str, list[str]]]:
    found, seen = [], ""
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        text = topics[name]
        # Some topics are parts of others: every page is to have a text of its own.
        if text[200:400] in seen or len(text) < 1200:
            continue
        seen += text
        paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]
        pieces: list[list[str]] = [[]]
        for paragraph in paragraphs:
            if sum(map(len, pieces[-1])) > PAGE_CHARS:
                pieces.append([])
            pieces[-1].append(paragraph)
        found += [(f"{name} ({part})", piece) for part, piece in enumerate(pieces, 1) if sum(map(len, piece)) > 1200]
    # First parts of all topics before second parts of long ones.
    found.sort(key=lambda article: (int(article[0].rsplit("(", 1)[1][:-1]), article[0]))
    return found[: N_PAGES - 1 - N_SECTIONS]


def _section_paths() -> list[str]:
    return [f"/section/{number}" for number in range(N_SECTIONS)]


def _page(title: str, links: str, *paragraphs: str, head: str = "") -> str:
    body = "\n".join(
        f"<pre>{html.escape(text)}</pre>" if text.startswith("   ") else f"<p>{html.escape(text)}</p>"
        for text in paragraphs
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><title>{html.escape(title)}</title>{head}</head><body>'
        f'<nav><a href="/">Home</a> <a href="/missing.html">About</a></nav>'
        f"<main><h1>{html.escape(title)}</h1>\n{body}\n{links}</main><footer>Served frozen.</footer></body></html>"
    )


def _links(paths: list[str]) -> str:
    return (
        "<ul>"
        + "".join(f'<li><a href="{html.escape(path)}">Read {html.escape(path)}</a></li>' for path in paths)
        + "</ul>"
    )


def _utf8(page: str) -> Reply:
    return Reply(body=page)


def _with(marker: str, page: str) -> str:
    return page.replace("<main>", f"<main><p>{marker}</p>", 1)


# Article number modulo 10: how its page is encoded and declared.
_CHARSETS: dict[int, Callable[[str], Reply]] = {
    1: lambda page: Reply(
        body=_with("A café in Zürich costs 5 € – “quite dear”.", page).encode("cp1252", "replace"),
        content_type="text/html; charset=windows-1252",
    ),
    2: lambda page: Reply(
        body=_with("Árvíztűrő tükörfúrógép.", page)
        .replace("<head>", '<head><meta charset="iso-8859-2">')
        .encode("iso-8859-2", "replace"),
        content_type="text/html",
    ),
    3: lambda page: Reply(
        # Declared wrongly: these bytes are not UTF-8.
        body=_with("Un été à la plage, déjà vu, garçon, forêt, à bientôt, naïve façade.", page).encode(
            "cp1252", "replace"
        ),
    ),
    4: lambda page: Reply(
        body=_with("吾輩は猫である。名前はまだ無い。", page).encode("shift_jis", "replace"),
        content_type="text/html; charset=Shift_JIS",
    ),
    5: lambda page: Reply(
        body=_with("Sixteen bits a letter: ünïcödé.", page).encode("utf-16"), content_type="text/html"
    ),
    6: lambda page: Reply(
        # Declared as Latin-1, and UTF-8 in truth.
        body=_with("Łódź, Kraków, Gdańsk.", page),
        content_type="text/html; charset=iso-8859-1",
    ),
    7: lambda page: Reply(body=gzip.compress(page.encode(), mtime=0), headers={"Content-Encoding": "gzip"}),
}
