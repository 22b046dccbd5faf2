"""`.cllm` files: they come back exactly, they have the sizes of CLLM's document, and nothing damaged is read."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.export import cllm
from lmcore.export.cllm import Contents, contents, header_of, write_cllm
from lmcore.export.cllm_format import MAGIC, PREFIX
from lmcore.export.cllm_reader import read_cllm, read_header
from lmcore.generate.load import load
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import empty_model
from lmcore.tokenizer.words import Words
from lmcore.train.optim import Optimizer
from lmcore.train.params import TrainParams
from storage.errors import UserError

# The document's own reading: 2 V d + L (4 d^2 + 8 d^2), no biases, no positions; the 13 norms are named apart.
DOCUMENT = {
    "n_layers": 6, "d_model": 384, "n_heads": 12, "d_ff": 1536, "context": 256, "mlp": "relu2", "qk_norm": False,
    "tie_embeddings": False,
}  # fmt: skip
VOCABULARY, PARAMETERS, NORMS = 30_000, 33_656_832, 13 * 384
TEXT = ["the river sings under the old mountain", "a bird walks over the stone and the river"]
SMALL = {"n_layers": 1, "d_model": 16, "n_heads": 2, "context": 16}


@pytest.fixture(scope="module")
def words():
    return Words.train(TEXT, vocab_size=300, order="frequency", min_frequency=1, max_token_length=20)


def made_of(tokenizer, *, optimizer=None, **options):
    model = build(DecoderConfig(**SMALL | options), tokenizer.vocab_size, 3).eval()
    state = None
    if optimizer:
        adamw = Optimizer(model, TrainParams(steps=3, optimizer=optimizer, schedule="constant"))
        model(torch.tensor([[1, 2, 3]])).square().mean().backward()
        adamw.step(1.0)
        state = adamw.tensors()
    return model, contents(model, tokenizer, step=1000, name="small", optimizer=state)


@pytest.fixture(scope="module")
def small(words, tmp_path_factory):
    path = tmp_path_factory.mktemp("cllm") / "small.cllm"
    write_cllm(path, made_of(words, optimizer="adamw")[1])
    return path


def resealed(data, change):
    """The file `data` with its header changed and sealed again, as somebody would who means harm."""
    length = PREFIX.unpack(data[: PREFIX.size])[2]
    header = json.loads(data[PREFIX.size : PREFIX.size + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(PREFIX.size + len(text)) % 64)
    prefix = PREFIX.pack(MAGIC, 2, len(text), hashlib.sha256(text).digest())
    return prefix + text + data[PREFIX.size + length :]


@pytest.mark.parametrize("optimizer", [None, "adamw", "muon", "schedule_free"])
@pytest.mark.parametrize(
    "options", [{}, {"norm": "layer", "position": "learned", "mlp": "gelu", "bias": True, "tie_embeddings": False}]
)
def test_it_comes_back_with_equal_logits_words_and_optimizer(words, tmp_path, optimizer, options):
    model, made = made_of(words, optimizer=optimizer, **options)
    path = tmp_path / "model.cllm"
    header = write_cllm(path, made)
    assert path.stat().st_size == header.file_bytes == header_of(made).file_bytes
    read = read_cllm(path)
    ids = torch.tensor([[2, 7, 8, 9, 5]])
    assert torch.equal(read.model(ids), model(ids))
    assert read.tokenizer.files() == words.files()
    assert (read.header.step, read.header.name, read.header.parameters) == (1000, "small", model.ledger().total)
    if optimizer is None:
        assert read.optimizer is None
    else:
        assert read.optimizer.keys() == made.optimizer.keys()
        assert all(torch.equal(tensor, made.optimizer[name]) for name, tensor in read.optimizer.items())
        # The model and what trains it go on from the file as they would have without it.
        params = TrainParams(steps=3, optimizer=optimizer, schedule="constant")
        again = Optimizer(read.model, params)
        again.load(read.optimizer)
        first = Optimizer(model, params)
        first.load(made.optimizer)
        for one, each in ((again, read.model), (first, model)):
            each(ids).square().mean().backward()
            one.step(0.5)
        assert all(torch.equal(p, q) for p, q in zip(read.model.parameters(), model.parameters(), strict=True))


def test_equal_models_give_equal_bytes_and_any_vocabulary_goes_in(words, tokenizer, tmp_path):
    for name in ("a", "b"):
        write_cllm(tmp_path / name, made_of(words)[1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    made = made_of(tokenizer)[1]
    write_cllm(tmp_path / "bpe", made)
    read = read_cllm(tmp_path / "bpe")
    assert read.tokenizer.encode("Jó reggelt!") == tokenizer.encode("Jó reggelt!")
    assert [entry.name for entry in read.header.vocabulary] == ["tokenizer.json"]
    assert not read.chat


def test_it_is_laid_out_as_the_module_says(small, words):
    data = small.read_bytes()
    assert data[:8] == b"CLLM\x01\0\0\0"
    version, length = struct.unpack_from("<II", data, 8)
    assert (version, (48 + length) % 64) == (2, 0)
    header = json.loads(data[48 : 48 + length])
    assert header["model"]["model"]["n_heads"] == 2
    assert header["optimizer_inside"] is True
    first = header["tensors"][0]
    assert (first["name"], first["dtype"], first["shape"], first["begin"]) == (
        "embed.weight", "F32", [words.vocab_size, 16], 0,
    )  # fmt: skip
    numbers = struct.unpack_from("<3f", data, 48 + length)
    assert list(numbers) == read_cllm(small).model.embed.weight[0, :3].tolist()
    assert data.endswith(words.files()["vocab.txt"])


def document(optimizer: bool, norms: bool) -> Contents:
    """The document's model without a number in it; its optimizer's two moments and counts of steps likewise."""
    model = empty_model(DecoderConfig(**DOCUMENT), VOCABULARY)
    made = contents(model, Words([b"word"], [1]), step=0, name="document")
    weights = {name: tensor for name, tensor in made.weights.items() if norms or "norm" not in name}
    state = {
        f"adamw.{part}.{name}": torch.empty_like(tensor) if part != "step" else torch.empty((), device="meta")
        for part in ("exp_avg", "exp_avg_sq", "step")
        for name, tensor in weights.items()
    }
    return Contents("document", 0, made.model, weights, made.vocabulary, state if optimizer else None)


@pytest.mark.parametrize("norms", [False, True])
def test_the_sizes_and_the_header_are_those_of_the_document(norms):
    parameters = PARAMETERS + (NORMS if norms else 0)
    plain, full = header_of(document(False, norms)), header_of(document(True, norms))
    assert plain.parameters == full.parameters == parameters
    assert sum(entry.bytes for entry in plain.tensors) == 4 * parameters
    assert sum(entry.bytes for entry in full.optimizer) == 8 * parameters + 4 * len(full.tensors)
    assert plain.file_bytes == pytest.approx(134.6e6, rel=1e-3)  # the document: 130 to 150 MB
    assert full.file_bytes == pytest.approx(403.9e6, rel=1e-3)  # the document: 400 to 500 MB
    assert 0 < plain.file_bytes - 4 * parameters < 40_000
    shape = plain.model["model"]
    assert (shape["n_heads"], shape["context"], shape["d_model"], shape["n_layers"]) == (12, 256, 384, 6)
    assert (plain.optimizer_inside, full.optimizer_inside) == (False, True)


@pytest.mark.slow
def test_a_file_of_full_size_is_written_and_read_without_a_second_copy(tmp_path):
    words = Words([b"w%d" % number for number in range(VOCABULARY - 5)], [1] * (VOCABULARY - 5))
    model = build(DecoderConfig(**DOCUMENT), VOCABULARY, 1).eval()
    made = contents(model, words, step=1000, name="document")
    header, most = measured(lambda: write_cllm(tmp_path / "full.cllm", made))
    assert most < 30e6, "chunks, not the file, are in memory"
    size = (tmp_path / "full.cllm").stat().st_size
    assert size == header.file_bytes
    assert 130e6 < size < 150e6
    read = read_cllm(tmp_path / "full.cllm")
    ids = torch.tensor([[2, 77, 29_999]])
    assert torch.equal(read.model(ids), model(ids))
    assert read.model.config.n_heads == 12
    assert read.model.config.context == 256
    assert read.tokenizer.vocab_size == VOCABULARY
    _, most = measured(lambda: read_cllm(tmp_path / "full.cllm"))
    assert most < 1.5 * size, "the weights are in memory once"
    with open(tmp_path / "full.cllm", "r+b") as file:
        file.seek(size - 1_000_000)  # in the last matrix
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    _, most = measured(lambda: refused(tmp_path / "full.cllm"))
    assert most < 30e6, "a damaged file is refused before a tensor is made"


def measured(act):
    """What `act` gives, and the most bytes that it held in Python and numpy at one time."""
    tracemalloc.start()
    try:
        return act(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path):
    with pytest.raises(UserError) as raised:
        read_cllm(path)
    assert len(str(raised.value).splitlines()) == 2, "what, and how to mend it"
    assert str(path) in raised.value.what
    return raised.value.what


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_whatever_is_cut_or_changed_is_refused(small, tmp_path_factory, data):
    good = small.read_bytes()
    how = data.draw(st.sampled_from(["cut", "flip", "insert", "overwrite", "header"]))
    at = data.draw(st.integers(0, (PREFIX.size + 3000 if how == "header" else len(good)) - 1))
    if how == "cut":
        bad = good[:at]
    elif how in ("flip", "header"):
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    else:
        some = data.draw(st.binary(min_size=1, max_size=64))
        bad = good[:at] + some + good[at + (len(some) if how == "overwrite" else 0) :]
    if bad == good:
        return
    path = tmp_path_factory.getbasetemp() / "bad.cllm"
    path.write_bytes(bad)
    refused(path)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.cllm"
    for data in (content, MAGIC + content, PREFIX.pack(MAGIC, 2, 80, hashlib.sha256(content).digest()) + content):
        path.write_bytes(data)
        refused(path)


def grow(header):
    header["tensors"][0]["shape"][0] = 2**40
    header["tensors"][0]["bytes"] = 2**46


HOSTILE = {
    "a tensor larger than the file": (grow, "begins at byte"),
    "a shape that does not fit": (lambda h: h["tensors"][0].update(shape=[4, 4]), "bytes for the shape"),
    "a tensor without numbers": (
        lambda h: h["optimizer"].insert(
            0, {**h["optimizer"][0], "name": "no", "shape": [0], "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
        ),
        "bytes for the shape",
    ),
    "two that overlap": (lambda h: h["tensors"][1].update(begin=0), "begins at byte 0"),
    "a name twice": (lambda h: h["tensors"][1].update(name="embed.weight"), "twice"),
    "another name": (lambda h: h["tensors"][1].update(name="other"), "and its model has"),
    "heads that the model has not": (lambda h: h["model"]["model"].update(d_model=24, head_dim=12), "its model has"),
    "a shape beyond counting": (lambda h: h["model"]["model"].update(d_ff=2**62), "a model of its shape cannot be"),
    "another family": (lambda h: h["model"].update(family="other"), "family 'other'"),
    "a path for a vocabulary": (lambda h: h["vocabulary"][0].update(name="../vocab.txt"), "vocabulary is not of"),
    "no vocabulary": (lambda h: h.update(vocabulary=[]), "vocabulary is not of"),
    "fewer parameters": (lambda h: h.update(parameters=5), "claims 5 parameters"),
    "an optimizer that is denied": (lambda h: h.update(optimizer_inside=False), "says that it has none"),
    "an unknown field": (lambda h: h.update(pickle="x"), "pickle"),
    "a number for a step": (lambda h: h.update(step=-1), "step"),
    "other numbers": (lambda h: h["tensors"][1].update(dtype="F16"), "dtype"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_was_sealed_again_is_checked_all_the_same(small, tmp_path, name):
    change, reason = HOSTILE[name]
    path = tmp_path / "bad.cllm"
    path.write_bytes(resealed(small.read_bytes(), change))
    assert reason in refused(path)


def test_cllms_own_files_and_others_are_told_from_ours(tmp_path, small):
    path = tmp_path / "own.cllm"
    path.write_bytes(MAGIC + struct.pack("<I", 1) + bytes(3000))
    assert "its version is 1, which is CLLM's own and lacks parts of the model" in refused(path)
    path.write_bytes(MAGIC + struct.pack("<I", 3) + bytes(3000))
    assert "its version is 3; this program reads version 2" in refused(path)
    path.write_bytes(b"CLLM\x02" + bytes(3000))
    assert "it begins with b'CLLM\\x02" in refused(path)
    assert "No such file" in refused(tmp_path / "none.cllm")
    assert "Is a directory" in refused(tmp_path)


def test_load_opens_the_file_by_its_magic(small, tmp_path):
    renamed = tmp_path / "model.weights"
    renamed.write_bytes(small.read_bytes())
    model = load(renamed)
    assert model.info()["context"] == 16
    assert model.info()["path"] == str(renamed)
    assert model.info()["file"] == {
        "format": ".cllm", "name": "small", "step": 1000, "parameters": model.info()["parameters"],
        "optimizer_inside": True,
    }  # fmt: skip
    assert isinstance(model.generate("the river", max_tokens=5, temperature=0), str)
    assert read_header(small).optimizer_inside
    renamed.write_bytes(small.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is not a whole \.cllm file"):
        load(renamed)


def test_a_kill_while_it_is_written_leaves_the_old_file(words, tmp_path, monkeypatch):
    path = tmp_path / "model.cllm"
    _, made = made_of(words)
    write_cllm(path, made)
    before = path.read_bytes()

    def broken(*_):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cllm, "_chunks", broken)
    with pytest.raises(Exception, match="disk full while writing"):
        write_cllm(path, made)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.cllm"]
