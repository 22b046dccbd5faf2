"""MU's `mu_sota_best.pt`: what it holds, what it refuses; a file that is damaged or a trap is one clear error."""

from __future__ import annotations

import os
import shutil
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mu_made import TEXTS, mu_folder, mu_tokenizer

from lmcore.export.mu_layout import write_layout
from lmcore.export.mu_reader import read_checkpoint, read_mu
from lmcore.generate.load import load
from storage.errors import UserError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder of the model, its two files)."""
    folder = tmp_path_factory.mktemp("train")
    mu_folder(folder, mu_tokenizer())
    return folder, write_layout(folder, tmp_path_factory.mktemp("mu"))


@pytest.fixture(scope="module")
def content(written):
    return written[1][0].read_bytes()


@pytest.fixture(scope="module")
def path(written, tmp_path_factory):
    """Where damaged files are put, with the tokenizer beside them."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copyfile(written[1][1], folder / "mu_sota_tokenizer.json")
    return folder / "mu_sota_best.pt"


def refused(path, content=None):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_mu(path)
    assert str(path) in error.value.what
    assert "\n" not in error.value.what
    assert len(error.value.what) < 600
    assert "weights_only=False" not in error.value.what
    return error.value.what


def changed(path, content, change):
    """The file with what `change` does to its contents."""
    path.write_bytes(content)
    found = torch.load(path, weights_only=True)
    change(found)
    torch.save(found, path)
    return path


def test_it_holds_tensors_and_plain_values_under_the_document_s_names(written):
    folder, (file, vocabulary) = written
    found = torch.load(file, weights_only=True)
    assert set(found) == {"epoch", "step", "model_state_dict", "config", "perplexity"}
    assert found["config"]["model"]["matrix"] == [4, 4]
    of_folder, of_file = load(folder), load(file)
    assert found["model_state_dict"].keys() == of_folder.model.state_dict().keys()
    ids = torch.arange(20)[None]
    assert torch.equal(of_file.model(ids), of_folder.model(ids))
    assert of_file.generate(TEXTS[0], max_tokens=9, seed=3) == of_folder.generate(TEXTS[0], max_tokens=9, seed=3)
    told = of_file.info()
    assert (told["family"], told["file"]["format"]) == ("mu", ".pt")
    assert told["file"]["bytes"] == file.stat().st_size
    assert vocabulary.read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_what_it_has_no_place_for(make_trained, tmp_path, tokenizer):
    with pytest.raises(UserError, match="no place for a model of the family decoder"):
        write_layout(make_trained(), tmp_path / "out")
    folder = tmp_path / "bytes"
    folder.mkdir()
    mu_folder(folder, tokenizer)
    with pytest.raises(UserError, match="no place for this kind of vocabulary"):
        write_layout(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_must_be_there_and_fit(content, written, tmp_path):
    alone = tmp_path / "mine_best.pt"
    alone.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*mine_tokenizer\.json, the tokenizer of the model"):
        read_mu(alone)
    (tmp_path / "mine_tokenizer.json").write_bytes(written[1][1].read_bytes()[:-9])
    with pytest.raises(UserError, match=r"mine_tokenizer\.json is damaged"):
        read_mu(alone)
    (tmp_path / "mine_tokenizer.json").write_text(mu_tokenizer(100).to_json())
    with pytest.raises(UserError, match=r"tokens, the model in mine_best\.pt has"):
        read_mu(alone)


@settings(deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(content, path, data):
    refused(path, content[: data.draw(st.integers(4, len(content) - 1))])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_garbled_bytes_are_the_same_model_or_one_error(content, path, data):
    garbled = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        ends = data.draw(st.sampled_from([(4, 4000), (0, len(content)), (len(content) - 4000, len(content))]))
        garbled[data.draw(st.integers(max(4, ends[0]), ends[1] - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(garbled)
    try:
        found = read_checkpoint(path)
    except UserError:
        refused(path)
        return
    path.write_bytes(content)
    same = read_checkpoint(path).model.state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in found.model.state_dict().items())


@settings(deadline=None)
@given(rest=st.binary(max_size=400))
def test_anything_after_the_magic_is_refused(path, rest):
    assert "is no whole checkpoint of MU" in refused(path, b"PK\x03\x04" + rest)


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


@pytest.mark.parametrize("place", ["config", "optimizer_state_dict", "epoch"])
def test_a_trap_is_never_sprung(content, path, place, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    changed(path, content, lambda found: found.update({place: Trap()}))
    assert "weights_only=True" in refused(path)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_alone_is_no_model_file(path):
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UserError, match=r"no model file that this program reads \(LAi1, CLLM, \.pt\)"):
        load(path)


def set_weight(value):
    def change(found):
        weights = found["model_state_dict"]
        name = next(iter(weights))
        weights[name] = value(weights[name])

    return change


def set_model(**values):
    return lambda found: found["config"]["model"].update(values)


CHANGES = [
    (lambda f: f.pop("perplexity"), "it has no epoch, model_state_dict, config, perplexity"),
    (lambda f: f.update(perplexity="low"), "its perplexity is no number"),
    (lambda f: f.update(config=[1]), "its config is not of plain values"),
    (lambda f: f["config"].update(more={"a": torch.ones(1)}), "its config is not of plain values"),
    (lambda f: f["config"].update(family="decoder", model={}), "a model of the family decoder, not mu"),
    (lambda f: f["config"].update(family="gpt"), "family 'gpt'"),
    (lambda f: f["config"].update(vocab_size=10**15), "torch.float32"),
    (set_model(n_layers=3), "is missing"),
    (set_model(n_layers=1), "is not of its model"),
    (set_model(matrix=[3, 4]), "do not tile"),
    (set_weight(lambda w: w[:-1]), "not torch.float32"),
    (set_weight(lambda w: w.half()), "torch.float16"),
    (set_weight(lambda w: w * float("nan")), "holds NaN or infinity"),
    (set_weight(lambda w: w[:1].expand_as(w)), "no tensor with numbers of its own"),
    (set_weight(lambda w: w.to("meta")), "no tensor with numbers of its own"),
    (set_weight(lambda w: w.to_sparse()), "no tensor with numbers of its own"),
    (set_weight(torch.nn.Parameter), "something else than tensors"),
    (lambda f: f.update(optimizer_state_dict={"state": [1]}), "something else than tensors"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_is_wrong_is_named(content, path, change, told):
    assert told in refused(changed(path, content, change))


def test_a_packed_file_is_refused_before_it_is_unpacked(content, path):
    path.write_bytes(content)
    with zipfile.ZipFile(path) as parts:
        read = {name: parts.read(name) for name in parts.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, part in read.items():
            parts.writestr(name, part)
    assert "is packed" in refused(path)
