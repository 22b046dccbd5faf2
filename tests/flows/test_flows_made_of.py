"""A source that is made of another one: collected after it, keyed by what it holds, found again, forgotten with it."""

from __future__ import annotations

import re

import pytest
from helpers_flows import collect, write_recipe

from storage.parquet import read_parquet
from storage.store import Store

TEXT = (
    "The mill {n} stands by the river. Anna built it in 18{n}. The mill {n} is old and still works. Many people come. "
)
MADE = {"name": "made", "kind": "synthetic", "from": ["mills"]}
GATES = {"min_documents": 1, "min_train_bytes": 1, "min_val_documents": 0, "min_test_documents": 0}


def rows(artifact):
    return [row for path in artifact.path.glob("documents/*.parquet") for row in read_parquet(path).to_pylist()]


def by_source(store):
    return {a.manifest.provenance.params["source"]["name"]: a for a in Store(store).artifacts("collect")}


@pytest.mark.slow
def test_made_of_another_source(tmp_path, shared_server):
    folder, store = tmp_path / "mills", tmp_path / "store"
    folder.mkdir()
    for n in range(10, 30):
        page = f"<html><head><title>Mill {n}</title></head><body><p>{TEXT.format(n=n) * 4}</p></body></html>"
        (folder / f"{n}.html").write_text(page)
    mills = {"name": "mills", "kind": "files", "paths": ["mills"], "lang": "en"}
    others = {"name": "others", "kind": "synthetic", "sentences": 20, "translations": 10}
    recipe = write_recipe(tmp_path, MADE, mills, others, curate={"gates": GATES, "rules": {"off": ["min_words"]}})

    done = collect("run", recipe, "--until", "curate", store=store, env=shared_server)
    ended = re.findall(r"✓ collect (\w+) +Completed", done.out)
    assert sorted(ended) == ["made", "mills", "others"]
    assert ended[-1] == "made", "after what it is made of, although the recipe names it first"
    found = by_source(store)
    made, article = found["made"], rows(found["mills"])[0]
    assert [(e.name, e.key) for e in made.manifest.provenance.inputs] == [("articles", found["mills"].key)]
    assert {row["parent_record"] for row in rows(made)} == {row["record_id"] for row in rows(found["mills"])}
    assert all(row["synthetic"] for name in ("made", "others") for row in rows(found[name]))

    done = collect("run", recipe, "--until", "curate", store=store, env=shared_server)
    assert len(re.findall(r"= collect \w+ +Reused", done.out)) == 3
    collect("run", recipe, "--from", "curate", "--until", "curate", store=store, env=shared_server)

    (folder / "30.html").write_text(f"<html><title>Mill 30</title><body><p>{TEXT.format(n=30) * 4}</p></body></html>")
    done = collect("run", recipe, "--until", "curate", "--edition", "new", store=store, env=shared_server)
    editions = [
        a for a in Store(store).artifacts("collect") if a.manifest.provenance.params["source"]["name"] == "made"
    ]
    assert len(editions) == 2
    assert sorted(a.metrics["new"] for a in editions)[0] == 4, "only those of the new page"

    collect("forget", article["url"], "--yes", store=store, env=shared_server)
    for edition in editions:
        assert article["record_id"] not in {row["parent_record"] for row in rows(edition)}
    done = collect("run", recipe, "--until", "curate", store=store, env=shared_server)
    assert len(re.findall(r"= collect \w+ +Reused", done.out)) == 3, "what was made of it is gone, the rest is kept"
    collect("verify", store=store, env=shared_server)
    done = collect("doctor", recipe, store=store, env=shared_server, code=None)
    assert "made of mills; no network needed" in done.out
