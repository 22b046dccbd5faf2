"""One run of a system's small recipe that the tests of a file share; the file names it: `RECIPE = "soma-small"`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))
sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from helpers_flows import prefect_server
from helpers_systems import PATIENCE, SHORT, SmallRun, collect

from storage.store import VARIABLE


def pytest_collection_modifyitems(items):
    """A run of a whole recipe may take long on a machine that others use too."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(PATIENCE + 60))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The environment that makes runs use one shared Prefect server."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield {"PREFECT_API_URL": url}


@pytest.fixture(scope="module")
def small_run(request, server, tmp_path_factory) -> SmallRun:
    """The file's RECIPE run with `--set train.steps=20`, to its release."""
    recipe = request.module.RECIPE
    store, folder = tmp_path_factory.mktemp(recipe), tmp_path_factory.mktemp("typed")
    env = server | {VARIABLE: str(store), "COLLECT_TRAIN_DATA": "none"}
    return SmallRun(recipe, store, folder, env, collect("run", recipe, *SHORT, env=env))
