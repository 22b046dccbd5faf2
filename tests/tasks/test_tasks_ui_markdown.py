"""No text that is not ours becomes markup, a link or a picture in what Prefect renders."""

import base64
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lmcore.report.words import clean
from tasks.ui_markdown import COLUMNS, escaped, fenced, page, picture, table, wrapped

MARKDOWN = MarkdownIt("commonmark").enable("table")
BARE = re.compile(r"(?:https?|ftp)://|www\.|(?<!\\)@", re.IGNORECASE)  # GitHub's markdown makes links of these
HOSTILE = [
    "```\n</script><img src=http://evil/x.png onerror=alert(1)>\n````\n~~~",
    "[click](javascript:alert(1)) ![](http://evil/pixel.png) <http://evil> www.evil.com a@evil.com",
    "| a | b |\n|---|---|\n| **c** | `d` |",
    "# heading\n\n- item\n\n> quote\n\n1. one\n\n---\n\n    code",
    "&lt;b&gt; &#42; \\* \\` \u202e\x1b[31m\x00 \ud800",
]
texts = st.one_of(
    st.text(),
    st.text(alphabet="`~|*_[]()<>!#&;:\\-+=.\n\r\t a1@/"),
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(["```", "`", "\n", "\r\n", "<b>", "](", "http://e.com", "x"]), max_size=12).map("".join),
)


def lines(text):
    return clean(text.replace("\r\n", "\n").replace("\r", "\n"))


@given(texts, texts)
def test_a_fenced_text_is_one_block_of_code_and_nothing_else(text, after):
    found = MARKDOWN.parse(page(fenced(text), fenced(after)))
    assert [token.type for token in found] == ["fence", "fence"]
    assert found[0].content == lines(text) + "\n"
    assert found[1].content == lines(after) + "\n"


@given(texts)
def test_an_escaped_text_is_plain_text(text):
    one_line = " ".join(clean(text).split())
    if not one_line:
        return
    for markdown in (f"a {escaped(text)} z", f"## a {escaped(text)} z"):
        _, inline, _ = MARKDOWN.parse(markdown)
        assert {token.type for token in inline.children} <= {"text", "text_special"}
        assert "".join(token.content for token in inline.children) == f"a {one_line} z"
    assert not BARE.search(escaped(text))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_cells_stay_cells(rows):
    found = MARKDOWN.parse(table(("a", ">b"), rows))
    assert found[0].type == "table_open"
    cells = [token for before, token in itertools.pairwise(found) if before.type == "td_open"]
    shown = ["".join(token.content for token in cell.children) for cell in cells]
    assert shown == [" ".join(clean(value).split()) for row in rows for value in row]
    for cell in cells:
        assert {token.type for token in cell.children} <= {"text", "text_special"}


@given(st.text())
def test_wrapping_loses_nothing(text):
    assert wrapped(text).replace("\n", "") == text.replace("\n", "")


def test_long_lines_are_broken_and_short_ones_kept():
    assert wrapped("a b\n" + "word " * 60).splitlines()[0] == "a b"
    assert max(map(len, wrapped("word " * 60).splitlines())) <= COLUMNS


@pytest.mark.parametrize("figure", ["1,234.5", "12.3 %", "2.51 MB", "–", "+0.02", "63 ms"])
def test_figures_need_no_backslashes(figure):
    assert escaped(figure) == figure


def test_a_picture_is_part_of_the_text():
    svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    trusting = MarkdownIt("commonmark")
    trusting.validateLink = lambda _: True  # by itself it takes data: for a few kinds of picture only
    _, inline, _ = trusting.parse(picture("loss [curve]", svg))
    (image,) = inline.children
    assert image.type == "image"
    kind, _, data = image.attrs["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == svg


def test_empty_parts_leave_nothing():
    assert table(("a",), []) == ""
    assert page("a", "", "b") == "a\n\nb\n"
