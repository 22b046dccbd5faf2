"""Dockerfile, compose, Kubernetes manifests and platform files: parsed, and what they refer to exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
import yaml
from helpers_flows import ROOT

from deploy.bootstrap import _parse
from deploy.workpools import template

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def manifests() -> list[dict]:
    found = []
    for path in sorted(KUBERNETES.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    return found


def of_kind(kind: str) -> dict[str, dict]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


def pods() -> dict[str, dict]:
    """Pod specification by name of what makes it."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {name: m["spec"]["template"]["spec"] for kind in kinds for name, m in of_kind(kind).items()}


class TestDockerfile:
    def test_what_it_copies_exists_and_reaches_the_builder(self):
        copied = [part for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M) for part in line.split()]
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        for name in copied:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignore, name
        packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
        assert {name.rstrip("*") for name in packages["include"]} <= set(copied)

    def test_torch_comes_first_and_pinned(self):
        installs = re.findall(r"pip install (.*)", DOCKERFILE)
        assert "grep '^torch==' constraints.txt" in installs[0]
        assert installs[1].startswith("-c constraints.txt ")
        assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), re.M)

    def test_it_is_not_root_and_has_an_init(self):
        users = re.findall(r"^USER (\S+)", DOCKERFILE, re.M)
        assert users == ["10001:10001"]
        assert 'ENTRYPOINT ["tini", "--"]' in DOCKERFILE

    def test_telemetry_is_off(self):
        for setting in ("DO_NOT_TRACK=1", "PREFECT_SERVER_ANALYTICS_ENABLED=false"):
            assert setting in DOCKERFILE

    def test_its_health_check_is_python(self):
        (check,) = re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])$", DOCKERFILE, re.M | re.S)
        program, _, code = json.loads(check)
        assert program == "python"
        compile(code, "HEALTHCHECK", "exec")
        assert "/api/health" in code


class TestCompose:
    def test_it_waits_for_what_it_needs(self):
        assert {name: set(s.get("depends_on", {})) for name, s in SERVICES.items()} == {
            "postgres": set(), "server": {"postgres"}, "setup": {"server"}, "worker": {"setup"},
        }  # fmt: skip
        for service in SERVICES.values():
            for name, how in service.get("depends_on", {}).items():
                if how["condition"] == "service_healthy":
                    assert "test" in SERVICES[name]["healthcheck"]

    def test_volumes_are_declared(self):
        short = [v for s in SERVICES.values() for v in s.get("volumes", []) if isinstance(v, str)]
        assert {v.split(":")[0] for v in short} == {"database", "store"} == set(COMPOSE["volumes"])

    def test_recipes_are_a_folder_and_never_a_volume(self):
        for name in ("setup", "worker"):
            (bound,) = [v for v in SERVICES[name]["volumes"] if isinstance(v, dict)]
            assert (bound["type"], bound["read_only"], bound["bind"]) == ("bind", True, {"create_host_path": False})
            assert bound["target"] == SERVICES[name]["environment"]["COLLECT_TRAIN_RECIPES"]
            (default,) = re.findall(r"^\$\{RECIPES:-(.*)\}$", bound["source"])
            assert (DEPLOY / default).is_dir()

    def test_passwords_are_required_and_nowhere_written(self):
        text = (DEPLOY / "compose.yaml").read_text()
        for name in ("PREFECT_AUTH", "POSTGRES_PASSWORD"):
            assert re.search(rf"\$\{{{name}:\?", text), name
            assert f"{name}=\n" in (DEPLOY / "compose.env.example").read_text()

    def test_what_serves_has_limits_health_and_time_to_stop(self):
        for name in ("postgres", "server", "worker"):
            assert {"cpus", "memory"} == set(SERVICES[name]["deploy"]["resources"]["limits"]), name
            assert SERVICES[name]["healthcheck"]["test"], name
            assert SERVICES[name]["stop_grace_period"], name
            assert SERVICES[name]["restart"] == "unless-stopped", name

    def test_only_this_machine_reaches_it(self):
        assert SERVICES["server"]["ports"] == ["${BIND:-127.0.0.1}:${PORT:-4200}:4200"]

    def test_the_setup_command_is_one(self):
        command = shlex.split(SERVICES["setup"]["command"].replace("${RUNS:-2}", "2"))
        assert command[:3] == ["python", "-m", "deploy.bootstrap"]
        assert _parse(command[3:]).runs == 2

    def test_compose_itself_takes_it(self, tmp_path):
        tools = (["docker", "compose"], ["docker-compose"])
        known = [
            t
            for t in tools
            if shutil.which(t[0]) and not subprocess.run([*t, "version"], capture_output=True).returncode
        ]
        if not known:
            pytest.skip("neither `docker compose` nor `docker-compose` is installed")
        files = ["-f", DEPLOY / "compose.yaml", "-f", DEPLOY / "compose.gpu.yaml"]
        secrets = tmp_path / "env"
        empty = subprocess.run(
            [*known[0], *files, "--env-file", "/dev/null", "config", "-q"], capture_output=True, text=True
        )
        assert "set PREFECT_AUTH=user:password" in empty.stderr
        secrets.write_text("PREFECT_AUTH=a:b\nPOSTGRES_PASSWORD=c\n")
        done = subprocess.run(
            [*known[0], *files, "--env-file", secrets, "config", "-q"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


class TestKubernetes:
    def test_the_kustomization_names_what_there_is(self):
        named = set(yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"])
        there = {path.name for path in KUBERNETES.glob("*.yaml")}
        assert named == there - {"kustomization.yaml", "secret.example.yaml", "gpu-worker.yaml"}

    def test_secrets_that_are_asked_for_are_in_the_template(self):
        known = of_kind("Secret")
        asked = [
            entry["valueFrom"]["secretKeyRef"]
            for pod in pods().values()
            for container in pod["containers"]
            for entry in container["env"]
            if "valueFrom" in entry
        ]
        assert len(asked) >= 5
        for reference in asked:
            assert reference["key"] in known[reference["name"]]["stringData"], reference
        assert "/deploy/kubernetes/secret.yaml" in (ROOT / ".gitignore").read_text().splitlines()

    def test_volumes_and_accounts_exist(self):
        claims = set(of_kind("PersistentVolumeClaim"))
        for name, pod in pods().items():
            volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
            made = {
                t["metadata"]["name"]
                for t in of_kind("StatefulSet").get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", [])
            }
            for container in pod["containers"]:
                mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
                assert mounted == set(volumes) | made, name
            for volume in volumes.values():
                if claim := volume.get("persistentVolumeClaim"):
                    assert claim["claimName"] in claims
            if account := pod.get("serviceAccountName"):
                assert account in of_kind("ServiceAccount")
                (subject,) = of_kind("RoleBinding")[account]["subjects"]
                assert (subject["name"], of_kind("RoleBinding")[account]["roleRef"]["name"]) == (account, account)

    def test_own_recipes_come_from_a_config_map_that_need_not_be_there(self):
        for name in ("bootstrap", "worker"):
            pod = pods()[name]
            (container,) = pod["containers"]
            env = {entry["name"]: entry.get("value") for entry in container["env"]}
            (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == env["COLLECT_TRAIN_RECIPES"]]
            (volume,) = [v for v in pod["volumes"] if v["name"] == mount["name"]]
            assert volume["configMap"] == {"name": "recipes", "optional": True}
            assert f"configmap {volume['configMap']['name']} " in (ROOT / "docs" / "deploy.md").read_text()

    def test_selectors_and_services_find_their_pods(self):
        for kind in ("Deployment", "StatefulSet"):
            for name, made in of_kind(kind).items():
                labels = made["spec"]["template"]["metadata"]["labels"]
                assert made["spec"]["selector"]["matchLabels"].items() <= labels.items(), name
        for name, service in of_kind("Service").items():
            (found,) = [
                m
                for kind in ("Deployment", "StatefulSet")
                for m in of_kind(kind).values()
                if m["metadata"]["name"] == name
            ]
            labels = found["spec"]["template"]["metadata"]["labels"]
            assert service["spec"]["selector"].items() <= labels.items()

    def test_urls_name_services(self):
        for pod in pods().values():
            for container in pod["containers"]:
                for entry in container["env"]:
                    if entry["name"] == "PREFECT_API_URL":
                        assert entry["value"] == "http://server:4200/api"
        assert "server" in of_kind("Service")
        url = of_kind("Secret")["collect-train"]["stringData"]["database-url"]
        assert url.partition("@")[2] == "postgres:5432/prefect"

    def test_pods_are_bounded_watched_and_not_root(self):
        for name, pod in pods().items():
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            for container in pod["containers"]:
                assert "memory" in container["resources"]["limits"], name
                assert container["resources"]["requests"], name
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                if name != "bootstrap":
                    assert "livenessProbe" in container, name

    def test_what_is_started_exists(self):
        (bootstrap,) = pods()["bootstrap"]["containers"]
        assert _parse(bootstrap["args"][3:]).runs == 2
        image = {"collect-train", "postgres:17"}
        assert {c["image"] for pod in pods().values() for c in pod["containers"]} == image

    def test_jobs_of_the_gpu_pool_fit_in(self):
        """The template's defaults are what the manifests have."""
        has = {k: v.get("default") for k, v in template("kubernetes")["variables"]["properties"].items()}
        assert has["namespace"] in of_kind("Namespace")
        assert has["store_claim"] in of_kind("PersistentVolumeClaim")
        (rule, _) = of_kind("Role")["gpu-worker"]["rules"]
        assert {"create", "watch"} <= set(rule["verbs"])


class TestPlatforms:
    def test_railway(self):
        found = json.loads((DEPLOY / "railway.json").read_text())
        assert (ROOT / found["build"]["dockerfilePath"]).exists()
        assert found["deploy"]["healthcheckPath"] == "/api/health"
        assert found["deploy"]["drainingSeconds"] >= 30

    def test_they_start_what_there_is(self):
        from typer.testing import CliRunner

        from flows.cli import app

        started = [
            json.loads((DEPLOY / "railway.json").read_text())["deploy"]["startCommand"].removeprefix("tini -- "),
            (ROOT / "Procfile").read_text().strip().removeprefix("web: "),
            " ".join(json.loads(re.findall(r"^CMD (\[.*\])", DOCKERFILE, re.M)[0])),
        ]
        for command in started:
            program, name, *options = shlex.split(command)
            assert (program, name) == ("collect-train", "up")
            assert CliRunner().invoke(app, [name, *options, "--help"]).exit_code == 0
