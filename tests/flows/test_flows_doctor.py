"""`collect-train doctor`: a healthy machine, and one thing wrong at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_flows import ROOT, collect, frozen_site, web_source, write_recipe

from deploy.launch import HEARTBEAT_SECONDS
from flows.checks import disk, machine, program, server, sources
from flows.checks.finding import Finding
from flows.estimate import needs
from lmcore.recipe import load_recipe, parse_recipe
from storage.store import Store
from storage.tombstones import Tombstone, write_tombstone


def states(findings):
    return {finding.name: finding.state for finding in findings}


def the(findings, name):
    return next(finding for finding in findings if finding.name == name)


@pytest.fixture(autouse=True)
def _no_prefect(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect-home"))


def recipe(**changes):
    values = {"name": "tiny", "sources": [{"name": "docs", "kind": "web", "serve": "pydoc"}], "train": {"steps": 1}}
    return parse_recipe(values | changes, "the test")


class TestCommand:
    def test_a_healthy_machine(self, tmp_path):
        done = collect("doctor", "quickstart", store=tmp_path / "store")
        assert "0 failures" in done.out
        for name in ("python", "packages", "torch", "cores", "precision", "memory", "store", "disk", "prefect server"):
            assert f"ok       {name}" in done.out or f"ok  {name}" in done.out, done.out
        assert not (tmp_path / "store").exists(), "looking makes nothing"
        assert list(tmp_path.iterdir()) == []

    def test_json_and_the_exit_code(self, tmp_path):
        done = collect("doctor", str(tmp_path / "none.yaml"), "--json", store=tmp_path / "store", code=1)
        told = json.loads(done.out)
        failing = [check for check in told["checks"] if check["state"] == "failure"]
        assert told["failure"] == len(failing) == 1
        assert failing[0]["name"] == "recipe"
        assert "there is no recipe" in failing[0]["told"]
        assert "packaged recipes" in failing[0]["mend"]


class TestProgram:
    def test_the_requirements_are_those_of_our_own_distribution(self):
        assert states(program.check_program()) == {"python": "ok", "packages": "ok", "torch": "ok"}

    def test_a_version_that_is_wrong_or_missing_is_told_with_the_command(self):
        required = ["fastapi<0.1", "no-such-package>=1", "numpy>=1", "pywin32>=1; sys_platform == 'win32'",
                    "hypothetical>=9; extra == 'dev'"]  # fmt: skip
        found = list(program._packages(required))
        assert states(found) == {"package fastapi": "failure", "package no-such-package": "failure", "packages": "ok"}
        assert "the Prefect server does not start with it" in the(found, "package fastapi").told
        assert the(found, "package fastapi").mend == "pip install 'fastapi<0.1'"
        assert the(found, "packages").told.startswith("1 required packages fit")

    def test_the_two_pins_of_prefects_server_are_among_them(self):
        import importlib.metadata

        required = " ".join(importlib.metadata.requires(program.DISTRIBUTION))
        for name in program.REASONS:
            assert f"{name}" in required

    def test_a_torch_that_does_not_load_is_a_failure_and_ends_it(self, tmp_path):
        (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')")
        code = (
            "from flows.doctor import examine, show_findings\nfrom flows.app import console\n"
            "from storage.store import Store\n"
            "raise SystemExit(show_findings(examine(Store('store'), '', ()), console, as_json=True))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout)["checks"][-1]["told"].startswith("does not load: libtorch.so")


class TestMachine:
    def check(self, loaded=None, wanted="auto"):
        needed = needs(loaded, "fp32") if loaded else None
        return list(machine.check_machine({"fp32": 100.0, "bf16": 250.0}, "bf16", wanted, needed))

    def test_what_it_tells(self):
        found = self.check(recipe())
        assert "2.5 times as fast" in the(found, "precision").told
        assert the(found, "memory").state == "ok"
        assert "training needs about" in the(found, "memory").told

    def test_a_model_too_large(self):
        found = self.check(recipe(model={"n_layers": 60, "d_model": 16384, "n_heads": 128, "context": 256}))
        assert the(found, "memory").state == "failure"
        assert "smaller" in the(found, "memory").mend

    def test_a_containers_limit_counts(self, monkeypatch, tmp_path):
        for name, value in {
            "memory.max": "400000000",
            "memory.current": "50000000",
            "cpu.max": "100000 100000",
        }.items():
            (tmp_path / name).write_text(value)
        monkeypatch.setattr("lmcore.train.machine._CGROUP", tmp_path)
        found = self.check(load_recipe("quickstart"))
        assert the(found, "memory").told.startswith("350.0 MB free of")
        assert "container's limit" in the(found, "memory").told
        assert the(found, "memory").state == "warning", "it needs nearly all of it"
        assert the(found, "cores").told.startswith("1 of")

    @pytest.mark.parametrize(("value", "state"), [("1", "ok"), ("999", "warning"), ("many", "warning"), ("", "ok")])
    def test_thread_settings(self, monkeypatch, value, state):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert the(self.check(), "cores").state == state

    def test_a_device_that_is_not_here(self):
        found = self.check(recipe(), wanted="mps")
        assert the(found, "device").state == "failure"


class TestDisk:
    def check(self, root, loaded=None):
        return list(disk.check_disk(Store(root), loaded and needs(loaded, "fp32")))

    def test_a_store_that_is_there_and_one_that_is_not(self, tmp_path):
        assert states(self.check(tmp_path)) == {"store": "ok", "file system": "ok", "disk": "ok"} | (
            {} if the(self.check(tmp_path), "file system").state == "ok" else {"file system": "warning"}
        )
        found = self.check(tmp_path / "a" / "b" / "store")
        assert "will be made in" in the(found, "store").told
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_cannot_be_written(self):
        found = self.check(Path("/proc/store"))
        assert the(found, "store").state == "failure"
        assert "--store DIR" in the(found, "store").mend

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs here")
    def test_a_file_system_in_memory(self):
        found = self.check(Path("/dev/shm/store"))
        assert the(found, "file system").state == "warning"
        assert "gone after a restart" in the(found, "file system").told

    def test_a_network_file_system(self, tmp_path, monkeypatch):
        class Mount:
            mountpoint, fstype = str(tmp_path), "nfs4"

        monkeypatch.setattr("psutil.disk_partitions", lambda all: [Mount])
        assert "network file system" in the(self.check(tmp_path), "file system").told

    def test_too_little_room(self, tmp_path):
        huge = recipe(sources=[{"name": "docs", "kind": "web", "serve": "pydoc", "max_pages": 100_000_000}])
        found = self.check(tmp_path, huge)
        assert the(found, "disk").state == "failure"
        assert "collect-train gc" in the(found, "disk").mend

    def test_a_takedown_that_was_killed(self, tmp_path):
        write_tombstone(tmp_path, "http://s/1", lambda _: Tombstone(what="http://s/1", when="2026-01-01"))
        assert the(self.check(tmp_path), "takedown").mend == "collect-train forget 'http://s/1' --yes"


class TestServer:
    def check(self, root):
        from prefect.context import use_profile
        from prefect.settings import Profile

        # reads the environment anew
        with use_profile(Profile(name="test", settings={}), include_current_context=False):
            return server.check_server(Store(root))

    def test_none_is_needed(self, tmp_path):
        found, pools = self.check(tmp_path)
        assert pools is None
        assert the(found, "prefect server").state == "ok"
        assert {the(found, name).state for name in ("heartbeat", "telemetry")} == {"ok"}

    def test_one_that_does_not_answer(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        found, pools = self.check(tmp_path)
        assert (the(found, "prefect server").state, pools) == ("failure", None)
        assert "unset PREFECT_API_URL" in the(found, "prefect server").mend

    def test_one_that_was_left_behind(self, tmp_path):
        (tmp_path / ".prefect").mkdir()
        announced = tmp_path / ".prefect" / "server.json"
        for text, told in (('{"url": "http://x", "pid": 999999999, "port": 1}', "is gone"), ("{", "cannot be read")):
            announced.write_text(text)
            found, _ = self.check(tmp_path)
            assert the(found, "prefect up").state == "warning"
            assert told in the(found, "prefect up").told

    def test_a_port_that_is_taken(self, tmp_path, monkeypatch):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            monkeypatch.setattr(server, "UP_PORT", other.getsockname()[1])
            found, _ = self.check(tmp_path)
        assert the(found, "ports").state == "warning"
        assert "--port" in the(found, "ports").mend

    def test_a_heartbeat_that_is_too_slow(self, tmp_path, monkeypatch):
        assert int(HEARTBEAT_SECONDS) == server.HEARTBEAT_SECONDS
        monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "180")
        found, _ = self.check(tmp_path)
        assert the(found, "heartbeat").state == "warning"

    @pytest.mark.slow
    def test_a_server_with_pools_and_no_worker(self, tmp_path, shared_server, monkeypatch):
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.settings import PREFECT_API_URL, temporary_settings

        url = shared_server["PREFECT_API_URL"]
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
        monkeypatch.setenv("PREFECT_API_URL", url)
        found, pools = self.check(tmp_path)
        assert "answers, version 3." in the(found, "prefect server").told
        assert pools.workers["gpu"] == 0
        gpu = recipe(resources={"train": {"work_pool": "gpu"}})
        assert states(sources.check_pool(gpu, pools)) == {"training pool": "warning"}
        assert states(sources.check_pool(recipe(resources={"train": {"work_pool": "tpu"}}), pools)) == {
            "training pool": "failure"
        }
        assert states(sources.check_pool(gpu, None)) == {"training pool": "failure"}
        assert list(sources.check_pool(recipe(), None)) == []

    @pytest.mark.slow
    def test_a_server_that_wants_a_password(self, tmp_path, monkeypatch):
        from flows.embedded import server as serve

        (tmp_path / "server").mkdir()
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:secret")
        with serve(tmp_path / "server") as running:
            url = getattr(running, "url", running)
            monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING")
            monkeypatch.setenv("PREFECT_API_URL", url)
            found, _ = self.check(tmp_path)
            assert the(found, "prefect server").state == "failure"
            assert "refused us: 401" in the(found, "prefect server").told
            assert "PREFECT_API_AUTH_STRING" in the(found, "prefect server").mend
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
            found, pools = self.check(tmp_path)
            assert the(found, "prefect server").state == "ok"
            assert pools is not None
            assert "secret" not in " ".join(finding.told + finding.mend for finding in found)


class TestSources:
    def check(self, **source):
        return list(sources.check_sources(recipe(sources=[{"name": "s", **source}])))

    def test_files(self, tmp_path):
        mine = {"kind": "files", "base": str(tmp_path)}
        assert states(self.check(**mine, paths=["*.txt"])) == {"source s": "failure"}
        (tmp_path / "a.txt").write_text("a text")
        found = self.check(**mine, paths=["*.txt"])
        assert (found[0].state, found[0].told) == ("ok", "1 files, 6 B")
        (tmp_path / "b.xyz").write_text("what is this")
        assert states(self.check(**mine, paths=["*"])) == {"source s": "warning"}

    def test_files_of_a_server(self, tmp_path):
        with frozen_site() as site:
            url = f"{site.url}/section/1"
            (found,) = self.check(kind="files", base=str(tmp_path), paths=[url])
            assert (found.state, found.told) == ("ok", "reached: 127.0.0.1")
            (tmp_path / "a.txt").write_text("a text")
            found = self.check(kind="files", base=str(tmp_path), paths=[url, "*.txt"])
            assert states(found) == {"source s: downloads": "ok", "source s": "ok"}
        (found,) = self.check(kind="files", paths=["https://example.org/a.txt"])
        assert (found.state, "runtime.collect.contact" in found.mend) == ("failure", True)

    def test_repositories(self, tmp_path):
        mine = {"kind": "code", "base": str(tmp_path)}
        (found,) = self.check(**mine, paths=["code"])
        assert (found.state, found.told) == ("failure", "no repository matches code")
        (tmp_path / "code").mkdir()
        (found,) = self.check(**mine, paths=["code"])
        assert (found.state, found.told) == ("ok", "1 repositories")
        (found,) = self.check(**mine, paths=["code"], revision="main")
        assert found.told == "no repository matches code: no git repository; leave `revision` empty"

    def test_a_mixture_of_sources_that_are_not_there(self):
        def check(**train):
            return list(sources.check_mixture(recipe(train={"steps": 1, **train})))

        assert check() == check(mixture={"docs": 1}) == check(mixture={"hu": 1}, mixture_by="lang") == []
        (found,) = check(stages=[{"share": 0.5}, {"share": 0.5, "mixture": {"dogs": 2, "docs": 1}}])
        assert (found.state, found.told) == ("warning", "train.mixture names dogs, and the sources are docs")

    def test_pydoc_needs_no_network(self):
        assert states(self.check(kind="web", serve="pydoc")) == {"source s": "ok"}

    def test_seeds_on_this_machine(self):
        with frozen_site() as site:
            found = self.check(**web_source(site.url) | {"name": "s"})
            assert (found[0].state, found[0].told) == ("ok", "reached: 127.0.0.1")
        found = self.check(kind="web", seeds=["http://127.0.0.1:9/"])
        assert found[0].state == "warning", "to be offline is no failure: it may have been collected before"

    def test_a_public_host_wants_a_contact(self):
        found = self.check(kind="web", seeds=["https://example.org/"])
        assert found[0].state == "failure"
        assert "runtime.collect.contact" in found[0].mend

    def test_a_host_that_no_name_server_knows(self):
        found = list(
            sources.check_sources(
                recipe(
                    sources=[{"name": "s", "kind": "web", "seeds": ["https://no-such-host.invalid/"]}],
                    runtime={"collect": {"contact": "me@example.org"}},
                )
            )
        )
        assert found[0].state == "warning"
        assert "no-such-host.invalid:443" in found[0].told


def test_every_finding_that_is_not_well_says_how_to_mend_it():
    with pytest.raises(AssertionError):
        Finding("x", "failure", "it is broken")


def test_the_estimate_of_disk_follows_the_texts(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 1_000_000)
    source = {"name": "s", "kind": "files", "base": str(tmp_path), "paths": ["*.txt"]}
    assert needs(recipe(sources=[source]), "fp32").disk["texts"] == 1_500_000
    found = needs(recipe(), "fp32")
    assert found.disk["total"] == sum(size for name, size in found.disk.items() if name != "total")
    assert found.least_memory["total"] < found.memory["total"]
    assert needs(recipe(), "bf16").memory["activations"] < found.memory["activations"]


def test_the_estimate_of_adapters_leaves_out_what_stays_as_it_is():
    model = {"n_layers": 4, "d_model": 256, "n_heads": 4}
    train = {"steps": 10, "init_from": "champion", "optimizer": "adamw"}
    whole = needs(recipe(model=model, train=train), "fp32")
    adapted = needs(recipe(model=model, train=train | {"lora": {"r": 4}}), "fp32")
    assert adapted.memory["weights"] > whole.memory["weights"]
    for found in (adapted.memory, adapted.least_memory):
        assert found["gradients"] + found["optimizer"] < 0.05 * found["weights"]
    assert adapted.disk["checkpoints"] < 0.05 * whole.disk["checkpoints"]


def test_a_damaged_list_of_tombstones_is_told(tmp_path):
    (tmp_path / "tombstones.json").write_text("{")
    (told,) = [finding for finding in disk.check_disk(Store(tmp_path), None) if finding.name == "takedown"]
    assert told.state == "failure"
    assert "damaged" in told.told


def test_what_other_people_wrote_is_printed_as_it_is(tmp_path):
    bad = write_recipe(tmp_path, {"name": "a[bold]b\x1b[2J", "kind": "web", "serve": "pydoc"}, name="x.yaml")
    done = collect("doctor", bad, store=tmp_path / "store", code=1)
    assert "\x1b[2J" not in done.out
