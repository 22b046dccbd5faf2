"""Starting runs as people do, on a real server and worker: names, the run form, resources, another pool."""

from __future__ import annotations

import json

import pytest
from held import every
from helpers_deploy import HOLD, Up, engine, kill
from helpers_flows import collect, digests
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

from lmcore.recipe import packaged_recipes
from storage.atomic import FAULT_VARIABLE
from storage.manifest import Manifest
from storage.store import Store

pytestmark = pytest.mark.slow


def training(store, run):
    """The artifact that a run trained."""
    (artifact,) = [a for a in Store(store).artifacts("train") if a.manifest.provenance.run == str(run.id)]
    return artifact


def trained(store, run) -> tuple[dict, Manifest]:
    """What the training of a run left about its limits, and the manifest."""
    artifact = training(store, run)
    return json.loads(artifact.file("provenance/training.json").read_text())["limits"], artifact.manifest


class TestNames:
    @pytest.mark.parametrize("name", ["collect-train", "collect-train/collect-train"])
    def test_as_typed_in_the_project_folder(self, up, name):
        """Nothing but the store says where the server is."""
        done = up.prefect("deployment", "run", name, "-p", "recipe=tiny", "--watch", PREFECT_API_URL="")
        assert "Flow run finished successfully" in done.out, done.out

    def test_elsewhere_the_long_form_works(self, up, tmp_path):
        bare = up.prefect("deployment", "run", "collect-train", cwd=tmp_path, code=1, PREFECT_API_URL=up.url)
        assert "Expected format: <FLOW_NAME>/<DEPLOYMENT_NAME>" in bare.out + bare.err, "Prefect's own message"
        done = up.prefect(
            "deployment",
            "run",
            "collect-train/collect-train",
            "-p",
            "recipe=tiny",
            cwd=tmp_path,
            PREFECT_API_URL=up.url,
        )
        assert "Created flow run" in done.out
        enabled = up.prefect(
            "deployment", "run", "collect-train", "-p", "recipe=tiny", cwd=tmp_path,
            PREFECT_API_URL=up.url, PREFECT_PLUGINS_ENABLED="1",
        )  # fmt: skip
        assert "Created flow run" in enabled.out

    def test_an_unknown_name(self, up):
        assert "Deployment 'nosuch' not found" in up.prefect("deployment", "run", "nosuch", code=1).out

    def test_untried_versions_of_prefect_are_left_alone(self):
        from deploy.cli_plugin import _version

        assert _version("3.8.8") == (3, 8)
        assert _version("3.9.1") == (3, 9)
        assert _version("3.10.0") is None
        assert _version("4.0.0") is None


class TestForm:
    def test_it_offers_exactly_these(self, up):
        with up.api() as client:
            for name in ("collect-train", "nightly"):
                schema = client.read_deployment_by_name(f"collect-train/{name}").parameter_openapi_schema
                assert list(schema["properties"]) == ["recipe", "edition", "minutes", "device", "seed", "set"]
                offered = sorted({*packaged_recipes(), "shown", "slow", "tiny"})
                assert schema["properties"]["recipe"]["enum"] == offered

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("recipe=/etc/passwd", "'/etc/passwd' is not one of"),
            ("recipe=../slow", "'../slow' is not one of"),
            ("minutes=0", "0 is less than or equal to the minimum of 0"),
            ("device=tpu", "'tpu' is not one of"),
            ("seed=-1", "-1 is less than the minimum of 0"),
            ("store=/tmp", "specified but not found on the deployment: 'store'"),
        ],
    )
    def test_anything_else_is_refused_by_the_server(self, up, given, said):
        done = up.prefect("deployment", "run", "collect-train", "-p", given, code=1)
        assert said in " ".join(done.out.split()), done.out

    def test_settings_reach_the_training(self, up):
        run = up.begin(parameters={"recipe": "tiny", "seed": 5, "set": ["train.steps=6", "train.lr=0.002"]})
        up.ended(run)
        params = trained(up.store, run)[1].provenance.params
        assert (params["seed"], params["steps"], params["lr"]) == (5, 6, 0.002)

    def test_a_mistake_in_set_is_told(self, up):
        ended = up.ended(up.begin(parameters={"recipe": "tiny", "set": ["train.stepps=6"]}), "FAILED")
        assert "did you mean steps?" in ended.state.message

    def test_no_setting_reaches_another_file(self, up, tmp_path):
        (tmp_path / "private.txt").write_text("A secret of the worker's owner. " * 100)
        source = {"name": "own", "kind": "files", "base": str(tmp_path), "paths": ["private.txt"]}
        run = up.begin(parameters={"recipe": "tiny", "set": [f"sources=[{json.dumps(source)}]"]})
        ended = up.ended(run, "FAILED")
        assert ended.state.message.startswith("set: sources cannot be changed for one run: ")
        assert not [a for a in Store(up.store).artifacts("collect") if a.manifest.provenance.run == str(run.id)]

    def test_a_run_to_train_for_is_no_path(self, up):
        asked = ("deployment", "run", "train/gpu", "-p", "run=../../evil", "-p", "inputs={}")
        done = up.prefect(*asked, code=1)
        assert "'../../evil' does not match" in " ".join(done.out.split()), done.out


class TestResources:
    def test_two_settings_are_enforced_and_recorded(self, up):
        asked = [
            {"cpus": 1, "memory": 6000, "gpus": "none"},
            {"cpus": 2, "threads": 1, "memory": 7000},
        ]
        found = []
        for number, variables in enumerate(asked):
            run = up.begin(parameters={"recipe": "tiny", "seed": 100 + number}, job_variables=variables)
            up.ended(run)
            limits, manifest = trained(up.store, run)
            found.append((len(limits["cores"]), limits["thread_variable"], limits["memory_bytes"]))
            recorded = json.loads(manifest.provenance.environment["resources"])
            assert variables.items() <= recorded.items()
            assert (recorded["processes"], recorded["nodes"]) == (1, 1)
            assert limits["cuda_visible_devices"] == ("" if variables.get("gpus") == "none" else None)
        assert found == [(1, "1", 6000 * 2**20), (2, "1", 7000 * 2**20)]

    @pytest.mark.parametrize(
        ("variable", "said"),
        [
            ("memory=100", "100 is less than the minimum of 512"),
            ("cpus=-1", "-1 is less than the minimum of 0"),
            ("memory=lots", "'lots' is not valid"),
            ("gpus=first", "'first' does not match"),
            ("processes=0", "0 is less than the minimum of 1"),
            ("nodes=2", "2 is greater than the maximum of 1"),
        ],
    )
    def test_nonsense_is_refused_by_the_server(self, up, variable, said):
        done = up.prefect("deployment", "run", "collect-train", "--job-variable", variable, code=1)
        assert said in " ".join(done.out.split()), done.out

    def test_processes_share_a_training(self, up):
        """As the job variable says, or the recipe above it; more of them than sequences are refused at once."""
        variables = {"cpus": 2, "processes": 2}
        free = "runtime.train.threads=0"
        for number, told, processes in ((200, [free], 2), (201, [free, "runtime.train.processes=1"], 1)):
            run = up.begin(parameters={"recipe": "tiny", "seed": number, "set": told}, job_variables=variables)
            up.ended(run)
            plan = json.loads(training(up.store, run).file("provenance/plan.json").read_text())
            assert (plan["processes"], plan["threads"]) == (processes, 2 // processes)
        run = up.begin(
            parameters={"recipe": "tiny", "set": ["train.batch=1", "train.micro_batch=1"]}, job_variables=variables
        )
        assert "2 training processes share train.batch=1" in up.ended(run, "FAILED").state.message

    def test_more_cores_than_there_are(self, up):
        run = up.begin(parameters={"recipe": "tiny", "seed": 9}, job_variables={"cpus": 4096})
        ended = up.ended(run, "FAILED")
        assert "the job variable cpus is 4096, but this worker may use" in ended.state.message
        assert ended.run_count == 1

    def test_too_little_memory_is_named(self, up):
        run = up.begin(
            parameters={"recipe": "tiny", "set": ["train.steps=4", "model.d_model=4096", "model.n_layers=4"]},
            job_variables={"memory": 1500, "cpus": 1},
        )
        ended = up.ended(run, "FAILED")
        assert "ran out of memory; it may use 1,500 MiB" in ended.state.message


class TestAnotherPool:
    def test_a_killed_parent_finds_the_training_that_goes_on(self, up, recipes, tmp_path_factory):
        folder = tmp_path_factory.mktemp("gpu")
        elsewhere = ["resources.train.work_pool=gpu", "train.steps=100"]
        other = Up(
            folder, "--pool", "gpu", "--runs", "1", recipes=recipes, store=up.store,
            PREFECT_API_URL=up.url, **{FAULT_VARIABLE: every(HOLD)},
        )  # fmt: skip
        try:
            run = up.begin(parameters={"recipe": "tiny", "seed": 77, "set": elsewhere})
            trainer = up.training(run)
            with up.api() as client:
                gpu = client.read_deployment_by_name("train/gpu")
                chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[gpu.id]))
                (before,) = client.read_flow_runs(flow_run_filter=chosen)
            kill(engine(run))
            trainer.resume()
            up.ended(run)
            with up.api() as client:
                (after,) = client.read_flow_runs(flow_run_filter=chosen)
            assert after.id == before.id
            assert after.state.is_completed()
            assert up.run(run).run_count == 2
            (model,) = [a for a in Store(up.store).artifacts("train") if a.manifest.provenance.params["seed"] == 77]
            assert model.manifest.provenance.run == str(after.id)
        finally:
            other.stop()

    def test_a_pool_that_does_not_exist(self, up):
        more = ["resources.train.work_pool=moon", "train.seed=78"]
        ended = up.ended(up.begin(parameters={"recipe": "tiny", "set": more}), "FAILED")
        assert "has no deployment train/moon" in ended.state.message


def test_by_hand_and_on_a_worker_the_bytes_are_equal(up, recipes, tmp_path):
    up.ended(up.begin(parameters={"recipe": "tiny"}))
    collect("run", str(recipes / "tiny.yaml"), store=tmp_path / "by-hand", env={"PREFECT_API_URL": up.url})
    ours, theirs = digests(tmp_path / "by-hand"), digests(up.store)
    assert all(ours[stage][0] in theirs[stage] for stage in ("collect", "curate", "tokenizer", "tokens", "train"))
