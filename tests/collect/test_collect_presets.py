"""Presets: selectors of a site's text, packaged and of a recipe's own."""

import json

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import documents, run, web
from hypothesis import given
from hypothesis import strategies as st

from lmcore.collect.extract import read_page
from lmcore.collect.params import WebSource
from lmcore.collect.presets import Preset, packaged, preset_of, preset_page

BBC = """<!DOCTYPE html><html lang="am"><head><title>ርዕስ - BBC News አማርኛ</title></head><body>
<header><nav><ul><li>ዜና</li><li>ስፖርት</li></ul></nav></header>
<main role="main"><h1 id="content" tabindex="-1">የጥንቱ ድልድይ ታደሰ</h1>
<figure><img src="x.jpg"><figcaption>የፎቶው ባለመብት, Getty</figcaption></figure>
<div><time datetime="2024-03-05">5 መጋቢት 2024</time></div>
<div dir="ltr"><p>በከተማዋ መካከል የሚገኘው ጥንታዊ ድልድይ ከሁለት ዓመት እድሳት በኋላ ዛሬ ለአገልግሎት ክፍት ሆነ።</p></div>
<div dir="ltr"><h2>ረጅም ታሪክ</h2></div>
<div dir="ltr"><p>ድልድዩ ከአንድ መቶ ዓመት በፊት እንደተሠራ ነዋሪዎች ይናገራሉ።</p></div>
<section role="region" aria-labelledby="x"><h2>ተያያዥ ርዕሶች</h2><div dir="ltr"><p>ሌላ ዜና እዚህ አለ</p></div></section>
</main><footer><p>© BBC</p></footer></body></html>"""
VOA = """<!DOCTYPE html><html lang="am"><body><div class="hdr"><ul><li>ቀጥታ</li></ul></div>
<h1 class="title pg-title">ገበሬዎች ምርት ሰበሰቡ</h1>
<time pubdate="pubdate" datetime="2023-11-21T18:30:05+00:00">ኖቬምበር 21, 2023</time>
<div id="article-content"><div class="wsw"><p>በዚህ ዓመት የዘነበው ዝናብ ለሰብል ተስማሚ ነበር።</p>
<div class="wsw__embed"><p>ቪዲዮ ይመልከቱ</p></div><p>የገበያ ዋጋም ተረጋግቷል።</p></div></div>
<div class="media-block-wrap"><h4>ተዛማጅ</h4></div></body></html>"""
TEXT = "<p>" + "These are enough words for a page to become a record of its own. " * 5 + "</p>"


def test_bbc_amharic():
    preset = preset_of("https://www.bbc.com/amharic/articles/c1w2e3r4t5o")
    assert preset.name == "bbc-amharic"
    page = read_page(BBC.encode(), "https://www.bbc.com/amharic/articles/x", "text/html", preset=preset)
    assert page.extractor == "preset:bbc-amharic"
    assert page.title == "የጥንቱ ድልድይ ታደሰ"
    assert page.text.split("\n") == [
        "በከተማዋ መካከል የሚገኘው ጥንታዊ ድልድይ ከሁለት ዓመት እድሳት በኋላ ዛሬ ለአገልግሎት ክፍት ሆነ።",
        "ረጅም ታሪክ",
        "ድልድዩ ከአንድ መቶ ዓመት በፊት እንደተሠራ ነዋሪዎች ይናገራሉ።",
    ]
    assert preset_page(preset, BBC).date == "2024-03-05"


def test_voa_amharic():
    preset = preset_of("https://amharic.voanews.com/a/7364512.html")
    found = preset_page(preset, VOA)
    assert (preset.name, found.title, found.date) == (
        "voa-amharic", "ገበሬዎች ምርት ሰበሰቡ", "2023-11-21T18:30:05+00:00",
    )  # fmt: skip
    assert found.text == "በዚህ ዓመት የዘነበው ዝናብ ለሰብል ተስማሚ ነበር።\nየገበያ ዋጋም ተረጋግቷል።"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://www.bbc.com/amharic", "bbc-amharic"),
        ("https://www.bbc.co.uk/amharic/articles/x", "bbc-amharic"),
        ("https://www.bbc.com/news/x", None),
        ("https://notbbc.com/amharic/x", None),
        ("https://www.fanabc.com/a", "amharic-news"),
        ("https://example.org/", None),
    ],
)
def test_which_site_has_which(url, name):
    found = preset_of(url)
    assert (found.name if found else None) == name
    assert preset_of(url, "none") is None
    assert preset_of(url, "article") == packaged()["article"]


def test_the_packaged_ones_are_valid():
    for name, preset in packaged().items():
        assert Preset(**preset.model_dump()) == preset
        assert preset.name == name


def test_first_selector_that_finds_text_and_nothing_twice():
    preset = Preset(name="x", text=("article", ".content", "body"), drop=(".ad",))
    nested = "<div class=content>one<div class=content>two<p class=ad>buy</p></div></div><div class=content>three</div>"
    assert preset_page(preset, f"<body><article> </article>{nested}</body>").text == "one\ntwo\nthree"


def test_lines_of_pre_stay():
    page = "<body><p>Do  this:</p><pre>if x:\n    y()\n</pre><p>and <b>that</b>.</p><!-- not --></body>"
    assert preset_page(packaged()["article"], page).text == "Do this:\nif x:\n    y()\nand that."


def test_one_that_finds_nothing_is_told(tmp_path):
    own = Preset(name="mine", text=("#story",), title=("h2",), date=("i",), lang="sv")
    pages = {
        "/": Reply(body=f"<main>{TEXT}<a href='/a'>a</a></main>"),
        "/a": Reply(body=f"<h1>No</h1><h2>Yes</h2><i>2024-02-03</i>{TEXT}<div id=story>{TEXT}The story.</div>"),
    }
    with FrozenSite(pages=pages) as site:
        run(tmp_path, web(site, presets=(own,)))
        rows = {row["url"].removeprefix(site.url): row for row in documents(tmp_path)}
    assert json.loads(rows["/"]["meta"])["extractor"] == "trafilatura after preset:mine"
    assert json.loads(rows["/a"]["meta"])["extractor"] == "preset:mine"
    assert rows["/a"]["text"].count("enough words") == 5
    assert (rows["/a"]["title"], rows["/a"]["lang"]) == ("Yes", "sv")
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["extractors"] == {
        "preset:mine": 1, "trafilatura after preset:mine": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "nosuch"}, "is none of auto, none, bbc-amharic"),
        ({"presets": [{"name": "x", "text": ["p >"]}]}, "is not a CSS selector"),
        ({"presets": [{"name": "x", "text": []}]}, "at least 1 item"),
        ({"presets": [{"name": "x", "text": ["p"], "path": "("}]}, "not a regular expression"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        WebSource(name="x", seeds=("http://a.example/",), **settings)


def test_defaults_leave_the_key_as_it_was():
    assert not {"preset", "presets"} & set(WebSource(name="x", seeds=("http://a.example/",)).key_values())


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["<article>", "<p>", "</p>", "x ", "<pre>", "<!--", "<b", "&#0;"])).map("".join),
    )
)
def test_whatever_comes(html):
    for preset in packaged().values():
        found = preset_page(preset, html)
        (found.title + found.text + found.date).encode()
