"""Taking one text out of a store of several editions, corpora and models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import store_of_texts as shop

from lmcore.collect.editions import load_edition
from lmcore.curate.normalise import normalise
from lmcore.documents import CURATED, DECISION, read_documents
from lmcore.forget.takedown import carry_out, plan_takedown
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens.meta import read_meta
from lmcore.tokens.stream import TokenStream
from storage.catalog import Catalog
from storage.errors import UserError
from storage.locks import Locked
from storage.parquet import read_parquet
from storage.store import Store
from storage.tombstones import read_tombstones


def forget(store: Store, what: str):
    with store.alone():
        return carry_out(store, plan_takedown(store, what))


def url(number: int) -> str:
    return f"file:{number:02d}.txt"


def everywhere(store: Store) -> dict[str, bytes]:
    files = (path for path in store.root.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}


@pytest.fixture
def number(shelf):
    """A text that both corpora train on, collected in edition one and only referred to later."""
    return next(n for n in shelf.numbers("first", "train") if n != 5)


def test_the_plan_says_what_is_meant_and_changes_nothing(shelf, number):
    before = everywhere(shelf.store)
    takedown = plan_takedown(shelf.store, url(number))
    assert everywhere(shelf.store) == before
    ((record, row),) = takedown.found.rows.items()
    assert (row["url"], row["text"]) == (url(number), shop.text_of(number))
    assert takedown.tombstone.records == (record,)
    assert takedown.tombstone.urls == (url(number),)
    touched = [shelf.first_tokens, shelf.third_tokens, shelf.first, shelf.third, shelf.one, shelf.two, shelf.three]
    assert set(takedown.rewrites) == {*touched, shelf.first_measured}, "measured once, with the edition that holds it"
    stages = [a.stage for a in takedown.rewrites]
    assert stages == ["tokens"] * 2 + ["curate"] * 2 + ["measure"] + ["collect"] * 3
    assert [a.key for a in takedown.rewrites[5:]] == [shelf.three.key, shelf.two.key, shelf.one.key], "newest first"
    assert set(takedown.tombstone.models) == {shelf.old.key, shelf.new.key}
    assert takedown.tombstone.tokenizers == (shelf.words.key,)
    assert [a.key for a in takedown.exports] == [shelf.exported.key]
    assert takedown.releases == ("tiny@1 (champion)",)
    assert takedown.leftovers == takedown.crawls == takedown.quoting == ()


def test_nothing_of_the_text_is_left_and_everything_else_is(shelf, number):
    before = shelf.digests()
    texts = {edition: documents(shelf, edition) for edition in ("one", "two", "three")}
    tombstone = forget(shelf.store, url(number))
    assert tombstone.finished
    told = shop.everything_readable(shelf.store.root)
    for line in shop.text_of(number).splitlines():
        assert [name for name, text in told.items() if line in text or normalise(line) in text] == []
    assert shelf.store.verify() == []
    after = shelf.digests()
    assert after.keys() == before.keys(), "artifacts keep their keys"
    held = {"one", "two", "three", "first", "third", "first_tokens", "third_tokens", "first_measured"}
    for name, (stage, key) in shelf.keys.items():
        assert (after[f"{stage}/{key}"] != before[f"{stage}/{key}"]) is (name in held), name
    for edition, old in texts.items():
        new = documents(shelf, edition)
        assert new == {record: row for record, row in old.items() if row["url"] != url(number)}, edition
    for name in ("first", "third"):
        assert shelf.store.by_digest(before[f"curate/{getattr(shelf, name).key}"]) == getattr(shelf, name)


def documents(shelf, edition):
    table = load_edition(getattr(shelf, edition).path, lambda digest: shelf.store.by_digest(digest, "collect").path)
    return {row["record_id"]: row for row in table.to_pylist()}


def test_the_metrics_follow(tmp_path):
    """In a store of a real run `collect` and the others report figures; they are what a person sees first."""
    store, texts = Store(tmp_path / "store"), shop.write_texts(tmp_path / "texts", range(12))
    figures = {
        "records": 12,
        "new": 12,
        "unchanged": 0,
        "bytes": sum(len(shop.text_of(n)) for n in range(12)),
        "asked": 12,
    }
    one = shop.collected(store, texts, "one", metrics=figures)
    forget(store, url(4))
    size = len(shop.text_of(4))
    assert one.metrics == figures | {"records": 11, "new": 11, "bytes": figures["bytes"] - size}


def test_the_figures_of_a_collection_are_those_of_what_is_left(shelf, number):
    forget(shelf.store, url(number))
    for name, new in (("one", 13), ("two", 2), ("three", 0)):
        stats = json.loads(getattr(shelf, name).file("stats.json").read_text())
        rows = documents(shelf, name).values()
        assert stats["records"] == len(rows) == 13 + (name != "one")
        assert (stats["new"], stats["unchanged"]) == (new, len(rows) - new)
        assert stats["bytes"] == sum(len(row["text"].encode()) for row in rows)
        assert sum(stats["languages"].values()) == sum(stats["extractors"].values()) == len(rows)
        assert stats["outcomes"] == {"ok": len(rows), "forgotten": 1}
        log = read_parquet(getattr(shelf, name).path / "provenance" / "fetch_log.parquet").to_pylist()
        assert [row["url"] for row in log if row["outcome"] == "forgotten"] == [url(number)]


def test_the_figures_of_a_corpus_are_those_of_what_is_left(shelf, number):
    forget(shelf.store, url(number))
    stats = json.loads(shelf.third.file("stats.json").read_text())
    tables = {}
    for split in ("train", "val", "test"):
        (path,) = (shelf.third.path / split).glob("*.parquet")
        tables[split] = read_documents(path, CURATED)
        size = {"documents": tables[split].num_rows, "bytes": sum(tables[split]["n_bytes"].to_pylist())}
        assert stats["splits"][split] == size
    kept = sum(table.num_rows for table in tables.values())
    size = sum(sum(table["n_bytes"].to_pylist()) for table in tables.values())
    assert stats["kept"] == {"records": kept, "bytes": size}
    assert stats["sources"]["texts"] == {"records": 15, "kept": kept, "bytes": size}
    assert stats["languages"]["en"] == {"records": 15, "kept": kept, "bytes": size}
    quality = [q for table in tables.values() for q in table["quality"].to_pylist()]
    assert stats["quality"]["deciles"] == np.round(np.quantile(quality, np.linspace(0, 1, 11)), 2).tolist()
    decisions = read_documents(shelf.third.file("decisions.parquet"), DECISION).to_pylist()
    assert len(decisions) == stats["input"]["records"] == 15
    for rule, count in stats["rules"].items():
        assert count == sum(row["rule"] == rule for row in decisions), rule
    (told,) = (row for row in decisions if row["rule"] == "forgotten")
    assert (told["url"], told["verdict"], told["split"], told["other"]) == (url(number), "dropped", None, None)
    assert {row["rule"] for row in Catalog(shelf.store).why(url(number))} == {"forgotten"}


def test_the_token_shards_are_whole_without_it(shelf, number):
    assert len(read_meta(shelf.third_tokens.path).splits["train"].shards) > 1, "else this proves little"
    expected = decoded(shelf.third_tokens, shelf.words)
    assert normalise(shop.text_of(number)) in expected.values()
    forget(shelf.store, url(number))
    left = decoded(shelf.third_tokens, shelf.words)
    assert left == {record: text for record, text in expected.items() if text != normalise(shop.text_of(number))}


def decoded(shards, words) -> dict[str, str]:
    """The texts of token shards by record, read as training reads them."""
    tokenizer, found = load_tokenizer(words.path), {}
    for split in ("train", "val", "test"):
        stream = TokenStream(shards.path, split)
        ids = stream.read(0, stream.n_tokens)
        table = read_parquet(shards.path / split / "documents.parquet")
        ends = np.cumsum(table["n_tokens"].to_numpy())
        assert ends[-1] == stream.n_tokens
        for record, count, end in zip(table["record_id"].to_pylist(), table["n_tokens"].to_pylist(), ends, strict=True):
            found[record] = tokenizer.decode(ids[end - count : end].tolist())
        assert stream.n_bytes == sum(table["n_bytes"].to_pylist())
    return found


def test_the_next_build_reuses_the_collections_and_builds_the_rest_without_it(shelf, number):
    forget(shelf.store, url(number))
    store = shelf.store
    assert shop.corpus(store, shelf.three).key != shelf.third.key
    again = shop.corpus(store, shelf.three)
    urls = {row["url"] for path in again.path.glob("*/0*.parquet") for row in read_parquet(path, ["url"]).to_pylist()}
    assert url(number) not in urls
    assert len(urls) == 14
    (shelf.texts / "copy.txt").write_text(shop.text_of(number).upper())
    try:
        four = shop.collected(store, shelf.texts, "four", shelf.three)
    finally:
        (shelf.texts / "copy.txt").unlink()
    stats = json.loads(four.file("stats.json").read_text())
    assert stats["records"] == 14
    assert stats["outcomes"] == {"forgotten": 2, "ok": 14}


def test_twice_is_once(shelf, number):
    first = forget(shelf.store, url(number))
    after = everywhere(shelf.store)
    takedown = plan_takedown(shelf.store, url(number))
    assert takedown.nothing_left
    assert takedown.known == first
    assert set(takedown.tombstone.models) == {shelf.old.key, shelf.new.key}, "remembered"
    assert takedown.releases == ("tiny@1 (champion)",)
    assert everywhere(shelf.store) == after
    other = next(n for n in shelf.numbers("first", "train") if n not in (5, number))
    assert set(forget(shelf.store, url(other)).models) == {shelf.old.key, shelf.new.key}, "still known by old digests"
    assert [t.what for t in read_tombstones(shelf.store.root)] == [url(number), url(other)]


def test_all_versions_of_a_page_go(shelf):
    takedown = plan_takedown(shelf.store, url(5))
    assert len(takedown.found.rows) == 2
    forget(shelf.store, url(5))
    told = shop.everything_readable(shelf.store.root)
    for line in (shop.sentence(5, 0), "A line that was added later to the fifth"):
        assert [name for name, text in told.items() if line in text] == []


def test_a_record_is_named_by_its_first_digits(shelf, number):
    (record,) = plan_takedown(shelf.store, url(number)).tombstone.records
    takedown = plan_takedown(shelf.store, record[:10])
    assert takedown.found.what == record
    assert takedown.tombstone.urls == (url(number),)
    assert len(takedown.rewrites) == 8
    with pytest.raises(UserError, match="holds no text of 'ffffffffffff'"):
        plan_takedown(shelf.store, "ffffffffffff")
    with pytest.raises(UserError, match=r"holds no text of 'file:99\.txt'"):
        plan_takedown(shelf.store, "file:99.txt")
    assert read_tombstones(shelf.store.root) == ()


def test_what_was_only_held_out_was_not_learnt(shelf):
    held_out = shelf.numbers("first", "test")[0]
    takedown = plan_takedown(shelf.store, url(held_out))
    assert shelf.first_tokens in takedown.rewrites
    assert (takedown.tombstone.models, takedown.tombstone.tokenizers, takedown.releases) == ((), (), ())


def test_a_row_of_a_file_is_known_by_its_text_not_by_its_place(tmp_path):
    store, texts = Store(tmp_path / "store"), tmp_path / "texts"
    texts.mkdir()
    rows = [json.dumps({"text": shop.text_of(number)}) for number in range(4)]
    (texts / "rows.jsonl").write_text("\n".join(rows))
    one = shop.collected(store, texts, "one")
    tombstone = forget(store, "file:rows.jsonl#2")
    assert (tombstone.urls, len(tombstone.texts)) == ((), 1)
    assert {row["url"] for row in load_edition(one.path, store.by_digest).to_pylist()} == {
        "file:rows.jsonl#1", "file:rows.jsonl#3", "file:rows.jsonl#4",
    }  # fmt: skip
    (texts / "rows.jsonl").write_text("\n".join(rows[1:]))  # the second text is the first row now
    two = shop.collected(store, texts, "two", one)
    left = load_edition(two.path, lambda digest: store.by_digest(digest).path).to_pylist()
    assert sorted(row["text"] for row in left) == sorted(map(shop.text_of, (2, 3)))


def test_equal_texts_of_other_sources_go_with_it(shelf):
    twin = shop.write_texts(shelf.store.root.parent / "twin", [90], twin=shop.text_of(3).swapcase().replace("\n", " "))
    other = shop.collected(shelf.store, twin, "one", name="mirror")
    takedown = plan_takedown(shelf.store, url(3))
    assert sorted(row["url"] for row in takedown.found.rows.values()) == ["file:03.txt", "file:twin.txt"]
    assert other in takedown.rewrites
    assert takedown.tombstone.urls == (url(3),), "the other page may say something else one day"


def test_nobody_uses_the_store_meanwhile(shelf):
    with shelf.store.in_use(), pytest.raises(Locked), shelf.store.alone():
        pass
    with shelf.store.alone(), pytest.raises(Locked), shelf.store.alone():
        pass


def test_a_page_whose_address_is_personal_goes_by_its_true_address_or_its_record(tmp_path):
    """Measured and curated rows have the address masked, the same for both of these pages: only one is meant."""
    names = ["jane.roe@firm-of-hers.com", "john.doe@firm-of-hers.com"]
    texts = shop.write_texts(
        tmp_path / "texts", range(8), **{name: shop.text_of(20 + n) for n, name in enumerate(names)}
    )
    store = Store(tmp_path / "store")
    collected = shop.collected(store, texts, "one")
    made = shop.corpus(store, collected)
    shown, true = "file:<email>.txt", [f"file:{name.replace('@', '%40')}.txt" for name in names]
    held = {row["url"]: row["record_id"] for row in documents_of(collected)}
    assert set(true) < set(held)
    with pytest.raises(UserError, match="masked: more pages than one") as caught:
        plan_takedown(store, shown)
    assert "record" in caught.value.mend
    with pytest.raises(UserError, match=r"holds no text of 'file:<email>\.txt'"):
        plan_takedown(store, "file:joan.doe%40firm-of-hers.com.txt")
    for name in (true[0], held[true[0]]):
        tombstone = plan_takedown(store, name).tombstone
        assert (tombstone.urls, tombstone.records) == ((true[0],), (held[true[0]],))
    forget(store, held[true[0]])
    left = {row["record_id"] for row in documents_of(collected)}
    assert left == set(held.values()) - {held[true[0]]}
    decisions = read_documents(made.file("decisions.parquet"), DECISION).to_pylist()
    assert [row["record_id"] for row in decisions if row["rule"] == "forgotten"] == [held[true[0]]]
    assert sorted(row["url"] for row in decisions).count(shown) == 2


def documents_of(collected):
    """What an edition holds itself."""
    paths = sorted((collected.path / "documents").glob("*.parquet"))
    return [row for path in paths for row in read_parquet(path, ["record_id", "url"]).to_pylist()]
