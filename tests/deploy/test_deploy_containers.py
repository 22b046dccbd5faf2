"""Docker and Kubernetes pools on a real server, and the very command of their containers run here without one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from helpers_deploy import BIN, HELD, PATIENCE, SOON, wait_for
from helpers_flows import ROOT, Done, finish
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import PrefectHTTPStatusError
from test_deploy_pools import CLUSTER, NEEDS_CLUSTER

from deploy.workpools import parse_defaults, prepare_pool
from storage.errors import UserError

pytestmark = pytest.mark.slow

RENDER = """
import asyncio, json, sys
from prefect.client.orchestration import get_client
from prefect_docker.worker import DockerWorkerJobConfiguration as Configuration

async def main(run):
    async with get_client() as client:
        run = await client.read_flow_run(run)
        deployment = await client.read_deployment(run.deployment_id)
        pool = await client.read_work_pool(run.work_pool_name)
        values = {**deployment.job_variables, **run.job_variables}
        made = await Configuration.from_template_and_values(pool.base_job_template, values, client=client)
        made.prepare_for_flow_run(run, deployment, await client.read_flow(run.flow_id))
        print(json.dumps([made.command, made.env]))

asyncio.run(main(sys.argv[1]))
"""


def bootstrap(up, *options: str, code: int = 0) -> Done:
    command = [sys.executable, "-m", "deploy.bootstrap", *options]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = up.env | {"PREFECT_API_URL": up.url}
    done = finish(subprocess.Popen(command, env=env, text=True, cwd=ROOT, **pipes))
    assert done.code == code, f"exit code {done.code}:\n{done.out}\n{done.err}"
    return done


def pool(up, name: str):
    with up.api() as client:
        return client.read_work_pool(name)


@pytest.fixture(scope="module")
def containers(up):
    """The deployment `containers`, of a Docker pool that no worker works for."""
    bootstrap(up, "--pool", "containers", "--pool-type", "docker", "--runs", "3", "--default", "memory=4000")
    with up.api() as client:
        usual = client.read_deployment_by_name("collect-train/collect-train")
        found = client.create_deployment(
            flow_id=usual.flow_id,
            name="containers",
            entrypoint=usual.entrypoint,
            work_pool_name="containers",
            parameter_openapi_schema=usual.parameter_openapi_schema,
            tags=["other"],
        )
    yield found
    with up.api() as client:
        client.delete_deployment(found)


def apply(up, name: str, *defaults: str, kind: str | None = None, runs: int | None = None) -> None:
    with up.api() as client:
        prepare_pool(client, name, kind=kind, runs=runs, defaults=parse_defaults(defaults)).apply(client)


class TestPools:
    @pytest.mark.parametrize("kind", ["docker", "kubernetes"])
    def test_defaults_are_kept_and_changed(self, up, kind):
        name = f"pool-{kind}"
        apply(up, name, "memory=4000", kind=kind, runs=3)
        apply(up, name, "image=registry.example/it:2")
        found = pool(up, name)
        has = {k: v.get("default") for k, v in found.base_job_template["variables"]["properties"].items()}
        assert (found.type, found.concurrency_limit) == (kind, 3)
        assert (has["memory"], has["image"]) == (4000, "registry.example/it:2")

    def test_a_type_cannot_change(self, up, containers):
        what, mend = bootstrap(up, "--pool", "containers", "--pool-type", "process", code=2).error
        assert what == "the work pool containers is of type docker, not process"
        assert "prefect work-pool delete containers" in mend

    @pytest.mark.parametrize(
        ("default", "said"),
        [
            ("memory=100", "100 is less than the minimum of 512"),
            ("gpus=first", "'first' does not match"),
            ("memmory=4000", "has no such variable"),
        ],
    )
    def test_a_default_that_its_variable_does_not_admit(self, up, containers, default, said):
        with pytest.raises(UserError, match=said):
            apply(up, "containers", default)

    def test_a_pool_of_somebody_else_is_left_alone(self, up):
        theirs = {"job_configuration": {"command": "{{ command }}"}, "variables": {"properties": {"command": {}}}}
        with up.api() as client:
            client.create_work_pool(WorkPoolCreate(name="theirs", type="process", base_job_template=theirs))
        apply(up, "theirs", runs=7)
        found = pool(up, "theirs")
        assert found.base_job_template == theirs
        assert found.concurrency_limit == 7
        with pytest.raises(UserError, match="a template of its owner's"):
            apply(up, "theirs", "memory=4000")


def test_nonsense_is_refused_by_the_server(up, containers):
    for variables in ({"memory": 1}, {"gpus": "first"}, {"device_requests": "all"}, {"shm_size": "much"}):
        with up.api() as client, pytest.raises(PrefectHTTPStatusError) as refused:
            client.create_flow_run_from_deployment(containers, parameters={"recipe": "tiny"}, job_variables=variables)
        assert "Validation failed" in refused.value.response.text


class Container:
    """What a container of this run would do, as a process here."""

    def __init__(self, up, run) -> None:
        env = up.env | {"PREFECT_API_URL": up.url, "PYTHONPATH": str(CLUSTER)}
        rendered = subprocess.run(
            [sys.executable, "-c", RENDER, str(run.id)], env=env, capture_output=True, text=True, check=True
        )
        command, more = json.loads(rendered.stdout.splitlines()[-1])
        self.command = command
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        image = {"PATH": path, "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "reschedule"}  # of deploy/Dockerfile
        self.log = up.store.parent / f"container-{run.id}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command.split(), env=up.env | image | more, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd=up.store.parent,
            )  # fmt: skip

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                process.kill()


@pytest.fixture
def container(up):
    made = []

    def make(run):
        made.append(Container(up, run))
        return made[-1]

    yield make
    for one in made:
        one.end()


@NEEDS_CLUSTER
class TestCommand:
    def test_it_builds_within_its_limits(self, up, containers, container):
        run = up.begin(
            "collect-train/containers", parameters={"recipe": "tiny", "seed": 401}, job_variables={"cpus": 1}
        )
        inside = container(run)
        assert " --cpus 1 --threads 0 --memory 4000 " in inside.command
        up.ended(run)
        assert inside.process.wait(PATIENCE) == 0, inside.log.read_text()
        (training,) = (
            json.loads(path.read_text()) for path in up.store.glob("train/*/provenance/training.json")
            if json.loads((path.parents[1] / "manifest.json").read_text())["provenance"]["run"] == str(run.id)
        )  # fmt: skip
        limits = training["limits"]
        assert (len(limits["cores"]), limits["memory_bytes"]) == (1, 4000 * 2**20)

    def test_cancelling_stops_it(self, up, containers, container):
        run = up.begin("collect-train/containers", parameters={"recipe": "slow", "seed": 402}, job_variables=HELD)
        inside = container(run)
        trainer = up.training(run)
        began = time.monotonic()
        up.prefect("flow-run", "cancel", str(run.id))
        trainer.wait(SOON)
        up.ended(run, "CANCELLED")
        inside.process.wait(SOON)
        print(f"cancelled in {time.monotonic() - began:.1f} s")

    def test_a_container_that_is_stopped_offers_its_run_again(self, up, containers, container):
        run = up.begin("collect-train/containers", parameters={"recipe": "slow", "seed": 403}, job_variables=HELD)
        inside = container(run)
        trainer = up.training(run)
        inside.process.terminate()
        trainer.wait(SOON)
        inside.process.wait(SOON)
        wait_for(lambda: up.run(run).state.is_scheduled(), "the run to be offered again")
        container(run)
        assert up.ended(run).run_count == 2
