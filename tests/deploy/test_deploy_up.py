"""What `up` and bootstrap do to a server of somebody else's, what they say when they cannot, and how `up` ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers_deploy import BIN, Up, free_port
from helpers_flows import ROOT, collect, environment, finish, web_source, write_recipe

from flows.announced import announced_server
from storage.errors import UserError

DEAD = "http://127.0.0.1:9/api"
DEPLOYED = ("collect-train/collect-train", "collect-train/nightly", "train/gpu")
slow = pytest.mark.slow


def module(*args: str, code: int = 0, **env: str):
    """Run `python -m ARGS`."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", *args]
    done = finish(subprocess.Popen(command, env=environment(**env), text=True, cwd=ROOT, **pipes))
    assert done.code == code, f"exit code {done.code}:\n{done.out}\n{done.err}"
    return done


@pytest.fixture
def odd(tmp_path):
    """A folder with one recipe, and three things that are none."""
    folder = tmp_path / "odd"
    write_recipe(folder, web_source("http://127.0.0.1:9"), name="other.yaml")
    (folder / "bad.yaml").write_text("name: [broken")
    (folder / "dir.yaml").mkdir()
    (folder / "we ird.yaml").write_text((folder / "other.yaml").read_text())
    return folder


@slow
class TestErrors:
    """Two lines, no traceback; no server is needed."""

    @pytest.mark.parametrize(
        ("command", "settings", "code", "said"),
        [
            ("run quickstart", {"PREFECT_API_URL": DEAD}, 1, f"[Errno 111] Connection refused ({DEAD})"),
            ("up", {"PREFECT_API_URL": DEAD}, 1, "the Prefect server does not answer: "),
            ("up", {"PREFECT_API_URL": "nonsense"}, 2, "PREFECT_API_URL is nonsense: "),
            ("up --pool a/b", {"PREFECT_API_URL": DEAD}, 2, "'a/b' is no name for a work pool"),
            ("up", {"PREFECT_API_URL": DEAD, "COLLECT_TRAIN_RECIPES": "/nowhere"}, 2, "which is no folder"),
            ("up --port 99999", {}, 2, "cannot serve on 127.0.0.1 port 99999: ports go up to 65535"),
            ("up --host ::1 --port 99999", {}, 2, "cannot serve on ::1 port 99999"),
        ],
    )  # fmt: skip
    def test_of_the_command_line(self, tmp_path, command, settings, code, said):
        done = collect(*command.split(), store=tmp_path, env=settings, code=code)
        assert said in done.error[0]
        assert "fault" not in done.err

    @pytest.mark.parametrize("recipes", ["/nowhere", "hiding"])
    def test_of_bootstrap(self, tmp_path, recipes):
        if recipes == "hiding":
            write_recipe(tmp_path, web_source("http://127.0.0.1:9"), name="quickstart.yaml")
            recipes = str(tmp_path)
        done = module("deploy.bootstrap", code=2, PREFECT_API_URL=DEAD, COLLECT_TRAIN_RECIPES=recipes)
        assert ("is no folder" if recipes == "/nowhere" else "the name of a packaged recipe") in done.error[0]

    def test_a_dead_server(self):
        done = module("deploy.bootstrap", code=1, PREFECT_API_URL=DEAD)
        assert done.error[0].startswith("the Prefect server does not answer: ")

    def test_a_database_that_no_driver_knows(self, tmp_path):
        url = "postgres://me:hunter2-in-a-url@127.0.0.1/x"
        env = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        done = collect("up", "--port", str(free_port()), store=tmp_path, env=env, code=1)
        assert "Can't load plugin: sqlalchemy.dialects:postgres" in done.error[0]
        assert "hunter2" not in done.err


class TestRecipes:
    def test_only_recipes_are_offered(self, odd, monkeypatch):
        from flows.deployed import offered_recipes

        monkeypatch.setenv("COLLECT_TRAIN_RECIPES", str(odd))
        refused: dict[str, UserError] = {}
        offered = offered_recipes(refused)
        assert "other" in offered
        assert not {"bad", "dir", "we ird"} & offered.keys()
        assert sorted(refused) == ["bad", "we ird"]
        assert "is not valid YAML" in refused["bad"].what


class TestAnnounced:
    """`server.json` counts only while somebody holds the lock beside it."""

    @pytest.mark.parametrize("text", ['{"url": "http://127.0.0.1:9/api", "pid": 1, "port": 9}', '{"url', "[]", "{}"])
    def test_one_that_was_left_behind(self, tmp_path, text):
        folder = tmp_path / ".prefect"
        folder.mkdir()
        (folder / "server.json").write_text(text)
        assert announced_server(tmp_path) is None, "no lock"
        (folder / "lock").touch()
        assert announced_server(tmp_path) is None

    def test_one_that_lives(self, tmp_path):
        folder = tmp_path / ".prefect"
        folder.mkdir()
        with open(folder / "lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for pid, found in ((os.getpid(), DEAD), (1, DEAD), (2**22 + 1, None), (0, None), ("1", None)):
                (folder / "server.json").write_text(json.dumps({"url": DEAD, "pid": pid}))
                assert announced_server(tmp_path) == found

    def test_who_takes_the_lock_clears_it_away(self, tmp_path):
        from flows.embedded import database_folder
        from storage.store import Store

        (tmp_path / ".prefect").mkdir()
        (tmp_path / ".prefect" / "server.json").write_text(json.dumps({"url": DEAD, "pid": os.getpid()}))
        with database_folder(Store(tmp_path)):
            assert announced_server(tmp_path) is None


class TestPlugin:
    def start(self, folder, *args, **env):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [str(BIN / "prefect"), "deployment", "run", *args]
        told = environment(PREFECT_PLUGINS_ENABLED="1", **env)
        return finish(subprocess.Popen(command, env=told, text=True, cwd=folder, **pipes))

    def test_without_a_server_it_ends_there(self, tmp_path):
        (tmp_path / "store" / ".prefect").mkdir(parents=True)
        (tmp_path / "store" / ".prefect" / "server.json").write_text('{"url')
        done = self.start(tmp_path, "collect-train")
        assert done.code == 1
        assert done.err == "no Prefect server: start `collect-train up` in this folder, or set PREFECT_API_URL\n"

    def test_help_needs_none(self, tmp_path):
        done = self.start(tmp_path, "--help")
        assert done.code == 0
        assert "--job-variable" in done.out


def offered(up) -> dict[str, tuple]:
    """What the deployments of a server are."""
    with up.api() as client:
        found = [client.read_deployment_by_name(name) for name in DEPLOYED]
    return {each.name: (each.parameter_openapi_schema, each.parameters, each.schedules, each.updated) for each in found}


def limit(up, pool: str) -> int | None:
    with up.api() as client:
        return client.read_work_pool(pool).concurrency_limit


@slow
class TestSomebodyElsesServer:
    def test_its_deployments_stay(self, up, odd, tmp_path):
        """With other recipes here, for the pool of the GPU, and for one that is new."""
        before = offered(up)
        for pool, runs, then in (("gpu", (), limit(up, "gpu")), ("gpu", ("--runs", "1"), 1), ("moons", (), 2)):
            other = Up(
                tmp_path / f"{pool}{len(runs)}", "--pool", pool, *runs, recipes=odd, PREFECT_API_URL=up.url
            )  # fmt: skip
            other.stop()
            assert offered(up) == before
            assert limit(up, pool) == then
            said = other.said()
            assert f"worker    of pool {pool}, {then} run" in said
            assert "warning: bad is not offered: " in said
            assert f"start     PREFECT_API_URL={up.url} prefect deployment run collect-train/collect-train" in said
        with up.api() as client:
            assert client.read_deployment_by_name("train/moons").work_pool_name == "moons"

    def test_a_night_is_not_changed_unasked(self, up, odd):
        before = offered(up)
        env = {"PREFECT_API_URL": up.url, "COLLECT_TRAIN_RECIPES": str(odd)}
        done = module("deploy.bootstrap", "--keep", "--nightly", "other", "--pool", "new", code=2, **env)
        assert "the server has a nightly retrain already" in done.err
        broken = module("deploy.bootstrap", "--nightly", "bad", "--pool", "new", code=2, **env)
        assert "error: --nightly bad: " in broken.err
        assert "is not valid YAML" in broken.err
        assert offered(up) == before
        with up.api() as client:
            assert "new" not in {pool.name for pool in client.read_work_pools()}, "nothing was written before"


@slow
class TestAlone:
    """A server of its own, which these tests change."""

    def test_begun_with_interrupts_ignored_it_stops(self, recipes, tmp_path):
        """As `nohup collect-train up &` in a script begins it; SIGTERM ends it, and so does SIGINT."""
        own = Up(tmp_path, "--host", "::1", recipes=recipes)
        own.stop()
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 0)):
            with open(own.log, "ab") as log:
                begin = log.tell()
                command = f"trap '' INT; exec {BIN}/collect-train up --store {own.store} --port {own.port}"
                process = subprocess.Popen(
                    ["/bin/sh", "-c", command], env=own.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
                )
            deadline = time.monotonic() + 200
            while "started!" not in own.said()[begin:]:
                assert process.poll() is None, own.said()
                assert time.monotonic() < deadline, own.said()
                time.sleep(0.2)
            assert f"COLLECT_TRAIN_STORE={own.store} prefect deployment run collect-train " in own.said()[begin:]
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(60) == code, own.said()
            assert time.monotonic() - began < 30

    def test_a_nightly_recipe_that_is_gone_changes_nothing(self, recipes, odd, tmp_path):
        own = Up(tmp_path, "--nightly", "tiny", recipes=recipes)
        try:
            before = offered(own)
            env = {"PREFECT_API_URL": own.url, "COLLECT_TRAIN_RECIPES": str(odd)}
            done = module("deploy.bootstrap", "--runs", "7", code=2, **env)
            assert "error: the server retrains tiny every night, which this machine does not offer" in done.err
            assert offered(own) == before
            assert limit(own, "collect-train") == 2
            module("deploy.bootstrap", "--no-nightly", **env)
            enum = offered(own)["collect-train"][0]["properties"]["recipe"]["enum"]
            assert "other" in enum
            assert not {"tiny", "bad", "dir", "we ird"} & set(enum)
        finally:
            own.stop()
