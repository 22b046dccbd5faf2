"""One Prefect server for the whole session, on a database that is thrown away."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """Prefect's own harness, quiet, away from the user's profile; gives the URL of its API."""
    quiet = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect-home")),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield PREFECT_API_URL.value()


@pytest.fixture
def told():
    """told(): what a person who watches has been told so far, as plain text."""
    from tasks.progress import terminal

    screen = io.StringIO()
    with terminal(Console(file=screen, width=200, force_terminal=False)):
        yield screen.getvalue


@pytest.fixture
def task_states(prefect_server):
    """task_states(flow_run_id, count): (name, type) of the last state of each task run, in order of their start."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    def read(flow_run_id, count):
        deadline = time.monotonic() + 200  # task runs reach the database a moment later
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        while True:
            with get_client(sync_client=True) as client:
                runs = client.read_task_runs(flow_run_filter=wanted)
            final = [run for run in runs if run.state is not None and run.state.is_final()]
            if len(final) == count:
                return [
                    (run.name, run.state.name, run.state.type.value)
                    for run in sorted(final, key=lambda run: run.start_time)
                ]
            assert time.monotonic() < deadline, [(run.name, run.state) for run in runs]
            time.sleep(0.2)

    return read
