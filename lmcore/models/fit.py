"""Which weights a model of another shape can begin with. Knows no torch, so that a recipe is refused before it runs."""

from __future__ import annotations

from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelConfig

FREE = ("dropout", "zero_init_projections")  # change no function of trained weights
WIDTHS = ("d_model", "n_heads", "n_kv_heads", "d_ff")  # what `growth` makes larger


def misfits(start: ModelConfig, wanted: ModelConfig, *, grow: bool = False) -> list[str]:
    """Settings in which `wanted` is a shape that the weights of `start` cannot be taken over into; none when it fits.

    The context may be another one with rotary positions, and shorter with learned ones. With `grow`, widths, blocks and
    context of a decoder may be larger; another family keeps its shape.
    """
    if type(start) is not type(wanted):
        return ["family"]
    has, asked = start.resolved(), wanted.resolved()
    wrong = [name for name in type(has).model_fields if getattr(has, name) != getattr(asked, name)]
    wrong = [name for name in wrong if name not in FREE and not _may_differ(name, has, asked, grow)]
    if grow and not wrong and not _larger(has, asked):
        wrong = [name for name in WIDTHS if getattr(has, name) != getattr(asked, name)]
    # Not what follows from another setting.
    told = [name for name in wrong if getattr(wanted, name) != getattr(start, name)]
    return told or wrong


def clones(has: DecoderConfig, asked: DecoderConfig) -> bool:
    """Whether every width is a whole multiple, and the heads' that of the stream: a head's width stays, so each is
    copied as often as each number is."""
    factor = asked.d_model // has.d_model
    whole = asked.d_model % has.d_model == 0 and asked.ff_width % has.ff_width == 0
    same = asked.n_heads == has.n_heads * factor and asked.kv_heads in (has.kv_heads * factor, has.kv_heads)
    # A tied head sums the copies; without a last norm's weight nothing could divide the sum.
    divisible = factor == 1 or not has.tie_embeddings or (has.norm_affine and has.norm_placement == "pre")
    return whole and same and divisible


def pads(has: DecoderConfig, asked: DecoderConfig) -> bool:
    """Whether the stream can be padded: a norm with a weight must stand before each part and before the head, and the
    heads of queries for one of keys must stay as many."""
    if asked.n_heads * has.kv_heads != has.n_heads * asked.kv_heads:
        return False
    if asked.d_model == has.d_model:
        return True
    return has.norm_affine and has.norm_placement == "pre" and not (has.embed_norm and has.norm == "layer")


def _larger(has: ModelConfig, asked: ModelConfig) -> bool:
    if not (isinstance(has, DecoderConfig) and isinstance(asked, DecoderConfig)):
        return True  # another family keeps its shape, which `_may_differ` saw to
    return clones(has, asked) or pads(has, asked)


def _may_differ(name: str, has: ModelConfig, asked: ModelConfig, grow: bool) -> bool:
    before, after = getattr(has, name), getattr(asked, name)
    decoders = isinstance(has, DecoderConfig) and isinstance(asked, DecoderConfig)
    if name == "context":
        free = isinstance(asked, DecoderConfig) and asked.position == "rope"
        return free or bool(after < before) or (grow and decoders)
    if not (isinstance(has, DecoderConfig) and decoders):
        return False
    if name == "n_layers":  # a block that adds nothing is the identity only where no norm comes after it
        return grow and bool(after > before) and has.norm_placement == "pre"
    return grow and name in WIDTHS and bool(after > before)
