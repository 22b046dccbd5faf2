"""URLs, links, charsets and extraction: for any input an answer, and for known input the right one."""

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from w3lib.url import canonicalize_url

from lmcore.collect.charset import clean, decode
from lmcore.collect.extract import html_text, parse_html, read_page
from lmcore.collect.links import MAX_URL, LinkBase, canonical_url, page_links, site_of, tidy_url

PIECES = ["http", "https", ":", "/", "//", "?", "#", "@", "[", "]", "%", "%zz", "%41", "..", ".", "a", "é", "東", "&"]
PIECES += ["=", ";", "host", "127.0.0.1", ":80", ":99999", "xn--", "_", "-", "\\", " ", "\n", "\x00", "\ud800"]
URLISH = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
)


@given(URLISH, URLISH)
@settings(max_examples=400, deadline=None)
def test_any_url_is_tidied_or_refused(url, base):
    for tidy in (tidy_url(url), tidy_url("http://" + url), tidy_url(url, "http://host/" + base)):
        if tidy is None:
            continue
        assert tidy.isascii()
        assert tidy.startswith(("http://", "https://"))
        assert "#" not in tidy
        assert len(tidy) <= MAX_URL
        assert tidy_url(tidy) == tidy
        assert site_of(tidy)
        name = canonical_url(tidy)
        assert name is None or canonical_url(name) == name


@given(st.one_of(st.binary(max_size=400), URLISH.map(lambda url: f'<a href="{url}">x</a>'.encode("utf-8", "replace"))))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_page(data):
    page = read_page(data, "http://host/a/b", "text/html")
    page.text.encode()
    assert all(tidy_url(link) == link for link in page.links)
    html_text(data.decode("latin-1"))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_clean_text_is_storable(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_utf8_is_always_recognised(text):
    assert decode(text.encode()).text == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Host.Example:80/a/../b?y=2&x=1#f", "http://host.example/b?x=1&y=2"),
        ("https://host.example:443", "https://host.example/"),
        ("https://host.example:444/", "https://host.example:444/"),
        ("http://münchen.example/ü?q=ü b", "http://xn--mnchen-3ya.example/%C3%BC?q=%C3%BC+b"),
        ("http://host/%7Ea", "http://host/~a"),
        ("http://host/a?", "http://host/a"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://me:pw@host/", None),
        ("http://host:99999/", None),
        ("http://[::1", None),
        ("javascript:void(0)", None),
        ("mailto:a@b", None),
        ("http:///x", None),
        ("http://host/" + "a" * MAX_URL, None),
    ],
)
def test_canonical_urls(url, expected):
    assert canonical_url(url) == expected


def test_links_of_a_page():
    page = """<html><head><base href="/base/"></head><body><a href="x">1</a><a href="/y#frag">2</a>
      <a href="x">again</a><map><area href="z"></map><a rel="nofollow ugc" href="no">3</a><a>4</a>
      <a href="
        w">5</a><a href="mailto:a@b">6</a></body></html>"""
    assert page_links(lxml.html.document_fromstring(page), "http://h/dir/page") == [
        "http://h/base/x",
        "http://h/y",
        "http://h/base/z",
        "http://h/base/w",
    ]


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Un été à la plage, déjà vu, garçon, forêt, à bientôt.", "cp1252"),
        ("It’s “quite” good – don’t you think so? The bill was €5…", "cp1252"),
        ("Zażółć gęślą jaźń, śpiesz się powoli, książka leży na półce.", "cp1250"),
        ("Все счастливые семьи похожи друг на друга, каждая несчастливая несчастлива по-своему.", "cp1251"),
        ("Все счастливые семьи похожи друг на друга, каждая несчастливая несчастлива по-своему.", "koi8-r"),
        ("Η ελληνική γλώσσα είναι μία από τις παλαιότερες γλώσσες.", "cp1253"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "shift_jis"),
        ("学而时习之，不亦说乎？有朋自远方来，不亦乐乎？", "gb18030"),
        ("모든 행복한 가정은 서로 닮았고, 불행한 가정은 제각각 나름으로 불행하다.", "cp949"),
    ],
)
@pytest.mark.parametrize("declared", [None, "text/html; charset=utf-8"])
def test_charset_is_found_in_a_mostly_english_page(text, codec, declared):
    page = "<p>Plain English before.</p>\n" * 50 + f"<p>{text}</p>\n" + "<p>And after.</p>\n" * 50
    decoded = decode(page.encode(codec), declared)
    assert decoded.text == page
    assert decoded.source == "detected"


def test_charset_order():
    assert decode("é".encode("utf-16")).source == "bom"
    assert decode("é".encode(), "text/html; charset=iso-8859-1") == ("é", "utf-8", "utf-8")
    assert decode("é".encode("latin-1"), "text/html; charset=iso-8859-1")[:2] == ("é", "cp1252")
    assert decode('<meta charset="koi8-r">да'.encode("koi8-r"), "text/html", html=True).source == "meta"
    assert decode("日本".encode("iso2022_jp"), "text/html; charset=iso-2022-jp").text == "日本"
    assert decode(b'<meta charset="utf-16">ascii', html=True) == ('<meta charset="utf-16">ascii', "utf-8", "utf-8")
    assert decode(b"", None).text == ""


def test_hostile_pages():
    assert read_page(b"<div>" * 100_000 + b"deep", "http://h/", "text/html").links == []
    assert read_page(b"<?xml version='1.0' encoding='utf-7'?><html><p>hi", "http://h/", "text/html").text == "hi"
    assert parse_html("") is None
    entity = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><html><body><p>&a; some text</p></body></html>'
    assert "root:" not in read_page(entity.encode(), "http://h/", "application/xhtml+xml").text


_HREF = st.one_of(
    st.text("aB0/._~-?=&#%: ", max_size=20),
    st.text(max_size=8),
    st.sampled_from(["", "#x", "?", "a?", "/a?b", "..", "/.", "a//b"]),
)


@given(
    _HREF,
    st.sampled_from(["http://h/", "http://h/a/b.html?x=1", "https://h.example:8443/a/", "http://127.0.0.1:81/a%20b/"]),
)
def test_the_short_way_gives_what_the_long_one_gives(href, base):
    assert LinkBase(base).link(href) == tidy_url(href, base)


@given(st.sampled_from(["http", "https"]), st.text("aA0.-:/443", max_size=12), _HREF)
def test_plain_names_are_their_own(scheme, host, path):
    url = f"{scheme}://{host}/{path}"
    tidy = tidy_url(url)
    long_way = tidy and tidy_url(canonicalize_url(tidy, keep_blank_values=True, keep_fragments=False))
    assert canonical_url(url) == long_way
