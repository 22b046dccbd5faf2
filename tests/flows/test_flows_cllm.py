"""CLLM's folder from a whole run: words, milestones, the files of the document, and the commands that open them."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
from helpers_flows import collect, write_recipe
from store_words import text_of

from flows.estimate import known_steps, needs
from lmcore.export.cllm_layout import write_layout
from lmcore.export.cllm_reader import read_cllm, read_header
from lmcore.models.io import load_model
from lmcore.recipe import load_recipe
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens.meta import read_meta
from lmcore.train import checkpoint
from lmcore.train.continued import KEPT
from storage.errors import UserError
from storage.store import Store

WORDS = {"kind": "words", "vocab_size": 300, "cap": True}
SHAPE = {"n_layers": 1, "d_model": 48, "n_heads": 12, "context": 32, "tie_embeddings": False, "qk_norm": False}
TRAIN = {"steps": 24, "milestone_every": 10}


@pytest.fixture(scope="module")
def run(shared_server, tmp_path_factory):
    """A store with a run of a vocabulary of words, trained with milestones; its train artifact."""
    root = tmp_path_factory.mktemp("cllm")
    (root / "texts").mkdir()
    for number in range(60):
        (root / "texts" / f"{number}.txt").write_text(text_of(number))
    source = {"name": "made", "kind": "files", "paths": [str(root / "texts")], "lang": "en", "license": "CC0-1.0"}
    runtime = {"runtime": {"train": {"device": "cpu", "threads": 1, "compile": "off", "keep_state": True}}}
    recipe = write_recipe(root, source, tokenizer=WORDS, model=SHAPE, train=TRAIN, **runtime)
    collect("run", recipe, "--until", "train", store=root / "store", env=shared_server)
    store = Store(root / "store")
    return SimpleNamespace(store=store, recipe=recipe, train=store.resolve("train"), tokens=store.resolve("tokens"))


@pytest.fixture(scope="module")
def layout(run, tmp_path_factory):
    """The written files by name."""
    output = tmp_path_factory.mktemp("out") / "production_checkpoints"
    return {path.name: path for path in write_layout(run.train.local(), output, name="crystalline")}


@pytest.mark.slow
def test_the_files_are_those_of_the_document(run, layout):
    assert list(layout) == [
        "checkpoint_step_0.cllm", "checkpoint_step_10.cllm", "checkpoint_step_20.cllm", "checkpoint_step_24.cllm",
        "vocab.txt", "dataset.bin",
    ]  # fmt: skip
    tokenizer = load_tokenizer(run.store.resolve("tokenizer").local())
    assert layout["vocab.txt"].read_bytes() == tokenizer.files()["vocab.txt"]
    assert layout["vocab.txt"].read_text().startswith("<PAD>\t0\n<UNK>\t0\n<BOS>\t0\n<EOS>\t0\n<MASK>\t0\n")
    split = read_meta(run.tokens.local()).splits["train"]
    data = layout["dataset.bin"].read_bytes()
    count = struct.unpack_from("<Q", data)[0]
    assert (count, len(data)) == (split.tokens - split.documents, 8 + 4 * count)


@pytest.mark.slow
def test_every_checkpoint_is_the_model_of_its_step(run, layout):
    folder = run.train.local()
    for step, source in ((0, folder / "checkpoints/step_0"), (20, folder / "checkpoints/step_20"), (24, folder)):
        read = read_cllm(layout[f"checkpoint_step_{step}.cllm"])
        model = load_model(source)
        assert all(bool((tensor == model.state_dict()[name]).all()) for name, tensor in read.model.state_dict().items())
        assert read.header.step == step
        assert (read.model.config.n_heads, read.model.config.context) == (12, 32)
        assert not read.header.optimizer_inside
        assert read.tokenizer.files()["vocab.txt"] == layout["vocab.txt"].read_bytes()


@pytest.mark.slow
def test_the_last_one_can_have_the_optimizer_inside(run, tmp_path):
    written = write_layout(run.train.local(), tmp_path / "full", name="crystalline", optimizer=True)
    headers = {path.name: read_header(path) for path in written if path.suffix == ".cllm"}
    inside = [name for name, header in headers.items() if header.optimizer_inside]
    assert inside == ["checkpoint_step_24.cllm"]
    kept = checkpoint.load_step(run.train.local() / KEPT, 24).optimizer
    state = read_cllm(tmp_path / "full" / inside[0]).optimizer
    assert state.keys() == kept.keys()
    assert all(bool((tensor == kept[name]).all()) for name, tensor in state.items())
    # AdamW of all: two moments a parameter, and a count of steps for each tensor.
    header = headers[inside[0]]
    assert sum(entry.bytes for entry in header.optimizer) == 8 * header.parameters + 4 * len(header.tensors)
    with pytest.raises(UserError, match="has no state of the optimizer"):
        write_layout(run.train.local() / "checkpoints" / "step_0", tmp_path / "none", name="x", optimizer=True)


@pytest.mark.slow
def test_the_commands_open_a_file_and_a_milestone(run, layout):
    path = layout["checkpoint_step_20.cllm"]
    told = collect("info", "--model", str(path), store=run.store.root).out
    assert "n_heads: 12" in told
    assert "context: 32" in told
    assert "step: 20" in told
    mark = str(run.train.local() / "checkpoints" / "step_20")
    texts = [
        collect("generate", name, "The", "--max-tokens", "8", "--seed", "3", store=run.store.root).out
        for name in (str(path), mark)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > len("The\n")
    talk = collect("chat", str(path), "--max-tokens", "5", "--seed", "1", store=run.store.root, stdin="Hi\n")
    assert "model>" in talk.out
    broken = path.with_name("broken.cllm")
    broken.write_bytes(path.read_bytes()[:-10])
    what, mend = collect("info", str(broken), store=run.store.root, code=2).error
    assert "broken.cllm is not a whole .cllm file" in what
    assert "write it again" in mend


@pytest.mark.slow
def test_the_command_writes_the_layout(run, layout, tmp_path):
    command = ("export", str(run.train.local()), "--layout", "document", "--system", "cllm", "--output")
    done = collect(*command, str(tmp_path / "out"), store=run.store.root)
    for name, path in layout.items():
        assert f"{name}: {path.stat().st_size:,} bytes" in done.out
        assert (tmp_path / "out" / name).read_bytes() == path.read_bytes()
    again = ("export", str(layout["checkpoint_step_0.cllm"]), *command[2:], str(tmp_path / "again"))
    what, _ = collect(*again, store=run.store.root, code=2).error
    assert "is one model" in what


def test_milestones_are_in_the_estimate(tmp_path):
    plain, marked = (load_recipe("quickstart", overrides) for overrides in (["train.steps=3500"], MARKED))
    each = needs(plain, "fp32").ledger.bytes()
    assert needs(plain, "fp32").disk["milestones"] == 0
    disk = needs(marked, "fp32").disk
    assert disk["milestones"] == 4 * each  # 0, 1,000, 2,000, 3,000
    assert disk["total"] == needs(plain, "fp32").disk["total"] + 4 * each
    assert known_steps(marked.training) == 3500
    assert known_steps(load_recipe("quickstart", ["train.epochs=30"]).training) is None
    told = collect("params", "quickstart", "--set", MARKED[0], "--set", MARKED[1], store=tmp_path / "store").out
    line = " ".join(told.replace("│", " ").split())
    assert "the models of step 0 and of every 1,000 steps after it, 5.5 MB each: 4, together 22.0 MB" in line
    unknown = collect("params", "quickstart", "--set", "train.epochs=2", "--set", MARKED[1], store=tmp_path / "store")
    assert "the number of steps is not known yet" in " ".join(unknown.out.replace("│", " ").split())


MARKED = ["train.steps=3500", "train.milestone_every=1000"]
