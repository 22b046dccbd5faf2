"""Translations of every format: both directions, what is no pair, and what broken files give."""

import gzip
import io
import json
import struct
import zipfile

import polib
import pytest
import zstandard
from frozen_site import FrozenSite, Reply
from helpers_collect import broken, damage, documents, log, read, run, try_read
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.collect.editions import load_edition
from lmcore.collect.pairs import ParallelSource, is_language
from lmcore.collect.unpack import Unreadable
from lmcore.conversation import language
from lmcore.tokens.roles import learnt_spans
from storage.errors import RunError

EN = "The mill stands by the river.\nGood morning!\nOK\nNobody knows.\n"
HU = "A malom a folyó mellett áll.\nJó reggelt!\nOK\n\n"
DTD = 'SYSTEM "tmx14.dtd"'
TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="EN" datatype="plaintext"/><body>
<tu tuid="1"><note>x</note>
<tuv xml:lang="EN-US"><seg>Press <bpt i="1">&lt;b&gt;</bpt><hi>OK</hi><ept i="1">&lt;/b&gt;</ept> now.</seg>
</tuv>
<tuv xml:lang="hu"><seg>Nyomja meg az OK <ph/>gombot.</seg></tuv><tuv xml:lang="hu"><seg>Second.</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Only here</seg></tuv><tuv xml:lang="de"><seg>Nur hier</seg></tuv></tu>
<tu><tuv lang="hu_HU"><seg>alma &amp; körte</seg></tuv><tuv lang="en"><seg>apple &amp; pear</seg></tuv></tu>
</body></tmx>
"""
PO = """# Hungarian of a test.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: hu\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

#: main.c:12
msgid "Open the \\"file\\""
msgstr "A „fájl” "
"megnyitása"

msgctxt "verb"
msgid "Open"
msgstr "Megnyitás"

msgctxt "state"
msgid "Open"
msgstr "Nyitva"

#, fuzzy
#| msgid "Old"
msgid "Close"
msgstr "Zárva?"

msgid "Save"
msgstr ""

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d fájl"
msgstr[1] "%d fájlok"

#~ msgid "Gone"
#~ msgstr "Elveszett"
"""
COUNTED = {"fuzzy": 1, "untranslated": 1, "obsolete": 1}


def mo_of(po):
    return polib.pofile(po).to_binary()


def source(base=".", **params):
    given = {"source_lang": "en", "target_lang": "hu", **params}
    return ParallelSource(**{"name": "pairs", "base": str(base), "paths": (".",), **given})


def taken(tmp_path, name, data, others=None, **params):
    data = data if isinstance(data, bytes) else data.encode()
    return read(source(**params), name, data, tmp_path, others)


def said(items):
    return [(item.turns[1][1], item.turns[2][1]) for item in items]


def test_both_directions_of_moses(tmp_path):
    (tmp_path / "talk.en").write_text(EN)
    (tmp_path / "talk.hu").write_text(HU)
    run(tmp_path / "work", source(tmp_path))
    rows = documents(tmp_path / "work")
    assert [row["url"] for row in rows] == [f"file:talk.en#{n}/{way}" for n in (1, 2) for way in ("en-hu", "hu-en")]
    there, back = rows[:2]
    assert there["text"] == (
        "<system>Translate English to Hungarian.</system><user>The mill stands by the river.</user>"
        "<assistant>A malom a folyó mellett áll.</assistant>"
    )
    assert back["text"] == (
        "<system>Translate Hungarian to English.</system><user>A malom a folyó mellett áll.</user>"
        "<assistant>The mill stands by the river.</assistant>"
    )
    assert there["page_of_origin"] == back["page_of_origin"] == "file:talk.en#1"
    assert (there["lang"], back["lang"], there["kind"]) == ("hu", "en", "pair")
    assert json.loads(back["meta"]) == {"extractor": "moses", "source_lang": "hu", "target_lang": "en"}
    ((start, stop),) = learnt_spans(back["text"], back["turns"], ["assistant"], "row")
    assert back["text"][start:stop] == "The mill stands by the river."
    got = [(row["url"], row["outcome"], row["reason"]) for row in log(tmp_path / "work")]
    assert ("file:talk.hu", "companion", "read with the file in en") in got
    assert ("file:talk.en", "bad_rows", "1 rows: the same in both languages; the first is row 3") in got
    assert ("file:talk.en", "bad_rows", "1 rows: untranslated; the first is row 4") in got
    assert json.loads((tmp_path / "work" / "out" / "stats.json").read_text())["records"] == 4


def test_settings(tmp_path):
    others = {"a.hu": HU.encode()}
    good, _ = taken(tmp_path, "a.en", EN, others, directions="forward", template="script")
    assert [item.part for item in good] == ["1/en-hu", "2/en-hu"]
    assert good[1].text == "System: Translate English to Hungarian.\nUser: Good morning!\nAssistant: Jó reggelt!"
    good, _ = taken(tmp_path, "a.en", EN, others, directions="backward")
    assert [item.part for item in good] == ["1/hu-en", "2/hu-en"]
    for wrong in ({"target_lang": "EN"}, {"source_field": "a"}, {"source_lang": "a b"}, {"directions": "x"}):
        with pytest.raises(ValidationError):
            source(**wrong)


def test_opus_zip(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (("README", "x"), ("Books.en-hu.en", EN), ("Books.en-hu.hu", HU), ("alone.en", EN)):
            archive.writestr(name, text)
    (tmp_path / "en-hu.txt.zip").write_bytes(packed.getvalue())
    run(tmp_path / "work", source(tmp_path))
    rows = documents(tmp_path / "work")
    assert rows[0]["url"] == "file:en-hu.txt.zip#Books.en-hu.en:1/en-hu"
    assert rows[0]["page_of_origin"] == rows[1]["page_of_origin"] == "file:en-hu.txt.zip#Books.en-hu.en:1"
    assert len(rows) == 4
    got = {row["url"]: row["outcome"] for row in log(tmp_path / "work") if row["outcome"] != "bad_rows"}
    assert got == {
        "file:en-hu.txt.zip#Books.en-hu.en": "ok",
        "file:en-hu.txt.zip#Books.en-hu.hu": "companion",
        "file:en-hu.txt.zip#alone.en": "no_pair",
    }


def test_moses_that_do_not_fit(tmp_path):
    with pytest.raises(Unreadable, match=r"damaged: 5 lines and 4 in the other language"):
        taken(tmp_path, "a.en", EN + "more", {"a.hu": HU.encode()})
    with pytest.raises(Unreadable, match=r"no_pair: there is no b\.en beside it"):
        taken(tmp_path, "b.hu", HU)
    good, bad = taken(tmp_path, "c.en", b"\xef\xbb\xbfone\nt\xffwo\n<user>\n", {"c.hu": "egy\r\nkettő\nx".encode()})
    assert said(good) == [("one", "egy"), ("egy", "one")]
    assert bad == {"not UTF-8": [2], "a message that holds a tag": ["3/en-hu", "3/hu-en"]}


def test_tmx(tmp_path):
    for charset in ("utf-8", "utf-16"):
        text = TMX.replace("UTF-8", charset.upper())
        good, bad = taken(tmp_path, "a.tmx", text.encode(charset), directions="forward")
        assert said(good) == [("Press OK now.", "Nyomja meg az OK gombot."), ("apple & pear", "alma & körte")]
        assert [item.part for item in good] == ["1/en-hu", "3/en-hu"]
        assert bad == {"not in both languages": [2]}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (TMX[:-40], "truncated"),
        ("", "truncated"),
        ("no xml", "damaged"),
        (TMX.replace("</seg>", "", 1), "damaged"),
        (TMX.replace("UTF-8", "x-none"), "damaged"),
        (TMX.encode().replace("ö".encode(), b"\xff"), "damaged"),
        (TMX.replace(DTD, '[<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]').replace("Only", "&b;"), "damaged"),
        (TMX.replace(DTD, '[<!ENTITY a SYSTEM "file:///etc/passwd">]').replace("Only", "&a;"),
         "damaged"),
    ],
)  # fmt: skip
def test_tmx_that_is_none(tmp_path, text, outcome):
    with pytest.raises(Unreadable) as error:
        taken(tmp_path, "a.tmx", text)
    assert error.value.outcome == outcome
    assert "passwd" not in error.value.reason


def test_deep_xml(tmp_path):
    deep = "<hi>" * 20_000 + "apple" + "</hi>" * 20_000
    ((item, _), _) = taken(tmp_path, "a.tmx", TMX.replace("Only here", "x").replace("alma &amp; körte", deep)
                           .replace("Press <bpt", "<bpt"), directions="forward")  # fmt: skip
    assert item.turns[1][1] == "OK now."


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_gettext(tmp_path, suffix):
    good, bad = taken(tmp_path, f"a.{suffix}", PO if suffix == "po" else mo_of(PO), directions="forward")
    assert sorted(said(good)) == [
        ("%d file", "%d fájl"),
        ("%d files", "%d fájlok"),
        ("Open", "Megnyitás"),
        ("Open", "Nyitva"),
        ('Open the "file"', "A „fájl” megnyitása"),
    ]
    assert all(item.part.endswith("/en-hu") for item in good)
    assert {problem: len(parts) for problem, parts in bad.items()} == (COUNTED if suffix == "po" else {})


def test_a_catalogue_of_another_language(tmp_path):
    for name, data in (("a.po", PO), ("a.mo", mo_of(PO))):
        with pytest.raises(Unreadable, match="other_language: in hu, not in am"):
            taken(tmp_path, name, data, target_lang="am")
    assert taken(tmp_path, "a.po", PO.replace("Language: hu", "Language: hu_HU"))[0]


def test_one_form_for_all_numbers(tmp_path):
    po = PO.replace('msgstr[1] "%d fájlok"\n', "").replace("hu\\n", "ja\\n")
    good, _ = taken(tmp_path, "a.po", po, directions="forward", target_lang="ja")
    assert ("%d files", "%d fájl") in said(good)
    assert "%d file" not in [given for given, _ in said(good)]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (PO.replace("UTF-8", "ASCII"), "damaged"),
        (PO.encode("latin-1", "replace").replace(b"?", b"\xe1"), "damaged"),
        (PO[: PO.index("Megny") + 4], "truncated"),
        (PO.replace('msgid "Save"', "msgid Save"), "damaged"),
        (PO.replace('msgid "Save"', 'msgid "a"b"'), "damaged"),
        ("no catalogue", "truncated"),
        ("msgstr[x] \"a\"\nmsgid \"b\"", "damaged"),
        ("/etc/passwd", "truncated"),
    ],
)  # fmt: skip
def test_po_that_is_none(tmp_path, text, outcome):
    with pytest.raises(Unreadable) as error:
        taken(tmp_path, "a.po", text)
    assert error.value.outcome == outcome
    assert str(tmp_path) not in error.value.reason


def test_mo_that_is_none(tmp_path):
    whole = mo_of(PO)
    for data, outcome in (
        (b"", "damaged"),
        (whole[:-9], "truncated"),
        (whole[:40], "truncated"),
        (b"x" * 99, "damaged"),
    ):
        with pytest.raises(Unreadable) as error:
            taken(tmp_path, "a.mo", data)
        assert error.value.outcome == outcome
    # a bomb: ten thousand entries that are the same megabyte
    count = 10_000
    tables = b"".join(struct.pack("<II", 10**6, 28 + 16 * count) for _ in range(2 * count))
    bomb = struct.pack("<IIIIIII", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0) + tables + b"x" * 10**6
    with pytest.raises(Unreadable, match="strings that lie over each other"):
        taken(tmp_path, "a.mo", bomb)
    with pytest.raises(Unreadable, match="truncated"):
        taken(tmp_path, "a.mo", struct.pack("<IIIII", 0x950412DE, 0, 2**32 - 1, 28, 28))


@pytest.mark.parametrize(
    ("name", "text", "params"),
    [
        ("a.tsv", "cat\tmacska\ttatoeba\ndog\tkutya", {}),
        ("a.tsv", "id\ten\thu\n1\tcat\tmacska\n2\tdog\tkutya", {}),
        ("a.tsv", "Word\tSzó\ncat\tmacska\ndog\tkutya", {"source_field": "word", "target_field": "szó"}),
        ("a.csv", 'hu,en\n"macska",cat\r\nkutya,"dog"\n', {}),
        ("a.jsonl", '{"translation": {"en": "cat", "hu": "macska"}}\n{"en": "dog", "hu": "kutya"}', {}),
        ("a.jsonl", '{"src": "cat", "tgt": "macska"}\n{"src": "dog", "tgt": "kutya"}',
         {"source_field": "src", "target_field": "tgt"}),
    ],
)  # fmt: skip
def test_tables(tmp_path, name, text, params):
    good, bad = taken(tmp_path, name, text, directions="forward", **params)
    assert said(good) == [("cat", "macska"), ("dog", "kutya")]
    assert not bad
    if name != "a.jsonl":
        good, _ = taken(tmp_path, name, text.encode("utf-16"), directions="forward", **params)
        assert said(good) == [("cat", "macska"), ("dog", "kutya")]


def test_bad_rows_of_tables(tmp_path):
    text = 'a,b\none\n\n,x\ny,\nsame,same\n"q"q,z\nlast,utolsó\n'
    good, bad = taken(tmp_path, "a.csv", text, directions="forward")
    assert said(good)[0] == ("a", "b")
    assert said(good)[-1] == ("last", "utolsó")
    assert bad.pop("too few columns")[0] == 2
    assert bad == {
        "no source text": [4],
        "untranslated": [5],
        "the same in both languages": [6],
        "a quote in the middle of a field": [7],
    }
    _, bad = taken(tmp_path, "a.jsonl", '{"en": "x"}\n{"translation": {"en": 1, "hu": "x"}}\n[]\nx')
    assert bad == {"no text of both languages": [1, 2], "not a JSON object": [3], "not JSON": [4]}
    with pytest.raises(Unreadable, match="no_text_field"):
        taken(tmp_path, "a.tsv", "x\ty", source_field="en", target_field="hu")


def test_old_charsets_of_tables(tmp_path):
    text = "good morning\tjó reggelt\nthe flood\taz árvíztűrő tükörfúrógép\n"
    good, _ = taken(tmp_path, "a.tsv", text.encode("cp1250"), directions="forward")
    assert said(good)[1][1] == "az árvíztűrő tükörfúrógép"


def test_languages():
    assert [language(code) for code in ("en", "hu", "am", "ja", "pt-BR", "qqq")] == [
        "English", "Hungarian", "Amharic", "Japanese", "Portuguese (Brazil)", "qqq"
    ]  # fmt: skip
    assert is_language("en_US.UTF-8", "en")
    assert is_language("EN-GB", "en")
    assert not is_language("eng", "en")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
@example(at=0.21875, junk=b"\0\0", cut=1.0)  # a language of two lines
def test_damaged_bytes(tmp_path, at, junk, cut):
    table = b'en,hu\n"a b",c\nd,"e"\n'
    for name, whole in (("a.tmx", TMX.encode()), ("a.po", PO.encode()), ("a.mo", mo_of(PO)), ("a.csv", table),
                        ("a.tsv", table.replace(b",", b"\t")), ("a.en", EN.encode())):  # fmt: skip
        data = broken(whole, at, junk, cut)
        try_read(source(), name, data, tmp_path, {"a.hu": HU.encode()})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), texts=st.lists(st.text(max_size=9), min_size=2, max_size=2))
def test_any_bytes(tmp_path, data, texts):
    for name in ("a.tmx", "a.po", "a.mo", "a.csv", "a.tsv", "a.jsonl", "a.en"):
        try_read(source(), name, data, tmp_path, {"a.hu": data})
    row = json.dumps(dict(zip(("en", "hu"), texts, strict=True)))
    good, bad = taken(tmp_path, "b.jsonl", row, directions="forward", template="script")
    assert len(good) + sum(map(len, bad.values())) == 1


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_two_packed_files(tmp_path, packing):
    pack = {"gz": gzip.compress, "zst": zstandard.compress}[packing]
    folder = tmp_path / "pair"
    folder.mkdir()
    (folder / f"a.en.{packing}").write_bytes(pack(EN.encode()))
    (folder / f"a.hu.{packing}").write_bytes(pack(HU.encode()))
    run(tmp_path / "1", source(folder))
    alone = documents(tmp_path / "1")
    assert len(alone) == 4
    assert alone[0]["url"] == f"file:a.en.{packing}#1/en-hu"
    (folder / f"a.hu.{packing}").write_bytes(pack(HU.encode())[:-9])
    with pytest.raises(RunError, match=rf"2 truncated .first reason: a.hu.{packing} beside it: breaks off"):
        run(tmp_path / "cut", source(folder))
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("in/a.en.gz", gzip.compress(EN.encode()))
        archive.writestr("in/a.hu", HU)
        archive.writestr("in/b.hu.gz", gzip.compress(HU.encode())[:-9])
    run(tmp_path / "2", source(folder, paths=("all.zip",)))
    assert [row["text"] for row in documents(tmp_path / "2")] == [row["text"] for row in alone]
    got = {row["url"]: row["outcome"] for row in log(tmp_path / "2") if row["outcome"] != "bad_rows"}
    assert got["file:all.zip#in/b.hu.gz"] == "truncated"


def test_two_files_of_a_server(tmp_path):
    """Both come again when one of them has changed: what was read from the other is another text now."""
    pages = {"/en-hu/a.en": Reply(body=EN), "/en-hu/a.hu": Reply(body=HU), "/other/a.hu": Reply(body="x")}
    with FrozenSite(pages=pages) as site:
        params = source(tmp_path, paths=tuple(site.url + path for path in pages))
        run(tmp_path / "1", params)
        first = documents(tmp_path / "1")
        assert first[0]["url"] == f"{site.url}/en-hu/a.en#1/en-hu"
        assert len(first) == 4
        rows = log(tmp_path / "1")
        assert {row["url"].removeprefix(site.url): row["outcome"] for row in rows if row["outcome"] != "bad_rows"} == {
            "/en-hu/a.en": "ok",
            "/en-hu/a.hu": "companion",
            "/other/a.hu": "no_pair",
        }
        again = {
            "parent": tmp_path / "1" / "out",
            "parent_digest": "1" * 64,
            "locate": lambda _: tmp_path / "1" / "out",
        }
        assert run(tmp_path / "2", params, edition="2", **again)["new"] == 0
        site.replies["/en-hu/a.hu"] = [Reply(body=HU.replace("Jó reggelt", "Szép reggelt"))]
        metrics = run(tmp_path / "3", params, edition="3", **again)
        assert (metrics["records"], metrics["new"]) == (4, 2)
        texts = load_edition(tmp_path / "3" / "out", again["locate"])["text"].to_pylist()
        assert sum("Szép reggelt" in text for text in texts) == 2
