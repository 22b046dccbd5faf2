"""Dumps of Stack Exchange: folders and .7z archives, answers before their questions, and what damaged ones give."""

import io
import json
import random
import resource
import signal
import sys
import tracemalloc
import zlib
from datetime import date
from xml.sax.saxutils import quoteattr

import py7zr
import pytest
from helpers_collect import broken, damage, digests, documents, log, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_collect_kill import finish, start

from lmcore.collect import unpack_7z
from lmcore.collect.html_markdown import markdown
from lmcore.collect.stackexchange import FORMATS, StackexchangeSource, licence, tag_names
from lmcore.collect.unpack import Member, Unreadable, opened
from storage.errors import RunError, StorageError

CODE = "<p>Use <code>sorted</code>:</p>\n<pre><code>for x in sorted(a):\n    print(x)\n</code></pre>\n"
NEW = "CC BY-SA 4.0"


def post(number, kind, body="<p>Text.</p>", **more):
    facts = {"Id": number, "PostTypeId": kind, "Score": 1, "Body": body, "CreationDate": "2020-05-01T10:00:00.000"}
    facts |= {"ContentLicense": NEW, "OwnerUserId": 7} | more
    return "  <row " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in facts.items() if v is not None) + " />\n"


def dump(*rows):
    return ('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n' + "".join(rows) + "</posts>\n").encode()


POSTS = dump(
    post(11, 2, "<p>Best, not accepted.</p>", ParentId=10, Score=90, ContentLicense="CC BY-SA 3.0"),
    post(10, 1, f"<p>How do I sort?</p>{CODE}", Title="Sorting &", AcceptedAnswerId=12, Tags="<python><sorting>"),
    post(12, 2, CODE, ParentId=10, Score=-3, OwnerUserId=None, OwnerDisplayName="Ann"),
    post(13, 2, "<p>Bad.</p>", ParentId=10, Score=-5),
    post(14, 1, "<p>Nobody knows.</p>", Title="Alone"),
    post(15, 4, "wiki"),
    post(16, 1, "<p>Low.</p>", Title="Low", Score=-1),
    post(17, 2, "<p>An answer to a low one.</p>", ParentId=16),
    post("x", 2, ParentId=10),
    post(18, 2),
    post(10, 1, Title="Again"),
    post(19, 1, ""),
    post(20, None),
    post(21, 1, ContentLicense="MIT"),
)


def source(base=".", **params):
    return StackexchangeSource(**{"name": "se", "base": str(base), "paths": (".",), **params})


def test_question_and_answers(tmp_path):
    (good,), bad = read(source(max_answers=3), "Posts.xml", POSTS, tmp_path)
    assert (good.part, good.title, good.license) == (10, "Sorting &", "CC-BY-SA-3.0 AND CC-BY-SA-4.0")
    code = "Use `sorted`:\n\n```\nfor x in sorted(a):\n    print(x)\n```"
    assert good.text == f"Q: Sorting &\n\nHow do I sort?\n\n{code}\n\nA: {code}\n\nA: Best, not accepted."
    assert [role for role, _ in good.turns] == ["user", "assistant", "assistant"]
    assert good.turns[1][1] == code
    assert good.tags == {"tags": "python sorting"}
    assert good.meta["answers"] == [
        {"id": 12, "score": -3, "accepted": True, "owner": "Ann"},
        {"id": 11, "score": 90, "accepted": False, "owner": "7"},
    ]
    assert bad == {
        "no number in Id": [9],
        "no number in ParentId": [10],
        "a second post of this Id": [11],
        "a post without text": [12],
        "no PostTypeId": [13],
        "a licence that is not known": [14],
        "no answer": [14],
        "a question of a low score": [16],
    }
    (one,), _ = read(source(), "Posts.xml", POSTS, tmp_path)
    assert [answer["id"] for answer in one.meta["answers"]] == [12], "the accepted one, whatever its score"


@pytest.mark.parametrize("damaged", [POSTS[:-12], POSTS[:700], b"", b"no xml", POSTS.replace(b"</posts>", b"</post>")])
def test_a_dump_cut_short_gives_nothing(tmp_path, damaged):
    with pytest.raises(Unreadable, match=r"truncated|damaged"):
        read(source(), "Posts.xml", damaged, tmp_path)


def test_entities_are_not_read(tmp_path):
    bomb = b'<!DOCTYPE posts [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><posts><row Id="&b;"/></posts>'
    with pytest.raises(Unreadable, match="entities of its own"):
        read(source(), "Posts.xml", bomb, tmp_path)


def seven(files, **settings):
    packed = io.BytesIO()
    with py7zr.SevenZipFile(packed, "w", **settings) as archive:
        for name, data in files.items():
            archive.writestr(data, name)
    return packed.getvalue()


def test_a_7z_archive_and_a_folder_give_the_same(tmp_path):
    users = b"<users/>"
    for place in ("folder", "archive"):
        (tmp_path / place).mkdir()
    (tmp_path / "folder" / "Posts.xml").write_bytes(POSTS)
    (tmp_path / "folder" / "Users.xml").write_bytes(users)
    (tmp_path / "archive" / "x.7z").write_bytes(seven({"Posts.xml": POSTS, "Users.xml": users, "a.txt": b"x"}))
    texts = {}
    for place in ("folder", "archive"):
        run(tmp_path / f"{place}-work", source(tmp_path / place))
        texts[place] = {row["url"]: row["text"] for row in documents(tmp_path / f"{place}-work")}
        outcomes = {row["url"].split("/")[-1]: row["outcome"] for row in log(tmp_path / f"{place}-work")}
        assert "companion" in outcomes.values()
    assert list(texts["folder"]) == ["file:Posts.xml#10"]
    assert list(texts["archive"]) == ["file:x.7z#Posts.xml:10"]
    assert list(texts["folder"].values()) == list(texts["archive"].values())
    (row,) = documents(tmp_path / "folder-work")
    assert (row["kind"], row["license"], row["license_source"]) == ("qa", NEW.replace(" ", "-"), "file")
    assert json.loads(row["meta"])["extractor"] == "stackexchange"
    stats = json.loads((tmp_path / "folder-work" / "out" / "stats.json").read_text())
    assert stats["bad_rows"]["no answer"] == 1


def members(tmp_path, data, max_bytes=10_000_000):
    (tmp_path / "a.7z").write_bytes(data)
    with opened(tmp_path / "a.7z", "a.7z", tmp_path, max_bytes, lambda name: name.endswith(".xml")) as found:
        return {member.inside: member.refusal or member.path.read_bytes() for member in found}


def test_7z_archives_that_are_not_honest(tmp_path, monkeypatch):
    climbing = seven({"Posts.xml": b"good", "in/Posts.xml": b"evil", "other.bin": b"x" * 100})
    assert members(tmp_path, climbing) == {"Posts.xml": b"good", "in/Posts.xml": b"evil"}
    bomb = seven({"Posts.xml": b"0" * 30_000_000, "b.xml": b"small"})
    assert len(bomb) < 20_000
    with pytest.raises(Unreadable, match="too_large: more than 1,000,000 bytes unpacked"):
        members(tmp_path, bomb, 1_000_000)
    with pytest.raises(Unreadable, match="encrypted"):
        members(tmp_path, seven({"Posts.xml": b"x" * 1000}, password="secret"))
    with pytest.raises(Unreadable, match=r"encrypted|damaged"):
        members(tmp_path, seven({"Posts.xml": b"x" * 1000}, password="secret", header_encryption=True))
    monkeypatch.setattr(unpack_7z, "MAX_DICTIONARY", 2**19)
    for method in (py7zr.FILTER_LZMA, py7zr.FILTER_LZMA2):
        for size, fits in ((2**20, False), (2**19, True)):
            data = seven({"Posts.xml": b"x" * 1000}, filters=[{"id": method, "dict_size": size}])
            if fits:
                assert members(tmp_path, data) == {"Posts.xml": b"x" * 1000}
                continue
            with pytest.raises(Unreadable, match="too_large: unpacking needs more than 524,288 bytes of memory"):
                members(tmp_path, data)
    assert not list(tmp_path.glob("unpacked"))


@pytest.mark.parametrize("name", ["../Posts.xml", "/etc/Posts.xml", "in/../../Posts.xml"])
def test_a_name_that_climbs_out_of_a_7z(tmp_path, name):
    """py7zr does not write such a name: it is put in the place of one of the same length."""
    stand_in = name.replace(".", "a").replace("/", "b")[: -len("bPosts.xml")] + "bPostsaxml"
    packed = io.BytesIO()
    with py7zr.SevenZipFile(packed, "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"evil", stand_in)
        archive.writestr(b"good", "Posts.xml")
    data = packed.getvalue()
    assert stand_in.encode("utf-16-le") in data
    changed = repaired(data.replace(stand_in.encode("utf-16-le"), name.encode("utf-16-le")))
    found = members(tmp_path, changed)
    assert found["Posts.xml"] == b"good"
    assert found[name][0] == "outside"


def repaired(data):
    """The archive with the checksums of the header that it has now (7zFormat.txt, "SignatureHeader")."""
    at, size = (int.from_bytes(data[place : place + 8], "little") for place in (12, 20))
    crc = zlib.crc32(data[32 + at : 32 + at + size]).to_bytes(4, "little")
    begin = data[12:28] + crc
    return data[:8] + zlib.crc32(begin).to_bytes(4, "little") + begin + data[32:]


def test_without_py7zr_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py7zr", None)
    (tmp_path / "x.7z").write_bytes(b"7z")
    with pytest.raises(RunError, match=r"collect-train\[sevenzip\]"):
        run(tmp_path / "work", source(tmp_path, paths=("x.7z",)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_a_damaged_7z(tmp_path, at, junk, cut):
    whole = seven({"Posts.xml": POSTS, "in/Posts.xml": POSTS})
    try:
        assert all(len(data) <= 10_000_000 for data in members(tmp_path, broken(whole, at, junk, cut)).values())
    except Unreadable as error:
        if "\n" in error.reason or str(tmp_path) in error.reason:
            raise


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_a_damaged_dump(tmp_path, at, junk, cut):
    try_read(source(max_answers=3), "Posts.xml", broken(POSTS, at, junk, cut), tmp_path)


_XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=60)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(_XML_TEXT, min_size=2, max_size=4), title=_XML_TEXT, tags=_XML_TEXT)
def test_any_posts(tmp_path, bodies, title, tags):
    rows = [post(1, 1, bodies[0], Title=title, Tags=tags)]
    rows += [post(place, 2, body, ParentId=1) for place, body in enumerate(bodies[1:], 2)]
    try_read(source(max_answers=3), "Posts.xml", dump(*rows), tmp_path)


@given(
    st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))),
    st.sampled_from(["", "<pre>", "<ul><li>"]),
)
def test_any_html_becomes_text(fragment, before):
    assert "\0" not in markdown(before + fragment)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One <b>bold</b>\nline.</p><p>Two<br>lines</p>", "One **bold** line.\n\nTwo\nlines"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "- a\n- b\n\n  - c"),
        (
            "<ol><li><p>x</p><pre><code>  y\n\n\n  z</code></pre></li></ol>",
            "1. x\n\n   ```\n     y\n\n\n     z\n   ```",
        ),
        ("<blockquote><p>said</p><p>more</p></blockquote><p>b</p>", "> said\n>\n> more\n\nb"),
        ("<pre><code>a &lt; b &amp;&amp; c\n```\n</code></pre>", "````\na < b && c\n```\n````"),
        ("<p>a <a href='https://x'>link</a> <img alt='picture'> <code>a`b</code></p>", "a link picture `` a`b ``"),
        ("<h2>Head</h2>text<script>x</script><hr>", "## Head\n\ntext\n\n---"),
        ("<p>1 &lt; 2", "1 < 2"),
        ("", ""),
        ("<div>" * 3000 + "deep", "deep"),
    ],
)
def test_html_to_markdown(html, text):
    assert markdown(html) == text


@pytest.mark.parametrize(
    ("day", "spdx"),
    [(date(2011, 4, 7), "2.5"), (date(2011, 4, 8), "3.0"), (date(2018, 5, 1), "3.0"), (date(2018, 5, 2), "4.0")],
)
def test_licences_by_date(day, spdx):
    assert licence({"CreationDate": f"{day}T00:00:00.000"}) == f"CC-BY-SA-{spdx}"


def test_names_of_tags():
    assert tag_names("<a><b-c>") == tag_names("|a|b-c|") == ["a", "b-c"]


def many(count):
    for number in range(0, 2 * count, 2):
        yield post(number + 2, 2, f"<p>The answer {number} {'x' * 800}</p>", ParentId=number + 1)
        yield post(number + 1, 1, f"<p>The question {number} {'y' * 800}</p>", Title=f"T{number}")


def test_memory_is_flat(tmp_path):
    """4 MB of posts, of which never more than a few are in memory."""
    params = source()
    with open(tmp_path / "Posts.xml", "wb") as file:
        file.write(b"<posts>\n")
        for row in many(2_500):
            file.write(row.encode())
        file.write(b"</posts>")
    assert (tmp_path / "Posts.xml").stat().st_size > 4_000_000
    tracemalloc.start()
    found = sum(1 for item in FORMATS["posts.xml"](Member("Posts.xml", tmp_path / "Posts.xml"), params) if item.text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 2_500
    assert peak < 1_500_000


@pytest.mark.parametrize(
    ("count", "point"),
    [(30, "collect.documents-written"), pytest.param(11_000, "collect.documents-written:2", marks=pytest.mark.slow)],
)
def test_killed_and_begun_again(tmp_path, count, point):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "Posts.xml").write_bytes(dump(*many(count)))
    params = source(tmp_path / "dump")
    code, _ = finish(start(tmp_path, params, point))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, params))
    assert (code, json.loads(output)["records"]) == (0, count)
    run(tmp_path / "undisturbed", params)
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
    assert not list((tmp_path / "work").glob("unpacked"))


def test_no_room_for_what_is_put_by(tmp_path):
    """A limit on the size of files refuses as a full disk does; SIGXFSZ is ignored by Python."""
    rows = (
        f'<row Id="{number}" PostTypeId="1" Score="1" Title="t" Body="{random.Random(number).randbytes(400).hex()}" '
        'CreationDate="2020-01-01" ContentLicense="CC BY-SA 4.0"/>\n'
        for number in range(1, 4000)
    )
    (tmp_path / "Posts.xml").write_text(f"<posts>\n{''.join(rows)}</posts>")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        with pytest.raises(StorageError, match=r"disk full while writing .*posts\.sqlite"):
            run(tmp_path / "work", StackexchangeSource(name="s", paths=(str(tmp_path / "Posts.xml"),)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
