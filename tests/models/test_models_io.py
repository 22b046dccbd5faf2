"""Models on disk: what is saved comes back, and what is damaged is named."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from lmcore.models import build, load_model, save_model
from lmcore.models.config import DecoderConfig
from lmcore.models.io import load_config
from lmcore.models.mu_config import MuConfig
from storage.errors import RunError

CONFIG = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16)
GPT2 = DecoderConfig(
    n_layers=1,
    d_model=32,
    n_heads=2,
    norm="layer",
    position="learned",
    mlp="gelu",
    bias=True,
    qk_norm=False,
    context=16,
)
SOMA = DecoderConfig(
    n_layers=2,
    d_model=32,
    n_heads=2,
    context=16,
    norm="layer",
    norm_placement="post",
    norm_affine=False,
    position="learned",
    qk_norm=False,
    mlp="relu",
    mlp_bias=True,
)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path, build(CONFIG, 50, seed=3))
    return tmp_path


MU = MuConfig(n_layers=2, matrix=(4, 4), n_heads=4, context=16)


@pytest.mark.parametrize("config", [CONFIG, GPT2, SOMA, CONFIG.model_copy(update={"tie_embeddings": False}), MU])
def test_saved_and_loaded_give_equal_logits(tmp_path, config):
    model = build(config, 50, seed=3).eval()
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    ids = torch.arange(16)[None] * 3
    assert torch.equal(loaded(ids), model(ids))
    assert loaded.config == model.config
    assert not loaded.training
    loaded(ids).sum().backward()  # it can be trained on
    assert loaded.embed.weight.grad is not None


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(tmp_path / name, build(CONFIG, 50, seed=3))
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_bfloat16_model_is_written_in_float32(tmp_path):
    save_model(tmp_path, build(CONFIG, 50, seed=3).to(torch.bfloat16))
    assert all(
        tensor.dtype == torch.float32 for tensor in safetensors.torch.load_file(tmp_path / "model.safetensors").values()
    )


def test_what_the_files_hold(folder):
    stored = json.loads((folder / "config.json").read_text())
    assert stored["format"] == 1
    assert stored["family"] == "decoder"
    assert stored["vocab_size"] == 50
    assert stored["model"]["d_ff"] == 128  # derived numbers are written out
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "embed.weight" in file.keys()  # noqa: SIM118
        assert "head.weight" not in file.keys()  # noqa: SIM118


def test_a_loaded_model_does_not_depend_on_its_file(folder):
    model = load_model(folder)
    ids = torch.arange(8)[None]
    before = model(ids)
    (folder / "model.safetensors").write_bytes(b"")
    assert torch.equal(model(ids), before)


def test_the_chat_mark_is_kept(tmp_path, folder):
    assert not load_config(folder).chat
    save_model(tmp_path, build(CONFIG, 50, seed=3), chat=True)
    assert load_config(tmp_path).chat


def test_every_truncation_is_named(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(RunError, match=r"model\.safetensors is truncated or damaged"):
            load_model(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(RunError, match=file):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"family": "hnet"}, "family 'hnet'"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"vocab_size": 51}, r"embed.weight is torch.float32 \(50, 32\), not torch.float32 \(51, 32\)"),
        ({"model": {"n_layers": 0}}, "model.n_layers"),
        ({"model": {"colour": 1}}, "model.colour"),
        ({"model": None}, "describes no decoder"),
        ({"model": {**CONFIG.model_dump(), "n_layers": 3}}, "blocks.2.attn_norm.weight is missing and 8 more"),
        ({"model": {**CONFIG.model_dump(), "n_layers": 1}}, "is not of this model"),
    ],
)
def test_what_does_not_fit_is_named(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=message):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_type": "llama"}', "\x00"])
def test_another_config_json_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json"):
        load_model(folder)


def test_another_number_format_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = {name: tensor.half() for name, tensor in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(RunError, match=r"not torch\.float32"):
        load_model(folder)


def test_reading_a_recipe_loads_no_torch():
    code = "import sys, lmcore.models.config, lmcore.generate.sampling, lmcore.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
