"""Pages made ready for trafilatura, and what bulk takes: each rule on a page of its own, and any page at all."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.collect.bulk import bulk_page
from lmcore.collect.extract import parse_html, read_page
from lmcore.collect.layout import join_wide
from lmcore.collect.prepare import prepare
from lmcore.collect.presets import packaged, preset_page

TEXT = "These are enough words for a paragraph of the page's own text, and it says something as well."
MORE = "A second paragraph says more than the first one did, so that there is something to read here."


def lines(html, **kwargs):
    return read_page(html.encode(), "http://h/a", "text/html", **kwargs).text.split("\n")


def page(body):
    return f"<html><head><title>t</title></head><body>{body}</body></html>"


@pytest.mark.parametrize(
    ("source", "joined"),
    [
        ("日本\n  語です。<b>あ</b>\nい", "日本語です。<b>あ</b>い"),
        ("日本\n<b>語</b>\nです", "日本<b>語</b>です"),
        ("中文，\n第二行", "中文，第二行"),
        ("<pre>日\n本</pre>日\n本<textarea>日\n本</textarea>", "<pre>日\n本</pre>日本<textarea>日\n本</textarea>"),
        ("<p>日</p>\n<p>本</p>", "<p>日</p>\n<p>本</p>"),  # blocks: no sentence goes on there
        ("Debian の\nLinux を\n使う", "Debian の\nLinux を使う"),  # a space beside Latin letters, as browsers have it
        ("한국\n말", "한국\n말"),  # Korean has spaces
        ("ሰው\nልጅ é\né", "ሰው\nልጅ é\né"),
    ],
)
def test_line_ends_between_wide_letters_are_no_spaces(source, joined):
    assert join_wide(source) == joined
    assert join_wide(joined) == joined


@pytest.mark.parametrize("extractor", ["trafilatura", "bulk"])
def test_a_line_end_of_the_source_is_none_of_the_text(extractor):
    body = "<main><p>日本語の文章は行の\n  途中で改行されても、<b>空白</b>\nは入りません。</p><p>እያንዳንዱ\nሰው   የመኖር</p>"
    text = lines(page(body + f"<p>{TEXT.replace(' ', chr(10))}</p></main>"), extractor=extractor)
    assert text == ["日本語の文章は行の途中で改行されても、空白は入りません。", "እያንዳንዱ ሰው የመኖር", TEXT]


def test_code_and_tables_keep_their_lines():
    code = "<pre><span class='k'>if</span> x:\n    y()\n\n    <span>z</span>()\n</pre>"
    body = f"<p>{TEXT}</p>{code}<ul><li>In a list: {code} and on.</li></ul><table><tr><td>a</td><td>b</td></tr>"
    text = lines(page(f"<main>{body}<tr><td>c</td><td>d</td></tr></table><p>{MORE}</p></main>"))
    block = ["if x:", "    y()", "", "    z()"]
    assert [line.strip("- ") if "list" in line else line for line in text] == [
        TEXT, *block, "In a list:", *block, "and on.", "| a | b |", "| c | d |", MORE,
    ]  # fmt: skip


def test_letters_that_stand_for_white_space_may_be_on_the_page():
    code = "\U00010600\U00010601 x\n\U00010602  y"
    assert code.split("\n")[1] in lines(page(f"<p>{TEXT}</p><pre>{code}</pre><p>{MORE}</p>"))


@pytest.mark.parametrize(
    "frame",
    [
        "<nav>other</nav>",
        "<div role=navigation>other</div>",
        "<p role=contentinfo>other</p>",
        "<div aria-hidden=true><p>other</p></div>",
        "<div hidden><p>other</p></div>",
        "<div style='display: none'><p>other</p></div>",
        "<div class='x breadcrumbs'><p>other</p></div>",
        "<p>other</p><p>other</p>".join(("<div id=sidebar>", "</div>")),
        "<header><a href=/><p>other</p></a></header>",
        "<div><h3>other</h3><ul><li><a href=/1>other</a><li><a href=/2>other</a><li><a href=/3>other</a></ul></div>",
        "<figure><img src=x><p>other</p></figure>",
    ],
)
def test_what_frames_a_page_goes(frame):
    assert lines(page(f"{frame}<div><h1>On this</h1><p>{TEXT}</p><p>{MORE}</p></div>")) == ["On this", TEXT, MORE]


@pytest.mark.parametrize(
    "text",
    [
        f"<div class=para>{TEXT} <code class=command>ls</code></div>",
        f"<div class=embedded><a name=x></a><h2>Syntax</h2></div><div class=note>{TEXT}</div>",
        f"<div class=sidebar><a id=x></a><div class=titlepage><p class=title>Box</p></div><p>{TEXT}</p></div>",
        f"<div class=section id=s-share-your-tags><h2>Share your tags</h2><p>{TEXT}</p></div>",
        f"<h2><a id=x></a>Heading with an anchor</h2><p>{TEXT}</p>",
        f"<p>Press <span class=guibutton>OK</span> and <span class=keybar>Ctrl</span>, then on. {TEXT}</p>",
        f"<dl><dt>term</dt><dd>{TEXT}</dd></dl>",
        f"<header><h2>Preamble</h2><p>{TEXT} {TEXT}</p></header>",
        f"<figure><img src=x><figcaption>What the picture shows</figcaption></figure><p>{TEXT}</p>",
        f"<figure class=highlight><pre>code here</pre></figure><p>{TEXT}</p>",
        f"<div>first<br><br>second<br><br>third, {TEXT}</div>",
        f"loose text<ul><li>one<li>two</ul>after the list<p>{TEXT}</p>",
    ],
)
def test_what_is_text_stays(text):
    html = page(f"<h1>On this</h1>{text}<p>{MORE}</p>")
    said = " ".join(parse_html(html).find("body").itertext())
    found = " ".join(lines(html))
    assert [word for word in said.split() if word not in found] == []


def test_a_permalink_is_no_text():
    html = page(f"<h1>On this<a class=x href='#on'>¶</a></h1><p>{TEXT} <a href='#f1'>[1]</a></p><p>{MORE}</p>")
    assert lines(html) == ["On this", f"{TEXT} [1]", MORE]


def test_teasers_are_not_the_page():
    teasers = "".join(f"<article><h3><a href=/{n}>Story {n}</a></h3><p>Teaser {n}.</p></article>" for n in range(4))
    html = page(f"<div class=x><h1>On this</h1><p>{TEXT}</p><p>{MORE}</p></div><div>{teasers}</div>")
    for extractor in ("trafilatura", "bulk"):
        assert lines(html, extractor=extractor) == ["On this", TEXT, MORE]
    parts = "".join(f"<article><h2>Article {n}</h2><p>{TEXT} {n}</p></article>" for n in range(4))
    for extractor in ("trafilatura", "bulk"):  # a law's articles are the page
        assert sum(TEXT in line for line in lines(page(parts), extractor=extractor)) == 4


def test_bulk_says_nothing_twice():
    html = page(f"<main role=main class=x><p>{TEXT}</p></main>")
    assert bulk_page(html, "http://h/").text == TEXT


def test_bulk_keeps_docbook_boxes():
    box = f"<div class=sidebar><div class=titlepage><p>Box</p></div><p>{TEXT}</p></div>"
    assert bulk_page(page(f"{box}<div class=sidebar><p>{MORE}</p></div>"), "http://h/").text == f"Box\n{TEXT}"


def test_xhtml_is_read_without_a_warning():
    html = '<?xml version="1.0" encoding="UTF-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body><p>a</p></body></html>'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert preset_page(packaged()["article"], html).text == "a"


_NAMES = st.sampled_from(
    ["div", "p", "span", "pre", "br", "a", "ul", "li", "h2", "table", "td", "article", "section", "b"]
)
_TREES = st.recursive(
    st.text("ab \n日本", max_size=6),
    lambda inner: st.builds(
        lambda name, within: f"<{name}>{''.join(within)}</{name}>", _NAMES, st.lists(inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(_TREES)
def test_no_text_is_lost(body):
    """With nothing on the page that is a frame, all its letters are still there, in their order."""
    tree = parse_html(page(body))
    before = "".join(tree.text_content().split())
    marks = prepare(tree)
    assert "".join(marks.restored(tree.text_content()).split()) == before


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=10), st.sampled_from([
    "<div class=sidebar>", "<nav>", "</nav>", "<ul><li><a href=x>l</a><li><a href=y>l</a><li><a href=z>l</a></ul>",
    "<body>", "<main>", "<figure>", "<figcaption>", "<pre>", "</pre>", "<article>", "<h2>", "</div>", "<br>", "<br>",
    "<p hidden>", "<table>", "<td>", "<a href='#'>#</a>", "<header>", "<frameset>", "<svg>", "<math>", "<template>",
])), max_size=30))  # fmt: skip
def test_any_page_can_be_made_ready(parts):
    tree = parse_html("".join(parts))
    if tree is not None:
        prepare(tree)
    read_page("".join(parts).encode(), "http://h/", "text/html")
    bulk_page("".join(parts), "http://h/")
