"""What a run resolves at its start: editions, parents, the plan, the model to compare with, the range of stages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flows.plan import make_plan, opponent, resolve_edition, run_folder
from flows.stages import Finished, Range
from lmcore.recipe import parse_recipe
from storage.errors import RunError, UserError
from storage.manifest import Provenance
from storage.registry import Registry
from storage.store import STAGES, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def recipe(*sources, **changes):
    named = [{"name": name, "kind": "files", "paths": ["*.txt"]} for name in sources or ("texts",)]
    return parse_recipe({"name": "tiny", "sources": named, "train": {"steps": 1}} | changes, "the test")


def publish(store, stage, key, text, **params):
    """A finished artifact with one file that holds `text`."""
    out = store.work(stage, key) / "out"
    out.mkdir()
    (out / "data.txt").write_text(text)
    provenance = Provenance(
        params=params, stage_version=1, pure=True, inputs=[], metrics={}, started="", finished="", seconds=0,
        attempts=1, host="", environment={}, code={}, run="",
    )  # fmt: skip
    return store.publish(stage, key, out, provenance)


def collected(store, source, edition, key):
    return publish(
        store,
        "collect",
        key,
        f"{source} {edition}",
        edition=edition,
        source=recipe(source).sources[0].model_dump(mode="json"),
    )


def today(zone="UTC"):
    return datetime.now(ZoneInfo(zone)).date().isoformat()


class TestEditions:
    def test_the_first_one_is_todays(self, store):
        before = today()
        assert resolve_edition(store, recipe(), "").name in (before, today())

    def test_empty_is_the_newest_whatever_its_name(self, store):
        resolve_edition(store, recipe(), "zzz")
        resolve_edition(store, recipe(), "aaa")
        assert resolve_edition(store, recipe(), "").name == "aaa"

    def test_today_is_made_once_a_day(self, store):
        resolve_edition(store, recipe(), "older")
        first = resolve_edition(store, recipe(), "today")
        assert first.name == today()
        assert resolve_edition(store, recipe(), "today") == first
        assert resolve_edition(store, recipe(), "") == first

    def test_new_is_always_another_one(self, store):
        names = []
        for number in range(3):
            names.append(resolve_edition(store, recipe(), "new").name)
            collected(store, "texts", names[-1], f"{number:024x}")
        assert names == [today(), f"{today()}-2", f"{today()}-3"]

    def test_new_goes_on_with_one_that_has_nothing_yet(self, store):
        collected(store, "texts", resolve_edition(store, recipe(), "new").name, "1")
        killed = resolve_edition(store, recipe(), "new")
        collected(store, "other", killed.name, "2")
        assert resolve_edition(store, recipe(), "new") == killed
        collected(store, "texts", killed.name, "3")
        assert resolve_edition(store, recipe(), "new") != killed

    def test_a_name_means_the_same_edition_for_ever(self, store):
        first = resolve_edition(store, recipe(), "spring_2026.1")
        resolve_edition(store, recipe(), "later")
        assert resolve_edition(store, recipe(), "spring_2026.1") == first

    @pytest.mark.parametrize("name", ["a b", "../up", "a/b", "..", "x" * 65, "a:b"])
    def test_a_name_that_cannot_be_one(self, store, name):
        with pytest.raises(UserError, match="cannot name an edition"):
            resolve_edition(store, recipe(), name)
        assert not (store.root / "editions" / "tiny.json").exists()

    def test_the_day_is_taken_in_the_recipes_time_zone(self, store):
        # Twenty-six hours lie between these two: their dates are never the same.
        east = resolve_edition(store, recipe(timezone="Pacific/Kiritimati", name="east"), "today").name
        west = resolve_edition(store, recipe(timezone="Etc/GMT+12", name="west"), "today").name
        assert (east, west) == (today("Pacific/Kiritimati"), today("Etc/GMT+12"))
        assert datetime.fromisoformat(east) - datetime.fromisoformat(west) >= timedelta(days=1)

    def test_each_recipe_has_its_own(self, store):
        resolve_edition(store, recipe(name="one"), "first")
        assert resolve_edition(store, recipe(name="two"), "").name == today()

    def test_the_parent_is_the_newest_finished_collection_of_the_source(self, store):
        both = recipe("a", "b")
        assert resolve_edition(store, both, "one").parents == {}
        a1, b1 = collected(store, "a", "one", "1"), collected(store, "b", "one", "2")
        assert resolve_edition(store, both, "two").parents == {"a": a1.digest, "b": b1.digest}
        a2 = collected(store, "a", "two", "3")  # b was never finished in edition two
        collected(store, "c", "two", "4")
        collected(store, "b", "of another recipe", "5")
        assert resolve_edition(store, both, "three").parents == {"a": a2.digest, "b": b1.digest}

    def test_parents_are_fixed_when_the_edition_is_made(self, store):
        first = resolve_edition(store, recipe(), "one")
        second = resolve_edition(store, recipe(), "two")
        collected(store, "texts", "one", "1")
        assert resolve_edition(store, recipe(), "one") == first
        assert resolve_edition(store, recipe(), "two") == second
        assert second.parents == {}

    def test_a_damaged_list_is_named(self, store):
        resolve_edition(store, recipe(), "one")
        path = store.root / "editions" / "tiny.json"
        path.write_text(path.read_text()[:40])
        with pytest.raises(RunError, match=r"list of editions .*tiny.json is damaged"):
            resolve_edition(store, recipe(), "")


class TestPlan:
    def test_it_is_written_once_and_read_again(self, store):
        first = make_plan(store, recipe(), "one", "run-1")
        path = run_folder(store, "run-1") / "plan.json"
        written = path.stat().st_mtime_ns
        resolve_edition(store, recipe(), "two")
        assert make_plan(store, recipe("others"), "", "run-1") == first
        assert path.stat().st_mtime_ns == written
        assert make_plan(store, recipe(), "", "run-2").edition.name == "two"

    def test_it_holds_the_recipe_with_every_default(self, store):
        plan = make_plan(store, recipe(), "", "run-1")
        assert plan.parsed() == recipe()
        assert plan.recipe["train"]["batch"] == recipe().train.batch

    def test_a_run_without_a_name_gets_one(self, store):
        names = {make_plan(store, recipe()).run for _ in range(2)}
        assert len(names) == 2
        assert all(name.startswith(f"{datetime.now(UTC):%Y%m%d}") for name in names)
        assert {path.parent.name for path in (store.root / "runs").glob("*/plan.json")} == names

    def test_a_damaged_one_is_named(self, store):
        make_plan(store, recipe(), "", "run-1")
        path = run_folder(store, "run-1") / "plan.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"format": "x"}))
        with pytest.raises(RunError, match=r"plan .*plan.json is damaged"):
            make_plan(store, recipe(), "", "run-1")


class TestOpponent:
    @pytest.fixture
    def models(self, store):
        return [publish(store, "train", f"{n}" * 24, f"model {n}") for n in range(4)]

    def released(self, store, number, model, evaluated="", promote=True):
        """Put a release of a model on record as a run does, and make it champion."""
        registry = Registry(store.root)
        release = registry.record(
            "tiny", release_key=f"{number}", digest=f"{model.digest} {evaluated}", model_key=model.key,
            model_digest=model.digest, export_key=None, bits_per_byte=1.0, reason="",
        )  # fmt: skip
        assert release.number == number
        if promote:
            registry.promote("tiny", number, expected=registry.read("tiny").champion)

    def met(self, store, model):
        found = opponent(store, Registry(store.root).read("tiny"), model)
        return found and (found.number, found.model)

    def test_there_is_none_before_the_first_release(self, store, models):
        assert self.met(store, models[1]) is None
        self.released(store, 1, models[1], promote=False)
        assert self.met(store, models[2]) is None

    def test_another_model_meets_the_champion(self, store, models):
        self.released(store, 1, models[1])
        assert self.met(store, models[2]) == (1, models[1])

    def test_the_champion_itself_meets_the_one_it_followed(self, store, models):
        self.released(store, 1, models[1])
        assert self.met(store, models[1]) is None
        self.released(store, 2, models[2])
        assert self.met(store, models[2]) == (1, models[1])
        self.released(store, 3, models[3])
        assert self.met(store, models[3]) == (2, models[2])
        assert self.met(store, models[1]) == (3, models[3])

    def test_after_a_rollback_the_champion_meets_nobody_new(self, store, models):
        self.released(store, 1, models[1])
        self.released(store, 2, models[2])
        Registry(store.root).rollback("tiny", why="worse to talk to")
        assert self.met(store, models[1]) is None
        assert self.met(store, models[2]) == (1, models[1])
        assert self.met(store, models[3]) == (1, models[1])

    def test_a_model_that_was_released_twice_does_not_meet_itself(self, store, models):
        self.released(store, 1, models[1])
        self.released(store, 2, models[2])
        self.released(store, 3, models[2], "on more text")
        assert self.met(store, models[2]) == (1, models[1])

    def test_a_champion_that_the_store_lost_or_rebuilt_is_no_opponent_and_that_is_told(self, store, models):
        self.released(store, 1, models[1])
        for rebuilt in (False, True):
            if rebuilt:
                publish(store, "train", models[1].key, "other weights")
            else:
                store.set_aside("train", models[1].key, "test")
            told = []
            assert opponent(store, Registry(store.root).read("tiny"), models[2], told.append) is None
            assert "champion 1" in told[0]


class TestRange:
    def test_everything_is_built_unless_asked_otherwise(self):
        assert {Range().mode(stage) for stage in STAGES} == {"build"}

    def test_what_comes_before_must_be_there_and_what_comes_after_is_left_out(self):
        wanted = Range("tokens", "evaluate")
        assert [wanted.mode(stage) for stage in STAGES[:6]] == ["reuse"] * 3 + ["build"] * 3
        for stage in STAGES[6:]:
            with pytest.raises(Finished):
                wanted.mode(stage)

    @pytest.mark.parametrize(
        ("first", "last", "what"),
        [
            ("collect", "tran", "there is no stage 'tran'"),
            ("", "train", "there is no stage ''"),
            ("train", "tokens", "--from train comes after --until tokens"),
        ],
    )
    def test_a_range_that_cannot_be(self, first, last, what):
        with pytest.raises(UserError, match=what) as caught:
            Range(first, last)
        assert "collect, curate, tokenizer, tokens, train, evaluate, export, release" in caught.value.mend
