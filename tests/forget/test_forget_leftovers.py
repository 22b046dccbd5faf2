"""Where a text hides elsewhere: samples, reports, logs, databases, unfinished work, folders that were set aside."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3

import pytest
import store_of_texts as shop

from lmcore.collect.frontier import Frontier, NewPage
from lmcore.collect.http import Response
from lmcore.curate.measured import measure
from lmcore.curate.params import MeasureParams
from lmcore.documents import read_documents
from lmcore.forget.takedown import carry_out, plan_takedown
from lmcore.train.params import Job, TrainParams
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet
from storage.tombstones import read_tombstones

NUMBER = 4  # in the training split of both corpora
URL = f"file:{NUMBER:02d}.txt"
LINE = shop.sentence(NUMBER, 1)
FOREIGN = shop.sentence(77, 1)  # that no store has


def forget(store, what=URL):
    with store.alone():
        takedown = plan_takedown(store, what)
        carry_out(store, takedown)
    return takedown


def still_in(store, line=LINE):
    return [name for name, text in shop.everything_readable(store.root).items() if line in text]


def names(store, paths):
    return sorted(str(path.relative_to(store.root)) for path in paths)


def test_samples_lose_their_quotes_and_artifacts_their_place_in_no_chain(shelf):
    store = shelf.store
    quoting = shop.model(store, shelf.first_tokens, shelf.words, "quoting", samples=["nothing", f"the {LINE}", FOREIGN])
    judged = shop.evaluation(store, quoting, shelf.first, samples=[LINE, FOREIGN])
    exported = shop.export(store, quoting, judged, continuation=f"it {LINE}")
    innocent = shop.evaluation(store, quoting, shelf.third, samples=[FOREIGN])
    before = {a: a.digest for a in (quoting, judged, exported, innocent)}
    takedown = forget(store)
    assert names(store, [path for path, _ in takedown.quoting]) == [
        f"evaluate/{judged.key}/samples.json",
        f"export/{exported.key}/reference.json",
        f"train/{quoting.key}/provenance/samples.parquet",
    ]
    assert still_in(store) == []
    assert store.verify() == []
    samples = read_parquet(quoting.path / "provenance" / "samples.parquet")["text"].to_pylist()
    assert [samples[0], samples[2]] == ["nothing", FOREIGN]
    assert samples[1].startswith("the xxx")
    (probe,) = json.loads(exported.file("reference.json").read_text())["prompts"]
    assert (probe["greedy"], probe["ids"]) == ([], [0, 5])
    assert quoting.digest == before[quoting], "its samples are no part of a model"
    assert innocent.digest == before[innocent]
    for artifact in (judged, exported):
        assert artifact.digest != before[artifact]
        assert artifact.digests == (before[artifact], artifact.digest)
        assert store.by_digest(before[artifact]) == artifact


def test_reports_and_logs_keep_their_length_and_lose_the_quote(shelf):
    root = shelf.store.root
    run = root / "runs" / "one"
    run.mkdir(parents=True)
    report = f"<html><p>a sample: {LINE.replace('and', '<b>and</b>')}</p><p>{FOREIGN}</p></html>"
    files = {
        "report.html": report,
        "run.log": f"2026-01-01T00:00:00Z  step 3: {LINE}\n2026-01-01T00:00:01Z  {FOREIGN}\n",
        "journal.jsonl": json.dumps({"event": "note", "text": LINE}) + "\n" + json.dumps({"text": FOREIGN}) + "\n",
    }
    for name, text in files.items():
        (run / name).write_text(text)
    forget(shelf.store)
    assert still_in(shelf.store) == []
    for name, text in files.items():
        new = (run / name).read_text()
        assert len(new) == len(text)
        assert FOREIGN in new
    assert [sorted(json.loads(line)) for line in (run / "journal.jsonl").read_text().splitlines()] == [
        ["event", "text"], ["text"],
    ]  # fmt: skip


def test_prefects_database_is_cleaned_unless_a_server_works_on_it(shelf):
    folder = shelf.store.root / ".prefect"
    folder.mkdir()
    with sqlite3.connect(folder / "prefect.db") as base:
        base.execute("pragma journal_mode = wal")
        base.execute("create table artifact (data json)")
        base.executemany("insert into artifact values (?)", [(json.dumps(LINE),), (json.dumps(FOREIGN),)])
    base.close()
    with open(folder / "lock", "ab") as server:
        fcntl.flock(server, fcntl.LOCK_EX)
        before = shelf.digests()
        with pytest.raises(RunError, match="is in use") as error:
            forget(shelf.store)
        assert "stop `collect-train up`" in error.value.mend
        assert shelf.digests() == before
        assert read_tombstones(shelf.store.root) == (), "nothing was begun"
    forget(shelf.store)
    assert LINE.encode() not in (folder / "prefect.db").read_bytes()
    with sqlite3.connect(folder / "prefect.db") as base:
        rows = [json.loads(data) for (data,) in base.execute("select data from artifact")]
    base.close()
    assert rows[0].startswith("xxx")
    assert rows[1] == FOREIGN


def test_unfinished_work_goes_where_it_holds_the_text_and_stays_where_not(shelf):
    store = shelf.store
    documents = read_documents(next(iter((shelf.one.path / "documents").iterdir())))
    measuring = store.work("measure", "aa")
    for name, part in (("00000", documents.slice(0, 6)), ("00001", documents.slice(6))):
        write_parquet(measuring / "out" / "measured" / f"{name}.parquet", measure(part, MeasureParams()))
    (measuring / "out" / "measured" / ".00002.parquet.part").write_bytes(b"PAR1 half")
    write_parquet(measuring / "pending" / "00003.parquet", documents.slice(6))
    for stage, half in (("curate", "sorted/00000-0.arrow"), ("compare", "out/pairs.parquet")):
        work = store.work(stage, "aa")
        (work / half).parent.mkdir()
        (work / half).write_bytes(b"of who knows which texts")
        (work / "attempts.json").write_text('{"attempts": 1}')
    for key, tokens in (("bb", shelf.first_tokens), ("cc", shelf.strange_tokens)):
        work = store.work("train", key)
        job = Job(work=work, tokens=tokens.path, tokenizer=shelf.words.path, params=TrainParams(steps=1))
        (work / "job.json").write_text(job.model_dump_json())
        (work / "checkpoint").write_text("weights")
    judging = store.work("evaluate", "dd")
    (judging / "note.txt").write_text(f"the model said: {LINE}")
    store.work("evaluate", "ee").joinpath("scores.json").write_text("[1, 2]")
    store.work("tokens", "ff").joinpath("00000.bin").write_bytes(b"12")
    reading = store.work("collect", "11")
    (reading / "plain.txt").write_text(shop.text_of(NUMBER))
    (reading / "attempts.json").write_text('{"attempts": 1}')
    gone = store.root / ".gone" / "curate-99-abcd"
    gone.mkdir(parents=True)
    (gone / "00000.parquet").write_text(LINE)

    takedown = forget(store)
    assert names(store, [path for path, _ in takedown.leftovers]) == [
        ".gone/curate-99-abcd", ".work/collect-11/plain.txt", ".work/compare-aa/out", ".work/curate-aa/sorted",
        ".work/evaluate-dd", ".work/measure-aa/out/measured/.00002.parquet.part",
        ".work/measure-aa/out/measured/00000.parquet", ".work/measure-aa/pending", ".work/tokens-ff",
        ".work/train-bb",
    ]  # fmt: skip
    assert still_in(store) == []
    left = {path.name for path in (store.root / ".work").iterdir()}
    assert left == {"collect-11", "compare-aa", "curate-aa", "evaluate-ee", "measure-aa", "train-cc"}
    assert [path.name for path in (measuring / "out" / "measured").iterdir()] == ["00001.parquet"]
    assert [path.name for path in store.work("curate", "aa").iterdir() if path.name != "out"] == ["attempts.json"]
    assert (reading / "attempts.json").exists()


def test_a_crawl_goes_on_without_the_page(shelf):
    store = shelf.store
    page = "http://site.example/page"
    path = store.work("collect", "22") / "frontier.sqlite"
    frontier = Frontier(path, "settings")
    urls = [f"http://site.example/{name}" for name in ("page", "twin", "raw", "other")]
    frontier.open_level(0, [NewPage(url, url) for url in urls])
    for name, text in (("page", LINE), ("twin", shop.text_of(NUMBER)), ("raw", None), ("other", FOREIGN)):
        url = f"http://site.example/{name}"
        body = f"<html><a href='/next'>next</a> {text or LINE}</html>".encode()
        frontier.store(url, Response(url, url, "ok", body=body), url, "2026-01-01")
        if text:
            frontier.finish(url, "ok", "", ["http://site.example/next"], "title of it", text, {})
    frontier.close()
    assert LINE.encode() in path.read_bytes() or LINE.encode() in path.with_name(path.name + "-wal").read_bytes()
    forget(store)  # by its text: the page has another URL
    with sqlite3.connect(path) as base:
        states = dict(base.execute("select substr(name, 21), outcome from page"))
        links = [url for (url,) in base.execute("select url from link")]
    base.close()
    assert states == {"page": "ok", "twin": "forgotten", "raw": "ok", "other": "ok"}
    assert links == ["http://site.example/next"]
    for what in (page, "http://site.example/raw"):
        forget(store, what)
    assert still_in(store) == []
    again = Frontier(path, "settings")
    assert again.stored() == []
    assert sorted(again.seed_ends()) == sorted(urls)
    again.close()


def test_what_was_set_aside_goes_when_it_holds_the_text_or_cannot_be_read(shelf):
    store, aside = shelf.store, shelf.store.root / ".aside"
    damaged = (shelf.one, shelf.first, shelf.first_tokens, shelf.strange, shelf.strange_tokens, shelf.first_measured)
    for number, artifact in enumerate(damaged):
        shutil.copytree(artifact.path, aside / f"{artifact.stage}-{number}-1")
    shutil.copytree(shelf.strange.path, aside / "collect-broken-1")
    for path in (aside / "collect-broken-1" / "documents").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    judged = shop.evaluation(store, shelf.old, shelf.third, samples=[LINE])
    shutil.copytree(judged.path, aside / "evaluate-7-1")
    takedown = forget(store)
    assert names(store, [path for path, _ in takedown.leftovers]) == [
        ".aside/collect-0-1", ".aside/collect-broken-1", ".aside/curate-1-1", ".aside/evaluate-7-1",
        ".aside/measure-5-1", ".aside/tokens-2-1",
    ]  # fmt: skip
    assert sorted(path.name for path in aside.iterdir()) == ["collect-3-1", "tokens-4-1"]
    assert still_in(store) == []


def test_a_damaged_artifact_stops_it_with_the_way_out(shelf):
    path = next(iter((shelf.strange_corpus.path / "train").glob("*.parquet")))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(RunError, match=str(path)) as error:
        plan_takedown(shelf.store, URL)
    assert "collect-train verify" in error.value.mend
    shelf.store.verify()
    takedown = forget(shelf.store)
    assert ".aside" in str(takedown.leftovers[0][0]), "nobody can say what the damaged one holds"
