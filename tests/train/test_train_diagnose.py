"""Every finding is provoked by a training that has it, and a training that is well has none."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_texts import row

from lmcore.documents import CURATED, make_table
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.train.diagnose import diagnose
from lmcore.train.evidence import of_artifact, of_work, uniqueness
from lmcore.train.journal import newest_line
from lmcore.train.loop import train
from lmcore.train.params import Job
from storage.errors import RunError
from storage.parquet import write_parquet

SMALL = {"model": {"n_layers": 1, "d_model": 8, "n_heads": 1, "d_ff": 8, "context": 32}}


def finish(values):
    return train(Job.model_validate(values))


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


def texts(tmp_path, lines, **vocabulary):
    """Folders of tokens and tokenizer of documents made of `lines`."""
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        rows = [row(f"{number:016d}{n:016d}", "\n".join(some)) for n, some in enumerate(lines)]
        write_parquet(tmp_path / "curated" / split / "00000.parquet", make_table(rows, CURATED))
    train_tokenizer(
        tmp_path / "a", tmp_path / "curated", params=TokenizerParams(**{"cap": True} | vocabulary),
        runtime=TokenizerRuntime(workers=1), report=silent,
    )  # fmt: skip
    make_tokens(
        tmp_path / "b", tmp_path / "curated", tmp_path / "a" / "out", params=TokensParams(),
        runtime=TokensRuntime(workers=1), report=silent,
    )  # fmt: skip
    return {"tokens": str(tmp_path / "b" / "out"), "tokenizer": str(tmp_path / "a" / "out")}


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
    assert "train.lr (now 1e-12): ten times as much" in findings["flat loss"].change
    assert "'The' was continued with" in findings["identical samples"].evidence


def test_nan(job):
    values = job("nan", steps=60, lr=1e30, muon_lr=1e30, grad_clip=None)
    with pytest.raises(RunError, match="training diverged"):
        finish(values)
    (Path(values["work"]) / "job.json").write_text(json.dumps(values))  # as run_trainer leaves it
    (finding,) = [f for f in diagnose(of_work(Path(values["work"]))) if f.problem == "NaN"]
    assert "steps were skipped" in finding.evidence
    assert "train.lr: 5e+29" in finding.change


def test_exploding_perplexity(job):
    values = job("exploding", steps=60, lr=1.0, optimizer="adamw", grad_clip=None, schedule="constant", warmup=0.5)
    finish(values)
    assert "train.on_spike: rewind" in found(out(values))["exploding perplexity"].change


def test_learnt_by_heart(job):
    values = job("heart", steps=60, **SMALL)
    finish(values)
    evidence = replace(of_artifact(out(values)), looks=[(0, 2.0), (20, 1.0), (40, 1.2)])
    (finding,) = [f for f in diagnose(evidence) if f.problem == "exploding perplexity"]
    assert "1.000 bits per byte at step 20, 1.200 at the end" in finding.evidence


def test_a_vocabulary_of_only_bytes(job, tmp_path):
    folders = texts(tmp_path, [[f"line {n} of a text that is long enough {n * n}"] for n in range(80)], vocab_size=262)
    values = job("bytes") | folders
    finish(values)
    finding = found(out(values))["vocabulary of only bytes"]
    assert finding.evidence == "no token is longer than a byte"
    assert "tokenizer.vocab_size" in finding.change


def test_a_vocabulary_of_another_language(job):
    values = job("foreign", steps=30, **SMALL)
    finish(values)
    evidence = replace(of_artifact(out(values)), bytes_per_token=1.05)
    (finding,) = [f for f in diagnose(evidence) if f.problem == "vocabulary of only bytes"]
    assert finding.evidence == "a token stands for 1.05 bytes of the training text"


def test_text_that_repeats_itself(job, tmp_path):
    lines = [["the same line comes again and again, as templates do"] * 100 for _ in range(8)]
    values = job("repeated") | texts(tmp_path, lines, vocab_size=300)
    finish(values)
    finding = found(out(values))["uniqueness under 10 %"]
    assert "% of the training text's sequences of 16 tokens" in finding.evidence


def test_undertrained(job):
    values = job("undertrained", steps=20, model={"n_layers": 2, "d_model": 64, "n_heads": 2, "context": 32})
    finish(values)
    assert "train.minutes" in found(out(values))["undertrained"].change


def test_throughput_under_the_probe(job):
    values = slowly_probed(job("slow", **SMALL))
    plan = Path(values["work"]) / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"step_seconds": 1e-6}))
    finish(values)
    assert "times the 0.000 s that the probe measured" in found(out(values))["throughput under the probe"].evidence


def test_a_stall_of_one_step_or_of_a_training_that_is_silent(job):
    values = job("stalled", steps=30, **SMALL)
    finish(values)
    evidence = of_artifact(out(values))
    assert "stall" not in [f.problem for f in diagnose(evidence)]
    slow = replace(evidence, seconds=[*evidence.seconds[:-1], 61.0])
    assert any(f.problem == "stall" and "one step took 61 s" in f.evidence for f in diagnose(slow))
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
    for name in ("data", "findings"):
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
