"""One real optimizer step of full shapes, asked for as a person asks."""

from __future__ import annotations

import re

import pytest
from helpers_systems import collect

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
