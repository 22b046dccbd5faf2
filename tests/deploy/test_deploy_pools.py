"""Work pool templates: valid for Prefect, alike in their resources, rendered by the real workers where installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.utilities.schema_tools import is_valid_schema, validate
from prefect.utilities.templating import find_placeholders

from deploy.workpools import TYPES, parse_defaults, template
from storage.errors import UserError

CLUSTER = Path(sys.prefix) / "cluster"  # `make setup-dev` puts prefect-docker and prefect-kubernetes there
NEEDS_CLUSTER = pytest.mark.skipif(
    not (CLUSTER / "prefect_kubernetes").is_dir(), reason=f"prefect-docker and prefect-kubernetes are not in {CLUSTER}"
)
RESOURCES = ("cpus", "threads", "memory", "gpus", "processes", "nodes")
BAD = [
    ("memory", 100), ("memory", "lots"), ("cpus", -1), ("gpus", "first"), ("gpus", 1), ("processes", 0), ("nodes", 65),
    ("env", {"A": 1}),
]  # fmt: skip
RENDER = """
import asyncio, json, sys, uuid
from prefect.client.schemas.objects import FlowRun
kind, template, values = json.load(sys.stdin)
if kind == "docker":
    from prefect_docker.worker import DockerWorkerJobConfiguration as Configuration
else:
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration as Configuration
made = asyncio.run(Configuration.from_template_and_values(template, values))
made.prepare_for_flow_run(FlowRun(id=uuid.UUID(int=1), flow_id=uuid.UUID(int=2), name="brave-otter"))
print(json.dumps(made.model_dump(mode="json")))
"""


@pytest.mark.parametrize("kind", TYPES)
class TestTemplate:
    def test_it_is_a_schema_and_every_placeholder_is_a_variable(self, kind):
        found = template(kind)
        is_valid_schema(found["variables"], preprocess=False)
        asked = {placeholder.name for placeholder in find_placeholders(found["job_configuration"])}
        assert asked <= set(found["variables"]["properties"])
        assert set(RESOURCES) <= asked
        assert not {variable for variable in found["variables"]["properties"] if variable not in asked}

    def test_its_defaults_are_valid(self, kind):
        variables = template(kind)["variables"]
        defaults = {name: schema["default"] for name, schema in variables["properties"].items() if "default" in schema}
        assert not validate(defaults, variables, raise_on_error=False, preprocess=False)

    @pytest.mark.parametrize(("variable", "value"), BAD)
    def test_nonsense_is_refused(self, kind, variable, value):
        assert validate({variable: value}, template(kind)["variables"], raise_on_error=False, preprocess=False)

    def test_resources_are_named_and_bounded_alike(self, kind):
        told = ("title", "description", "default")
        for name in RESOURCES:
            mine, process = (template(k)["variables"]["properties"][name] for k in (kind, "process"))
            assert {k: v for k, v in mine.items() if k not in told} == {
                k: v for k, v in process.items() if k not in told
            }

    def test_a_run_is_started_by_the_launcher(self, kind):
        command = template(kind)["job_configuration"]["command"]
        launch = "python -m deploy.launch " + " ".join(f"--{name} {{{{ {name} }}}}" for name in RESOURCES) + " -- "
        # In a container, Prefect's own runner watches for a cancellation; beside a process, the worker does.
        engine = "python -m prefect.engine" if kind == "process" else "prefect flow-run execute"
        assert command == launch + engine


def render(kind: str, **values) -> dict:
    """What the worker of a type makes of our template and a run's job variables."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=json.dumps([kind, template(kind), values]),
        env=os.environ | {"PYTHONPATH": str(CLUSTER), "PREFECT_API_URL": "http://server:4200/api"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@NEEDS_CLUSTER
class TestDocker:
    def test_of_defaults(self):
        made = render("docker")
        assert made["image"] == "collect-train"
        assert made["volumes"] == ["collect-train-store:/store"]
        assert made["env"]["PREFECT__FLOW_RUN_ID"] == "00000000-0000-0000-0000-000000000001"
        assert made["command"].endswith(
            "--cpus 0 --threads 0 --memory 1048576 --gpus all --processes 1 --nodes 1 -- prefect flow-run execute"
        )
        assert "device_requests" not in made["container_create_kwargs"]

    def test_of_a_run(self):
        gpus = [{"count": -1, "capabilities": [["gpu"]]}]
        made = render("docker", cpus=4, memory=8000, gpus="0,1", device_requests=gpus, env={"HF_HOME": "/x"})
        assert "--cpus 4 --threads 0 --memory 8000 --gpus 0,1 " in made["command"]
        assert (made["mem_limit"], made["memswap_limit"]) == ("8000m", "8000m")
        assert made["container_create_kwargs"]["device_requests"] == gpus
        assert made["env"]["HF_HOME"] == "/x"

    def test_docker_s_own_client_takes_it(self):
        docker = pytest.importorskip("docker", reason="comes with Prefect")
        made = render("docker", cpus=1, memory=4000, device_requests=[{"count": 1, "capabilities": [["gpu"]]}])
        more = {k: v for k, v in made["container_create_kwargs"].items() if k != "healthcheck"}
        config = docker.types.HostConfig(version="1.45", mem_limit=made["mem_limit"], **more)
        assert config["Memory"] == 4000 * 2**20
        assert config["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
        assert config["ShmSize"] == 2**30


@NEEDS_CLUSTER
class TestKubernetes:
    def test_of_defaults(self):
        made = render("kubernetes")
        pod = made["job_manifest"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"][:3] == ["python", "-m", "deploy.launch"]
        assert container["args"][-3:] == ["prefect", "flow-run", "execute"]
        assert container["resources"]["limits"] == {"cpu": 2, "memory": "8192Mi"}
        assert container["resources"]["requests"] == {"cpu": 2, "memory": "8192Mi"}
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        assert env["PREFECT__FLOW_RUN_ID"] == "00000000-0000-0000-0000-000000000001"
        assert env["PREFECT_API_URL"] == "http://server:4200/api"
        assert "serviceAccountName" not in pod
        assert made["namespace"] == made["job_manifest"]["metadata"]["namespace"] == "collect-train"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["store"]["persistentVolumeClaim"] == {"claimName": "store"}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)

    def test_of_a_run_on_a_gpu_node(self):
        made = render(
            "kubernetes", cpus=8, memory=64000, gpu_limit=2, gpus="all", shm_size="16Gi", processes=2,
            node_selector={"accelerator": "h100"}, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
            image="registry.example/collect-train:cuda", env={"HF_HOME": "/x"},
        )  # fmt: skip
        pod = made["job_manifest"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == {"cpu": 8, "memory": "64000Mi", "nvidia.com/gpu": 2}
        assert pod["nodeSelector"] == {"accelerator": "h100"}
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
        assert container["image"] == "registry.example/collect-train:cuda"
        assert {"name": "HF_HOME", "value": "/x"} in container["env"]
        assert [v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm"] == [
            {"medium": "Memory", "sizeLimit": "16Gi"}
        ]
        assert {"--cpus=8", "--memory=64000", "--processes=2"} <= set(container["args"])
        assert all(isinstance(part, str) for part in container["args"])


class TestDefaults:
    def test_values_are_json_or_text(self):
        given = ["memory=8000", "image=registry/it:1", 'node_selector={"a": "b"}', "gpus=0,1"]
        assert parse_defaults(given) == {
            "memory": 8000, "image": "registry/it:1", "node_selector": {"a": "b"}, "gpus": "0,1",
        }  # fmt: skip

    def test_without_a_value(self):
        with pytest.raises(UserError, match="--default memory: no value"):
            parse_defaults(["memory"])
