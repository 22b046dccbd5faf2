"""Subtitles of three formats: who says what, what is no speech, where scenes end, and what broken files give."""

import json
import time

import pytest
from helpers_collect import broken, damage, documents, log, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.subtitles import SubtitlesSource
from lmcore.collect.unpack import Unreadable

SRT = """1
00:00:01,000 --> 00:00:03,000
<i>Are you there,</i>
{\\an8}Emo?

2
00:00:03,500 --> 00:00:05,000
- I am.
- [door slams] Come!

3
00:00:05,500 --> 00:00:06,000
♪ la la ♪

4
00:00:06,100 --> 00:00:07,000
(sighs)

5
00:00:20,000 --> 00:00:22,000
PROOG: How many are there?
42

6
00:00:22,500 --> 00:00:23,000
MAN #2: Remember: it is late.
"""
VTT = """WEBVTT - made for a test

STYLE
::cue { color: red }

NOTE nobody says this

first cue
00:01.000 --> 00:03.000 align:start position:0%
<v.loud Roger Bingham>We are in New York City &amp; <b>more</b>

00:00:03.500 --> 00:00:05.000
<v Neil>Didn't you say <00:00:04.000>so?<00:00:04.500> Yes.</v>
<v Roger Bingham>I did.
7

NOTE
nor this
"""
ASS = """[Script Info]
Title: Two Brothers
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,not a number,oops

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ken,0,0,0,,{\\i1}Wait,{\\i0} brother,\\Nwhere are you going?
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ken,0,0,0,,It is late.
Dialogue: 1,0:00:03.00,0:00:04.00,Default,Ken,0,0,0,,It is late.
Comment: 0,0:00:03.10,0:00:04.00,Default,Ken,0,0,0,,A remark.
Dialogue: 0,0:00:03.20,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:03.20,0:00:04.00,Default,,0,0,0,fx,{\\k20}la
Dialogue: 0,0:00:05.00,0:00:06.00,Default,Jun,0,0,0,,Out.
Dialogue: 0,never,0:00:06.00,Default,Jun,0,0,0,,Bad time.
Dialogue: 0,0:00:05.00
"""


def source(base=".", **params):
    return SubtitlesSource(name="films", base=str(base), paths=(".",), **params)


def taken(tmp_path, text, suffix="srt", **params):
    data = text if isinstance(text, bytes) else text.encode()
    return read(source(**params), f"a.{suffix}", data, tmp_path)


def cue(seconds, text):
    return f"00:00:{seconds:02d},000 --> 00:00:{seconds:02d},900\n{text}\n\n"


def test_scenes_of_srt(tmp_path):
    (tmp_path / "A film.srt").write_text(SRT)
    run(tmp_path / "work", source(tmp_path, lang="en"))
    first, second = documents(tmp_path / "work")
    assert first["text"] == "Are you there, Emo?\n- I am.\n- Come!\nla la"
    assert first["url"] == "file:A%20film.srt#1.000"
    assert first["page_of_origin"] == second["page_of_origin"] == "file:A%20film.srt"
    assert (first["kind"], first["title"], first["tags"]) == ("subtitle", "A film", [("work", "A film")])
    assert [turn["role"] for turn in first["turns"]] == ["speaker"] * 4
    meta = json.loads(first["meta"])
    assert meta["cues"] == [[1000, 3000], [3500, 5000], [5500, 6000]]
    assert meta["extractor"] == "pysubs2 srt"
    assert second["text"] == "PROOG: How many are there? 42\nMAN #2: Remember: it is late."
    assert second["turns"] == [
        {"role": "PROOG", "text": "How many are there? 42"},
        {"role": "MAN #2", "text": "Remember: it is late."},
    ]
    assert dict(second["tags"]) == {"work": "A film", "speaker": "MAN #2; PROOG"}


def test_settings(tmp_path):
    assert len(taken(tmp_path, SRT, gap=60.0)[0]) == 1
    assert [item.part for item in taken(tmp_path, SRT, gap=0.0)[0] if item.text] == [
        "1.000", "3.500", "5.500", "20.000", "22.500"
    ]  # fmt: skip
    ((first, _), _) = taken(tmp_path, SRT, strip_sounds=False)
    assert first.text.endswith("- [door slams] Come!\n♪ la la ♪\n(sighs)")


def test_voices_of_vtt(tmp_path):
    ((item,), bad) = taken(tmp_path, VTT, "vtt")
    assert not bad
    assert item.turns == (
        ("Roger Bingham", "We are in New York City & more"),
        ("Neil", "Didn't you say so? Yes."),
        ("Roger Bingham", "I did. 7"),
    )
    assert item.text.startswith("Roger Bingham: We are in New York City & more\nNeil: ")
    assert "nor this" not in item.text


def test_names_of_ass(tmp_path):
    for suffix, text in (("ass", ASS), ("ssa", ASS.replace("Dialogue: 1,", "Dialogue: Marked=0,"))):
        ((item,), bad) = taken(tmp_path, text, suffix)
        assert item.turns == (
            ("Ken", "Wait, brother, where are you going? It is late."),
            ("Jun", "Out."),
        )
        assert (item.title, item.tags) == ("Two Brothers", {"work": "Two Brothers", "speaker": "Jun; Ken"})
        assert bad == {"a cue that could not be read": [18, 19]}


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("- Hi.\n- Hello.", [("speaker", "Hi."), ("speaker", "Hello.")]),
        ("–Hi.\nHow are you?", [("speaker", "Hi. How are you?")]),
        ("Hi.\n— Hello.", [("speaker", "Hi."), ("speaker", "Hello.")]),
        ("- ANNA: Hi.\n- BEN: Hello.", [("ANNA", "Hi."), ("BEN", "Hello.")]),
        ("ANNA (whispering): Hi.", [("ANNA", "Hi.")]),
        ("太郎：おはよう（笑い）", [("太郎", "おはよう")]),
        ("Note: it is 12:30 now.", [("speaker", "Note: it is 12:30 now.")]),
        ("a < b and b > c", [("speaker", "a < b and b > c")]),
        ("-", []),
        ("[rain\nfalls]", []),
        ("<font color='#fff'>Red</font> {y:i}coat", [("speaker", "Red coat")]),
    ],
)
def test_who_says_it(tmp_path, text, turns):
    good, _ = taken(tmp_path, cue(1, text) + cue(2, "The end."))
    assert list(good[0].turns) == [*turns, ("speaker", "The end.")]


def test_a_sentence_over_several_cues(tmp_path):
    text = cue(1, "When I was young,") + cue(2, "The war came") + cue(3, "and went.") + cue(4, "- Yes.")
    ((item,), _) = taken(tmp_path, text)
    assert item.text == "When I was young, The war came and went.\n- Yes."


@pytest.mark.parametrize(
    ("charset", "said"),
    [
        ("utf-8-sig", "Où êtes-vous ? Ça alors, déjà là, mon garçon, à cette heure, près de la forêt ?"),
        ("utf-16", "どこへ行くの、兄さん。"),
        ("cp1252", "Où êtes-vous ? Ça alors, déjà là, mon garçon, à cette heure, près de la forêt ?"),
        ("cp1251", "Где ты был вчера вечером, брат мой? Мы искали тебя повсюду, но не нашли."),
        ("shift_jis", "どこへ行くの、兄さん。もう遅いから家に帰りましょう。母さんが待っているよ。"),
    ],
)
def test_charsets(tmp_path, charset, said):
    data = (cue(1, said) + cue(2, said + "!")).replace("\n", "\r\n").encode(charset)
    for lang in ("und", {"cp1251": "ru", "cp1252": "fr"}.get(charset, "ja")):
        ((item,), _) = taken(tmp_path, data, lang=lang)
        assert said in item.text


def test_the_language_says_what_few_letters_do_not(tmp_path):
    said = "Őszintén szólva, nem tűnik jónak."
    ((item,), _) = taken(tmp_path, cue(1, said).encode("cp1250"), lang="hu")
    assert item.text == said
    assert item.meta["charset"] == "cp1250"


def test_what_is_no_subtitle_file(tmp_path):
    (tmp_path / "page.srt").write_text("<html>Not found</html>")
    (tmp_path / "empty.vtt").write_text("")
    (tmp_path / "header.vtt").write_text("WEBVTT\n")
    (tmp_path / "a.srt").write_text(SRT)
    run(tmp_path / "work", source(tmp_path))
    got = {
        row["url"]: (row["outcome"], row["reason"]) for row in log(tmp_path / "work") if row["outcome"] != "bad_rows"
    }
    assert got["file:page.srt"] == ("damaged", "no cue of srt in it")
    assert got["file:header.vtt"] == ("damaged", "no cue of vtt in it")
    assert got["file:empty.vtt"][0] == "no_text"
    assert got["file:a.srt"][0] == "ok"
    with pytest.raises(Unreadable):
        taken(tmp_path, b"\xff\xfe\x00\xd8" * 9, "ass")


@pytest.mark.parametrize(
    "said",
    ["\n" * 300_000 + "x", "<a" * 100_000, "{" * 100_000, "<v" + " " * 100_000, "{\\p1" * 50_000, "[" * 99_999,
     "- " * 50_000, "\n1" * 50_000, "{}" * 50_000],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["srt", "vtt", "ass"])
def test_no_text_takes_quadratic_time(tmp_path, suffix, said):
    body = f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n\n"
    if suffix == "ass":
        body = ASS + f"Dialogue: 0,0:00:05.00,0:00:06.00,Default,Jun,0,0,0,,{said}\n"
    started = time.process_time()
    try_read(source(), f"a.{suffix}", body.encode(), tmp_path)
    assert time.process_time() - started < 4


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_damaged_bytes(tmp_path, at, junk, cut):
    for suffix, text in (("srt", SRT), ("vtt", VTT), ("ass", ASS), ("ssa", ASS)):
        try_read(source(), f"a.{suffix}", broken(text.encode(), at, junk, cut), tmp_path)


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=30) | st.sampled_from(
    ["", "1", "00:00:01,000 --> 00:00:02,000", "a <00:04.000>b<00:05.000>",
     ":00:04.000 :00:05.00", "00:01.000 --> :00:02.00", "00:03.000 --> 00:01.000", "WEBVTT",
     "NOTE x", "- a", "A: b", "<v X>y",
     "[Events]", "Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ken,0,0,0,,Hi", "Dialogue: 0,-0:00:01.00,x,,,,,,,Hi", "♪"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=20), gap=st.floats(0, 20), keep=st.booleans())
def test_any_lines(tmp_path, lines, gap, keep):
    for suffix in ("srt", "vtt", "ass"):
        try_read(source(gap=gap, strip_sounds=keep), f"a.{suffix}", "\n".join(lines).encode(), tmp_path)
