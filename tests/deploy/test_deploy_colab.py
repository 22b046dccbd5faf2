"""`deploy/run_colab.py`: one file, one command, no server; killed with everything it had started, it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
import venv
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from held import every, goes_on_when_told, until_held
from helpers_flows import MARK, ROOT, environment, finish, write_recipe
from helpers_kill import assert_no_orphans
from store_words import text_of

from deploy.run_colab import RECIPE
from lmcore import load
from lmcore.export.layouts import system_of
from lmcore.recipe import load_recipe, packaged_recipes
from storage.atomic import FAULT_VARIABLE
from storage.store import Store

MODEL = {"family": "mu", "n_layers": 2, "matrix": [4, 4], "n_heads": 4, "context": 32}
TRAIN = {"epochs": 2, "steps": None, "prompts": ["The quick brown"]}
RUNTIME = {
    "device": "cpu", "threads": 1, "compile": "off", "save_every_steps": 5, "each_epoch": True, "keep_best": True,
    "validate_every": 0, "sample_at": [], "sample_tokens": 8,
}  # fmt: skip


@pytest.fixture
def script(tmp_path):
    """The file alone, in a folder of its own, as a person has it who was given nothing else."""
    alone = tmp_path / "alone" / "run_colab.py"
    alone.parent.mkdir()
    shutil.copyfile(ROOT / "deploy" / "run_colab.py", alone)
    return alone


def start(script, *arguments, **env):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, str(script), *arguments]
    return subprocess.Popen(command, cwd=script.parent, env=environment(**env), **pipes)


@pytest.fixture
def recipe(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(60):
        (texts / f"{number}.txt").write_text(text_of(number))
    source = {"name": "made", "kind": "files", "paths": [str(texts)], "lang": "en", "license": "CC0-1.0"}
    path = Path(
        write_recipe(
            tmp_path, source, name="mu-small.yaml", train=TRAIN, export={"hf": False}, runtime={"train": RUNTIME},
            tokenizer={"kind": "word_bpe", "vocab_size": 400, "cap": True},
        )
    )  # fmt: skip
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"name": "mu-small", "model": MODEL}))
    return str(path)


def checkpoints(store):
    return sorted(store.glob(".work/*/checkpoints/step-*/state.json"))


@pytest.mark.slow
def test_it_needs_no_server_and_goes_on_after_a_kill(script, recipe, tmp_path):
    folder, mark = tmp_path / "drive", uuid.uuid4().hex
    # A server that does not answer, which the file is not to ask.
    env = {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://127.0.0.1:9/api", MARK: mark}
    command = (recipe, "--folder", str(folder), "--set", "train.batch=2", "--set", "train.micro_batch=2")
    first = start(script, *command, **env, **{FAULT_VARIABLE: every(8)})

    def trainers():
        return [c for c in psutil.Process(first.pid).children(recursive=True) if "lmcore.train" in c.cmdline()]

    goes_on_when_told(*until_held(trainers, why_not=first.poll))
    assert checkpoints(folder / "store")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert_no_orphans(mark)
    assert not list(Store(folder / "store").readable("train")), "the kill came after the training"

    done = finish(start(script, *command, **env))
    assert done.code == 0, done.out + done.err
    told = json.loads(Store(folder / "store").resolve("train").file("provenance/training.json").read_text())
    assert told["resumes"] >= 1
    assert [path.name for path in sorted((folder / "files").iterdir())] == [
        "mu_sota_best.pt", "mu_sota_tokenizer.json",
    ]  # fmt: skip
    found = torch.load(folder / "files" / "mu_sota_best.pt", weights_only=True)
    assert found["epoch"] in (1, 2)
    assert found["perplexity"] > 1
    assert load(folder / "files" / "mu_sota_best.pt").generate("The quick brown", max_tokens=5)

    again = finish(start(script, *command, **env))
    assert again.code == 0
    assert "✓" not in again.out, "nothing was left to do"


def test_its_default_recipe_is_there_and_belongs_to_a_system():
    assert RECIPE in packaged_recipes()
    for name in (RECIPE, RECIPE.removesuffix("-small")):
        assert system_of(load_recipe(name).name) == "mu"
        assert load_recipe(name).train.precision == "auto", "fp16 with a loss scale where a GPU has no bf16"


@pytest.mark.slow
def test_without_a_recipe_it_is_the_small_one_on_shipped_text(script, tmp_path):
    """Also where no set was fetched and no server runs."""
    shorter = ("train.steps=3", "model.n_layers=1", "evaluate.max_bytes=5000", "evaluate.baselines=[]")
    sets = [word for value in shorter for word in ("--set", value)]
    env = {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://127.0.0.1:9/api", "COLLECT_TRAIN_DATA": "none"}
    done = finish(start(script, "--folder", str(tmp_path / "drive"), *sets, **env))
    assert done.code == 0, done.out + done.err
    model = tmp_path / "drive" / "files" / "mu_sota_best.pt"
    assert load(model).info()["model"]["matrix"] == [8, 8]


def test_without_the_project_it_says_where_to_find_it(script, tmp_path):
    venv.create(tmp_path / "bare")
    command = [str(tmp_path / "bare" / "bin" / "python"), str(script), "--folder", "never"]
    done = subprocess.run(command, cwd=script.parent, env=environment(PYTHONPATH=""), capture_output=True, text=True)
    assert done.returncode == 2
    assert "--source" in done.stderr
    assert not (script.parent / "never").exists()


def test_a_run_that_fails_ends_with_its_own_code(script):
    done = finish(start(script, "no-such-recipe", "--folder", "made", PYTHONPATH=str(ROOT)))
    assert done.code == 2
    assert "no-such-recipe" in done.err
