"""What a page says of itself, the same by both parsers; bulk reading; the score of an extraction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.collect.bulk import bulk_page
from lmcore.collect.extract import read_page
from lmcore.collect.page_facts import iso_date
from lmcore.collect.score import score, tokens

TEXT = "<p>" + "These are enough words for a page to become a record of its own. " * 5 + "</p>"


def read(head="", body=TEXT, attributes="", url="http://h/a/b.html", **kwargs):
    data = f"<!DOCTYPE html><html {attributes}><head>{head}</head><body>{body}</body></html>".encode()
    pages = [read_page(data, url, "text/html", extractor=name, **kwargs) for name in ("trafilatura", "bulk")]
    facts = [(page.date, page.canonical, page.lang, page.index, page.links, page.title) for page in pages]
    assert facts[0] == facts[1], "two parsers, two opinions"
    return pages[1]


@pytest.mark.parametrize(
    ("head", "date"),
    [
        (
            '<script type="application/ld+json">{"@graph": [{"datePublished": "2024-03-05T10:00:00+03:00",}]}</script>',
            "2024-03-05",
        ),
        ('<meta property="article:published_time" content="2023-12-31T23:59:59Z">', "2023-12-31"),
        ('<meta name="DC.date.issued" content="20221105">', "2022-11-05"),
        ('<meta name="date" content="Tue, 05 Mar 2024 10:00:00 GMT">', "2024-03-05"),
        ('<meta name="date" content="2024-02-30"><meta name="pubdate" content="2024/02/28">', "2024-02-28"),
        ('<meta name="date" content="yesterday">', ""),
        ("", ""),
    ],
)
def test_dates(head, date):
    assert read(head).date == date


def test_date_of_time_comes_last():
    body = (
        TEXT + '<time>no</time><time datetime="2021-01-02T00:00">2 January</time><time datetime="2020-01-01">old</time>'
    )
    assert read(body=body).date == "2021-01-02"
    assert read('<meta name="date" content="2019-09-09">', body).date == "2019-09-09"


@pytest.mark.parametrize(
    ("head", "attributes", "lang"),
    [
        ('<meta property="og:locale" content="am_ET">', 'lang="hu"', "hu"),
        ('<meta http-equiv="Content-Language" content="hu, en"><meta property="og:locale" content="x">', "", "hu"),
        ('<meta property="og:locale" content="am_ET">', 'lang="???"', "am-ET"),
        ("", "", None),
    ],
)
def test_language(head, attributes, lang):
    assert read(head, attributes=attributes).lang == lang


@pytest.mark.parametrize(
    ("head", "canonical"),
    [
        ('<link rel="canonical" href="../x?b=2&amp;a=1#y">', "http://h/x?a=1&b=2"),
        ('<base href="http://other/z/"><link rel="Canonical" href="q">', "http://other/z/q"),
        ('<link rel="canonical" href="/">', ""),  # every page the front page: a mistake
        ('<link rel="canonical" href="http://other/">', "http://other/"),
        ('<link rel="canonical" href="">', ""),
        ('<link rel="canonical" href="javascript:x">', ""),
    ],
)
def test_canonical(head, canonical):
    assert read(head).canonical == canonical


def test_robots_and_links():
    head = '<meta name="Robots" content="NoIndex"><base href="/base/">'
    page = read(head, '<a href="a#x">1</a><a href="a">2</a><a rel=nofollow href=b>3</a><map><area href="/c"></map>')
    assert (page.index, page.links) == (False, ["http://h/base/a", "http://h/c"])
    assert read('<meta name="robots" content="nofollow">', '<a href="a">1</a>').links == []


def test_bulk_takes_the_main_part():
    menu = "<ul>" + "".join(f'<li><a href="/{n}">Entry number {n}</a></li>' for n in range(5)) + "</ul>"
    body = (
        f"<header>Site</header><nav>Menu</nav><div class='x sidebar'>Aside</div>{menu}"
        f"<main><h1>Head</h1>{TEXT}<p>A <b>bold</b> wo<i>rd</i>,<br>a <a href=q>link</a>.</p><pre>a\n  b</pre>"
        "<script>no()</script><article>Inside.</article></main><footer>End</footer>"
    )
    text = read(body=body).text
    assert text.startswith("Head\nThese are")
    assert text.endswith("\nA bold word,\na link.\na\nb\nInside.")
    whole = bulk_page(f"<main>x</main><div>{TEXT}</div>", "http://h/")
    assert len(whole.text) > 300, "an empty <main> is not the page"


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["<main>", "<ul>", "<a href=x>", "y", "</", "<!--", "\0", "<table>"])).map("".join),
    )
)
def test_bulk_reads_whatever_comes(html):
    page = bulk_page(html, "http://h/")
    if page:
        (page.title + page.text).encode()


@given(st.text())
def test_dates_are_dates(text):
    assert len(iso_date(text)) in (0, 10)


class TestScore:
    def test_bags_of_words(self):
        assert score("a b c", "C b A").f1 == 1
        half = score("a b x y", "a b")
        assert (half.precision, half.recall, round(half.f1, 3)) == (0.5, 1.0, 0.667)
        assert score("", "").f1 == 1
        assert score("a", "").f1 == score("", "a").f1 == 0
        assert score("a a a", "a").precision == pytest.approx(1 / 3)

    def test_scripts_without_spaces_are_cut_into_pairs(self):
        assert dict(tokens("吾輩は猫 cat 猫")) == {"吾輩": 1, "輩は": 1, "は猫": 1, "cat": 1, "猫": 1}
        assert dict(tokens("ሰላም ለዓለም")) == {"ሰላም": 1, "ለዓለም": 1}

    @given(st.text(), st.text())
    def test_between_none_and_all(self, one, other):
        assert 0 <= score(one, other).f1 <= 1
        assert score(one, other).f1 == pytest.approx(score(other, one).f1)
