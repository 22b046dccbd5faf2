"""One Prefect server for the whole session, and none of the user's own Prefect settings."""

from __future__ import annotations

import pytest
from helpers_flows import prefect_server


@pytest.fixture(scope="session", autouse=True)
def _own_prefect(tmp_path_factory):
    """Prefect's profiles and files of these tests stay in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLECT_TRAIN_TEST_PREFECT", str(tmp_path_factory.mktemp("prefect-home")))
        yield


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """The environment that makes a run use one shared Prefect server instead of starting its own."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield {"PREFECT_API_URL": url}
