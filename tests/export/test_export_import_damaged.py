"""Foreign folders that are damaged, made up or changed on the way: whatever bytes, an error of this program's own."""

from __future__ import annotations

import json
import random
import shutil
import struct

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export_import import shake, tiny_gpt2, tiny_llama, vocabulary

from lmcore.export.hf_folder import open_folder
from lmcore.export.hf_import import import_hf
from lmcore.models.decoder import Decoder
from lmcore.tokenizer import load_tokenizer
from storage.errors import CollectTrainError, RunError, UserError

JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json")
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70000), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["linear", "llama3", "gpt2", "relu", "BPE", "Split", "Removed", "ByteLevel", "NFC", "../x", "a"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A GPT-2 in one file and a Llama in several, as transformers saves them."""
    root = tmp_path_factory.mktemp("folders")
    for name, model in (("gpt2", tiny_gpt2(270)), ("llama", tiny_llama(270))):
        shake(model).save_pretrained(root / name, max_shard_size="60kB" if name == "llama" else "1GB")
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=vocabulary(270), bos_token="<|endoftext|>")
        fast.save_pretrained(root / name)
        import_hf(root / name)  # they are whole
    assert (root / "llama" / "model.safetensors.index.json").exists()
    return root


@pytest.fixture
def copied(originals, tmp_path):
    def copy(name="llama"):
        return shutil.copytree(originals / name, tmp_path / "copy", dirs_exist_ok=True)

    return copy


def places(value, way=()):
    """Every place in a JSON value, as the keys that lead there."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*way, key))


def changed(value, way, put):
    """The value with `put` at a place, or without the place when `put` is ..."""
    if not way:
        return None if put is ... else put
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(way) == 1 and put is ...:
        del copy[way[0]]
    else:
        copy[way[0]] = changed(copy[way[0]], way[1:], put)
    return copy


def outcome(path, read=import_hf):
    """The error of this program's own kind that the folder gives, None when it can be read; any other is raised."""
    try:
        read(path)
    except CollectTrainError as error:
        return error
    return None


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_its_json_gives_an_error_of_our_own(originals, tmp_path_factory, shape, data):
    path = shutil.copytree(originals / shape, tmp_path_factory.mktemp("one") / "copy")
    name = data.draw(st.sampled_from([name for name in JSON_FILES if (path / name).exists()]))
    whole = json.loads((path / name).read_text())
    ways = list(places(whole))
    if name == "tokenizer.json":  # nine tenths of it are the vocabulary
        ways = [way for way in ways if "vocab" not in way and "merges" not in way] * 3 + ways[-400:]
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(ways))
        put = data.draw(st.just(...) | VALUES)
        try:
            whole = changed(whole, way, put)
        except (KeyError, IndexError, TypeError):  # the first change has taken it away
            continue
    (path / name).write_text(json.dumps(whole))
    outcome(path)
    shutil.rmtree(path.parent)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_stored_vocabulary_gives_an_error_of_our_own(originals, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("stored")
    whole = json.loads(import_hf(originals / "gpt2").tokenizer.to_json())
    ways = [way for way in places(whole) if "vocab" not in way and "merges" not in way]
    whole = changed(whole, data.draw(st.sampled_from(ways)), data.draw(st.just(...) | VALUES))
    (path / "tokenizer.json").write_text(json.dumps(whole))
    outcome(path, load_tokenizer)
    shutil.rmtree(path)


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_in_any_file_give_an_error_of_our_own(originals, tmp_path_factory, shape, data):
    path = shutil.copytree(originals / shape, tmp_path_factory.mktemp("one") / "copy")
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = file.read_bytes()
    at = data.draw(st.integers(0, min(len(content), data.draw(st.sampled_from([12, 2000, len(content)])))))
    length = data.draw(st.sampled_from([0, 1, 8, len(content)]))
    file.write_bytes(content[:at] + data.draw(st.binary(max_size=20)) + content[at + length :])
    outcome(path)
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads: Input should be greater than or equal to 1"),
        ({"num_attention_heads": "4"}, "num_attention_heads: Input should be a valid integer"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters: .*other parameters for some"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layers of type 'sliding_attention'"),
        ({"rms_norm_eps": 0}, "norm_eps"),
        ({"hidden_size": 65536, "intermediate_size": 2**24, "num_hidden_layers": 512}, "do not fit its config.json"),
        ({"vocab_size": 2**24}, "270 tokens and the model beside it 16,777,216"),
        ({"vocab_size": True}, "vocab_size: Input should be a valid integer"),
        ({"model_type": ["llama"]}, "model_type: Input should be a valid string"),
    ],
)
def test_what_is_wrong_in_a_config_is_named_before_a_model_of_that_size_is_made(copied, change, told):
    path = copied()
    values = json.loads((path / "config.json").read_text()) | change
    (path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CollectTrainError, match=told):
        import_hf(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "cannot be read"),
        (b'{"weight_map": []}', "weight_map: Input should be an object"),
        (b'{"weight_map": {}}', "weight_map: Dictionary should have at least 1 item"),
        (b'{"weight_map": {"a": 1}}', r"weight_map\.a: Input should be a valid string"),
        (b'{"weight_map": {"a": "../model.safetensors"}}', "no safetensors file beside it"),
        (b'{"weight_map": {"a": "lost.safetensors"}}', "lost.safetensors is missing"),
    ],
)
def test_what_is_wrong_in_an_index_is_named(copied, content, told):
    path = copied()
    (path / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(CollectTrainError, match=told):
        import_hf(path)


def test_a_tensor_in_two_files_is_refused(copied):
    path = copied()
    first, second = sorted(path.glob("*.safetensors"))[:2]
    shutil.copyfile(first, second)
    with pytest.raises(RunError, match="two of its files hold "):
        import_hf(path)


def test_a_file_that_changes_after_it_was_hashed_is_refused(copied):
    path = copied()
    opened = open_folder(path)
    first = sorted(path.glob("*.safetensors"))[0]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    first.write_bytes(content)
    with pytest.raises(RunError, match="changed while it was read"):
        import_hf(opened)
    (path / "config.json").write_text("{}")  # was read once, and is not looked at again
    (path / "tokenizer.json").write_text("{}")
    first.write_bytes(bytes(content[:-1]) + bytes([content[-1] ^ 1]))
    assert isinstance(import_hf(opened).model, Decoder)


@pytest.mark.parametrize("shape", [[270, 47], [270], [], [1, 270, 48]])
def test_a_tensor_of_another_shape_is_named(copied, shape):
    from safetensors.torch import load_file, save_file

    path = copied("gpt2")
    tensors = load_file(path / "model.safetensors")
    for name in ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"):
        save_file(tensors | {name: torch.zeros(shape)}, path / "model.safetensors")
        with pytest.raises(RunError, match=r"do not fit its config\.json"):
            import_hf(path)


def test_numbers_that_are_quantised_are_refused(copied):
    from safetensors.torch import load_file, save_file

    path = copied("gpt2")
    tensors = load_file(path / "model.safetensors")
    name = "transformer.h.0.mlp.c_fc.weight"
    for kind in (torch.int8, torch.float8_e4m3fn):
        save_file(tensors | {name: tensors[name].to(kind)}, path / "model.safetensors")
        with pytest.raises(UserError, match="quantised weights cannot be trained on"):
            import_hf(path)


def test_a_header_that_names_a_strange_number_format_is_an_error(copied):
    path = copied("gpt2")
    header = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    with pytest.raises(RunError, match=r"model\.safetensors is truncated or damaged"):
        import_hf(path)


def test_random_files_in_place_of_the_real_ones(copied):
    seed = random.randrange(2**32)
    print("seed", seed)
    numbers = random.Random(seed)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path = copied("gpt2")
        for length in (0, 1, 7, 8, 9, 1000):
            (path / name).write_bytes(numbers.randbytes(length))
            assert outcome(path) is not None
