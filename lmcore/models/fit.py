"""Which weights a model of another shape can begin with. Knows no torch, so that a recipe is refused before it runs."""

from __future__ import annotations

from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelConfig

FREE = ("dropout", "zero_init_projections")  # change no function of trained weights
WIDTHS = ("d_model", "n_heads", "n_kv_heads", "d_ff")  # what `growth.widen` multiplies


def misfits(start: ModelConfig, wanted: ModelConfig, *, grow: bool = False) -> list[str]:
    """Settings in which `wanted` is a shape that the weights of `start` cannot be taken over into; none when it fits.

    The context may be another one with rotary positions, and shorter with learned ones. With `grow`, widths may be
    whole multiples and there may be more blocks, of a decoder; another family keeps its shape.
    """
    if type(start) is not type(wanted):
        return ["family"]
    has, asked = start.resolved(), wanted.resolved()
    wrong = [name for name in type(has).model_fields if getattr(has, name) != getattr(asked, name)]
    wrong = [name for name in wrong if name not in FREE and not _may_differ(name, has, asked, grow)]
    if grow and not wrong and isinstance(has, DecoderConfig) and not _one_factor(has, asked):
        wrong = [name for name in WIDTHS if getattr(has, name) != getattr(asked, name)]
    # Not what follows from another setting.
    told = [name for name in wrong if getattr(wanted, name) != getattr(start, name)]
    return told or wrong


def _may_differ(name: str, has: ModelConfig, asked: ModelConfig, grow: bool) -> bool:
    before, after = getattr(has, name), getattr(asked, name)
    if name == "context":
        return (isinstance(asked, DecoderConfig) and asked.position == "rope") or bool(after < before)
    if not (isinstance(has, DecoderConfig) and isinstance(asked, DecoderConfig)):
        return False
    if name == "n_layers":  # a block that adds nothing is the identity only where no norm comes after it
        return grow and bool(after > before) and has.norm_placement == "pre"
    if name == "d_model" and has.tie_embeddings and not (has.norm_affine and has.norm_placement == "pre"):
        return False  # the tied head sums the copies, and there is no last norm whose weight could be divided
    return grow and name in WIDTHS and after % before == 0


def _one_factor(has: DecoderConfig, asked: ModelConfig) -> bool:
    """Whether the heads grow with the stream: a head's width stays, so each is copied as often as each number is."""
    assert isinstance(asked, DecoderConfig)
    factor = asked.d_model // has.d_model
    return asked.n_heads == has.n_heads * factor and asked.kv_heads in (has.kv_heads * factor, has.kv_heads)
