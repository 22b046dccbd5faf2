"""What a run resolves at its start: editions, parents, the plan, the model to compare with, the range of stages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flows.plan import Start, _is_same, make_plan, opponent, resolve_edition, run_folder, scheduled_edition
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


def release(store, number, promote=True):
    """A release of a model that is no artifact of the store, and champion if promoted."""
    registry = Registry(store.root)
    registry.record(
        "tiny", release_key=f"{number}", digest=f"{number}", model_key=f"{number}" * 24,
        model_digest=f"{number}" * 64, export_key=None, bits_per_byte=1.0, reason="",
    )  # fmt: skip
    if promote:
        registry.promote("tiny", number, expected=registry.read("tiny").champion)


def today(zone="UTC"):
    return datetime.now(ZoneInfo(zone)).date().isoformat()


@pytest.mark.parametrize("run", ["../../evil", "..", ".", "", "/etc", "a/b", "a\\b", "run\n", "x" * 129])
def test_a_name_of_a_run_leads_nowhere_else(store, run):
    with pytest.raises(UserError, match="cannot name a run"):
        run_folder(store, run)


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

    def test_a_source_that_reads_in_further_places_is_the_same(self):
        def feed(*feeds, **more):
            return {"kind": "feed", "name": "news", "preset": None, "feeds": list(feeds), "max_entries": 5, **more}

        one = feed("http://a/feed")
        assert _is_same(one, feed("http://a/feed", max_entries=9))
        assert _is_same(one, feed("http://b/feed", "http://a/feed"))
        assert not _is_same(one, feed("http://b/feed"))
        assert not _is_same(one, feed("http://a/feed", name="other"))
        assert not _is_same(one, feed("http://a/feed", preset="bbc-amharic"))
        assert not _is_same(one, {**one, "kind": "web"})

    def test_parents_are_fixed_when_the_edition_is_made(self, store):
        first = resolve_edition(store, recipe(), "one")
        second = resolve_edition(store, recipe(), "two")
        collected(store, "texts", "one", "1")
        assert resolve_edition(store, recipe(), "one") == first
        assert resolve_edition(store, recipe(), "two") == second
        assert second.parents == {}

    def test_the_champion_of_its_beginning_is_fixed_too(self, store):
        assert resolve_edition(store, recipe(), "one").start is None
        release(store, 1)
        second = resolve_edition(store, recipe(), "two")
        assert second.start == Start(release=1, model_key="1" * 24, model_digest="1" * 64)
        release(store, 2)
        assert resolve_edition(store, recipe(), "two") == second, "the champion has moved, the edition has not"
        assert resolve_edition(store, recipe(), "one").start is None
        assert resolve_edition(store, recipe(), "three").start.release == 2
        assert resolve_edition(store, recipe(name="other"), "one").start is None, "each recipe has its own champion"
        Registry(store.root).rollback("tiny", why="a test")
        assert resolve_edition(store, recipe(), "four").start.release == 1

    def test_a_refused_release_is_no_start(self, store):
        release(store, 1, promote=False)
        assert resolve_edition(store, recipe(), "one").start is None

    def test_a_list_from_before_starts_were_noted_can_be_read(self, store):
        path = store.root / "editions" / "tiny.json"
        path.parent.mkdir(parents=True)
        old = {"name": "2026-01-02", "created": "2026-01-02T03:04:05+00:00", "parents": {"texts": "a" * 64}}
        path.write_text(json.dumps({"format": 1, "editions": [old]}))
        release(store, 1)
        assert resolve_edition(store, recipe(), "").start is None, "what was trained in it was not trained from this"
        assert resolve_edition(store, recipe(), "new").start is None, "it has collected nothing yet"
        collected(store, "texts", "2026-01-02", "1")
        assert resolve_edition(store, recipe(), "new").start.release == 1
        assert [edition["name"] for edition in json.loads(path.read_text())["editions"]] == ["2026-01-02", today()]

    def test_a_damaged_list_is_named(self, store):
        resolve_edition(store, recipe(), "one")
        path = store.root / "editions" / "tiny.json"
        path.write_text(path.read_text()[:40])
        with pytest.raises(RunError, match=r"list of editions .*tiny.json is damaged"):
            resolve_edition(store, recipe(), "")


class TestScheduled:
    """Editions of scheduled dates: shared by the runs of one date, and always in the order of the days."""

    def begin(self, store, *names, created):
        """Put editions on record that were begun at an instant."""
        path = store.root / "editions" / "tiny.json"
        known = json.loads(path.read_text())["editions"] if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        known += [{"name": name, "created": created, "parents": {}, "start": None} for name in names]
        path.write_text(json.dumps({"format": 1, "editions": known}))

    def names(self, store):
        return [
            edition["name"] for edition in json.loads((store.root / "editions" / "tiny.json").read_text())["editions"]
        ]

    @pytest.mark.parametrize(
        ("zone", "name"),
        [("UTC", "2026-03-01"), ("Pacific/Auckland", "2026-03-02"), ("America/New_York", "2026-03-01")],
    )
    def test_it_is_called_by_the_date_it_was_scheduled_for_where_the_recipe_lives(self, zone, name):
        assert scheduled_edition(recipe(timezone=zone), datetime(2026, 3, 1, 12, 30, tzinfo=UTC)) == name

    def test_the_night_the_clocks_change_is_one_date(self):
        home = recipe(timezone="Europe/Budapest")
        nights = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]  # 02:30 at home, twice
        assert {scheduled_edition(home, night) for night in nights} == {"2026-10-25"}

    def test_an_instant_is_asked_for(self):
        with pytest.raises(AssertionError):
            scheduled_edition(recipe(), datetime(2026, 3, 1))

    def test_two_runs_of_one_date_share_an_edition(self, store):
        when = datetime(2026, 3, 1, 2, tzinfo=UTC)
        first = resolve_edition(store, recipe(), scheduled_edition(recipe(), when))
        collected(store, "texts", first.name, "1")
        second = resolve_edition(store, recipe(), scheduled_edition(recipe(), when + timedelta(hours=20)))
        assert second == first
        assert first.name == "2026-03-01"

    def test_a_run_that_starts_late_uses_the_newest_when_a_later_day_has_begun(self, store):
        self.begin(store, "2026-03-01", created="2026-03-01T02:00:00+00:00")
        self.begin(store, "2026-03-03", created="2026-03-03T02:00:00+00:00")
        told = []
        assert resolve_edition(store, recipe(), "2026-03-02", told.append).name == "2026-03-03"
        assert told == [
            "edition 2026-03-03 has been begun: it is too late to collect 2026-03-02, and 2026-03-03 is used"
        ]
        assert self.names(store) == ["2026-03-01", "2026-03-03"], "it parents nothing, for it is not made"
        assert resolve_edition(store, recipe(), "2026-03-01", told.append).name == "2026-03-01", "it was begun in time"
        assert resolve_edition(store, recipe(), "2026-03-04", told.append).name == "2026-03-04"
        assert len(told) == 1

    def test_the_newest_is_the_last_one_begun_whatever_it_is_called(self, store):
        self.begin(store, "2026-03-03", "2026-03-03-2", "by hand", created="2026-03-03T12:00:00+00:00")
        assert resolve_edition(store, recipe(), "2026-03-02").name == "by hand"

    def test_nights_that_start_late_one_after_the_other_keep_their_editions(self, store):
        for name in ("2026-03-01", "2026-03-02"):
            assert resolve_edition(store, recipe(), name).name == name
        assert self.names(store) == ["2026-03-01", "2026-03-02"]

    def test_an_edition_named_after_a_day_to_come_stops_no_night(self, store):
        self.begin(store, "2999-12-31", created="2026-03-01T12:00:00+00:00")
        told = []
        assert resolve_edition(store, recipe(), "2026-03-02", told.append).name == "2026-03-02"
        assert told == []

    def test_names_that_are_no_dates_are_as_ever(self, store):
        self.begin(store, "2026-03-03", created="2026-03-03T02:00:00+00:00")
        for name in ("2026-03-02-again", "20260302", "2026-02-30"):
            assert resolve_edition(store, recipe(), name).name == name

    def test_the_day_it_was_begun_is_taken_in_the_recipes_time_zone(self, store):
        # Begun at 23:30 UTC of the first, which is the second in Budapest: named by its day there.
        self.begin(store, "2026-03-02", created="2026-03-01T23:30:00+00:00")
        home = recipe(timezone="Europe/Budapest")
        assert resolve_edition(store, home, "2026-03-01").name == "2026-03-02"

    def test_a_plan_tells_it(self, store):
        self.begin(store, "2026-03-03", created="2026-03-03T02:00:00+00:00")
        told = []
        plan = make_plan(store, recipe(), "2026-03-02", "run-1", told.append)
        assert (plan.edition.name, len(told)) == ("2026-03-03", 1)
        assert make_plan(store, recipe(), "2026-03-02", "run-1", told.append) == plan
        assert len(told) == 1, "once"


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
        assert [wanted.mode(stage) for stage in STAGES[:8]] == ["reuse"] * 5 + ["build"] * 3
        for stage in STAGES[8:]:
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
        assert ", ".join(STAGES) in caught.value.mend
