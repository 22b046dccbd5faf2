"""What a quantised LAi file loses: the error of every matrix, and the change in bits per byte of held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmcore.evaluate.likelihood import score_documents, summarise
from lmcore.export.lai_format import DType
from lmcore.export.lai_quant import Floats, dequantise, quantise
from lmcore.export.lai_tensors import file_tensors, header_of, model_of
from lmcore.models.decoder import Decoder
from lmcore.tokenizer import Tokenizer


def quantisation_error(
    model: Decoder, dtype: DType, *, tokenizer: Tokenizer | None = None, texts: Sequence[str] = ()
) -> dict[str, Any]:
    """What a file of `dtype` loses of `model`, as plain JSON.

    `tensors`: relative error |W' - W| / |W| (Frobenius; 0 for a matrix of zeros) of every matrix of the layers,
    `relative_error` that of all of them together. With a tokenizer and `texts`, held-out documents, `bits_per_byte`
    before and after and the change in percent. Raises UserError for a shape that the file has no place for, RunError
    as `quantise` does.
    """
    header = header_of(model.config, model.vocab_size, dtype)
    errors: dict[str, float] = {}
    lost = whole = 0.0
    read: dict[str, Tensor] = {}
    for entry, (name, tensor) in zip(header.entries(), file_tensors(model), strict=True):
        read[name] = tensor
        if entry.dtype != DType.F32:
            before = tensor.numpy()
            after = dequantise(quantise(before, dtype), entry.shape, dtype)
            read[name] = torch.from_numpy(after)
            difference, norm = _square(after - before), _square(before)
            errors[name] = (difference / norm) ** 0.5 if norm else 0.0
            lost, whole = lost + difference, whole + norm
    found: dict[str, Any] = {
        "dtype": dtype.name,
        "relative_error": (lost / whole) ** 0.5 if whole else 0.0,
        "largest_relative_error": max(errors.values(), default=0.0),
        "tensors": errors,
    }
    if tokenizer is not None and texts:
        context = model.config.context
        exact, rounded = (
            summarise(score_documents(one, tokenizer, texts, context=context))["bits_per_byte"]
            for one in (model, model_of(model.config, read))
        )
        found["bits_per_byte"] = {"F32": exact, dtype.name: rounded, "change_percent": 100 * (rounded / exact - 1)}
        found["documents"] = len(texts)
    return found


def _square(numbers: Floats) -> float:
    return float(np.square(numbers, dtype=np.float64).sum())
