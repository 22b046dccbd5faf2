"""The export stage: what it leaves, what it refuses, and that a damaged export never passes its self-check."""

from __future__ import annotations

import html.parser
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lmcore.export import stage
from lmcore.export.architectures import stock_architecture
from lmcore.export.card import escape
from lmcore.export.check import TOLERANCE, check_hf, probe
from lmcore.export.hf_reader import read_hf
from lmcore.export.stage import ExportParams, ExportRuntime, export
from lmcore.generate.load import load
from lmcore.models.config import DecoderConfig
from lmcore.progress import silent
from storage.digest import digest_file
from storage.errors import RunError, UserError

FILES = [
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


FEW = {"prompts": ["The hero went home", "ሰላም"], "greedy_tokens": 4}


def run(work, trained, **params):
    return export(work, trained, params=ExportParams(**(FEW | params)), runtime=ExportRuntime(), report=silent)


@pytest.fixture(scope="module")
def trained(make_trained):
    return make_trained(n_heads=4, n_kv_heads=2)


@pytest.fixture(scope="module")
def done(trained, tmp_path_factory):
    work = tmp_path_factory.mktemp("export")
    return work / "out", run(work, trained, **ExportParams().model_dump())


@pytest.fixture
def copied(done, tmp_path):
    """An export that a test may damage."""
    shutil.copytree(done[0], tmp_path / "out")
    return tmp_path / "out" / "hf"


def test_files_and_metrics(done):
    out, metrics = done
    assert sorted(path.name for path in out.iterdir()) == ["hf", "reference.json"]
    assert sorted(path.name for path in (out / "hf").iterdir()) == FILES
    assert metrics["architecture"] == "Qwen3ForCausalLM"
    assert metrics["largest_difference"] <= TOLERANCE
    assert metrics["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def test_weights_are_float32_from_pytorch_and_a_tied_head_is_left_out(done, make_trained, tmp_path):
    with safe_open(done[0] / "hf" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in set(file.keys())
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
    run(tmp_path, make_trained(tie_embeddings=False))
    with safe_open(tmp_path / "out" / "hf" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" in set(file.keys())


def test_both_releases_of_transformers_find_the_rotary_base(make_trained, tmp_path, read_json):
    run(tmp_path, make_trained(rope_theta=123456.0))
    config = read_json(tmp_path / "out" / "hf" / "config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 123456.0
    assert config["rope_scaling"] is None


def test_reference_is_what_the_model_says(done, trained, read_json):
    ours = load(trained)
    reference = read_json(done[0] / "reference.json")
    assert reference["architecture"] == "Qwen3ForCausalLM"
    assert reference["largest_difference"] <= reference["tolerance"] == 1e-5
    assert [one["prompt"] for one in reference["prompts"]] == list(ExportParams().prompts)
    for one in reference["prompts"]:
        assert one["ids"] == [0, *ours.tokenizer.encode(one["prompt"])]
        said = [token.logprob for token in ours.logprobs(one["prompt"])]
        assert one["log_probabilities"] == pytest.approx(said, abs=1e-5)
        ids = list(one["ids"])
        for token in one["greedy"]:  # without a cache
            with torch.no_grad():
                logits = ours.model(torch.tensor([ids]))[0, -1]
            assert int(logits.argmax()) == token
            ids.append(token)
        assert len(one["greedy"]) == 32
        assert one["next"][0]["id"] == one["greedy"][0]
        assert [guess["log_probability"] for guess in one["next"]] == sorted(
            (guess["log_probability"] for guess in one["next"]), reverse=True
        )


def test_a_prompt_longer_than_the_context_is_cut(trained, tmp_path, read_json):
    run(tmp_path, trained, prompts=["the hero went home " * 50, ""], greedy_tokens=100)
    long, empty = read_json(tmp_path / "out" / "reference.json")["prompts"]
    assert len(long["ids"]) == 64
    assert len(long["greedy"]) == 1  # the context is full
    assert (empty["ids"], empty["log_probabilities"]) == ([0], [])
    assert len(empty["greedy"]) == 64


def test_equal_models_give_equal_bytes(done, trained, tmp_path):
    run(tmp_path, trained, **ExportParams().model_dump())
    for path in done[0].rglob("*.*"):
        assert digest_file(path) == digest_file(tmp_path / "out" / path.relative_to(done[0])), path


def test_every_stock_shape_comes_back_bit_for_bit(shape, make_trained, tmp_path):
    architecture, options = shape
    trained = make_trained(**options)
    metrics = run(tmp_path, trained)
    assert metrics["architecture"] == architecture
    assert metrics["largest_difference"] == 0.0
    ours, copy = load(trained).model, read_hf(tmp_path / "out" / "hf")
    ids = torch.arange(60)[None] * 5
    with torch.no_grad():
        assert torch.equal(ours(ids), copy(ids))
    theirs = copy.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs[name])


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"mlp": "relu2"}, "model.qk_norm: true with model.mlp: relu2"),
        ({"bias": True}, "model.qk_norm: true with model.bias: true"),
        ({"logit_softcap": 15.0}, "model.logit_softcap: 15.0"),
        ({"embed_norm": True}, "model.embed_norm: true"),
        ({"norm": "layer"}, "model.norm: layer with model.position: rope and model.mlp: swiglu"),
        ({"position": "learned", "qk_norm": False}, "model.norm: rms with model.position: learned"),
        ({"norm": "layer", "position": "learned", "mlp": "gelu"}, "model.qk_norm: true with model.mlp: gelu"),
        (
            {"norm": "layer", "position": "learned", "mlp": "gelu", "qk_norm": False, "n_kv_heads": 1},
            "model.n_kv_heads below",
        ),
        (
            {"norm": "layer", "position": "learned", "mlp": "gelu", "qk_norm": False, "head_dim": 16},
            "model.head_dim other than",
        ),
        ({"norm_placement": "post"}, "model.norm_placement: post with model.norm: rms"),
        ({"mlp": "relu", "qk_norm": False}, "model.norm: rms with model.position: rope and model.mlp: relu"),
        (
            {
                "norm": "layer",
                "position": "learned",
                "mlp": "relu",
                "qk_norm": False,
                "norm_placement": "post",
                "d_ff": 99,
            },
            "model.norm_placement: post with model.d_ff other than 4 d_model",
        ),
        ({"mlp_bias": True}, "model.qk_norm: true with model.mlp_bias: true"),
        ({"qk_norm": False, "n_heads": 3, "head_dim": 16}, "model.d_model 64 that is not a multiple"),
    ],
)
def test_what_no_stock_architecture_has_is_said_plainly(options, setting, make_trained, tmp_path, read_json):
    trained = make_trained(**options)
    with pytest.raises(UserError) as error:
        run(tmp_path, trained)
    assert setting in error.value.what
    assert "model." in error.value.mend
    assert error.value.mend.endswith("or set export.hf: false to go without")
    assert not (tmp_path / "out").exists()
    metrics = run(tmp_path, trained, hf=False)
    assert metrics["architecture"] == "none"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reference.json"]
    assert read_json(tmp_path / "out" / "reference.json")["architecture"] is None


def test_the_default_model_has_a_stock_architecture():
    assert stock_architecture(DecoderConfig()) == "Qwen3ForCausalLM"


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **values):
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored | values), encoding="utf-8")


def one_wrong_number(folder):
    change_weights(folder, lambda tensors: tensors["model.norm.weight"][3].add_(1e-2))


def queries_for_keys(folder):
    def swap(tensors):
        name = "model.layers.0.self_attn.{}_proj.weight".format
        tensors[name("k")], tensors[name("v")] = tensors[name("v")].clone(), tensors[name("k")].clone()

    change_weights(folder, swap)


DAMAGES = {
    "one wrong number": (one_wrong_number, r"differs from the model .* off by"),
    "keys and values swapped": (queries_for_keys, r"off by"),
    "a tensor missing": (
        lambda folder: change_weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
        r"model\.safetensors does not fit .*model\.layers\.1\.mlp\.up_proj\.weight",
    ),
    "a tensor too many": (
        lambda folder: change_weights(folder, lambda tensors: tensors.update({"extra": torch.zeros(1)})),
        r"model\.safetensors holds extra",
    ),
    "another shape": (
        lambda folder: change_weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)})),
        r"model\.safetensors does not fit",
    ),
    "a truncated file": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000]),
        r"model\.safetensors is missing, truncated or damaged",
    ),
    "another rotary base": (
        lambda folder: change_json(folder / "config.json", rope_theta=1e6, rope_parameters={"rope_theta": 1e6}),
        r"off by",
    ),
    "two rotary bases": (lambda folder: change_json(folder / "config.json", rope_theta=1e6), r"rope_theta is not"),
    "another epsilon": (lambda folder: change_json(folder / "config.json", rms_norm_eps=1e-2), r"off by"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
    "an unknown architecture": (
        lambda folder: change_json(folder / "config.json", model_type="mamba"),
        r"config\.json cannot be read: KeyError 'mamba'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_fails_the_check(damage, copied, trained):
    spoil, message = DAMAGES[damage]
    ours = load(trained)
    probes = probe(ours.model, ours.tokenizer, ["The hero went home", "ሰላም"], 8)
    assert check_hf(copied, ours.model, ours.tokenizer, probes) == 0.0
    spoil(copied)
    with pytest.raises(RunError, match=message):
        check_hf(copied, ours.model, ours.tokenizer, probes)


def test_another_tokenizer_fails_the_check(copied, trained):
    ours = load(trained)
    probes = probe(ours.model, ours.tokenizer, ["The hero went home"], 8)
    stored = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = stored["model"]["vocab"]
    first, second = (token for token, index in vocabulary.items() if index in (ord("T"), probes[0]["ids"][1]))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (copied / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(RunError, match="other token ids"):
        check_hf(copied, ours.model, ours.tokenizer, probes)


def test_nothing_is_left_to_publish_when_the_writer_is_wrong(trained, tmp_path, monkeypatch):
    """A fault in the writer itself, not in the file: the stage ends in the error and writes no reference."""
    right = stage.write_hf

    def wrong(folder, *args, **kwargs):
        right(folder, *args, **kwargs)
        queries_for_keys(folder)

    monkeypatch.setattr(stage, "write_hf", wrong)
    with pytest.raises(RunError, match="off by"):
        run(tmp_path, trained)
    assert not (tmp_path / "out" / "reference.json").exists()


CHILD = """
import sys
from pathlib import Path
from lmcore.export.stage import ExportParams, ExportRuntime, export
from lmcore.progress import silent
export(*map(Path, sys.argv[1:]), params=ExportParams(), runtime=ExportRuntime(), report=silent)
"""


@pytest.mark.slow
def test_an_export_killed_before_its_check_comes_out_the_same(done, trained, tmp_path):
    def child(fault):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLLECT_TRAIN_FAULT": fault}
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(trained)]
        return subprocess.run(command, env=environment, capture_output=True).returncode

    assert child("export.before-check") == -signal.SIGKILL
    assert not (tmp_path / "out" / "reference.json").exists()
    assert child("") == 0
    for path in done[0].rglob("*.*"):
        assert digest_file(path) == digest_file(tmp_path / "out" / path.relative_to(done[0])), path


def test_a_truncated_model_is_named(trained, tmp_path):
    broken = tmp_path / "train"
    shutil.copytree(trained, broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:3000])
    with pytest.raises(RunError, match=r"train/model\.safetensors"):
        run(tmp_path / "work", broken)


def test_the_card_says_sizes_and_no_quality_unless_it_was_measured(done, trained, tmp_path):
    card = (done[0] / "hf" / "README.md").read_text(encoding="utf-8")
    parameters = sum(tensor.numel() for tensor in load(trained).model.parameters())
    assert f"| parameters | {parameters:,} |" in card
    assert "| context | 64 tokens |" in card
    assert "bits per byte" not in card
    headline = {"documents": 40, "bytes": 12345, "bits_per_byte": 1.2345, "interval": [1.2, 1.3], "perplexity": 9.87}
    (tmp_path / "evaluation.json").write_text(json.dumps({"headline": headline}))
    arguments = {"params": ExportParams(**FEW), "runtime": ExportRuntime(), "report": silent}
    export(tmp_path / "work", trained, evaluation=tmp_path, **arguments)
    card = (tmp_path / "work" / "out" / "hf" / "README.md").read_text(encoding="utf-8")
    assert "**1.234 bits per byte** (95 % interval 1.200 to 1.300)" in card.replace("\n", " ")
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match=r"evaluation\.json"):
        export(tmp_path / "work", trained, evaluation=tmp_path, **arguments)


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)


@given(st.text(max_size=80))
def test_an_escaped_name_is_one_line_without_markup(text):
    escaped = escape(text)
    assert len(escaped.splitlines()) <= 1
    tags = Tags()
    tags.feed(escaped)
    assert not tags.found


def test_a_hostile_name_stays_text(trained, tmp_path):
    run(tmp_path, trained, name="x\n---\n<script>alert(1)</script> [a](javascript:b) `c` ![d](http://e)", prompts=["a"])
    card = (tmp_path / "out" / "hf" / "README.md").read_text(encoding="utf-8")
    title = next(line for line in card.splitlines() if line.startswith("# "))
    assert "<" not in card.partition("```")[0].partition("# ")[2].partition("\n\nA language")[0]
    assert title == (
        "# x \\-\\-\\- &lt;script&gt;alert\\(1\\)&lt;/script&gt; \\[a\\]\\(javascript\\:b\\) \\`c\\` "
        "\\!\\[d\\]\\(http\\://e\\)"
    )


@pytest.mark.parametrize("wrong", [{"prompts": []}, {"greedy_tokens": 0}, {"name": ""}, {"gguf": True}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        ExportParams(**wrong)
