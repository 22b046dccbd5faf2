"""Every finding is provoked by a training that has it, and a training that is well has none."""

from __future__ import annotations

import json
import math
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers_texts import row

from lmcore.documents import CURATED, make_table
from lmcore.progress import silent
from lmcore.recipe import Recipe, load_recipe
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens import Loader
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.train import diagnose as rules
from lmcore.train import output
from lmcore.train.diagnose import Finding, diagnose
from lmcore.train.evidence import Evidence, of_artifact, of_work, uniqueness
from lmcore.train.journal import Journal, is_step, newest_line, read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job
from storage.errors import RunError
from storage.parquet import write_parquet

SMALL = {"model": {"n_layers": 1, "d_model": 8, "n_heads": 1, "d_ff": 8, "context": 32}}


HELD = ("model", "train", "tokenizer", "curate", "runtime")  # sections that a finding may speak of


def finish(values):
    return train(Job.model_validate(values))


def does_something(finding: Finding, values: dict) -> Finding:
    """The finding, when a recipe has every setting that its `change` names, and takes what it says for another value.

    Names alone must be a recipe's; `name: value` is also set, as with --set, in a recipe with the run's own settings.
    """
    params = dict(values["params"])
    had = {f"model.{key}": value for key, value in params.pop("model").items()}
    had |= {f"train.{key}": value for key, value in params.items()}
    overrides = [f"{name}={json.dumps(value)}" for name, value in had.items()]
    recipe = load_recipe("quickstart", overrides)
    named = re.findall(rf"\b((?:{'|'.join(HELD)})(?:\.[a-z_]+)+)(?:: (\{{.*?\}}|[^\s,;)]+))?", finding.change)
    assert named or "curate" in finding.change, finding.change
    for name, value in named:
        before = setting(recipe, name)
        if value:
            changed = load_recipe("quickstart", [*overrides, f"{name}={value}"])
            assert setting(changed, name) != before, f"{name}: {value} changes nothing"
    return finding


def setting(recipe: Recipe, name: str):
    """The value of a dotted name; AttributeError when a recipe has no such thing."""
    value = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def out(values):
    return Path(values["work"]) / "out"


def found(folder):
    evidence = of_artifact(folder)
    findings = {finding.problem: finding for finding in diagnose(evidence)}
    told = json.loads((folder / "provenance" / "training.json").read_text())
    assert told["findings"] == [finding.to_json() for finding in findings.values()], "told at the end of the training"
    events = [event for event in told["events"] if event["event"] == "finding"]
    assert not events, "the events in the file are those before it"
    return findings


def texts(tmp_path, lines, tokenizer="", **vocabulary):
    """Folders of tokens and tokenizer of documents made of `lines`, by split or the same in all.

    The vocabulary is learnt from them, or is `tokenizer`'s.
    """
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        documents = lines[split] if isinstance(lines, dict) else lines
        rows = [row(f"{number:016d}{n:016d}", "\n".join(some)) for n, some in enumerate(documents)]
        write_parquet(tmp_path / "curated" / split / "00000.parquet", make_table(rows, CURATED))
    if not tokenizer:
        train_tokenizer(
            tmp_path / "a", tmp_path / "curated", params=TokenizerParams(**{"cap": True} | vocabulary),
            runtime=TokenizerRuntime(workers=1), report=silent,
        )  # fmt: skip
        tokenizer = str(tmp_path / "a" / "out")
    make_tokens(
        tmp_path / "b", tmp_path / "curated", Path(tokenizer), params=TokensParams(),
        runtime=TokensRuntime(workers=1), report=silent,
    )  # fmt: skip
    return {"tokens": str(tmp_path / "b" / "out"), "tokenizer": tokenizer}


def slowly_probed(values):
    """As if the probe had measured an hour a step, so that no other program can make this one too slow."""
    work = Path(values["work"])
    finish(values | {"work": str(work.with_name("probed")), "params": values["params"] | {"steps": 1}})
    plan = json.loads((work.with_name("probed") / "plan.json").read_text())
    work.mkdir()
    (work / "plan.json").write_text(json.dumps(plan | {"step_seconds": 3600.0}))
    return values


def test_a_training_that_is_well_has_none(job):
    values = slowly_probed(job("well", steps=60, **SMALL))
    finish(values)
    assert found(out(values)) == {}


def test_flat_loss_and_identical_samples(job):
    values = job("flat", steps=40, lr=1e-12, muon_lr=1e-12)
    finish(values)
    findings = found(out(values))
    assert {"flat loss", "identical samples"} <= findings.keys()
    change = does_something(findings["flat loss"], values).change
    assert "train.lr: 1e-11 or train.muon_lr: 1e-11 (ten times as much)" in change
    assert "'The' was continued with" in does_something(findings["identical samples"], values).evidence


def test_nan(job):
    values = job("nan", steps=60, lr=1e30, muon_lr=1e30, grad_clip=None)
    with pytest.raises(RunError, match="training diverged"):
        finish(values)
    (Path(values["work"]) / "job.json").write_text(json.dumps(values))  # as run_trainer leaves it
    (finding,) = [f for f in diagnose(of_work(Path(values["work"]))) if f.problem == "NaN"]
    assert "steps were skipped" in finding.evidence
    assert "train.lr: 5e+29" in does_something(finding, values).change
    assert "train.grad_clip: 1" in finding.change, "it was off"
    assert "train.precision" not in finding.change, "it is fp32 already"


def test_exploding_perplexity(job):
    values = job("exploding", steps=60, lr=1.0, optimizer="adamw", grad_clip=None, schedule="constant", warmup=0.5)
    finish(values)
    change = does_something(found(out(values))["exploding perplexity"], values).change
    assert "train.on_spike: rewind" in change
    assert "train.muon_lr" not in change, "AdamW has no such rate"


def test_learnt_by_heart(job, tmp_path):
    """A few made-up words in another order for the looks: what is learnt by heart says nothing about them."""
    draw = np.random.default_rng(7)
    print("seed 7")
    words = ["".join(draw.choice(list("abcdefghij"), 5)) for _ in range(60)]

    def text(_):
        return [" ".join(draw.choice(words, 40)) for _ in range(4)]

    folders = texts(tmp_path, {"train": [text(0)], "val": [text(1)], "test": [text(2)]}, vocab_size=330)
    model = {"n_layers": 2, "d_model": 64, "n_heads": 2, "context": 32}
    values = job("heart", steps=150, batch=8, micro_batch=8, model=model, schedule="constant") | folders
    finish(values)
    evidence = of_artifact(out(values))
    assert evidence.losses[-1] < 1.0 < evidence.losses[0], "learnt"
    finding = does_something(found(out(values))["exploding perplexity"], values)
    low, last = min(bits for _, bits in evidence.looks), evidence.looks[-1][1]
    assert last > 1.1 * low
    assert f"on held-out text {low:.3f} bits per byte at step " in finding.evidence
    assert "train.early_stop: {patience: 3}, model.dropout: 0.1, train.steps: 75 or more text" in finding.change


def test_a_vocabulary_of_only_bytes(job, tmp_path):
    folders = texts(tmp_path, [[f"line {n} of a text that is long enough {n * n}"] for n in range(80)], vocab_size=262)
    values = job("bytes") | folders
    finish(values)
    finding = found(out(values))["vocabulary of only bytes"]
    assert finding.evidence == "no token is longer than a byte"
    assert "tokenizer.vocab_size" in does_something(finding, values).change


def test_a_vocabulary_of_another_language(job, tmp_path):
    """Learnt on English, used on Amharic: each of its letters is three bytes, and none of their pairs was seen."""
    amharic = ["ሰላም ለሁሉም ይሁን ወንዙ በተራራው ሥር ያልፋል ወፎችም ይዘምራሉ " * 3] * 3
    english = [[f"line {n} of a text in another language, number {n * n}" for n in range(9)]]
    learnt = texts(tmp_path / "en", {"train": english, "val": english, "test": english}, vocab_size=320)
    used = {"train": [[f"{n} {line}" for line in amharic] for n in range(20)], "val": [amharic], "test": [amharic]}
    folders = texts(tmp_path / "am", used, tokenizer=learnt["tokenizer"])
    values = job("foreign", steps=10, **SMALL) | folders
    finish(values)
    evidence = of_artifact(out(values))
    finding = does_something(found(out(values))["vocabulary of only bytes"], values)
    assert evidence.bytes_per_token < 1.2
    assert evidence.longest_token > 1, "the vocabulary itself has longer tokens"
    assert finding.evidence == f"a token stands for {evidence.bytes_per_token:.2f} bytes of the training text"


def test_text_that_repeats_itself(job, tmp_path):
    lines = [["the same line comes again and again, as templates do"] * 100 for _ in range(8)]
    values = job("repeated") | texts(tmp_path, lines, vocab_size=300)
    finish(values)
    finding = found(out(values))["uniqueness under 10 %"]
    assert "% of the training text's sequences of 16 tokens" in finding.evidence
    does_something(finding, values)


def test_undertrained(job):
    values = job("undertrained", steps=20, model={"n_layers": 2, "d_model": 64, "n_heads": 2, "context": 32})
    finish(values)
    evidence = of_artifact(out(values))
    factor = -(-evidence.parameters // evidence.tokens)
    finding = does_something(found(out(values))["undertrained"], values)
    assert finding.change.startswith(f"train.steps: {20 * factor} or "), "as many tokens as parameters"


def test_throughput_under_the_probe(job):
    values = slowly_probed(job("slow", **SMALL))
    plan = Path(values["work"]) / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"step_seconds": 1e-6}))
    finish(values)
    finding = does_something(found(out(values))["throughput under the probe"], values)
    assert "times the 0.000 s that the probe measured" in finding.evidence


def test_a_stall_of_one_step(job, monkeypatch):
    """The 30th batch is two seconds late; the least silence that counts is one here."""
    monkeypatch.setattr(rules, "STALL_SECONDS", 1.0)
    batch = Loader.batch

    def late(loader, number, *more):
        if number == 30:
            time.sleep(2.0)
        return batch(loader, number, *more)

    values = job("stalled", steps=60, runtime={"sample_at": [], "validate_every": 0}, **SMALL)
    monkeypatch.setattr(Loader, "batch", late)
    train(Job.model_validate(values))
    for evidence in (of_work(Path(values["work"])), of_artifact(out(values))):
        finding = next(finding for finding in diagnose(evidence) if finding.problem == "stall")
        assert re.search(r"one step took \d+ s; a step takes 0\.", does_something(finding, values).evidence)


def test_adapters_and_other_starts_are_not_told_of_parameters_that_others_trained():
    falling = [5.0 - 0.004 * step for step in range(1000)]
    facts = {"steps": list(range(1, 1001)), "losses": falling, "seconds": [0.1] * 1000, "looks": [], "samples": []}
    found = [
        [one.problem for one in diagnose(Evidence(**facts, skipped=[], tokens=20_000, parameters=10**8, started=start))]
        for start in (False, True)
    ]
    assert found == [["undertrained"], []]


def test_a_long_training_is_diagnosed_in_seconds():
    steps, losses = list(range(300_000)), [3.0 + math.sin(step) for step in range(300_000)]
    long = Evidence(steps, losses, [0.1] * 300_000, [], [], [], tokens=10**9)
    began = time.process_time()
    assert diagnose(long)[0].problem == "flat loss"
    assert time.process_time() - began < 20


def test_a_diagnosis_that_fails_costs_no_training(job, monkeypatch):
    def fails(*_):
        raise MemoryError("no room for a million rows")

    monkeypatch.setattr(output, "of_run", fails)
    values = job("done", steps=2, **SMALL)
    train(Job.model_validate(values))
    training = json.loads((out(values) / "provenance" / "training.json").read_text())
    assert training["findings"] == []
    told = [event["text"] for event in training["events"] if event["event"] == "no-diagnosis"]
    assert told == ["the training could not be diagnosed: MemoryError: no room for a million rows"]


def test_seconds_that_a_rewind_took_back_are_no_stall(tmp_path):
    """The clock keeps the seconds of the 99 steps that were taken back; the line after them is of one step."""
    with Journal(tmp_path, 0.0) as journal:
        journal.event("training", "", step=0)
        for number in range(1, 41):
            journal._next_line = 0.0
            journal.step(line(number, number), tokens=64, seconds=1.0)
        journal.event("skipped", "step 20 skipped", step=20, loss=2.5, grad_norm=1.0)
        journal.event("skipped", "step 40 skipped", step=40, loss=float("nan"), grad_norm=float("nan"))
        journal.event("validation", "", step=30, bits_per_byte=2.0)
        journal.event("rewound", "back", step=10, spike=40, passed_over=31)
        for number in range(11, 21):
            journal._next_line = 0.0
            journal.step(line(number, number + 30), tokens=64, seconds=1.0)
    evidence = of_work(tmp_path)
    assert evidence.steps == list(range(1, 21))
    assert evidence.seconds == [1.0] * 20
    assert evidence.slowest == 1.0
    assert (evidence.skipped, evidence.looks) == ([], [])
    assert "stall" not in [finding.problem for finding in diagnose(evidence)]


def line(step, seconds):
    values = {"step": step, "progress": 0.5, "tokens": 64 * step, "seconds": float(seconds), "eta_seconds": 1.0}
    return values | {"loss": 2.0, "bits_per_byte": 2.0}


def test_a_spike_that_was_skipped_is_told_with_its_values_and_is_no_nan(job):
    values = job("spiked", steps=60, on_spike="skip", spike_factor=1.06, batch=1, micro_batch=1, lr=0.02, muon_lr=0.05)
    finish(values)
    work = Path(values["work"])
    skipped = [line for line in read_lines(work / "progress.jsonl") if line.get("event") == "skipped"]
    assert skipped, "a factor of 1.06 of single sequences leaves some out"
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in skipped)
    assert of_work(work).skipped == []
    assert of_artifact(out(values)).skipped == []


def test_a_step_without_finite_numbers_is_told_as_null(job):
    values = job("nan-told", steps=60, lr=1e30, muon_lr=1e30, grad_clip=None)
    with pytest.raises(RunError, match="training diverged"):
        finish(values)
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    skipped = [line for line in lines if line.get("event") == "skipped"]
    assert skipped
    assert all(line["loss"] is None or line["grad_norm"] is None for line in skipped)
    assert of_work(Path(values["work"])).skipped == [line["step"] for line in skipped]


def test_lines_tell_the_slowest_step(job):
    values = job("slowest", steps=40, **SMALL)
    finish(values)
    lines = [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if is_step(line)]
    timings = of_artifact(out(values)).seconds
    for before, after in pairwise([{"step": 0}, *lines]):
        assert after["slowest_seconds"] == max(timings[before["step"] : after["step"]])


def test_a_training_that_is_silent(job):
    values = job("stalled", steps=30, **SMALL)
    finish(values)
    assert "stall" not in [f.problem for f in diagnose(of_artifact(out(values)))]
    work, hour_ago = Path(values["work"]), time.time() - 3600
    os.utime(work / "progress.jsonl", (hour_ago, hour_ago))
    assert any(f.problem == "stall" and "nothing was heard for 3,6" in f.evidence for f in diagnose(of_work(work)))


def test_uniqueness_counts_sequences_that_are_not_repetitions():
    distinct = np.random.default_rng(1).integers(0, 1000, 5000)
    assert uniqueness([distinct]) == 1.0
    assert uniqueness([distinct] * 20) == pytest.approx(1 / 20, abs=0.001)
    assert uniqueness([distinct[:10]]) is None


def test_an_artifact_of_the_time_before_is_read(job):
    values = job("old", **SMALL)
    finish(values)
    path = out(values) / "provenance" / "training.json"
    old = json.loads(path.read_text())
    for name in ("data", "findings"):  # `settings` were in `data`, and before that `lr` alone
        del old[name]
    path.write_text(json.dumps(old))
    assert of_artifact(out(values)).unique is None
    diagnose(of_artifact(out(values)))


def test_an_event_with_a_loss_is_no_step(tmp_path):
    """A look at the validation split tells its loss too; who waits for steps must not take it for one."""
    path = tmp_path / "progress.jsonl"
    lines = [{"step": 3, "loss": 5.0, "progress": 0.1}, {"event": "validation", "step": 3, "loss": 4.0, "text": ""}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert newest_line(path) == lines[0]
