"""Books: EPUB 2 and 3, Project Gutenberg, Aozora Bunko; what is a chapter, and what broken books give."""

import io
import time
import zipfile

import pytest
from helpers_collect import broken, damage, documents, log, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.book import FRONT
from lmcore.collect.book_text import chapters
from lmcore.collect.books import BooksSource
from lmcore.collect.unpack import Unreadable

LINE = "Once there was a mill by the river, and nobody knew who had built it or when it had last ground any corn. "
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
OPF = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">urn:x:1</dc:identifier>
<dc:title>The Mill &amp; the River</dc:title><dc:creator>Ann Other</dc:creator><dc:creator>B. Side</dc:creator>
<dc:language>en-GB</dc:language><dc:rights>Public domain</dc:rights></metadata>
<manifest>
<item id="front" href="front.xhtml" media-type="application/xhtml+xml"/>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="rights" href="p2.xhtml" media-type="application/xhtml+xml"/>
<item id="title" href="p3.xhtml" media-type="application/xhtml+xml"/>
<item id="c1" href="text/one%20.xhtml" media-type="application/xhtml+xml"/>
<item id="c2" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="c3" href="text/three.xhtml" media-type="application/xhtml+xml"/>
<item id="gone" href="text/gone.xhtml" media-type="application/xhtml+xml"/>
<item id="picture" href="a.png" media-type="image/png"/>
</manifest>
<spine><itemref idref="front"/><itemref idref="nav"/><itemref idref="rights"/><itemref idref="title"/>
<itemref idref="c2"/><itemref idref="c1"/><itemref idref="c2"/><itemref idref="picture"/><itemref idref="gone"/>
<itemref idref="c3" linear="no"/></spine>
<guide><reference type="cover" href="front.xhtml" title="Cover"/></guide>
</package>"""
NAV = """<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>
<nav epub:type="toc"><ol><li><a href="text/one%20.xhtml#x">I. The mill</a></li></ol></nav></body></html>"""


def page(body, head="<title/>", attributes=""):
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "xhtml11.dtd">'
        '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">'
        f"<head>{head}</head><body{attributes}>{body}</body></html>"
    )


FILES = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": OPF,
    "OEBPS/nav.xhtml": NAV,
    "OEBPS/front.xhtml": page(f"<p>{LINE * 3}</p>"),
    "OEBPS/p2.xhtml": page(f"<p>Copyright © 2001 Ann Other. All rights reserved. ISBN 1-2. {LINE}</p>"),
    "OEBPS/p3.xhtml": page(f'<section epub:type="titlepage"><p>{LINE * 3}</p></section>'),
    "OEBPS/text/one .xhtml": page(
        f'<h2><a id="x"/>The first</h2><p>caf&eacute;&nbsp;&mdash; {LINE}<span epub:type="pagebreak">12</span></p>\n'
        f'<p>Second&#x2026; <b>bold</b><a epub:type="noteref" href="#n">*</a>.</p>'
    ),
    "OEBPS/text/two.xhtml": page(
        "<h1>二 <ruby>水車<rp>(</rp><rt>すいしゃ</rt><rp>)</rp></ruby></h1>"
        f"<p><ruby><rb>川</rb><rt>かわ</rt></ruby>の音。{LINE}</p>"
    ),
    "OEBPS/text/three.xhtml": page(f"<p>{LINE * 3} not in the order of reading</p>"),
    "OEBPS/a.png": "x" * 5_000_000,
}


def epub(**changes):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**FILES, **{name.replace("__", "/"): text for name, text in changes.items()}}.items():
            if text is not None:
                archive.writestr(name, text)
    return packed.getvalue()


def source(base=".", **params):
    return BooksSource(name="shelf", base=str(base), paths=(".",), **params)


def taken(tmp_path, name, data, **params):
    return read(source(**params), name, data if isinstance(data, bytes) else data.encode(), tmp_path)


def test_chapters_of_an_epub(tmp_path):
    (tmp_path / "mill.epub").write_bytes(epub())
    run(tmp_path / "work", source(tmp_path))
    second, first = documents(tmp_path / "work")
    assert first["url"] == "file:mill.epub#OEBPS/text/one%20.xhtml"
    assert first["page_of_origin"] == second["page_of_origin"] == "file:mill.epub"
    assert (first["title"], second["title"]) == ("I. The mill", "二 水車")
    assert first["text"] == f"The first\ncafé — {LINE.strip()}\nSecond… bold."
    assert second["text"] == f"二 水車\n川の音。{LINE.strip()}"
    assert (first["lang"], first["kind"]) == ("en-GB", "prose")
    assert dict(first["tags"]) == {"work": "The Mill & the River", "author": "Ann Other; B. Side"}
    assert first["meta"] == '{"extractor":"epub","identifier":"urn:x:1","rights":"Public domain"}'
    got = {row["outcome"]: row["reason"] for row in log(tmp_path / "work") if FRONT in row["reason"]}
    assert got == {"bad_rows": f"4 rows: {FRONT}; the first is OEBPS/front.xhtml"}


def test_ruby(tmp_path):
    ((second, _), _) = taken(tmp_path, "mill.epub", epub(), ruby="both")
    assert second.text.startswith("二 水車（すいしゃ）\n川（かわ）の音。")


def test_epub_2_with_its_ncx(tmp_path):
    ncx = (
        '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "ncx.dtd"><ncx xmlns="http://www.'
        'daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>By the\nriver</text></navLabel>'
        '<content src="text/two.xhtml#a"/></navPoint></navMap></ncx>'
    )
    opf = OPF.replace(' properties="nav"', "").replace(
        "<manifest>", '<manifest><item id="n" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    )
    good, bad = taken(tmp_path, "a.epub", epub(**{"OEBPS__book.opf": opf, "OEBPS__toc.ncx": ncx}))
    assert [item.title for item in good] == ["By the river", "The first"]
    assert bad["a document that is not in the file"] == ["OEBPS/text/gone.xhtml"]
    assert "OEBPS/nav.xhtml" in bad[FRONT], "by its name, where nothing says what it is"


def test_deep_nesting(tmp_path):
    deep = "<i>" * 5_000 + "deep" + "</i>" * 5_000
    with pytest.raises(Unreadable, match="nested more than 256 deep"):
        taken(tmp_path, "a.epub", epub(**{"OEBPS__book.opf": OPF.replace("Ann Other", deep)}))
    good, _ = taken(tmp_path, "a.epub", epub(**{"OEBPS__text__two.xhtml": page(f"<p>{LINE}{deep}</p>")}))
    assert good[0].text.startswith("Once there was")


def test_html_that_is_no_xml(tmp_path):
    ruby = "<ruby>水車<rt>すい<b>しゃ</b></rt></ruby>"
    html = f"<html><head><title>Broken</title></head><body><p>One <br> & {ruby} <p>{LINE * 2}</body>"
    good, _ = taken(tmp_path, "a.epub", epub(**{"OEBPS__text__two.xhtml": html}))
    assert good[0].text.split("\n")[:2] == ["One", "& 水車"]
    assert good[0].title == "Broken"
    old = page(f"<p>árvíztűrő {LINE}</p>").replace("utf-8", "iso-8859-2").encode("iso-8859-2")
    good, _ = taken(tmp_path, "a.epub", epub(**{"OEBPS__text__two.xhtml": old}))
    assert good[0].text.startswith("árvíztűrő")


DRM = (
    '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
    '<enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>'
)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"META-INF/container.xml": None}, "damaged"),
        ({"META-INF/container.xml": "<container/>"}, "damaged"),
        ({"META-INF/container.xml": CONTAINER[:50]}, "truncated"),
        ({"META-INF/container.xml": CONTAINER.replace("OEBPS/book.opf", "../../etc/passwd")}, "damaged"),
        ({"OEBPS/book.opf": None}, "damaged"),
        ({"OEBPS/book.opf": OPF.replace("<package", '<!DOCTYPE p [<!ENTITY a "x">]><package')}, "damaged"),
        ({"META-INF/encryption.xml": DRM.format("OEBPS/text/one%20.xhtml")}, "encrypted"),
        ({"OEBPS/text/two.xhtml": page(f"<p>{LINE * 30_000}</p>")}, "too_large"),
    ],
)
def test_books_that_give_nothing(tmp_path, changes, outcome):
    with pytest.raises(Unreadable) as error:
        taken(tmp_path, "a.epub", epub(**changes), max_bytes=1_000_000)
    assert error.value.outcome == outcome


def test_encrypted_fonts_do_no_harm_and_pictures_are_not_unpacked(tmp_path):
    changes = {"META-INF/encryption.xml": DRM.format("OEBPS/font.otf")}
    assert len(taken(tmp_path, "a.epub", epub(**changes), max_bytes=100_000)[0]) == 2


def test_damaged_zip(tmp_path):
    whole = epub()
    for data in (b"", b"PK\3\4", whole[:-30], whole[: len(whole) // 2]):
        with pytest.raises(Unreadable, match="damaged"):
            taken(tmp_path, "a.epub", data)
    at = whole.index(b"text/two.xhtml") + 60
    with pytest.raises(Unreadable, match=r"damaged: OEBPS/text/two\.xhtml in it cannot be unpacked"):
        taken(tmp_path, "a.epub", whole[:at] + b"\xff" * 20 + whole[at + 20 :])


BODY = "\n\n".join([(LINE + "\n") * 2 + LINE] * 3)
GUTENBERG = f"""\ufeffThe Project Gutenberg eBook of The Mill

This ebook is for the use of anyone anywhere.

Title: The Mill

Author: Ann Other

Release date: June 27, 2008 [eBook #11]

Language: Hungarian

*** START OF THE PROJECT GUTENBERG EBOOK THE
MILL ***

Produced by nobody in particular

THE MILL

by Ann Other

CONTENTS

CHAPTER I. The river

CHAPTER II. The corn

BOOK ONE

CHAPTER I.
The river

{BODY}

CHAPTER II. The corn

{BODY}

The letter was not long.

BOOK TWO

CHAPTER I. The end

{BODY}

*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***

START: FULL LICENSE. Redistribution is subject to the trademark license.
"""


def test_project_gutenberg(tmp_path):
    good, bad = taken(tmp_path, "pg11.txt", GUTENBERG.replace("\n", "\r\n"))
    assert [(item.part, item.title) for item in good] == [
        (1, "BOOK ONE, CHAPTER I. The river"),
        (2, "BOOK ONE, CHAPTER II. The corn"),
        (3, "BOOK TWO, CHAPTER I. The end"),
    ]
    assert bad == {FRONT: [0]}
    assert good[1].text.startswith("CHAPTER II. The corn\n\nOnce there was a mill")
    assert good[1].text.endswith("The letter was not long.")
    assert not any("icense" in item.text or "Produced" in item.text for item in good)
    assert (good[0].lang, good[0].tags) == ("hu", {"work": "The Mill", "author": "Ann Other"})
    assert good[0].meta["extractor"] == "gutenberg"
    assert {item.origin for item in good} == {""}


def test_gutenberg_cut_short_and_of_old(tmp_path):
    with pytest.raises(Unreadable, match="truncated"):
        taken(tmp_path, "a.txt", GUTENBERG[: GUTENBERG.index("BOOK TWO")])
    old = f"Small print.\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n{BODY}\n\n"
    good, _ = taken(tmp_path, "a.txt", old + "End of the Project Gutenberg Etext of The Mill\n")
    assert good[0].text == BODY.strip()


@pytest.mark.parametrize(
    ("headings", "titles"),
    [
        (["I.", "II.", "III."], ["I.", "II.", "III."]),
        (["Chapter One", "Chapter Two"], ["Chapter One", "Chapter Two"]),
        (["ELSŐ FEJEZET", "MÁSODIK FEJEZET"], ["ELSŐ FEJEZET", "MÁSODIK FEJEZET"]),
        (["Erstes Kapitel", "2. Kapitel: Das Ende"], ["Erstes Kapitel", "2. Kapitel: Das Ende"]),
        (["PREFACE", "Letter 1", "Epilogue"], ["PREFACE", "Letter 1", "Epilogue"]),
        (["The letter came.", "Part of it was gone."], [""]),
    ],
)
def test_headings(headings, titles):
    text = "\n\n".join(f"{heading}\n\n{BODY}" for heading in headings)
    assert [chapter.title for chapter in chapters(text)] == titles


def test_prose_before_the_first_chapter_is_kept():
    long = "\n".join([LINE] * 20)
    assert [c.part for c in chapters(f"{long}\n\nCHAPTER I\n\n{BODY}\n\nCHAPTER II\n\n{BODY}")] == [0, 1, 2]


AOZORA = f"""水車
副題
山田花子

{"-" * 55}
【テキスト中に現れる記号について】

《》：ルビ
（例）水車《すいしゃ》
［＃］：入力者注　主に外字の説明や、傍点の位置の指定
{"-" * 55}

［＃５字下げ］一［＃「一」は中見出し］

　むかし｜川べり《かわべり》に水車《すいしゃ》があった。{"だれも知らない。" * 20}
　※［＃「てへん＋劣」、第3水準1-84-77］る、※［＃「口＋世」、U+546D、1-2］、※［＃感嘆符二つ、1-8-75］※［＃始め二重山括弧、1-1-52］本※［＃終わり二重山括弧、1-1-53］。※［＃判読不能］
　とても［＃「とても」に傍点］古い［＃「古い［＃「古」］」は太字］。

［＃改ページ］
［＃ここから大見出し］
二　川
［＃ここで大見出し終わり］
　{"水が流れる。" * 30}

底本：「水車」文庫
　　　2000（平成12）年1月1日
入力：だれか
"""


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "euc_jp"])
def test_aozora(tmp_path, charset):
    data = AOZORA.replace("\n", "\r\n").encode(charset)
    for params in ({}, {"lang": "ja"}):
        (first, second), bad = taken(tmp_path, "mizu.txt", data, **params)
        assert not bad
        assert (first.title, second.title, first.lang) == ("一", "二　川", "ja")
        assert first.tags == {"work": "水車", "author": "山田花子"}
        assert first.text.startswith("一\n\nむかし川べりに水車があった。")
        assert "挘る、呭、‼《本》。〓" in first.text
        assert first.text.endswith("とても古い。")
        assert second.text.endswith("水が流れる。")
        assert first.meta["extractor"] == "aozora"
    (first, _), _ = taken(tmp_path, "mizu.txt", data, ruby="both")
    assert "むかし川べり（かわべり）に水車（すいしゃ）があった。" in first.text
    assert "《本》" in first.text


def test_aozora_without_headings_or_title(tmp_path):
    ((item,), _) = taken(tmp_path, "b.txt", "《ない》" + "だれも知《し》らない。" * 20 + "［＃改ページ］")
    assert item.title == "b"
    assert item.part == ""
    assert "だれも知らない。" in item.text


@pytest.mark.parametrize(
    "text",
    ["［＃《" * 99_999, "［＃" * 99_999 + "］" * 99_999, "※［＃1-1-" * 50_000, "［＃見出し" * 50_000,
     "\n" * 300_000 + "x",
     "*** START OF THE PROJECT GUTENBERG " * 20_000, "CHAPTER I\n\n" * 30_000, "I.\n\n" * 60_000],
    ids=range(8),
)  # fmt: skip
def test_no_text_takes_quadratic_time(tmp_path, text):
    started = time.process_time()
    try_read(source(), "a.txt", text.encode(), tmp_path)
    assert time.process_time() - started < 5


def test_small_chapters_and_plain_texts(tmp_path):
    (tmp_path / "a.txt").write_text(f"CHAPTER I\n\n{BODY}\n\nCHAPTER II\n\nShort.")
    (tmp_path / "b.txt").write_text(LINE * 3)
    run(tmp_path / "work", source(tmp_path))
    assert [row["url"] for row in documents(tmp_path / "work")] == ["file:a.txt#1", "file:b.txt"]
    assert ("file:a.txt", "1 rows: short; the first is row 2") in [
        (row["url"], row["reason"]) for row in log(tmp_path / "work")
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_damaged_bytes(tmp_path, at, junk, cut):
    small = epub(**{"OEBPS__a.png": "x"})
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:  # so that damage reaches the XML
        for name, text in FILES.items():
            archive.writestr(name, text[:5000])
    for name, whole in (("a.epub", small), ("b.epub", plain.getvalue()), ("a.txt", GUTENBERG.encode()),
                        ("b.txt", AOZORA.encode("shift_jis"))):  # fmt: skip
        try_read(source(), name, broken(whole, at, junk, cut), tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), junk=st.binary(max_size=100), at=st.floats(0, 1), name=st.sampled_from(sorted(FILES)[:9]))
def test_any_parts(tmp_path, text, junk, at, name):
    data = broken(FILES[name].encode(), at, junk, 1.0)
    for ruby in ("base", "both"):
        try_read(source(ruby=ruby), "a.epub", epub(**{name: data, "OEBPS__a.png": "x"}), tmp_path)
        try_read(source(ruby=ruby), "a.txt", f"［＃{text}《a》".encode("utf-8", "replace"), tmp_path)
        try_read(source(ruby=ruby), "a.txt", text.encode("utf-8", "replace"), tmp_path)
