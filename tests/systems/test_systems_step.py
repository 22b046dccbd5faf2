"""One real optimizer step of full shapes, asked for as a person asks; and the program that measures all of them."""

from __future__ import annotations

import re
import sys

import pytest
from helpers_flows import ROOT
from helpers_systems import collect

from lmcore.recipe import packaged_recipes
from storage.store import VARIABLE

# MU's step of 32 windows takes minutes: two of them are the same shape of model.
STEPS = {
    "amharic-smart": ((), "16,090,880", "1,413 steps, about"),
    "mu": (("--set", "train.batch=2"), "26,940,112", "20,915 steps, about"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_the_full_shape_tells_its_memory_and_the_time_of_the_whole(name, tmp_path):
    settings, parameters, projected = STEPS[name]
    done = collect("params", name, "--step", *settings, env={VARIABLE: str(tmp_path), "COLUMNS": "200"})
    cells = [line.split("│")[1:3] for line in done.out.splitlines() if line.startswith("│")]
    told = {label.strip(): fact.strip() for label, fact in cells if label.strip()}
    assert told["parameters"] == parameters
    loss, uniform = (float(number) for number in re.findall(r"\d+\.\d+", told["loss before it"]))
    assert loss == pytest.approx(uniform, abs=0.3)
    assert "not finite" not in told["loss before it"]
    assert re.match(r"\d[\d.]* [MG]B \(about \d[\d.]* [MG]B by the ledger\)", told["peak memory"])
    assert re.match(r"[\d.]+ (s|min|h)", told["one step"])
    assert "unknown until the text is collected" in told["the whole run"], "no text was collected here"
    assert re.search(r"a million tokens take \d", told["the whole run"])
    assert told["at its document's text"].startswith(projected)


@pytest.fixture
def full_steps(monkeypatch):
    """benchmarks/full_steps.py."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import full_steps

    return full_steps


def test_every_full_recipe_is_measured_or_has_the_step_of_one_that_is(full_steps):
    found = {system: full_steps.shapes_of(system) for system in full_steps.SYSTEMS}
    every = [name for shapes in found.values() for first, same in shapes.items() for name in (first, *same)]
    assert sorted(every) == sorted(n for n in packaged_recipes() if not n.endswith("-small") and n != "quickstart")
    assert all(next(iter(shapes)) == system for system, shapes in found.items())
    assert found["cllm"] == {"cllm": ["cllm-bpe", "cllm-first-seen"]}
    assert "amharic-lora" in found["amharic"], "adapters make another step of the same shape"


def test_a_section_of_a_page_is_replaced_and_what_follows_stays(full_steps):
    page = "# A\n\n## Measured\n\nold\n\n### part\n\n## Not done\n\nrest\n"
    put = full_steps.replace_section
    new = put(page, "## Measured\n", "\nnew\n")
    assert new == "# A\n\n## Measured\n\nnew\n\n## Not done\n\nrest\n"
    above = put(new, "## Step\n", "\ntable\n", above="## Measured\n")
    assert above == "# A\n\n## Step\n\ntable\n\n## Measured\n\nnew\n\n## Not done\n\nrest\n"
    assert put(above, "## Step\n", "\ntable\n", above="## Measured\n") == above
