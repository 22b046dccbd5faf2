"""How often each training text is learnt from: by source, by kind, and by how many copies of it there were.

A weight of 2.5 means twice, and a third time for that half of the texts which the record ids and the seed choose; one
of .3 keeps three texts in ten. So the choice hangs neither on order nor on what else there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lmcore.config import Params
from lmcore.curate.ids import Ids
from lmcore.curate.words import mixed

RULE = "mix"
# FineWeb-2 (Penedo and others 2025, arXiv 2506.20920): texts that were copied often are better ones, up to a point
_REHYDRATION = ((1, 1.0), (2, 2.0), (3, 3.0), (5, 5.0), (100, 8.0), (1000, 1.0))

Weight = Annotated[float, Field(ge=0, le=100)]


class MixParams(Params):
    """How often texts are learnt from."""

    sources: dict[str, Weight] = Field(default={}, description="Weight by source; 1 where none is given.")
    kinds: dict[str, Weight] = Field(default={}, description="Weight by kind of text; 1 where none is given.")
    rehydrate: bool = Field(
        default=False,
        description="Texts of which there were 2, 3, 5 or 100 copies count 2, 3, 5 or 8 times, those of 1,000 once.",
    )
    max_repeats: int = Field(default=4, ge=1, le=100, description="A text is learnt from at most this often.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Another seed chooses other texts for broken weights.")

    @property
    def is_plain(self) -> bool:
        """Whether every text counts once."""
        return not self.rehydrate and all(weight == 1 for weight in (*self.sources.values(), *self.kinds.values()))


def rehydration(cluster_size: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The weight of texts of which there are so many copies, each itself included."""
    steps = np.array([size for size, _ in _REHYDRATION])
    weights = np.array([weight for _, weight in _REHYDRATION])
    found: NDArray[np.float64] = weights[np.searchsorted(steps, np.maximum(cluster_size, 1), side="right") - 1]
    return found


def weights(
    params: MixParams,
    names: Mapping[str, Sequence[str]],
    source: NDArray[np.integer[Any]],
    kind: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """The weight of each of N texts, `source` and `kind` (N,) of which are places in the `names` of these two."""
    by_source = np.array([params.sources.get(name, 1.0) for name in names["source"]], np.float64)
    by_kind = np.array([params.kinds.get(name, 1.0) for name in names["kind"]], np.float64)
    if (by_source == 1).all() and (by_kind == 1).all():
        return np.broadcast_to(np.float64(1), len(source))  # one number, however many texts there are
    found: NDArray[np.float64] = by_source[source] * by_kind[kind]
    return found


def repeats(
    params: MixParams,
    ids: Ids,
    weight: NDArray[np.float64],
    cluster_size: NDArray[np.integer[Any]],
) -> NDArray[np.int64]:
    """How often each of N training texts of these `weights` is learnt from; 0 for one that is left out."""
    if params.rehydrate:
        weight = weight * rehydration(cluster_size)
    weight = np.minimum(weight, params.max_repeats)
    whole = np.floor(weight)
    found: NDArray[np.int64] = (whole + (_draw(ids, params.seed) < weight - whole)).astype(np.int64)
    return found


def _draw(ids: Ids, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each id."""
    first = np.frombuffer(ids.astype("S16").tobytes(), ">u8")[::2].astype(np.uint64)
    return (mixed(first + np.uint64(seed)) >> np.uint64(11)).astype(np.float64) / 2.0**53
