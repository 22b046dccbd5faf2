"""What was made of a forgotten article is forgotten with it, wherever it lies, and is not made again."""

from __future__ import annotations

import json

import pytest
import store_of_texts as shop

from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import collect
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.forget.takedown import carry_out, plan_takedown
from lmcore.forget.texts import forgotten_in
from lmcore.progress import silent
from storage.parquet import read_parquet
from storage.store import Store

MADE = SyntheticSource(name="made", min_chars=50, **{"from": ("texts",)})


def made_of(store, articles, edition, parent=None, **facts):
    """An edition of questions and summaries of a collection."""

    def build(work):
        collect(
            work,
            edition=edition,
            parent=parent and parent.path,
            parent_digest=parent and parent.digest,
            locate=lambda digest: store.by_digest(digest, "collect").path,
            params=MADE,
            runtime=CollectRuntime(),
            report=silent,
            forgotten=forgotten_in(store.root),
            articles=[articles.path],
        )

    inputs = {"parent": [parent] if parent else [], "articles": [articles]}
    return shop.made(store, "collect", inputs, {"edition": edition, "source": MADE.key_values()}, build, **facts)


def rows(artifact):
    return [
        row for path in sorted(artifact.path.rglob("documents/*.parquet")) for row in read_parquet(path).to_pylist()
    ]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def texts(tmp_path):
    return shop.write_texts(tmp_path / "texts", range(8))


@pytest.mark.parametrize("by", ["url", "record"])
def test_it_goes_with_its_article(store, texts, by):
    one = shop.collected(store, texts, "one", finished="2026-01-01T00:00:01+00:00")
    made = made_of(store, one, "one", finished="2026-01-01T00:00:02+00:00")
    corpus = shop.corpus(store, one, made)
    learnt = {
        url for path in (corpus.path / "train").glob("*.parquet") for url in read_parquet(path)["url"].to_pylist()
    }
    article = next(row for row in rows(one) if row["url"] in learnt)
    children = [row for row in rows(made) if row["parent_record"] == article["record_id"]]
    others = {row["record_id"] for row in rows(made)} - {row["record_id"] for row in children}
    assert children
    assert others

    takedown = plan_takedown(store, article["url"] if by == "url" else article["record_id"])
    assert {row["record_id"] for row in children} <= set(takedown.tombstone.records)
    assert {artifact.key for artifact in takedown.rewrites} == {
        *(one.key, made.key, corpus.key),
        *(shop.measured(store, edition).key for edition in (one, made)),
    }
    with store.alone():
        carry_out(store, takedown)
    assert {row["record_id"] for row in rows(made)} == others
    stats = json.loads((made.path / "stats.json").read_text())
    log = read_parquet(made.path / "provenance" / "fetch_log.parquet").to_pylist()
    assert stats["records"] == len(others)
    assert stats["outcomes"] == {"forgotten": len(children), "ok": len(others)}
    assert [row["outcome"] for row in log].count("forgotten") == len(children)
    decisions = read_parquet(corpus.path / "decisions.parquet").to_pylist()
    assert {row["rule"] for row in decisions if row["record_id"] in {r["record_id"] for r in children}} == {"forgotten"}

    two = shop.collected(store, texts, "two", one)
    again = made_of(store, two, "two", made)
    assert not [row for row in rows(again) if row["url"].endswith(f"/{article['url']}")]
    fresh = made_of(store, two, "three")
    assert {row["record_id"] for row in rows(fresh)} == others, "made anew without an edition before it"


def test_an_article_that_a_collection_still_holds_is_no_material(store, texts):
    """Such as one that was forgotten elsewhere: the list of what is forgotten is asked, not only the collection."""
    one = shop.collected(store, texts, "one")
    with store.alone():
        carry_out(store, plan_takedown(store, "file:03.txt"))
    (texts / "other").mkdir()
    copied = Store(texts / "other")
    whole = shop.collected(copied, texts, "one")
    assert "file:03.txt" in {row["url"] for row in rows(whole)}
    made = made_of(store, whole, "one")
    assert "synthetic:summary/texts/file:03.txt" not in {row["url"] for row in rows(made)}
    assert "synthetic:summary/texts/file:04.txt" in {row["url"] for row in rows(made)}
    assert one.stage == "collect"
