"""The embedded Prefect server under load: no request stands still, and no event is lost to a locked database."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import requests

from deploy.recovery import TAG, apply_automations
from flows.embedded import server

SECONDS = 6
LONGEST = 15


@pytest.mark.slow
def test_many_writers_do_not_lock_the_database(tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with server(tmp_path) as running, ThreadPoolExecutor(5) as threads:
        with temporary_settings({PREFECT_API_URL: running.url}):
            apply_automations()
        requests.post(f"{running.url}/work_pools/", json={"name": "pool", "type": "process"}, timeout=LONGEST)
        end = time.monotonic() + SECONDS
        runs = [threads.submit(_runs, running.url, end) for _ in range(3)]
        beats = [threads.submit(_workers, running.url, end, f"worker-{n}") for n in range(2)]
        assert sum(done.result() for done in runs) >= 3
        assert sum(done.result() for done in beats) >= 2
    log = running.log.read_text()
    assert "database is locked" not in log, log[:3000]


def _runs(url: str, end: float) -> int:
    """Flow runs that begin, give a sign of life and crash, until `end`; how many."""
    done = 0
    with requests.Session() as session:
        flow = _post(session, f"{url}/flows/", {"name": "load"})["id"]
        while time.monotonic() < end:
            run = _post(session, f"{url}/flow_runs/", {"flow_id": flow, "tags": [TAG], "state": {"type": "PENDING"}})
            for state in ("RUNNING", "CRASHED"):
                told = {"type": state, "name": state.title()}
                _post(session, f"{url}/flow_runs/{run['id']}/set_state", {"state": told, "force": True})
                _post(session, f"{url}/events", [_heartbeat(run["id"])])
            done += 1
    return done


def _workers(url: str, end: float, name: str) -> int:
    """A worker's heartbeats and questions for work until `end`; how many."""
    done = 0
    with requests.Session() as session:
        while time.monotonic() < end:
            _post(session, f"{url}/work_pools/pool/workers/heartbeat", {"name": name})
            _post(session, f"{url}/work_pools/pool/get_scheduled_flow_runs", {})
            done += 1
            time.sleep(0.2)
    return done


def _heartbeat(run: str) -> dict[str, object]:
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
    }


def _post(session: requests.Session, url: str, body: object):
    answer = session.post(url, json=body, timeout=LONGEST)
    answer.raise_for_status()
    return answer.json() if answer.content else None
