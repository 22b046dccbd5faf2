"""A file of LAi's that is truncated, garbled or somebody's joke is one clear error, and costs no memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lai_made import lai_model, lai_tokenizer

from lmcore.export.lai import write_lai
from lmcore.export.lai_format import DType, Header
from lmcore.export.lai_reader import read_lai
from lmcore.generate.load import load
from storage.errors import RunError, UserError

# The field's offset, its format, a value, and what is said of it.
FIELDS = [
    (0, "4s", b"LAi2", "begins with b'LAi2'"),
    (4, "I", 2, "version is 2"),
    (8, "i", -64, "dim -64"),
    (8, "i", 33, "do not divide"),
    (8, "i", 66, "not whole blocks"),
    (8, "i", 2**31 - 64, "d_model"),
    (16, "i", 2**31 - 1, "n_layers"),
    (16, "i", 512, "its header says"),
    (20, "i", 0, "heads 0"),
    (24, "i", 3, "do not divide"),
    (28, "i", 2**31 - 1, "its header says"),
    (32, "i", 0, "max_seq 0"),
    (36, "f", float("nan"), "rope_theta"),
    (40, "f", -1.0, "norm_eps"),
    (44, "i", 1, "activation is 1"),
    (48, "B", 1, "F16"),
    (48, "B", 3, "its header says"),
    (48, "B", 200, "dtype is 200"),
    (49, "Q", 0, "at 0, not at 256"),
    (57, "Q", 2**64 - 1, "its header says"),
    (57, "Q", 300, "its header says"),
    (65, "B", 7, "not zero"),
    (256, "I", 0, "not with b'VIAL'"),
    (264, "I", 2**32 - 1, "claims"),
]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    tokenizer = lai_tokenizer(vocab_size=300)
    path = tmp_path_factory.mktemp("lai") / "m.bin"
    write_lai(path, lai_model(tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, d_ff=32), tokenizer, DType.Q8_0)
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "m.bin"


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_lai(path)
    assert str(path) in error.value.what
    assert "\n" not in error.value.what
    assert len(error.value.what) < 600
    return error.value.what


@pytest.mark.parametrize(("at", "form", "value", "told"), FIELDS)
def test_a_wrong_field_is_named(content, path, at, form, value, told):
    packed = struct.pack(f"<{form}", value)
    if (at, value) == (48, 3):  # this file is Q8_0: as F32 it is too short
        packed = b"\0"
    assert told in refused(path, content[:at] + packed + content[at + len(packed) :])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(content, path, data):
    refused(path, content[: data.draw(st.integers(0, len(content) - 1))])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(more=st.binary(min_size=1, max_size=50))
def test_bytes_too_many_are_refused(content, path, more):
    refused(path, content + more)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_garbled_bytes_are_a_model_or_one_error(content, path, data):
    vocabulary = Header.unpack(content[:256]).weights_offset
    garbled = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        last = data.draw(st.sampled_from([65, 256, vocabulary, len(content)]))
        garbled[data.draw(st.integers(0, last - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(garbled)
    try:
        found = read_lai(path)
    except UserError:
        refused(path, garbled)
    else:
        assert found.facts["bytes"] == len(content)
        assert found.model.vocab_size == found.tokenizer.vocab_size


@settings(deadline=None)
@given(rest=st.binary(max_size=400))
def test_anything_after_the_magic_is_refused(path, rest):
    refused(path, b"LAi1" + rest)


def test_numbers_that_are_none_are_named(content, path):
    infinity = content[:-4] + struct.pack("<f", float("inf"))
    assert "layers.0.ffn_norm holds NaN or infinity" in refused(path, infinity)


def test_lai_s_own_older_vocabulary_is_told_apart(content, path):
    """LAi's first program wrote byte 128 as two bytes of UTF-8."""
    at = content.index(b"\x01\0\0\0\x80", 256)
    header = Header.unpack(content[:256])
    moved = struct.pack("<Q", header.weights_offset + 1)
    older = content[:at] + b"\x02\0\0\0\xc2\x80" + content[at + 5 :]
    assert "its bytes are not bytes" in refused(path, older[:57] + moved + older[65:])


def test_load_tells_a_file_that_is_no_model(content, path, tmp_path):
    path.write_bytes(content)
    assert load(path).info()["file"]["dtype"] == "Q8_0"
    for wrong in (b"", b"LAi", b"\x80\x04pickled"):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="no model file that this program reads"):
            load(path)
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none.bin")
    with pytest.raises((UserError, RunError)):
        load(tmp_path)
