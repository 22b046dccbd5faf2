"""`LAi1` files: their bytes, what other programs compute from them, what they have no place for.

The numbered names are those of the owner's checks in LAi's fact sheet.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from lai_made import HELLO, lai_folder, lai_model, lai_tokenizer
from lai_numpy import LAi, read_vocab

from lmcore.export.check import greedy_continuation
from lmcore.export.lai import SIZES, size_name, write_lai, write_layout
from lmcore.export.lai_format import DType
from lmcore.export.lai_reader import read_lai
from lmcore.export.lai_tensors import header_of
from lmcore.generate.engine import generate
from lmcore.generate.load import load
from lmcore.generate.sampling import make_sampling
from lmcore.models import DecoderConfig, estimate
from lmcore.tokenizer import ByteBPE
from storage.errors import UserError

LAI = {"qk_norm": False}
VARIANTS = {
    "tied": {},
    "untied": {"tie_embeddings": False},
    "grouped": {"n_kv_heads": 2, "rope_theta": 5e5, "norm_eps": 1e-6},
    "one key head, dropout": {"n_kv_heads": 1, "dropout": 0.1, "context": 80},
}


@pytest.fixture(scope="module")
def tokenizer():
    return lai_tokenizer()


@pytest.fixture(scope="module", params=VARIANTS)
def written(request, tokenizer, tmp_path_factory):
    """(path, model) of each variant."""
    path = tmp_path_factory.mktemp("lai") / "model.bin"
    model = lai_model(tokenizer.vocab_size, **VARIANTS[request.param])
    write_lai(path, model, tokenizer)
    return path, model


def test_1_vocab_bin_parses_to_its_end(tokenizer, tmp_path):
    _, path = write_layout(lai_folder(tmp_path / "train", tokenizer), tmp_path / "out", name="lai-tiny")
    assert path == tmp_path / "out" / "data" / "vocab.bin"
    content = path.read_bytes()
    assert struct.unpack_from("I", content, 8)[0] == tokenizer.vocab_size  # the document's own check
    tokens, _, end = read_vocab(content)
    assert end == len(content)
    assert tokens[:4] == [b"<pad>", b"<bos>", b"<eos>", b"<unk>"]
    assert tokens[4:260] == [bytes([byte]) for byte in range(256)]
    assert max(len(token.decode()) for token in tokens[260:]) <= 20


def test_3_counts_and_sizes_are_those_of_the_sheet():
    def tiny(vocab_size):
        config = DecoderConfig(n_layers=8, d_model=384, n_heads=6, d_ff=1536, context=512, **LAI)
        return estimate(config, vocab_size).total, header_of(config, vocab_size)

    parameters, header = tiny(8000)
    assert (parameters, header.file_bytes) == (21_952_896, 100_099_840)
    assert header.weights_bytes == sum(entry.bytes for entry in header.entries()) == 100_099_840 - 256
    parameters, header = tiny(1409)
    assert parameters == 19_421_952
    assert f"{header.file_bytes / 1e6:.1f}" == "79.9"
    assert tiny(7698)[1].file_bytes == 99_172_096
    for layers, width, hidden, heads, numbers in ((12, 512, 2048, 8, 83_112_448), (16, 768, 3072, 12, 200_172_288)):
        config = DecoderConfig(n_layers=layers, d_model=width, n_heads=heads, d_ff=hidden, context=512, **LAI)
        assert header_of(config, 32000).weights_bytes == 4 * numbers
        untied = config.model_copy(update={"tie_embeddings": False})
        assert estimate(untied, 32000).total == numbers


def test_3_the_size_that_is_told_is_the_file_s(written):
    path, model = written
    told = read_lai(path).facts
    assert told["bytes"] == path.stat().st_size
    assert told["bytes"] == 256 + told["vocab_bytes"] + told["weights_bytes"]
    rows = model.vocab_size * model.config.d_model
    assert told["numbers"] == model.ledger().total + (rows if model.config.tie_embeddings else 0)


def test_5_the_header_is_byte_for_byte_the_sheet_s(written, tokenizer):
    path, model = written
    content, config = path.read_bytes(), model.config
    theta, eps = config.rope_theta, config.norm_eps
    header = b"LAi1" + struct.pack("<I", 1)
    header += struct.pack("<7i", 64, 96, 3, 4, config.kv_heads, tokenizer.vocab_size, config.context)
    header += struct.pack("<ffiB", theta, eps, 0, 0)
    vocabulary = tokenizer.files()["vocab.bin"]
    header += struct.pack("<QQ", 256, 256 + len(vocabulary))
    assert len(header) == 65
    assert content[:256] == header + bytes(191)
    assert content[256 : 256 + len(vocabulary)] == vocabulary


def test_5_an_independent_reader_computes_the_same(written, tokenizer):
    path, model = written
    copy = LAi(path)
    ids = [tokenizer.bos_id, *tokenizer.encode(HELLO)][:40]
    with torch.inference_mode():
        wanted = model(torch.tensor([ids]))[0].double().numpy()
    assert np.std(wanted) > 1
    assert np.abs(copy.logits(ids) - wanted).max() < 1e-4
    start = ids[:12]
    assert copy.greedy(start, 50) == greedy_continuation(model, start, 50)


def test_the_convention_of_rotary_positions_matters(written, tokenizer):
    """What the reader above would compute, were the rows of queries and keys written as we hold them."""
    path, model = written
    copy = LAi(path)
    config = model.config
    half = config.head_width // 2
    for layer in copy.layers:
        for at, heads in ((0, config.n_heads), (1, config.kv_heads)):
            rows = layer[at].reshape(heads, half, 2, -1)
            layer[at] = rows.swapaxes(1, 2).reshape(layer[at].shape)
    ids = [tokenizer.bos_id, *tokenizer.encode(HELLO)][:40]
    with torch.inference_mode():
        wanted = model(torch.tensor([ids]))[0].double().numpy()
    assert np.abs(copy.logits(ids) - wanted).max() > 0.1


def test_what_is_read_back_is_exactly_the_model(written, tokenizer):
    path, model = written
    found = read_lai(path)
    for (name, one), (other, two) in zip(found.model.state_dict().items(), model.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(one, two)
    assert found.model.config == model.config.model_copy(
        update={"dropout": 0.0, "zero_init_projections": True, "tie_embeddings": model.config.tie_embeddings}
    )
    ids = torch.tensor([tokenizer.encode(HELLO)[:40]])
    with torch.inference_mode():
        assert torch.equal(found.model(ids), model(ids))
    for text in (HELLO, "árvíztűrő tükörfúrógép", "🙂 \u0301e\u0301", "\x00\x7f"):
        assert found.tokenizer.encode(text) == tokenizer.encode(text)
        assert found.tokenizer.decode(found.tokenizer.encode(text)) == text


def test_a_file_is_a_model_to_talk_to(written, tokenizer):
    path, model = written
    loaded = load(path)
    assert loaded.release is None
    for sampling in ({"temperature": 0}, {"seed": 3}):
        wanted = generate(model, tokenizer, "Hello", make_sampling(max_tokens=8, **sampling)).text
        assert loaded.generate("Hello", max_tokens=8, **sampling) == wanted
    assert isinstance(loaded.chat([{"role": "user", "content": "Hello"}], max_tokens=5), str)
    assert len(loaded.logprobs(HELLO)) == len(tokenizer.encode(HELLO))


def test_7_info_is_of_the_loaded_file(written):
    path, model = written
    info = load(path).info()
    assert info["path"] == str(path)
    assert info["parameters"] == model.ledger().total
    assert info["model"] == read_lai(path).model.config.model_dump(mode="json")
    file, config = info["file"], model.config
    assert (file["format"], file["dtype"], file["numbers_quantised"]) == ("LAi1", "F32", 0)
    assert file["header"] == {
        "dim": config.d_model,
        "hidden": config.ff_width,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "kv_heads": config.kv_heads,
        "vocab": model.vocab_size,
        "max_seq": config.context,
        "rope_theta": config.rope_theta,
        "eps": struct.unpack("<f", struct.pack("<f", config.norm_eps))[0],
        "activation": 0,
        "dtype": 0,
        "vocab_offset": 256,
        "weights_offset": 256 + file["vocab_bytes"],
    }


def test_the_layout_has_the_document_s_names(tokenizer, tmp_path):
    folder = lai_folder(tmp_path / "train", tokenizer)
    assert write_layout(folder, tmp_path / "out") == [
        tmp_path / "out" / "models" / "lai-tiny.bin",
        tmp_path / "out" / "data" / "vocab.bin",
    ]
    assert write_layout(folder, tmp_path / "out", name="mine")[0] == tmp_path / "out" / "models" / "mine.bin"
    for name, (layers, width, heads) in SIZES.items():
        assert size_name(DecoderConfig(n_layers=layers, d_model=width, n_heads=heads)) == name
    # a file can be laid out again, to the byte
    again = write_layout(tmp_path / "out" / "models" / "lai-tiny.bin", tmp_path / "again")
    for path in again:
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "again")).read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"qk_norm": True}, "model.qk_norm: true"),
        ({"position": "learned"}, "model.position: learned"),
        ({"norm": "layer"}, "model.norm: layer"),
        ({"mlp": "gelu"}, "model.mlp: gelu"),
        ({"mlp": "relu2"}, "model.mlp: relu2"),
        ({"bias": True}, "model.bias: true"),
        ({"embed_norm": True}, "model.embed_norm: true"),
        ({"logit_softcap": 15.0}, r"model.logit_softcap: 15\.0"),
        ({"head_dim": 24}, "model.head_dim 24"),
        ({"rope_theta": 10000.0001}, "model.rope_theta: 10000.0001"),
    ],
)
def test_a_shape_that_the_file_cannot_say_is_refused_by_its_option(options, named, tokenizer, tmp_path):
    model = lai_model(tokenizer.vocab_size, **options)
    with pytest.raises(UserError, match=named) as error:
        write_lai(tmp_path / "model.bin", model, tokenizer)
    assert "\n  to mend: " in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_option_that_comes_later_is_refused_unless_it_is_off():
    class Later(DecoderConfig):
        crystal: float = 0.0

    assert header_of(Later(**LAI), 300) == header_of(DecoderConfig(**LAI), 300)
    with pytest.raises(UserError, match=r"model\.crystal: 0\.5"):
        header_of(Later(crystal=0.5, **LAI), 300)


def test_quantised_rows_are_whole_blocks_or_refused(tokenizer, tmp_path):
    model = lai_model(tokenizer.vocab_size, d_ff=100)
    write_lai(tmp_path / "model.bin", model, tokenizer)
    with pytest.raises(UserError, match=r"model\.d_ff is 100"):
        write_lai(tmp_path / "q.bin", model, tokenizer, DType.Q8_0)


def test_a_vocabulary_that_the_file_cannot_say_is_refused(tokenizer, tmp_path):
    plain = ByteBPE.train([HELLO], vocab_size=270, split="gpt2", min_frequency=2, max_token_length=20)
    with pytest.raises(UserError, match="kind of vocabulary"):
        write_lai(tmp_path / "m.bin", lai_model(plain.vocab_size), plain)
    words = lai_tokenizer(split="llama3", vocab_size=400)
    with pytest.raises(UserError, match="cross_words: false"):
        write_lai(tmp_path / "m.bin", lai_model(words.vocab_size), words)
    with pytest.raises(UserError, match="rows of the embedding"):
        write_lai(tmp_path / "m.bin", lai_model(tokenizer.vocab_size + 1), tokenizer)
