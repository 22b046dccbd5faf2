"""One Prefect server that the runs of a session share."""

from __future__ import annotations

import pytest
from helpers_flows import prefect_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """The environment that makes a run use one shared Prefect server instead of starting its own."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield {"PREFECT_API_URL": url}
