"""A whole run through the real command line, what it leaves, what running again does, and every other command."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil

import jsonschema
import pytest
import yaml
from helpers_flows import (
    STEPS,
    bytes_and_times,
    collect,
    digests,
    frozen_site,
    states,
    unfinished,
    web_source,
    write_recipe,
)

from lmcore.collect.editions import load_edition
from storage.parquet import read_parquet
from storage.registry import Registry
from storage.store import STAGES, Store

CURATED = ("collect", "measure", "compare", "curate", "tokenizer", "tokens")
CLAIMS = [
    {"metric": "steps", "range": [STEPS, STEPS], "source": "line 1"},
    {"metric": "initial_loss", "range": [None, 1.0], "source": "line 2"},
    {"metric": "unique_line_share", "range": [0.1, 1.0], "source": "line 3"},
    {"metric": "examples", "when": "after stage collect", "range": [5, None], "source": "line 4"},
    {"metric": "perplexity", "range": [None, 9.0], "source": "line 5", "compare": False, "reason": "other tokens"},
    {"metric": "train_loss", "when": "epoch 900", "range": [None, 1.0], "source": "line 6"},
]
LEARNT = ("train", "evaluate", "export", "release")


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def recipe(site, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), web_source(site.url), expect=CLAIMS)


@pytest.fixture(scope="module")
def first(recipe, shared_server, tmp_path_factory):
    """The run that builds everything, and its store, which no test changes."""
    store = tmp_path_factory.mktemp("first") / "store"
    return collect("run", recipe, store=store, env=shared_server), store


@pytest.fixture(scope="module")
def store(first):
    return first[1]


@pytest.fixture
def copy(store, tmp_path):
    """The finished store once more, to be changed."""
    return shutil.copytree(store, tmp_path / "store")


def only(store, stage):
    """The one artifact of a stage."""
    (artifact,) = Store(store).artifacts(stage)
    return artifact


def releases(store):
    """Numbers of all releases, and the champion's."""
    state = Registry(store).read("tiny")
    return [release.number for release in state.releases], state.champion


@pytest.mark.slow
class TestFirstRun:
    def test_every_stage_is_built(self, first):
        done, store = first
        assert states(done) == dict.fromkeys(STAGES, "Completed")
        assert {stage: len(found) for stage, found in digests(store).items()} == dict.fromkeys(STAGES, 1)
        assert unfinished(store) == []
        assert done.err == ""

    def test_the_model_is_champion(self, store):
        assert releases(store) == ([1], 1)
        assert Registry(store).champion("tiny").model_key == only(store, "train").key

    def test_it_tells_the_figures_and_what_to_do_next(self, first):
        done, store = first
        headline = json.loads(only(store, "evaluate").file("evaluation.json").read_text())["headline"]
        assert f"{headline['bits_per_byte']:.3f} │ this model" in done.out
        assert "gzip -9: NOT beaten" in done.out
        assert 'collect-train generate tiny "The"' in done.out

    def test_it_tells_which_claims_it_reached(self, first):
        done, store = first
        told = "3 reached, 1 not reached, 1 not comparable, 1 not measured"
        assert f"what its document claims: {told}" in done.out
        assert re.search(rf"steps +│ end +│ +{STEPS} │ +{STEPS} │ reached", done.out)
        page = (store / re.search(r"report: (\S+report\.html)", done.out).group(1)).read_text()
        section = page[page.index('<section id="claims">') :]
        assert told in section
        assert "not comparable</span> other tokens" in section

    def test_the_report_runs_no_script(self, first):
        done, store = first
        path = re.search(r"report: (\S+report\.html)", done.out).group(1)
        page = (store / path).read_text()
        policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)"', page).group(1)
        rules = dict(rule.split(maxsplit=1) for rule in html.unescape(policy).split("; "))
        assert rules["default-src"] == "'none'"
        assert "script-src" not in rules
        assert "<script" not in page
        for stage in STAGES:
            assert only(store, stage).key[:12] in page, f"{stage} is not in the report"

    def test_the_lineage_leads_back_to_the_pages(self, store):
        for stage, sources in {
            "measure": {"collect"},
            "compare": {"measure"},
            "curate": {"collect", "measure", "compare"},
            "tokenizer": {"curate"},
            "tokens": {"curate", "tokenizer"},
            "train": {"tokens", "tokenizer"},
            "evaluate": {"train", "curate"},
            "export": {"train", "evaluate"},
            "release": {"train", "export", "evaluate"},
        }.items():
            entries = only(store, stage).manifest.provenance.inputs
            assert {entry.stage for entry in entries} == sources
            assert all(only(store, entry.stage).digest == entry.digest for entry in entries)

    def test_transformers_opens_the_export(self, store):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from lmcore import load

        folder = only(store, "export").path / "hf"
        theirs = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = "The frozen site – ünïcödé"
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == prompt
        answer = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, pad_token_id=1
        )
        ours = load("tiny", store).generate(prompt, max_tokens=8, temperature=0)
        assert tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True) == ours

    def test_python_loads_a_release_and_a_folder(self, store):
        from lmcore import load

        texts = {
            load(name, store).generate("The hero", max_tokens=12, seed=3)
            for name in ("tiny", "tiny@1", str(only(store, "train").path))
        }
        assert len(texts) == 1
        assert len(texts.pop()) > 3


@pytest.mark.slow
class TestAgain:
    def test_the_same_run_reuses_everything_and_writes_nothing(self, recipe, store, shared_server):
        before = bytes_and_times(store)
        done = collect("run", recipe, store=store, env=shared_server)
        assert states(done) == dict.fromkeys(STAGES, "Reused")
        assert bytes_and_times(store) == before
        assert releases(store) == ([1], 1)
        assert done.seconds < 60

    def test_a_setting_of_training_changes_training_and_what_follows(self, recipe, copy, shared_server):
        change = ("--set", f"train.steps={3 * STEPS}")
        before = bytes_and_times(copy)
        done = collect("run", recipe, *change, store=copy, env=shared_server)
        assert states(done) == dict.fromkeys(CURATED, "Reused") | dict.fromkeys(LEARNT, "Completed")
        assert before.items() <= bytes_and_times(copy).items()
        assert releases(copy) == ([1, 2], 2), "three times the steps give a better model"

        told = collect("releases", store=copy).out
        assert re.search(r"tiny@1 +│ promoted", told)
        assert re.search(r"tiny@2 +│ champion", told)
        told = collect("rollback", "tiny", "--why", "a test", store=copy).out
        assert told == "champion of tiny is tiny@1 again\n"
        assert re.search(r"tiny@2 +│ withdrawn", collect("releases", "tiny", store=copy).out)

        # Neither run brings the withdrawn release back, nor makes up a new one.
        for settings in (change, ()):
            done = collect("run", recipe, *settings, store=copy, env=shared_server)
            assert states(done) == dict.fromkeys(STAGES, "Reused")
            assert releases(copy) == ([1, 2], 1)
            assert ("tiny@2 was rolled back" in done.out) == bool(settings)
        assert collect("rollback", "tiny", "--to", "2", store=copy).out.startswith("champion of tiny is tiny@2")

    def test_the_same_model_judged_anew_is_released_anew(self, recipe, copy, shared_server):
        done = collect(
            "run", recipe, "--from", "evaluate", "--set", "evaluate.max_bytes=5000", store=copy, env=shared_server
        )
        assert states(done) == dict.fromkeys((*CURATED, "train"), "Reused") | dict.fromkeys(LEARNT[1:], "Completed")
        assert releases(copy) == ([1, 2], 2)

    def test_a_new_edition_of_an_unchanged_site_refers_to_the_old_one(self, site, recipe, copy, shared_server):
        (old,) = Store(copy).artifacts("collect")
        asked = sum(site.hits.values())
        done = collect("run", recipe, "--edition", "new", "--until", "tokens", store=copy, env=shared_server)
        assert sum(site.hits.values()) > asked, "the site was asked again"
        (new,) = (a for a in Store(copy).artifacts("collect") if a.key != old.key)
        figures = new.metrics
        assert (figures["new"], figures["unchanged"]) == (0, old.metrics["records"])
        documents = [read_parquet(path).num_rows for path in (new.path / "documents").iterdir()]
        assert sum(documents) == 0, "a copy was made"
        before, now = (
            load_edition(edition.path, lambda digest: Store(copy).by_digest(digest).path).sort_by("record_id")
            for edition in (old, new)
        )
        assert now.equals(before)
        # The same texts give the same corpus, so that nothing after it is built again.
        built, reused = ("collect", "measure", "curate"), ("compare", "tokenizer", "tokens")
        assert states(done) == dict.fromkeys(built, "Completed") | dict.fromkeys(reused, "Reused")
        assert [len(found) for found in digests(copy).values()] == [2, 2, 1, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.slow
class TestParts:
    def test_until_and_from_and_only(self, recipe, tmp_path, shared_server):
        store = tmp_path / "store"
        done = collect("run", recipe, "--until", "tokenizer", store=store, env=shared_server)
        assert states(done) == dict.fromkeys(CURATED[:-1], "Completed")
        assert not (store / "tokens").exists()
        assert (store / "registry").exists() is False

        done = collect("run", recipe, "--from", "train", store=store, env=shared_server, code=2)
        what, mend = done.error
        assert re.fullmatch(
            r"stage tokens is not built yet for these settings \(it would be tokens/[0-9a-f]{12}\)", what
        )
        assert "--from / --only" in mend
        assert not (store / "tokens").exists()

        done = collect("run", recipe, "--only", "tokens", store=store, env=shared_server)
        assert states(done) == dict.fromkeys(CURATED[:-1], "Reused") | {"tokens": "Completed"}

    def test_only_one_stage_on_what_is_there(self, recipe, copy, shared_server):
        done = collect(
            "run", recipe, "--only", "evaluate", "--set", "evaluate.max_bytes=6000", store=copy, env=shared_server
        )
        assert states(done) == dict.fromkeys((*CURATED, "train"), "Reused") | {"evaluate": "Completed"}
        assert releases(copy) == ([1], 1)


@pytest.mark.slow
class TestLooking:
    def test_status(self, store):
        told = collect("status", store=store).out
        assert told.startswith("champion tiny@1, ")
        for stage in STAGES:
            assert only(store, stage).key[:12] in told

    def test_status_of_a_store_without_anything(self, tmp_path):
        assert (
            "holds no artifact yet; start with: collect-train run quickstart" in collect("status", store=tmp_path).out
        )
        assert list(tmp_path.iterdir()) == [], "looking makes nothing"

    def test_show_an_artifact(self, store):
        train = only(store, "train")
        by_stage = collect("show", f"train/{train.key[:8]}", store=store).out
        assert by_stage == collect("show", train.digest[:10], store=store).out
        assert "model.safetensors" in by_stage
        assert "lineage" in by_stage
        for stage in ("tokens", "tokenizer", "curate", "collect"):
            assert only(store, stage).key[:12] in by_stage

    def test_show_a_recipe(self, recipe):
        told = yaml.safe_load(collect("show", recipe, "--set", "train.steps=7").out)
        assert told["train"]["steps"] == 7
        assert told["train"]["optimizer"] == "adamw"
        assert told["curate"]["gates"]["min_val_documents"] == 1, "a default is written out"
        assert yaml.safe_load(collect("show", "quickstart").out)["name"] == "quickstart"

    def test_why_was_a_text_kept_or_dropped(self, store):
        rows = read_parquet(only(store, "curate").path / "decisions.parquet").to_pylist()
        kept = next(row for row in rows if row["verdict"] == "kept")
        dropped = next(row for row in rows if row["verdict"] == "dropped")
        pages = load_edition(only(store, "collect").path, str).to_pylist()
        urls = {page["record_id"]: page["url"] for page in pages}
        told = collect("why", urls[dropped["record_id"]], store=store).out
        assert re.search(r"verdict +│ dropped", told)
        assert re.search(rf"rule +│ {dropped['rule']}", told)
        told = collect("why", kept["record_id"], store=store).out
        assert re.search(r"verdict +│ kept", told)
        assert urls[kept["record_id"]] in told

    def test_why_of_a_page_that_was_never_seen(self, site, store):
        what, mend = collect("why", site.url + "/section/7", store=store, code=2).error
        assert "knows no page or record" in what
        assert "the nearest is " + site.url in mend

    def test_sql(self, store):
        query = "select verdict, count(*) as n from decisions group by all order by verdict"
        rows = list(csv.DictReader(io.StringIO(collect("sql", "--csv", query, store=store).out)))
        assert [row["verdict"] for row in rows] == ["dropped", "kept"]
        assert sum(int(row["n"]) for row in rows) == only(store, "collect").metrics["records"]
        assert "2 rows" in collect("sql", query, store=store).out

    @pytest.mark.parametrize(
        "query",
        [
            "select * from read_csv('/etc/passwd')",
            "copy (select 1) to '/tmp/collect-train-stolen.csv'",
            "install httpfs",
            "attach '/tmp/other.db'",
            "select 1; drop view documents",
            "set enable_external_access=true",
            "select nonsense from documents",
        ],
    )
    def test_sql_that_is_more_than_a_question(self, store, query):
        what, _ = collect("sql", query, store=store, code=2).error
        assert what.startswith("the query is")

    def test_verify_and_info_and_schema(self, store, recipe):
        assert "10 artifacts verified, 0 damaged" in collect("verify", store=store).out
        told = collect("info", "tiny", store=store).out
        assert re.search(r"release +│ tiny@1", told)
        assert re.search(r"parameters +│ 29,312", told)
        schema = json.loads(collect("schema").out)
        with open(recipe) as file:
            jsonschema.validate(yaml.safe_load(file), schema)
        with pytest.raises(jsonschema.ValidationError, match="trian"):
            jsonschema.validate({"name": "x", "trian": {}}, schema)

    def test_params(self, recipe, store):
        told = collect("params", recipe).out
        total = only(store, "train").metrics["parameters"]
        assert re.search(rf"total +│ +│ {total:,}", told)
        for name in ("model file", "training memory", "tokens a step", "budget"):
            assert name in told


@pytest.mark.slow
class TestTalking:
    def test_generate(self, store):
        command = ("generate", "tiny", "The hero", "--max-tokens", "12", "--seed", "5")
        told = collect(*command, store=store).out
        assert told.startswith("The hero")
        assert len(told) > len("The hero\n")
        assert collect(*command, store=store).out == told

    def test_chat_answers_each_line_but_empty_ones_until_quit(self, store):
        lines = "Hello\n\nAnd you?\n/quit\nnever read\n"
        told = collect("chat", "tiny@1", "--max-tokens", "5", store=store, stdin=lines).out
        assert told.startswith("tiny@1: 29,312 parameters")
        assert told.count("model> ") == 2

    def test_chat_ends_with_its_input(self, store):
        assert collect("chat", "tiny", "--max-tokens", "3", store=store, stdin="Hello").out.count("model> ") == 1

    def test_a_model_that_is_not_there(self, store):
        what, mend = collect("generate", "tinny", "The", store=store, code=2).error
        assert "'tinny'" in what
        assert "tiny" in mend
        assert "there is no release tiny@9" in collect("info", "tiny@9", store=store, code=2).error[0]
        what, _ = collect("rollback", "tiny", store=store, code=2).error
        assert "tiny has no earlier champion" in what


@pytest.mark.slow
def test_debug_shows_the_traceback(store):
    done = collect("show", "train/ffff", "--debug", store=store, code=2)
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-2].startswith("error: no artifact 'train/ffff' in ")
    assert "Traceback" not in collect("show", "train/ffff", store=store, code=2).err
