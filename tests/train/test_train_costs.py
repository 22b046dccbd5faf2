"""What a training costs: predicted by its plan and measured, under the same names, in the bar as in the summary."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

import lmcore.train
from lmcore.models.config import DecoderConfig
from lmcore.models.ledger import estimate
from lmcore.models.lora import Lora, adapter_parameters
from lmcore.progress import silent
from lmcore.report import RunView, StageRow
from lmcore.report.page import render
from lmcore.train.evidence import of_artifact
from lmcore.train.journal import FOR_PEOPLE, STALL_MEDIANS, STALL_SECONDS, for_people, is_step, read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job, TrainParams, TrainRuntime
from lmcore.train.predict import predict
from lmcore.train.speed import measure
from tasks.stall import Patience
from tasks.trainer import run_trainer

# The rest of what the trainer tells: shown by a curve, a table or a page of its own, or in the trainer's log alone.
SHOWN_OTHERWISE = {"checkpoint", "epoch", "finished", "packing", "plan", "probe", "sample", "training", "validation"}


def finish(values):
    return train(Job.model_validate(values))


def test_a_real_run_has_its_costs_predicted_and_measured(job):
    values = job(steps=30)
    finish(values)
    out = Path(values["work"]) / "out"
    training = json.loads((out / "provenance" / "training.json").read_text())
    plan = json.loads((out / "provenance" / "plan.json").read_text())
    before, after = training["predicted"], training["measured"]
    assert before.keys() == after.keys()
    assert before["step_seconds"] == plan["step_seconds"]
    assert before["tokens_per_second"] == pytest.approx(4 * 32 / plan["step_seconds"])
    assert before["seconds"] == pytest.approx(30 * plan["step_seconds"])
    assert (before["steps"], after["steps"]) == (30, 30)
    file = (out / "model.safetensors").stat().st_size
    assert after["file_bytes"] == file
    assert 0 <= file - before["file_bytes"] < 5000, "the header"
    evidence = of_artifact(out)
    assert after["step_seconds"] == pytest.approx(sorted(evidence.seconds)[15], rel=0.5)
    assert after["seconds"] == pytest.approx(sum(evidence.seconds))
    assert after["tokens_per_second"] == pytest.approx(training["tokens_per_second"], abs=0.1)
    assert after["memory_bytes"] / 2**20 == pytest.approx(training["peak_memory_mib"], rel=0.02)


def test_the_report_shows_both_of_a_real_run(job):
    values = job(steps=30)
    finish(values)
    out = Path(values["work"]) / "out"
    row = StageRow("train", "a" * 24, "b" * 64, "Completed", 1.0, {})
    view = RunView(
        recipe="made", resolved={}, run="r", edition="e", started="2026-01-02T03:04:05+00:00", seconds=1.0,
        stages=[row], train=out,
    )  # fmt: skip
    page = render(view)
    table = page[page.index("<h3>Predicted and measured</h3>") :]
    cells = [line for line in table[: table.index("</table>")].splitlines() if line.startswith("<tr><td>")]
    names = ["One step", "Tokens per second", "Memory", "Model file", "Steps", "Training time"]
    assert [line[8 : line.index("</td>")] for line in cells] == names
    assert cells[4] == '<tr><td>Steps</td><td class="n">30</td><td class="n">30</td><td class="n">1.00</td></tr>'
    path = out / "provenance" / "training.json"
    old = json.loads(path.read_text())
    del old["predicted"], old["measured"]
    path.write_text(json.dumps(old))
    assert "Predicted and measured" not in render(view), "a training of the time before"


def test_a_budget_in_minutes_predicts_steps(job):
    values = job(minutes=0.02)
    finish(values)
    training = json.loads((Path(values["work"]) / "out" / "provenance" / "training.json").read_text())
    assert training["predicted"]["seconds"] == pytest.approx(1.2)
    assert training["predicted"]["steps"] == round(1.2 / training["predicted"]["step_seconds"])


def test_params_and_a_run_predict_by_the_same_rule(job):
    """`params` times the optimizer too, and that is all the difference."""
    params = TrainParams.model_validate(job()["params"])
    speed = measure(params, 320, TrainRuntime(device="cpu", threads=1))
    costs = predict(estimate(params.model, 320), params, speed.plan, speed.step_seconds, None)
    assert costs.tokens_per_second == pytest.approx(speed.tokens_per_second)
    assert (costs.steps, costs.seconds) == (None, None)
    assert costs.memory_bytes > lmcore.train.TORCH_BYTES


def test_adapters_are_predicted_by_what_they_train(job):
    """Gradients and optimizer state of all weights, and of adapters alone."""
    plain = TrainParams.model_validate(job()["params"] | {"optimizer": "adamw"})
    adapted = plain.model_copy(update={"lora": Lora(r=2)})
    plan = measure(plain, 4000, TrainRuntime(device="cpu", threads=1)).plan
    ledger = estimate(plain.model, 4000)
    all_of_it, adapters = (predict(ledger, params, plan, 1.0, None).memory_bytes for params in (plain, adapted))
    frozen = ledger.total - adapter_parameters(plain.model, adapted.lora)
    assert all_of_it - adapters == pytest.approx(12 * frozen, rel=0.1)


@pytest.mark.parametrize("adapted", [False, True])
def test_utilisation_is_the_same_while_it_runs_and_in_the_summary(job, adapted):
    base = job("base", steps=2)
    finish(base)
    settings = {"lora": {"r": 4, "targets": ["qkv"]}} if adapted else {}
    values = job("work", steps=30, start_from=str(Path(base["work"]) / "out") if adapted else None, **settings)
    metrics = finish(values)
    lines = [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if is_step(line)]
    for line in lines:
        share = line["utilisation"] / line["tokens_per_second"]
        assert share == pytest.approx(metrics["utilisation"] / metrics["tokens_per_second"], rel=0.02)
    shape = estimate(DecoderConfig(**values["params"]["model"]), 320)
    per_token = shape.flops_per_token() - (2 * shape.product_parameters if adapted else 0)
    peak = 1e9 * json.loads((Path(values["work"]) / "plan.json").read_text())["gflops"]["fp32"]
    assert lines[0]["utilisation"] == pytest.approx(per_token * lines[0]["tokens_per_second"] / peak)


def test_measuring_the_speed_draws_no_random_number_of_others():
    config = DecoderConfig(n_layers=1, d_model=32, n_heads=1, context=32, dropout=0.5)
    params = TrainParams(model=config, batch=2, steps=1)
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    measure(params, 300, TrainRuntime(device="cpu", threads=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_every_event_of_the_trainer_is_for_people_or_is_shown_otherwise():
    told = set()
    for path in Path(lmcore.train.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "event":
                told.add(ast.literal_eval(node.args[0]))
    assert told == FOR_PEOPLE | SHOWN_OTHERWISE
    assert not FOR_PEOPLE & SHOWN_OTHERWISE


def test_a_rewind_is_told_in_the_terminal_and_on_the_report_page(job, capsys):
    settings = {"batch": 1, "micro_batch": 1, "steps": 60, "lr": 0.02, "muon_lr": 0.05, "on_spike": "rewind"}
    values = job(**settings, spike_factor=1.06, runtime={"sample_at": [], "validate_every": 0})
    run_trainer(Job.model_validate(values), silent)
    out = Path(values["work"]) / "out"
    events = json.loads((out / "provenance" / "training.json").read_text())["events"]
    text = next(event["text"] for event in events if event["event"] == "rewound")
    assert all(for_people(event) == (event["event"] in FOR_PEOPLE) for event in events)
    captured = capsys.readouterr()
    assert text in captured.err + captured.out
    row = StageRow("train", "a" * 24, "b" * 64, "Completed", 1.0, {})
    view = RunView(
        recipe="made", resolved={}, run="r", edition="e", started="2026-01-02T03:04:05+00:00", seconds=1.0,
        stages=[row], train=out,
    )  # fmt: skip
    assert text in render(view)


def test_the_watcher_and_the_diagnosis_have_one_patience():
    assert (Patience().least, Patience().medians) == (STALL_SECONDS, STALL_MEDIANS)
