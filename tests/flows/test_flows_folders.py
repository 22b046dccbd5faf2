"""`generate`, `chat` and `info --model` on a Hugging Face folder and on a checkpoint of a stopped training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers
from byte_engine import byte_engine
from corpus_store import publish
from helpers_flows import collect
from store_words import text_of

from lmcore.export.hf import write_hf
from lmcore.generate.load import load
from lmcore.models import save_model
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.atomic import write_text
from storage.registry import Registry
from storage.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from helpers_texts import make_data

pytestmark = pytest.mark.slow  # a dozen commands, each a process that loads torch

ASKED = ("The", "--max-tokens", "6", "--seed", "3")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The checkpoint of a training that was told to stop after step 3, in the work folder of a store."""
    store = Store(tmp_path_factory.mktemp("stopped") / "store")
    texts = [text_of(n) for n in range(20)]
    made = make_data(store.root.parent, {"train": texts, "val": texts[:3], "test": texts[:1]}, vocab_size=320)
    job = Job.model_validate({
        "work": store.work("train", "KEY"), **made,
        "params": {
            "model": {"n_layers": 1, "d_model": 32, "n_heads": 2, "context": 16, "qk_norm": False}, "steps": 6,
            "batch": 2, "precision": "fp32", "attention": "sdpa", "micro_batch": 2, "prompts": ["The"],
        },
        "runtime": {"device": "cpu", "threads": 1, "compile": "off", "validation_tokens": 100, "sample_tokens": 2},
    })  # fmt: skip
    calls = iter([False] * 3 + [True])
    with pytest.raises(Stopped):
        train(job, stopped=lambda: next(calls))
    write_text(job.work / "job.json", job.model_dump_json(indent=1))
    return job.work / "checkpoints" / "step-00000003"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A GPT-2 as transformers saves it, with 257 tokens of single bytes."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(1)
    shape = transformers.GPT2Config(vocab_size=257, n_positions=32, n_embd=48, n_layer=2, n_head=4, bos_token_id=0)
    transformers.GPT2LMHeadModel(shape).save_pretrained(folder)
    byte_engine("<|endoftext|>").save(str(folder / "tokenizer.json"))
    return folder


def told(folder):
    """What `info` prints, blanks as one."""
    return " ".join(collect("info", "--model", str(folder)).out.split())


def exported(loaded, folder):
    """Its Hugging Face folder."""
    write_hf(folder, loaded.model, loaded.tokenizer, loaded.tokenizer.to_json().encode(), name="stopped")
    return folder


def test_a_checkpoint_and_its_export(checkpoint, tmp_path):
    hf = exported(load(checkpoint), tmp_path / "hf")
    of_checkpoint = collect("generate", "--model", str(checkpoint), *ASKED).out
    assert collect("generate", str(hf), *ASKED).out == of_checkpoint
    answers = [
        collect("chat", "--model", str(each), "--max-tokens", "3", stdin="Hello\n").out for each in (checkpoint, hf)
    ]
    assert answers[0].count("model> ") == 1
    for facts in ("format: checkpoint", "step: 3", "progress: 50.0%", "dtype: F32", "n_layers: 1", "vocab_size: "):
        assert facts in told(checkpoint), facts
    for facts in ("format: Hugging Face", "architecture: LlamaForCausalLM", "dtype: F32", "n_layers: 1"):
        assert facts in told(hf), facts


def test_info_of_a_release_tells_where_its_export_is(checkpoint, tmp_path):
    store, loaded = Store(tmp_path / "store"), load(checkpoint)

    def build(work):
        save_model(work / "out", loaded.model)
        (work / "out" / "tokenizer.json").write_text(loaded.tokenizer.to_json())

    model = publish(store, "train", [], build)
    export = publish(store, "export", [model], lambda work: exported(loaded, work / "out" / "hf"))
    registry = Registry(store.root)
    registry.record(
        "one", release_key="r", digest="d", model_key=model.key, model_digest=model.digest, export_key=export.key,
        bits_per_byte=2.0, reason="",
    )  # fmt: skip
    registry.promote("one", 1, expected=None)
    out = "".join(collect("info", "one", store=store.root).out.split())
    assert "exported" in out
    assert f"{export.key}/hf" in out.replace("│", "")


def test_a_folder_that_transformers_made(gpt2):
    assert collect("generate", "--model", str(gpt2), *ASKED).out.startswith("The")
    assert collect("chat", "--model", str(gpt2), "--max-tokens", "3", stdin="Hello\n").out.count("model> ") == 1
    facts = told(gpt2)
    for fact in ("architecture: GPT2LMHeadModel", "model_type: gpt2", "n_layers: 2", "vocab_size: 257", "dtype: F32"):
        assert fact in facts, fact
    (gpt2 / "tokenizer.json").rename(gpt2 / "away.json")
    what, mend = collect("info", "--model", str(gpt2), code=2).error
    assert "has no tokenizer.json" in what
    assert "tokenizer.save_pretrained" in mend
