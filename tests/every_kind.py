"""A source of every kind at once: servers on loopback, files in a folder, and what one day changes in all of them.

with EveryKind(folder) as world:
    world.sources        # for a recipe; world.env for the environment of its runs
    world.asked()        # requests so far, by server
    world.next_day()     # one text of every source changes, one comes, one goes
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import quoteattr

from frozen_site import FrozenSite, Reply
from hub_site import HubSite
from wiki_server import WikiServer

MILL = "The mill stands by the river and its wheel turns day and night. "
PAGES = 14
SOURCES = (
    "web", "web-bulk", "wiki", "dump", "feed", "hub", "files", "code", "qa", "chat", "subtitles", "books", "pairs",
    "exchange", "made", "asked",
)  # fmt: skip


def told(subject: object, times: int = 4) -> str:
    """A text of a few sentences that no other subject has."""
    return " ".join(f"{MILL}This is part {part} of what is told about {subject}." for part in range(times))


class EveryKind(contextlib.ExitStack):
    """The servers and files. `day` counts from 1; what the sources hold depends on nothing else."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.day = 1

    def __enter__(self) -> EveryKind:
        super().__enter__()
        self.site = self.enter_context(FrozenSite(pages={}))
        self.news = self.enter_context(FrozenSite(pages={}))
        self.files = self.enter_context(FrozenSite(pages={}))
        self.wiki = self.enter_context(WikiServer())
        self.hub = self.enter_context(HubSite())
        self.env = {"HF_ENDPOINT": self.hub.url}
        self.folder.mkdir(parents=True)
        for number in range(PAGES):
            self.wiki.put(f"Mill {number}", f"'''Mill {number}''' {told(f'mill {number}')}", categories=["Mills"])
        self._fill()
        return self

    def next_day(self) -> None:
        """Change one text of every source, add one and take one away."""
        self.day += 1
        self.wiki.wait(86_400)
        self.wiki.put("Mill 1", f"'''Mill 1''' {told(f'mill 1 of day {self.day}')}", categories=["Mills"])
        self.wiki.put(f"Mill {PAGES + self.day}", told(f"new mill of day {self.day}"), categories=["Mills"])
        self.wiki.delete("Mill 0")
        self._fill()

    def asked(self) -> dict[str, int]:
        """Requests so far that could bring a text, by server; robots.txt and the like left out."""
        sites = {"site": self.site, "news": self.news, "files": self.files}
        found = {
            name: sum(count for path, count in site.requests.items() if path != "/robots.txt")
            for name, site in sites.items()
        }
        return {**found, "wiki": len(self.wiki.requests), "hub": self.hub.asked.total()}

    def bodies(self) -> Counter[str]:
        """How often each page and file was sent whole, by server and path; robots.txt left out."""
        sites = {"site": self.site, "news": self.news, "files": self.files}
        sent = Counter(
            {
                f"{name}{path}": n
                for name, site in sites.items()
                for path, n in site.hits.items()
                if path != "/robots.txt"
            }
        )
        sent.update({f"wiki {page}": count for page, count in self.wiki.texts.items()})
        sent.update({f"hub{path}": count for path, count in self.hub.asked.items()})
        return sent

    @property
    def sources(self) -> list[dict]:
        """One source of every kind, some of two ways to read one."""
        base = {"base": str(self.folder)}
        polite = {"delay": 0, "retries": 1, "timeout": 30}
        return [
            {"name": "web", "kind": "web", "seeds": [self.site.url + "/"], "min_chars": 100, **polite},
            {"name": "web-bulk", "kind": "web", "seeds": [self.site.url + "/"], "extractor": "bulk", **polite},
            {"name": "wiki", "kind": "wikipedia", "site": self.wiki.api, "categories": ["Mills"], **polite},
            {"name": "dump", "kind": "wikipedia", "paths": ["dump.xml.bz2"], **base},
            {"name": "feed", "kind": "feed", "feeds": [self.news.url + "/feed"], **polite},
            {"name": "hub", "kind": "hub", "dataset": "mills/tales"},
            {"name": "files", "kind": "files", "paths": ["texts"], **base},
            {"name": "code", "kind": "code", "paths": ["project"], **base},
            {"name": "qa", "kind": "qa", "paths": [self.files.url + "/squad.json"]},
            {"name": "chat", "kind": "chat", "paths": ["chat.jsonl.gz"], **base},
            {"name": "subtitles", "kind": "subtitles", "paths": ["subtitles.zip"], **base},
            {"name": "books", "kind": "books", "paths": ["book.txt"], **base},
            {
                "name": "pairs", "kind": "parallel", "source_lang": "en", "target_lang": "hu",
                "paths": [self.files.url + "/pairs.en", self.files.url + "/pairs.hu"],
            },
            {"name": "exchange", "kind": "stackexchange", "paths": ["exchange"], **base},
            {"name": "made", "kind": "synthetic", "sentences": 40, "stories": 6, "translations": 8, "instructions": 8},
            {"name": "asked", "kind": "synthetic", "from": ["wiki", "feed"], "lang": "en"},
        ]  # fmt: skip

    def _numbers(self) -> list[str]:
        """Names of the texts of today: one has gone every day, one is new, one has changed."""
        return [f"{number}" for number in range(self.day - 1, PAGES + self.day - 1)]

    def _revision(self, number: str) -> int:
        return 100 + int(number) + 1000 * ("as of day" in self._text("", number))

    def _text(self, source: str, number: str) -> str:
        """The text of today: of each day another one has changed since the day before."""
        changed = range(2, self.day + 1)
        day = max((day for day in changed if int(number) == day + 3), default=1)
        return told(f"{source} {number}" + (f" as of day {day}" if day > 1 else ""))

    def _fill(self) -> None:
        numbers = self._numbers()
        links = "".join(f'<a href="/mill/{number}">{number}</a> ' for number in numbers)
        pages = {f"/mill/{n}": self._page(f"Mill {n}", self._text("web", n)) for n in numbers}
        self._serve(self.site, {"/": self._page("Mills", told("all mills") + links), **pages})
        stories = {f"/story/{n}": self._page(f"Story {n}", self._text("news", n)) for n in numbers}
        self._serve(
            self.news, {"/feed": Reply(body=self._feed(numbers), content_type="application/rss+xml"), **stories}
        )
        pairs = [(f"This is mill {n}, day by day.", f"Ez a(z) {n}. malom, napról napra.") for n in numbers]
        plain = {"content_type": "text/plain"}
        self._serve(
            self.files,
            {
                "/squad.json": Reply(body=json.dumps(self._squad(numbers)), content_type="application/json"),
                "/pairs.en": Reply(body="".join(f"{english}\n" for english, _ in pairs), **plain),
                "/pairs.hu": Reply(body="".join(f"{hungarian}\n" for _, hungarian in pairs), **plain),
            },
        )
        rows = "".join(json.dumps({"text": self._text("hub", n)}) + "\n" for n in numbers)
        same = "".join(json.dumps({"text": told(f"hub, other {n}")}) + "\n" for n in range(5))
        self.hub.commit("mills/tales", {"train-0.jsonl": rows.encode(), "train-1.jsonl": same.encode()})
        self._write(numbers)

    def _write(self, numbers: list[str]) -> None:
        texts, project, exchange = (self.folder / name for name in ("texts", "project", "exchange"))
        for folder in (texts, project, exchange):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                path.unlink()
        for n in numbers[:5]:
            (texts / f"{n}.txt").write_text(self._text("files", n))
            (project / f"mill_{n}.py").write_text(f'"""{self._text("code", n)}"""\n\n\ndef turn():\n    return {n}\n')
        table = "".join(f'{n},"{self._text("row", n)}"\n' for n in numbers)
        (texts / "rows.csv").write_text("title,text\n" + table)
        (project / "LICENSE").write_text("SPDX-License-Identifier: MIT\n")
        talks = [{"prompt": f"Tell me of mill {n}.", "completion": self._text("chat", n)} for n in numbers]
        (self.folder / "chat.jsonl.gz").write_bytes(
            gzip.compress("".join(json.dumps(talk) + "\n" for talk in talks).encode(), mtime=0)
        )
        with zipfile.ZipFile(self.folder / "subtitles.zip", "w") as archive:
            for n in numbers[:4]:
                archive.writestr(f"{n}.srt", self._subtitles(n))
        chapters = "\n\n\n".join(f"CHAPTER {n}\n\n{self._text('book', n)}" for n in numbers)
        (self.folder / "book.txt").write_text(chapters)
        (self.folder / "dump.xml.bz2").write_bytes(bz2.compress(self._dump(numbers).encode()))
        (exchange / "Posts.xml").write_text(self._posts(numbers))

    @staticmethod
    def _page(title: str, text: str) -> Reply:
        return Reply(body=f"<html lang='en'><title>{title}</title><main><h1>{title}</h1><p>{text}</p></main></html>")

    @staticmethod
    def _serve(site: FrozenSite, pages: dict[str, Reply]) -> None:
        robots = site.replies["/robots.txt"]
        site.replies.clear()
        site.replies.update({"/robots.txt": robots, **{path: [reply] for path, reply in pages.items()}})

    def _feed(self, numbers: list[str]) -> str:
        items = "".join(
            f"<item><title>Story {n}</title><link>{self.news.url}/story/{n}</link><guid>id-{n}</guid>"
            f"<description>{self._text('news', n)[:80]}</description></item>"
            for n in numbers[-6:]
        )
        head = "<title>Mills</title><language>en</language>"
        return f'<?xml version="1.0"?><rss version="2.0"><channel>{head}{items}</channel></rss>'

    def _squad(self, numbers: list[str]) -> dict:
        def paragraph(n: str) -> dict:
            context = self._text("qa", n)
            answer = {"text": "The mill", "answer_start": context.index("The mill")}
            return {
                "context": context,
                "qas": [{"id": f"q{n}", "question": f"What stands there, {n}?", "answers": [answer]}],
            }

        return {"version": "1.1", "data": [{"title": "Mills", "paragraphs": [paragraph(n) for n in numbers]}]}

    def _subtitles(self, number: str) -> str:
        cues = io.StringIO()
        for cue, sentence in enumerate(self._text("subtitles", number).split(". ")):
            cues.write(f"{cue + 1}\n00:00:{cue * 3:02d},000 --> 00:00:{cue * 3 + 2:02d},000\n{sentence}.\n\n")
        return cues.getvalue()

    def _dump(self, numbers: list[str]) -> str:
        pages = "".join(
            f"<page><title>Dumped {n}</title><ns>0</ns><id>{int(n) + 1}</id><revision><id>{self._revision(n)}</id>"
            f"<timestamp>2026-01-01T00:00:00Z</timestamp><model>wikitext</model><format>text/x-wiki</format>"
            f'<text xml:space="preserve">{self._text("dump", n)}</text></revision></page>'
            for n in numbers
        )
        info = (
            "<siteinfo><sitename>Mills</sitename><dbname>millwiki</dbname><base>http://mills.example/wiki/Main</base>"
        )
        spaces = '<namespaces><namespace key="0" case="first-letter" /></namespaces></siteinfo>'
        return (
            '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">'
            f"{info}{spaces}{pages}</mediawiki>"
        )

    def _posts(self, numbers: list[str]) -> str:
        rows = []
        for n in numbers:
            first, second = 2 * int(n) + 1, 2 * int(n) + 2
            body = quoteattr(f"<p>{self._text('answer', n)}</p>")
            rows.append(
                f'<row Id="{first}" PostTypeId="1" AcceptedAnswerId="{second}" CreationDate="2020-01-01T00:00:00.000"'
                f' Score="3" Title="What of mill {n}?" Body="&lt;p&gt;I want to know of mill {n}.&lt;/p&gt;"'
                f' Tags="&lt;mills&gt;" AnswerCount="1" ContentLicense="CC BY-SA 4.0" />'
                f'<row Id="{second}" PostTypeId="2" ParentId="{first}" CreationDate="2020-01-02T00:00:00.000" Score="5"'
                f' Body={body} ContentLicense="CC BY-SA 4.0" />'
            )
        return f'<?xml version="1.0" encoding="utf-8"?><posts>{"".join(rows)}</posts>'
