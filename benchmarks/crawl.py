"""Pages per CPU second of a whole crawl (fetch, extract, store), ours beside scrapy on the same site in one run.

    python benchmarks/crawl.py --site DIR [--pages 10000] [--rounds 3] [--scrapy PYTHON] [--brief]
    python benchmarks/crawl.py --frontier 100000

`--site` is a folder of HTML trees; its pages, and as many pages of links as they need, are served on loopback from
memory by a process of its own. Both sides obey robots.txt, follow every link of the site with 8 requests in flight and
no delay; scrapy's HTTP cache and AutoThrottle are off and its items go to a JSONL feed, ours to Parquet with the raw
responses. The main text is taken by our default (trafilatura's fast mode on a tree that is made ready for it), by our
bulk extractor, and on scrapy's side also by trafilatura's fast mode as it comes. What counts is user and system time of
the crawling process from start to end; the server's is not in it. `--scrapy` is a Python that has scrapy and what this
program needs; without it the one that runs this.

`--frontier N` crawls a site of N tiny pages that all link to a thousand others and prints the most memory used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IN_FLIGHT = 8
LINKS = 200  # on a page of links
HTML = "text/html; charset=utf-8"


def main() -> int:
    """Run what was asked for; 1 when a crawl failed or the sides did not see the same pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="a folder of HTML trees")
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scrapy", default=sys.executable, help="a Python that has scrapy")
    parser.add_argument("--frontier", type=int, default=0, help="crawl a site of so many tiny pages instead")
    parser.add_argument("--brief", action="store_true", help="300 pages, one round: figures mean nothing")
    parser.add_argument("--side", choices=("ours", "scrapy"), help=argparse.SUPPRESS)
    parser.add_argument("--extractor", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        (_ours if given.side == "ours" else _scrapy)(given.url, given.extractor, given.out, given.pages)
        return 0
    if given.frontier:
        return _frontier(given.frontier)
    if given.site is None:
        parser.error("--site DIR or --frontier N is needed")
    if given.brief:
        given.pages, given.rounds = 300, 1
    return _race(given.site, given.pages, given.rounds, given.scrapy)


def _race(folder: Path, count: int, rounds: int, scrapy: str) -> int:
    pages = _pages_of(folder, count)
    size = sum(map(len, pages.values()))
    print(f"{len(pages):,} pages of {folder.name}, {size / 1e6:.1f} MB, {IN_FLIGHT} in flight, {rounds} rounds")
    sides = [("ours", "default"), ("ours", "bulk"), *(("scrapy", name) for name in ("default", "bulk", "trafilatura"))]
    if subprocess.run([scrapy, "-c", "import scrapy"], capture_output=True).returncode:
        print("left out: scrapy is not installed (pip install scrapy)")
        sides = sides[:2]
    found: dict[tuple[str, str], list[dict[str, float]]] = {side: [] for side in sides}
    with _Server(pages | _indices(list(pages))) as url:
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):  # in turn, so that drift hits both
                found[side].append(_measure(*side, url, len(pages), scrapy if side[0] == "scrapy" else sys.executable))
    print(f"\n{'':8}{'extractor':14}{'pages':>8}{'texts':>8}{'MB text':>9}{'CPU s':>8}{'wall s':>8}{'MB':>6}", end="")
    print(f"{'pages/CPU s':>13}")
    for (side, extractor), runs in found.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(
            f"{side:8}{extractor:14}{middle['pages']:8,.0f}{middle['texts']:8,.0f}{middle['chars'] / 1e6:9.1f}"
            f"{middle['cpu']:8.1f}{middle['wall']:8.1f}{middle['mb']:6,.0f}{middle['pages'] / middle['cpu']:13.1f}"
        )
    rates = {side: statistics.median(run["pages"] / run["cpu"] for run in runs) for side, runs in found.items()}
    for peer in ("default", "bulk", "trafilatura") if len(sides) > 2 else ():
        for own in ("default", "bulk"):
            ratio = rates["ours", own] / rates["scrapy", peer]
            print(f"ours with {own}: {ratio:.2f} times scrapy with {peer}")
    seen = {run["pages"] for runs in found.values() for run in runs}
    if len(seen) > 1:
        print(f"the sides did not see the same number of pages: {sorted(seen)}")
    return int(len(seen) > 1)


def _measure(side: str, extractor: str, url: str, pages: int, python: str) -> dict[str, float]:
    """One crawl in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [python, __file__, "--side", side, "--extractor", extractor, "--url", url, "--out", str(out)]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
        subprocess.run([*command, "--pages", str(pages)], check=True, env=environment, cwd=folder)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        told: dict[str, float] = json.loads(out.read_text())
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(f"  {side} {extractor}: {told['pages']:,.0f} pages, {cpu:.1f} CPU s, {wall:.1f} s", flush=True)
    return {**told, "cpu": cpu, "wall": wall}


def _ours(url: str, extractor: str, out: Path, pages: int) -> None:
    """Crawl with this program."""
    from lmcore.collect.params import CollectRuntime, WebSource
    from lmcore.collect.source import collect
    from lmcore.progress import silent
    from storage.parquet import read_parquet

    source = WebSource(
        name="site",
        seeds=(url,),
        delay=0,
        max_depth=1000,
        max_pages=10 * pages,
        min_chars=1,
        extractor="bulk" if extractor == "bulk" else "trafilatura",
    )
    collect(
        Path("work"), edition="one", parent=None, parent_digest=None, locate=Path, params=source,
        runtime=CollectRuntime(concurrency=IN_FLIGHT), report=silent,
    )  # fmt: skip
    log = read_parquet(Path("work/out/provenance/fetch_log.parquet"), ["status"])["status"].to_pylist()
    texts = [
        text
        for file in Path("work/out/documents").glob("*.parquet")
        for text in read_parquet(file, ["text"])["text"].to_pylist()
    ]
    _tell(out, pages=log.count(200), texts=len(texts), chars=sum(map(len, texts)))


def _scrapy(url: str, extractor: str, out: Path, _: int) -> None:
    """Crawl with scrapy, as its documentation shows it."""
    import scrapy
    import trafilatura
    from scrapy.crawler import CrawlerProcess
    from scrapy.linkextractors import LinkExtractor

    from lmcore.collect.bulk import bulk_page
    from lmcore.collect.extract import html_text

    def read(html: str, address: str) -> tuple[str, str]:
        if extractor == "default":
            return html_text(html)[:2]
        if extractor == "bulk":
            page = bulk_page(html, address)
            return (page.title, page.text) if page else ("", "")
        return "", trafilatura.extract(html, url=address, fast=True, include_comments=False) or ""

    seen = 0

    class Site(scrapy.Spider):  # type: ignore[misc]
        name = "site"
        start_urls = (url,)
        links = LinkExtractor()

        def parse(self, response: Any) -> Any:
            nonlocal seen
            if not isinstance(response, scrapy.http.HtmlResponse):
                return
            seen += 1
            title, text = read(response.text, response.url)
            if text:
                yield {"url": response.url, "title": title, "text": text}
            for link in self.links.extract_links(response):
                yield response.follow(link.url, self.parse)

    process = CrawlerProcess(
        {
            "ROBOTSTXT_OBEY": True, "AUTOTHROTTLE_ENABLED": False, "HTTPCACHE_ENABLED": False, "DOWNLOAD_DELAY": 0,
            "CONCURRENT_REQUESTS": IN_FLIGHT, "CONCURRENT_REQUESTS_PER_DOMAIN": IN_FLIGHT, "LOG_LEVEL": "ERROR",
            "FEEDS": {"items.jsonl": {"format": "jsonlines"}}, "TELNETCONSOLE_ENABLED": False,
            "OFFSITE_ENABLED": True, "USER_AGENT": "benchmark",
        }
    )  # fmt: skip
    Site.allowed_domains = [url.split("/")[2].split(":")[0]]
    process.crawl(Site)
    process.start()
    lines = Path("items.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    _tell(out, pages=seen, texts=len(texts), chars=sum(map(len, texts)))


def _tell(out: Path, **facts: float) -> None:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    out.write_text(json.dumps({**facts, "mb": most}))


def _frontier(count: int) -> int:
    """The most memory that a crawl of `count` tiny pages takes."""
    pages = {
        f"/p/{number}.html": (
            f"<html><title>{number}</title><body><p>Page number {number} of a site that is mostly links.</p>"
            + "".join(f'<a href="/p/{(number * 1000 + step) % count}.html">x</a>' for step in range(1000))
        ).encode()
        for number in range(min(count, 2 * count // 1000 + 200))
    }
    rest = b"<html><title>leaf</title><body><p>A leaf of a site that is mostly links.</p></body></html>"
    with _Server({"/": pages["/p/0.html"], **pages}, rest) as url:
        found = _measure("ours", "bulk", url, count, sys.executable)
    print(f"{found['pages']:,.0f} pages asked for: at most {found['mb']:,.0f} MB of memory, {found['cpu']:.0f} CPU s")
    return 0


def _pages_of(folder: Path, count: int) -> dict[str, bytes]:
    """The first `count` HTML pages of the folder, by their paths."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".htm") and path.is_file())
    chosen = [files[index * len(files) // count] for index in range(count)] if len(files) > count else files
    return {"/" + path.relative_to(folder).as_posix(): path.read_bytes() for path in chosen}


def _indices(paths: list[str]) -> dict[str, bytes]:
    """Pages of links to all of them, and a front page of links to those."""
    parts = [paths[start : start + LINKS] for start in range(0, len(paths), LINKS)]
    lists = {f"/index/{number}": _links(part) for number, part in enumerate(parts)}
    return {**lists, "/": _links(list(lists))}


def _links(paths: list[str]) -> bytes:
    return ("<html><title>Index</title><body>" + "".join(f'<a href="{p}">{p}</a>\n' for p in paths)).encode()


class _Server:
    """Serves pages from memory on loopback, in a process of its own."""

    def __init__(self, pages: dict[str, bytes], rest: bytes | None = None) -> None:
        self._receive, send = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.Process(target=_serve, args=(pages, rest, send), daemon=True)

    def __enter__(self) -> str:
        self._process.start()
        return f"http://127.0.0.1:{self._receive.recv()}/"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pages: dict[str, bytes], rest: bytes | None, send: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
                body = pages.get(path, rest if path.startswith("/p/") else None)
                status, body = (b"200 OK", body) if body is not None else (b"404 Not Found", b"no such page")
                kind = HTML if status == b"200 OK" else "text/plain"
                head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
                    status,
                    kind.encode(),
                    len(body),
                )
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        send.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
