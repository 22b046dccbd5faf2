"""Targets: sources read more in every round until there is enough, or more is not worth it."""

import pytest
from frozen_site import FrozenSite, Reply
from helpers_flows import collect, web_source, write_recipe

from flows.rounds import collect_in_rounds
from lmcore.collect.target import Target, Yield, standing
from lmcore.recipe import parse_recipe
from storage.store import Store

WORDS = "A page of this site has quite enough words to be a record of the collection, and says so. "


class Made:
    """What a round leaves, as the rounds see it."""

    def __init__(self, records, unique):
        self.metrics = {"records": records, "unique": unique}


def rounds_of(target=None, own=None, *, yields, first=None):
    """Which rounds were collected for sources `site` (with a budget) and `folder` (without), and what was said."""
    site = {"name": "site", "kind": "web", "seeds": ["http://s.example/"], "max_pages": 10}
    folder = {"name": "folder", "kind": "files", "paths": ["*.txt"]}
    values = {"name": "r", "train": {"steps": 1}, "sources": [site | ({"target": own} if own else {}), folder]}
    recipe = parse_recipe(values | ({"target": target} if target else {}), "test")
    seen, said = [], []

    def collect_some(rounds, before):
        seen.append(dict(rounds))
        assert set(before) == (set() if len(seen) == 1 else {"site", "folder"})
        return {name: Made(*yields[name][number - 1]) for name, number in rounds.items()}

    made = collect_in_rounds(recipe, collect_some, first or {}, said.append)
    assert set(made) == {"site", "folder"}
    return seen, [line.strip() for line in said]


FOLDER = [(3, 3)]


def test_without_a_target_there_is_one_round():
    assert rounds_of(yields={"site": [(10, 10)], "folder": FOLDER}) == ([{"site": 1, "folder": 1}], [])


def test_only_what_has_a_budget_grows_until_the_target_is_reached():
    seen, said = rounds_of(
        {"texts": 30, "tiers": {"least": 10, "fine": 25}},
        yields={"site": [(10, 10), (20, 20), (30, 29)], "folder": FOLDER},
    )
    assert seen == [{"site": 1, "folder": 1}, {"site": 2}, {"site": 3}]
    assert said == [
        "target of recipe r: 13 of 30 unique texts after 1 round, tier least (10)",
        "target of recipe r: 23 of 30 unique texts after 2 rounds, tier least (10)",
        "target of recipe r: 32 of 30 unique texts after 3 rounds, tier fine (25): reached",
    ]


def test_it_stops_when_the_yield_falls():
    seen, said = rounds_of({"texts": 99}, yields={"site": [(10, 10), (110, 12)], "folder": FOLDER})
    assert seen[1:] == [{"site": 2}]
    assert said[-1].endswith("15 of 99 unique texts after 2 rounds: only 2 of the last 100 texts were new")
    seen, said = rounds_of({"texts": 99}, yields={"site": [(10, 10), (10, 10)], "folder": FOLDER})
    assert said[-1].endswith("nothing more came")
    seen, said = rounds_of({"texts": 99, "rounds": 2}, yields={"site": [(10, 10), (20, 20)], "folder": FOLDER})
    assert said[-1].endswith("no more rounds")


def test_a_source_with_a_target_of_its_own_grows_by_that():
    yields = {"site": [(10, 10), (20, 20)], "folder": FOLDER}
    seen, said = rounds_of({"texts": 1000}, {"texts": 15}, yields=yields)
    assert seen == [{"site": 1, "folder": 1}, {"site": 2}]
    assert said == [
        "target of source site: 10 of 15 unique texts after 1 round",
        "target of recipe r: 13 of 1,000 unique texts after 1 round: no source of it has a budget",
        "target of source site: 20 of 15 unique texts after 2 rounds: reached",
    ]


def test_an_edition_goes_on_where_the_one_before_ended():
    seen, _ = rounds_of({"texts": 20}, yields={"site": [(10, 10), (20, 20)], "folder": FOLDER}, first={"site": 2})
    assert seen == [{"site": 2, "folder": 1}]


def test_rounds_of_a_source_with_a_target_of_its_own_are_not_those_of_the_recipe():
    """It is in its fifth round from the edition before; the recipe's only other source with a budget begins."""
    values = {"name": "r", "train": {"steps": 1}, "target": {"texts": 100_000}}
    sites = [{"name": name, "kind": "web", "seeds": [f"http://{name}.example/"]} for name in ("own", "other")]
    recipe = parse_recipe({**values, "sources": [{**sites[0], "target": {"texts": 10}}, sites[1]]}, "test")
    seen, said = [], []

    def collect_some(rounds, before):
        seen.append(dict(rounds))
        return {name: Made(30 * number, 30 * number) for name, number in rounds.items()}

    collect_in_rounds(recipe, collect_some, {"own": 5}, said.append)
    assert seen == [{"own": 5, "other": 1}, *({"other": number} for number in range(2, 6))]
    assert said[-1].strip().endswith("no more rounds")


@pytest.mark.parametrize(("unique", "tier"), [(9, ""), (10, "least"), (24, "least"), (25, "fine"), (26, "fine")])
def test_tiers(unique, tier):
    target = Target(texts=50, tiers={"fine": 25, "least": 10})
    assert target.tier(unique) == tier
    assert (f"tier {tier}" in standing(target, "x", 1, Yield(unique, unique), Yield(0, 0)).line) == bool(tier)


@pytest.mark.slow
def test_a_crawl_grows_round_by_round_and_asks_for_nothing_twice(tmp_path):
    """The real command: 40 pages, 12 in the first round; the second run does nothing, the next edition goes on."""
    pages = {f"/p{number:02d}": Reply(body=f"<p>{WORDS * 3}{number}</p>") for number in range(40)}
    links = "".join(f'<a href="{path}">{path}</a>' for path in pages)
    with FrozenSite(pages={"/": Reply(body=f"<p>{WORDS * 3}</p>{links}"), **pages}) as site:
        source = web_source(site.url, max_pages=12, target={"texts": 30, "tiers": {"least": 10}})
        recipe = write_recipe(tmp_path, source)
        store = tmp_path / "store"
        done = collect("run", recipe, "--until", "collect", store=store)
        assert "12 of 30 unique texts after 1 round, tier least (10)" in done.out
        assert "36 of 30 unique texts after 3 rounds, tier least (10): reached" in done.out
        asked = {path: count for path, count in site.requests.items() if path != "/robots.txt"}
        assert len(asked) == 36
        assert set(asked.values()) == {1}
        rounds = sorted(a.manifest.provenance.params.get("round", 1) for a in Store(store).artifacts("collect"))
        assert rounds == [1, 2, 3]
        again = collect("run", recipe, "--until", "collect", store=store)
        assert "36 of 30 unique texts after 3 rounds" in again.out
        assert {path: count for path, count in site.requests.items() if path != "/robots.txt"} == asked
        collect("run", recipe, "--until", "collect", "--edition", "new", store=store)
        editions = {
            (a.manifest.provenance.params["edition"], a.manifest.provenance.params.get("round", 1))
            for a in Store(store).artifacts("collect")
        }
        assert len(editions) == 4
        assert sum(number == 3 for _, number in editions) == 2, "the new edition begins with the round of the last"
