"""A real tokenizer and models of every stock shape, small enough to make in a second."""

from __future__ import annotations

import json

import pytest
import torch

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import save_model
from lmcore.tokenizer import ByteBPE

TEXTS = [
    "The hero went home again, and the villain sang of Budapest.",
    "Őszi szél fújja a sárga leveleket; jó reggelt kívánok!",
    "ሰላም እንዴት ነህ? ኢትዮጵያ በአፍሪካ ቀንድ የምትገኝ ሀገር ናት።",
    "主人公は「行くぞ!」と叫んだ。物語はここから始まる。",
    "def f(x):\n    return {'a': [1, 2.5, 1000000]}  # it's 'fine'\r\n\t🙂🎉",
]
GPT2 = {"norm": "layer", "position": "learned", "mlp": "gelu", "qk_norm": False}
SHAPES = {
    "llama": {"qk_norm": False},
    "llama, grouped, untied, wide heads": {
        "qk_norm": False,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 24,
        "tie_embeddings": False,
        "rope_theta": 5e5,
    },
    "llama with bias": {"qk_norm": False, "bias": True, "d_ff": 100},
    "qwen3": {},
    "qwen3, grouped, untied": {
        "n_heads": 3,
        "n_kv_heads": 1,
        "head_dim": 16,
        "tie_embeddings": False,
        "rope_theta": 5e5,
        "norm_eps": 1e-3,
    },
    "arcee": {"mlp": "relu2", "qk_norm": False},
    "arcee, grouped, untied, bias": {
        "mlp": "relu2",
        "qk_norm": False,
        "n_heads": 4,
        "n_kv_heads": 1,
        "bias": True,
        "tie_embeddings": False,
    },
    "gpt2": GPT2 | {"bias": True},
    "gpt2, relu, untied, norms without weights": GPT2
    | {"mlp": "relu", "mlp_bias": True, "norm_affine": False, "tie_embeddings": False, "d_ff": 100},
    "gpt": GPT2 | {"norm_placement": "post", "bias": True},
    "gpt, soma": GPT2 | {"norm_placement": "post", "norm_affine": False, "mlp": "relu", "mlp_bias": True},
    "gpt, soma, untied": GPT2
    | {"norm_placement": "post", "norm_affine": False, "mlp": "relu", "mlp_bias": True, "tie_embeddings": False},
    "llama, norms without weights": {"qk_norm": False, "norm_affine": False},
    "llama, biases of the MLP": {"qk_norm": False, "mlp_bias": True},
    "qwen3, norms without weights": {"norm_affine": False},
    "arcee, norms without weights, biases but in the MLP": {
        "mlp": "relu2",
        "qk_norm": False,
        "norm_affine": False,
        "bias": True,
        "mlp_bias": False,
    },
    "gpt2, untied, no bias": GPT2 | {"tie_embeddings": False, "d_ff": 100, "norm_eps": 1e-3},
}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "arcee": "ArceeForCausalLM"}
ARCHITECTURES |= {"gpt": "OpenAIGPTLMHeadModel", "gpt2": "GPT2LMHeadModel"}


@pytest.fixture(scope="session")
def tokenizer():
    return ByteBPE.train(TEXTS * 3, vocab_size=400, split="llama3", min_frequency=2, max_token_length=64)


@pytest.fixture(scope="session")
def make_trained(tokenizer, tmp_path_factory):
    """make_trained(**options): a folder laid out like a train artifact, every weight of its model random."""

    def make(**options):
        config = DecoderConfig(**{"n_layers": 3, "d_model": 64, "context": 64} | options)
        model = build(config, tokenizer.vocab_size, 1).eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                one = name.endswith("norm.weight")
                parameter.copy_(1 + 0.3 * noise if one else 0.1 * noise)
        folder = tmp_path_factory.mktemp("train")
        save_model(folder, model)
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def read_json():
    return lambda path: json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=SHAPES, scope="session")
def shape(request):
    """(name of the architecture, model settings) of each stock shape in turn."""
    first = request.param.partition(",")[0].partition(" ")[0]
    return ARCHITECTURES[first], SHAPES[request.param]
