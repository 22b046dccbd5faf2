"""`collect-train up` as a service that others can reach: PORT, a password, no secret anywhere, restarts."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import time
from uuid import UUID

import psutil
import pytest
import requests
from helpers_deploy import HELD, PATIENCE, SOON, Up, outlived
from helpers_flows import collect
from prefect.client.orchestration import SyncPrefectClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AUTH = "admin:correct-horse-battery"
SECRETS = {
    "password": AUTH.partition(":")[2],
    "password as it travels": base64.b64encode(AUTH.encode()).decode(),
    "API key": "sk-planted-3f1c9e7d5b",
    "password in a URL": "hunter2-in-a-url",
}


class Service(Up):
    """One that is told its port as platforms do, and has secrets in its environment."""

    def __init__(self, folder, recipes) -> None:
        super().__init__(
            folder, "--host", "0.0.0.0", recipes=recipes,
            PREFECT_SERVER_API_AUTH_STRING=AUTH,
            OPENAI_API_KEY=SECRETS["API key"],
            HTTPS_PROXY=f"http://someone:{SECRETS['password in a URL']}@127.0.0.1:9",
        )  # fmt: skip

    def start(self) -> None:
        self.options = ("--host", "0.0.0.0")
        self.env["PORT"] = str(self.port)
        super().start()

    @contextlib.contextmanager
    def api(self):
        with SyncPrefectClient(self.url, auth_string=AUTH) as client:
            yield client

    def as_client(self, *args: str, code: int | None = 0):
        """`prefect ARGS` on another machine, which knows URL and password."""
        return self.prefect(*args, code=code, PREFECT_API_URL=self.url, PREFECT_API_AUTH_STRING=AUTH)


@pytest.fixture(scope="module")
def service(tmp_path_factory, recipes):
    running = Service(tmp_path_factory.mktemp("service"), recipes)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="module")
def web(service):
    session = requests.Session()
    session.trust_env = False
    yield session
    session.close()


def test_an_open_door_is_refused(tmp_path):
    done = collect("up", "--host", "0.0.0.0", store=tmp_path / "store", code=2)
    what, mend = done.error
    assert "would let anyone who reaches this machine start runs" in what
    assert "PREFECT_SERVER_API_AUTH_STRING=user:password" in mend
    assert not (tmp_path / "store").exists()


class TestDoor:
    def test_health_is_open_for_the_platform(self, service, web):
        assert web.get(f"{service.url}/health", timeout=10).status_code == 200

    @pytest.mark.parametrize("auth", [None, ("admin", "wrong"), ("", "")])
    def test_nothing_else_is(self, service, web, auth):
        for path in ("flow_runs/filter", "deployments/filter", "logs/filter", "artifacts/filter"):
            assert web.post(f"{service.url}/{path}", json={}, auth=auth, timeout=10).status_code == 401, path
        assert web.get(f"{service.url}/admin/settings", auth=auth, timeout=10).status_code == 401

    def test_with_the_password_it_answers(self, service, web):
        auth = tuple(AUTH.split(":"))
        assert web.post(f"{service.url}/flow_runs/filter", json={}, auth=auth, timeout=10).status_code == 200

    def test_prefect_s_own_client(self, service):
        done = service.prefect("flow-run", "ls", code=1, PREFECT_API_URL=service.url)
        assert "401 Unauthorized" in done.out + done.err
        assert service.as_client("flow-run", "ls")


def test_the_worker_works_and_no_secret_is_written(service, web):
    done = service.as_client("deployment", "run", "collect-train/collect-train", "-p", "recipe=tiny")
    (number,) = re.findall(r"UUID: (\S+)", done.out)
    with service.api() as client:
        service.ended(client.read_flow_run(UUID(number)))
    texts = {str(path): path.read_bytes() for path in service.store.parent.rglob("*") if path.is_file()}
    assert any(name.endswith("run.log") for name in texts)
    assert any(name.endswith("server.log") for name in texts)
    assert any(name.endswith("up.log") for name in texts)
    lists = ("flows", "flow_runs", "task_runs", "deployments", "logs", "artifacts", "work_pools", "variables",
             "automations", "block_documents", "flow_run_states", "events")  # fmt: skip
    auth = tuple(AUTH.split(":"))
    for name in lists:
        answer = web.post(f"{service.url}/{name}/filter", json={}, auth=auth, timeout=30)
        if answer.ok:  # states are asked for another way
            texts[f"API: {name}"] = answer.content
    assert len(texts["API: logs"]) > 2
    assert len(texts["API: events"]) > 2
    for name in ("admin/settings", "admin/version", "work_pools/collect-train"):
        texts[f"API: {name}"] = web.get(f"{service.url}/{name}", auth=auth, timeout=30).content
    found = [
        (kind, place) for kind, secret in SECRETS.items() for place, text in texts.items() if secret.encode() in text
    ]
    assert found == []


def test_when_its_server_dies_it_ends_and_the_next_goes_on(service):
    """A platform restarts what ends with an error; the run goes on from its checkpoint."""
    run = service.begin(parameters={"recipe": "slow", "seed": 501}, job_variables=HELD)
    trainer = service.training(run)
    (server,) = [p for p in psutil.Process(service.process.pid).children() if "flows.embedded" in p.cmdline()]
    server.kill()
    assert service.process.wait(PATIENCE) == 1
    assert "error: the Prefect server ended with code -9" in service.said()
    assert not outlived([trainer])
    assert not (service.store / ".prefect" / "server.json").exists()
    service.start()
    assert service.ended(run, patience=PATIENCE).run_count == 2


def test_sigterm_ends_it_well(service):
    """As platforms stop a service; with a run in its training."""
    run = service.begin(parameters={"recipe": "slow", "seed": 502}, job_variables=HELD)
    service.training(run)
    family = psutil.Process(service.process.pid).children(recursive=True)
    began = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    assert service.process.wait(SOON) == 0
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert not outlived(family), service.said()
