"""Nights: a site that changes between editions, a warm start from the champion, promoted and refused releases.

Everything through the real command line, against a real server whose pages are changed between two runs.
"""

from __future__ import annotations

import argparse
import difflib
import heapq
import html
import inspect
import json
import math
import optparse
import pickletools
import re
import shutil
import subprocess
import unittest
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen_site import Reply
from helpers_flows import bytes_and_times, collect, digests, frozen_site, states, unfinished, web_source, write_recipe

from lmcore.curate.split import SplitParams, page_hashes, positions, splits
from lmcore.documents import CURATED, SPLITS, read_documents
from storage.atomic import FAULT_VARIABLE
from storage.parquet import read_parquet
from storage.registry import Registry
from storage.store import STAGES, Store

pytestmark = pytest.mark.slow

NIGHTS = ("2026-03-01", "2026-03-02", "2026-03-03")
TRAINED = ("train", "evaluate", "export", "release")
CHANGED = [f"/article/{number:02}.html" for number in (8, 9, 10, 18, 19, 30)]  # pages of plain UTF-8
GONE = ["/article/20.html", "/article/40.html"]
TEXTS = [
    inspect.cleandoc(text)
    for text in (
        heapq.__about__, difflib.SequenceMatcher.__doc__, argparse.__doc__, json.__doc__,
        subprocess.__doc__, optparse.OptionParser.__doc__, unittest.TestCase.__doc__, pickletools.__doc__,
    )
]  # fmt: skip
NEW = [f"/article/new-{number}.html" for number in range(len(TEXTS))]


def side(url):
    """The split that the tiny recipe deals a page to."""
    hashes = page_hashes(pa.chunked_array([[url]]), "")
    return SPLITS[splits(positions(hashes), SplitParams(val=0.15, test=0.15))[0]]


def page(title, text):
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
    return (
        f'<!DOCTYPE html><html lang="en"><head><title>{title}</title></head><body><main><h1>{title}</h1>'
        f"{paragraphs}</main></body></html>"
    )


@dataclass
class Nights:
    """A store after two nights, what the runs said, and the addresses of a page that moved between them."""

    store: Path
    recipe: str
    site: str
    moved_from: str
    moved_to: str
    said: list = field(default_factory=list)
    seen: list = field(default_factory=list)  # the artifacts there were after each night


def night(nights, number, *args, store=None, **options):
    return collect("run", nights.recipe, "--edition", NIGHTS[number], *args, store=store or nights.store, **options)


def change(site, moved_from, moved_to):
    """Another day: some pages are revised, some gone, some new, and one has another address."""
    for path in CHANGED:
        (reply,) = site.replies[path]
        site.replies[path] = [Reply(body=reply.body.replace("<main>", "<main><p>Revised: see the notes.</p>", 1))]
    for path in GONE:
        site.replies[path] = [Reply(404, "gone")]
    for number, path in enumerate(NEW):
        site.replies[path] = [Reply(body=page(f"New {number}", TEXTS[number]))]
    site.replies[moved_to] = site.replies[moved_from]
    site.replies[moved_from] = [Reply(404, "gone")]
    (front,) = site.replies["/"]
    links = "".join(f'<li><a href="{path}">Read {path}</a></li>' for path in [*NEW, moved_to])
    site.replies["/"] = [Reply(body=front.body.replace("</main>", f"<ul>{links}</ul></main>"))]


@pytest.fixture(scope="module")
def nights(shared_server, tmp_path_factory):
    """Two nights on one store, which no test changes."""
    with frozen_site() as site:
        folder = tmp_path_factory.mktemp("nights")
        train = {"init_from": "champion", "batch": 4}
        source = web_source(site.url, max_pages=100)
        recipe = write_recipe(folder, source, train=train, evaluate={"max_bytes": 500_000})
        moved_to = next(
            path for number in range(99) if side(site.url + (path := f"/article/moved-{number}.html")) == "test"
        )
        moved_from = next(
            path
            for number in (28, 29, 38, 39, 48, 49)
            if side(site.url + (path := f"/article/{number}.html")) == "train"
        )
        found = Nights(folder / "store", recipe, site.url, moved_from, moved_to)
        for number in range(2):
            if number:
                change(site, moved_from, moved_to)
            found.said.append(night(found, number, env=shared_server))
            found.seen.append({stage: keys(found.store, stage) for stage in STAGES})
        yield found


@pytest.fixture
def copy(nights, tmp_path):
    """The finished store once more, to be changed."""
    return shutil.copytree(nights.store, tmp_path / "store")


def keys(store, stage):
    return {artifact.key for artifact in Store(store).artifacts(stage)}


def of_night(nights, number, stage):
    """The artifacts that a night added."""
    before = nights.seen[number - 1][stage] if number else set()
    return [a for a in Store(nights.store).artifacts(stage) if a.key in nights.seen[number][stage] - before]


def one(nights, number, stage):
    (artifact,) = of_night(nights, number, stage)
    return artifact


def corpus(nights, number):
    """(split, page, text id) of every text of a night's corpus."""
    folder = one(nights, number, "curate").path
    return [
        (split, row["page_of_origin"], row["text_id"])
        for split in SPLITS
        for path in sorted((folder / split).glob("*.parquet"))
        for row in read_documents(path, CURATED).to_pylist()
    ]


def figures(artifact, name):
    return json.loads(artifact.file(name).read_text())


def champion(store):
    return Registry(store).champion("tiny")


class TestFirstNight:
    def test_it_begins_from_scratch_and_says_so(self, nights):
        done = nights.said[0]
        assert states(done) == dict.fromkeys(STAGES, "Completed")
        line = f"edition {NIGHTS[0]} was begun without a champion of tiny: training begins from scratch"
        assert done.out.count(line) == 1
        assert {entry.name for entry in one(nights, 0, "train").manifest.provenance.inputs} == {"tokens", "tokenizer"}

    def test_the_same_night_again_does_nothing_though_there_is_a_champion_now(self, nights, copy, shared_server):
        before = bytes_and_times(copy)
        done = night(nights, 0, "--until", "evaluate", store=copy, env=shared_server)
        assert set(states(done).values()) == {"Reused"}
        assert bytes_and_times(copy) == before


class TestSecondNight:
    def test_only_what_changed_is_stored(self, nights):
        metrics = one(nights, 1, "collect").metrics
        front = 1
        assert metrics["new"] == len(CHANGED) + len(NEW) + front + 1
        assert (
            metrics["unchanged"] == one(nights, 0, "collect").metrics["records"] - len(CHANGED) - len(GONE) - front - 1
        )

    def test_it_starts_from_the_champion_and_keeps_its_vocabulary(self, nights):
        done, first, second = nights.said[1], one(nights, 0, "train"), one(nights, 1, "train")
        assert states(done) == dict.fromkeys(STAGES, "Completed") | {"tokenizer": "Reused"}
        assert re.search(
            r"= tokenizer +Reused +[0-9a-f]{12}  the vocabulary of tiny@1, which training starts", done.out
        )
        assert of_night(nights, 1, "tokenizer") == []
        inputs = {entry.name: entry for entry in second.manifest.provenance.inputs}
        assert (inputs["start"].stage, inputs["start"].digest) == ("train", first.digest)
        tokens = next(a for a in Store(nights.store).artifacts("tokens") if a.key == inputs["tokens"].key)
        assert tokens in of_night(nights, 1, "tokens")
        assert first.file("tokenizer.json").read_bytes() == second.file("tokenizer.json").read_bytes()

    def test_it_knows_what_the_champion_knew(self, nights):
        first, second = (
            read_parquet(one(nights, n, "train").file("metrics.parquet"))["loss"].to_pylist() for n in (0, 1)
        )
        assert second[0] < first[0] - 0.3
        assert second[0] == pytest.approx(first[-1], abs=0.5)

    def test_the_lineage_shows_the_start(self, nights):
        told = collect("show", f"train/{one(nights, 1, 'train').key[:12]}", store=nights.store).out
        assert re.search(rf"│ train +│ {one(nights, 0, 'train').key[:12]}", told)
        rows = collect("sql", "--csv", "select stage, name from lineage where name = 'start'", store=nights.store).out
        assert rows.splitlines() == ["stage,name", "train,start"]

    def test_it_is_promoted_with_the_numbers(self, nights):
        assert champion(nights.store).number == 2
        assert champion(nights.store).model_key == one(nights, 1, "train").key
        decision = figures(one(nights, 1, "release"), "release.json")
        assert decision["promoted"]
        low, high = decision["gain_interval"]
        assert low <= decision["gain"] <= high
        assert decision["reason"] in nights.said[1].out
        assert decision["bits_per_byte"] < decision["champion_bits_per_byte"]

    def test_held_out_pages_never_move(self, nights):
        was, now = ({page: split for split, page, _ in corpus(nights, number)} for number in (0, 1))
        assert was.keys() - now.keys() >= {nights.site + path for path in GONE if nights.site + path in was}
        assert {page.removeprefix(nights.site) for page in now.keys() - was.keys()} <= {*NEW, nights.moved_to}
        assert len(now.keys() - was.keys()) > 3
        assert {page for page in was.keys() & now.keys() if was[page] != now[page]} == set()
        learnt = {page for page, split in was.items() if split == "train"}
        assert not learnt & {page for page, split in now.items() if split != "train"}
        named = {page: split for page, split in (was | now).items() if page != nights.site + nights.moved_to}
        assert all(split == side(page) for page, split in named.items())

    def test_a_text_that_moves_to_another_address_keeps_its_side(self, nights):
        before = {text: page for split, page, text in corpus(nights, 0) if split == "train"}
        sides = {page: (split, text) for split, page, text in corpus(nights, 1)}
        split, text = sides[nights.site + nights.moved_to]
        assert side(nights.site + nights.moved_to) == "test", "where the name of a page that nobody knew would fall"
        assert (split, before[text]) == ("train", nights.site + nights.moved_from)
        evaluations = of_night(nights, 1, "evaluate")
        assert len(evaluations) == 2, "the new model and the champion, on one corpus"
        for evaluation in evaluations:
            found = figures(evaluation, "evaluation.json")
            assert found["splits"]["test"].get("left_out_documents", 0) == 0
        assert figures(one(nights, 1, "release"), "release.json").get("left_out_documents", 0) == 0

    def test_the_same_night_again_does_nothing_though_its_own_model_is_champion(self, nights, copy, shared_server):
        before = bytes_and_times(copy)
        registry = (copy / "registry" / "tiny.json").read_bytes()
        done = night(nights, 1, store=copy, env=shared_server)
        assert states(done) == dict.fromkeys(STAGES, "Reused")
        assert bytes_and_times(copy) == before
        assert (copy / "registry" / "tiny.json").read_bytes() == registry

    def test_a_late_run_of_the_night_before_joins_it(self, nights, copy, shared_server):
        path = copy / "editions" / "tiny.json"
        known = json.loads(path.read_text())
        known["editions"] = known["editions"][1:]  # nobody came to the first night in time
        path.write_text(json.dumps(known))
        done = night(nights, 0, "--until", "curate", store=copy, env=shared_server)
        assert f"it is too late to collect {NIGHTS[0]}, and {NIGHTS[1]} is used" in done.out
        assert set(states(done).values()) == {"Reused"}


class TestThirdNight:
    def test_of_an_unchanged_site_nothing_is_trained(self, nights, copy, shared_server):
        before = digests(copy)
        done = night(nights, 2, store=copy, env=shared_server)
        built = ("collect", "measure", "curate")
        assert states(done) == dict.fromkeys(STAGES, "Reused") | dict.fromkeys(built, "Completed")
        assert "tiny@2 has been trained on exactly this" in done.out
        after = digests(copy)
        assert {stage for stage in STAGES if after[stage] != before[stage]} <= set(built)
        assert set(after["curate"]) == set(before["curate"]), "the same corpus, under another key"
        assert [release.number for release in Registry(copy).read("tiny").releases] == [1, 2]
        assert champion(copy).number == 2


class TestRefused:
    def test_a_worse_model_is_kept_out_with_the_numbers(self, nights, copy, shared_server):
        spoil = ("--set", "train.lr=0.3", "--set", "train.schedule=constant")
        done = night(nights, 1, *spoil, store=copy, env=shared_server)
        assert states(done)["train"] == "Completed"
        state = Registry(copy).read("tiny")
        assert (state.champion, len(state.releases)) == (2, 3)
        refused = state.release(3)
        assert not refused.promoted
        assert re.search(
            r"\d\.\d{4} bits per byte is not below the champion's \d\.\d{4} on the same \d+ held-out documents.*: "
            r"\d\.\d{4} worse, 95 % interval of the gain -\d\.\d{4} to [-+]\d\.\d{4}",
            refused.reason,
        )
        assert f"tiny@3 is not promoted: {refused.reason}" in done.out
        assert re.search(r"tiny@3 +│ refused", collect("releases", store=copy).out)
        # The next night starts from the champion, not from what was kept out.
        night(nights, 2, "--until", "curate", store=copy, env=shared_server)
        editions = json.loads((copy / "editions" / "tiny.json").read_text())["editions"]
        assert [edition["start"] and edition["start"]["release"] for edition in editions] == [None, 1, 2]

    def test_a_gain_smaller_than_asked_for_is_kept_out(self, nights, copy, shared_server):
        Registry(copy).rollback("tiny", 1, why="a test")
        done = night(nights, 1, "--set", "release.min_gain=3", store=copy, env=shared_server)
        assert states(done) == dict.fromkeys(STAGES[:-1], "Reused") | {"release": "Completed"}
        assert re.search(r"tiny@3 is not promoted: .* less 3 on the same .*: \d\.\d{4} better", done.out)
        assert champion(copy).number == 1


class TestALargerVocabulary:
    def test_of_the_recipes_own_goes_on_from_the_champion(self, nights, copy, shared_server):
        grown = ("tokenizer.vocab_size=500", "tokenizer.cap=true", "train.grow_vocabulary=true")
        settings = [word for setting in grown for word in ("--set", setting)]
        done = night(nights, 2, *settings, "--until", "evaluate", store=copy, env=shared_server)
        assert states(done)["tokenizer"] == states(done)["train"] == states(done)["evaluate"] == "Completed"
        assert "the vocabulary is the recipe's own: tokens that tiny@2 does not have begin as the mean" in done.out
        (model,) = {a.key for a in Store(copy).artifacts("train")} - keys(nights.store, "train")
        artifact = Store(copy).find("train", model)
        inputs = {entry.name: entry for entry in artifact.manifest.provenance.inputs}
        assert inputs["start"].digest == one(nights, 1, "train").digest
        vocabulary = json.loads((artifact.path / "config.json").read_text())["vocab_size"]
        assert 400 < vocabulary <= 500
        losses = pq.read_table(artifact.path / "metrics.parquet")["loss"].to_pylist()
        assert losses[0] < math.log(vocabulary) - 0.3


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("section", "name", "asked", "has"), [("model", "n_layers", 2, 1), ("tokenizer", "vocab_size", 500, 400)]
    )
    def test_another_shape_or_vocabulary_is_refused_before_anything_is_collected(
        self, nights, copy, shared_server, section, name, asked, has
    ):
        before = bytes_and_times(copy)
        setting = f"{section}.{name}={asked}"
        what, mend = night(nights, 2, "--set", setting, store=copy, env=shared_server, code=2).error
        assert (
            what
            == f"train.init_from is champion, but the recipe asks for {section}.{name} {asked} and tiny@2 has {has}"
        )
        assert mend.endswith("or begin anew: --set train.init_from=scratch")
        assert bytes_and_times(copy) == before

    def test_a_lost_champion_is_told_and_scratch_is_not_taken_by_itself(self, nights, copy, shared_server):
        shutil.rmtree(copy / "train" / one(nights, 1, "train").key)
        what, mend = night(nights, 2, store=copy, env=shared_server, code=1).error
        assert "tiny@2, the champion (train/" in what
        assert "is not in the store any more" in what
        assert "--set train.init_from=scratch" in mend
        # The earlier nights do not need it.
        assert set(states(night(nights, 0, "--until", "export", store=copy, env=shared_server)).values()) == {"Reused"}
        # And the mend mends.
        done = night(nights, 2, "--set", "train.init_from=scratch", "--until", "train", store=copy, env=shared_server)
        assert states(done)["tokenizer"] == states(done)["train"] == "Completed"


class TestKilled:
    def test_killed_in_a_warm_training_it_ends_with_the_same_model(self, nights, copy, shared_server):
        model = one(nights, 1, "train")
        for stage in TRAINED:
            for key in nights.seen[1][stage] - nights.seen[0][stage]:
                shutil.rmtree(copy / stage / key)
        registry = copy / "registry" / "tiny.json"
        state = Registry(nights.store).read("tiny")
        Registry(copy).rollback("tiny", 1, why="a test")
        env = shared_server | {FAULT_VARIABLE: "train.step:9"}
        done = night(nights, 1, store=copy, env=env, code=1)
        assert states(done)["train"] == "Failed"
        assert unfinished(copy) == [f"train-{model.key}"]
        done = night(nights, 1, "--until", "train", store=copy, env=shared_server)
        assert "resuming at step 8" in done.out
        (again,) = (a for a in Store(copy).artifacts("train") if a.key == model.key)
        assert again.digest == model.digest
        assert registry.exists()
        assert state.champion == 2
