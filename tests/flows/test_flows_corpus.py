"""The commands about a corpus: card, sample, stats, export; why with what a text overlaps with; sql with a comment."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from corpus_store import EMAIL, make_corpus, whole_store
from rich.console import Console
from store_words import text_of

from flows.card import show_card
from flows.corpora import corpus_of
from flows.corpus import _known
from flows.line_stats import show_stats
from flows.look import show_why
from flows.sample import show_sample
from flows.train_text import export_text
from lmcore.curate.line_files import vocabulary_size
from lmcore.curate.privacy import blank
from lmcore.recipe import load_recipe
from storage.catalog import Catalog
from storage.errors import RunError, UserError
from storage.parquet import write_parquet
from storage.store import Store
from tasks.compare import compare
from tasks.progress import terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return whole_store(tmp_path_factory.mktemp("corpus"))


def told(work):
    """What `work(console)` prints, and what it gives."""
    out = io.StringIO()
    given = work(Console(file=out, width=160, highlight=False))
    return out.getvalue(), given


def shell(command, path):
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(["bash", "-c", command, "-", str(path)], capture_output=True, check=True, env=environment)
    return int(done.stdout)


def cells(printed):
    """Cells of printed tables by the first of their row."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in printed.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def test_a_card_is_written_and_its_four_counts_are_told(made, tmp_path):
    store, corpus = made
    printed, _ = told(lambda console: show_card(store, f"curate/{corpus.key}", tmp_path / "c.html", console))
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines[:2]] == ["64", "62"]
    tree = [line for line in printed.splitlines() if " → " in line]
    assert tree[0].startswith("all sources")
    assert "64 collected → 62 unique" in tree[0]
    collected = [int(re.search(r"(\d+) collected", line)[1]) for line in tree]
    assert sum(collected[1:]) == collected[0] == 64
    assert tree[-1].startswith("└─ ")
    assert "corpus card" in (tmp_path / "c.html").read_text()
    with pytest.raises(UserError, match="is a folder"):
        show_card(store, f"curate/{corpus.key}", tmp_path, Console(file=io.StringIO()))


def test_a_corpus_is_found_by_what_was_made_of_it(made):
    store, corpus = made
    tokens = next(a for a in store.artifacts("tokens") if corpus.key in [e.key for e in a.manifest.provenance.inputs])
    assert corpus_of(store, f"tokens/{tokens.key}") == corpus
    with pytest.raises(UserError, match="was made of none"):
        corpus_of(store, f"collect/{next(store.artifacts('collect')).key}")
    with pytest.raises(UserError, match="no corpus of the recipe quickstart"):
        corpus_of(store, "quickstart")


def test_of_an_empty_store_there_is_no_corpus(tmp_path):
    with pytest.raises(UserError, match="has no corpus"):
        corpus_of(Store(tmp_path), "")


def test_a_sample_of_what_a_rule_dropped_tells_value_and_limit_masked(made):
    store, corpus = made
    settings = {"dropped": "min_words", "split": "train", "n": 20, "seed": 0}
    printed, _ = told(lambda console: show_sample(store, corpus.key, console, **settings))
    assert printed.count("rule min_words, value") == 5
    assert "limit 50" in printed
    assert "Only a few words, number 2." in printed
    assert "<email>" in printed
    assert EMAIL not in printed
    again, _ = told(lambda console: show_sample(store, corpus.key, console, **settings | {"n": 3}))
    assert printed.startswith(again), "equal seeds, equal order"
    other, _ = told(lambda console: show_sample(store, corpus.key, console, **settings | {"seed": 1}))
    assert sorted(other) == sorted(printed)
    assert other != printed


def test_a_sample_of_what_is_kept(made):
    store, corpus = made
    printed, _ = told(lambda console: show_sample(store, corpus.key, console, dropped="", split="val", n=2, seed=0))
    assert printed.count("split val, quality") == 2
    assert "the end" in printed


@pytest.mark.parametrize(
    ("settings", "what", "mend"),
    [
        ({"dropped": "min_word"}, "no rule 'min_word'", "did you mean min_words?"),
        ({"dropped": "zzz' OR true --"}, "no rule", "those that did: "),
        ({"dropped": "max_words"}, "max_words dropped no text", "those that did: "),
        ({"dropped": "max_template"}, "no rule 'max_template' dropped a text", "those that did: "),
        ({"dropped": "exact_duplicates"}, "no rule", "did you mean exact_duplicate? those that did: "),
        ({"split": "dev"}, "no split 'dev'", "train, val and test"),
    ],
)
def test_a_sample_of_nothing_names_what_there_is(made, settings, what, mend):
    store, corpus = made
    with pytest.raises(UserError) as caught:
        show_sample(store, corpus.key, Console(), **{"dropped": "", "split": "train", "n": 1, "seed": 0} | settings)
    assert what in caught.value.what
    assert mend in caught.value.mend
    if settings.get("dropped"):
        rules = caught.value.mend.partition("those that did: ")[2].split(", ")
        sql = f"SELECT DISTINCT rule FROM decisions WHERE artifact = '{corpus.key}' AND verdict = 'dropped'"
        assert set(rules) == set(Catalog(store).query(sql)["rule"].to_pylist())
        assert "did you mean" not in caught.value.mend or caught.value.mend[13:].partition("?")[0] in rules


def test_wc_grep_and_sort_agree_with_the_stats_of_what_is_exported(tmp_path):
    """Also for texts with lines that other programs might break: other separators, blank lines, equal lines."""
    given = {f"page-{n}": text_of(n) for n in range(12)}
    given["odd"] = (
        text_of(30).replace("\n", "\n\n  \n") + "\nthe end\nthe end\nThe end\u2028of\x85it\u3000\x0cand\rmore"
    )
    given["amharic"] = "ሰላም ለዓለም ይሁን።\nሰላም ለሁሉም ይሁን።\n" * 20 + text_of(31)
    store = Store(tmp_path / "store")
    corpus = make_corpus(store, given, with_tokens=False)
    for split in ("train", "all"):
        path = tmp_path / f"{split}.txt"
        _, lines = told(lambda console, p=path, s=split: export_text(store, corpus.key, p, s, console))
        of_file, _ = told(lambda console, p=path: show_stats(store, str(p), console, vocab=None, split="train"))
        of_store, _ = told(lambda console, s=split: show_stats(store, corpus.key, console, vocab=None, split=s))
        for told_of in (cells(of_file), cells(of_store)):
            number = {name: int(told_of[name][0].replace(",", "")) for name in ("lines", "not empty", "unique")}
            assert number["lines"] == number["not empty"] == lines == shell('wc -l < "$1"', path)
            assert number["not empty"] == shell('grep -a -c "" "$1"', path) == shell('grep -v "^$" "$1" | wc -l', path)
            assert number["unique"] == shell('sort -u "$1" | wc -l', path)
        assert path.read_bytes().endswith(b"\n")
    assert number["unique"] < number["lines"]


def test_stats_of_a_text_file_count_blank_lines_and_tell_tasks(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(
        b"<system>Translate English to Hungarian.</system><user>Hello</user><assistant>Szia</assistant>\n"
        b"\n   \nQuestion: what?\n### Answer: that\nplain words here\nplain words here\nbroken \xff bytes"
    )
    printed, good = told(lambda console: show_stats(Store(tmp_path), str(path), console, vocab=None, split="train"))
    found = cells(printed)
    assert (found["lines"], found["not empty"], found["unique"]) == (["8"], ["6"], ["5"])
    assert found["unique / not empty"] == ["83.3%"]
    assert found["system: Translate English to Hungarian"][0] == found["question"][0] == found["answer"][0] == "1"
    assert found["plain text"] == ["3", "50.0%"]
    assert not good
    assert "verdict: not good for its examples, vocabulary" in printed
    assert "good: unique 83.3%" in printed


def test_stats_of_rows_and_folders(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"text": "one\ntwo", "kind": "prose"}, {"text": "two", "kind": "chat"}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.jsonl").write_text(json.dumps({"instruction": "do", "output": "done\n\nwell"}) + "\n")
    write_parquet(folder / "deep" / "c.parquet", pa.table({"text": ["three\nthree"], "id": [1]}))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    printed, _ = told(lambda console: show_stats(Store(tmp_path), str(folder), console, vocab=None, split="train"))
    found = cells(printed)
    assert "3 files" in printed
    assert (found["lines"], found["unique"]) == (["8"], ["6"])
    assert [found[name][0] for name in ("prose", "chat", "instruction", "plain text")] == ["1", "1", "1", "2"]


def test_a_good_text_is_called_good(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("".join(f"word{n} word{n // 2} again\n" for n in range(20_000)))
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("".join(f"token{n}\n" for n in range(9_000)))
    printed, good = told(lambda console: show_stats(Store(tmp_path), str(path), console, vocab=vocab, split="train"))
    assert good
    assert "verdict: good" in printed
    assert cells(printed)["unique"] == ["20,000"]


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        (
            "tokenizer.json",
            {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"content": "<s>"}, {"content": "a"}]},
            3,
        ),
        ("unigram.json", {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}, 2),
        ("vocab.json", {"a": 0, "b": 1}, 2),
        ("vocab.txt", "a\t3\nb\t2\n\nc\t1\n", 3),
    ],
)
def test_vocabularies(tmp_path, name, content, size):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert vocabulary_size(path) == size


def test_what_cannot_be_counted_is_named(tmp_path):
    def stats(what, vocab=None):
        show_stats(Store(tmp_path), str(what), Console(), vocab=vocab, split="train")

    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{')
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(UserError, match=r"has no file of \.txt"):
        stats(tmp_path / "empty")
    with pytest.raises(RunError, match="row 2 is not JSON"):
        stats(tmp_path / "bad.jsonl")
    with pytest.raises(RunError, match=r"bad\.parquet"):
        stats(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="is no vocabulary"):
        stats(tmp_path / "bad.jsonl", tmp_path / "bad.json")
    with pytest.raises(UserError, match="no artifact"):
        stats("nowhere/at-all.txt".replace("/", "-"))


def test_why_tells_the_copy_its_likeness_and_the_versions(made):
    store, corpus = made
    rows = (
        Catalog(store)
        .query(f"SELECT url FROM decisions WHERE artifact = '{corpus.key}' AND rule = 'near_duplicate'")
        .to_pylist()
    )
    assert rows, "near-05 or page-05"
    printed, _ = told(lambda console: show_why(store, rows[0]["url"], console))
    found = cells(printed)
    assert found["rule"] == ["near_duplicate"]
    assert float(found["jaccard"][0]) == float(found["value"][0]) >= 0.7 == float(found["limit"][0])
    assert found["other_url"][0].endswith("05")
    assert found["versions"] == ["compare 1, curate 1, measure 1"]


def test_why_tells_which_held_out_texts_a_text_has_passages_of(made):
    store, _ = made
    printed, _ = told(lambda console: show_why(store, "http://site.example/page-07", console))
    if "test" in cells(printed).get("split", []) or "val" in cells(printed).get("split", []):
        pytest.fail("choose another page for the quiz: this one is held out itself")
    assert "quiz: 1 (" in cells(printed)["overlaps"][0]
    assert "n-grams" in cells(printed)["overlaps"][0]


def test_why_is_masked(made):
    store, _ = made
    printed, _ = told(lambda console: show_why(store, f"http://site.example/short-letter?by={EMAIL}", console))
    assert cells(printed)["url"] == ["http://site.example/short-letter?by=<email>"]
    assert EMAIL not in printed


def test_nothing_but_pages_of_origin_has_personal_data(made):
    catalog = Catalog(made[0])
    for view in ("measured", "curated", "decisions"):
        texts = catalog.query(f"FROM {view}").drop_columns(["page_of_origin"] if view != "decisions" else [])
        assert EMAIL not in str(texts.to_pylist()), view
        assert "<email>" in str(texts["url"].to_pylist())
    assert "About letter by <email>" in catalog.query("FROM curated")["title"].to_pylist()
    assert EMAIL in str(catalog.query("FROM documents").to_pylist()), "else this proves nothing"


def test_a_page_is_found_by_its_true_address_and_by_the_one_that_is_shown(tmp_path):
    store = Store(tmp_path / "store")
    names = [f"cv/{who}@firm-of-hers.com" for who in ("jane.roe", "john.doe")]
    corpus = make_corpus(store, {name: text_of(n) for n, name in enumerate(names)}, with_tokens=False)
    true = [f"http://site.example/{name}" for name in names]
    shown = "http://site.example/cv/<email>"
    records = {}
    for address in true:
        (row,) = Catalog(store).why(address, blank)
        assert (row["url"], row["verdict"]) == (shown, "kept"), "just the one that was asked for"
        assert Catalog(store).why(address) == [row], "also without a word on how it is shown"
        records[row["record_id"]] = address
    assert len(records) == 2
    assert {row["record_id"] for row in Catalog(store).why(shown, blank)} == set(records)
    printed, _ = told(lambda console: show_why(store, shown, console))
    assert all(record in printed for record in records)
    assert "firm-of-hers" not in printed

    shutil.rmtree(corpus.path)
    assert {row["rule"] for row in Catalog(store).why(shown, blank)} == {"not curated yet"}
    assert {row["url"] for row in Catalog(store).why(shown, blank)} == set(true)
    (row,) = Catalog(store).why(true[0], blank)
    assert row["url"] == true[0]


def test_a_true_address_is_found_when_what_was_collected_is_gone(tmp_path):
    store = Store(tmp_path / "store")
    names = [f"cv/{who}@firm-of-hers.com" for who in ("jane.roe", "john.doe")]
    make_corpus(store, {name: text_of(n) for n, name in enumerate(names)}, with_tokens=False)
    for collection in list(store.artifacts("collect")):
        shutil.rmtree(collection.path)
    rows = Catalog(store).why(f"http://site.example/{names[0]}", blank)
    assert len(rows) == 2, "any that is shown like that"


@pytest.mark.parametrize("address", [f"http://site.example/leter?by={EMAIL}", "http://site.example/leter?by=<email>"])
def test_an_unknown_page_is_told_of_masked(made, address):
    store, _ = made
    with pytest.raises(UserError) as caught:
        show_why(store, address, Console())
    assert "'http://site.example/leter?by=<email>'" in caught.value.what
    assert caught.value.mend == "the nearest is http://site.example/letter?by=<email>"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )


def test_a_query_may_begin_with_a_comment(made):
    store, _ = made
    done = command("sql", "-- how many?\nselect count(*) as n from corpora", "--csv", "--store", str(store.root))
    assert (done.returncode, done.stdout.split()) == (0, ["n", "2"]), done.stderr
    done = command("sql", "--how=many\nselect 7 as n", "--csv", "--store", str(store.root))
    assert (done.returncode, done.stdout.split()) == (0, ["n", "7"]), done.stderr


def test_the_only_format_is_text(made, tmp_path):
    store, corpus = made
    arguments = ["export", f"curate/{corpus.key}", "--out", str(tmp_path / "t"), "--store", str(store.root)]
    assert command(*arguments, "--format", "text", "--split", "test").returncode == 0
    done = command(*arguments, "--format", "csv")
    assert done.returncode == 2
    assert "no format 'csv'" in done.stderr


def test_without_a_name_the_newest_corpus_is_exported(made, tmp_path):
    store, _ = made
    out = tmp_path / "lines.txt"
    done = command("export", "--out", str(out), "--store", str(store.root))
    assert done.returncode == 0, done.stderr
    newest = corpus_of(store, "")
    assert f"of curate/{newest.key[:12]}" in done.stdout.replace("\n", " ")
    export_text(store, newest.key, tmp_path / "named.txt", "train", Console(file=io.StringIO()))
    assert out.read_bytes() == (tmp_path / "named.txt").read_bytes()


def test_the_help_of_export_asks_for_nothing():
    helped = command("export", "--help").stdout
    assert "[required]" not in helped
    assert "[OPTIONS] [CORPUS|MODEL]" in helped


def test_a_corpus_that_failed_its_gates_can_be_asked_by_the_command_that_is_told(tmp_path):
    store = Store(tmp_path / "the store")
    given = {f"page-{n}": text_of(n) for n in range(8)} | {"short": "Too short."}
    with pytest.raises(RunError, match="min_documents is 8") as told:
        make_corpus(store, given, gates={"min_documents": 99})
    command = told.value.mend.partition("why each text went: `")[2].rstrip("`")
    assert command.startswith("collect-train sql --store ")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "min_words" in done.stdout
    assert "http://site.example/short" in done.stdout
    assert Catalog(store).query("SELECT count(*) AS n FROM decisions").to_pylist() == [{"n": 0}]


def test_comparisons_of_another_version_are_made_anew_and_said_so(made, monkeypatch):
    store, corpus = made
    recipe = load_recipe("quickstart", [])
    out = io.StringIO()
    with terminal(Console(file=out, width=160)):
        assert _known(store, recipe, [], corpus) == ([], [])
        assert out.getvalue() == ""
        monkeypatch.setattr(compare, "version", 2)
        assert _known(store, recipe, [], corpus) == ([], [])
    assert "compare: built by version 1, this is version 2: all texts are compared anew" in out.getvalue()
