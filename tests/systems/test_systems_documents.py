"""What stands alone on the page of the documents' commands: flags, settings, sources, programs that are no command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers_flows import ROOT
from helpers_systems import DOCS, SAYS, check_answer, commands

from lmcore.recipe import load_recipe, packaged_recipes

PAGE = (DOCS / "from-the-documents.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "| here |" not in line]
CELLS = [re.split(r"(?<!\\)\|", row)[2] for row in ROWS]
SETTING = re.compile(r"(?:train|model|tokenizer|evaluate|curate)(?:\.\w+)+: \S+")


def alone(cell):
    """(recipe, setting) of what is in backticks of a cell and is no command, by the recipe that its row is of."""
    marked = re.findall(r"`([^`]+)`", cell)
    typed = [shlex.split(one) for one in marked if one.startswith("collect-train ")]
    recipes = [word for words in typed for word in words if word in packaged_recipes()]
    for one in marked:
        if one.startswith("--set "):
            yield recipes[0], shlex.split(one)[1]
        elif re.fullmatch(r"sources\.\d+\.\w+", one):
            yield recipes[0], f"{one}=7"
        elif SETTING.fullmatch(one):
            yield recipes[0], one.replace(": ", "=")


SETTINGS = [found for cell in CELLS for found in alone(cell)]


def test_all_that_stand_alone_are_found():
    assert len(SETTINGS) >= 7
    assert {setting.partition("=")[0] for _, setting in SETTINGS} >= {
        "sources.0.sentences", "sources.0.stories", "sources.0.translations", "sources.0.instructions",
        "tokenizer.vocab_size", "tokenizer.min_frequency", "train.on_oom",
    }  # fmt: skip


@pytest.mark.parametrize(("recipe", "setting"), SETTINGS)
def test_a_setting_that_stands_alone_is_one_of_its_recipe(recipe, setting):
    path, _, value = setting.partition("=")
    at = load_recipe(recipe, [setting]).model_dump(mode="json")
    for part in path.split("."):
        at = at[int(part)] if part.isdigit() else at[part]
    assert at == yaml.safe_load(value)


def test_a_source_that_stands_alone_reads_what_it_is_for(tmp_path):
    """`{kind: chat, shape: tags, ...}`: the user's own file, in a recipe of theirs."""
    (written,) = [one for cell in CELLS for one in re.findall(r"`(\{[^`]+\})`", cell)]
    source = yaml.safe_load(written) | {"name": "own", "license": "CC0-1.0", "lang": "hu"}
    (tmp_path / source["paths"][0]).write_text("<user>Szia!</user><assistant>Szia, hogy vagy?</assistant>\n")
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"extends": "lai", "name": "own", "sources": [source]}))
    (own,) = load_recipe(str(path)).sources
    assert (own.kind, own.shape, own.template) == ("chat", "tags", "tags")
    assert [Path(at).name for at in own.paths] == ["custom.txt"]


def test_what_a_test_of_its_own_runs_is_there():
    assert "`(server)`" in PAGE
    left_out = set(re.findall(r"`(collect-train [^`]+)` \(server\)", PAGE))
    assert {shlex.split(command)[1] for command in left_out} == {"up"}
    for path in re.findall(r"`((?:tests|deploy|benchmarks)/\w+(?:/\w+)?\.py)`", PAGE):
        assert (ROOT / path).is_file()
    assert "deploy/run_colab.py" in PAGE
    assert "run_colab" in (ROOT / "tests" / "deploy" / "test_deploy_colab.py").read_text(encoding="utf-8")
    assert "`benchmarks/generate.py`" in PAGE


@pytest.mark.slow
def test_the_bench_of_generate_runs():
    """`--bench` of LAi: `benchmarks/generate.py`."""
    pytest.importorskip("transformers")
    short = ["--shape", "quickstart", "--rows", "1", "--tokens", "4", "--rounds", "1", "--threads", "1"]
    words = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), *short]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"1 at once: ours [\d,]+ tokens/s, \w+ [\d,]+ tokens/s", done.stdout), done.stdout


class Said:
    """What a command said."""

    def __init__(self, out, err=""):
        self.out, self.err = out, err


@pytest.mark.parametrize(
    ("command", "good", "bad"),
    [
        ("run lai-small", "✓ release    Completed\nnext:\n 1", "✓ curate  Completed\n 1"),
        ("run lai-small --until collect", "= collect a  Reused 1", "nothing to do 1"),
        ("generate lai-small --seed 0 'Once upon' --max-tokens 5", "Once upon a time", "Once upon\n"),
        ("generate lai-small --translate Hello --to hu", "Szia", "\n"),
        ("info lai-small", "│ parameters │ 1,433,728 │", "│ path │ store/train │"),
        ("params lai-small", "│ total │ 1,433,728 │", "lai-small"),
        ("sql 'select 1'", "│ 1 │\n1 row\n", "0 rows\n"),
        ("export lai-small --out gone.txt", "there.txt: 2 lines, 5 bytes", "gone.txt: 2 lines, 5 bytes"),
        ("logs", "attempt 1 at run", "Traceback (most recent call last)"),
    ],
)
def test_a_command_that_does_not_do_what_it_is_for_is_noticed(command, good, bad, tmp_path):
    (tmp_path / "there.txt").write_text("12345")
    words = shlex.split(command)
    check_answer([word.replace("gone", "there") for word in words], Said(good), tmp_path)
    with pytest.raises((AssertionError, FileNotFoundError)):
        check_answer(words, Said(bad), tmp_path)


@pytest.mark.parametrize("system", ["SOMA", "LAi", "CLLM", "MU-SOTA", "Amharic"])
def test_most_commands_have_an_answer_that_is_looked_at(system):
    typed = [shlex.split(command)[1] for command in commands(system)]
    looked = {*SAYS, "export", "export-tokens", "generate", "sql"}
    assert set(typed) - looked <= {"diagnose", "doctor", "show", "why"}
