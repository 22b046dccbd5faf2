"""One site, one folder of recipes and one `collect-train up` that the tests of a session share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))

from helpers_deploy import Up
from helpers_flows import frozen_site, web_source, write_recipe


@pytest.fixture(scope="session")
def frozen():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="session")
def recipes(tmp_path_factory, frozen):
    """A folder of recipes: tiny; slow, whose training is disturbed; shown, of two sources."""
    folder = tmp_path_factory.mktemp("recipes")
    write_recipe(folder, web_source(frozen.url))
    slow = {"steps": 120, "batch": 8, "micro_batch": 2}
    write_recipe(folder, web_source(frozen.url), name="slow.yaml", train=slow)
    section = web_source(frozen.url, name="section", seeds=[f"{frozen.url}/section/5"], max_pages=6, max_depth=1)
    its_own = web_source(frozen.url, max_pages=29)  # nothing of it is in the store, whatever has run before
    write_recipe(folder, its_own, section, name="shown.yaml")
    for name in ("slow", "shown"):  # lineages of their own in the store that the modules share
        path = folder / f"{name}.yaml"
        path.write_text(path.read_text().replace("name: tiny", f"name: {name}", 1))
    return folder


@pytest.fixture(scope="session")
def up(tmp_path_factory, recipes):
    """A shared `collect-train up`."""
    running = Up(tmp_path_factory.mktemp("up"), recipes=recipes)
    yield running
    running.stop()
