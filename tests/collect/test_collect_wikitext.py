"""Wikitext to text: what stays and what goes, and that no text takes the reader down."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.collect.wikitext import Names, Plain, Unparsable, intro, plain, tidy
from lmcore.collect.wikitext_workers import Workers

HU = Names.of([(6, "Fájl"), (6, "Kép"), (14, "Kategória"), (0, ""), (10, "Sablon")])


def text(wikitext, names=HU):
    return plain(wikitext, names).text


SIGNS = (
    "[[ ]] {{ }} {| |} |- | <ref> </ref> <b > /> '' = == * : & # ; &#x110000; <!-- --> ] <nowiki> __TOC__ File: a "
    "\ud800 \0 Ω <div style=' <br> {{{ }}} lang| Category:"
)
MARKUP = [*SIGNS.split(" "), "\n", " ", "[http://a "]


@pytest.mark.parametrize(
    ("wikitext", "told"),
    [
        ("'''Alma''' és ''körte''", "Alma és körte"),
        ("l''''avion''' d''''", "l'avion d'"),
        ("[[Alma]], [[Alma (gyümölcs)|almák]], [[:Kategória:Alma]]", "Alma, almák, Kategória:Alma"),
        ("[[alma]]fa és [[en:Apple]] [[hu:Alma|itt]]", "almafa és itt"),
        ("A[[Fájl:Kép.jpg|bélyegkép|Ez [[itt]] a felirat]]B[[kép:x.png]][[File:x.png]]C", "ABC"),
        ("Szó<ref name=a>Forrás</ref> és<ref name=a /> szó.", "Szó és szó."),
        ("Ez {{sablon|a=b|{{c}}}} eltűnik ({{IPA|x}}; ) is.", "Ez eltűnik is."),
        ("{{lang|ja|日本}} és {{nihongo|Alma|りんご|ringo}}", "日本 és Alma"),
        ("Előtte\n{| class=wikitable\n! a\n|-\n| b || c\n|}\nutána", "Előtte\n\nutána"),
        ("* egy\n* kettő\n## három\n: négy\n; öt", "egy\nkettő\nhárom\nnégy\nöt"),
        ("a<br>b<br/>c <!-- nem --> d", "a\nb\nc d"),
        ("&amp; &lt;b&gt; &#337; &nbsp;x", "& <b> ő x"),
        ("<nowiki>''x'' [[y]]</nowiki>", "''x'' [[y]]"),
        ("[http://x.hu Oldal] és [http://x.hu] és http://y.hu", "Oldal és és http://y.hu"),
        ("<math>x^2</math> <gallery>\nA.jpg|b\n</gallery><code>kód</code>", "kód"),
        ("__NOTOC__\nszöveg", "szöveg"),
        ("{{{név|alap}}} {{{üres}}}", "alap"),
        ("<div>kívül <span>belül</span></div>után", "kívül belül\nután"),
        (
            "== Cím ==\nszöveg\n== Üres ==\n{{x}}\n=== Al ===\n\n=== Al2 ===\nvan\n== Vége ==",
            "== Cím ==\nszöveg\n\n== Üres ==\n=== Al2 ===\nvan",
        ),
        ("=Nagy=\nszöveg", "== Nagy ==\nszöveg"),
    ],
)  # fmt: skip
def test_what_stays(wikitext, told):
    assert text(wikitext) == told


def test_categories_and_pages_that_point_to_others():
    found = plain("a {{Egyért}} [[Kategória:Alma_fák|x]] [[Category:B]] [[Kategória:Alma fák]]", HU)
    assert found.categories == ("Alma fák", "B")
    assert found.disambiguation
    assert plain("__DISAMBIG__", HU).disambiguation
    for name in ("Disambiguation needed", "Dablink", "Geodisplay"):
        assert not plain("{{" + name + "}}", HU).disambiguation
    for name in ("disambig", "Human name disambiguation", "hndis", "Disambiguation cleanup"):
        assert plain("{{" + name + "}}", HU).disambiguation


def test_intro():
    assert intro("a\nb\n\n== C ==\nd") == "a\nb"
    assert intro("a") == "a"


def test_headings_without_text_go_whatever_made_them():
    assert tidy("a\n\n\n== References ==\n\n\n== B ==\nc\n\n=== D ===\n") == "a\n\n== B ==\nc"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(MARKUP),
        max_size=40,
    )
)
def test_any_markup_gives_text(parts):
    check("".join(parts))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_gives_text(wikitext):
    check(wikitext)


def check(wikitext):
    found, problem = Plain(""), ""
    try:
        found = plain(wikitext, HU)
    except Unparsable as error:
        problem = str(error)
    assert "\n" not in problem
    assert found.text == found.text.strip()
    assert tidy(found.text) == found.text, "tidying twice changes nothing"


@pytest.mark.parametrize(
    "mark", ["{{", "[[", "<b>", "{|\n", "''", "<ref>", "[http://a ", "{{{", "==", "<!--", "&", "* ", "<"]
)
def test_a_mark_many_times(mark):
    check(mark * 1000)


def test_longer_than_any_page():
    with pytest.raises(Unparsable, match="more than"):
        plain("a" * 5_000_000, HU)


class TestWorkers:
    def test_in_order_and_with_gaps(self):
        with Workers(2, HU) as workers:
            texts = [(number, None if number % 5 == 0 else f"[[a|{number}]]\ud800") for number in range(100)]
            found = list(workers.read(texts))
        assert [key for key, _ in found] == list(range(100))
        assert all((said is None) == (key % 5 == 0) for key, said in found)
        assert found[7][1] == Plain("7\ud800")

    def test_a_text_that_takes_for_ever_costs_only_itself(self):
        with Workers(1, HU, cpu_seconds=0.5) as workers:
            found = dict(workers.read(enumerate(["a", "<b>" * 30_000, "b"])))
        assert found[0] == Plain("a")
        assert str(found[1]) == "wikitext that takes more than 0.5 s to read"
        assert found[2] == Plain("b")

    def test_nothing_is_started_for_nothing(self):
        with Workers(2, HU) as workers:
            assert list(workers.read([(1, None)])) == [(1, None)]
            assert all(worker._process is None for worker in workers._all)

    def test_modules_of_the_folder_one_is_in_are_not_run(self, tmp_path, monkeypatch):
        for name in ("queue", "json", "sitecustomize"):
            (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n")
        monkeypatch.chdir(tmp_path)
        with Workers(1, HU) as workers:
            (_, found), *_ = workers.read([(1, "A sentence.")])
        assert isinstance(found, Plain)
        assert not (tmp_path / "was-run").exists()
