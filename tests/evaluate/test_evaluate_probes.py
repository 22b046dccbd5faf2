"""The stage with every further measurement: what is kept, taken up again, grouped and refused."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from lmcore.evaluate.params import EvaluateParams, EvaluateRuntime
from lmcore.evaluate.probes.settings import check_probes
from lmcore.evaluate.stage import evaluate
from lmcore.progress import silent
from lmcore.recipe import parse_recipe
from storage.errors import UserError

ASKED = {
    "bootstrap_draws": 100,
    "splits": ("test",),
    "baselines": (),
    "prompts": ("the hero",),
    "sampling": {"max_tokens": 4},
    "positions": (4, 8),
    "genres": {"paper": ("files",)},
    "group_by": ("license", "synthetic"),
    "terms": {"words": ("hero",), "mined": 3, "domain": ("web",), "general": ("files",), "min_count": 2},
    "dialogue": {"texts": 3, "prompt_tokens": 4, "tokens": 8},
    "text_scores": ("amharic",),
}


def run(work, trained, curated):
    params, runtime = EvaluateParams(**ASKED), EvaluateRuntime(device="cpu")
    evaluate(work, trained, curated, params=params, runtime=runtime, report=silent)
    return json.loads((work / "out" / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(trained, curated, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return work, run(work, trained, curated)


def test_each_is_under_the_name_of_its_setting(done):
    found = done[1]["probes"]
    assert found.keys() == {"positions", "terms", "dialogue", "text_scores"}
    assert found["terms"]["terms"][0] == "hero"
    assert found["terms"]["recall"] is not None
    assert found["dialogue"]["texts"] == 3
    assert found["text_scores"]["amharic"].keys() == {"greedy", "sampled"}
    assert len(found["positions"]["buckets"]) == 3


def test_groups_by_genre_and_column_add_up(done):
    groups, headline = done[1]["groups"], done[1]["headline"]
    assert groups["genre"].keys() == {"paper", "other"}
    assert groups["genre"]["paper"] == groups["source"]["files"]
    assert groups["synthetic"].keys() == {"False"}
    assert groups["license"].keys() == {"unknown"}
    for of in (groups["genre"], groups["license"], groups["synthetic"]):
        assert sum(one["bytes"] for one in of.values()) == headline["bytes"]
        bits = sum(one["bits_per_byte"] * one["bytes"] for one in of.values())
        assert math.isclose(bits, headline["bits_per_byte"] * headline["bytes"], rel_tol=1e-9)


def test_what_is_known_is_not_measured_again(done, trained, curated):
    work, found = done
    kept = {path: path.stat().st_mtime_ns for path in (work / "probes").iterdir()}
    assert {path.stem for path in kept} == {"positions", "terms", "dialogue", "text_scores"}
    (work / "probes" / "terms.json").unlink()
    assert run(work, trained, curated) == found
    again = {path for path, then in kept.items() if path.stat().st_mtime_ns != then}
    assert {path.stem for path in again} == {"terms"}


def test_wrong_settings_are_refused():
    for wrong in (
        {"terms": {"words": [" hero"]}},
        {"terms": {"words": [""]}},
        {"dialogue": {"kinds": []}},
        {"dialogue": {"tokens": 1}},
        {"translation": {"pairs": 0}},
        {"text_scores": ["hungarian"]},
        {"text_scores": ["amharic", "amharic"]},
        {"group_by": ["tags"]},
    ):
        with pytest.raises(ValidationError):
            EvaluateParams.model_validate_json(json.dumps(wrong))


def test_sources_that_are_not_there_are_named():
    recipe = {
        "name": "mine",
        "sources": [{"name": name, "kind": "files", "paths": ["*.txt"]} for name in ("films", "web")],
        "model": {"context": 64},
        "train": {"steps": 1},
    }
    for asked, place in (
        ({"genres": {"paper": ["film"]}}, "genres.paper"),
        ({"terms": {"mined": 5, "domain": ["film"], "general": ["web"]}}, "terms.domain"),
        ({"terms": {"mined": 5, "domain": ["web"], "general": ["film"]}}, "terms.general"),
    ):
        with pytest.raises(UserError) as told:
            parse_recipe(recipe | {"evaluate": asked}, "mine")
        assert told.value.what == f"mine: evaluate.{place} names 'film', and there is no such source"
        assert told.value.mend == "did you mean films? the sources are films, web"


def test_genres_name_sources_once():
    with pytest.raises(UserError, match="'web' in two genres"):
        check_probes(EvaluateParams(genres={"a": ("web",), "b": ("web", "files")}), ["web", "files"], 64)
