"""Q8_0 and Q4_0 files: their blocks, their error, and what it costs in bits per byte."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lai_made import HELLO, lai_folder, lai_model, lai_tokenizer
from lai_numpy import LAi, unpack_q4_0, unpack_q8_0

from lmcore.evaluate.likelihood import score_documents, summarise
from lmcore.export.lai import write_lai, write_quantised
from lmcore.export.lai_error import quantisation_error
from lmcore.export.lai_format import DType
from lmcore.export.lai_quant import dequantise, quantise
from lmcore.export.lai_reader import read_lai
from lmcore.generate.load import load
from storage.errors import RunError

UNPACK = {DType.Q8_0: unpack_q8_0, DType.Q4_0: unpack_q4_0}
numbers = arrays(np.float32, (2, 64), elements=st.floats(-100, 100, width=32, allow_subnormal=False))


@pytest.fixture(scope="module")
def tokenizer():
    return lai_tokenizer()


def lai2(data, dtype):
    """LAi2's training/quantize.py in so many words: block by block."""
    result = bytearray()
    for i in range(0, len(data), 32):
        block = data[i : i + 32]
        amax = np.max(np.abs(block))
        d = amax / (7.0 if dtype == DType.Q4_0 else 127.0) if amax > 0 else 1.0
        q = np.clip(np.round(block / d), *((-8, 7) if dtype == DType.Q4_0 else (-128, 127))).astype(np.int8)
        result += np.float16(d).tobytes()
        if dtype == DType.Q8_0:
            result += q.tobytes()
            continue
        for j in range(16):
            result += struct.pack("B", (int(q[2 * j] + 8) & 15) | ((int(q[2 * j + 1] + 8) & 15) << 4))
    return bytes(result)


@pytest.mark.parametrize("dtype", list(UNPACK))
@given(matrix=numbers)
def test_blocks_are_those_of_lai2_and_come_back(dtype, matrix):
    content = quantise(matrix, dtype)
    assert content == lai2(matrix.ravel(), dtype)
    assert len(content) == matrix.size // 32 * dtype.block_bytes
    back = dequantise(content, matrix.shape, dtype)
    np.testing.assert_allclose(back.ravel(), UNPACK[dtype](content), rtol=1e-6, atol=0)
    largest = np.abs(matrix.reshape(-1, 32)).max(1, keepdims=True)
    step = largest / (127 if dtype == DType.Q8_0 else 7)
    # half a step, the scale's rounding to 11 bits, and the least f16
    bound = step / 2 + largest * 2**-11 + 127 * 2.0**-25
    assert (np.abs(back - matrix).reshape(-1, 32) <= bound * 1.0001).all()


@pytest.mark.parametrize("dtype", list(UNPACK))
def test_numbers_beyond_a_scale_are_refused(dtype):
    for wrong in (np.nan, np.inf, 3e38):
        with pytest.raises(RunError, match="cannot be quantised"):
            quantise(np.full((1, 32), wrong, dtype=np.float32), dtype)


@pytest.mark.parametrize("dtype", list(UNPACK))
def test_a_quantised_file_is_read_alike_by_both(dtype, tokenizer, tmp_path):
    path = tmp_path / "q.bin"
    model = lai_model(tokenizer.vocab_size, n_kv_heads=2, tie_embeddings=False)
    header = write_lai(path, model, tokenizer, dtype)
    assert header.file_bytes == path.stat().st_size
    copy, found = LAi(path), read_lai(path)
    assert copy.dtype == {DType.Q4_0: 2, DType.Q8_0: 3}[dtype]
    for ours in ("embed.weight", "head.weight", "norm.weight", "blocks.1.attn_norm.weight"):  # these stay f32
        assert torch.equal(found.model.state_dict()[ours], model.state_dict()[ours])
    ids = [tokenizer.bos_id, *tokenizer.encode(HELLO)][:40]
    with torch.inference_mode():
        given = found.model(torch.tensor([ids]))[0].double().numpy()
        exact = model(torch.tensor([ids]))[0].double().numpy()
    assert np.abs(copy.logits(ids) - given).max() < 1e-4
    assert np.abs(given - exact).max() > 1e-3
    assert copy.greedy(ids[:12], 20) == [int(i) for i in _greedy(found.model, ids[:12], 20)]
    told = found.facts
    assert told["dtype"] == dtype.name
    assert told["numbers_quantised"] == 3 * (64 * 64 * 2 + 2 * 32 * 64 + 3 * 64 * 96)


def _greedy(model, ids, count):
    ids = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


def test_the_error_is_told_by_tensor_and_in_bits_per_byte(tokenizer, tmp_path):
    model = lai_model(tokenizer.vocab_size)
    texts = [HELLO, "Őszi szél fújja a sárga leveleket; jó reggelt kívánok!"]
    reports = {
        dtype: quantisation_error(model, dtype, tokenizer=tokenizer, texts=texts) for dtype in (*UNPACK, DType.F32)
    }
    assert reports[DType.F32]["relative_error"] == 0.0
    assert reports[DType.F32]["bits_per_byte"]["change_percent"] == 0.0
    for dtype, low, high in ((DType.Q8_0, 0.002, 0.01), (DType.Q4_0, 0.05, 0.15)):
        report = reports[dtype]
        assert low < report["relative_error"] <= report["largest_relative_error"] < high
        assert len(report["tensors"]) == 3 * 7
        assert report["documents"] == 2
        path = tmp_path / "q.bin"
        write_lai(path, model, tokenizer, dtype)
        weight = "blocks.2.mlp.down.weight"
        before, after = model.state_dict()[weight], read_lai(path).model.state_dict()[weight]
        error = float((after - before).double().norm() / before.double().norm())
        assert report["tensors"]["layers.2.down"] == pytest.approx(error, rel=1e-6)
        before, after = (
            summarise(score_documents(one, tokenizer, texts, context=64))["bits_per_byte"]
            for one in (model, read_lai(path).model)
        )
        assert report["bits_per_byte"]["F32"] == before
        assert report["bits_per_byte"][dtype.name] == after != before
        assert report["bits_per_byte"]["change_percent"] == pytest.approx(100 * (after - before) / before)
    zero = lai_model(tokenizer.vocab_size)
    with torch.no_grad():
        zero.blocks[0].mlp.down.weight.zero_()
    assert quantisation_error(zero, DType.Q4_0)["tensors"]["layers.0.down"] == 0.0


def test_a_quantised_layout_tells_its_error_beside_it(tokenizer, tmp_path):
    folder = lai_folder(tmp_path / "train", tokenizer)
    paths, report = write_quantised(folder, tmp_path / "out", DType.Q8_0, texts=[HELLO])
    assert [path.name for path in paths] == ["lai-tiny-q8_0.bin", "lai-tiny-q8_0.json"]
    assert json.loads(paths[1].read_text()) == report
    assert report["bytes"] == paths[0].stat().st_size < report["bytes_f32"]
    assert load(paths[0]).info()["file"]["dtype"] == "Q8_0"
