"""Hugging Face folders as models to talk to: every export of ours, and what transformers made."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from byte_engine import byte_engine
from safetensors.torch import load_file, save_file
from test_export_import import shake, tiny_gpt2, tiny_llama

from lmcore.export.architectures import stock_architecture
from lmcore.export.hf import write_hf
from lmcore.generate.load import load
from lmcore.models import build, save_model
from lmcore.models.config import DecoderConfig
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.plain_bytes import PlainBytes
from lmcore.tokenizer.word_bpe import WordBPE
from lmcore.tokenizer.words import Words
from storage.errors import CollectTrainError, UserError

GREEDY = {"temperature": 0, "max_tokens": 12}
TEXT = "the hero went home again, and the old river sang"


def exported(trained, to):
    write_hf(to, trained.model, trained.tokenizer, (trained.path / "tokenizer.json").read_bytes(), name="one")
    return load(to)


def test_an_export_of_every_shape_says_what_the_model_says(shape, make_trained, tmp_path):
    architecture, options = shape
    trained = load(make_trained(**options))
    copy = exported(trained, tmp_path / "hf")
    told = trained.generate("The hero", **GREEDY)
    assert copy.generate("The hero", **GREEDY) == told != ""
    file, ours = copy.info()["file"], trained.info()
    assert (file["format"], file["architecture"], file["dtype"]) == ("Hugging Face", architecture, "F32")
    assert file["bytes"] == (tmp_path / "hf/model.safetensors").stat().st_size
    assert copy.info()["tokenizer"] == ours["tokenizer"]
    assert copy.tokenizer.specials == trained.tokenizer.specials
    assert (ours["file"]["format"], ours["file"]["dtype"]) == ("collect-train", "F32")


@pytest.mark.parametrize("kind", ["bytes", "char_bpe", "word_bpe", "words"])
def test_an_export_with_a_vocabulary_of_every_kind(kind, tmp_path):
    tokenizer = {
        "bytes": PlainBytes,
        "char_bpe": lambda: CharBPE.train(
            lambda: iter([TEXT] * 9), vocab_size=300, split=None, min_frequency=2, max_token_length=9
        ),
        "word_bpe": lambda: WordBPE.train(lambda: iter([TEXT] * 9), vocab_size=80, min_frequency=2, max_token_length=9),
        "words": lambda: Words.train(
            iter([TEXT] * 9), vocab_size=40, min_frequency=1, max_token_length=9, order="count"
        ),
    }[kind]()
    model = build(DecoderConfig(n_layers=2, d_model=48, n_heads=4, context=32, qk_norm=False), tokenizer.vocab_size, 0)
    folder = tmp_path / "train"
    save_model(folder, shake(model))
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    trained = load(folder)
    copy = exported(trained, tmp_path / "hf")
    assert type(copy.tokenizer) is type(tokenizer)
    assert copy.tokenizer.encode(TEXT) == tokenizer.encode(TEXT)
    assert copy.generate("the", **GREEDY) == trained.generate("the", **GREEDY) != ""


def saved(model, path, special="<|endoftext|>"):
    """As transformers saves a model and a tokenizer of single bytes; gives its own greedy continuation of "the old"."""
    shake(model).save_pretrained(path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_engine(special), bos_token=special)
    fast.save_pretrained(path)
    ids = fast(special + "the old", return_tensors="pt")["input_ids"]
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0)
    return fast.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("make", "architecture"), [(tiny_gpt2, "GPT2LMHeadModel"), (tiny_llama, "LlamaForCausalLM")], ids=["gpt2", "llama"]
)
def test_what_transformers_made_says_what_it_says_there(make, architecture, tmp_path):
    theirs = saved(make(257), tmp_path)
    loaded = load(tmp_path)
    assert loaded.generate("the old", **GREEDY) == theirs != ""
    told = loaded.info()
    assert told["file"]["architecture"] == architecture
    assert (told["tokenizer"]["vocab_size"], told["context"]) == (257, 32)
    assert isinstance(loaded.chat([{"role": "user", "content": "Hello"}], max_tokens=3), str)


def test_half_precision_and_padding_are_told(tmp_path):
    saved(tiny_llama(320).to(torch.bfloat16), tmp_path)
    file = load(tmp_path).info()["file"]
    assert file["dtype"] == "BF16"
    assert file["left_out"] == "63 rows of padding beyond the vocabulary are left out"


def test_a_vocabulary_that_names_no_type_as_old_ones(tmp_path):
    saved(tiny_llama(257), tmp_path)
    wanted = load(tmp_path).generate("the old", **GREEDY)
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    del made["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    assert load(tmp_path).generate("the old", **GREEDY) == wanted


def test_a_shape_that_is_read_and_could_not_be_written(tmp_path):
    torch.manual_seed(1)
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "max_position_embeddings": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 12, "attention_bias": True}
    config = transformers.Qwen3Config(vocab_size=257, bos_token_id=0, eos_token_id=0, **shape, **heads)
    theirs = saved(transformers.Qwen3ForCausalLM(config), tmp_path)
    assert load(tmp_path).generate("the old", **GREEDY) == theirs != ""
    with pytest.raises(UserError, match="no stock Hugging Face architecture"):
        stock_architecture(load(tmp_path).model.config)
    assert load(tmp_path).info()["file"]["architecture"] == "Qwen3ForCausalLM"


def cut_embedding(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:200].clone()
    save_file(tensors, folder / "model.safetensors")


def configured(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


DAMAGES = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json", "tokenizer.save_pretrained"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors", "save_pretrained"),
    "cut": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 90), "truncated or damaged", "copy the folder"),
    "cut tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json is damaged", "save"),
    "no shape": (lambda f: (f / "config.json").write_text('{"model_type": "llama"}'), "has no vocab_size", "save"),
    "another shape": (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "'bert'", "llama"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read", "copy the folder"),
    "neither": (lambda f: (f / "config.json").write_text("{}"), "has no `format` and `family`", "model_type"),
    "fewer rows": (cut_embedding, "do not fit its config.json", "save"),
    "another vocabulary": (lambda f: configured(f, vocab_size=9), "do not belong together", "trained with"),
}  # fmt: skip


def test_what_is_missing_or_damaged_is_one_message(tmp_path):
    saved(tiny_llama(257), tmp_path / "whole")
    for name, (damage, told, mend) in DAMAGES.items():
        path = shutil.copytree(tmp_path / "whole", tmp_path / name)
        damage(path)
        with pytest.raises(CollectTrainError, match=told) as error:
            load(path)
        assert mend in error.value.mend, name
        assert "\n" not in error.value.what


def test_the_folder_around_an_export_names_it(make_trained, tmp_path):
    exported(load(make_trained()), tmp_path / "hf")
    with pytest.raises(UserError, match=r"has no config\.json") as error:
        load(tmp_path)
    assert error.value.mend == f"there is one inside: name {tmp_path / 'hf'}"
