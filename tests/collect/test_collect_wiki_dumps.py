"""Dumps of wikis: what becomes of their pages, streams that can be gone on from, and dumps that are not whole."""

import bz2
import gzip
import json
from xml.sax.saxutils import escape, quoteattr

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import broken, damage, digests, documents, log, run
from hypothesis import HealthCheck, settings
from test_collect_unchanged import Editions

from lmcore.collect.unpack import Unreadable
from lmcore.collect.wikipedia import WikipediaSource, is_dump
from lmcore.collect.wikipedia_dump import Dump, Place
from storage.errors import RunError

NAME = "huwiki-20261101-pages-articles-multistream.xml.bz2"
HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="hu">
  <siteinfo>
    <sitename>Wikipédia</sitename>
    <dbname>huwiki</dbname>
    <base>https://hu.wikipedia.org/wiki/Kezd%C5%91lap</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Vita</namespace>
      <namespace key="6" case="first-letter">Fájl</namespace>
      <namespace key="14" case="first-letter">Kategória</namespace>
    </namespaces>
  </siteinfo>
"""
TAIL = "</mediawiki>"
LONG = "A '''{0}''' egy [[szó|szóról]] szól, [[Fájl:Kép.jpg|bélyegkép|felirat]] amely hosszú.\n\n[[Kategória:Szavak]]"


def page_xml(number, title, text, *, ns=0, redirect=None, revision=None, model="wikitext"):
    leads = f"    <redirect title={quoteattr(redirect)} />\n" if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{ns}</ns>\n    <id>{number}</id>\n{leads}"
        f"    <revision>\n      <id>{revision or number * 10}</id>\n      <timestamp>2026-10-01T00:00:00Z</timestamp>\n"
        f"      <model>{model}</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
    )


def write_dump(path, pages, *, streams=3, **facts):
    """A multistream dump of (title, text) or (title, text, facts), as Wikimedia packs them."""
    whole = [
        page_xml(number, *page[:2], **(page[2] if len(page) > 2 else facts)) for number, page in enumerate(pages, 1)
    ]
    size = -(-len(whole) // streams)
    parts = ["".join(whole[at : at + size]) for at in range(0, len(whole), size)]
    parts = [HEAD + "".join(parts) + TAIL] if streams == 1 else [HEAD, *parts, TAIL]
    path.write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    return path


def pages(count):
    return [(f"Szó {number}", LONG.format(f"Szó {number}")) for number in range(count)]


def source(folder, *paths, **params):
    return WikipediaSource(**{"name": "dump", "base": str(folder), "paths": paths or ("*",), "min_chars": 20, **params})


def said(work):
    return {row["url"]: (row["outcome"], row["reason"]) for row in log(work)}


class TestPages:
    def test_what_becomes_a_record(self, tmp_path):
        found = [
            *pages(3),
            ("Átirányítás", "#ÁTIRÁNYÍTÁS [[Szó 1]]", {"redirect": "Szó 1"}),
            ("Vita:Szó 1", "Nem is hosszú, mondom, nem is hosszú.", {"ns": 1}),
            ("Rövid", "rövid"),
            ("Szó", "Több dolog. {{egyért}} * [[Szó 1]] * [[Szó 2]] * [[Szó 3]]"),
            ("Modul", "return {} -- a table of Lua is no text", {"model": "Scribunto"}),
        ]
        write_dump(tmp_path / NAME, found)
        (tmp_path / NAME.replace(".xml.bz2", "-index.txt.bz2")).write_bytes(bz2.compress(b"600:1:Szo"))
        run(tmp_path / "work", source(tmp_path))
        rows = documents(tmp_path / "work")
        assert [row["title"] for row in rows] == ["Szó 0", "Szó 1", "Szó 2"]
        row = rows[0]
        assert row["text"] == "A Szó 0 egy szóról szól, amely hosszú."
        assert row["url"] == "https://hu.wikipedia.org/wiki/Sz%C3%B3_0"
        assert (row["lang"], row["license"]) == ("hu", "CC-BY-SA-4.0")
        assert dict(row["tags"]) == {"categories": "Szavak"}
        assert json.loads(row["meta"]) == {
            "dump": f"file:{NAME}", "extractor": "mwparserfromhell", "pageid": 1, "revid": 10,
            "timestamp": "2026-10-01T00:00:00Z",
        }  # fmt: skip
        stats = json.loads((tmp_path / "work" / "out" / "stats.json").read_text())
        assert stats["outcomes"] == {
            "companion": 1, "disambiguation": 1, "namespace": 1, "no_text": 1, "ok": 3, "redirect": 1, "short": 1,
        }  # fmt: skip
        assert stats["dumps"] == {"companion": 1, "ok": 1}

    @pytest.mark.parametrize("suffix", [".xml", ".xml.gz", ".xml.bz2", "1.xml-p1p41242.bz2"])
    def test_packings_and_names(self, tmp_path, suffix):
        xml = bz2.decompress(write_dump(tmp_path / "x", pages(4)).read_bytes())
        (tmp_path / "x").unlink()
        pack = {"xml": bytes, ".gz": gzip.compress, "bz2": bz2.compress}[suffix[-3:]]
        (tmp_path / f"hu{suffix}").write_bytes(pack(xml))
        assert run(tmp_path / "work", source(tmp_path))["records"] == 4

    def test_utf_16(self, tmp_path):
        xml = '<?xml version="1.0" encoding="UTF-16"?>' + HEAD + page_xml(1, *pages(1)[0]) + TAIL
        (tmp_path / "hu.xml").write_bytes(xml.encode("utf-16"))
        run(tmp_path / "work", source(tmp_path))
        assert documents(tmp_path / "work")[0]["lang"] == "hu"

    def test_namespaces_and_max_pages(self, tmp_path):
        write_dump(tmp_path / NAME, [*pages(3), ("Vita:A", LONG.format("A"), {"ns": 1})])
        run(tmp_path / "talk", source(tmp_path, namespaces=(1,)))
        assert [row["title"] for row in documents(tmp_path / "talk")] == ["Vita:A"]
        run(tmp_path / "two", source(tmp_path, max_pages=2))
        assert len(documents(tmp_path / "two")) == 2

    def test_dumps_that_overlap(self, tmp_path):
        write_dump(tmp_path / "a.xml.bz2", pages(5))
        write_dump(tmp_path / "b.xml.bz2", pages(8))
        run(tmp_path / "work", source(tmp_path))
        rows = documents(tmp_path / "work")
        assert len(rows) == len({row["url"] for row in rows}) == 8

    def test_names_of_dumps(self):
        for name in ("a.xml", "A.XML.BZ2", "enwiki-1-pages-articles1.xml-p1p41242.bz2", "x-index.txt.bz2"):
            assert is_dump(name)
        for name in ("a.txt", "a.sql.gz", "a.xml.7z", "sha1sums.txt", "a.tar.bz2"):
            assert not is_dump(name)


class TestPlace:
    @pytest.mark.parametrize("streams", [1, 4, 40])
    def test_reading_goes_on_from_everywhere(self, tmp_path, streams):
        path = write_dump(tmp_path / NAME, pages(40), streams=streams)
        dump, whole, places = Dump(path, "bz2"), [], []
        for found in dump.pages():
            whole.append(found)
            places.append(json.loads(json.dumps(vars(dump.place))))
        assert [page.title for page in whole] == [title for title, _ in pages(40)]
        assert len({place["offset"] for place in places}) == streams
        for done, place in enumerate(places, 1):
            assert list(Dump(path, "bz2", Place(**place)).pages()) == whole[done:]

    def test_streams_that_end_anywhere(self, tmp_path):
        """As pbzip2 packs: reading goes on only where a page ends."""
        xml = (HEAD + "".join(page_xml(n, *page) for n, page in enumerate(pages(30), 1)) + TAIL).encode()
        path = tmp_path / "p.xml.bz2"
        path.write_bytes(b"".join(bz2.compress(xml[at : at + 501]) for at in range(0, len(xml), 501)))
        dump, whole, places = Dump(path, "bz2"), [], []
        for found in dump.pages():
            whole.append(found)
            places.append(json.loads(json.dumps(vars(dump.place))))
        assert len(whole) == 30
        for done, place in enumerate(places, 1):
            assert list(Dump(path, "bz2", Place(**place)).pages()) == whole[done:]


class TestDamage:
    def test_cut_short(self, tmp_path):
        write_dump(tmp_path / NAME, pages(60), streams=6)
        data = (tmp_path / NAME).read_bytes()
        (tmp_path / NAME).write_bytes(data[: len(data) // 2])
        run(tmp_path / "work", source(tmp_path))
        found = len(documents(tmp_path / "work"))
        assert 15 < found < 45
        assert said(tmp_path / "work")[f"file:{NAME}"] == (
            "truncated", "the packed dump breaks off; the pages before that are kept",
        )  # fmt: skip
        again = digests(tmp_path / "work" / "out")
        run(tmp_path / "work", source(tmp_path))
        assert digests(tmp_path / "work" / "out") == again

    def test_cut_short_and_unpacked(self, tmp_path):
        xml = bz2.decompress(write_dump(tmp_path / NAME, pages(9)).read_bytes())
        (tmp_path / NAME).unlink()
        (tmp_path / "a.xml").write_bytes(xml[: len(xml) * 2 // 3])
        run(tmp_path / "work", source(tmp_path))
        assert len(documents(tmp_path / "work")) == 5
        assert said(tmp_path / "work")["file:a.xml"][0] == "truncated"

    def test_corrupt(self, tmp_path):
        data = bytearray(write_dump(tmp_path / NAME, pages(60), streams=6).read_bytes())
        data[len(data) // 2 : len(data) // 2 + 30] = b"\xff" * 30
        (tmp_path / NAME).write_bytes(data)
        run(tmp_path / "work", source(tmp_path))
        assert 15 < len(documents(tmp_path / "work")) < 45
        assert said(tmp_path / "work")[f"file:{NAME}"][0] == "damaged"

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "damaged|truncated"),
            (b"no xml at all", "not XML"),
            (b"<html><page/></html>", "no dump of a MediaWiki"),
            (b"<a><b></b></a>", "no dump of a MediaWiki"),
            (f"<!DOCTYPE m [<!ENTITY a 'b'>]>{HEAD}{TAIL}".encode(), "entities"),
            (
                b"<!DOCTYPE m [" + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9))
                + b"]><m>&a8;</m>", "entities",
            ),
        ],
    )  # fmt: skip
    def test_no_dump(self, tmp_path, data, told):
        (tmp_path / "a.xml").write_bytes(data)
        with pytest.raises(RunError, match="no page of 1 dumps") as caught:
            run(tmp_path / "work", source(tmp_path))
        assert any(word in str(caught.value) for word in told.split("|"))

    def test_a_page_that_never_ends(self, tmp_path):
        bomb = bz2.compress((HEAD + "<page><title>A</title><revision><text>").encode() + b"a" * 80_000_000)
        assert len(bomb) < 5_000
        (tmp_path / "a.xml.bz2").write_bytes(bomb)
        with pytest.raises(RunError, match="a page of more than"):
            run(tmp_path / "work", source(tmp_path))

    def test_no_file(self, tmp_path):
        with pytest.raises(RunError, match="no dump matches"):
            run(tmp_path / "work", source(tmp_path))
        (tmp_path / "b.txt").write_text("x")
        with pytest.raises(RunError, match=r"b\.txt"):
            run(tmp_path / "work", source(tmp_path, "b.txt"))

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @damage
    def test_mutated_dumps_give_pages_or_are_unreadable(self, tmp_path, at, junk, cut):
        path = tmp_path / "m.xml"
        path.write_bytes(broken((HEAD + page_xml(1, *pages(1)[0]) * 3 + TAIL).encode(), at, junk, cut))
        self.read(path, "")

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @damage
    def test_mutated_packed_dumps(self, tmp_path, at, junk, cut):
        whole = write_dump(tmp_path / "w", pages(12), streams=4).read_bytes()
        path = tmp_path / "m.xml.bz2"
        path.write_bytes(broken(whole, at, junk, cut))
        self.read(path, "bz2")

    @staticmethod
    def read(path, packed):
        dump = Dump(path, packed)
        reason = "none"
        try:
            for page in dump.pages():
                assert page.title.encode() is not None
                dump.wiki().url(page.title)
        except Unreadable as error:
            reason = error.reason
        assert reason
        assert "\n" not in reason
        assert str(path.parent) not in reason


class TestEditions:
    def test_a_dump_of_later_gives_what_is_new(self, tmp_path):
        folder = tmp_path / "dumps"
        folder.mkdir()
        write_dump(folder / NAME, pages(6))
        editions = Editions(tmp_path, source(folder))
        editions.make()
        changed = pages(6)
        changed[2] = ("Szó 2", LONG.format("Szó 2") + " Több is.", {"revision": 999})
        del changed[5]
        write_dump(folder / NAME, changed)
        work = editions.make()
        assert (editions.metrics["records"], editions.metrics["new"]) == (5, 1)
        stats = json.loads((work / "out" / "stats.json").read_text())
        assert stats["outcomes"] == {"ok": 1, "unchanged": 4}
        editions.make()
        assert (editions.metrics["records"], editions.metrics["new"]) == (5, 0)

    def test_a_dump_as_before_is_not_sent(self, tmp_path):
        data = write_dump(tmp_path / NAME, pages(6)).read_bytes()
        with FrozenSite(pages={f"/{NAME}": Reply(body=data, content_type="application/x-bzip2")}) as site:
            editions = Editions(tmp_path, source(tmp_path, f"{site.url}/{NAME}"))
            editions.make()
            assert editions.metrics["records"] == 6
            site.hits.clear()
            work = editions.make()
            assert not site.hits[f"/{NAME}"]
            assert (editions.metrics["records"], editions.metrics["new"]) == (6, 0)
            assert [row["outcome"] for row in log(work)] == ["unchanged"]

    def test_a_dump_that_is_another_one_after_a_kill_is_read_anew(self, tmp_path):
        folder = tmp_path / "dumps"
        folder.mkdir()
        write_dump(folder / NAME, pages(6))
        run(tmp_path / "work", source(folder))
        write_dump(folder / NAME, pages(9))
        run(tmp_path / "work", source(folder))
        assert len(documents(tmp_path / "work")) == 9
