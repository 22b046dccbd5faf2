"""Texts that this program makes: how many, how unique, always the same, and never in validation."""

import json
import time
from collections import Counter

import pytest
from helpers_collect import digests, documents, log, run
from pydantic import TypeAdapter, ValidationError
from three_stages import curate_folders

from lmcore.collect.kinds import SourceParams
from lmcore.collect.synthetic.generate import generated
from lmcore.collect.synthetic.instructions import draw_tasks
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.collect.synthetic.sentences import Draw
from lmcore.collect.synthetic.stories import draw_story, plots
from lmcore.collect.synthetic.words import names
from lmcore.curate.gates import GatesParams
from lmcore.curate.params import CurateParams
from lmcore.documents import SPLITS
from storage.errors import RunError
from storage.parquet import read_parquet

LAI = {"sentences": 10_000, "stories": 5_000, "translations": 3_000, "instructions": 2_000}
NO_GATES = dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}


def made(**params):
    return list(generated(SyntheticSource(name="made", **params), {}))


def test_the_counts_of_the_lai_document_give_25_000_examples_of_unique_lines():
    started = time.monotonic()
    records = made(**LAI)
    seconds = time.monotonic() - started
    assert len(records) == 25_000
    lines = [line for record in records for line in record.text.split("\n") if line.strip()]
    assert len(lines) == 25_000, "each is one line, as LAi's trainer reads them"
    assert len(set(lines)) / len(lines) >= 0.99
    assert Counter((record.kind, record.lang) for record in records) == {
        ("prose", "hu"): 7_500, ("prose", "en"): 7_500, ("pair", "hu"): 3_000, ("pair", "en"): 3_000,
        ("instruction", "hu"): 2_000, ("instruction", "en"): 2_000,
    }  # fmt: skip
    assert all(record.synthetic for record in records)
    assert seconds < 60, "some 3 s on a machine of its own"


def test_the_same_seed_gives_the_same_bytes_and_another_others(tmp_path):
    few = {"sentences": 60, "stories": 10, "translations": 20, "instructions": 20}
    for name, seed in (("1", 0), ("2", 0), ("3", 7)):
        run(tmp_path / name, SyntheticSource(name="made", seed=seed, **few))
    assert digests(tmp_path / "1" / "out") == digests(tmp_path / "2" / "out")
    texts = [{row["text"] for row in documents(tmp_path / name)} for name in ("1", "3")]
    assert len(texts[0] & texts[1]) <= 2
    rows = documents(tmp_path / "1")
    assert len(rows) == 150
    assert {row["license"] for row in rows} == {"CC0-1.0"}
    assert all(row["synthetic"] and row["parent_record"] is None for row in rows)
    assert {row["outcome"] for row in log(tmp_path / "1")} == {"ok"}
    stats = json.loads((tmp_path / "1" / "out" / "stats.json").read_text())
    assert stats["outcomes"] == {"ok": 150}
    metrics = run(tmp_path / "next", SyntheticSource(name="made", **few), edition="second",
                  parent=tmp_path / "1" / "out", parent_digest="1" * 64)  # fmt: skip
    assert (metrics["new"], metrics["unchanged"]) == (0, 150)


def test_more_texts_keep_the_first_ones():
    fewer, more = made(sentences=50, stories=6, instructions=9), made(sentences=90, stories=20, instructions=30)
    by_url = {record.url: record.text for record in more}
    assert all(by_url[record.url] == record.text for record in fewer)
    english = made(sentences=50, languages=("en",))
    assert {record.lang for record in english} == {"en"}


def test_both_directions_of_a_pair_have_one_origin_and_say_the_same():
    pairs = {}
    for record in made(translations=40):
        pairs.setdefault(record.page_of_origin, []).append(record)
    for there, back in pairs.values():
        assert [role for role, _ in there.turns] == ["system", "user", "assistant"]
        assert [text for _, text in there.turns][1:] == [text for _, text in back.turns][:0:-1]
        english, hungarian = there.turns[1][1], there.turns[2][1]
        assert there.text == (
            f"<system>Translate English to Hungarian.</system><user>{english}</user><assistant>{hungarian}</assistant>"
        )


def test_pairs_mean_the_same():
    """Names, numbers and the words of both sides agree: each English noun of the bank has its Hungarian one."""
    known = {name.hu for name in names()}
    for record in made(translations=300)[::2]:
        english, hungarian = record.turns[1][1], record.turns[2][1]
        said = [word.strip(".?,").removesuffix("'s") for word in english.split()]
        for name in known & set(said):
            assert name[:-1] in hungarian, (english, hungarian)
        assert english.endswith("?") == hungarian.endswith("?")
        assert (" not " in english) == (" nem " in f" {hungarian.lower()} "), (english, hungarian)


@pytest.mark.parametrize("lang", ["hu", "en"])
def test_every_plot_can_be_told_and_answers_its_questions(lang):
    told = [draw_story(Draw("story", number), lang) for number in range(120)]
    assert {story.plot["name"] for story in told} == {plot["name"] for plot in plots()}
    for plot in plots():
        assert len(plot["hu"]) == len(plot["en"])
        assert len(plot["ask"]["hu"]) == len(plot["ask"]["en"])
        assert [len(w) for w in plot["hu"]] == [len(w) for w in plot["en"]], plot["name"]
    for story in told:
        assert len(story.text.split()) >= 50, "what curation wants of prose"
        assert "{" not in story.text + story.title
        assert "\n" not in story.text
        for sentence in story.sentences:
            assert sentence[0].isupper() or sentence[0] in '–"'
        for asked, answer in story.questions():
            assert asked.endswith("?")
            assert answer.endswith(".")
            assert "{" not in asked + answer


def test_answers_are_right():
    seen = Counter()
    for number in range(600):
        for lang in ("hu", "en"):
            for task in draw_tasks(Draw("task", number), lang):
                seen[task.name, lang] += 1
                check(task)
                assert "\n" not in task.asked + task.answer
    assert len(seen) >= 45


def check(task):
    numbers = [int(word) for word in "".join(s if s.isdigit() else " " for s in task.asked).split()]
    told = [int(word) for word in "".join(s if s.isdigit() else " " for s in task.answer).split()]
    if task.name in ("sum", "gain"):
        assert told[-1] == sum(numbers)
    elif task.name == "loss":
        assert told == [numbers[0] - numbers[1]]
        assert told[0] > 0
    elif task.name == "product":
        assert told[-1] == numbers[0] * numbers[1]
    elif task.name == "largest":
        assert told == [max(numbers)]
    elif task.name == "ordered":
        assert told == sorted(numbers)
    elif task.name == "even":
        assert told == [number for number in numbers if number % 2 == 0]
    elif task.name == "story_question":
        known = {name.hu for name in names()}
        assert all(word in task.asked for word in task.answer.rstrip(".").split() if word in known)
    elif task.name == "words":
        sentence = task.asked.split("? ")[1] if "? " in task.asked else task.asked.split(": ")[1]
        assert told == [len(sentence.split())]


def test_made_texts_are_never_held_out(tmp_path):
    """Those of no page that somebody wrote are all for training, wherever their names would be dealt."""
    params = SyntheticSource(name="made", sentences=300, stories=100, translations=100, instructions=100)
    run(tmp_path / "made", params)
    settings = {
        "gates": NO_GATES, "split": {"val": 0.3, "test": 0.2}, "rules": {"off": ["min_words"]},
    }  # fmt: skip
    out = curate_folders(
        tmp_path / "curate", [tmp_path / "made" / "out"], params=CurateParams.model_validate(settings)
    ).out
    decisions = read_parquet(out / "decisions.parquet").to_pylist()
    assert {row["split"] for row in decisions if row["verdict"] == "kept"} == {"train"}
    rules = Counter(row["rule"] for row in decisions)
    assert rules["synthetic_held_out"] == 0
    assert rules["kept"] > 500
    for split in SPLITS[1:]:
        assert all(read_parquet(path).num_rows == 0 for path in (out / split).glob("*.parquet"))
    train = [row for path in (out / "train").glob("*.parquet") for row in read_parquet(path).to_pylist()]
    assert train
    assert all(row["synthetic"] for row in train)
    sides = {}
    for row in decisions:
        if row["url"].startswith("synthetic:0/translations/"):
            sides.setdefault(row["url"].rpartition("/")[0], set()).add(row["rule"])
    assert all(len(rules) == 1 for rules in sides.values()), "both directions of a pair go the same way"


def test_a_section_that_knows_no_more_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("lmcore.collect.synthetic.generate.TRIES", 1)  # then some of thousands are left out
    run(tmp_path / "w", SyntheticSource(name="made", sentences=6_000, languages=("en",)))
    texts = [row["text"] for row in documents(tmp_path / "w")]
    assert len(set(texts)) == len(texts) < 6_000
    assert Counter(row["outcome"] for row in log(tmp_path / "w")) == {"ok": 1, "repeated": 1}
    stats = json.loads((tmp_path / "w" / "out" / "stats.json").read_text())
    assert stats["outcomes"] == {"ok": len(texts), "repeated": 6_000 - len(texts)}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "give `sentences`"),
        ({"sentences": 1, "lang": "hu"}, "say their language themselves"),
        ({"sentences": 1, "languages": ["hu", "hu"]}, "listed twice"),
        ({"from": ["made"]}, "other sources"),
        ({"from": ["a", "a"]}, "each once"),
        ({"sentences": -1}, "greater than or equal to 0"),
        ({"sentences": 1, "languages": ["de"]}, "'hu' or 'en'"),
    ],
)
def test_settings_that_make_no_sense(settings, told):
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(SourceParams).validate_python({"kind": "synthetic", "name": "made", **settings})


def test_nothing_made_is_an_error(tmp_path):
    from helpers_collect import FilesSource

    (tmp_path / "a.txt").write_text("Too short.")
    run(tmp_path / "articles", FilesSource(name="wiki", base=str(tmp_path), paths=("a.txt",), lang="hu"))
    with pytest.raises(RunError, match="nothing was made of wiki: 1 too_short"):
        run(tmp_path / "w", SyntheticSource(name="made", **{"from": ("wiki",)}),
            articles=[tmp_path / "articles" / "out"])  # fmt: skip
