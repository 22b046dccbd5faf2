"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on a decoder, through the `peft` library (extra: lora).

W x becomes W x + (alpha / r) B A x, with W frozen. A is drawn from (seed, its name), B begins at zero, so an adapted
model begins as the one it adapts. `torch` and `peft` are loaded by what needs them: a recipe is read without.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lmcore.config import Params
from lmcore.models.families import adaptable
from storage.errors import UserError

if TYPE_CHECKING:
    from lmcore.models.decoder import Decoder
    from lmcore.models.families import ModelConfig
    from lmcore.models.network import Network

Target = Literal["qkv", "o", "gate", "up", "down"]
ADAPTER = "default"  # peft's name for the only one
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


class Lora(Params):
    """What of a model is adapted, and how."""

    r: int = Field(16, ge=1, le=4096, description="Rank of an adapter.")
    alpha: float = Field(32.0, gt=0, description="An adapter counts alpha / r times.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before an adapter.")
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = Field(
        ("qkv", "o", "gate", "up", "down"),
        description="Matrices of every block that get one: qkv and o of attention, gate, up and down of the MLP.",
    )


def add_adapters(model: Network, lora: Lora, seed: int) -> None:
    """Freeze `model` and put an adapter beside each target matrix, in place.

    Raises UserError when `peft` is not installed, the model is no decoder or has none of the targets.
    """
    config = adaptable(model.config)
    import torch

    peft, targets = _peft(), set(lora.targets)
    if config.mlp != "swiglu":
        targets -= {"gate"}
    if not targets:
        raise UserError(
            f"train.lora.targets are {', '.join(lora.targets)}, and the model's MLP ({config.mlp}) has no gate",
            "name up or down, or qkv or o of attention",
        )
    with torch.random.fork_rng(devices=[]):  # peft draws weights that are not kept
        peft.inject_adapter_in_model(_config(peft, lora, targets), model, adapter_name=ADAPTER)
    from lmcore.models.init import normal

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:  # the standard deviation of peft's own start, uniform within 1 / sqrt(n_in)
                parameter.copy_(normal(parameter.shape, seed, name).mul_(1 / math.sqrt(3 * parameter.shape[1])))


def adapter_parameters(shape: ModelConfig, lora: Lora) -> int:
    """Numbers in the adapters that `add_adapters` would put into a model of this shape: r (n_in + n_out) a matrix.

    Raises UserError for a shape that is no decoder's.
    """
    config = adaptable(shape)
    width, attended, inner = config.d_model, config.n_heads * config.head_width, config.ff_width
    sides = {
        "qkv": width + sum(config.qkv_rows),
        "o": attended + width,
        "gate": width + inner if config.mlp == "swiglu" else 0,
        "up": width + inner,
        "down": inner + width,
    }
    return config.n_layers * lora.r * sum(sides[target] for target in set(lora.targets))


def merged(model: Network) -> Decoder:
    """A decoder without adapters that computes the same: W + (alpha / r) B A in place of W. `model` stays as it is."""
    import torch

    from lmcore.models.decoder import Decoder

    state = {
        name.replace(".base_layer.", "."): tensor.detach().to("cpu", copy=True)
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, module in model.named_modules():
            if hasattr(module, "get_delta_weight"):
                state[f"{name}.weight"] += module.get_delta_weight(ADAPTER).cpu()
    plain = Decoder(adaptable(model.config), model.vocab_size)
    plain.load_state_dict(state)
    return plain.train(model.training)


def save_adapter(folder: Path, model: Network) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as peft does; equal adapters give equal bytes.

    `peft.PeftModel.from_pretrained(base, folder)` reads them. StorageError when the disk refuses.
    """
    import safetensors.torch

    from storage.atomic import write_bytes, write_json

    peft = _peft()
    tensors = {
        f"base_model.model.{name}": tensor.detach().cpu().contiguous()
        for name, tensor in peft.get_peft_model_state_dict(model, adapter_name=ADAPTER).items()
    }
    described: dict[str, Any] = model.peft_config[ADAPTER].to_dict()  # type: ignore[union-attr, index]
    described |= {"target_modules": sorted(described["target_modules"]), "inference_mode": True}
    del described["peft_version"]  # so that equal adapters have equal files
    write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, json.loads(json.dumps(described, default=str)))


def _config(peft: Any, lora: Lora, targets: set[Target]) -> Any:
    return peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=sorted(targets), bias="none"
    )


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError(
            f"train.lora needs the package peft: {error}", "pip install 'collect-train[lora]', or leave train.lora out"
        ) from error
    return peft
