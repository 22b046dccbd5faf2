"""Questions and summaries made of collected articles."""

import json
from collections import Counter

import pytest
from helpers_collect import FilesSource, digests, documents, log, run
from hypothesis import given
from hypothesis import strategies as st
from three_stages import curate_folders

from lmcore.collect.synthetic.articles import NothingMade, made_of, templates, topic_of
from lmcore.collect.synthetic.cutting import sentences
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.curate.gates import GatesParams
from lmcore.curate.normalise import normalise
from lmcore.curate.params import CurateParams
from lmcore.tokens.roles import learnt_spans
from storage.parquet import read_parquet

ADDIS = (
    "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት። ከተማዋ በ1879 ዓ.ም. ተመሠረተች። በአዲስ አበባ ብዙ ሕዝብ ይኖራል። "
    "የአፍሪካ ኅብረት ዋና ጽሕፈት ቤት በአዲስ አበባ ይገኛል። ከተማዋ በተራሮች የተከበበች ናት።"
)
COFFEE = "የኢትዮጵያ ቡና በዓለም ታዋቂ ነው፡፡ ገበሬዎች በዚህ ዓመት ብዙ ቡና ሸጡ፡፡ የኢትዮጵያ ቡና ዋጋ ጨምሯል፡፡ ኢትዮጵያ ከአፍሪካ ትልቋ ቡና አምራች ናት፡፡"
DUNA = (
    "A Duna Európa második leghosszabb folyója. A Fekete-erdőben ered. Budapest a Dunán fekszik. "
    "A folyó a Fekete-tengerbe torkollik. A Dunának sok mellékfolyója van."
)
MERCURY = (
    "Mercury is the first planet from the Sun. It is the smallest planet. Dr. Smith wrote that Mercury's orbit is "
    "eccentric. Its surface is heavily cratered. The day is long."
)


def source(**params):
    return SyntheticSource(**({"name": "made", "from": ("wiki",), "min_chars": 50} | params))


def article(title, text, lang, **changes):
    return {
        "title": title, "text": text, "lang": lang, "url": "http://wiki/a", "record_id": "0" * 32, "kind": "prose",
        "page_of_origin": "http://wiki/a", "license": "CC-BY-SA-4.0", "license_source": "page", "tags": [],
        "synthetic": False, "source": "wiki", **changes,
    }  # fmt: skip


def test_an_amharic_article():
    made = {record.meta["template"]: record for record in made_of(article("አዲስ አበባ", ADDIS, "am"), source())}
    assert made["question-1"].text == ("ርዕስ: አዲስ አበባ\nጥያቄ: ስለ አዲስ አበባ ምን ይታወቃል?\nመልስ: አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።")
    assert made["question-2"].turns[1][1].count("።") == 3
    assert made["question-3"].turns[1][1] == "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት። በአዲስ አበባ ብዙ ሕዝብ ይኖራል።"
    assert made["summary"].text == (
        f"መመሪያ: የሚከተለውን ጽሑፍ በአጭሩ አጠቃልል።\nግብዓት: {ADDIS}\nውጤት: አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት። ከተማዋ በ1879 ዓ.ም. ተመሠረተች።"
    )
    for record in made.values():
        assert (record.license, record.license_source, record.lang) == ("CC-BY-SA-4.0", "page", "am")
        assert (record.synthetic, record.parent_record) == (True, "0" * 32)
        assert record.page_of_origin == "http://wiki/a"


@pytest.mark.parametrize(
    ("title", "text", "lang", "topic"),
    [
        ("የኢትዮጵያ ቡና ገበያ በዓለም አቀፍ ደረጃ እየጨመረ ነው - BBC News አማርኛ", COFFEE, "am", "ኢትዮጵያ ቡና"),
        ("Duna", DUNA, "hu", "Duna"),
        ("Mercury (planet)", MERCURY, "en", "Mercury"),
        ("The Danube: a river of Europe", "Europe has a Danube. Europe is old.", "en", "Europe"),
        ("Old hall reopens", "The hall was closed. Nobody came. It rained.", "en", None),
        ("", DUNA, "hu", None),
        ("- | -", DUNA, "hu", None),
    ],
)
def test_topics(title, text, lang, topic):
    found = topic_of(title, sentences(text), templates()[lang])
    assert (found and found.name) == topic


def test_sentences_are_cut_where_they_end():
    assert len(sentences(ADDIS)) == 5, "ዓ.ም. ends none"
    assert len(sentences(COFFEE)) == 4
    assert len(sentences(MERCURY)) == 5
    assert sentences("– Jó! – mondta Anna. A 3. Béla itt volt pl. Pesten. Vége") == [
        "– Jó! – mondta Anna.", "A 3. Béla itt volt pl. Pesten.", "Vége",
    ]  # fmt: skip
    assert sentences('"Stop!" he said. Is it 3.5? Yes… Good.\n\nA heading\nEnd.') == [
        '"Stop!" he said.', "Is it 3.5?", "Yes…", "Good.", "A heading", "End.",
    ]  # fmt: skip


@given(st.text(max_size=300))
def test_cutting_loses_nothing(text):
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(piece == piece.strip() != "" for piece in found)


@given(
    title=st.text(max_size=40) | st.sampled_from(["አዲስ አበባ", "Duna", "The Danube"]),
    text=st.lists(st.text(max_size=40) | st.sampled_from([ADDIS, DUNA, MERCURY, "<user>", "\u0338. A"])).map(" ".join),
    lang=st.sampled_from(["am", "hu", "en", "de", "und", "hu-HU"]),
    template=st.sampled_from(["labels", "tags", "script"]),
    size=st.integers(50, 400),
)
def test_any_article_gives_texts_with_their_turns_or_a_reason(title, text, lang, template, size):
    params = source(article_template=template, min_chars=1, max_input_chars=size)
    made, told = [], ""
    try:
        made = made_of(article(title, text, lang), params)
    except NothingMade as error:
        told = f"{error.outcome}: {error.reason}"
    assert bool(made) != bool(told)
    assert not told or told.startswith(("other_language: ", "too_short: ", "no_topic: "))
    assert "\n" not in told
    for record in made:
        for written, clean in ((record.text, str), (normalise(record.text), normalise)):
            turns = [{"role": role, "text": clean(said)} for role, said in record.turns]
            assert len(learnt_spans(written, turns, ["assistant"], "it")) == 1


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"kind": "chat"}, "other_kind"),
        ({"synthetic": True}, "other_kind"),
        ({"lang": "de"}, "other_language"),
        ({"text": "Rövid."}, "too_short"),
        ({"title": "Tisza", "text": "A Duna. " * 10 + "x" * 2000}, None),
        ({"title": "Tisza", "text": "a duna folyik " * 10}, "no_topic"),
    ],
)
def test_articles_of_which_nothing_is_made(changes, outcome):
    if outcome is None:
        assert [record.meta["template"] for record in made_of(article("Duna", DUNA, "hu") | changes, source())] == [
            "summary"
        ]
        return
    with pytest.raises(NothingMade) as error:
        made_of(article("Duna", DUNA, "hu") | changes, source())
    assert error.value.outcome == outcome


def collected(folder, count=40, title="Duna {n}"):
    rows = [
        {"title": title.format(n=n), "text": f"A Duna {n} nagy folyó. Itt {n} hajó jár. A Duna {n} hosszú. " * 6}
        for n in range(count)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "wiki.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wiki = FilesSource(name="wiki", base=str(folder), paths=("wiki.jsonl",), lang="hu", license="CC-BY-SA-4.0")
    run(folder / "wiki", wiki)
    return folder / "wiki" / "out", wiki


def test_what_is_made_follows_its_article(tmp_path):
    """Through curation: what is made of a held-out article is dropped, the rest is in training beside it."""
    articles, _ = collected(tmp_path)
    metrics = run(tmp_path / "made", source(), articles=[articles])
    assert metrics["records"] == metrics["new"] == metrics["unique"] == metrics["asked"] == 160
    assert metrics["failed"] == 0
    parents = {row["record_id"]: row for row in documents(tmp_path / "wiki")}
    for row in documents(tmp_path / "made"):
        parent = parents[row["parent_record"]]
        assert row["page_of_origin"] == parent["page_of_origin"]
        assert (row["synthetic"], row["license"], row["kind"]) == (True, "CC-BY-SA-4.0", "instruction")
    gates = dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}
    params = CurateParams.model_validate({"gates": gates, "split": {"val": 0.3, "test": 0.2}})
    out = curate_folders(tmp_path / "curate", [articles, tmp_path / "made" / "out"], params=params).out
    decisions = read_parquet(out / "decisions.parquet").to_pylist()
    made = [row for row in decisions if row["source"] == "made"]
    assert {row["split"] for row in made if row["verdict"] == "kept"} == {"train"}
    held_out = {row["url"].partition("/")[2] for row in made if row["rule"] == "synthetic_held_out"}
    kept = {row["url"].partition("/")[2] for row in made if row["verdict"] == "kept"}
    assert held_out
    assert kept
    assert not held_out & kept


def test_the_same_bytes_whatever_edition_holds_the_articles(tmp_path):
    """An edition that refers to another one for its articles gives what one gives that has them all."""
    whole, wiki = collected(tmp_path)
    rows = (tmp_path / "wiki.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "wiki.jsonl").write_text("".join(rows[:25]))
    run(tmp_path / "first", wiki)
    (tmp_path / "wiki.jsonl").write_text("".join(rows))
    first = tmp_path / "first" / "out"
    run(tmp_path / "second", wiki, edition="first", parent=first, parent_digest="1" * 64, locate=lambda _: first)
    run(tmp_path / "a", source(), articles=[whole])
    run(tmp_path / "b", source(), articles=[tmp_path / "second" / "out"], locate=lambda _: first)
    assert digests(tmp_path / "a" / "out") == digests(tmp_path / "b" / "out")


def test_a_page_that_two_sources_have_gives_texts_of_each(tmp_path):
    articles, wiki = collected(tmp_path, 3)
    run(tmp_path / "other", wiki.model_copy(update={"name": "other"}))
    run(tmp_path / "made", source(**{"from": ("wiki", "other")}), articles=[articles, tmp_path / "other" / "out"])
    made = documents(tmp_path / "made")
    assert len({row["url"] for row in made}) == len(made)
    by_source = Counter(row["url"].split("/")[1] for row in made)
    assert by_source["wiki"] == by_source["other"] > 0


def test_the_log_names_every_article_that_gave_nothing(tmp_path):
    articles, _ = collected(tmp_path, 3)
    run(tmp_path / "made", source(sentences=4), articles=[articles])
    rows = log(tmp_path / "made")
    assert [(row["url"], row["outcome"]) for row in rows][:2] == [
        ("synthetic:0/sentences", "ok"), ("synthetic:question-1/wiki/file:wiki.jsonl#1", "ok"),
    ]  # fmt: skip
    metrics = run(tmp_path / "long", source(min_chars=10_000, sentences=4), articles=[articles])
    assert (metrics["records"], metrics["failed"]) == (4, 0)
    assert [row["url"] for row in log(tmp_path / "long") if row["outcome"] == "too_short"] == [
        f"file:wiki.jsonl#{n}" for n in (1, 2, 3)
    ]
